//! argv to exit status, nothing else.

fn main() -> std::process::ExitCode {
    if let Some(status) = osync::ssh::askpass::main_if_asked() {
        return status;
    }
    osync::cli::main(std::env::args_os(), &osync::config::Environment::of_process())
}
