//! The way to a remote replica: the remote shell command, and what its errors mean (spec 5).
//!
//! [`Ssh`] is built once a run. The control shell and every rsync use the same words, so
//! that a host that answers one answers the other.

pub mod askpass;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod libssh2;
mod options;

use super::process;
use crate::config::{Remote, RemoteOsync, Secret, SshLocation, Transport};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// The password in a password file, for masking; `None` if it cannot be read.
#[must_use]
pub fn password(file: &Path) -> Option<Secret> {
    let password = askpass::read_password(file).ok()?;
    Some(Secret::new(String::from_utf8_lossy(&password).into_owned()))
}

/// Whether a line of ssh is about the way alone, and explains no failure: a host key that was
/// noted, a banner.
#[must_use]
pub fn is_noise(line: &[u8]) -> bool {
    let noise: [&[u8]; 4] =
        [b"Warning: Permanently added", b"** ", b"@@@", b"Authorized uses only"];
    noise.iter().any(|beginning| line.trim_ascii_start().starts_with(beginning))
}

/// What the words of a command are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The one connection of the control shell; where a connection is shared, the others
    /// go through this one.
    Control,
    /// rsync's remote shell.
    Transfer,
}

/// The remote shell of a task.
#[derive(Debug)]
pub struct Ssh {
    remote: Remote,
    to: SshLocation,
    program: Program,
    shared: Option<SharedConnection>,
    /// Of the OpenSSH client, once it is needed.
    version: OnceLock<options::Version>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Program {
    OpenSsh,
    /// Our own binary, as `osync rsh`; at this path, where that is not this very program.
    Ours(Option<PathBuf>),
}

/// Why there is no remote shell.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoSsh(String);

impl Ssh {
    /// Chooses the transport (SSH_TRANSPORT) and, where asked for, prepares sharing one
    /// connection (SSH_CONTROLMASTER). A connection that cannot be shared is no error:
    /// every command then makes its own.
    #[must_use]
    pub fn new(remote: &Remote, to: &SshLocation) -> Self {
        let program = choose_program(remote.transport);
        let sharing = program == Program::OpenSsh && remote.control_master != Some(false);
        let shared = if sharing { SharedConnection::new().ok() } else { None };
        let version = OnceLock::new();
        Ssh { remote: remote.clone(), to: to.clone(), program, shared, version }
    }

    /// Whether there is what a connection needs.
    ///
    /// # Errors
    /// The password file cannot be read; SSH_OPTIONAL_ARGS would change where ssh goes; ssh would
    /// look for the key elsewhere; or a setting needs the OpenSSH client, which is not used.
    pub fn check(&self) -> Result<(), NoSsh> {
        match self.program {
            Program::OpenSsh => {
                let of_key = self.remote.key.as_deref().and_then(options::key_objection);
                let objection = options::objection(&self.remote.optional_args).or(of_key);
                objection.map_or(Ok(()), |why| Err(NoSsh(why)))
            }
            Program::Ours(_) => self.check_ours(),
        }?;
        let Some(file) = &self.remote.password_file else { return Ok(()) };
        askpass::read_password(file).map(drop).map_err(|cause| {
            NoSsh(format!("cannot read the password file {}: {cause}", file.display()))
        })
    }

    fn check_ours(&self) -> Result<(), NoSsh> {
        if self.remote.krb5 {
            return Err(NoSsh(
                "KRB5=yes needs the OpenSSH client; libssh2 knows no GSSAPI".to_owned(),
            ));
        }
        let words = self.words(Use::Control);
        // behind the binary and `rsh`
        libssh2::objection(&words[2..]).map_or(Ok(()), |why| Err(NoSsh(why)))
    }

    /// Which binary `osync rsh` is, where that is not this very program.
    pub fn use_binary(&mut self, binary: &Path) {
        if let Program::Ours(path) = &mut self.program {
            *path = Some(binary.to_owned());
        }
    }

    /// What should be said once before the first connection: a password file that others
    /// can read.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let file = self.remote.password_file.as_ref()?;
        let meta = std::fs::metadata(file).ok()?;
        let open = meta.permissions().mode() & 0o077 != 0;
        let foreign = meta.uid() != rustix::process::geteuid().as_raw();
        (open || foreign).then(|| {
            format!(
                "the password file {} can be read by others; 'chmod 600' it and let it belong \
                 to the user who runs osync",
                file.display()
            )
        })
    }

    /// Where it goes.
    #[must_use]
    pub fn location(&self) -> &SshLocation {
        &self.to
    }

