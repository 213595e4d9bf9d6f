//! The manual page and completions, made from the definitions of the command line.

use super::{Cli, Shell};
use clap::CommandFactory;

/// In bash `--flag=value` comes as three words; what clap makes knows only two. And the old name
/// of the program is completed as the new one.
const BASH: &str = r#"
_osync_with_values() {
    local cur="$2" prev="$3"
    if [[ "$cur" == "=" ]]; then
        cur=""
        prev="${COMP_WORDS[COMP_CWORD-1]}"
    elif [[ "$prev" == "=" ]]; then
        prev="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    _osync "$1" "$cur" "$prev"
}
complete -F _osync_with_values -o bashdefault -o default osync osync.sh
"#;

/// What clap makes for fish knows no value that is being typed, and takes a configuration file for
/// a command: the options of a run would not be offered behind either.
const FISH_FINDS_THE_COMMAND: &str = "    or return
    if set -q argv[1]
";
const FISH_FINDS_IT_EVERYWHERE: &str = r"    or argparse -s (__fish_osync_global_optspecs) -- $cmd '' 2>/dev/null
    or return
    if set -q argv[1]
        and string match -qr '\.(conf|toml)$' -- $argv[1]
        return 0
    end
    if set -q argv[1]
";
/// Commands are offered in the first place alone.
const FISH: &str = r#"
function __fish_osync_needs_task
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_osync_global_optspecs) -- $cmd 2>/dev/null
    or return
    not set -q argv[1]
end
complete -c osync.sh -w osync
"#;

/// A completion script.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let made_for = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut out = Vec::new();
    let mut offered =
        offered(&Cli::command()).version(env!("CARGO_PKG_VERSION")).propagate_version(true);
    clap_complete::generate(made_for, &mut offered, "osync", &mut out);
    let script = String::from_utf8_lossy(&out).into_owned();
    match shell {
        Shell::Bash => script + BASH,
        Shell::Zsh => script
            .replace("#compdef osync\n", "#compdef osync osync.sh\n")
            .replace("compdef _osync osync\n", "compdef _osync osync osync.sh\n"),
        Shell::Fish => {
            script
                .replace(FISH_FINDS_THE_COMMAND, FISH_FINDS_IT_EVERYWHERE)
                .replace("\"__fish_osync_needs_command\" -a", "\"__fish_osync_needs_task\" -a")
                + FISH
        }
    }
}

/// A command with only what people type: the generators show what is hidden, too.
fn offered(command: &clap::Command) -> clap::Command {
    let flags = command.get_arguments().filter(|flag| !flag.is_hide_set()).cloned();
    let commands = command.get_subcommands().filter(|below| !below.is_hide_set()).map(offered);
    let flags = flags.map(|flag| match flag.get_long() {
        // any list of sides is taken; these are all there are to choose from
        Some("skip-deletion") => flag.value_parser(["initiator", "target", "initiator,target"]),
        _ => flag,
    });
    let about = command.get_about().cloned().unwrap_or_default();
    clap::Command::new(command.get_name().to_owned())
        .about(about)
        .disable_help_flag(command.is_disable_help_flag_set())
        .disable_version_flag(command.is_disable_version_flag_set())
        .args(flags)
        .subcommands(commands)
}

/// The manual page, in roff.
#[must_use]
pub fn manual() -> String {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    drop(clap_mangen::Man::new(Cli::command()).render(&mut out));
    String::from_utf8_lossy(&out).into_owned()
}
