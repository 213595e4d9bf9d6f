//! Waiting until what was written is on the disk over there (8-knowing, "On the disk").

use super::ShellReplica;
use super::channel::OnStop;
use super::encode::datum;
use super::scripts::Piece;
use crate::replica::{Flush, Flushed, ReplicaError};
use crate::tree::RelPath;

impl ShellReplica {
    pub(super) fn flush_there(&mut self, what: &Flush) -> Result<Flushed, ReplicaError> {
        let mut data = Vec::new();
        let root = RelPath::root();
        for dir in std::iter::once(&root).chain(&what.file_systems) {
            datum(&mut data, dir.as_bytes());
        }
        data.extend_from_slice(b".\n");
        let words = self.asking("flush");
        let (status, answer) = self.ask(&[Piece::Flush], &words, &data, OnStop::Finish)?;
        match (status, &answer[..]) {
            (0, answer) if answer.ends_with(b"done\n") => Ok(Flushed::Yes),
            (0, answer) if answer.ends_with(b"missing\n") => Ok(Flushed::NoTool),
            _ => {
                let said = String::from_utf8_lossy(&answer);
                Err(self.error(format!(
                    "what was written cannot be flushed to the disk over there: {}",
                    said.trim()
                )))
            }
        }
    }
}
