//! ACLs and extended attributes of a target whose machine has no tools for them, so that rsync
//! reads and sets them: what it costs, and the bad days. (That it works as with the tools is
//! in fidelity.rs.)

use crate::support::couple::Couple;
use crate::support::replicas::Sort;
use crate::support::sandbox::{Outcome, PATIENCE, Replica};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Instant;

const BOTH: &str = "PRESERVE_ACL=yes\nPRESERVE_XATTR=yes";

/// Notes what each call is for, and does something before those of one kind.
const WRAPPER: &str = r#"#!/bin/sh
case " $* " in
    *' --append '*) kind=read ;;
    *' -O -u '*) kind=set ;;
    *' --version '*) kind=version ;;
    *) kind=contents ;;
esac
echo "$kind" >> "$CALLS"
test "$kind" != "$WHEN" || eval "$SPOIL"
exec rsync "$@"
"#;

struct Bare {
    couple: Couple,
}

impl Bare {
    fn new() -> Self {
        let couple = Couple::reached_by(Sort::BusyBox);
        fs::create_dir(couple.sandbox.path("tools")).unwrap();
        let wrapper = couple.sandbox.path("tools/rsync");
        fs::write(&wrapper, WRAPPER).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        Bare { couple }
    }

    fn sides(&self) -> [&Replica; 2] {
        [self.couple.side(0), self.couple.side(1)]
    }

    /// A run in which something happens right before rsync is called for something, and what
    /// rsync was called for. It leaves no stand-ins.
    fn run_when(&self, when: &str, spoil: &str, args: &[&str]) -> (Outcome, String) {
        let calls = self.couple.sandbox.path("calls");
        let _ = fs::remove_file(&calls);
        let run = self.spoilt(when, spoil, args);
        let calls = fs::read_to_string(calls).unwrap_or_default();
        let calls: Vec<&str> = calls.lines().filter(|kind| *kind != "version").collect();
        assert!(!self.has_stand_ins(), "{run}");
        (run, calls.join(" "))
    }

    fn spoilt(&self, when: &str, spoil: &str, args: &[&str]) -> Outcome {
        self.couple
            .run(BOTH)
            .env("RSYNC_EXECUTABLE", self.couple.sandbox.path("tools/rsync"))
            .env("CALLS", self.couple.sandbox.path("calls"))
            .env("WHEN", when)
            .env("SPOIL", spoil)
            .args(args)
            .run()
    }

    fn has_stand_ins(&self) -> bool {
        self.sides()[0].at(".osync_workdir/_attributes").exists()
    }

    /// A run that must succeed; tells what rsync was called for.
    fn fine(&self) -> String {
        let (run, calls) = self.run_when("never", "", &[]);
        assert_eq!(run.status, Some(0), "{run}\n{}", self.couple.sandbox.log());
        calls
    }
}

fn mark(side: &Replica, path: &str, value: &str) {
    for (tool, args) in [
        ("setfattr", ["-n", "user.mark", "-v", value, "--"]),
        ("setfacl", ["-n", "-b", "-m", "u:1234:r--,m::r--", "--"]),
    ] {
        assert!(Command::new(tool).args(args).arg(side.at(path)).status().unwrap().success());
    }
}

