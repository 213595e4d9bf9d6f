//! rsync's temporary names: what an interrupted transfer leaves behind (spec 4,
//! "Interruption").
//!
//! rsync makes `.NAME.XXXXXX` for files (six letters or digits) and `.NAME.PID` for links
//! and special files (up to seven digits), where NAME loses a leading dot of its own and is
//! cut so that the whole stays within 254 bytes. The cut never parts a multi-byte
//! character: high bytes at its end go. A dot at its end goes too, so that NAME may become
//! empty. Found out from rsync 3.5.

use crate::tree::Kind;

/// The longest name that rsync keeps before its suffix.
const LONGEST_BODY: usize = 246;

/// What stands before the suffix, the leading dot included.
fn stem(name: &[u8]) -> Vec<u8> {
    let body = name.strip_prefix(b".").unwrap_or(name);
    let kept = body.len().min(LONGEST_BODY);
    let mut stem = vec![b'.'];
    stem.extend_from_slice(&body[..kept]);
    if body.get(kept).is_some_and(|byte| *byte & 0x80 != 0) {
        while stem.last().is_some_and(|byte| *byte & 0x80 != 0) {
            stem.pop();
        }
    }
    if stem.last() == Some(&b'.') {
        stem.pop();
    }
    stem
}

/// What a directory entry's name says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suffix {
    /// Mixed letters and digits: only rsync gives such names.
    Random,
    /// One sort of letters, or digits: a person may have given the name (`.env.backup`,
    /// `.log.000001`).
    MaybeAWord,
}

/// Whether a directory entry may be what a transfer of `in_flight` (a bare name in the same
/// directory) has left behind. Only the name and kind are looked at; the caller sees
/// to it that the entry is younger than the transfer, and looks like its source.
#[must_use]
pub fn left_over(entry: &[u8], kind: Kind, in_flight: &[u8]) -> Option<Suffix> {
    if in_flight.is_empty() {
        return None;
    }
    let stem = stem(in_flight);
    let suffix = entry.strip_prefix(stem.as_slice()).and_then(|s| s.strip_prefix(b"."))?;
    let fits = match kind {
        Kind::Dir => false,
        Kind::File => suffix.len() == 6 && suffix.iter().all(u8::is_ascii_alphanumeric),
        _ => (1..=7).contains(&suffix.len()) && suffix.iter().all(u8::is_ascii_digit),
    };
    fits.then(|| if is_word(suffix) { Suffix::MaybeAWord } else { Suffix::Random })
}

/// Whether all of it, or all behind a first capital, is of one sort: lower case, capitals or
/// digits.
fn is_word(suffix: &[u8]) -> bool {
    let is_lower = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_lowercase);
    let capitalised = suffix.first().is_some_and(u8::is_ascii_uppercase) && is_lower(&suffix[1..]);
    is_lower(suffix)
        || capitalised
        || suffix.iter().all(u8::is_ascii_uppercase)
        || suffix.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rsync_leaves_behind_is_recognised() {
        let long = |c: char, n: usize| String::from(c).repeat(n);
        // These pairs were seen with rsync 3.5.0.
        let seen = [
            ("plain.txt".into(), ".plain.txt.8wcSNc".into()),
            (".hidden".into(), ".hidden.rclioP".into()),
            ("..two".into(), "..two.YgjIvV".into()),
            ("end.".into(), ".end.ZMeCE7".into()),
            ("dots..".into(), ".dots..GN0WrP".into()),
            ("sp ace\n".into(), ".sp ace\n.SmDk2u".into()),
            (long('c', 246), format!(".{}.6zWP3B", long('c', 246))),
            (long('d', 247), format!(".{}.F3nyuz", long('d', 246))),
            (long('g', 255), format!(".{}.NhZAQ1", long('g', 246))),
            (format!(".{}", long('h', 254)), format!(".{}.7dN4lq", long('h', 246))),
            (format!("{}.iiiiiiiii", long('i', 245)), format!(".{}.37BedT", long('i', 245))),
            (format!("{}.jjjjjjjj", long('j', 246)), format!(".{}.aIF0uQ", long('j', 246))),
            (format!("{}äkkkkkk", long('k', 244)), format!(".{}ä.aIF0uQ", long('k', 244))),
            (format!("{}älllll", long('l', 245)), format!(".{}.98EHDR", long('l', 245))),
            (format!("{}ämmmm", long('m', 246)), format!(".{}.Xoo36I", long('m', 246))),
            (long('ä', 127), ".VwYBz0".into()),
        ];
        for (name, left) in &seen {
            let is = |kind| left_over(left.as_bytes(), kind, name.as_bytes()).is_some();
            assert!(is(Kind::File), "{left} of {name}");
            assert!(!is(Kind::Dir) && !is(Kind::Symlink), "{left} of {name}");
        }
        let cut = [vec![b'n'; 245], b"\xff\xfe\xfdxx".to_vec()].concat();
        let left = [vec![b'.'], vec![b'n'; 245], b".stviMP".to_vec()].concat();
        assert_eq!(left_over(&left, Kind::File, &cut), Some(Suffix::Random));
    }

    #[test]
    fn links_and_special_files_are_left_with_a_number() {
        for (name, left, is) in [
            ("lnk", ".lnk.15766", true),
            (".hl", ".hl.15766", true),
            ("end2.", ".end2.15766", true),
            ("lnk", ".lnk.", false),
            ("lnk", ".lnk.1x", false),
            ("lnk", ".lnk.4nK8x2", false),
        ] {
            for kind in [Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::BlockDevice] {
                let got = left_over(left.as_bytes(), kind, name.as_bytes());
                assert_eq!(got, is.then_some(Suffix::MaybeAWord), "{left} of {name}");
            }
        }
    }

    #[test]
    fn names_of_the_user_are_not_taken_for_left_overs() {
        for (entry, in_flight) in [
            (".a.abcdef", "b"),
            (".a.abcde", "a"),
            (".a.abcdefg", "a"),
            (".a.abc-ef", "a"),
            ("a.abcdef", "a"),
            (".a", "a"),
            ("a", "a"),
            (".a.b.abcdef", "a"),
            (".abcdef", ""),
            (".abcdef", "a"),
        ] {
            let got = left_over(entry.as_bytes(), Kind::File, in_flight.as_bytes());
            assert_eq!(got, None, "{entry} of {in_flight}");
        }
    }

    #[test]
    fn a_suffix_that_somebody_may_have_written_is_told_from_chance() {
        for (suffix, is) in [
            ("backup", Suffix::MaybeAWord),
            ("BACKUP", Suffix::MaybeAWord),
            ("Backup", Suffix::MaybeAWord),
            ("202411", Suffix::MaybeAWord),
            ("bacKup", Suffix::Random),
            ("v10000", Suffix::Random),
            ("8wcSNc", Suffix::Random),
        ] {
            let got = left_over(format!(".env.{suffix}").as_bytes(), Kind::File, b".env");
            assert_eq!(got, Some(is), "{suffix}");
        }
    }
}
