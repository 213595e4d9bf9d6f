//! The session with one remote `sh`: frames over the connection, the scripts that are sent, the
//! greeting that tells what the other side is, and hooks over there.

use super::protocol::{Checker, Style, datum, quoted_datum};
use super::{Link, Owners, ShellReplica};
use crate::config::{Location, RemoteOsync};
use crate::process::{Stop, fault};
use crate::replica::connection::{Connection, Silence};
pub(super) use crate::replica::connection::{
    ConnectionError as ChannelError, Excess, OnStop, Sink,
};
use crate::replica::local::work_dir::identity_of;
use crate::replica::{Access, Agent, HookResult, Prepared, ReplicaError, Trouble};
use crate::ssh::Ssh;
use crate::state::{IdentityFound, RunMark};
use crate::tree::Stamp;
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

/// How much of the answer to an earlier, abandoned request, or of noise, is skipped.
const MOST_NOISE: u64 = 1 << 30;
/// How much a host may print before the first answer: banners, not floods.
const MOST_BANNER: u64 = 16 << 20;
/// How much of what a host says instead of answering is shown.
const SHOWN_NOISE: usize = 2048;

/// The longest record that can be: a path and the target of a link, each with all its bytes
/// escaped, and the numbers before them.
const LONGEST_RECORD: u64 = 4 * 4096 + 1024;
/// What an answer may hold beside its records, in bytes.
const SPARE: u64 = 1 << 20;

/// How long an answer can be; a longer one ends the connection, so that no other side can
/// fill our memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// A record for each line of the request.
    AsAsked,
    /// Any number of records, in lines or behind NUL.
    Records,
    /// So many bytes.
    Bytes(u64),
}

/// Measures records as they come.
#[derive(Debug, Default)]
pub(super) struct RecordLength {
    so_far: u64,
}

impl RecordLength {
    /// # Errors
    /// A record is longer than any can be.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<(), Excess> {
        for piece in bytes.split_inclusive(|b| matches!(b, b'\n' | 0)) {
            self.so_far += piece.len() as u64;
            if self.so_far > LONGEST_RECORD {
                return Err(Excess("sends a line that is longer than any can be"));
            }
            if matches!(piece.last(), Some(b'\n' | 0)) {
                self.so_far = 0;
            }
        }
        Ok(())
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Channel {
    line: Connection,
    mark: String,
    number: u32,
    known: HashSet<Piece>,
}

impl Channel {
    /// Connects and asks the first question, whose words are part of the script: until it
    /// is answered nothing else may be sent, because some shells read their script in
    /// blocks and would swallow what follows.
    ///
    /// # Errors
    /// There is no connection, or no POSIX shell behind it.
    pub fn open(
        ssh: &Ssh,
        stop: &Stop,
        peer: Option<u32>,
        greeting: &str,
        answer: &mut Sink<'_>,
    ) -> Result<(Self, u8), ChannelError> {
        let line = Connection::open(ssh, &ssh.control_shell(peer), stop)?;
        let random = crate::replica::new_identity()
            .map_err(|cause| ChannelError::Lost(format!("cannot read random numbers: {cause}")))?;
        let mark = random.0;
        let (left, right) = mark.split_at(mark.len() / 2);
        let mut script = format!("mark={left}\nmark=${{mark}}{right}\n");
        script.push_str(&Piece::Core.compact());
        script.push_str(&Piece::Prepare.compact());
        if peer.is_some() {
            script.push_str(&Piece::Peer.compact());
        }
        // one line: when it answers, nothing of the script is on its way any more
        script.push_str(&format!("{greeting}; serve\n"));
        let known = HashSet::from([Piece::Core, Piece::Prepare]);
        let mut channel = Channel { line, mark, number: 0, known };
        channel.line.send(script.as_bytes())?;
        let status = channel.answer(0, OnStop::GiveUp, answer)?;
        channel.line.answered();
        Ok((channel, status))
    }

    /// Sends a request with its data (which end in `.`; empty if the request has none) and
    /// hands over the answer's bytes as they come. Returns its status. `pieces` are what
    /// the remote shell must know for it; they travel once.
    ///
    /// # Errors
    /// The connection is lost, or the run is to stop.
    pub fn request(
        &mut self,
        pieces: &[Piece],
        words: &str,
        data: &[u8],
        on_stop: OnStop,
        answer: &mut Sink<'_>,
    ) -> Result<u8, ChannelError> {
        let mut message = Vec::with_capacity(data.len() + 64);
        for piece in pieces {
            if self.known.insert(*piece) {
                self.number += 1;
                let line = format!("{} {} load\n", self.mark, self.number);
                message.extend_from_slice(line.as_bytes());
                message.extend_from_slice(piece.compact().as_bytes());
                message.extend_from_slice(format!("{}\n", self.mark).as_bytes());
            }
        }
        self.number += 1;
        message.extend_from_slice(format!("{} {} {words}\n", self.mark, self.number).as_bytes());
        message.extend_from_slice(data);
        fault::point("asking");
        self.line.expects_signs_of_life(longest_silence(words));
        self.line.send(&message)?;
        fault::point("asked");
        let status = self.answer(self.number, on_stop, answer)?;
        fault::point("answered");
        Ok(status)
    }

