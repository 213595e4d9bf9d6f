//! Calls of rsync's server, and ways out of the directory, as tables.

use super::*;
use proptest::prelude::*;

/// Lexical stand-in for the real resolver: /data is the directory, nothing is a link.
fn lexical(path: &Path) -> Result<PathBuf, String> {
    let text = path.to_str().ok_or("not text")?;
    let inside = text == "/data" || text.starts_with("/data/");
    if inside && !text.split('/').any(|part| part == "..") {
        Ok(PathBuf::from(text.trim_end_matches('/')))
    } else {
        Err(format!("{text} is outside"))
    }
}

fn args(text: &str) -> Vec<Vec<u8>> {
    text.split('|').map(|arg| arg.as_bytes().to_vec()).collect()
}

fn checked(text: &str, confinement: Confinement) -> Result<String, String> {
    check(&args(text), confinement, &lexical)
        .map(|argv| argv.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join("|"))
        .map_err(|refusal| refusal.to_string())
}

#[test]
fn calls_of_a_client_are_put_together_anew() {
    let cases = [
        // as rsync 3.5 sends them, without and with -s
        (
            "--server|-sblogDtpIRe.LsfxCIvu|--log-format=%i|--bwlimit=5|--backup-dir|/data/.osync_workdir/backup|--new-compress|--stats|-@-1|--partial-dir|/data/_p|--no-implied-dirs|.|/data/a b/",
            "--server|-blogDtpIRe.LsfxCIvu|--log-format=%i|--bwlimit=5|--new-compress|--stats|-@-1|--no-implied-dirs|--backup-dir=/data/.osync_workdir/backup|--partial-dir=/data/_p|.|/data/a b/",
        ),
        (
            "--server|--sender|-sblLHogDtpAXcIRze.LsfxCIvu|--suffix=_1|--skip-compress=gz/zip|--ignore-missing-args|--files-from=-|--from0|.|/data/[a] b/",
            "--server|--sender|-blLHogDtpAXcIRze.LsfxCIvu|--suffix=_1|--skip-compress=gz/zip|--ignore-missing-args|--files-from=-|--from0|.|/data/[a] b/",
        ),
        ("--server|--sender|-l|.|/data/x|/data/y", "--server|--sender|-l|.|/data/x|/data/y"),
        // the client's own directories, which a sender does nothing with
        (
            "--server|--sender|-blt|--backup-dir|/client/backup|--partial-dir=/client/p|.|/data/x",
            "--server|--sender|-blt|.|/data/x",
        ),
        // reading attributes by themselves
        (
            "--server|--sender|-ltDAX|--size-only|--append|.|/data",
            "--server|--sender|-ltDAX|--size-only|--append|.|/data",
        ),
        ("--server|-s|-lt|.|/data", "--server|-lt|.|/data"),
        ("--server|-B700|.|/data/.", "--server|-B700|.|/data/./"),
    ];
    for (sent, expected) in cases {
        assert_eq!(checked(sent, Confinement::Kernel).as_deref(), Ok(expected), "{sent}");
    }
}

