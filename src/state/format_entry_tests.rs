use super::*;

fn file() -> Entry {
    let mut entry = Entry::new(Kind::File);
    (entry.mtime, entry.ctime) = (Stamp::new(1_000, 5), Stamp::new(2_000, 6));
    entry
}

fn coded(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    put_entry(&mut out, &mut Context::default(), Side::Initiator, entry, None);
    out
}

fn read(bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut entry = Entry::new(Kind::File);
    let context = &mut Context::default();
    read_entry(&mut ByteReader::new(bytes), context, Side::Initiator, &mut entry, None)?;
    Ok(entry)
}

#[test]
fn a_time_of_birth_takes_room_only_where_it_is_no_other_time_of_the_entry() {
    let with = |btime: Stamp| {
        let mut entry = file();
        entry.btime = btime;
        let bytes = coded(&entry);
        assert_eq!(read(&bytes), Ok(entry));
        bytes.len()
    };
    let without = with(Stamp::UNKNOWN);
    assert_eq!(with(Stamp::new(1_000, 5)), without, "that of content");
    assert_eq!(with(Stamp::new(2_000, 6)), without, "that of change");
    assert_eq!(with(Stamp::new(2_001, 0)), without + 1, "full seconds near another");
    assert_eq!(with(Stamp::new(2_001, 1)), without + 5);
}

#[test]
fn nanoseconds_take_room_only_where_there_are_some() {
    let length = |mtime: Stamp, ctime: Stamp| {
        let mut entry = file();
        (entry.mtime, entry.ctime) = (mtime, ctime);
        let bytes = coded(&entry);
        assert_eq!(read(&bytes), Ok(entry));
        bytes.len()
    };
    let (full, exact) = (Stamp::new(1_000, 0), Stamp::new(1_000, 5));
    let (later, exactly_later) = (Stamp::new(1_001, 0), Stamp::new(1_001, 5));
    let least = length(full, full);
    assert_eq!(length(exact, exact), least + 4);
    assert_eq!(length(full, later), least + 2);
    assert_eq!(length(full, exactly_later), least + 6);
    assert_eq!(length(exact, exactly_later), least + 10);
}

#[test]
fn more_owners_than_a_block_numbers_come_back() {
    let owned = |number: u32| {
        let mut entry = file();
        (entry.uid, entry.gid) = (number, number / 2);
        entry
    };
    // all of them twice, so that those beyond the limit are asked for again
    let entries: Vec<Entry> = (0..70).chain(0..70).map(owned).collect();
    let (mut out, mut context) = (Vec::new(), Context::default());
    for entry in &entries {
        put_entry(&mut out, &mut context, Side::Target, entry, None);
    }
    let (mut reader, mut context) = (ByteReader::new(&out), Context::default());
    for expected in &entries {
        let mut entry = Entry::new(Kind::File);
        read_entry(&mut reader, &mut context, Side::Target, &mut entry, None).unwrap();
        assert_eq!(&entry, expected);
    }
    assert!(reader.is_done());
}

#[test]
fn what_this_version_does_not_know_is_damage() {
    let mut link = file();
    link.kind = Kind::Symlink;
    link.set_extra(Extra { link: Some((*b"x").into()), ..Extra::default() });
    let sound = coded(&link);
    assert_eq!(read(&sound), Ok(link));
    let changed = |at: usize, to: u8| {
        let mut bytes = sound.clone();
        bytes[at] = to;
        read(&bytes)
    };
    let high = sound[1];
    assert!(changed(1, high | 1 << 7).is_err(), "an unknown mark");
    assert!(changed(2, 1).is_err(), "an owner that no entry before it has");
    let parts = sound.len() - 3;
    assert_eq!(sound[parts..], [LINK, 1, b'x']);
    assert!(changed(parts, LINK | 1 << 5).is_err(), "an unknown part");
    for kind in 0..8 {
        let found = changed(0, sound[0] & !7 | kind).map(|entry| entry.kind);
        assert_eq!(found.ok(), Kind::ALL.get(usize::from(kind)).copied(), "kind {kind}");
    }
}
