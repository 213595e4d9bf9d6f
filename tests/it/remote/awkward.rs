//! Names and places that a shell would trip over, and hosts that talk too much.

use crate::support::over_ssh::OverSsh;
use std::fs;

const NAMES: [&[u8]; 16] = [
    b" leading and trailing ",
    b"-rf",
    b"$(touch pwned)",
    b"`touch pwned`",
    b"quote ' and \" both",
    b"new\nline",
    b"\n",
    b"*?[a-z]{x,y}",
    b"# comment",
    b"; semicolon | pipe & amp",
    b"back\\slash \\n",
    b"invalid \xff\xfe bytes",
    b"tab\tand \x01 control",
    b" -> arrow",
    b"~",
    "umlaut \u{e4} \u{1f600}".as_bytes(),
];

#[test]
fn awkward_names_go_both_ways_are_edited_moved_and_deleted() {
    let task = OverSsh::new();
    let (a, b) = (&task.sandbox.a, &task.sandbox.b);
    let below = |dir: &[u8], name: &[u8]| [dir, b"/", name].concat();
    for (side, dir) in [(a, &b"from $HOME *"[..]), (b, b"from 'b'\nx")] {
        fs::create_dir(side.at(dir)).unwrap();
        for name in NAMES {
            side.write(below(dir, name), name, 1_500_000_000);
            fs::create_dir(side.at(below(dir, &[name, b" dir"].concat()))).unwrap();
            side.write(below(dir, &[name, b" dir/x"].concat()), "x", 1_500_000_000);
        }
    }
    task.sync();
    task.assert_in_step();
    for (number, name) in NAMES.iter().enumerate() {
        let (here, there) = (below(b"from $HOME *", name), below(b"from 'b'\nx", name));
        match number % 3 {
            0 => {
                b.write(&here, "edited over there", 1_600_000_000);
                a.write(&there, "edited here", 1_600_000_000);
            }
            1 => {
                b.remove(&here);
                a.remove(&there);
            }
            _ => {
                b.rename(&here, [&here[..], b" moved"].concat());
                a.rename(&there, [&there[..], b" moved"].concat());
            }
        }
    }
    let done = task.sync();
    task.assert_in_step();
    assert_eq!(b.read(below(b"from 'b'\nx", NAMES[0])).as_deref(), Some(&b"edited here"[..]));
    for side in [a, b] {
        assert!(!side.has(below(b"from $HOME *", NAMES[1])), "{done}");
        let moved = [&below(b"from 'b'\nx", NAMES[2])[..], b" moved"].concat();
        assert_eq!(side.read(&moved).as_deref(), Some(NAMES[2]), "{done}");
        assert!(!side.contents().lines().any(|line| line == "f pwned "), "a name was run");
    }
    let quiet = task.fine(task.run().arg("--summary"));
    assert!(quiet.stdout.contains("Target has 0 updates."), "{quiet}");
    assert!(quiet.stdout.contains("Initiator has 0 updates."), "{quiet}");
}

#[test]
fn replicas_may_lie_at_awkward_places() {
    for place in [
        "a space",
        "quote ' and \" both",
        "$HOME `touch pwned` $(touch pwned)",
        "*?[x]{y,z}",
        "; touch pwned #",
        "-rf --delete",
        "new\nline",
        "back\\slash",
        "percent %h %40",
        "colon: and @",
    ] {
        let task = OverSsh::new();
        let root = task.sandbox.b.root.join(place);
        fs::create_dir(&root).unwrap();
        fs::write(root.join("yours"), "there").unwrap();
        task.sandbox.a.make("f mine here\nf d/deep x");
        let uri = task.server.uri(&root);
        task.fine(task.to(&uri));
        assert_eq!(fs::read(root.join("d/deep")).unwrap(), b"x", "{place:?}");
        assert_eq!(task.sandbox.a.read("yours").as_deref(), Some(&b"there"[..]), "{place:?}");
        fs::write(root.join("mine"), "changed").unwrap();
        task.sandbox.a.remove("yours");
        task.fine(task.to(&uri).env("PARTIAL", "yes"));
        assert_eq!(task.sandbox.a.read("mine").as_deref(), Some(&b"changed"[..]), "{place:?}");
        assert!(!root.join("yours").exists(), "{place:?}");
        assert!(root.join(".osync_workdir/deleted/yours").exists(), "{place:?}");
        let around: Vec<_> = fs::read_dir(&task.sandbox.b.root).unwrap().collect();
        assert_eq!(around.len(), 1, "nothing is made beside {place:?}: {around:?}");
        assert!(!task.sandbox.path("pwned").exists());
    }
}

/// What is printed to standard error, before the login or after it, does no harm at all.
#[test]
fn banners_do_no_harm() {
    let banner = tempfile::NamedTempFile::new().unwrap();
    fs::write(banner.path(), "** Authorized use only **\nNo space left on device\n").unwrap();
    for (shared, lines) in [
        ("yes", format!("Banner {}", banner.path().display())),
        ("no", format!("Banner {}", banner.path().display())),
        ("yes", "ForceCommand echo welcome >&2; eval \"$SSH_ORIGINAL_COMMAND\"".to_owned()),
        ("no", "ForceCommand echo welcome >&2; eval \"$SSH_ORIGINAL_COMMAND\"".to_owned()),
    ] {
        let task = OverSsh::with(&lines);
        task.sandbox.a.make("f mine here");
        task.sandbox.b.make("f yours there");
        task.fine(task.run().env("SSH_CONTROLMASTER", shared));
        task.assert_in_step();
    }
}

/// What a start-up file prints to standard output reaches the control shell, which skips
/// it, and rsync, which cannot: that is told, and nothing is lost.
#[test]
fn chatter_on_standard_output_is_skipped_or_told() {
    let task = OverSsh::forced("echo hello; printf 'no line end'; eval \"$SSH_ORIGINAL_COMMAND\"");
    task.sync();
    task.sandbox.a.make("f mine here");
    let failed = task.run().run();
    assert_eq!(failed.status, Some(1), "{failed}");
    assert!(failed.stderr.contains("make it silent"), "{failed}");
    assert_eq!(task.sandbox.a.contents(), "f mine here\n");
    task.assert_unlocked();
    task.sandbox.a.remove("mine");
    task.sync();
}

#[test]
fn keys_and_temporary_directories_may_have_awkward_names() {
    let task = OverSsh::new();
    let sandbox = &task.sandbox;
    for (number, name) in ["sp ace", "it's", "a\"b", "${HOME}", "100%z \u{e4}"].iter().enumerate() {
        let dir = sandbox.path(name);
        fs::create_dir(&dir).unwrap();
        sandbox.a.write("f", format!("{number}"), 1_500_000_000 + i64::try_from(number).unwrap());
        for master in ["", "yes"] {
            task.fine(task.run().env("TMPDIR", &dir).env("SSH_CONTROLMASTER", master));
        }
        task.assert_in_step();
        let key = dir.join("id");
        fs::copy(task.server.key(), &key).unwrap();
        let run = task.run().env("SSH_RSA_PRIVATE_KEY", &key);
        if name.contains("${") {
            let run = run.run();
            assert_eq!(run.status, Some(1), "{run}");
            assert!(run.stderr.contains("SSH_RSA_PRIVATE_KEY: ssh would look for"), "{run}");
        } else {
            task.fine(run);
        }
    }
}
