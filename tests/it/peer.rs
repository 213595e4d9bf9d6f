//! Runs with an osync on the other machine (spec 5, "A peer, where there is one").

use crate::support::osync;
use crate::support::sandbox::{Outcome, Run, Sandbox};
use crate::support::sshd::{Proxy, Sshd};
use osync::testing::replica::protocol::{Piece, Ready, Response, VERSION, Whole, encode};
use osync::testing::replica::{Agent, Locked, Prepared, TakenLock, Unread};
use osync::testing::tree::{Entry, Kind, Stamp, Standing};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const BY_OSYNC: &str = "the osync on that machine does the work there";

/// Two replicas, the target behind a server and a line that counts.
struct Far {
    sandbox: Sandbox,
    server: Sshd,
    line: Proxy,
}

impl Far {
    fn new() -> Self {
        let (sandbox, server) = (Sandbox::new(), Sshd::start(""));
        let line = Proxy::start(server.port, Duration::ZERO);
        server.trust(line.port);
        Far { sandbox, server, line }
    }

    fn run(&self, osync: &str, args: &[&str]) -> Outcome {
        self.command(osync).args(args).run()
    }

    fn command(&self, osync: &str) -> Run {
        self.sandbox
            .osync()
            .arg(format!("--initiator={}", self.sandbox.a.root.display()))
            .arg(format!("--target={}", self.server.uri_by(self.line.port, &self.sandbox.b.root)))
            .arg(format!("--rsakey={}", self.server.key().display()))
            .args(["--verbose", "--summary"])
            .env("SSH_OPTIONAL_ARGS", self.server.options().join(" "))
            .env("SSH_CONTROLMASTER", "no")
            .env("SSH_COMPRESSION", "no")
            .env("REMOTE_OSYNC", osync)
    }

    fn fine(&self, osync: &str) -> Outcome {
        let run = self.run(osync, &[]);
        assert_eq!(run.status, Some(0), "{run}");
        run
    }

    fn in_step(&self) {
        assert_eq!(self.sandbox.a.details(), self.sandbox.b.details());
    }

