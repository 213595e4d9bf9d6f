//! The one connection of a run to a remote machine: bytes out, bytes back, and what becomes
//! of it when the run is to stop or the line is lost (spec 5). What the bytes mean is the
//! business of those who speak over it: the shell's channel and the peer's client.

use crate::config::SshLocation;
use crate::process::{self, Child, ChildInput, Exit, Stop, StopReason, fault};
use crate::ssh::{self, Login, Ssh, Use};
use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long the first answer may take once the connection is tried: ssh itself gives up
/// sooner on a host that does not answer, so this is for remote shells that hang.
const FIRST_ANSWER: Duration = Duration::from_secs(150);
/// How long the remote side may take to clean up behind itself at the end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long an answer that must be known is waited for once the run is to stop: from then
/// on a peer that hangs, or that never stops talking, counts as lost.
const AFTER_STOP: Duration = Duration::from_secs(10);
/// The same for the end of a connection that is given up.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// How often a wait looks up whether the run is to stop.
const LOOK_UP: Duration = Duration::from_millis(100);
/// How much is read at once, in bytes.
const CHUNK: usize = 16 * 1024;
/// Pieces of what was said that wait to be heard; then the other side has to wait. Far more
/// than the answers that can come while their request is still on its way out, or both sides
/// would wait for each other.
const MOST_CHUNKS: usize = 4096;

/// What to do about a login that leads to something else.
const A_SHELL_IS_NEEDED: &str =
    "; the login must lead to a POSIX shell that reads commands from its standard input";

/// What a filter that says nothing leaves to be guessed.
const REFUSED_IN_SILENCE: &str = "if a filter (ssh_filter.sh) stands in the host's authorized_keys, \
     _REMOTE_TOKEN (or --remote-token) has to be the word behind it";
/// The exit status of ssh where it could not connect; any other is that of the remote command.
const OF_SSH_ITSELF: i32 = 255;

/// Whether a request may be given up when the run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnStop {
    /// It only looks; its answer is skipped later.
    GiveUp,
    /// It must be known what became of it, so it gets some more time.
    Finish,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// The connection could not be made, or has ended.
    #[error("{0}")]
    Lost(String),
    /// The run is to stop.
    #[error("{}", stopped(*.0))]
    Stopped(StopReason),
}

fn stopped(reason: StopReason) -> &'static str {
    match reason {
        StopReason::HardLimit => "the run was ended because HARD_MAX_EXEC_TIME has passed",
        StopReason::Signal(_) => "the run was interrupted",
    }
}

/// After which silence the other side counts as hanging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Of somebody who gives a sign of life every few seconds. As long as ssh waits for a host.
    Minute,
    /// Of somebody who says nothing before the work is done, and whose work is to look.
    Hour,
}

impl Silence {
    fn duration(self) -> Duration {
        fault::limit(Duration::from_secs(match self {
            Silence::Minute => 60,
            Silence::Hour => 3600,
        }))
    }

