//! Commands of the user's on the other machine (spec 7, "Hooks").

use super::ShellReplica;
use super::channel::{ChannelError, OnStop, Room};
use super::encode::datum;
use super::scripts::Piece;
use crate::replica::{HookResult, ReplicaError};
use std::time::Duration;

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
mod tests {
    use super::*;

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
}
