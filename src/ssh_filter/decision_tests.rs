//! Commands and attacks, as tables.

use super::*;
use proptest::prelude::*;

const TOKEN: &str = "SomeAlphaNumericToken9";

fn policy(sudo: Sudo, reach: Reach) -> Policy {
    Policy { token: TOKEN.as_bytes().to_vec(), sudo, reach }
}

fn open(command: &str) -> Decision {
    decide(command.as_bytes(), &policy(Sudo::Allowed, Reach::Everything))
}

fn restricted(command: &str) -> Decision {
    decide(command.as_bytes(), &policy(Sudo::Allowed, Reach::OneDirectory))
}

fn shell(command: &str) -> Decision {
    Decision::Shell { command: command.as_bytes().to_vec() }
}

#[test]
fn commands_of_osync_run_without_their_token() {
    let cases = [
        "env @env _DEBUG='no' RUN_DIR='/tmp' bash -s",
        "env @sudo -E env _DEBUG='no' bash -s",
        "env LC_ALL=C env @rsync --server -logDtpre.iLsfxCIvu . /data/",
        "env LC_ALL=C env @sudo -E rsync --server --sender -s",
        "env LC_ALL=C env @cat > \"./osync.x.1234\"",
        "env LC_ALL=C env @/usr/local/bin/hook.sh a; echo done",
        "env LC_ALL=C env @$HOME/hook.sh | tee log",
        "env LC_ALL=C env @\"/srv/my hook\"",
        "env @sh",
        "env @sudo -E sh",
    ];
    for command in cases {
        let sent = command.replace('@', &format!("_REMOTE_TOKEN={TOKEN} "));
        assert_eq!(open(&sent), shell(&command.replace('@', "")), "{command}");
    }
    let wide = format!("env  LC_ALL=C env  _REMOTE_TOKEN={TOKEN}   sh  -c 'a  b'");
    assert_eq!(open(&wide), shell("env LC_ALL=C env sh  -c 'a  b'"));
}