    /// Like [`Channel::request`], with the whole answer.
    pub fn ask(
        &mut self,
        pieces: &[Piece],
        words: &str,
        data: &[u8],
        on_stop: OnStop,
        room: Room,
    ) -> Result<(u8, Vec<u8>), ChannelError> {
        let lines = data.iter().filter(|b| **b == b'\n').count() as u64;
        let most = match room {
            Room::AsAsked => SPARE + lines * LONGEST_RECORD,
            Room::Records => u64::MAX,
            Room::Bytes(most) => most,
        };
        let mut whole = Vec::new();
        let mut length = RecordLength::default();
        let status = self.request(pieces, words, data, on_stop, &mut |bytes| {
            if room == Room::Records {
                length.pass(bytes)?;
            }
            if (whole.len() + bytes.len()) as u64 > most {
                return Err(Excess("sends an answer that is longer than it can be"));
            }
            whole.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok((status, whole))
    }

    /// Says something to a running request that listens.
    pub fn say(&mut self, line: &str) {
        // if nobody hears it, the next request finds out why
        let _ = self.line.send(line.as_bytes());
    }

    /// Skips to the frame of this number and hands over what is in it.
    fn answer(
        &mut self,
        number: u32,
        on_stop: OnStop,
        sink: &mut Sink<'_>,
    ) -> Result<u8, ChannelError> {
        let begin = format!("\n{} {number} begin\n", self.mark).into_bytes();
        let mut wait = self.line.patience(on_stop);
        let mut start = Vec::new();
        let most = if number == 0 { MOST_BANNER } else { MOST_NOISE };
        let begun = self.line.up_to(&begin, most, &mut wait, &mut |noise| {
            let room = SHOWN_NOISE - start.len().min(SHOWN_NOISE);
            start.extend_from_slice(&noise[..noise.len().min(room)]);
            Ok(())
        });
        begun.map_err(|cause| {
            start.extend_from_slice(self.line.untaken());
            start.truncate(SHOWN_NOISE);
            self.line.said_instead(cause, &start)
        })?;
        let end = format!("\n{} {number} end ", self.mark).into_bytes();
        self.line.up_to(&end, u64::MAX, &mut wait, sink)?;
        let mut status = Vec::new();
        self.line.up_to(b"\n", 16, &mut wait, &mut |bytes| {
            status.extend_from_slice(bytes);
            Ok(())
        })?;
        let status = std::str::from_utf8(&status).ok().and_then(|status| status.parse().ok());
        status.ok_or_else(|| self.line.given_up("answers with nonsense"))
    }

    /// The connection, on whose other end no shell listens any more.
    pub fn into_connection(self) -> Connection {
        self.line
    }

    /// Bytes that travelled so far: out, back.
    pub fn travelled(&self) -> (u64, u64) {
        self.line.travelled
    }

    /// Replaces the [`Stop`] that ends its requests.
    pub fn set_stop(&mut self, stop: &Stop) {
        self.line.set_stop(stop);
    }

    /// Whether there still is a connection.
    pub fn is_open(&self) -> bool {
        self.line.is_open()
    }

    /// Closes the input: the remote shell gives back its lock and ends.
    pub fn close(&mut self) {
        self.line.close();
    }
}

/// When a shell counts as hanging that is silent about this request. What reads or copies contents,
/// removes old versions or waits for a disk may take any time, and a command of the user's has a
/// limit of its own.
fn longest_silence(words: &str) -> Option<Silence> {
    match words.split(' ').next() {
        Some("apply" | "clean" | "digest" | "flush" | "hook") => None,
        _ => Some(Silence::Hour),
    }
}

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
            agent: Agent::Shell,
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

/// One piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    Core,
    Prepare,
    Peer,
    Lock,
    Look,
    List,
    Attributes,
    Apply,
    Flush,
    Clean,
    Wake,
    Hook,
    Abilities,
}

impl Piece {
    fn text(self) -> &'static str {
        match self {
            Piece::Core => include_str!("core.sh"),
            Piece::Prepare => include_str!("prepare.sh"),
            Piece::Peer => include_str!("peer.sh"),
            Piece::Lock => include_str!("lock.sh"),
            Piece::Look => include_str!("look.sh"),
            Piece::List => include_str!("list.sh"),
            Piece::Attributes => include_str!("attributes.sh"),
            Piece::Apply => include_str!("apply.sh"),
            Piece::Flush => include_str!("flush.sh"),
            Piece::Clean => include_str!("clean.sh"),
            Piece::Wake => include_str!("wake.sh"),
            Piece::Hook => include_str!("hook.sh"),
            Piece::Abilities => include_str!("abilities.sh"),
        }
    }

