//! When what `backup/` and `deleted/` keep came there, and which of it no run may replace
//! (spec 8, "Kept versions"): pure.
//!
//! Each of the two directories has a record beside it, `backup.arrivals` and
//! `deleted.arrivals`: a line for each arrival, `SECONDS KIND PATH`. Lines are only ever
//! added, a batch at a time; of several for one path the last counts. Cleaning writes the
//! record anew when much of it is about what is gone.

use super::Keep;
use crate::tree::{Entry, RelPath};
use chrono::{Local, TimeZone as _};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const DAY: i64 = 86_400;

/// What a kept version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Replaced or deleted as planned. The next one of its name may replace it.
    Ordinary,
    /// It lost a conflict, or no scan has seen it: this may be the only copy of somebody's
    /// work. No run replaces it before its days are over.
    Protected,
}

/// How one kept entry came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Seconds since the epoch.
    pub at: i64,
    /// What it is.
    pub version: Version,
    /// It was given a name with a date later. That renewed its ctime, which therefore says
    /// nothing about its arrival.
    pub is_renamed: bool,
}

/// A line of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The path below `backup/` or `deleted/`.
    pub kept: RelPath,
    /// How it came.
    pub arrival: Arrival,
}

impl Line {
    /// Something comes now.
    pub fn now(kept: RelPath, version: Version, now: i64) -> Line {
        Line { kept, arrival: Arrival { at: now, version, is_renamed: false } }
    }

    fn write(&self, text: &mut Vec<u8>) {
        let kind = match (self.arrival.version, self.arrival.is_renamed) {
            (Version::Ordinary, false) => 'o',
            (Version::Protected, false) => 'p',
            (Version::Ordinary, true) => 'O',
            (Version::Protected, true) => 'P',
        };
        text.extend_from_slice(format!("{} {kind} ", self.arrival.at).as_bytes());
        for byte in self.kept.as_bytes() {
            match byte {
                b'\n' => text.extend_from_slice(b"\\n"),
                b'\\' => text.extend_from_slice(b"\\\\"),
                other => text.push(*other),
            }
        }
        text.push(b'\n');
    }
}

/// Lines as they are added to a record. They begin on a line of their own, whatever a power
/// cut has left at its end.
pub(super) fn added(lines: &[Line]) -> Vec<u8> {
    let mut text = vec![b'\n'];
    lines.iter().for_each(|line| line.write(&mut text));
    text
}

impl Keep {
    /// The name of its record in the work directory.
    #[must_use]
    pub fn record_name(self) -> &'static str {
        match self {
            Keep::Backup => "backup.arrivals",
            Keep::Deleted => "deleted.arrivals",
        }
    }
}

/// The record of one of the two directories.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Arrivals {
    of: BTreeMap<RelPath, Arrival>,
    /// How many lines it was read from.
    lines: usize,
}

impl Arrivals {
    /// Reads a record. What is torn or foreign is passed over; a kind that this version does
    /// not know is an ordinary one.
    pub fn read(text: &[u8]) -> Self {
        let mut arrivals = Arrivals::default();
        for piece in text.split(|byte| *byte == b'\n').filter(|piece| !piece.is_empty()) {
            arrivals.lines += 1;
            if let Some(line) = parse(piece) {
                arrivals.of.insert(line.kept, line.arrival);
            }
        }
        arrivals
    }

    /// Adds what an older version recorded, for directories alone: `SECONDS NAME/PATH` and a
    /// NUL for each, in one file for both. What is known already counts more.
    pub fn read_older(&mut self, text: &[u8], keep: Keep) {
        for piece in text.split(|byte| *byte == 0) {
            let Some((at, path)) = numbered(piece) else { continue };
            let path = path.strip_prefix(keep.name().as_bytes());
            let Some(path) = path.and_then(|path| path.strip_prefix(b"/")) else { continue };
            if let Ok(kept) = RelPath::new(path) {
                let line = Line::now(kept, Version::Ordinary, at);
                self.lines += 1;
                let known = self.of.get(&line.kept).is_some_and(|known| known.at >= at);
                if !known {
                    self.of.insert(line.kept, line.arrival);
                }
            }
        }
    }

    /// What is known of a kept entry.
    pub fn get(&self, kept: &RelPath) -> Option<Arrival> {
        self.of.get(kept).copied()
    }

    /// All that is known.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, Arrival)> {
        self.of.iter().map(|(kept, arrival)| (kept, *arrival))
    }

    /// All that is known, as lines.
    pub fn to_lines(&self) -> Vec<Line> {
        self.iter().map(|(kept, arrival)| Line { kept: kept.clone(), arrival }).collect()
    }

    /// Takes over lines that were added.
    pub fn add(&mut self, lines: &[Line]) {
        self.lines += lines.len();
        self.of.extend(lines.iter().map(|line| (line.kept.clone(), line.arrival)));
    }

    /// Forgets what `is_there` denies.
    pub fn forget_unless(&mut self, is_there: impl Fn(&RelPath) -> bool) {
        self.of.retain(|kept, _| is_there(kept));
    }

    /// Whether so many lines are about nothing any more that the record should be written
    /// anew.
    pub fn is_stale(&self) -> bool {
        let stale = self.lines.saturating_sub(self.of.len());
        stale > 0 && (self.of.is_empty() || stale > 100 + self.of.len() / 4)
    }

    /// The whole record; empty if it holds nothing. In the order of arrival, so that who
    /// cannot read all of it finds at its top how old the oldest is.
    pub fn to_text(&self) -> Vec<u8> {
        let mut lines = self.to_lines();
        lines.sort_by_key(|line| line.arrival.at);
        let mut text = Vec::new();
        lines.iter().for_each(|line| line.write(&mut text));
        text
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let (at, rest) = numbered(line)?;
    let [kind, b' ', path @ ..] = rest else { return None };
    let mut plain = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            },
            other => *other,
        });
    }
    let version = if matches!(kind, b'p' | b'P') { Version::Protected } else { Version::Ordinary };
    let kept = RelPath::new(plain).ok().filter(|kept| !kept.is_root())?;
    Some(Line { kept, arrival: Arrival { at, version, is_renamed: kind.is_ascii_uppercase() } })
}

