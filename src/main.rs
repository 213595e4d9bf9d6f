//! argv to exit status, nothing else.

fn main() -> std::process::ExitCode {
    osync::cli::main(std::env::args_os(), &osync::config::Environment::of_process())
}