fn marked(side: &Replica, path: &str) -> String {
    let ask = |tool: &str, args: &[&str]| {
        let said = Command::new(tool).args(args).arg(side.at(path)).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    ask("getfattr", &["--only-values", "-n", "user.mark"])
        + if ask("getfacl", &["-cn"]).contains("1234") { " listed" } else { "" }
}

#[test]
fn rsync_is_asked_only_about_what_was_touched() {
    let bare = Bare::new();
    let [a, b] = bare.sides();
    a.make("f one x 1500000000\nf two/three y 1500000000");
    mark(a, "one", "1");
    assert_eq!(bare.fine(), "contents read", "a file at the top goes with a directory");
    // what was touched within the last seconds is not trusted yet
    let patience = Instant::now();
    while !bare.fine().is_empty() {
        assert!(patience.elapsed() < PATIENCE);
    }
    assert_eq!(bare.fine(), "", "nothing changed, nothing is asked");
    mark(b, "two/three", "3");
    let (run, calls) = bare.run_when("never", "", &["--verbose"]);
    assert_eq!((run.status, calls.as_str()), (Some(0), "read read"), "asked, and read to be set");
    assert!(run.stdout.contains("told the attributes of 1 entry"), "{run}");
    assert_eq!(marked(a, "two/three"), "3 listed");
    mark(a, "one", "2");
    assert!(bare.fine().ends_with("set read"), "set, and looked at again");
    assert_eq!(marked(b, "one"), "2 listed");
}

#[test]
fn a_dry_run_tells_the_plan_and_writes_nothing() {
    let bare = Bare::new();
    let [a, b] = bare.sides();
    a.make("f one x 1500000000");
    bare.fine();
    mark(b, "one", "1");
    let before = bare.couple.stamps();
    let work = a.at(".osync_workdir").metadata().unwrap().mtime_nsec();
    let (run, _) = bare.run_when("never", "", &["--dry", "--verbose"]);
    assert_eq!(run.status, Some(0), "{run}");
    let update = format!("UPDATE << {}", a.at("one").display());
    assert!(run.stdout.contains(&update), "the plan, and not only what was read: {run}");
    assert_eq!((bare.couple.stamps(), marked(a, "one")), (before, String::new()));
    assert_eq!(a.at(".osync_workdir").metadata().unwrap().mtime_nsec(), work);
}

#[test]
fn trees_that_agree_but_for_attributes_become_the_baseline_and_the_attributes_go_over() {
    let bare = Bare::new();
    let [a, b] = bare.sides();
    for side in [a, b] {
        side.make("f one x 1500000000");
    }
    mark(a, "one", "a");
    mark(b, "one", "b");
    let (run, _) = bare.run_when("never", "", &["--initialize"]);
    assert_eq!(run.status, Some(0), "{run}");
    bare.fine();
    assert_eq!([marked(a, "one"), marked(b, "one")], ["a listed", "a listed"]);
    mark(a, "one", "c");
    bare.fine();
    assert_eq!(marked(b, "one"), "c listed");
}

#[test]
fn a_file_that_grows_meanwhile_is_not_read_and_not_taken_for_changed() {
    let bare = Bare::new();
    let [a, b] = bare.sides();
    for name in ["grows", "shrinks", "goes", "stays"] {
        a.write(name, "text", 1_500_000_000);
        mark(a, name, "1");
    }
    bare.fine();
    for name in ["grows", "shrinks", "goes", "stays"] {
        mark(b, name, "2");
    }
    let root = b.root.display();
    let spoil = format!(
        "! test -e '{root}/goes' || {{ head -c 100000 /dev/zero >> '{root}/grows'; \
         : > '{root}/shrinks'; rm '{root}/goes'; }}"
    );
    let (run, _) = bare.run_when("read", &spoil, &[]);
    assert_eq!(run.status, Some(2), "{run}\n{}", bare.couple.sandbox.log());
    assert!(bare.couple.sandbox.log().contains("could not be read (of 3 entries in all)"));
    assert_eq!(marked(a, "stays"), "2 listed");
    for name in ["grows", "shrinks", "goes"] {
        assert_eq!(marked(a, name), "1 listed", "{name}: nothing is made of what is not known");
    }
    assert_eq!(b.at("grows").metadata().unwrap().len(), 100_004);
    bare.fine();
    for name in ["grows", "shrinks"] {
        assert_eq!(marked(a, name), "2 listed", "{name}");
    }
    assert!(!a.has("goes") && a.at("grows").metadata().unwrap().len() == 100_004);
}

#[test]
fn what_is_edited_right_before_attributes_come_is_not_lost() {
    let bare = Bare::new();
    let [a, b] = bare.sides();
    // newer, and older with another size: the one is left alone, the other kept
    for (name, stamp) in [("newer", ""), ("older", "touch -d @1000000000")] {
        a.write(name, "text", 1_500_000_000);
        bare.fine();
        mark(a, name, "1");
        let file = b.at(name);
        let file = file.display();
        let stamp = if stamp.is_empty() { ":".to_owned() } else { format!("{stamp} '{file}'") };
        let spoil = format!("printf 'edited-there' > '{file}'; {stamp}");
        let (run, calls) = bare.run_when("set", &spoil, &[]);
        assert!(calls.contains("set"), "{run}");
        let there = fs::read(b.at(name)).unwrap();
        assert!(there == b"edited-there" || b.backup().contains("edited-there"), "{name}: {run}");
        bare.fine();
        bare.fine();
        assert_eq!(a.read(name), b.read(name), "{name}");
        assert_eq!(marked(a, name), marked(b, name), "{name}");
    }
    assert_eq!(b.read("newer").unwrap(), b"edited-there");
}

#[test]
fn where_rsync_cannot_tell_either_contents_go_over_with_one_warning() {
    let bare = Bare::new();
    let [a, b] = bare.sides();
    a.write("f", "text", 1_500_000_000);
    mark(a, "f", "1");
    b.write("g", "back", 1_500_000_000);
    for attempt in 0..2 {
        let (run, _) = bare.run_when("read", "echo 'rsync: no ACLs here' >&2; exit 4", &[]);
        assert_eq!(run.status, Some(2), "{run}");
        let warnings = run.stderr.lines().filter(|line| line.contains("PRESERVE_ACL")).count();
        assert_eq!(warnings, 1, "{run}");
        assert!(run.stderr.contains("no ACLs here"), "{run}");
        assert_eq!(marked(b, "f"), "1 listed", "{attempt}: rsync carries them with contents");
        assert_eq!(a.read("g").unwrap(), b"back");
    }
    // a change of attributes alone waits until they can be read
    mark(b, "f", "2");
    bare.run_when("read", "exit 4", &[]);
    assert_eq!(marked(a, "f"), "1 listed");
    bare.fine();
    assert_eq!(marked(a, "f"), "2 listed");
}

#[test]
fn killed_while_attributes_are_read_or_set_it_goes_on_the_next_time() {
    for when in ["read", "set", "contents"] {
        let bare = Bare::new();
        let [a, b] = bare.sides();
        for name in ["down", "up", "against"] {
            a.write(name, "text", 1_500_000_000);
        }
        bare.fine();
        mark(a, "down", "1");
        mark(b, "up", "2");
        mark(a, "against", "3");
        b.write("against", "newer", 1_600_000_000);
        let run = bare.spoilt(when, "kill -9 $PPID; exit 1", &[]);
        assert_eq!(run.status, None, "{when}: {run}");
        bare.fine();
        bare.fine();
        for (name, expected) in [("down", "1 listed"), ("up", "2 listed"), ("against", "3 listed")]
        {
            let both = [marked(a, name), marked(b, name)];
            assert_eq!(both, [expected, expected], "{when}: {name}");
            assert_eq!(a.read(name), b.read(name), "{when}: {name}");
        }
        assert_eq!(a.read("against").unwrap(), b"newer", "{when}");
        assert!(!bare.has_stand_ins(), "{when}");
    }
}
