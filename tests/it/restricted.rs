//! A key that `osync ssh-filter --restrict DIR` stands before: our own client works over
//! it, and nobody gets out of DIR by its control shell. (Its rsync is in security.rs.)

use crate::support::no_landlock::without_landlock;
use crate::support::replicas::busybox_tools;
use crate::support::sandbox::{Outcome, PATIENCE, Replica, Run, Sandbox};
use crate::support::sshd::Sshd;
use osync::replica::ControlScripts;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const TOKEN: &str = "SomeAlphaNumericToken9";

/// A server whose key leads to the filter. The target is `data/b`, below `data`.
struct Place {
    sandbox: Sandbox,
    server: Sshd,
}

impl Place {
    fn new() -> Self {
        Place::with_tools_in(None)
    }

    /// With other programs on the server's path.
    fn with_tools_in(dir: Option<&Path>) -> Self {
        let sandbox = Sandbox::new();
        let path = dir.map(|dir| format!("PATH={}", dir.display())).unwrap_or_default();
        fs::create_dir_all(sandbox.path("data/b")).unwrap();
        fs::create_dir_all(sandbox.path("outside")).unwrap();
        fs::write(sandbox.path("outside/secret"), "secret").unwrap();
        let server = Sshd::start(&format!(
            "ForceCommand {path} HOME={} {} ssh-filter {TOKEN} --restrict={}",
            sandbox.path("home").display(),
            env!("CARGO_BIN_EXE_osync"),
            sandbox.path("data").display()
        ));
        fs::create_dir(sandbox.path("home/.ssh")).unwrap();
        Place { sandbox, server }
    }

    fn target(&self) -> PathBuf {
        self.sandbox.path("data/b")
    }

    fn to(&self, path: &Path, token: &str) -> Run {
        let mut initiator = std::ffi::OsString::from("--initiator=");
        initiator.push(&self.sandbox.a.root);
        self.sandbox
            .osync()
            .arg(initiator)
            .arg(format!("--target={}", self.server.uri(path)))
            .arg(format!("--rsakey={}", self.server.key().display()))
            .arg(format!("--remote-token={token}"))
            .env("SSH_OPTIONAL_ARGS", self.server.options().join(" "))
            .env("REMOTE_HOST_PING", "no")
    }

    fn sync(&self) -> Outcome {
        self.to(&self.target(), TOKEN).arg("--summary").run()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.sandbox.path(path)).unwrap_or_default()
    }

    fn log(&self) -> String {
        self.read("home/.ssh/ssh_filter.log")
    }
}

