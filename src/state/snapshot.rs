//! The snapshot file: the baseline with its header and a checksum (spec 3; docs/state-format.md).

use super::baseline::{Baseline, BaselineDamaged};
use super::format::{ByteReader, DecodeError, put_number, put_string};
use super::{Header, Identity, Origin};
use crate::tree::{Inode, Pair, RelPath, Side, Stamp};
use std::io::{self, Write};

/// The format that this osync writes. It reads all earlier ones too.
pub const VERSION: u64 = 2;

/// The fields that may follow at the end of a header since version 2: a tag, then a string with
/// the value. Unknown tags are ignored.
mod tag {
    /// Device and inode of the initiator's root.
    pub const INITIATOR_ROOT: u64 = 1;
    /// Device and inode of the target's root.
    pub const TARGET_ROOT: u64 = 2;
    /// Where file systems were mounted on the initiator.
    pub const INITIATOR_MOUNTS: u64 = 3;
    /// Where file systems were mounted on the target.
    pub const TARGET_MOUNTS: u64 = 4;
    /// The number of the run.
    pub const RUN: u64 = 5;
}

const MAGIC: &[u8] = b"osync snapshot\n";
const CHECKSUM_BYTES: usize = 32;

/// BLAKE3 of a file's bytes.
pub type Digest = [u8; 32];

/// What tells a file from one that replaced it, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub mtime: Stamp,
}

/// The list of one side as it was written with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenList {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its file: as long as this is the same, the list need not be read.
    pub stamp: FileStamp,
}

/// Recognises the list of one side as one that this osync wrote, and not osync 1.3 since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListMark {
    /// The list that belongs to the snapshot.
    pub written: Option<WrittenList>,
    /// The list that this snapshot's list replaced. It is still there if the run was killed
    /// between writing the snapshot and the list.
    pub replaced: Option<Digest>,
}

/// Why a snapshot cannot be used. It never counts as "nothing existed".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It was written by osync, but was changed or cut since.
    #[error(
        "the snapshot is damaged ({0}). Restore the file from a backup, or move it away: then \
         the lists beside it say which paths existed. --initialize starts over with the present trees"
    )]
    Damaged(String),
    /// It is some other file.
    #[error(
        "this is not a snapshot of osync. Move it away, or choose another state directory or \
         --instance-id. --initialize starts over with the present trees"
    )]
    Foreign,
    /// It was written by a later osync.
    #[error(
        "the snapshot has format {0}, this osync reads up to format {VERSION}. Use the newer osync \
         that wrote it, or move it away: then the lists beside it say which paths existed"
    )]
    Newer(u64),
}

impl From<DecodeError> for SnapshotError {
    fn from(damaged: DecodeError) -> Self {
        SnapshotError::Damaged(damaged.to_string())
    }
}

impl From<BaselineDamaged> for SnapshotError {
    fn from(damaged: BaselineDamaged) -> Self {
        SnapshotError::Damaged(damaged.to_string())
    }
}

/// Writes a snapshot of a baseline's paths with a header.
///
/// # Errors
/// Those of `out`.
pub fn write(
    header: &Header,
    baseline: &Baseline,
    marks: &Pair<ListMark>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut head = MAGIC.to_vec();
    put_number(&mut head, VERSION);
    let header = encode_header(header, marks);
    put_string(&mut head, &header);
    put_number(&mut head, baseline.body().len() as u64);
    let mut hasher = blake3::Hasher::new();
    for part in [&head[..], baseline.body()] {
        hasher.update(part);
        out.write_all(part)?;
    }
    out.write_all(hasher.finalize().as_bytes())
}

/// A snapshot as bytes.
#[cfg(any(test, fuzzing))]
pub fn encode(baseline: &Baseline, marks: &Pair<ListMark>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(baseline.body().len() + 512);
    // writing into memory cannot fail
    let _ = write(baseline.header(), baseline, marks, &mut bytes);
    bytes
}