#[test]
fn everything_else_is_refused() {
    use Refusal::{NoCommand, NoToken, NothingAfterToken, WrongToken};
    let cases = [
        ("", NoCommand),
        (" ", NoToken),
        ("sh", NoToken),
        ("rsync --server . /", NoToken),
        ("internal-sftp", NoToken),
        ("/usr/lib/openssh/sftp-server", NoToken),
        ("env", NoToken),
        ("env sh", NoToken),
        ("env LC_ALL=C sh", NoToken),
        // wrong tokens
        ("env _REMOTE_TOKEN= sh", WrongToken),
        ("env _REMOTE_TOKEN=x sh", WrongToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken sh", WrongToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken99 sh", WrongToken),
        ("env _REMOTE_TOKEN=somealphanumerictoken9 sh", WrongToken),
        ("env _REMOTE_TOKEN=* sh", WrongToken),
        ("env _REMOTE_TOKEN=$(cat ~/.ssh/authorized_keys) sh", WrongToken),
        ("env _REMOTE_TOKEN='SomeAlphaNumericToken9' sh", WrongToken),
        ("env LC_ALL=C env _REMOTE_TOKEN=x sh", WrongToken),
        // the right token in the wrong place
        ("sh _REMOTE_TOKEN=SomeAlphaNumericToken9", NoToken),
        ("_REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        (" env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("\tenv _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env sh _REMOTE_TOKEN=SomeAlphaNumericToken9", NoToken),
        ("env A=b _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env LC_ALL=C _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env LC_ALL=de env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env -i _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env -S_REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("/usr/bin/env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("sudo -E env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env X_REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("sh -c id # env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        // chained before it
        ("id; env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("id && env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("id | env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("id\nenv _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("`id` env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env `id` _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env LC_ALL=C;id env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env\n_REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        ("env LC_ALL=$(id) env _REMOTE_TOKEN=SomeAlphaNumericToken9 sh", NoToken),
        // chained instead of a command
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9   ", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9; id", WrongToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9;id", WrongToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9\nid", WrongToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9\tid", WrongToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9&&id", WrongToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9`id` sh", WrongToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 ; id", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 && id", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 | id", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 & id", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 \nid", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 `id`", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 $(id)", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 (id)", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 > x id", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 # sh", NothingAfterToken),
        ("env _REMOTE_TOKEN=SomeAlphaNumericToken9 -i sh", NothingAfterToken),
    ];
    for (command, refusal) in cases {
        assert_eq!(open(command), Decision::Refuse(refusal.clone()), "{command:?}");
        assert!(matches!(restricted(command), Decision::Refuse(_)), "restricted: {command:?}");
    }
}

#[test]
fn sudo_is_refused_wherever_it_is_named() {
    let refused = [
        "sudo -E sh",
        "sudo sh",
        "/usr/bin/sudo sh",
        "env A=b sudo -E bash -s",
        "echo; sudo id",
        "sh -c 'sudo id'",
        "su - root",
        "doas sh",
    ];
    for command in refused {
        let sent = format!("env _REMOTE_TOKEN={TOKEN} {command}");
        let decision = decide(sent.as_bytes(), &policy(Sudo::Refused, Reach::Everything));
        assert_eq!(decision, Decision::Refuse(Refusal::Sudo), "{command}");
    }
    for command in ["sh", "rsync --server -s", "/srv/sudoku", "ls /home/sue"] {
        let sent = format!("env _REMOTE_TOKEN={TOKEN} {command}");
        let decision = decide(sent.as_bytes(), &policy(Sudo::Refused, Reach::Everything));
        assert_eq!(decision, shell(&format!("env {command}")), "{command}");
    }
}

#[test]
fn a_restricted_key_has_our_protocol_and_rsync_alone() {
    let behind =
        |command: &str| restricted(&format!("env LC_ALL=C env _REMOTE_TOKEN={TOKEN} {command}"));
    let rsync = |args: &[&str]| Decision::Rsync {
        args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
    };
    let cases = [
        ("sh -s osync-peer-7", Decision::Peer),
        ("sh", Decision::Refuse(Refusal::BareShell)),
        ("sh -s osync-peer-1", Decision::Refuse(Refusal::OtherVersion("1".to_owned()))),
        ("sh -s osync-peer-", Decision::Refuse(Refusal::OtherVersion(String::new()))),
        ("sh -s osync-peer-7 x", Decision::Refuse(Refusal::NotOurs)),
        ("sh -s x", Decision::Refuse(Refusal::NotOurs)),
        ("rsync --server -s", rsync(&["--server", "-s"])),
        ("/opt/bin/rsync --server -s", rsync(&["--server", "-s"])),
        (r"rsync --server -lt . /a\ b/", rsync(&["--server", "-lt", ".", "/a b/"])),
        ("rsync -e sh --server", Decision::Refuse(Refusal::NotOurs)),
        ("rsync --daemon --server", Decision::Refuse(Refusal::NotOurs)),
        ("rsync . x", Decision::Refuse(Refusal::NotOurs)),
        ("rsyncd --server", Decision::Refuse(Refusal::NotOurs)),
        ("sh -c id", Decision::Refuse(Refusal::NotOurs)),
        ("sh -s", Decision::Refuse(Refusal::NotOurs)),
        ("/tmp/sh", Decision::Refuse(Refusal::NotOurs)),
        ("bash -s", Decision::Refuse(Refusal::NotOurs)),
        ("cat > x", Decision::Refuse(Refusal::NotOurs)),
        ("env sh", Decision::Refuse(Refusal::NotOurs)),
        ("sudo rsync --server -s", Decision::Refuse(Refusal::Sudo)),
        ("sudo -E sh", Decision::Refuse(Refusal::Sudo)),
        ("rsync --server -s; sh", Decision::Refuse(Refusal::NotOurs)),
        ("rsync --server -s && sh", Decision::Refuse(Refusal::NotOurs)),
        ("rsync --server -s\nsh", Decision::Refuse(Refusal::NotOurs)),
        ("rsync --server . $(id)", Decision::Refuse(Refusal::NotOurs)),
        ("rsync --server . *", Decision::Refuse(Refusal::NotOurs)),
    ];
    for (command, expected) in cases {
        assert_eq!(behind(command), expected, "{command:?}");
    }
}

#[test]
fn an_unusable_token_allows_nothing() {
    for token in ["", " ", "a b", "a\n", "\t"] {
        let policy = Policy {
            token: token.as_bytes().to_vec(),
            sudo: Sudo::Allowed,
            reach: Reach::Everything,
        };
        for command in [format!("env _REMOTE_TOKEN={token} sh"), "env _REMOTE_TOKEN= sh".into()] {
            let decision = decide(command.as_bytes(), &policy);
            assert!(matches!(decision, Decision::Refuse(Refusal::Setup(_))), "{token:?}");
        }
    }
}

/// Bytes that matter to a shell, more often than chance would have them.
fn shellish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("env".to_owned()),
        Just(" ".to_owned()),
        Just("LC_ALL=C".to_owned()),
        Just("_REMOTE_TOKEN=".to_owned()),
        Just(TOKEN.to_owned()),
        Just("sh".to_owned()),
        Just("sudo".to_owned()),
        Just("rsync --server".to_owned()),
        "[;&|`$()<>\n\t\\\\'\" -]",
        "[a-zA-Z0-9_=./]{1,4}",
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_passes_begins_with_one_of_the_two_forms(command in shellish()) {
        if !matches!(open(&command), Decision::Refuse(_)) {
            let single: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
            let token = format!("_REMOTE_TOKEN={TOKEN}");
            let short = single.starts_with(&["env", &token]);
            let long = single.starts_with(&["env", "LC_ALL=C", "env", &token]);
            prop_assert!(short || long, "{:?} passed", command);
        }
    }

    #[test]
    fn what_passes_a_restricted_key_holds_no_shell_text(command in shellish()) {
        if let Decision::Rsync { args } = restricted(&command) {
            prop_assert_eq!(args.first().map(Vec::as_slice), Some(&b"--server"[..]));
        }
    }

    #[test]
    fn another_token_never_passes(token in "[A-Za-z0-9]{0,30}", command in "[ -~]{0,20}") {
        prop_assume!(token != TOKEN);
        let sent = format!("env _REMOTE_TOKEN={token} {command}");
        prop_assert_eq!(open(&sent), Decision::Refuse(Refusal::WrongToken));
    }

    #[test]
    fn no_bytes_make_it_panic(command in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = decide(&command, &policy(Sudo::Refused, Reach::Everything));
        let _ = decide(&command, &policy(Sudo::Refused, Reach::OneDirectory));
    }
}
