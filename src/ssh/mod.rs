//! The way to a remote replica: the remote shell command, and what its errors mean (spec 5).
//!
//! [`Ssh`] is built once a run. The control shell and every rsync use the same words, so
//! that a host that answers one answers the other.

pub mod askpass;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod libssh2;
mod options;
mod refusal;
mod shared;

pub use refusal::{Login, explain};
pub use shared::SharedConnection;

use crate::config::{Remote, RemoteOsync, Secret, SshLocation, Transport};
use crate::process;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The password in a password file, for masking; none: it cannot be read.
#[must_use]
pub fn password(file: &Path) -> Option<Secret> {
    let password = askpass::read_password(file).ok()?;
    Some(Secret::new(String::from_utf8_lossy(&password).into_owned()))
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
        Ssh { remote: remote.clone(), to: to.clone(), program, shared }
    }

    /// Whether there is what a connection needs.
    ///
    /// # Errors
    /// The password file cannot be read; SSH_OPTIONAL_ARGS would change where ssh goes; ssh
    /// would look for the key elsewhere; or a
    /// setting needs the OpenSSH client, and that is not what is used.
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
                let socket = self.shared.as_ref().map(SharedConnection::socket);
                options::openssh(&self.remote, &self.to, for_what, socket)
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
        let peer = peer.map(|version| format!(" -s osync-peer-{version}")).unwrap_or_default();
        let shell = if self.remote.sudo { sudo_shell(&peer) } else { format!("sh{peer}") };
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
/// manual always did. Which it is, is found out before: a second shell must never read what was
/// meant for a first one. The quotes are the same to every login shell.
fn sudo_shell(arguments: &str) -> String {
    format!(
        "sh -c 'sudo -n -E sh -c : </dev/null >/dev/null 2>&1 && exec sudo -n -E sh{arguments}; \
         exec sudo -n -E bash{arguments}'"
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

fn has_openssh() -> bool {
    let path = std::env::var_os("PATH");
    process::find_program(OsStr::new("ssh"), path.as_deref()).is_some()
}

#[cfg(test)]
pub(crate) mod tests {
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
        let token_sudo = format!("env _REMOTE_TOKEN=Tok9 {}", sudo_shell(""));
        for (token, sudo, shell, rsync) in [
            (None, false, "sh", "rsync"),
            (None, true, &sudo_shell(""), "sudo rsync"),
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
