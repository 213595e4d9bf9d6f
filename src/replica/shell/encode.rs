//! Names as data for the control shell. Pure.

use crate::tree::RelPath;

/// Adds one name as a line: as it stands behind `=`, or behind `%` in the form of
/// printf's `%b` where it holds a line end.
pub(super) fn datum(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.contains(&b'\n') {
        out.push(b'%');
        for byte in bytes {
            if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
                out.push(*byte);
            } else {
                out.extend_from_slice(format!("\\0{byte:03o}").as_bytes());
            }
        }
    } else {
        out.push(b'=');
        out.extend_from_slice(bytes);
    }
    out.push(b'\n');
}

/// A name in a form that every shell takes for one plain word between single quotes.
pub(super) fn quoted_datum(bytes: &[u8]) -> String {
    let mut out = String::from("'%");
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("\\0{byte:03o}"));
        }
    }
    out.push('\'');
    out
}

/// The directory that holds a path, and the name in it; the root is `.` in itself.
pub(super) fn split(path: &RelPath) -> (RelPath, &[u8]) {
    match path.parent() {
        Some(parent) => (parent, path.name()),
        None => (RelPath::root(), b"."),
    }
}

/// Adds paths as directories behind `>` and the names in them, and the end of the list.
/// Returns how often a directory begins.
pub(super) fn paths<'a>(out: &mut Vec<u8>, paths: impl Iterator<Item = &'a RelPath>) {
    let mut here: Option<RelPath> = None;
    for path in paths {
        let (parent, name) = split(path);
        if here.as_ref() != Some(&parent) {
            out.push(b'>');
            datum(out, parent.as_bytes());
            here = Some(parent);
        }
        datum(out, name);
    }
    out.extend_from_slice(b".\n");
}

/// A literal name as a pattern of `find` that matches nothing else.
pub(super) fn literal_pattern(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        if b"*?[]\\".contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_as_one_line() {
        for (name, expected) in [
            (&b"plain"[..], &b"=plain\n"[..]),
            (b"", b"=\n"),
            (b" a $(b) 'c' \\d\xff", b"= a $(b) 'c' \\d\xff\n"),
            (b"a\nb \\", b"%a\\0012b\\0040\\0134\n"),
        ] {
            let mut out = Vec::new();
            datum(&mut out, name);
            assert_eq!(out, expected);
        }
        assert_eq!(quoted_datum(b"/a'b\n"), "'%/a\\0047b\\0012'");
    }

    #[test]
    fn paths_of_one_directory_name_it_once() {
        let list: Vec<RelPath> = ["", "a", "d/x", "d/y", "b"]
            .iter()
            .map(|p| RelPath::new(p.as_bytes()).unwrap())
            .collect();
        let mut out = Vec::new();
        paths(&mut out, list.iter());
        assert_eq!(out, b">=\n=.\n=a\n>=d\n=x\n=y\n>=\n=b\n.\n");
    }
}
