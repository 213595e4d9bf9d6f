//! One connection to one remote `sh`: requests out, framed answers back (spec 5).
//!
//! ```text
//! → MARK 7 stat            a request; the mark is 128 random bits
//! → >=dir                  its data, a line each, and '.'
//! ← (noise)                whatever start-up files and banners print
//! ← MARK 7 begin
//! ← (the answer, any bytes)
//! ← MARK 7 end 0           the status of the request
//! ```
//! Nothing that is sent holds the mark before the other side has put it together itself,
//! so an echo is no answer; and nobody who names files over there can guess it.

use super::scripts::Piece;
use crate::process::{Stop, fault};
use crate::replica::connection::Connection;
pub(super) use crate::replica::connection::{
    ConnectionError as ChannelError, Excess, OnStop, Sink,
};
use crate::ssh::Ssh;
use std::collections::HashSet;

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

    /// Sends a request with its data (which end in `.`; `None`: the request has no data) and
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

    /// From now on this word, and no longer the one it was opened with, is heard.
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

#[cfg(test)]
mod tests {
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