    /// The piece without what only readers need: on a thin line every byte counts.
    pub fn compact(self) -> String {
        let mut out = String::new();
        for line in self.text().lines() {
            let line = line.trim_start();
            if !line.is_empty() && !line.starts_with('#') {
                out.push_str(line);
                out.push('\n');
            }
        }
        out
    }
}

/// How much a command may print.
const MOST_OUTPUT: Room = Room::Bytes(256 << 20);

impl ShellReplica {
    pub(super) fn hook(
        &mut self,
        command: &str,
        env: &[(String, String)],
        limit: Option<Duration>,
    ) -> Result<HookResult, ReplicaError> {
        let mut data = Vec::new();
        datum(&mut data, command.as_bytes());
        for (name, value) in env {
            datum(&mut data, format!("{name}={value}").as_bytes());
        }
        data.extend_from_slice(b".\n");
        let seconds = limit.map_or(0, |limit| limit.as_secs().max(1));
        let pieces = [Piece::Hook];
        let words = format!("hook {seconds}");
        let asked = self.link()?.channel.ask(&pieces, &words, &data, OnStop::GiveUp, MOST_OUTPUT);
        let (status, answer) = asked.map_err(|cause| {
            if let (ChannelError::Stopped(_), Some(link)) = (&cause, &mut self.link) {
                link.channel.say("enough\n");
            }
            self.broken(&cause)
        })?;
        split(&answer).filter(|_| status == 0).ok_or_else(|| self.garbled("hook"))
    }
}

/// What the command printed, and how it ended, behind the last NUL.
pub(super) fn split(answer: &[u8]) -> Option<HookResult> {
    let at = answer.iter().rposition(|b| *b == 0)?;
    let status = std::str::from_utf8(&answer[at + 1..]).ok()?;
    let status = if status == "timeout" { None } else { Some(status.parse().ok()?) };
    Some(HookResult { status, output: answer[..at].to_vec() })
}

#[cfg(test)]
mod channel_tests {
    use super::*;

    #[test]
    fn a_record_that_never_ends_is_noticed_in_time() {
        let mut length = RecordLength::default();
        for _ in 0..100 {
            assert_eq!(length.pass(&[b'x'; 1000]), Ok(()));
            assert_eq!(length.pass(b"x\nyy\0"), Ok(()));
        }
        let passed = (0..100).take_while(|_| length.pass(&[b'x'; 1000]).is_ok()).count();
        assert_eq!(passed as u64, LONGEST_RECORD / 1000);
    }
}

#[cfg(test)]
mod greeting_tests {
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

#[cfg(test)]
mod scripts_tests {
    use super::*;

    const ALL: [Piece; 13] = [
        Piece::Core,
        Piece::Prepare,
        Piece::Peer,
        Piece::Lock,
        Piece::Look,
        Piece::List,
        Piece::Attributes,
        Piece::Apply,
        Piece::Flush,
        Piece::Clean,
        Piece::Wake,
        Piece::Hook,
        Piece::Abilities,
    ];

    #[test]
    fn every_shell_here_can_read_every_piece() {
        for shell in [&["sh"][..], &["dash"], &["busybox", "sh"], &["bash", "--posix"]] {
            for piece in ALL {
                let mut child = match std::process::Command::new(shell[0])
                    .args(&shell[1..])
                    .arg("-n")
                    .stdin(std::process::Stdio::piped())
                    .spawn()
                {
                    Ok(child) => child,
                    Err(cause) => {
                        eprintln!("not tried with {shell:?}: {cause}");
                        continue;
                    }
                };
                std::io::Write::write_all(
                    &mut child.stdin.take().unwrap(),
                    piece.compact().as_bytes(),
                )
                .unwrap();
                assert!(child.wait().unwrap().success(), "{piece:?} in {shell:?}");
            }
        }
    }

    #[test]
    fn no_line_of_a_piece_means_something_only_with_its_indentation() {
        for piece in ALL {
            let text = piece.text();
            assert!(!text.contains("<<-") && !text.contains('\t'), "{piece:?}");
            assert!(text.is_ascii(), "{piece:?}");
        }
    }
}

#[cfg(test)]
mod hook_tests {
    use super::*;
    use std::process::Stdio;
    use std::time::Instant;

    #[test]
    fn what_a_command_prints_may_be_anything() {
        for (answer, expected) in [
            (&b"a\0b\0"[..], None),
            (b"a\0b\x003", Some((Some(3), &b"a\0b"[..]))),
            (b"\0timeout", Some((None, b""))),
            (b"no end", None),
        ] {
            let found = split(answer).map(|h| (h.status, h.output));
            assert_eq!(found, expected.map(|(s, o)| (s, o.to_vec())));
        }
    }

    #[test]
    fn a_listener_that_is_ended_as_soon_as_it_begins_is_ended() {
        let rounds = "trap 'exit 1' HUP INT TERM PIPE
            ps() { :; }
            exec 3<&0
            round=0
            while [ $round -lt 1000 ]; do
              { IFS= read -r line <&3; } >/dev/null 2>&1 &
              end_family $!
              round=$((round + 1))
            done
            echo $round";
        let script = format!("{}\n{rounds}", Piece::Hook.text());
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        // nothing comes there, and it does not end
        let line = child.stdin.take();
        let end = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                child.kill().unwrap();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let said = child.wait_with_output().unwrap().stdout;
        drop(line);
        assert_eq!(String::from_utf8_lossy(&said).trim(), "1000", "a listener was not ended");
    }
}