#[test]
fn ways_out_are_refused() {
    let cases = [
        // paths
        "--server|-lt|.|/etc",
        "--server|-lt|.|/data/../etc",
        "--server|-lt|.|/database",
        "--server|-lt|.|/",
        "--server|-lt|.|..",
        "--server|--sender|-lt|.|/data/x|/etc/passwd",
        "--server|-lt|.|/data/x|/data/y",
        "--server|-lt|/data/x",
        "--server|-lt|.",
        "--server|-lt",
        "--server",
        "--sender|--server|.|/data",
        "",
        // options with a path, in both forms
        "--server|--backup-dir=/etc|.|/data",
        "--server|--backup-dir|/etc|.|/data",
        "--server|--backup-dir|../etc|.|/data",
        "--server|--backup-dir=x|.|/data",
        "--server|--backup-dir|.|/data",
        "--server|--partial-dir=/data/../etc|.|/data",
        "--server|--temp-dir=/tmp|.|/data",
        "--server|--temp-dir=/data/t|.|/data",
        "--server|-T/tmp|.|/data",
        "--server|--compare-dest=/etc|.|/data",
        "--server|--copy-dest=/etc|.|/data",
        "--server|--link-dest=/etc|.|/data",
        "--server|--link-dest|/etc|.|/data",
        "--server|--sender|--files-from=/etc/passwd|.|/data",
        "--server|--sender|--files-from|/etc/passwd|.|/data",
        "--server|--sender|--files-from|-|.|/data",
        "--server|--log-file=/data/log|.|/data",
        "--server|--log-file|/etc/cron.d/x|.|/data",
        "--server|--only-write-batch=/tmp/x|.|/data",
        "--server|--write-batch=/tmp/x|.|/data",
        "--server|--read-batch=/tmp/x|.|/data",
        "--server|--exclude-from=/etc/passwd|.|/data",
        "--server|--filter=merge /etc/passwd|.|/data",
        "--server|-f|merge /etc/passwd|.|/data",
        "--server|--suffix=/../../x|.|/data",
        // options that start something else, or touch devices
        "--server|--daemon|.|/data",
        "--server|--config=/tmp/x|.|/data",
        "--server|--rsh=sh|.|/data",
        "--server|-esh|.|/data",
        "--server|-e|sh|.|/data",
        "--server|-lte/tmp/x|.|/data",
        "--server|--rsync-path=/tmp/x|.|/data",
        "--server|--write-devices|.|/data",
        "--server|--copy-devices|.|/data",
        "--server|--dparam=x|.|/data",
        "--server|-M--x|.|/data",
        // links
        "--server|--copy-unsafe-links|.|/data",
        "--server|--no-munge-links|.|/data",
        // what osync never asks for
        "--server|--delete|.|/data",
        "--server|--remove-source-files|.|/data",
        "--server|--inplace|.|/data",
        "--server|--append|.|/data",
        "--server|-lt|--size-only|--append|.|/data",
        // abbreviations and odd forms
        "--server|--backup-di=/data/x|.|/data",
        "--server|--|.|/data",
        "--server|-|.|/data",
        "--server|--stats=1|.|/data",
        "--server|--sender=1|.|/data",
        "--server|--server|.|/data",
        "--server|-@|.|/data",
        "--server|-@x|.|/data",
        "--server|-lt|.|/data|--log-file=/etc/x",
        "--server|-lt|.|/data|-T/tmp",
    ];
    for sent in cases {
        let verdict = checked(sent, Confinement::Kernel);
        assert!(verdict.is_err(), "{sent} became {verdict:?}");
    }
}

#[test]
fn links_are_followed_only_where_the_kernel_keeps_them_inside() {
    for letter in ["L", "K", "k"] {
        let sent = format!("--server|--sender|-l{letter}t|.|/data/");
        assert!(checked(&sent, Confinement::Kernel).is_ok(), "{sent}");
        let refused = checked(&sent, Confinement::ArgumentsOnly).unwrap_err();
        assert!(refused.contains("follows links"), "{refused}");
    }
}

#[test]
fn arguments_over_standard_input_are_announced_by_a_letter_s_before_the_abilities() {
    let cases = [
        ("--server|-s", true),
        ("--server|--sender|-sblogDtpIRe.LsfxCIvu", true),
        ("--server|-logDtpre.LsfxCIvu|.|/data", false),
        ("--server|--stats|.|/data", false),
    ];
    for (sent, expected) in cases {
        assert_eq!(announces_more(&args(sent)), expected, "{sent}");
    }
}

proptest! {
    #[test]
    fn whatever_passes_names_only_paths_inside(
        pieces in prop::collection::vec(
            prop_oneof![
                Just("--server"), Just("--sender"), Just("-s"), Just("."), Just("/data/x"),
                Just("/etc"), Just("/data/../etc"), Just("--backup-dir"), Just("--files-from=-"),
                Just("--log-file=/etc/x"), Just("--backup-dir=/etc"), Just("--partial-dir=/data/p"),
                Just("-lt"), Just("-e.L"), Just("--"), Just("x"),
            ],
            0..9,
        )
    ) {
        let sent: Vec<Vec<u8>> = pieces.iter().map(|p| p.as_bytes().to_vec()).collect();
        if let Ok(argv) = check(&sent, Confinement::ArgumentsOnly, &lexical) {
            for arg in &argv {
                let arg = arg.to_str().unwrap();
                let path = arg.split_once('=').map_or(arg, |(_, value)| value);
                prop_assert!(!path.starts_with('/') || lexical(Path::new(path)).is_ok(), "{arg}");
            }
        }
    }

    #[test]
    fn no_arguments_make_it_panic(
        sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..8)
    ) {
        let _ = check(&sent, Confinement::ArgumentsOnly, &lexical);
    }
}