    /// A program over there that says what it likes when it is asked for its version.
    fn pretender(&self, text: &str) -> PathBuf {
        let path = self.sandbox.path("pretender");
        fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

#[test]
fn the_osync_over_there_does_the_work_where_it_is_wanted() {
    let far = Far::new();
    far.sandbox.a.make("f one 1\nf dir/two 2\nd empty\nl link dir/two");
    far.sandbox.b.make("f three 3");
    let run = far.fine(osync());
    assert!(run.stdout.contains(BY_OSYNC), "{run}");
    far.in_step();
    // the shell goes on where the osync has left off, and the other way round
    far.sandbox.b.write("dir/two", "more", 1_700_000_000);
    fs::rename(far.sandbox.a.root.join("one"), far.sandbox.a.root.join("uno")).unwrap();
    fs::remove_file(far.sandbox.a.root.join("three")).unwrap();
    let run = far.fine("no");
    assert!(!run.stdout.contains(BY_OSYNC), "{run}");
    far.in_step();
    far.sandbox.b.write("uno", "again", 1_700_000_100);
    fs::remove_file(far.sandbox.b.root.join("link")).unwrap();
    far.fine(osync());
    far.in_step();
    for osync in [osync(), "no"] {
        let run = far.fine(osync);
        assert!(run.stdout.contains("Target has 0 updates."), "{run}");
    }
    let gone = far.fine("/nowhere/osync");
    assert!(!gone.stdout.contains(BY_OSYNC), "{gone}");
}

#[test]
fn an_osync_that_speaks_another_language_is_not_spoken_to() {
    let far = Far::new();
    far.sandbox.a.make("f one 1");
    for (says, noticed) in [
        ("echo 77", Some("speaks version 77 of the protocol")),
        ("echo 'Cannot load configuration file'; exit 1", None),
        ("echo '1; touch /tmp/never'", None),
        ("cat; yes | head -c 100000", None),
        ("kill -9 $$", None),
    ] {
        let path = far.pretender(says);
        let run = far.fine(path.to_str().unwrap());
        assert!(!run.stdout.contains(BY_OSYNC), "{says}: {run}");
        if let Some(noticed) = noticed {
            assert!(run.stdout.contains(noticed), "{says}: {run}");
        }
        far.in_step();
    }
}

#[test]
fn a_run_with_nothing_to_do_sends_little_however_much_there_is() {
    let far = Far::new();
    for number in 0..3000 {
        let path = format!("d{}/file with a name {number}", number / 100);
        let path = far.sandbox.a.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    far.fine(osync());
    far.in_step();
    // the first one after the copy, too
    let before = far.line.bytes();
    far.fine(osync());
    let bytes = far.line.bytes() - before;
    assert!(bytes < 20_000, "{bytes}");
    // a change tells of itself and its neighbours only
    far.sandbox.b.write("d7/new", "x", 1_700_000_000);
    let before = far.line.bytes();
    let run = far.fine(osync());
    assert!(run.stdout.contains("Initiator has 1 updates."), "{run}");
    let bytes = far.line.bytes() - before;
    assert!(bytes < 80_000, "{bytes}");
    far.in_step();
}

#[test]
fn a_listing_that_was_damaged_here_or_there_is_asked_for_again() {
    let far = Far::new();
    far.sandbox.a.make("f one 1\nf two 2");
    far.fine(osync());
    far.fine(osync());
    let state = far.sandbox.a.root.join(".osync_workdir/state");
    let here = find(&state, |name| name.ends_with(".peer"));
    let there =
        find(&far.sandbox.b.root.join(".osync_workdir"), |name| name.starts_with("listing."));
    for file in [here, there] {
        let good = fs::read(&file).unwrap();
        for at in [0, 20, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            fs::write(&file, &bad).unwrap();
            let run = far.fine(osync());
            assert!(run.stdout.contains("Target has 0 updates."), "{at} {run}");
        }
        fs::write(&file, "").unwrap();
        far.fine(osync());
        fs::remove_file(&file).unwrap();
        far.fine(osync());
        far.in_step();
    }
}

/// sudoers names `osync serve` and rsync, and no shell.
#[test]
fn a_sudo_that_allows_nothing_but_the_osync_over_there_serves() {
    let far = Far::new();
    far.sandbox.a.make("f one 1\nf two 2");
    let script = format!(
        "#!/bin/sh\nlist=\nwhile :; do case $1 in -n|-E) shift;; -l) list=yes; shift;; *) break;; esac; done\n\
         case $#:$1:$2 in 2:{}:serve | *:rsync:*) ;; *) echo 'sudo: a password is required' >&2; exit 1;; esac\n\
         [ -z \"$list\" ] || exit 0\nexec \"$@\"\n",
        osync()
    );
    let tools = far.sandbox.path("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("sudo"), script).unwrap();
    fs::set_permissions(tools.join("sudo"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.display());
    let server = Sshd::start(&format!("ForceCommand PATH={path} sh -c \"$SSH_ORIGINAL_COMMAND\""));
    let run = |osync: &str| {
        far.sandbox
            .osync()
            .arg(format!("--initiator={}", far.sandbox.a.root.display()))
            .arg(format!("--target={}", server.uri(&far.sandbox.b.root)))
            .arg("--verbose")
            .env("SSH_RSA_PRIVATE_KEY", server.key())
            .env("SSH_OPTIONAL_ARGS", server.options().join(" "))
            .env("SUDO_EXEC", "yes")
            .env("REMOTE_OSYNC", osync)
            .run()
    };
    let served = run(osync());
    assert_eq!(served.status, Some(0), "{served}");
    assert!(served.stdout.contains(BY_OSYNC), "{served}");
    far.in_step();
    let refused = run("no");
    assert_eq!(refused.status, Some(1), "{refused}");
    assert!(refused.stderr.contains("a password is required"), "{refused}");
}

/// Divides the minute without a sign of life, and the time between two signs.
const HASTE: (&str, &str) = ("OSYNC_FAULT_HASTE", "15");
/// A minute, divided.
const SILENCE: Duration = Duration::from_secs(4);

/// Stopped as by SIGSTOP over there, while ssh goes on answering.
#[test]
fn an_osync_over_there_that_hangs_is_given_up_long_before_the_hard_limit() {
    let far = Far::new();
    far.sandbox.a.make("f one 1");
    let stopped = far.sandbox.path("pid");
    let hangs = far.pretender(&format!(
        "[ \"$2\" = --protocol ] || {{ echo $$ >'{0}.new'; mv '{0}.new' '{0}'; kill -STOP $$; }}\nexec '{1}' \"$@\"",
        stopped.display(),
        osync()
    ));
    let began = std::time::Instant::now();
    let run = far.command(hangs.to_str().unwrap()).env(HASTE.0, HASTE.1).run();
    let took = began.elapsed();
    let pid: i32 = fs::read_to_string(stopped).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("127.0.0.1") && run.stderr.contains("no sign of life"), "{run}");
    assert!(took >= SILENCE, "{took:?} {run}");
    assert_eq!(far.sandbox.b.contents(), "");
    far.fine(osync());
    far.in_step();
}

/// Nor is one given up that works for longer than that on one request.
#[test]
fn long_work_over_there_is_no_silence() {
    let far = Far::new();
    far.sandbox.a.make("f one 1");
    far.fine(osync());
    let (name, divisor) = HASTE;
    let hasty = far.pretender(&format!("export {name}={divisor}\nexec '{}' \"$@\"", osync()));
    let hook = format!("sleep {}", SILENCE.as_secs() + 2);
    let run = far
        .command(hasty.to_str().unwrap())
        .env(name, divisor)
        .env("REMOTE_RUN_BEFORE_CMD", hook)
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains(BY_OSYNC), "{run}");
}

fn find(dir: &Path, is_it: impl Fn(&str) -> bool) -> PathBuf {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found = names.filter(|path| is_it(&path.file_name().unwrap().to_string_lossy()));
    found.next().unwrap_or_else(|| panic!("nothing of that name in {}", dir.display()))
}

/// The osync over there dies at a step of its own, or does so once its lock is taken.
#[test]
fn an_osync_over_there_that_is_killed_anywhere_loses_nothing() {
    if !cfg!(debug_assertions) {
        return println!("skipped: a release build has no fault points");
    }
    for step in [
        "lock appeared",
        "making a directory",
        "renaming",
        "setting aside",
        "an operation is done",
        "setting metadata",
        "small file written",
        "lock half removed",
    ] {
        let far = Far::new();
        far.sandbox.a.make("f moves 1\nf goes 2\nf mode 3\nf stays 4");
        far.fine(osync());
        let a = &far.sandbox.a;
        fs::create_dir(a.at("new")).unwrap();
        fs::rename(a.at("moves"), a.at("new/moved")).unwrap();
        fs::remove_file(a.at("goes")).unwrap();
        fs::set_permissions(a.at("mode"), fs::Permissions::from_mode(0o700)).unwrap();
        far.sandbox.b.write("there", "new", 1_600_000_000);
        let dies = far.pretender(&format!(
            "[ \"$2\" = --protocol ] || export OSYNC_FAULT='{step}:1'\nexec '{}' \"$@\"",
            osync()
        ));
        let run = far.run(dies.to_str().unwrap(), &[]);
        assert!(matches!(run.status, Some(0 | 1)), "{step} {run}");
        assert!(!run.stderr.contains("panicked"), "{step} {run}");
        assert!(run.status == Some(0) || run.stderr.contains("127.0.0.1"), "{step} {run}");
        far.fine(osync());
        far.in_step();
        assert_eq!(fs::read_to_string(far.sandbox.b.at("new/moved")).unwrap(), "1");
        assert!(!far.sandbox.b.at(".osync_workdir/lock").exists());
    }
}

/// Frames that a server of ours would never send, in the place of the osync over there.
#[test]
fn an_osync_over_there_that_lies_changes_nothing_and_takes_no_memory() {
    let far = Far::new();
    far.sandbox.a.make("f one 1\nf two 2\nf three 3");
    far.fine(osync());
    let before = far.sandbox.a.details();
    let ready = Response::Prepared(Ready {
        root: far.sandbox.b.root.as_os_str().as_bytes().to_vec(),
        has_rsync: true,
        has_left_overs: false,
        prepared: Prepared {
            free_kib: 1 << 30,
            created: false,
            can_chown: false,
            now: Stamp::new(1, 0),
            file_system: None,
            mount_session: None,
            closed: None,
            agent: Agent::Here,
        },
    });
    let top = Response::Top(Standing::Present, Entry::new(Kind::Dir));
    let whole = |entries| Response::Scanned(Whole { entries, name: [7; 32] }, Unread::default());
    let begin =
        [(1, ready), (2, Response::Locked(TakenLock { how: Locked::Free, at: Stamp::UNKNOWN }))];
    let behind = |more: &[Response]| -> Vec<(u32, Response)> {
        begin.iter().cloned().chain(more.iter().map(|more| (3, more.clone()))).collect()
    };
    let progress = encode(3, &Response::Progress(1)).unwrap();
    let block = |bytes: &[u8]| Response::Pieces(vec![Piece::New(bytes.to_vec())]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing but a length", vec![0xff; 1 << 20], ""),
        ("zeros without end", vec![0; 1 << 16], "cat /dev/zero"),
        ("noise", (0..1 << 16).map(|n: u32| ((n * 7919) >> 3) as u8).collect(), ""),
        ("an answer to no question", frames(&[(9, Response::Done)]), ""),
        ("another answer", frames(&[(1, Response::Done)]), ""),
        ("a tree that never ends", frames(&behind(std::slice::from_ref(&top))), "exit 0"),
        ("a tree with another check", frames(&behind(&[top.clone(), block(&[1]), whole(0)])), ""),
        ("a tree with fewer entries", frames(&behind(&[top.clone(), whole(3)])), ""),
        (
            "a tree of a listing that is not there",
            {
                let same = Response::Pieces(vec![Piece::Same { from: 5, count: u32::MAX }]);
                frames(&behind(&[top.clone(), same, whole(3)]))
            },
            "",
        ),
        ("a block that is none", frames(&behind(&[top, block(&[1, 0, 3]), whole(1)])), ""),
        ("words without end", frames(&behind(&[])), {
            fs::write(far.sandbox.path("word"), progress.repeat(1000)).unwrap();
            "while cat word 2>/dev/null; do :; done"
        }),
    ];
    for (what, said, then) in cases {
        fs::write(far.sandbox.path("said"), said).unwrap();
        let dir = far.sandbox.root().display().to_string();
        let liar = far.pretender(&format!(
            "[ \"$2\" != --protocol ] || {{ echo {VERSION}; exit; }}\ncd '{dir}'\ncat said\n{then}\ncat >/dev/null"
        ));
        // what goes on for ever is no shell's answer either
        let run = far.run(liar.to_str().unwrap(), &[]);
        assert_eq!(run.status, Some(1), "{what}: {run}");
        assert!(run.stderr.contains("127.0.0.1"), "{what}: {run}");
        assert!(!run.stderr.contains("panicked"), "{what}: {run}");
        assert_eq!(far.sandbox.a.details(), before, "{what}: {run}");
    }
    far.fine(osync());
    far.in_step();
}

fn frames(responses: &[(u32, Response)]) -> Vec<u8> {
    responses.iter().flat_map(|(number, said)| encode(*number, said).unwrap()).collect()
}

#[test]
fn a_line_that_is_cut_at_any_byte_leaves_all_as_it_was_or_as_it_is_to_be() {
    let far = Far::new();
    far.sandbox.a.make("f one 1\nf two 2");
    far.fine(osync());
    let before = far.line.bytes();
    far.fine(osync());
    let usual = far.line.bytes() - before;
    far.sandbox.a.write("one", "changed", 1_700_000_000);
    fs::remove_file(far.sandbox.b.at("two")).unwrap();
    for part in 1..12 {
        far.line.cut_after(usual * part / 8);
        let run = far.run(osync(), &[]);
        assert!(matches!(run.status, Some(0 | 1)), "{part} {run}");
        assert!(!run.stderr.contains("panicked"), "{part} {run}");
        far.line.mend();
        for side in [&far.sandbox.a, &far.sandbox.b] {
            assert!(["1", "changed"].contains(&&*fs::read_to_string(side.at("one")).unwrap()));
        }
    }
    far.fine(osync());
    far.in_step();
    assert!(!far.sandbox.a.at("two").exists());
    assert!(!far.sandbox.b.at(".osync_workdir/lock").exists());
}