#[test]
fn a_client_works_over_a_restricted_key() {
    let place = Place::new();
    let odd = ["new\nline", "-rf", "$(id) `id`", " [a]*?", "\u{fc}\\n'\""];
    for name in odd {
        fs::write(place.sandbox.a.at(name), name).unwrap();
    }
    place.sandbox.a.make("f dir/sub/file one\nf dir/other two");
    symlink("dir/other", place.sandbox.a.at("link")).unwrap();
    let run = place.sync();
    assert_eq!(run.status, Some(0), "{run} {}", place.log());
    for name in odd {
        assert_eq!(fs::read(place.target().join(name)).unwrap(), name.as_bytes());
    }
    assert_eq!(place.read("data/b/dir/sub/file"), "one");
    // changes on both sides, moves, deletions, a conflict, other metadata, kinds
    fs::write(place.target().join("dir/sub/file"), "from the target").unwrap();
    fs::write(place.target().join("there\nand back"), "x").unwrap();
    fs::remove_file(place.target().join("-rf")).unwrap();
    place.sandbox.a.rename("dir/other", "moved");
    place.sandbox.a.remove("link");
    place.sandbox.a.make("f link/now-a-directory y");
    fs::set_permissions(place.sandbox.a.at("$(id) `id`"), PermissionsExt::from_mode(0o600))
        .unwrap();
    fs::write(place.target().join(" [a]*?"), "conflict there").unwrap();
    fs::write(place.sandbox.a.at(" [a]*?"), "conflict here, longer").unwrap();
    let run = place.sync();
    assert_eq!(run.status, Some(0), "{run} {}", place.log());
    assert_eq!(place.sandbox.a.read("dir/sub/file").as_deref(), Some(&b"from the target"[..]));
    assert_eq!(place.sandbox.a.read("there\nand back").as_deref(), Some(&b"x"[..]));
    assert!(!place.sandbox.a.has("-rf"));
    assert_eq!(place.read("data/b/moved"), "two");
    assert_eq!(place.read("data/b/link/now-a-directory"), "y");
    let mode = fs::metadata(place.target().join("$(id) `id`")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!place.target().join("dir/other").exists());
    assert!(!place.target().join(".osync_workdir/lock").exists(), "a lock is left");
    let run = place.sync();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!run.stdout.contains("moved"), "the third run had something to do: {run}");
    assert_eq!(place.log(), "");
    let left: Vec<_> = fs::read_dir(place.sandbox.path("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What the tools show of an entry: access lists and attributes of its user.
fn lists_and_attributes(replica: &Path, name: &str) -> String {
    let show = |tool: &str, args: &[&str]| {
        let mut command = std::process::Command::new(tool);
        let output = command.args(args).arg("--").arg(name).current_dir(replica).output().unwrap();
        assert!(output.status.success(), "{tool} {name}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    show("getfacl", &["-nc"]) + &show("getfattr", &["-d", "-e", "hex", "-h"])
}

#[test]
fn access_lists_and_attributes_go_over_a_restricted_key_both_ways() {
    carry_lists_and_attributes(&Place::new());
    // without getfacl and its like there, by rsync
    let tools = busybox_tools();
    carry_lists_and_attributes(&Place::with_tools_in(Some(tools.path())));
}

fn carry_lists_and_attributes(place: &Place) {
    let (a, b) = (&place.sandbox.a, &Replica { root: place.target() });
    let sync = || {
        let run = place
            .to(&place.target(), TOKEN)
            .env("PRESERVE_ACL", "yes")
            .env("PRESERVE_XATTR", "yes")
            .run();
        assert_eq!(run.status, Some(0), "{run} {}", place.log());
        for name in ["dir", "dir/file", "new\nline"] {
            let [one, other] = [a, b].map(|side| lists_and_attributes(&side.root, name));
            assert_eq!(one, other, "{name:?}");
        }
    };
    let tool = |side: &Replica, tool: &str, args: &[&str], name: &str| {
        let mut command = std::process::Command::new(tool);
        command.args(args).arg("--").arg(name).current_dir(&side.root);
        assert!(command.status().unwrap().success(), "{tool} {args:?} {name:?}");
    };
    let mark = |side: &Replica, who: &str, name: &str| {
        tool(side, "setfacl", &["-m", who], name);
        tool(side, "setfattr", &["-n", "user.mark", "-v", who], name);
    };
    // with new content
    a.make("f dir/file one");
    fs::write(a.at("new\nline"), "two").unwrap();
    mark(a, "u:1234:rw-", "dir/file");
    mark(a, "u:1234:rw-", "new\nline");
    tool(a, "setfacl", &["-m", "d:u:1234:r-x"], "dir");
    sync();
    assert!(lists_and_attributes(&b.root, "dir").contains("default:user:1234:r-x"));
    assert!(lists_and_attributes(&b.root, "new\nline").contains("user:1234:rw-"));
    // alone, from either side
    for (from, who) in [(a, "g:4321:--x"), (b, "u:77:r--")] {
        for name in ["dir", "dir/file", "new\nline"] {
            mark(from, who, name);
        }
        sync();
    }
    assert!(lists_and_attributes(&a.root, "dir/file").contains("user:77:r--"));
    // and away again
    tool(b, "setfacl", &["-b", "-k"], "dir");
    tool(b, "setfattr", &["-x", "user.mark"], "new\nline");
    sync();
    assert!(!lists_and_attributes(&a.root, "dir").contains("1234"));
    assert!(!lists_and_attributes(&a.root, "new\nline").contains("user.mark"));
    assert_eq!(fs::read(a.at("dir/file")).unwrap(), b"one");
    assert_eq!(place.log(), "");
}

/// The kernel is only the last of the walls; what the others hold off stays off.
#[test]
fn without_landlock_a_client_works_and_is_told() {
    without_landlock(|| {
        let place = Place::new();
        place.sandbox.a.make("f dir/file one\nf other two");
        fs::write(place.target().join("there"), "three").unwrap();
        symlink("other", place.sandbox.a.at("link")).unwrap();
        let run = place.to(&place.target(), TOKEN).args(["--summary", "--verbose"]).run();
        assert_eq!(run.status, Some(0), "{run} {}", place.log());
        assert!(run.stdout.contains("no Landlock") || run.stderr.contains("no Landlock"), "{run}");
        assert_eq!(place.read("data/b/dir/file"), "one");
        assert_eq!(place.sandbox.a.read("there").as_deref(), Some(&b"three"[..]));
        place.sandbox.a.remove("dir");
        fs::write(place.target().join("other"), "changed there").unwrap();
        let run = place.sync();
        assert_eq!(run.status, Some(0), "{run} {}", place.log());
        assert!(!place.target().join("dir").exists());
        assert_eq!(place.sandbox.a.read("other").as_deref(), Some(&b"changed there"[..]));
        // links out of the directory would be followed with nobody to stop it
        let run = place.to(&place.target(), TOKEN).env("COPY_SYMLINKS", "yes").run();
        assert_eq!(run.status, Some(1), "{run}");
        assert!(!place.target().join(".osync_workdir/lock").exists(), "a lock is left");
    });
}

#[test]
fn kept_links_to_directories_work_over_a_restricted_key_as_far_as_they_stay_inside() {
    let place = Place::new();
    fs::create_dir(place.sandbox.path("data/shared")).unwrap();
    fs::write(place.sandbox.path("data/shared/f"), "inside").unwrap();
    symlink("../shared", place.target().join("near")).unwrap();
    let sync = || place.to(&place.target(), TOKEN).env("KEEP_DIRLINKS", "yes").run();
    let run = sync();
    if run.stderr.contains("no Landlock") {
        assert_eq!(run.status, Some(1), "{run}");
        return;
    }
    assert_eq!(run.status, Some(0), "{run} {}", place.log());
    assert_eq!(place.sandbox.a.read("near/f").as_deref(), Some(&b"inside"[..]));
    assert_eq!(sync().status, Some(0));
    // one that leads out is seen, and what is behind it is not
    symlink(place.sandbox.path("outside"), place.target().join("far")).unwrap();
    let run = sync();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("far: cannot list the directory"), "{run}");
    assert!(!place.sandbox.a.has("far"), "{run}");
}

#[test]
fn replicas_elsewhere_and_other_tokens_are_refused() {
    let place = Place::new();
    place.sandbox.a.make("f file one");
    let outside = place.sandbox.path("outside");
    symlink(&outside, place.sandbox.path("data/door")).unwrap();
    for (path, token) in [
        (outside.clone(), TOKEN),
        (place.sandbox.path("data/../outside"), TOKEN),
        (place.sandbox.path("data/b/../../outside"), TOKEN),
        (place.sandbox.path("data/door"), TOKEN),
        (place.target(), "AnotherToken123456"),
    ] {
        let run = place.to(&path, token).run();
        assert_eq!(run.status, Some(1), "{} {run}", path.display());
        assert!(run.stderr.contains("ssh_filter: refused"), "{run}");
        assert!(!run.stderr.contains(TOKEN) && !run.stdout.contains(TOKEN), "{run}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(place.log().lines().count(), 5, "{}", place.log());
}

#[test]
fn a_hook_on_the_target_is_refused_in_words() {
    let place = Place::new();
    let run = place
        .to(&place.target(), TOKEN)
        .env("REMOTE_RUN_BEFORE_CMD", "touch stolen")
        .env("STOP_ON_CMD_ERROR", "yes")
        .run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("a restricted key runs no commands"), "{run}");
}

/// Somebody with key and token who talks to the filter by a client of their own.
struct Intruder {
    sandbox: Sandbox,
}

const MARK: &str = "0123456789abcdef0123456789abcdef";

impl Intruder {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        for dir in ["data/b/dir", "outside"] {
            fs::create_dir_all(sandbox.path(dir)).unwrap();
        }
        fs::write(sandbox.path("data/b/dir/file"), "inside").unwrap();
        fs::write(sandbox.path("outside/secret"), "secret").unwrap();
        fs::set_permissions(sandbox.path("outside/secret"), PermissionsExt::from_mode(0o600))
            .unwrap();
        symlink(sandbox.path("outside"), sandbox.path("data/b/door")).unwrap();
        symlink(sandbox.path("outside/secret"), sandbox.path("data/b/window")).unwrap();
        Intruder { sandbox }
    }

    fn opening(&self) -> Vec<u8> {
        let (left, right) = MARK.split_at(16);
        let first = ControlScripts::new().first;
        let path = self.sandbox.path("data/b");
        let octal: String =
            path.as_os_str().as_bytes().iter().map(|byte| format!("\\0{byte:03o}")).collect();
        format!(
            "mark={left}\nmark=${{mark}}{right}\n{first}greet '%{octal}' '%rsync' find write plain; serve\n"
        )
        .into_bytes()
    }

    /// Says all of it at once; what comes back.
    fn says(&self, said: &[u8]) -> Outcome {
        self.says_then(said, "", b"")
    }

    /// Says something, and something more once this is answered.
    fn says_then(&self, said: &[u8], answer: &str, more: &[u8]) -> Outcome {
        let (out, err) = (self.sandbox.path("out"), self.sandbox.path("err"));
        let mut command = self
            .sandbox
            .osync()
            .dir(self.sandbox.path("home"))
            .args(["ssh-filter", TOKEN, "--restrict"])
            .arg(self.sandbox.path("data"))
            .env("SSH_ORIGINAL_COMMAND", format!("env _REMOTE_TOKEN={TOKEN} sh"))
            .into_command();
        command.stdin(Stdio::piped());
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let mut child = command.spawn().unwrap();
        // it may refuse before it has read everything
        let mut input = child.stdin.take().unwrap();
        let _ = input.write_all(said);
        let begun = Instant::now();
        while !String::from_utf8_lossy(&fs::read(&out).unwrap()).contains(answer) {
            assert!(begun.elapsed() < PATIENCE, "no {answer}");
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = input.write_all(more);
        drop(input);
        let status = child.wait().unwrap();
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Outcome { status: status.code(), signal: None, stdout: read(&out), stderr: read(&err) }
    }

    fn asks(&self, requests: &str) -> Outcome {
        self.says(&[self.opening(), requests.as_bytes().to_vec()].concat())
    }

    #[track_caller]
    fn assert_nothing_happened(&self, what: &str, run: &Outcome) {
        let outside = self.sandbox.path("outside");
        let names: Vec<_> =
            fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"], "{what}: something was made outside {run}");
        let secret = outside.join("secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret", "{what} {run}");
        let now = fs::metadata(&secret).unwrap();
        assert_eq!(now.mode() & 0o7777, 0o600, "{what}: its mode was changed {run}");
        let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert!(!run.stdout.contains(digest), "{what}: its digest was told {run}");
        for place in ["home", "data", "data/b", "data/b/dir"] {
            assert!(!self.sandbox.path(place).join("stolen").exists(), "{what} {run}");
        }
    }
}

fn loads() -> String {
    let pieces = ControlScripts::new().loadable;
    pieces.iter().map(|piece| format!("{MARK} 1 load\n{piece}{MARK}\n")).collect()
}

#[test]
fn whoever_speaks_like_a_client_is_served() {
    let intruder = Intruder::new();
    let run = intruder.asks(&format!("{}{MARK} 2 digest\n>=dir\n=file\n.\n", loads()));
    assert_eq!(run.status, Some(0), "{run}");
    let answer = format!(
        "{MARK} 2 begin\n106b086224a4d945eae25f7be3805a931a873270326dd868b0e41f71ee9fff72\n\n{MARK} 2 end 0\n"
    );
    assert!(run.stdout.contains(&answer), "{run}");
}

#[test]
fn the_control_shell_of_a_restricted_key_does_not_leave_the_directory() {
    attack_by_the_control_shell();
}

#[test]
fn nor_does_it_without_landlock() {
    without_landlock(attack_by_the_control_shell);
}

fn attack_by_the_control_shell() {
    let intruder = Intruder::new();
    let outside = intruder.sandbox.path("outside").display().to_string();
    let door = intruder.sandbox.path("data/b/door").display().to_string();
    let ask = |text: &str| format!("{}{text}", loads()).replace("MARK", MARK);
    let apply = |text: &str| ask(&format!("MARK 2 apply\n{text}.\n"));
    let attacks = [
        ("shell text", "touch stolen\n".to_owned()),
        ("shell text behind a request", ask("MARK 2 unlock\ntouch stolen; id\n")),
        ("shell text in a request", ask("MARK 2 unlock;touch stolen\n")),
        ("a script of one's own", ask("MARK 2 load\ntouch stolen\nMARK\n")),
        ("the script that runs commands", {
            ask(&format!("MARK 2 load\n{}MARK\n", ControlScripts::new().hook))
        }),
        ("a command", ask("MARK 2 hook 0\n=touch stolen\n.\n")),
        ("a request that is a path", ask("MARK 2 x/../../../bin/sh -c id\n")),
        (
            "an operation that is a path",
            apply(">=\n*x/../../../../bin/touch stolen\n:\n@=\n=stolen\n"),
        ),
        ("a digest by ..", ask("MARK 2 digest\n>=\n=../../outside/secret\n.\n")),
        ("a digest of an absolute path", ask(&format!("MARK 2 digest\n>={outside}\n=secret\n.\n"))),
        ("a digest through a link", ask("MARK 2 digest\n>=door\n=secret\n=x\n.\n")),
        ("a digest of a link", ask("MARK 2 digest\n>=\n=window\n.\n")),
        ("a digest by an odd word", ask("MARK 2 digest odd sha256\n>=door\n=secret\n.\n")),
        ("a digest of a link by an odd word", ask("MARK 2 digest odd\n>=\n=window\n.\n")),
        ("a look by an odd word", ask("MARK 2 stat odd\n>=door\n=secret\n.\n")),
        ("a listing by an odd word", ask("MARK 2 below odd\n>=\n=door\n.\n")),
        ("a digest of a path in a name", ask("MARK 2 digest\n>=\n=door/secret\n.\n")),
        ("a removal through a link", apply(">=door\n*remove file\n:f\n@=\n=secret\n")),
        ("a removal of a path in a name", apply(">=\n*remove file\n:f\n@=\n=door/secret\n")),
        ("a directory through a link", apply(">=door\n*mkdir 0755\n:\n@=\n=stolen\n")),
        ("a directory in a path in a name", apply(">=\n*mkdir 0755\n:\n@=\n=door/stolen\n")),
        ("a rename through a link", apply(">=dir\n*rename\n:f\n@=door/stolen\n=file\n")),
        ("a rename by ..", apply(">=dir\n*rename\n:f\n@=../../outside/stolen\n=file\n")),
        ("a mode through a link", apply(">=\n*meta 0666 - -\n:l\n@=\n=window\n")),
        ("a mode through a linked directory", apply(">=door\n*meta 0666 - -\n:f\n@=\n=secret\n")),
        ("a mode of a path in a name", apply(">=\n*meta 0666 - -\n:f\n@=\n=door/secret\n")),
        ("a backup elsewhere", {
            apply(">=dir\n*aside ../../../outside keep .x\nK=\n:f\n@=file.x\n=file\n")
        }),
        ("a backup through a link", apply(">=dir\n*aside door keep .x\nK=\n:f\n@=file.x\n=file\n")),
        (
            "a backup below ..",
            apply(">=dir\n*aside backup keep .x\nK=../../../outside/stolen\n:f\n@=file.x\n=file\n"),
        ),
        (
            "a listing kept outside",
            ask(&format!("MARK 2 scan plain write\n={outside}/stolen\n=\n.\n")),
        ),
        (
            "a listing kept through a link",
            ask(&format!("MARK 2 scan plain write\n={door}/stolen\n=\n.\n")),
        ),
        ("a listing kept by ..", ask("MARK 2 scan plain write\n=../../outside/stolen\n=\n.\n")),
        ("names with bytes that shells drop", ask("\u{81}MARK 2 load\ntouch stolen\n\u{81}MARK\n")),
    ];
    for (name, said) in &attacks {
        let run = intruder.asks(said);
        intruder.assert_nothing_happened(name, &run);
        assert!(!run.stdout.contains("uid="), "{name} {run}");
    }
}

#[test]
fn a_lock_is_given_back_when_the_client_is_refused_or_goes_away() {
    let intruder = Intruder::new();
    let lock = format!("{}{MARK} 2 lock\n=mine\n=by\n.\n", loads());
    let lock = [intruder.opening(), lock.into_bytes()].concat();
    let work = intruder.sandbox.path("data/b/.osync_workdir");
    for (end, status) in [("", 0), ("no request\u{0}\n", 1)] {
        let run = intruder.says_then(&lock, "\ntaken\n", end.as_bytes());
        assert_eq!(run.status, Some(status), "{run}");
        assert!(run.stdout.contains("taken"), "{run}");
        assert!(work.is_dir() && !work.join("lock").exists(), "a lock is left {run}");
    }
}