    /// What it logs in with.
    #[must_use]
    pub fn login(&self) -> Login {
        if self.remote.password_file.is_some() { Login::Password } else { Login::Keys }
    }

    /// Program and options, without the destination: what rsync takes for `-e`.
    #[must_use]
    pub fn words(&self, for_what: Use) -> Vec<OsString> {
        match &self.program {
            Program::OpenSsh => {
                let version = *self.version.get_or_init(version_of_openssh);
                let socket = self.shared.as_ref().map(SharedConnection::socket);
                options::openssh(version, &self.remote, &self.to, for_what, socket)
            }
            Program::Ours(path) => {
                let path = path.clone().unwrap_or_else(process::own_program);
                options::ours(&path, &self.remote, &self.to)
            }
        }
    }

    /// What the environment of these words, or of an rsync that runs them, needs.
    #[must_use]
    pub fn env(&self) -> Vec<(OsString, OsString)> {
        match (&self.program, &self.remote.password_file) {
            (Program::OpenSsh, Some(file)) => askpass::environment(file),
            _ => Vec::new(),
        }
    }

    /// The whole command for one remote command line.
    #[must_use]
    pub fn command(&self, for_what: Use, remote_command: &str) -> process::Command {
        let mut words = self.words(for_what).into_iter();
        let mut command = process::Command {
            program: words.next().unwrap_or_default(),
            args: words.collect(),
            env: self.env(),
            ..process::Command::default()
        };
        command.args.push(self.to.destination().into());
        command.args.push(remote_command.into());
        command
    }

    /// The remote command line that starts the control shell. A shell whose first words are to
    /// make way for an osync of this protocol version says so in its arguments: where a filter
    /// stands in its place, that is all it need understand.
    #[must_use]
    pub fn control_shell(&self, peer: Option<u32>) -> String {
        let words = peer.map(|version| format!(" -s osync-peer-{version}")).unwrap_or_default();
        let shell = if self.remote.sudo {
            let osync = peer.map(|version| sudo_osync(&self.remote.osync, version));
            sudo_shell(&words, &osync.unwrap_or_default())
        } else {
            format!("sh{words}")
        };
        format!("{}{shell}", self.token_words())
    }

    /// Which osync over there is spoken with.
    #[must_use]
    pub fn osync(&self) -> &RemoteOsync {
        &self.remote.osync
    }

    /// rsync's `--rsync-path`: which rsync is started over there, and how. `name` is
    /// RSYNC_EXECUTABLE's last component, `dir` RSYNC_REMOTE_PATH.
    #[must_use]
    pub fn rsync_path(&self, name: &str, dir: Option<&Path>) -> String {
        let sudo = if self.remote.sudo { "sudo " } else { "" };
        let program = match dir {
            Some(dir) => shell_words::quote(&dir.join(name).to_string_lossy()).into_owned(),
            None => shell_words::quote(name).into_owned(),
        };
        let locale = if self.remote.token.is_some() { "env LC_ALL=C " } else { "" };
        format!("{locale}{}{sudo}{program}", self.token_words())
    }

    /// The token shows in the command line because that is where the filter on the other
    /// side looks for it; it is never logged.
    fn token_words(&self) -> String {
        match &self.remote.token {
            Some(token) => format!("env _REMOTE_TOKEN={} ", shell_words::quote(token.reveal())),
            None => String::new(),
        }
    }

    /// Whether remote commands go through sudo.
    #[must_use]
    pub fn uses_sudo(&self) -> bool {
        self.remote.sudo
    }
}

/// The control shell as root, with these arguments. sudoers may name `sh`, or `bash` as the
/// manual always did, or the osync that takes its place. Which it is, is found out before: a
/// second shell must never read what was meant for a first one. The quotes are the same to every
/// login shell.
fn sudo_shell(arguments: &str, osync: &str) -> String {
    format!(
        "sh -c 'sudo -n -E sh -c : </dev/null >/dev/null 2>&1 && exec sudo -n -E sh{arguments}; \
         {osync}exec sudo -n -E bash{arguments}'"
    )
}

