//! Replicas of every sort, for tests that hold for all of them.
#![allow(dead_code)]

use super::sshd::{Sshd, user};
use super::trees::set_mode;
use osync::testing::config::{Location, Remote, RemoteOsync, SshLocation, Transport};
use osync::testing::process::Stop;
use osync::testing::replica::{LocalReplica, RemoteReplica, Replica, ShellOptions};
use osync::testing::report::{Event, Reporter};
use osync::testing::tree::Side;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How a replica is reached, and what its machine is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A directory of this machine.
    Local,
    /// Behind ssh, with this machine's own tools.
    Ssh,
    /// The same over our own transport.
    Libssh2,
    /// Behind ssh, where the shell and all tools but rsync are BusyBox's.
    BusyBox,
    /// Behind ssh, where find has no -printf and stat works as on the BSDs.
    Bsd,
    /// The same, with no program for digests but cksum.
    Posix,
    /// Behind ssh, as a user who is not root.
    Nobody,
    /// The same with the tools of BusyBox.
    BusyBoxNobody,
    /// Behind ssh, by the osync over there.
    Peer,
    /// The same over our own transport.
    PeerLibssh2,
    /// The same, as a user who is not root.
    PeerNobody,
    /// Behind ssh, where the tools are those of toybox as far as it has them.
    Toybox,
    /// Behind ssh, where the tools are those of such a package as far as it has them.
    Userland(&'static str),
    /// Behind ssh, with this machine's tools and another program as `sh`.
    Sh(&'static str),
    /// Behind ssh, where the account has another login shell.
    Login(&'static str),
    /// Behind ssh, in a chroot with a static BusyBox, without /proc and with an empty /dev.
    Chroot,
}

/// A server, and the tools it needs for as long as it runs.
type Shared = Rc<(Sshd, Option<tempfile::TempDir>)>;

/// A replica and what it needs to exist.
pub struct Reached {
    /// The replica, not yet prepared.
    pub replica: Box<dyn Replica>,
    /// The server it is behind, and the tools over there.
    server: Option<Shared>,
}

thread_local! {
    /// The last server, for the next replica of that sort in the same test.
    static SERVER: RefCell<Option<(Sort, Shared)>> =
        const { RefCell::new(None) };
}

impl Reached {
    /// The server it is behind.
    pub fn server(&self) -> Option<&Sshd> {
        self.server.as_ref().map(|shared| &shared.0)
    }
}

/// Says nothing to nobody.
pub struct Silent;

impl Reporter for Silent {
    fn tell(&self, _: Event<'_>) {}
}

impl Sort {
    /// A replica at `root`, as the target.
    pub fn reach(self, root: &Path) -> Reached {
        if self == Sort::Local {
            let replica = Box::new(LocalReplica::new(Side::Target, root));
            return Reached { replica, server: None };
        }
        let shared = SERVER.with_borrow_mut(|last| match last {
            Some((sort, server)) if *sort == self => Rc::clone(server),
            _ => {
                let server = Rc::new(self.serve());
                *last = Some((self, Rc::clone(&server)));
                server
            }
        });
        let server = &shared.0;
        let transport = if matches!(self, Sort::Libssh2 | Sort::PeerLibssh2) {
            Transport::Libssh2
        } else {
            Transport::OpenSsh
        };
        let settings = Remote { transport, osync: self.osync(), ..remote(server) };
        let replica = Box::new(by(&settings, server.port, root));
        Reached { replica, server: Some(shared) }
    }

    /// The program that this sort is about and that this machine lacks.
    pub fn lacks(self) -> Option<&'static str> {
        let needed = match self {
            Sort::Toybox => "toybox",
            Sort::Userland(name) => return userland(name).is_none().then_some(name),
            Sort::Sh(shell) | Sort::Login(shell) => shell,
            Sort::Chroot if !rustix::process::geteuid().is_root() => return Some("root"),
            _ => return None,
        };
        find(needed).is_none().then_some(needed)
    }

    /// Whether its `touch` may set whole seconds only, and takes those before 1970 as it likes.
    pub fn has_plain_touch(self) -> bool {
        matches!(self, Sort::BusyBox | Sort::Toybox | Sort::Chroot | Sort::BusyBoxNobody)
    }

    /// The osync that it is reached by.
    pub fn osync(self) -> RemoteOsync {
        match self {
            Sort::Peer | Sort::PeerLibssh2 | Sort::PeerNobody => {
                RemoteOsync::At(crate::support::osync().into())
            }
            _ => RemoteOsync::No,
        }
    }

    /// A server of this sort, and the tools it needs for as long as it runs.
    pub fn serve(self) -> (Sshd, Option<tempfile::TempDir>) {
        let (lines, tools) = self.login();
        (Sshd::start(&lines), tools)
    }

    /// The server's configuration, and the tools it points at.
    pub fn login(self) -> (String, Option<tempfile::TempDir>) {
        let with_tools = |dir: tempfile::TempDir, shell: &str| {
            let path = dir.path().display();
            let line = format!("ForceCommand PATH={path} {shell} -c \"$SSH_ORIGINAL_COMMAND\"");
            (line, Some(dir))
        };
        match self {
            Sort::Local | Sort::Ssh | Sort::Libssh2 | Sort::Peer | Sort::PeerLibssh2 => {
                (String::new(), None)
            }
            Sort::BusyBox => with_tools(busybox_tools(), "sh"),
            Sort::Bsd => with_tools(bsd_tools(true), "sh"),
            Sort::Posix => with_tools(bsd_tools(false), "sh"),
            Sort::Nobody | Sort::PeerNobody => {
                (format!("ForceCommand {} sh -c \"$SSH_ORIGINAL_COMMAND\"", as_nobody()), None)
            }
            Sort::Toybox => with_tools(toybox_tools(), "sh"),
            Sort::Userland(name) => {
                let dir = userland(name).unwrap_or_else(|| panic!("these tests need {name}"));
                let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
                with_tools(over_busybox(entries), "sh")
            }
            Sort::Sh(shell) => {
                let dir = tools_dir();
                link(dir.path(), "sh", &found(shell));
                let path = format!("{}:/usr/bin:/bin", dir.path().display());
                (format!("ForceCommand PATH={path} sh -c \"$SSH_ORIGINAL_COMMAND\""), Some(dir))
            }
            Sort::Login(shell) => {
                let shell = found(shell);
                let line = format!("ForceCommand {} -c \"$SSH_ORIGINAL_COMMAND\"", shell.display());
                (line, None)
            }
            Sort::Chroot => {
                let dir = chroot();
                let place = dir.path().display();
                let chroot = found("chroot");
                let line = format!(
                    "ForceCommand unshare -m sh -c 'mount --bind /tmp {place}/tmp && \
                     PATH=/bin exec {} {place} /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"'",
                    chroot.display()
                );
                (line, Some(dir))
            }
            Sort::BusyBoxNobody => {
                let tools = busybox_tools();
                set_mode(tools.path(), 0o755);
                with_tools(tools, &format!("{} sh", as_nobody()))
            }
        }
    }
}

/// The ordinary user that root becomes with [`as_nobody`].
pub const NOBODY: u32 = 65_534;

/// What makes root an ordinary user, and leaves others as they are.
fn as_nobody() -> String {
    if !rustix::process::geteuid().is_root() {
        return String::new();
    }
    let setpriv = found("setpriv");
    format!("{} --reuid {NOBODY} --regid {NOBODY} --clear-groups", setpriv.display())
}

/// The settings of the way to a server of ours.
pub fn remote(server: &Sshd) -> Remote {
    Remote {
        key: Some(server.key()),
        password_file: None,
        krb5: false,
        token: None,
        sudo: false,
        compression: true,
        optional_args: server.options(),
        ignore_known_hosts: false,
        control_master: Some(false),
        transport: Transport::OpenSsh,
        osync: RemoteOsync::No,
        ping: false,
        third_party_hosts: Vec::new(),
    }
}

/// A place behind a server of ours.
pub fn place(port: u16, root: &Path) -> SshLocation {
    let uri = format!("ssh://{}@127.0.0.1:{port}/{}", user(), root.display());
    match Location::parse(uri.as_bytes()).unwrap() {
        Location::Ssh(place) => SshLocation { path: root.to_path_buf(), ..place },
        Location::Local(_) => unreachable!("it is an ssh URI"),
    }
}

/// What a remote replica needs beside the way.
pub fn options() -> ShellOptions {
    ShellOptions {
        instance_id: "test".into(),
        state_dir: None,
        rsync_name: "rsync".into(),
        rsync_dir: None,
    }
}

/// A replica behind a server, through a port.
pub fn behind(server: &Sshd, port: u16, root: &Path) -> RemoteReplica {
    by(&remote(server), port, root)
}

/// A replica by these settings.
pub fn by(remote: &Remote, port: u16, root: &Path) -> RemoteReplica {
    let place = place(port, root);
    RemoteReplica::new(Side::Target, &place, remote, options(), Stop::new(), &Silent)
        .with_own_binary(Path::new(crate::support::osync()))
}

fn tools_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("osync-tools-").tempdir().unwrap()
}

fn link(dir: &Path, name: &str, to: &Path) {
    std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
}

fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .chain(["/usr/bin".into(), "/bin".into(), "/usr/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.exists())
}

fn found(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("these tests need {name}"))
}

/// Where the programs of another userland lie, which stand beside those of this machine.
fn userland(name: &str) -> Option<PathBuf> {
    let tops = ["/usr/lib", "/usr/libexec", "/usr/local/lib", "/opt"].map(Path::new);
    let places = tops.into_iter().flat_map(|top| [top.join(name).join("bin"), top.join(name)]);
    places.into_iter().find(|dir| dir.join("find").exists())
}

/// What toybox has.
fn toybox_tools() -> tempfile::TempDir {
    let toybox = found("toybox");
    let list = std::process::Command::new(&toybox).output().unwrap();
    let links = tools_dir();
    for name in String::from_utf8(list.stdout).unwrap().split_whitespace() {
        link(links.path(), name, &toybox);
    }
    let entries = std::fs::read_dir(links.path()).unwrap();
    over_busybox(entries.map(|entry| entry.unwrap().path()))
}

/// These programs; what is not among them from BusyBox, and this machine's own `sh`.
fn over_busybox(programs: impl Iterator<Item = PathBuf>) -> tempfile::TempDir {
    let dir = busybox_tools();
    for program in programs.chain([found("sh")]) {
        let place = dir.path().join(program.file_name().unwrap());
        let _ = std::fs::remove_file(&place);
        std::os::unix::fs::symlink(program.canonicalize().unwrap(), place).unwrap();
    }
    dir
}

/// A root directory with nothing but BusyBox; its rsync is never called.
fn chroot() -> tempfile::TempDir {
    let dir = tools_dir();
    for name in ["bin", "dev", "tmp"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let bin = dir.path().join("bin");
    let busybox = found("busybox");
    std::fs::copy(&busybox, bin.join("busybox")).unwrap();
    let list = std::process::Command::new(&busybox).arg("--list").output().unwrap();
    for name in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("busybox", bin.join("rsync")).unwrap();
    dir
}

/// Every applet of BusyBox, and rsync.
pub fn busybox_tools() -> tempfile::TempDir {
    let dir = tools_dir();
    let busybox = found("busybox");
    let list = std::process::Command::new(&busybox).arg("--list").output().unwrap();
    for name in String::from_utf8(list.stdout).unwrap().lines() {
        link(dir.path(), name, &busybox);
    }
    link(dir.path(), "rsync", &found("rsync"));
    dir
}

/// dash, a find without -printf, a stat with the BSDs' -f instead of -c, no getent, no
/// comm, no setsid, no sha256sum; with or without another program for SHA-256.
fn bsd_tools(has_sha256: bool) -> tempfile::TempDir {
    let dir = tools_dir();
    for name in [
        "dash", "sh", "env", "cat", "ls", "mv", "rm", "rmdir", "mkdir", "ln", "cp", "dd", "tr",
        "df", "tail", "head", "id", "date", "touch", "chmod", "chown", "sort", "cksum", "diff",
        "sed", "sleep", "ps", "readlink", "rsync", "true", "false", "kill", "shasum", "openssl",
        "wc", "printf", "pwd",
    ] {
        let is_sum = matches!(name, "shasum" | "openssl");
        if !is_sum || has_sha256 && Path::new("/usr/bin").join(name).exists() {
            link(dir.path(), name, &found(name));
        }
    }
    script(
        dir.path(),
        "find",
        "for arg do case $arg in -printf|-fprintf|-readable|-executable|-lname|-P) \
         echo \"find: $arg: unknown primary\" >&2; exit 1;; esac; done\nexec /usr/bin/find \"$@\"\n",
    );
    script(dir.path(), "stat", BSD_STAT);
    dir
}

/// Makes a program for `sh`.
pub fn script(dir: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The formats that our scripts use, put into the words of GNU stat.
const BSD_STAT: &str = r#"
follow=
if [ "$1" = -L ]; then follow=-L && shift; fi
[ "$1" = -f ] || { echo "stat: illegal option" >&2; exit 1; }
format=$2
shift 2
name=
case $format in */%N) format=${format%/%N} name=yes;; esac
case $format in
  '%Lp') words='%a' ;;
  %c) words='%Z' ;;
  %z) words='%s' ;;
  '%Lp %u:%g') words='%a %u:%g' ;;
  '%p %u %g %d %i %l %z %m')
    # its %p is octal
    exec /usr/bin/stat -c '40755 %u %g %d %i %h %s %Y' "$@" ;;
  '%Xp %i %z %m %Fm') words='%f %i %s %Y %.9Y' ;;
  '%Xp %u %g %d %i %l %z %m %c %Hr %Lr|%Fm|%Fc|%FB')
    words='%f %u %g %d %i %h %s %Y %Z 0 0|%.9Y|%.9Z|0.000000000' ;;
  *) echo "stat: $format: bad format" >&2; exit 1 ;;
esac
[ -z "$name" ] || words=$words/%n
exec /usr/bin/stat $follow -c "$words" "$@"
"#;