/// Reads a snapshot: its checksum, its header, and whether its directories are complete.
///
/// # Errors
/// It is damaged, foreign, or from a newer version.
pub fn decode(bytes: Vec<u8>) -> Result<(Baseline, Pair<ListMark>), SnapshotError> {
    if !bytes.starts_with(MAGIC) {
        return Err(if MAGIC.starts_with(&bytes) {
            SnapshotError::Damaged("it is cut short".to_owned())
        } else {
            SnapshotError::Foreign
        });
    }
    // Every version ends with a checksum of all before it. So a damaged file is not taken for one
    // of a newer version.
    let short = || SnapshotError::Damaged("it is cut short".to_owned());
    let end = bytes.len().checked_sub(CHECKSUM_BYTES).filter(|end| *end >= MAGIC.len());
    let (content, checksum) = bytes.split_at(end.ok_or_else(short)?);
    if blake3::hash(content).as_bytes() != checksum {
        return Err(SnapshotError::Damaged("its checksum is wrong".to_owned()));
    }
    let mut reader = ByteReader::new_at(content, MAGIC.len());
    let version = reader.number()?;
    if version > VERSION {
        return Err(SnapshotError::Newer(version));
    }
    let (header, marks) = decode_header(reader.string()?, version)?;
    let length: usize = reader.small()?;
    let start = reader.at();
    reader.take(length)?;
    if !reader.is_done() {
        return Err(reader.damaged("there are bytes after the paths").into());
    }
    let body = start..start + length;
    Ok((Baseline::from_bytes(header, bytes, body)?, marks))
}

fn encode_header(header: &Header, marks: &Pair<ListMark>) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, header.version.as_bytes());
    put_stamp(&mut out, header.written_at);
    for (side, marks) in marks.iter() {
        put_optional(&mut out, header.identities[side].as_ref().map(|one| one.0.as_bytes()));
        put_stamp(&mut out, header.listed_at[side]);
        out.push(u8::from(marks.written.is_some()));
        if let Some(WrittenList { digest, stamp }) = &marks.written {
            out.extend_from_slice(digest);
            put_number(&mut out, stamp.ino);
            put_number(&mut out, stamp.size);
            put_stamp(&mut out, stamp.mtime);
        }
        out.push(u8::from(marks.replaced.is_some()));
        out.extend_from_slice(marks.replaced.as_ref().map_or(&[], <[u8; 32]>::as_slice));
    }
    // Once said which attributes had been asked for through rsync; none are any more.
    out.push(0);
    for (side, root) in header.roots.iter() {
        if let Some(root) = root {
            let mut value = Vec::new();
            put_number(&mut value, root.dev.into());
            put_number(&mut value, root.ino);
            put_tagged(&mut out, root_tag(side), &value);
        }
    }
    for (side, mounts) in header.mounts.iter() {
        if !mounts.is_empty() {
            let mut value = Vec::new();
            mounts.iter().for_each(|path| put_string(&mut value, path.as_bytes()));
            put_tagged(&mut out, mounts_tag(side), &value);
        }
    }
    if let Some(run) = header.run {
        let mut value = Vec::new();
        put_number(&mut value, run);
        put_tagged(&mut out, tag::RUN, &value);
    }
    out
}

fn mounts_tag(side: Side) -> u64 {
    match side {
        Side::Initiator => tag::INITIATOR_MOUNTS,
        Side::Target => tag::TARGET_MOUNTS,
    }
}

fn root_tag(side: Side) -> u64 {
    match side {
        Side::Initiator => tag::INITIATOR_ROOT,
        Side::Target => tag::TARGET_ROOT,
    }
}

fn put_tagged(out: &mut Vec<u8>, tag: u64, value: &[u8]) {
    put_number(out, tag);
    put_string(out, value);
}

/// Reads the tagged fields at the end of a header into `header`.
fn read_tagged_fields(reader: &mut ByteReader<'_>, header: &mut Header) -> Result<(), DecodeError> {
    let mut before = 0;
    while !reader.is_done() {
        let tag = reader.number()?;
        if tag <= before {
            return Err(reader.damaged("the fields of its header are out of order"));
        }
        before = tag;
        let mut value = ByteReader::new(reader.string()?);
        match tag {
            tag::INITIATOR_ROOT | tag::TARGET_ROOT => {
                let side = if tag == tag::INITIATOR_ROOT { Side::Initiator } else { Side::Target };
                header.roots[side] = Some(Inode { dev: value.small()?, ino: value.number()? });
            }
            tag::INITIATOR_MOUNTS | tag::TARGET_MOUNTS => {
                let side =
                    if tag == tag::INITIATOR_MOUNTS { Side::Initiator } else { Side::Target };
                while !value.is_done() {
                    let path = RelPath::new(value.string()?).ok().filter(|path| !path.is_root());
                    let path = path.ok_or_else(|| value.damaged("a mount point is not a path"))?;
                    header.mounts[side].push(path);
                }
            }
            tag::RUN => header.run = Some(value.number()?),
            // A field of a later osync, which this one does not need.
            _ => continue,
        }
        if !value.is_done() {
            return Err(reader.damaged("a field of its header is too long"));
        }
    }
    Ok(())
}