/// Where sudoers allows `osync serve` and no shell: `osync serve` greets like one. Not for a path
/// that would have to be quoted twice.
fn sudo_osync(osync: &RemoteOsync, version: u32) -> String {
    let program = match osync {
        RemoteOsync::No => return String::new(),
        RemoteOsync::Auto => "osync".into(),
        RemoteOsync::At(program) => program.to_string_lossy(),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if program.starts_with('-') || !program.bytes().all(is_plain) {
        return String::new();
    }
    format!(
        "p=$(command -v {program}) && \
         [ \"$(\"$p\" serve --protocol </dev/null 2>/dev/null)\" = {version} ] && \
         sudo -n -l \"$p\" serve </dev/null >/dev/null 2>&1 && exec sudo -n \"$p\" serve; "
    )
}

fn choose_program(transport: Transport) -> Program {
    match transport {
        Transport::OpenSsh => Program::OpenSsh,
        Transport::Libssh2 => Program::Ours(None),
        Transport::Auto if has_openssh() => Program::OpenSsh,
        Transport::Auto => Program::Ours(None),
    }
}

/// An ssh that is not there, or does not say its version, counts as an old one: what is wrong with
/// it is told by the connection.
fn version_of_openssh() -> options::Version {
    let mut command = process::Command::new("ssh").arg("-V");
    command.time_limit = Some(TIME_TO_TELL_ITS_VERSION);
    process::output(&command, process::Input::Nothing, &process::Stop::new())
        .ok()
        .and_then(|output| options::Version::parse(&String::from_utf8_lossy(&output.stderr)))
        .unwrap_or(options::Version::OLDEST)
}

fn has_openssh() -> bool {
    process::find_program("ssh").is_some()
}

/// A stand-in of ssh's in PATH may do anything.
const TIME_TO_TELL_ITS_VERSION: Duration = Duration::from_secs(10);

/// A socket's path must fit `sun_path` (104 bytes on BSD), and ssh adds 17 bytes to it
/// while it makes the socket.
const LONGEST: usize = 80;

/// What the names of our directories begin with.
const PREFIX: &str = "osync-ssh-";

/// A private directory for the socket, removed when dropped.
#[derive(Debug)]
pub struct SharedConnection {
    socket: PathBuf,
    /// Held until it is dropped.
    _dir: tempfile::TempDir,
    /// Locked as long as this process lives: what is not locked was left by a killed one.
    _lock: OwnedFd,
}

impl SharedConnection {
    /// Makes the directory, readable by this user only.
    ///
    /// # Errors
    /// There is no temporary directory that can be written and whose path is short enough,
    /// and means itself to ssh.
    pub fn new() -> io::Result<Self> {
        Self::in_one_of([tempfile::env::temp_dir(), PathBuf::from("/tmp")])
    }

    fn in_one_of(bases: [PathBuf; 2]) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for base in bases {
            if !is_plain(&base) {
                last = io::ErrorKind::InvalidFilename.into();
                continue;
            }
            sweep(&base);
            let made = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(std::fs::Permissions::from_mode(0o700))
                .tempdir_in(base);
            match made {
                Ok(dir) if dir.path().as_os_str().as_bytes().len() + 2 <= LONGEST => {
                    let lock = locked(dir.path())?;
                    let socket = dir.path().join("s");
                    return Ok(SharedConnection { socket, _dir: dir, _lock: lock });
                }
                Ok(_) => last = io::ErrorKind::InvalidFilename.into(),
                Err(cause) => last = cause,
            }
        }
        Err(last)
    }

    /// Where the master listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Opens a directory, and no link, and locks it; an error: somebody has it.
fn locked(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
    Ok(dir)
}

/// Removes what runs that were killed have left: directories of ours that nobody has locked,
/// with nothing but sockets in them. What cannot be removed is left to the next run.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            let _ = remove_left_over(&entry.path());
        }
    }
}

fn remove_left_over(path: &Path) -> io::Result<()> {
    let dir = locked(path)?;
    if rustix::fs::fstat(&dir)?.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let found = rustix::fs::statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Socket {
            rustix::fs::unlinkat(&dir, entry.file_name(), AtFlags::empty())?;
        }
    }
    // only an empty one goes
    std::fs::remove_dir(path)
}

/// Whether ssh takes a path for what it is: spaces, quotes, backslashes and `$` mean something
/// in its options, each version with its own rules. (A `%` can be doubled.)
fn is_plain(path: &Path) -> bool {
    let mut bytes = path.as_os_str().as_bytes().iter();
    bytes.all(|byte| byte.is_ascii_alphanumeric() || b"/._-+,:=@~%".contains(byte))
}

/// What ssh says where no key and no password is accepted; what would be, stands behind it.
const LOGIN_REFUSED: &str = "Permission denied (";