/// A number, a space, and what follows.
fn numbered(piece: &[u8]) -> Option<(i64, &[u8])> {
    let space = piece.iter().position(|byte| *byte == b' ')?;
    let at = std::str::from_utf8(&piece[..space]).ok()?.parse().ok()?;
    Some((at, &piece[space + 1..]))
}

/// When a kept entry came, from what is recorded of it and when a directory above it came
/// whole; `None`: nothing tells.
///
/// Whoever puts something there without a record (osync 1.3, an older version) leaves a ctime
/// that is later than what is recorded of an earlier one of the name: the later counts. A
/// ctime that is the mtime is no evidence: some file systems have nothing but the mtime, and
/// a file put there by its own rename or link always got a later ctime.
pub(super) fn came(entry: &Entry, own: Option<Arrival>, above: Option<i64>) -> Option<i64> {
    if let Some(own) = own.filter(|own| own.is_renamed) {
        return Some(own.at);
    }
    let is_evidence = entry.ctime != entry.mtime || entry.kind.is_dir();
    let by_ctime = is_evidence.then(|| entry.ctime.secs());
    [own.map(|own| own.at), above, by_ctime].into_iter().flatten().max()
}

/// Whether something that came at `came` has been there for more than `days` days, as
/// `find -ctime +days` counts them: whole ones.
pub(super) fn is_old(came: i64, now: i64, days: u32) -> bool {
    now.saturating_sub(came) / DAY > i64::from(days)
}

/// The date that the name of a kept entry gets, `.YYYY.MM.DD-HH.MM.SS`: when it came.
pub(super) fn dated(came: i64) -> String {
    let date = Local.timestamp_opt(came, 0).earliest().unwrap_or_else(Local::now);
    date.format(".%Y.%m.%d-%H.%M.%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Kind, Stamp};

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn what_is_added_is_read_again_and_the_last_line_counts() {
        let odd = path("a/b\n c\\n");
        let lost = Line::now(path("x"), Version::Protected, 200);
        let renamed = Arrival { at: 7, version: Version::Protected, is_renamed: true };
        let mut text = added(&[Line::now(odd.clone(), Version::Ordinary, 100), lost.clone()]);
        text.extend(b"garbage\n300 o ../../etc\n5 q later\n99 o tor");
        text.extend(added(&[Line { kept: path("y"), arrival: renamed }]));
        text.extend(added(&[Line::now(odd.clone(), Version::Ordinary, 300)]));
        let read = Arrivals::read(&text);
        assert_eq!(read.get(&odd).unwrap().at, 300);
        assert_eq!(read.get(&path("x")), Some(lost.arrival));
        assert_eq!(read.get(&path("y")), Some(renamed));
        assert_eq!(read.get(&path("later")).unwrap().version, Version::Ordinary);
        assert_eq!(Arrivals::read(&read.to_text()).of, read.of);
    }

    #[test]
    fn what_an_older_version_recorded_is_read_too() {
        let mut read = Arrivals::read(b"500 p d\n");
        read.read_older(
            b"100 deleted/d\x00200 backup/e\x00300 deleted/f/g\x00junk\x005 deleted",
            Keep::Deleted,
        );
        assert_eq!(read.get(&path("d")).unwrap().at, 500);
        assert_eq!(read.get(&path("f/g")).unwrap().at, 300);
        assert_eq!(read.iter().count(), 2);
    }

    #[test]
    fn a_record_is_written_anew_when_much_of_it_is_about_nothing() {
        let lines: Vec<Line> =
            (0..1000).map(|n| Line::now(path(&format!("f{n}")), Version::Ordinary, n)).collect();
        let mut read = Arrivals::read(&added(&lines));
        assert!(!read.is_stale());
        read.forget_unless(|kept| *kept != path("f5"));
        assert!(!read.is_stale(), "one line more is no reason");
        read.forget_unless(|kept| kept.as_bytes().len() < 4);
        assert!(read.is_stale());
        assert!(read.to_text().starts_with(b"0 o f0\n1 o f1\n"));
    }

    #[test]
    fn an_arrival_is_taken_from_what_is_evidence() {
        let entry = |mtime, ctime| {
            let mut entry = Entry::new(Kind::File);
            (entry.mtime, entry.ctime) = (Stamp::new(mtime, 0), Stamp::new(ctime, 0));
            entry
        };
        let own = |at, is_renamed| Some(Arrival { at, version: Version::Ordinary, is_renamed });
        for (entry, own, above, expected) in [
            (entry(10, 50), None, None, Some(50)),
            (entry(10, 50), own(60, false), None, Some(60)),
            (entry(10, 50), own(40, false), None, Some(50)),
            (entry(10, 50), own(40, true), None, Some(40)),
            (entry(10, 50), None, Some(70), Some(70)),
            (entry(10, 10), None, None, None),
            (entry(10, 10), own(90, false), None, Some(90)),
            (entry(10, 10), None, Some(90), Some(90)),
        ] {
            assert_eq!(came(&entry, own, above), expected, "{entry:?} {own:?} {above:?}");
        }
    }

    #[test]
    fn whole_days_count() {
        assert!(!is_old(0, 2 * DAY - 1, 1) && is_old(0, 2 * DAY, 1) && !is_old(5, 0, 1));
    }
}