    fn words(self) -> &'static str {
        match self {
            Silence::Minute => "a minute",
            Silence::Hour => "an hour",
        }
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Connection {
    child: Child,
    input: Option<ChildInput>,
    chunks: Receiver<Vec<u8>>,
    /// What has come and is not yet taken.
    buffer: Vec<u8>,
    stop: Stop,
    to: SshLocation,
    login: Login,
    /// Whether the first answer has come: until then the words of an error are those of a
    /// connection that cannot be made.
    has_answered: bool,
    /// Who is on the other side, for errors.
    speaker: &'static str,
    /// Whoever says nothing at all for so long hangs; `None`: a long silence says nothing.
    longest_silence: Option<Silence>,
    /// Bytes that travelled, for tests and measurements: out, back.
    pub travelled: (u64, u64),
}

impl Connection {
    /// Connects and starts a command over there.
    ///
    /// # Errors
    /// ssh cannot be started.
    pub fn open(ssh: &Ssh, remote_command: &str, stop: &Stop) -> Result<Self, ConnectionError> {
        let command = ssh.command(Use::Control, remote_command);
        // The control connection outlives a stop: locks are given back through it.
        let mut child = process::spawn(&command, &Stop::new(), Box::new(|_| ()))
            .map_err(|cause| ConnectionError::Lost(cause.to_string()))?;
        let lost = || ConnectionError::Lost("the connection has no input or output".to_owned());
        let input = child.take_stdin().ok_or_else(lost)?;
        let mut output = child.take_stdout().ok_or_else(lost)?;
        let (sender, chunks) = mpsc::sync_channel(MOST_CHUNKS);
        std::thread::Builder::new()
            .name("remote".into())
            .spawn(move || {
                let mut buffer = vec![0; CHUNK];
                loop {
                    match output.read(&mut buffer) {
                        Ok(0) | Err(_) => return,
                        Ok(count) if sender.send(buffer[..count].to_vec()).is_err() => return,
                        Ok(_) => {}
                    }
                }
            })
            .map_err(|cause| ConnectionError::Lost(format!("cannot start a thread: {cause}")))?;
        Ok(Connection {
            child,
            input: Some(input),
            chunks,
            buffer: Vec::new(),
            stop: stop.clone(),
            to: ssh.location().clone(),
            login: ssh.login(),
            has_answered: false,
            speaker: "remote shell",
            longest_silence: None,
            travelled: (0, 0),
        })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.travelled.0 += bytes.len() as u64;
        let sent = match &mut self.input {
            Some(input) => input.write_all(bytes),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        sent.map_err(|_| self.lost())
    }

    /// How long an answer is waited for: the first one for a time, later ones for ever.
    pub fn patience(&self, on_stop: OnStop) -> Wait {
        Wait::new(on_stop, (!self.has_answered).then(|| Instant::now() + FIRST_ANSWER))
    }

    /// From now on somebody else answers.
    pub fn speaks_to(&mut self, speaker: &'static str) {
        self.speaker = speaker;
    }

    /// From now on the other side says at least something that often while it works; `None`: a
    /// long silence says nothing.
    pub fn expects_signs_of_life(&mut self, longest_silence: Option<Silence>) {
        self.longest_silence = longest_silence;
    }

    /// The first answer has come.
    pub fn answered(&mut self) {
        self.has_answered = true;
    }

    /// Hands over all bytes before `delimiter`, at most about `most` of them, and eats that.
    ///
    /// # Errors
    /// The connection is lost or given up, or the run is to stop.
    pub fn up_to(
        &mut self,
        delimiter: &[u8],
        most: u64,
        wait: &mut Wait,
        sink: &mut Sink<'_>,
    ) -> Result<(), ConnectionError> {
        let mut handed = 0;
        loop {
            let mut taken = Ok(());
            let found = hand_over(&mut self.buffer, delimiter, &mut |bytes| {
                handed += bytes.len() as u64;
                taken = sink(bytes);
            });
            if let Err(Excess(what_it_does)) = taken {
                return Err(self.given_up(what_it_does));
            }
            if found == Delimiter::Here {
                return Ok(());
            }
            if handed > most {
                return Err(self.given_up("prints without end instead of answering"));
            }
            self.receive(wait)?;
        }
    }

    /// The next so many bytes, which the caller has capped.
    ///
    /// # Errors
    /// The connection is lost or given up, or the run is to stop.
    pub fn exactly(&mut self, count: usize, wait: &mut Wait) -> Result<Vec<u8>, ConnectionError> {
        while self.buffer.len() < count {
            self.receive(wait)?;
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// What has come and was not taken, for an error's words.
    pub fn untaken(&self) -> &[u8] {
        &self.buffer
    }

    fn receive(&mut self, wait: &mut Wait) -> Result<(), ConnectionError> {
        // counted, not measured: that this process itself was stopped for a time is nobody's
        // silence
        let mut silence = Duration::ZERO;
        loop {
            // even a peer that never stops talking is listened to no longer than this
            match wait.verdict(self.stop.reason()) {
                WaitDecision::GoOn => {}
                WaitDecision::Leave(reason) => return Err(ConnectionError::Stopped(reason)),
                WaitDecision::GiveUp => {
                    let what = match self.stop.reason() {
                        Some(reason) => format!("does not answer any more; {}", stopped(reason)),
                        None => "does not answer".to_owned(),
                    };
                    return Err(self.given_up(&what));
                }
            }
            if let Some(longest) = self.longest_silence.filter(|it| silence > it.duration()) {
                return Err(self.given_up(&format!(
                    "hangs: it has given no sign of life for {}; look there for a stopped \
                     process, or a disk that does not answer",
                    longest.words()
                )));
            }
            match self.chunks.recv_timeout(LOOK_UP) {
                Ok(chunk) => {
                    self.travelled.1 += chunk.len() as u64;
                    if self.buffer.is_empty() {
                        self.buffer = chunk;
                    } else {
                        self.buffer.extend_from_slice(&chunk);
                    }
                    return Ok(());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.lost()),
                Err(RecvTimeoutError::Timeout) => silence += LOOK_UP,
            }
        }
    }

    /// What is on the other side is no shell or peer of ours, or hangs: ends the connection.
    pub fn given_up(&mut self, what_it_does: &str) -> ConnectionError {
        self.close_within(LAST_PATIENCE);
        let mut text = format!("the {} on {} {what_it_does}", self.speaker, self.to.host);
        if !self.has_answered {
            text.push_str(A_SHELL_IS_NEEDED);
        }
        ConnectionError::Lost(text)
    }

    /// The connection is of no use any more: ends it, and says why in ssh's own words.
    pub fn lost(&mut self) -> ConnectionError {
        self.close();
        let said = String::from_utf8_lossy(&self.child.stderr()).into_owned();
        let words = excerpt(&said);
        let mut text = format!("the connection to {} was lost", self.to.host);
        if !self.has_answered {
            text = format!("cannot connect to {}", self.to.host);
        }
        if !words.is_empty() {
            text.push_str(": ");
            text.push_str(&words);
        } else if !self.has_answered
            && let Some(Exit::Code(code)) = self.child.wait(Duration::ZERO)
            && code != OF_SSH_ITSELF
        {
            text.push_str(&format!(
                ": the login works, but what was started there ended at once with status {code}; \
                 {REFUSED_IN_SILENCE}"
            ));
        }
        if let Some(remedy) = ssh::explain(&said, &self.to, self.login) {
            text.truncate(text.trim_end_matches('.').len());
            text.push_str("; ");
            text.push_str(&remedy);
        }
        ConnectionError::Lost(text)
    }

    /// A login that prints something and ends, without a word on standard error, told why.
    pub fn said_instead(&self, cause: ConnectionError, said: &[u8]) -> ConnectionError {
        let said = excerpt(&String::from_utf8_lossy(said));
        match cause {
            ConnectionError::Lost(text) if !self.has_answered && !said.is_empty() => {
                ConnectionError::Lost(format!("{text}; it said: {said}{A_SHELL_IS_NEEDED}"))
            }
            cause => cause,
        }
    }

    /// Replaces the [`Stop`] that ends its requests.
    pub fn set_stop(&mut self, stop: &Stop) {
        self.stop = stop.clone();
    }

    /// Whether there still is a connection.
    pub fn is_open(&self) -> bool {
        self.input.is_some()
    }

    /// Closes the input: the other side gives back its lock and ends.
    pub fn close(&mut self) {
        self.close_within(fault::limit(PATIENCE));
    }

    fn close_within(&mut self, patience: Duration) {
        self.input = None;
        // what still comes is of no use, and whoever writes it must not wait for us
        self.chunks = mpsc::sync_channel(0).1;
        self.child.finish(patience, LAST_PATIENCE);
    }
}

/// How long an answer is waited for.
pub(super) struct Wait {
    on_stop: OnStop,
    until: Option<Instant>,
    stopped: bool,
}

/// Whether to wait on.
#[derive(Debug, PartialEq, Eq)]
enum WaitDecision {
    GoOn,
    /// The run is to stop, and this answer is not needed.
    Leave(StopReason),
    /// It takes too long.
    GiveUp,
}

impl Wait {
    fn new(on_stop: OnStop, until: Option<Instant>) -> Self {
        Wait { on_stop, until, stopped: false }
    }

    fn verdict(&mut self, reason: Option<StopReason>) -> WaitDecision {
        if let Some(reason) = reason {
            if self.on_stop == OnStop::GiveUp {
                return WaitDecision::Leave(reason);
            }
            if !self.stopped {
                self.stopped = true;
                let until = Instant::now() + fault::limit(AFTER_STOP);
                self.until = Some(self.until.map_or(until, |earlier| earlier.min(until)));
            }
        }
        let is_late = self.until.is_some_and(|until| Instant::now() > until);
        if is_late { WaitDecision::GiveUp } else { WaitDecision::GoOn }
    }
}

/// What ssh and the other side said that matters: the last few lines on one.
fn excerpt(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !ssh::is_noise(line.as_bytes()))
        .collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}

/// What comes is more than can be, or not what can be; the words say what the other side does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Excess(pub &'static str);

/// What takes an answer as it comes.
pub(super) type Sink<'a> = dyn FnMut(&[u8]) -> std::result::Result<(), Excess> + 'a;

/// Whether a delimiter has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimiter {
    /// It has been eaten.
    Here,
    /// It may still come.
    NotYet,
}

/// Hands over what stands before the delimiter as far as that is certain.
pub(super) fn hand_over(
    buffer: &mut Vec<u8>,
    delimiter: &[u8],
    sink: &mut dyn FnMut(&[u8]),
) -> Delimiter {
    if let Some(at) = find(buffer, delimiter) {
        sink(&buffer[..at]);
        buffer.drain(..at + delimiter.len());
        return Delimiter::Here;
    }
    // it may have begun in the last few bytes
    let certain = buffer.len().saturating_sub(delimiter.len() - 1);
    sink(&buffer[..certain]);
    buffer.drain(..certain);
    Delimiter::NotYet
}

/// Where `needle`, which begins with a line end, first stands.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = hay[from..].iter().position(|b| *b == needle[0]) {
        let at = from + at;
        if hay[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_found_wherever_they_stand() {
        assert_eq!(find(b"abc\n\nM 1 x", b"\nM 1 "), Some(4));
        assert_eq!(find(b"abc\nM 1", b"\nM 1 "), None);
        assert_eq!(find(b"", b"\n"), None);
    }

    #[test]
    fn an_answer_is_waited_for_as_long_as_it_matters() {
        let stop = Some(StopReason::HardLimit);
        let past = Instant::now().checked_sub(Duration::from_secs(1));
        let mut wait = Wait::new(OnStop::GiveUp, None);
        assert_eq!(wait.verdict(None), WaitDecision::GoOn);
        assert_eq!(wait.verdict(stop), WaitDecision::Leave(StopReason::HardLimit));
        assert_eq!(Wait::new(OnStop::GiveUp, past).verdict(None), WaitDecision::GiveUp);
        let mut wait = Wait::new(OnStop::Finish, None);
        assert_eq!(wait.verdict(None), WaitDecision::GoOn);
        assert_eq!(wait.until, None);
        assert_eq!(wait.verdict(stop), WaitDecision::GoOn);
        assert!(wait.until.is_some());
        wait.until = past;
        assert_eq!(wait.verdict(stop), WaitDecision::GiveUp, "the time is not given again");
    }

    #[test]
    fn an_excerpt_is_the_end_of_what_was_said_without_banners() {
        let said = "Warning: Permanently added 'h'\r\n\r\na\nb\nc\nd\ne\n";
        assert_eq!(excerpt(said), "b / c / d / e");
    }
}
