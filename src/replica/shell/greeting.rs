//! The first question and its answer: is the replica there, and what can its machine do?

use super::answer::Checker;
use super::channel::{Channel, ChannelError, Excess};
use super::encode::quoted_datum;
use super::record::Style;
use super::{Link, Owners, ShellReplica};
use crate::config::{Location, RemoteOsync};
use crate::replica::connection::Connection;
use crate::replica::local::work_dir::identity_of;
use crate::replica::{Access, Prepared, ReplicaError, Trouble, Way};
use crate::state::{IdentityFound, RunMark};
use crate::tree::Stamp;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// How long a greeting can be: it holds a path, and a few words.
const MOST_GREETING: usize = 1 << 20;

/// What the other machine told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Greeting {
    created: bool,
    free_kib: u64,
    uid: u32,
    now: i64,
    has_rsync: bool,
    style: Option<Style>,
    checker: Option<Checker>,
    closed: Option<String>,
    has_work_dir: bool,
    has_kept: bool,
    has_left_overs: bool,
    has_sha256: bool,
    identity: Option<Vec<u8>>,
    runs: Vec<RunMark>,
    file_system: Option<String>,
    /// The protocol of an osync over there that is not of ours.
    peer: Option<u32>,
    root: Vec<u8>,
}

/// The status with which the shell says that an osync takes its place.
const MADE_WAY: u8 = 100;

/// Who answers.
pub(in crate::replica) enum Reached {
    /// The shell.
    Shell {
        #[allow(missing_docs)]
        prepared: Prepared,
        /// The protocol of an osync over there that is not of ours.
        other_peer: Option<u32>,
    },
    /// An osync of our protocol version.
    Peer(Connection),
}

impl ShellReplica {
    /// Connects, unless that is done, and asks. With a protocol version, an osync over there that
    /// speaks it may answer instead.
    pub(in crate::replica) fn connect(
        &mut self,
        access: Access,
        peer: Option<u32>,
    ) -> Result<Reached, ReplicaError> {
        self.link = None;
        let (create, write) = match access {
            Access::ReadOnly => ("find", "look"),
            Access::ReadWrite { create } => (if create { "create" } else { "find" }, "write"),
        };
        self.read_only = access == Access::ReadOnly;
        let Location::Ssh(to) = &self.location else {
            return Err(self.error("it is not behind ssh"));
        };
        self.ssh.check().map_err(|cause| self.error(cause.to_string()))?;
        let rsync = self.options.rsync();
        let make_way = match (peer, self.ssh.osync()) {
            (None, _) | (_, RemoteOsync::No) => String::new(),
            (Some(version), RemoteOsync::Auto) => {
                format!("make_way {} {version}; ", quoted_datum(b"osync"))
            }
            (Some(version), RemoteOsync::At(path)) => {
                format!("make_way {} {version}; ", quoted_datum(path.as_os_str().as_bytes()))
            }
        };
        let questions = format!(
            "{make_way}greet {} {} {create} {write} {}",
            quoted_datum(to.path.as_os_str().as_bytes()),
            quoted_datum(rsync.as_bytes()),
            if self.ssh.uses_sudo() { "sudo" } else { "plain" },
        );
        let mut said = Vec::new();
        let opened = Channel::open(&self.ssh, &self.stop, peer, &questions, &mut |bytes| {
            if said.len() + bytes.len() > MOST_GREETING {
                return Err(Excess("sends a greeting without end"));
            }
            said.extend_from_slice(bytes);
            Ok(())
        });
        let (channel, status) = opened.map_err(|cause: ChannelError| self.broken(&cause))?;
        if status == MADE_WAY && said.starts_with(b"peer") {
            return Ok(Reached::Peer(channel.into_connection()));
        }
        if status != 0 {
            let trouble = match last_line(&said) {
                "missing" | "missing-here" => Trouble::Missing,
                _ => Trouble::Other,
            };
            return Err(ReplicaError { trouble, ..self.error(refusal(&said)) });
        }
        let greeting = parse(&said).ok_or_else(|| self.garbled("greet"))?;
        if !greeting.has_rsync {
            return Err(self.error(format!(
                "there is no {} on the host: install rsync there, or set RSYNC_REMOTE_PATH to \
                 the directory that holds it",
                rsync.to_string_lossy()
            )));
        }
        let Some(style) = greeting.style else {
            return Err(self.error(
                "neither its find (-printf) nor its stat (-c or -f) can tell about files; install \
                 findutils or coreutils there",
            ));
        };
        self.root = OsString::from_vec(greeting.root).into();
        let identity = match greeting.identity {
            None => IdentityFound::Missing,
            Some(bytes) => identity_from(&bytes),
        };
        let checker = greeting.checker.ok_or_else(|| self.garbled("greet"))?;
        self.link = Some(Link {
            channel,
            style,
            checker,
            owners: Owners::default(),
            identity,
            runs: greeting.runs,
            has_work_dir: greeting.has_work_dir,
            has_kept: greeting.has_kept,
            has_left_overs: greeting.has_left_overs,
            has_sha256: greeting.has_sha256,
            free_kib: greeting.free_kib,
            locked: false,
        });
        let prepared = Prepared {
            free_kib: greeting.free_kib,
            created: greeting.created,
            can_chown: greeting.uid == 0,
            // whole seconds only, rounded down: what is made from now on is not older
            now: Stamp::new(greeting.now, 0),
            file_system: greeting.file_system.map(|id| format!("{id} {}", greeting.uid)),
            mount_session: None,
            closed: greeting.closed,
            way: Way::Shell,
        };
        Ok(Reached::Shell { prepared, other_peer: greeting.peer })
    }
}