fn decode_header(bytes: &[u8], format: u64) -> Result<(Header, Pair<ListMark>), DecodeError> {
    let mut reader = ByteReader::new(bytes);
    let version = text(&mut reader)?;
    let written_at = stamp(&mut reader)?;
    let mut side = || -> Result<_, DecodeError> {
        let identity = if reader.flag()? { Some(Identity(text(&mut reader)?)) } else { None };
        let listed_at = stamp(&mut reader)?;
        let written = if reader.flag()? { Some(written_list(&mut reader)?) } else { None };
        let replaced = if reader.flag()? { Some(reader.array()?) } else { None };
        Ok((identity, listed_at, ListMark { written, replaced }))
    };
    let (initiator, target) = (side()?, side()?);
    if format > 1 || !reader.is_done() {
        skip_covered(&mut reader, format)?;
    }
    let mut header = Header {
        origin: Origin::Snapshot,
        identities: Pair::new(initiator.0, target.0),
        written_at,
        version,
        listed_at: Pair::new(initiator.1, target.1),
        roots: Pair::default(),
        mounts: Pair::default(),
        run: None,
    };
    if format > 1 {
        read_tagged_fields(&mut reader, &mut header)?;
    }
    if !reader.is_done() {
        return Err(reader.damaged("there are bytes after its header"));
    }
    Ok((header, Pair::new(initiator.2, target.2)))
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_string(out, bytes);
    }
}

fn put_stamp(out: &mut Vec<u8>, time: Stamp) {
    out.extend_from_slice(&time.secs().to_le_bytes());
    out.extend_from_slice(&time.nanos().to_le_bytes());
}

fn stamp(reader: &mut ByteReader<'_>) -> Result<Stamp, DecodeError> {
    let secs = i64::from_le_bytes(reader.array()?);
    Ok(Stamp::new(secs, u32::from_le_bytes(reader.array()?)))
}

/// The byte that once told which attributes had been read through rsync, which is no longer done.
/// Version 1 omits it if it would be 0.
fn skip_covered(reader: &mut ByteReader<'_>, version: u64) -> Result<(), DecodeError> {
    let [bits] = reader.array()?;
    if bits > 7 || (bits == 0 && version == 1) {
        return Err(reader.damaged("the byte that tells which attributes were read has no meaning"));
    }
    Ok(())
}

fn text(reader: &mut ByteReader<'_>) -> Result<String, DecodeError> {
    let bytes = reader.string()?.to_vec();
    String::from_utf8(bytes).map_err(|_| reader.damaged("a text is not UTF-8"))
}