/// Known messages of ssh, sudo and shells, and the remedy for each. The first match counts, so the
/// more specific stand first.
const KNOWN: &[(&str, &str)] = &[
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host shows another key than known_hosts has for it. If it was reinstalled, check \
         its new key and forget the old one with 'ssh-keygen -R {known}'; if not, somebody may \
         be listening in",
    ),
    (
        "add this line to",
        "compare that fingerprint with the one the host's administrator tells you, before you \
         add the line",
    ),
    (
        "is marked as revoked",
        "the host shows a key that was withdrawn: ask its administrator before anything else",
    ),
    ("Host key verification failed", "{unknown}"),
    ("No ED25519 host key is known", "{unknown}"),
    ("host key is known for", "{unknown}"),
    (
        "UNPROTECTED PRIVATE KEY FILE",
        "the private key can be read by others, so ssh does not use it: chmod 600 it",
    ),
    (
        "has a passphrase",
        "load the key into an ssh agent whose SSH_AUTH_SOCK osync gets, or use a key without a \
         passphrase",
    ),
    (
        "Too many authentication failures",
        "the agent offers too many keys before the right one: set SSH_RSA_PRIVATE_KEY, and add \
         '-o IdentitiesOnly=yes' to SSH_OPTIONAL_ARGS",
    ),
    (LOGIN_REFUSED, "{login}"),
    ("Permission denied, please try again", "{login}"),
    (
        "ssh_filter: refused: the token is wrong",
        "_REMOTE_TOKEN (or --remote-token) has to be the word that stands behind the filter in \
         the host's authorized_keys",
    ),
    (
        "ssh_filter: refused: the command does not begin with a token",
        "set _REMOTE_TOKEN (or --remote-token) to the word that stands behind the filter in the \
         host's authorized_keys",
    ),
    ("Connection refused", "no ssh server answers at that port: check host, port and firewall"),
    (
        "Could not resolve hostname",
        "the host name is not known: check its spelling, DNS, or ssh_config",
    ),
    ("Connection timed out", "{silent}"),
    ("Operation timed out", "{silent}"),
    ("timed out during banner exchange", "{silent}"),
    ("not responding", "the line went dead; the next run goes on from here"),
    ("No route to host", "{silent}"),
    ("Network is unreachable", "{silent}"),
    ("Connection closed by", "the host closed the connection; its log (auth.log) says why"),
    ("Connection reset", "the connection broke; the next run goes on from here"),
    ("Broken pipe", "the connection broke; the next run goes on from here"),
    ("Bad owner or permissions on", "ssh does not trust its configuration file"),
    ("sudo: command not found", "there is no sudo on the host: install it, or set SUDO_EXEC=no"),
    ("sudo: not found", "there is no sudo on the host: install it, or set SUDO_EXEC=no"),
    ("must have a tty", "{sudo}; and 'Defaults:{user} !requiretty'"),
    ("a terminal is required", "{sudo}"),
    ("a password is required", "{sudo}"),
    ("not allowed to execute", "{sudo}"),
    ("not allowed to preserve the environment", "{sudo}"),
    ("not in the sudoers file", "{sudo}"),
];

/// How we log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Keys, or whatever else ssh finds.
    Keys,
    /// The password of SSH_PASSWORD_FILE, after any keys.
    Password,
}

impl Login {
    /// What to look at when the host does not let us in. It tells what it would take:
    /// `Permission denied (publickey,password).`
    fn remedy(self, said: &str) -> &'static str {
        let offered = said.rsplit_once(LOGIN_REFUSED).map_or("", |(_, rest)| rest);
        let offered = offered.split(')').next().unwrap_or_default();
        let takes_passwords = offered.is_empty()
            || offered.split(',').any(|way| matches!(way, "password" | "keyboard-interactive"));
        match self {
            Login::Keys => {
                "the host does not accept this login. Check the user name, that the public key \
                 stands in its ~/.ssh/authorized_keys, and SSH_RSA_PRIVATE_KEY or \
                 SSH_PASSWORD_FILE"
            }
            Login::Password if takes_passwords => {
                "the host does not accept the user name or the password in SSH_PASSWORD_FILE \
                 (or does not let this user in by password)"
            }
            Login::Password => {
                "the host takes no passwords, so SSH_PASSWORD_FILE is of no use there: set \
                 SSH_RSA_PRIVATE_KEY"
            }
        }
    }
}

/// Whether it says that the host was reached, and let nobody in.
#[must_use]
pub fn is_refused_login(said: &str) -> bool {
    said.contains(LOGIN_REFUSED)
}

