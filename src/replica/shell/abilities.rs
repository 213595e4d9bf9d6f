//! What the file system over there can do, as `abilities.sh` found out (spec 8).

use super::ShellReplica;
use super::protocol::{Style, parse};
use super::session::OnStop;
use super::session::Piece;
use crate::replica::{ReplicaError, trials};
use crate::tree::names::{Case, Forms};
use crate::tree::{Abilities, NameLimit};

impl ShellReplica {
    pub(super) fn try_abilities(&mut self) -> Result<Abilities, ReplicaError> {
        let pieces = [Piece::Lock, Piece::Look, Piece::Abilities];
        let (status, answer) = self.ask(&pieces, "abilities", b"", OnStop::Finish)?;
        let style = self.link()?.style;
        if status != 0 {
            let words = String::from_utf8_lossy(&answer);
            let words = words.lines().last().unwrap_or_default();
            return Err(self.error(format!(
                "cannot try in .osync_workdir what its file system can do: {words}"
            )));
        }
        read(&answer, style).ok_or_else(|| self.garbled("abilities"))
    }
}

/// Reads the answer; `None` if it is malformed.
pub(super) fn read(answer: &[u8], style: Style) -> Option<Abilities> {
    const RECORDS: &[u8] = b"\nrecords\n";
    let at = answer.windows(RECORDS.len()).position(|part| part == RECORDS)?;
    let lines = std::str::from_utf8(&answer[..at]).ok()?;
    let records = answer[at + RECORDS.len()..].strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let entries: Option<Vec<_>> = records
        .filter(|record| !record.is_empty())
        .map(|record| parse(record, style).ok().map(|record| record.entry))
        .collect();
    let [first, second, renamed] = entries?.try_into().ok()?;
    let mut found = Abilities {
        one_inode: false,
        any_bytes: false,
        any_end: false,
        device_names: false,
        symlinks: false,
        hard_links: false,
        fifos: false,
        ..Abilities::default()
    };
    let (mut longest, mut is_root) = (255, false);
    let mut touched = None;
    for line in lines.lines() {
        let (word, value) = line.split_once(' ')?;
        let is_yes = value == "yes";
        match word {
            "case" => {
                found.naming.case = match value {
                    "folded" => Case::Folded,
                    "rewritten" => Case::Rewritten,
                    _ => Case::Distinct,
                }
            }
            "forms" => {
                found.naming.forms = match value {
                    "folded" => Forms::Folded,
                    "composed" => Forms::Composed,
                    "decomposed" => Forms::Decomposed,
                    _ => Forms::Distinct,
                }
            }
            "inodes" => found.one_inode = value == "one",
            "bytes" => found.any_bytes = is_yes,
            "ends" => found.any_end = is_yes,
            "devicenames" => found.device_names = is_yes,
            "refused" => found.refused_bytes.push(u8::from_str_radix(value, 8).ok()?),
            "longest" => {
                longest = value.parse().ok()?;
                found.longest_name = NameLimit::Bytes(longest);
            }
            "units" if is_yes => found.longest_name = NameLimit::Utf16(longest),
            "units" => {}
            "symlinks" => found.symlinks = is_yes,
            "hardlinks" => found.hard_links = is_yes,
            "fifos" => found.fifos = is_yes,
            "uid" => is_root = value == "0",
            "touched" => touched = Some(value == "fine"),
            _ => return None,
        }
    }
    // No tool makes a socket, and not everybody may make a device.
    (found.sockets, found.devices) = (found.fifos, found.fifos);
    found.modes = first.mode == 0o600 && second.mode == 0o751;
    found.owners = !is_root || (second.uid, second.gid) == (1, 1);
    found.sets_times = touched.is_some() && trials::is_near(&second);
    // a tool that sets whole seconds tells nothing of finer steps
    let is_even = second.mtime.secs() % 2 == 0;
    if found.sets_times && (touched == Some(true) || is_even) {
        found.time_step = trials::step_of(&second);
    }
    found.own_ctime = second.ctime != second.mtime;
    found.keeps_inodes = second.ino != 0 && second.ino == renamed.ino;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY: &[u8] =
        b"case distinct\nforms distinct\ninodes one\nbytes yes\nends yes\ndevicenames yes\n\
        longest 255\nunits no\nsymlinks yes\nhardlinks yes\nfifos yes\nuid 0\n\
        touched fine\nrecords\n\
        f 600 0 0 7 77 1 0 1700000000.5 1700000000.5 0/metadata//\0\
        f 751 1 1 7 77 1 0 1500000001.1234567890 1700000000.5 0/metadata//\0\
        f 751 1 1 7 77 1 0 1500000001.1234567890 1700000000.5 0/renamed//\0";

    #[test]
    fn an_ordinary_file_system_is_read_as_one() {
        assert_eq!(read(ORDINARY, Style::Gnu), Some(Abilities::default()));
        for cut in 0..ORDINARY.len() - 1 {
            assert_ne!(read(&ORDINARY[..cut], Style::Gnu), Some(Abilities::default()), "{cut}");
        }
    }

    #[test]
    fn what_a_file_system_of_windows_lacks_is_read() {
        let said =
            b"case folded\nforms distinct\nbytes no\nends yes\ndevicenames yes\nrefused 72\n\
            refused 174\nlongest 255\nunits yes\nuid 0\ntouched fine\nrecords\n\
            f 777 0 0 7 77 1 0 1700000000.0 1700000000.0 0/metadata//\0\
            f 777 0 0 7 77 1 0 1500000001.0000000000 1500000001.0 0/metadata//\0\
            f 777 0 0 7 78 1 0 1500000001.0000000000 1500000001.0 0/renamed//\0";
        let found = read(said, Style::Gnu).unwrap();
        assert_eq!(found.naming.case, Case::Folded);
        assert_eq!(found.refused_bytes, b":|");
        assert_eq!(found.longest_name, NameLimit::Utf16(255));
        assert_eq!(found.time_step, 1_000_000_000);
        assert!(!found.symlinks && !found.fifos && !found.hard_links && !found.modes);
        assert!(!found.owners && !found.own_ctime && !found.keeps_inodes && found.sets_times);
    }
}