fn written_list(reader: &mut ByteReader<'_>) -> Result<WrittenList, DecodeError> {
    let digest = reader.array()?;
    let (ino, size) = (reader.number()?, reader.number()?);
    Ok(WrittenList { digest, stamp: FileStamp { ino, size, mtime: stamp(reader)? } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::{any_records, path, seen};
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            origin: Origin::Snapshot,
            identities: Pair::new(Some(Identity("one".to_owned())), None),
            written_at: Stamp::new(1_700_000_000, 5),
            version: "2.0.0".to_owned(),
            listed_at: Pair::new(Stamp::new(-1, 0), Stamp::UNKNOWN),
            roots: Pair::new(Some(Inode { dev: 0x10_0003, ino: 2 }), None),
            mounts: Pair::new(vec![path("disk"), path("m/n")], Vec::new()),
            run: Some(300),
        }
    }

    fn marks() -> Pair<ListMark> {
        let stamp = FileStamp { ino: 77, size: 1 << 40, mtime: Stamp::new(3, 4) };
        let one =
            ListMark { written: Some(WrittenList { digest: [1; 32], stamp }), replaced: None };
        Pair::new(one, ListMark { written: None, replaced: Some([2; 32]) })
    }

    fn sample() -> Vec<u8> {
        let paths = ["a", "a/b", "c"].map(|p| (path(p), seen(3)));
        encode(&Baseline::from_records(header(), paths), &marks())
    }

    /// A file whose checksum is right, whatever it holds.
    fn sealed(content: &[u8]) -> Vec<u8> {
        [content, blake3::hash(content).as_bytes()].concat()
    }

    #[test]
    fn a_snapshot_comes_back_with_its_header_and_marks() {
        let (baseline, back) = decode(sample()).unwrap();
        assert_eq!((baseline.header(), back), (&header(), marks()));
        assert_eq!(baseline.len(), 3);
        assert_eq!(encode(&baseline, &back), sample());
    }

    #[test]
    fn the_header_of_version_1_ends_with_what_the_digests_cover_if_anything() {
        let none =
            Header { roots: Pair::default(), mounts: Pair::default(), run: None, ..header() };
        let mut plain = encode_header(&none, &marks());
        plain.pop();
        for bits in 0..=255_u8 {
            let bytes = [&plain[..], &[bits]].concat();
            assert_eq!(decode_header(&bytes, 1).is_ok(), (1..=7).contains(&bits), "{bits}");
            assert_eq!(decode_header(&bytes, 2).is_ok(), bits <= 7, "{bits}");
        }
        assert_eq!(decode_header(&plain, 1).unwrap().0, none);
        assert!(decode_header(&plain, 2).is_err(), "version 2 always has the byte");
        assert!(decode_header(&[&plain[..], &[1, 1]].concat(), 1).is_err(), "and nothing more");
    }

    #[test]
    fn fields_of_a_later_osync_are_passed_over_and_those_out_of_order_are_damage() {
        let with = |fields: &[(u64, &[u8])]| {
            let (roots, mounts) = (Pair::default(), Pair::default());
            let mut bytes =
                encode_header(&Header { roots, mounts, run: None, ..header() }, &marks());
            for (tag, value) in fields {
                put_tagged(&mut bytes, *tag, value);
            }
            decode_header(&bytes, 2).map(|(header, _)| header)
        };
        let known = with(&[(2, &[5, 7]), (1000, b"whatever")]).unwrap();
        assert_eq!(known.roots, Pair::new(None, Some(Inode { dev: 5, ino: 7 })));
        let mounts = with(&[(4, b"\x01a\x03b/c")]).unwrap().mounts;
        assert_eq!(mounts, Pair::new(Vec::new(), vec![path("a"), path("b/c")]));
        let bad: [&[(u64, &[u8])]; 8] = [
            &[(3, b"\x02a")],
            &[(3, b"\x00")],
            &[(4, b"\x02..")],
            &[(2, &[5, 7]), (1, &[5, 7])],
            &[(2, &[5, 7]), (2, &[5, 7])],
            &[(0, b"")],
            &[(1, &[5])],
            &[(1, &[5, 7, 9])],
        ];
        for fields in bad {
            assert!(with(fields).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn every_single_changed_missing_or_added_byte_is_noticed() {
        let whole = sample();
        for at in 0..whole.len() {
            for change in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let error = decode(bytes).unwrap_err();
                let foreign = error == SnapshotError::Foreign;
                assert_eq!(foreign, at < MAGIC.len(), "byte {at}: {error}");
            }
            assert!(matches!(decode(whole[..at].to_vec()), Err(SnapshotError::Damaged(_))), "{at}");
        }
        assert!(matches!(decode([&whole[..], b"x"].concat()), Err(SnapshotError::Damaged(_))));
    }

    #[test]
    fn damage_behind_a_right_checksum_is_noticed_too() {
        let whole = sample();
        let content = &whole[..whole.len() - CHECKSUM_BYTES];
        for at in MAGIC.len()..content.len() {
            for change in 1..=255 {
                let mut bytes = content.to_vec();
                bytes[at] ^= change;
                if let Ok((baseline, _)) = decode(sealed(&bytes)) {
                    let sound = baseline.check().is_ok();
                    assert_eq!(baseline.records().all(|item| item.is_ok()), sound, "{at}");
                }
            }
            assert!(decode(sealed(&content[..at])).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_no_snapshot_or_a_newer_one_says_so() {
        let newer = sealed(&[MAGIC, b"\x03whatever"].concat());
        for (bytes, expected) in [
            (b"a.txt\ndocs\n".to_vec(), "not a snapshot"),
            (Vec::new(), "cut short"),
            (b"osync snap".to_vec(), "cut short"),
            (newer, "format 3"),
        ] {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("away"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_baseline_survives_the_file(given in any_records()) {
            let baseline = Baseline::from_records(header(), given);
            let (back, _) = decode(encode(&baseline, &marks())).unwrap();
            prop_assert_eq!(back.body(), baseline.body());
            prop_assert_eq!(back.len(), baseline.len());
        }
    }
}