/// The remedy for what ssh said, if it is something known.
#[must_use]
pub fn explain(said: &str, to: &SshLocation, login: Login) -> Option<String> {
    let (_, remedy) = KNOWN.iter().find(|(text, _)| said.contains(text))?;
    let known = match to.port {
        Some(port) if port != 22 => format!("'[{}]:{port}'", to.host),
        _ => to.host.clone(),
    };
    let port = to.port.map(|p| format!("-p {p} ")).unwrap_or_default();
    let user = to.user.as_deref().unwrap_or("USER");
    let unknown = format!(
        "the host's key is not known yet. Connect once by hand ('ssh {port}{}') and check it, or \
         set SSH_IGNORE_KNOWN_HOSTS=yes if that is safe here",
        to.destination()
    );
    let sudo = format!(
        "sudo on the host wants a password or does not allow it. This line in its sudoers file \
         (visudo) helps: {user} ALL=(root) NOPASSWD:SETENV: /usr/bin/rsync, /usr/bin/bash"
    );
    let silent = "the host does not answer: check its name and port, the network and firewalls";
    Some(
        remedy
            .replace("{unknown}", &unknown)
            .replace("{silent}", silent)
            .replace("{login}", login.remedy(said))
            .replace("{sudo}", &sudo)
            .replace("{known}", &known)
            .replace("{user}", user),
    )
}

#[cfg(test)]
pub(crate) mod ssh_tests {
    use super::*;

    pub(crate) fn plain() -> Remote {
        Remote {
            key: None,
            password_file: None,
            krb5: false,
            token: None,
            sudo: false,
            compression: true,
            optional_args: Vec::new(),
            ignore_known_hosts: false,
            control_master: Some(false),
            transport: Transport::OpenSsh,
            osync: crate::config::RemoteOsync::No,
            ping: false,
            third_party_hosts: Vec::new(),
        }
    }

    pub(crate) fn somewhere() -> SshLocation {
        SshLocation { user: Some("u".into()), host: "h".into(), port: None, path: "/d".into() }
    }

    #[test]
    fn tokens_and_sudo_stand_where_filters_look_for_them() {
        let token_sudo = format!("env _REMOTE_TOKEN=Tok9 {}", sudo_shell("", ""));
        for (token, sudo, shell, rsync) in [
            (None, false, "sh", "rsync"),
            (None, true, &sudo_shell("", ""), "sudo rsync"),
            (
                Some("Tok9"),
                false,
                "env _REMOTE_TOKEN=Tok9 sh",
                "env LC_ALL=C env _REMOTE_TOKEN=Tok9 rsync",
            ),
            (Some("Tok9"), true, &token_sudo, "env LC_ALL=C env _REMOTE_TOKEN=Tok9 sudo rsync"),
            (
                Some("a b;c"),
                false,
                "env _REMOTE_TOKEN='a b;c' sh",
                "env LC_ALL=C env _REMOTE_TOKEN='a b;c' rsync",
            ),
        ] {
            let remote = Remote { token: token.map(Secret::new), sudo, ..plain() };
            let ssh = Ssh::new(&remote, &somewhere());
            assert_eq!(ssh.control_shell(None), shell);
            assert_eq!(ssh.rsync_path("rsync", None), rsync);
        }
    }

    #[test]
    fn what_would_change_where_it_goes_is_refused_whichever_ssh_it_is() {
        for transport in [Transport::OpenSsh, Transport::Libssh2] {
            for (args, fine) in [
                (&["otherhost"][..], false),
                (&["-4", "otherhost", "-C"], false),
                (&["-p"], false),
                (&["-4", "-p", "22"], true),
                (&[], true),
            ] {
                let optional_args = args.iter().map(|arg| (*arg).to_owned()).collect();
                let remote = Remote { transport, optional_args, ..plain() };
                let checked = Ssh::new(&remote, &somewhere()).check();
                assert_eq!(checked.is_ok(), fine, "{transport:?} {args:?}: {checked:?}");
            }
        }
    }

    #[test]
    fn the_directory_of_the_remote_rsync_is_quoted() {
        let ssh = Ssh::new(&plain(), &somewhere());
        for (dir, expected) in
            [("/opt/bin", "/opt/bin/rsync"), ("/opt/my tools/", "'/opt/my tools/rsync'")]
        {
            assert_eq!(ssh.rsync_path("rsync", Some(Path::new(dir))), expected);
        }
    }