pub(super) fn identity_from(bytes: &[u8]) -> IdentityFound {
    identity_of(bytes).map_or(IdentityFound::Torn, IdentityFound::Known)
}

/// What must hold for the work directory.
const ONLY_OURS: &str = "what osync keeps there must be real files and directories that belong to \
     the user it runs as, or to root, and that nobody else may write to; look who made it, and \
     move it away or mend it (chown, chmod go-w)";

fn last_line(said: &[u8]) -> &str {
    let line = said.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).unwrap_or_default()
}

/// The words for a refusal: its kind stands on the last line, the system's words before.
pub(super) fn refusal(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let mut lines = text.lines().rev().filter(|line| !line.is_empty());
    let kind = lines.next().unwrap_or_default();
    let cause = lines.next().and_then(|line| line.rsplit(": ").next()).unwrap_or_default();
    match kind {
        "missing" => "there is no such directory; make it, or set CREATE_DIRS=yes if it should be \
                      made"
            .to_owned(),
        "missing-here" => "there is no such directory in the login directory, but there is one \
                           of this path from the root: write two slashes behind the host \
                           (ssh://host//path) if that is meant"
            .to_owned(),
        "uncreatable" => format!("there is no such directory and it cannot be made: {cause}"),
        "dangling" => "it is a link that leads nowhere; is something not mounted?".to_owned(),
        "nodir" => "it is not a directory; name the directory to synchronise".to_owned(),
        "unreadable" => "cannot read the directory: the remote user needs read and search \
                         permission (chmod, chown, or SUDO_EXEC)"
            .to_owned(),
        "unwritable" => "cannot write the directory: the remote user needs write permission \
                         (chmod, chown, or SUDO_EXEC), and its file system must not be read-only"
            .to_owned(),
        "strange" => {
            let what = text.lines().rev().nth(1).unwrap_or_default();
            format!("{what}; {ONLY_OURS}")
        }
        "tools" => {
            let names = text.lines().rev().nth(1).unwrap_or_default().trim();
            format!(
                "these programs are not there: {names}; install them (coreutils, findutils or busybox)"
            )
        }
        _ => format!("the host answered: {}", text.trim()),
    }
}

pub(super) fn parse(said: &[u8]) -> Option<Greeting> {
    let mut greeting = Greeting::default();
    let mut rest = said;
    loop {
        let end = rest.iter().position(|b| *b == b'\n')?;
        let (line, next) = (&rest[..end], &rest[end + 1..]);
        rest = next;
        if line == b"root" {
            greeting.root = rest.to_vec();
            return greeting.root.starts_with(b"/").then_some(greeting);
        }
        let space = line.iter().position(|b| *b == b' ')?;
        let value = &line[space + 1..];
        let text = std::str::from_utf8(value).unwrap_or_default();
        match &line[..space] {
            b"created" => greeting.created = text == "1",
            // what cannot be told is no reason for a warning
            b"free" => greeting.free_kib = text.parse().unwrap_or(u64::MAX),
            b"now" => greeting.now = text.parse().unwrap_or(0),
            b"uid" => greeting.uid = text.parse().ok()?,
            b"rsync" => greeting.has_rsync = text == "yes",
            b"checker" => greeting.checker = Checker::from_word(text),
            b"style" => greeting.style = Style::from_word(text),
            b"workdir" => {
                greeting.has_work_dir = text == "yes";
            }
            b"closed" => greeting.closed = Some(text.to_owned()),
            b"sha256" => greeting.has_sha256 = text == "yes",
            b"filesystem" => {
                greeting.file_system = Some(text.to_owned()).filter(|text| !text.is_empty());
            }
            b"peer" => greeting.peer = text.parse().ok(),
            b"kept" => greeting.has_kept = text == "yes",
            b"replaced" => greeting.has_left_overs = text == "yes",
            b"identity" => greeting.identity = Some(value.to_vec()),
            b"run" => greeting.runs.extend(RunMark::parse(&[b"run ", value].concat())),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_and_its_root_is_bytes() {
        let said = b"created 0\nfree 123\nuid 1000\nrsync yes\nsha256 yes\nstyle gnu\nworkdir yes\nkept no\nidentity abc\nroot\n/a\nb\xff";
        let greeting = parse(said).unwrap();
        assert_eq!((greeting.free_kib, greeting.uid, greeting.has_rsync), (123, 1000, true));
        assert!(greeting.has_sha256);
        assert_eq!(greeting.style, Some(Style::Gnu));
        assert_eq!(greeting.identity.as_deref(), Some(&b"abc"[..]));
        assert_eq!(greeting.root, b"/a\nb\xff");
        for said in ["", "created 0\n", "root\nrelative", "hello world\nroot\n/"] {
            assert_eq!(parse(said.as_bytes()), None, "{said}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (said, expected) in [
            ("missing\n", "CREATE_DIRS"),
            (
                "mkdir: cannot create directory '/x': Permission denied\nuncreatable\n",
                "Permission denied",
            ),
            ("nodir\n", "not a directory"),
            ("unwritable\n", "write permission"),
            ("x\n.osync_workdir/state is a symbolic link\nstrange\n", "state is a symbolic link;"),
            (" sort tr\ntools\n", "not there: sort tr;"),
            ("what\n", "what"),
        ] {
            assert!(refusal(said.as_bytes()).contains(expected), "{said}");
        }
    }

    #[test]
    fn only_sound_identities_are_known() {
        for (bytes, known) in
            [(&b"ab12"[..], true), (b"", false), (b"a b", false), (b"\xff", false)]
        {
            assert_eq!(matches!(identity_from(bytes), IdentityFound::Known(_)), known);
        }
    }
}
