//! The baseline as text for people (docs/state-format.md, "Looking at it").

use super::show::ShowError;
use super::{Header, Origin, Record, Recorded};
use crate::tree::path::escape;
use crate::tree::{Entry, Pair, Side, Stamp};
use chrono::DateTime;
use std::io::Write;

/// What stands above a task's paths.
pub(super) fn task(
    instance: &str,
    paths: u64,
    header: &Header,
    notes: &[&str],
    out: &mut dyn Write,
) -> Result<(), ShowError> {
    let from = match header.origin {
        Origin::Nothing => "nothing was recorded yet".to_owned(),
        Origin::Snapshot => {
            format!("recorded {} by osync {}", time(header.written_at), header.version)
        }
        Origin::Lists => {
            let Pair { initiator, target } = header.listed_at.map(time);
            format!("from the lists of osync 1.3 (initiator {initiator}, target {target})")
        }
    };
    writeln!(out, "task {}: {paths} path(s), {from}", escape(instance.as_bytes()))?;
    for note in notes {
        writeln!(out, "  {note}")?;
    }
    Ok(())
}

/// A path's line: where it was, what, mode, bytes, time, path. Where the sides differ in
/// any of that, each has a line.
pub(super) fn path(path: &[u8], record: &Record, out: &mut dyn Write) -> Result<(), ShowError> {
    let shown = Side::BOTH.map(|side| about(&record.was[side]));
    let mark = |side: Side| if record.skipped[side] { " (skipped deletion)" } else { "" };
    let path = escape(path);
    if shown[0] == shown[1] && record.skipped.agree() {
        let about = shown[0].as_deref().unwrap_or_default();
        writeln!(out, "both       {about}  {path}{}", mark(Side::Initiator))?;
        return Ok(());
    }
    for (side, about) in Side::BOTH.into_iter().zip(shown) {
        if let Some(about) = about {
            writeln!(out, "{:<9}  {about}  {path}{}", side.name(), mark(side))?;
        }
    }
    Ok(())
}

fn about(was: &Recorded) -> Option<String> {
    match was {
        Recorded::Absent => None,
        Recorded::Listed(_) => {
            Some(format!("{:<16} {:>4} {:>12} {:<20}", "in the list", "", "", ""))
        }
        Recorded::Seen(entry) => Some(entry_about(entry)),
    }
}

fn entry_about(entry: &Entry) -> String {
    let Entry { kind, mode, size, .. } = entry;
    let link = entry.link().map(|to| format!("-> {}  ", escape(to))).unwrap_or_default();
    format!("{:<16} {mode:04o} {size:>12} {:<20}{link}", kind.name(), time(entry.mtime))
}

fn time(time: Stamp) -> String {
    match DateTime::from_timestamp(time.secs(), time.nanos()).filter(|_| time.is_known()) {
        Some(date) => date.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => "at an unknown time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Extra, Kind};

    fn lines(record: &Record) -> String {
        let mut out = Vec::new();
        path(b"a\nb", record, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sides_that_agree_share_a_line_and_others_have_their_own() {
        let mut file = Entry::new(Kind::File);
        (file.mode, file.size, file.mtime) = (0o640, 12, Stamp::new(1_700_000_000, 5));
        let mut record = Record::in_step(file.clone(), file.clone());
        let line = "both       file             0640           12 2023-11-14T22:13:20Z  a\\nb\n";
        assert_eq!(lines(&record), line);
        record.was.target = Recorded::Listed(None);
        assert_eq!(lines(&record).lines().count(), 2);
        record.was.target = Recorded::Absent;
        record.skipped.initiator = true;
        let line = lines(&record);
        assert!(line.starts_with("initiator  file") && line.ends_with("b (skipped deletion)\n"));
    }

    #[test]
    fn links_show_where_they_point_to() {
        let mut link = Entry::new(Kind::Symlink);
        link.set_extra(Extra { link: Some(b"x\xff".to_vec().into()), ..Extra::default() });
        assert!(lines(&Record::in_step(link.clone(), link)).contains("-> x\\xFF"));
    }
}
