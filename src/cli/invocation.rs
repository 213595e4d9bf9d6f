//! The names that this program goes by (spec 1, "Program names").

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Names of programs of osync 1.x that the installer links to ours.
const NAMES: &[(&str, &str)] = &[
    ("osync-batch.sh", "batch"),
    ("osync-batch", "batch"),
    ("ssh_filter.sh", "ssh-filter"),
    ("upgrade-v1.0x-v1.3x.sh", "upgrade"),
    ("upgrade-v1.0x-v1.2x.sh", "upgrade"),
];

/// The command line with the command that the program's name stands for.
#[must_use]
pub fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().and_then(|program| Path::new(program).file_name());
    let command = NAMES.iter().find(|(known, _)| name == Some(OsStr::new(known)));
    if args.is_empty() {
        args.push("osync".into());
    }
    if let Some((_, command)) = command {
        args.insert(1, command.into());
    }
    args[0] = "osync".into();
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_program_names_stand_for_commands() {
        for (typed, meant) in [
            ("/usr/local/bin/osync.sh a.conf", "osync a.conf"),
            ("osync a.conf", "osync a.conf"),
            ("./osync-batch.sh --silent", "osync batch --silent"),
            ("osync-batch", "osync batch"),
            ("/usr/local/bin/ssh_filter.sh TOKEN", "osync ssh-filter TOKEN"),
            ("upgrade-v1.0x-v1.3x.sh f.conf", "osync upgrade f.conf"),
            ("upgrade-v1.0x-v1.2x.sh --master=a", "osync upgrade --master=a"),
            ("another-name --dry", "osync --dry"),
            ("", "osync"),
        ] {
            let typed: Vec<OsString> = typed.split_whitespace().map(OsString::from).collect();
            let meant: Vec<OsString> = meant.split_whitespace().map(OsString::from).collect();
            assert_eq!(with_command(typed), meant);
        }
    }
}