    #[test]
    fn a_password_file_that_others_can_read_is_worth_a_warning() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let remote = Remote { password_file: Some(file.path().into()), ..plain() };
        let ssh = Ssh::new(&remote, &somewhere());
        for (mode, warned) in [(0o600, false), (0o640, true), (0o604, true), (0o400, false)] {
            std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(ssh.warning().is_some(), warned, "{mode:o}");
        }
        let env = ssh.env();
        assert!(!env.iter().any(|(_, value)| value.to_string_lossy().contains("secret")));
    }
}

#[cfg(test)]
mod shared_tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn the_socket_lies_where_ssh_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("a%b-c");
        std::fs::create_dir(&plain).unwrap();
        for odd in [&b"a b"[..], b"a\"b", b"a'b", b"a\\b", b"${HOME}", b"a#b", b"\xff", b"a\nb"] {
            let odd = dir.path().join(OsStr::from_bytes(odd));
            std::fs::create_dir(&odd).unwrap();
            let shared = SharedConnection::in_one_of([odd.clone(), plain.clone()]).unwrap();
            assert!(shared.socket().starts_with(&plain), "{odd:?}");
            assert!(SharedConnection::in_one_of([odd.clone(), odd]).is_err());
        }
    }

    #[test]
    fn what_a_killed_run_left_goes_and_what_a_running_one_uses_stays() {
        let base = tempfile::tempdir().unwrap();
        let bases = || [base.path().to_path_buf(), base.path().to_path_buf()];
        let running = SharedConnection::in_one_of(bases()).unwrap();
        let at = |name: &str| base.path().join(name);
        for name in ["osync-ssh-killed", "osync-ssh-mine", "somebodys"] {
            std::fs::create_dir(at(name)).unwrap();
            std::os::unix::net::UnixListener::bind(at(name).join("s")).unwrap();
        }
        std::fs::write(at("osync-ssh-mine").join("file"), "no socket").unwrap();
        std::os::unix::fs::symlink(at("somebodys"), at("osync-ssh-link")).unwrap();
        let next = SharedConnection::in_one_of(bases()).unwrap();
        assert!(!at("osync-ssh-killed").exists());
        assert!(at("osync-ssh-mine/file").exists() && at("somebodys/s").exists());
        for one in [&running, &next] {
            assert!(one.socket().parent().unwrap().is_dir());
        }
    }

    #[test]
    fn the_socket_lives_in_a_private_directory_that_goes_away() {
        let shared = SharedConnection::new().unwrap();
        let dir = shared.socket().parent().unwrap().to_path_buf();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        drop(shared);
        assert!(!dir.exists());
    }
}

#[cfg(test)]
mod refusal_tests {
    use super::*;

    #[test]
    fn common_refusals_come_with_a_remedy() {
        let to = SshLocation {
            user: Some("u".into()),
            host: "h".into(),
            port: Some(2222),
            path: "/d".into(),
        };
        for (said, remedy) in [
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "ssh-keygen -R '[h]:2222'",
            ),
            (
                "No ED25519 host key is known for [h]:2222 and you have requested strict checking.\r\nHost key verification failed.",
                "ssh -p 2222 u@h",
            ),
            ("u@h: Permission denied (publickey,password).", "authorized_keys"),
            ("ssh: connect to host h port 2222: Connection refused", "no ssh server answers"),
            ("ssh: Could not resolve hostname h: Name or service not known", "spelling"),
            ("ssh: connect to host h port 2222: Connection timed out", "does not answer"),
            (
                "sudo: a password is required",
                "u ALL=(root) NOPASSWD:SETENV: /usr/bin/rsync, /usr/bin/bash",
            ),
            ("sudo: a terminal is required to read the password; either", "NOPASSWD"),
            ("Timeout, server h not responding.", "went dead"),
        ] {
            let found = explain(said, &to, Login::Keys);
            assert!(found.as_deref().is_some_and(|f| f.contains(remedy)), "{said}: {found:?}");
        }
        assert_eq!(explain("something new", &to, Login::Keys), None);
        for (said, remedy) in [
            ("Permission denied (publickey,password).", "the password in SSH_PASSWORD_FILE"),
            ("Permission denied, please try again.", "the password in SSH_PASSWORD_FILE"),
            ("Permission denied (publickey).", "takes no passwords"),
        ] {
            let found = explain(said, &to, Login::Password).unwrap_or_default();
            assert!(found.contains(remedy) && !found.contains("authorized_keys"), "{found}");
        }
        let found = explain("ssh_filter: refused: the token is wrong", &to, Login::Keys);
        assert!(found.is_some_and(|found| found.contains("_REMOTE_TOKEN")));
    }
}
