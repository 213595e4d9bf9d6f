//! What rsync complains about, in plain words. Pure.

use crate::filter::listing::decode;
use crate::tree::RelPath;

/// Complaints that rsync writes to standard output.
pub(super) fn is_complaint(line: &[u8]) -> bool {
    [
        &b"cannot delete non-empty directory: "[..],
        b"could not make way for ",
        b"skipping non-regular file ",
        b"file has vanished: ",
        b"symlink has no referent: ",
        b"WARNING: ",
        b"ERROR: ",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

/// Whether a line on standard error is rsync's own, and not of the remote shell on the way.
pub(super) fn is_of_rsync(line: &[u8]) -> bool {
    let own = [&b"rsync: "[..], b"rsync error: ", b"rsync warning: ", b"IO error ", b"@ERROR"];
    is_complaint(line) || own.iter().any(|start| line.starts_with(start))
}

/// A complaint's path, if it names one, and its words without the path; none for lines
/// that only repeat the exit status, and for what rsync puts right by itself.
pub(super) fn parse(line: &[u8]) -> Option<(Option<Vec<u8>>, String)> {
    let line = line.trim_ascii();
    let repeats = [
        &b"rsync error: some files/attrs were not transferred"[..],
        b"rsync warning: some files vanished",
    ];
    if line.is_empty() || repeats.iter().any(|start| line.starts_with(start)) {
        return None;
    }
    // rsync compares blocks by short sums first; where they deceive it (in a log of like lines),
    // it takes the file again by long ones, and says so if that fails too
    if line.starts_with(b"WARNING: ")
        && find(line, b" failed verification -- update ").is_some()
        && line.ends_with(b" (will try again).")
    {
        return None;
    }
    let line = without_role(line);
    // where in rsync's own source
    let line = find(line, b") at ")
        .filter(|_| line.starts_with(b"rsync error: "))
        .map_or(line, |end| &line[..=end]);
    let (before, path, after) = split_path(line);
    let [before, after] = [before, after].map(|text| String::from_utf8_lossy(text).into_owned());
    let words =
        format!("{}{after}", if after.starts_with(':') { before.trim_end() } else { &before });
    Some((path, plain(words.trim())))
}

/// Without `rsync: [sender] `.
fn without_role(line: &[u8]) -> &[u8] {
    let Some(rest) = line.strip_prefix(b"rsync: ") else { return line };
    if rest.first() != Some(&b'[') {
        return rest;
    }
    rest.iter().position(|b| *b == b']').map_or(rest, |end| rest[end + 1..].trim_ascii_start())
}

/// Cuts out what stands between the first and the last quote (the first of two such names),
/// or behind the colon of the complaints that do not quote.
fn split_path(line: &[u8]) -> (&[u8], Option<Vec<u8>>, &[u8]) {
    for start in
        [&b"cannot delete non-empty directory: "[..], b"could not make way for new regular file: "]
    {
        if let Some(path) = line.strip_prefix(start) {
            return (&start[..start.len() - 2], Some(decode(path)), b"");
        }
    }
    if let Some(rest) = line.strip_prefix(b"WARNING: ").or_else(|| line.strip_prefix(b"ERROR: "))
        && let Some(at) = find(rest, b" failed verification -- ")
    {
        return (b"", Some(decode(&rest[..at])), &rest[at..]);
    }
    let first = line.iter().position(|b| *b == b'"');
    let last = line.iter().rposition(|b| *b == b'"');
    match (first, last) {
        (Some(first), Some(last)) if first < last => {
            let quoted = &line[first + 1..last];
            // a link's target, or the name of an extended attribute
            let second: &[u8] =
                if line[..first].ends_with(b"xattr(") { b"\",\"" } else { b"\" -> \"" };
            let name = find(quoted, second).map_or(quoted, |end| &quoted[..end]);
            let before = line[..first].strip_suffix(b": ").unwrap_or(&line[..first]);
            (before, Some(decode(name)), &line[last + 1..])
        }
        _ => (line, None, b""),
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// rsync's words, with the cause in plain ones where we know better.
fn plain(words: &str) -> String {
    const KNOWN: [(&str, &str); 13] = [
        ("file has vanished", "it vanished while it was being transferred"),
        ("symlink has no referent", "the link points at nothing, so there is nothing to copy"),
        (UNVERIFIED, "it changed while it was being read; the next run takes it again"),
        ("cannot delete non-empty directory", "a directory that is not empty is in its place"),
        ("could not make way", "what is in its place cannot be removed"),
        ("skipping non-regular file", "it is no regular file and was left out"),
        ("No space left on device", "no space left on the receiving side"),
        ("Disk quota exceeded", "the disk quota of the receiving side is used up"),
        ("Read-only file system", "the file system is read-only"),
        ("Permission denied", "permission denied"),
        ("Operation not permitted", "this user may not do that"),
        (
            "Too many levels of symbolic links",
            "a directory above it is a link that leads out of the replica, which this rsync \
             does not follow",
        ),
        ("File name too long", "its name or path is too long"),
    ];
    let words: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match KNOWN.iter().find(|(theirs, _)| words.contains(theirs)) {
        Some((_, ours)) => format!("{ours} (rsync: {words})"),
        None => words,
    }
}

/// Whether the words are about a special file that cannot be made: this user may not do
/// that, or the system or file system has no such thing.
pub(super) fn is_unmakeable(text: &str) -> bool {
    const FOR_GOOD: [&str; 5] = [
        "Operation not permitted",
        "not supported",
        "Function not implemented",
        "Invalid argument",
        // of a socket, on systems where its path must be short
        "File name too long",
    ];
    text.contains("skipping non-regular file")
        || text.contains("mknod failed: ") && FOR_GOOD.iter().any(|why| text.contains(why))
}

const UNVERIFIED: &str = "failed verification -- update";

/// Whether the words are about a file that rsync put together from old and new parts, and
/// that did not become what was sent.
pub(super) fn is_unverified(text: &str) -> bool {
    text.contains(UNVERIFIED)
}

/// The file that a temporary `.NAME.XXXXXX` stands for.
pub(super) fn without_temporary(path: &RelPath) -> RelPath {
    let name = path.name();
    let inner = || {
        let body = name.strip_prefix(b".")?;
        let (name, random) = body.split_at(body.len().checked_sub(".XXXXXX".len())?);
        let random = random.strip_prefix(b".")?;
        (!name.is_empty() && random.iter().all(u8::is_ascii_alphanumeric)).then_some(name)
    };
    match (inner(), path.parent()) {
        (Some(name), Some(parent)) => parent.join(name),
        _ => path.clone(),
    }
}

/// The special file that a temporary `.NAME.PID` stands for; none: it has no such name.
pub(super) fn without_pid(path: &RelPath) -> Option<RelPath> {
    let name = path.name().strip_prefix(b".")?;
    let dot = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0)?;
    let pid = &name[dot + 1..];
    (!pid.is_empty() && pid.iter().all(u8::is_ascii_digit)).then_some(())?;
    Some(path.parent()?.join(&name[..dot]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_beside_the_name_of_an_attribute_is_told_by_itself() {
        let denied = b"rsync: [sender] get_xattr_data: lgetxattr(\"/r/a b\",\"user.a\",0) failed: \
            Permission denied (13)";
        let (path, words) = parse(denied).unwrap();
        assert_eq!(path.as_deref(), Some(&b"/r/a b"[..]));
        assert!(words.starts_with("permission denied (rsync: get_xattr_data"), "{words}");
        let plain = parse(b"rsync: rsync_xal_set: lsetxattr(\"/r/f\",\"user.a\") failed: x (1)");
        assert_eq!(plain.unwrap().0.as_deref(), Some(&b"/r/f"[..]));
        let link = parse(b"rsync: symlink \"/r/l\" -> \"t\" failed: x (1)").unwrap();
        assert_eq!(link.0.as_deref(), Some(&b"/r/l"[..]));
    }

    #[test]
    fn what_rsync_tries_again_is_no_complaint_until_that_fails() {
        let said = |line: &str| parse(line.as_bytes());
        assert_eq!(
            said("WARNING: a/b failed verification -- update discarded (will try again)."),
            None
        );
        let failed = said("ERROR: a/b failed verification -- update discarded.").unwrap();
        assert_eq!(failed.0.as_deref(), Some(&b"a/b"[..]));
        assert!(failed.1.starts_with("it changed while it was being read"), "{}", failed.1);
    }

    #[test]
    fn temporary_names_stand_for_their_files() {
        let path = |text: &str| RelPath::new(text).unwrap();
        for (name, file, special) in [
            ("d/.f.a1B2c3", "d/f", None),
            (".f.1", ".f.1", Some("f")),
            ("d/.a.b.12345678", "d/.a.b.12345678", Some("d/a.b")),
            (".k", ".k", None),
            (".", ".", None),
            ("f", "f", None),
            ("..12", "..12", None),
            (".f.", ".f.", None),
        ] {
            let Ok(name) = RelPath::new(name) else { continue };
            assert_eq!(without_temporary(&name), path(file), "{name:?}");
            assert_eq!(without_pid(&name), special.map(path), "{name:?}");
        }
    }
}
