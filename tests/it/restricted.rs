//! A key that `osync ssh-filter --restrict DIR` stands before: our own client works over
//! it, and nobody gets out of DIR by its protocol. (Its rsync is in security.rs.)

use crate::support::no_landlock::without_landlock;
use crate::support::sandbox::{Outcome, Replica, Run, Sandbox};
use crate::support::sshd::Sshd;
use osync::testing::replica::protocol::{
    Hook, Prepare, Request, Response, START, decode, encode, length,
};
use osync::testing::replica::{
    Access, AttributeChange, DigestKind, Keep, Keeping, LockRequest, Op,
};
use osync::testing::tree::{Entry, Kind, RelPath, Stamp};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const TOKEN: &str = "SomeAlphaNumericToken9";

/// A server whose key leads to the filter. The target is `data/b`, below `data`.
struct Place {
    sandbox: Sandbox,
    server: Sshd,
}

impl Place {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        fs::create_dir_all(sandbox.path("data/b")).unwrap();
        fs::create_dir_all(sandbox.path("outside")).unwrap();
        fs::write(sandbox.path("outside/secret"), "secret").unwrap();
        let server = Sshd::start(&format!(
            "ForceCommand HOME={} {} ssh-filter {TOKEN} --restrict={}",
            sandbox.path("home").display(),
            crate::support::osync(),
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
            .env("REMOTE_OSYNC", "auto")
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
    let place = Place::new();
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

/// Whether rsync keeps to its directory by itself.
fn rsync_keeps_inside() -> bool {
    let said = std::process::Command::new("rsync").arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.split("version ").nth(1).unwrap_or_default().trim_start_matches('v');
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    (parts.next(), parts.next()) >= (Some(3), Some(5))
}

/// The kernel is only the last of the walls; what the others hold off stays off.
#[test]
fn without_landlock_a_client_works_if_its_rsync_keeps_inside() {
    without_landlock(|| {
        let place = Place::new();
        place.sandbox.a.make("f dir/file one\nf other two");
        fs::write(place.target().join("there"), "three").unwrap();
        symlink("other", place.sandbox.a.at("link")).unwrap();
        let run = place.to(&place.target(), TOKEN).args(["--summary", "--verbose"]).run();
        if !rsync_keeps_inside() {
            assert_eq!(run.status, Some(1), "{run}");
            assert!(run.stderr.contains("its rsync is older than 3.5"), "{run}");
            return;
        }
        assert_eq!(run.status, Some(0), "{run} {}", place.log());
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
        assert!(run.stderr.contains("follows no links"), "{run}");
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
    assert!(run.stderr.contains("far: cannot open the directory"), "{run}");
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

const MARK: &str = "mark=0123456789abcdef\nmark=${mark}0123456789abcdef\necho a script\n";

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

    fn prepare(&self, path: &str, create: bool) -> Request {
        Request::Prepare(Prepare {
            path: self.sandbox.path(path).into_os_string().into_encoded_bytes(),
            sudo: false,
            access: Access::ReadWrite { create },
            rsync: b"rsync".to_vec(),
            instance_id: "../../stolen".to_owned(),
            run: "1.2".to_owned(),
        })
    }

    /// Says all of it at once; what comes back.
    fn says(&self, said: &[u8]) -> (Outcome, Vec<Response>) {
        let (out, err) = (self.sandbox.path("out"), self.sandbox.path("err"));
        let mut command = self
            .sandbox
            .osync()
            .dir(self.sandbox.path("home"))
            .args(["ssh-filter", TOKEN, "--restrict"])
            .arg(self.sandbox.path("data"))
            .env("SSH_ORIGINAL_COMMAND", format!("env _REMOTE_TOKEN={TOKEN} sh -s osync-peer-7"))
            .into_command();
        command.stdin(Stdio::piped());
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let mut child = command.spawn().unwrap();
        // it may refuse before it has read everything
        let mut input = child.stdin.take().unwrap();
        let _ = input.write_all(said);
        drop(input);
        let status = child.wait().unwrap();
        let (out, err) = (fs::read(&out).unwrap(), fs::read(&err).unwrap());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let run =
            Outcome { status: status.code(), signal: None, stdout: text(&out), stderr: text(&err) };
        (run, responses(&out))
    }

    /// Asks all of it behind a beginning like that of a client, and waits for the answers.
    fn asks(&self, requests: &[Request]) -> (Outcome, Vec<Response>) {
        let mut said = [MARK.as_bytes(), START].concat();
        for (number, request) in requests.iter().enumerate() {
            said.extend(encode(u32::try_from(number).unwrap() + 1, request).unwrap());
        }
        self.says(&said)
    }

    #[track_caller]
    fn assert_nothing_happened(&self, what: &str, said: &(Outcome, Vec<Response>)) {
        let outside = self.sandbox.path("outside");
        let names: Vec<_> =
            fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"], "{what}: something was made outside {said:?}");
        let secret = outside.join("secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret", "{what} {said:?}");
        let now = fs::metadata(&secret).unwrap();
        assert_eq!(now.mode() & 0o7777, 0o600, "{what}: its mode was changed {said:?}");
        let digest = Response::Digests(vec![Ok(SECRET)]);
        assert!(!said.1.contains(&digest), "{what}: its digest was told {said:?}");
        for place in ["home", "data", "data/b", "data/b/dir", ""] {
            assert!(!self.sandbox.path(place).join("stolen").exists(), "{what} {said:?}");
        }
    }
}

/// SHA-256 of `secret`.
const SECRET: [u8; 32] = [
    0x2b, 0xb8, 0x0d, 0x53, 0x7b, 0x1d, 0xa3, 0xe3, 0x8b, 0xd3, 0x03, 0x61, 0xaa, 0x85, 0x56, 0x86,
    0xbd, 0xe0, 0xea, 0xcd, 0x71, 0x62, 0xfe, 0xf6, 0xa2, 0x5f, 0xe9, 0x7b, 0xf5, 0x27, 0xa2, 0x5b,
];

/// The frames behind the greeting.
fn responses(out: &[u8]) -> Vec<Response> {
    let Some(at) = out.windows(9).position(|bytes| bytes == b" end 100\n") else {
        return Vec::new();
    };
    let (mut rest, mut found) = (&out[at + 9..], Vec::new());
    while let Some((head, behind)) = rest.split_first_chunk() {
        let (frame, behind) = behind.split_at(length(*head).unwrap());
        found.push(decode(frame).unwrap().1);
        rest = behind;
    }
    found
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

fn file() -> Entry {
    Entry::new(Kind::File)
}

#[test]
fn whoever_speaks_like_a_client_is_served() {
    let intruder = Intruder::new();
    let digest = Request::Digest(DigestKind::Sha256, vec![(rel("dir/file"), file())]);
    // the answers of requests that nobody waits for are not made
    let (run, said) = intruder.asks(&[intruder.prepare("data/b", false), digest]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.starts_with('\n') && run.stdout.contains(" 0 begin\npeer\n"), "{run}");
    assert!(said.iter().all(|said| !matches!(said, Response::Failed(..))), "{said:?}");
}

#[test]
fn a_client_of_a_restricted_key_does_not_leave_the_directory() {
    attack_by_messages();
}

#[test]
fn nor_does_it_without_landlock() {
    without_landlock(attack_by_messages);
}

fn attack_by_messages() {
    let intruder = Intruder::new();
    let apply = |op: Op| Request::Apply(vec![op]);
    let hook = Hook { command: "touch stolen".to_owned(), env: Vec::new(), limit: None };
    let set = AttributeChange {
        set: [(b"user.stolen".to_vec(), b"x".to_vec())].into(),
        ..AttributeChange::default()
    };
    // what the secret looks like is known
    let secret = intruder.sandbox.path("outside/secret").symlink_metadata().unwrap();
    let mut looks = file();
    (looks.size, looks.ino) = (secret.size(), secret.ino());
    looks.mtime = Stamp::new(secret.mtime(), u32::try_from(secret.mtime_nsec()).unwrap());
    let digest_of = |path| Request::Digest(DigestKind::Sha256, vec![(rel(path), looks.clone())]);
    let attacks: Vec<(&str, Request)> = vec![
        ("a command", Request::Hook(hook)),
        ("a digest through a link", digest_of("door/secret")),
        ("a digest of a link", digest_of("window")),
        (
            "a directory through a link",
            apply(Op::MakeDir { path: rel("door/stolen"), mode: 0o755 }),
        ),
        (
            "a removal through a link",
            apply(Op::Remove { path: rel("door/secret"), expect: file() }),
        ),
        ("a move through a link", {
            let (from, to) = (rel("dir/file"), rel("door/stolen"));
            apply(Op::Rename { from, to, expect: file() })
        }),
        ("a move from behind a link", {
            let (from, to) = (rel("door/secret"), rel("stolen"));
            apply(Op::Rename { from, to, expect: file() })
        }),
        ("a soft deletion from behind a link", {
            let (path, keep) = (rel("door/secret"), Keep::Deleted);
            apply(Op::SetAside { path, expect: file(), keeping: Keeping::dated(keep) })
        }),
        ("a mode through a link", {
            let (mode, uid, gid) = (Some(0o777), None, None);
            apply(Op::SetMetadata { path: rel("door/secret"), expect: file(), mode, uid, gid })
        }),
        ("a mode of a link", {
            let (mode, uid, gid) = (Some(0o777), None, None);
            apply(Op::SetMetadata { path: rel("window"), expect: file(), mode, uid, gid })
        }),
        ("attributes through a link", {
            apply(Op::SetAttributes { path: rel("door/secret"), expect: file(), change: set })
        }),
        ("a time through a link", {
            apply(Op::SetMtime { path: rel("door/secret"), mtime: Stamp::new(1, 1), expect: None })
        }),
        ("another replica", intruder.prepare("outside", false)),
        ("another replica by ..", intruder.prepare("data/b/../../outside", false)),
        ("another replica through a link", intruder.prepare("data/b/door", false)),
        ("a new replica outside", intruder.prepare("outside/stolen", true)),
        ("a new replica through a link", intruder.prepare("data/b/door/stolen", true)),
    ];
    for (what, attack) in attacks {
        let lock = Request::Lock(LockRequest {
            instance_id: "test".into(),
            force: false,
            stranger_resume: false,
        });
        let said = intruder.asks(&[intruder.prepare("data/b", false), lock, attack]);
        intruder.assert_nothing_happened(what, &said);
        assert!(intruder.sandbox.path("data/b/dir/file").exists(), "{what} {said:?}");
        let lock = intruder.sandbox.path("data/b/.osync_workdir/lock");
        assert!(!lock.exists(), "{what}: a lock is left {said:?}");
    }
    for (what, said) in [
        ("shell text", b"touch stolen\n".to_vec()),
        ("shell text behind a mark", format!("{MARK}touch stolen\n").into_bytes()),
        ("an endless frame", [MARK.as_bytes(), START, &[0xff; 4], &[7; 1 << 16]].concat()),
        ("a frame that is none", [MARK.as_bytes(), START, &[3, 0, 0, 0, 1, 99, 99]].concat()),
        ("a frame that was cut", [MARK.as_bytes(), START, &[100, 0, 0, 0, 1]].concat()),
        ("nothing", Vec::new()),
    ] {
        let said = intruder.says(&said);
        intruder.assert_nothing_happened(what, &said);
    }
}

#[test]
fn a_client_that_asks_for_the_bare_shell_or_speaks_another_protocol_is_told_so() {
    let place = Place::new();
    place.sandbox.a.make("f file one");
    let run = place.to(&place.target(), TOKEN).env("REMOTE_OSYNC", "no").run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("REMOTE_OSYNC=no"), "{run}");
    assert!(place.log().contains("no shell is opened"), "{}", place.log());
    assert_eq!(fs::read_dir(place.target()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_directory_that_holds_what_gives_a_login_is_refused() {
    let sandbox = Sandbox::new();
    let home = sandbox.path("home");
    fs::create_dir_all(home.join(".ssh/below")).unwrap();
    fs::create_dir_all(home.join("data")).unwrap();
    symlink(&home, sandbox.path("link")).unwrap();
    let own = Path::new(crate::support::osync()).parent().unwrap();
    for command in ["sh -s osync-peer-7", "rsync --server -t . ."] {
        for dir in [
            home.clone(),
            home.join(".ssh"),
            home.join(".ssh/below"),
            sandbox.path("link"),
            sandbox.root().to_owned(),
            "/".into(),
            own.to_owned(),
        ] {
            let run = sandbox
                .osync()
                .args(["ssh-filter", TOKEN, "--restrict"])
                .arg(&dir)
                .env("SSH_ORIGINAL_COMMAND", format!("env _REMOTE_TOKEN={TOKEN} {command}"))
                .run();
            assert_eq!(run.status, Some(1), "{} {run}", dir.display());
            assert!(run.stderr.contains("it holds"), "{} {run}", dir.display());
        }
    }
}
