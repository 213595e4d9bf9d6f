//! ACLs, extended attributes and owners of one entry (PRESERVE_ACL, PRESERVE_XATTR; spec 5).
//!
//! ACLs are values, from and to the bytes of Linux, from the words of `getfacl -n` and to those of
//! `setfacl`. Digests of them are compared between the sides too, so they are made of what is the
//! same on both: lists in this machine's numbers of users and groups, attributes by name.
//!
//! Owners go by name: whose numbers differ between the two machines keep their files, as with
//! rsync. Root stays root.

use super::local::look::LookRules;
use crate::process::{self, Command, Input, Stop};
use crate::system::{self, AtLink, Pinned};
use crate::tree::{Entry, Kind};
use rustix::fd::BorrowedFd;
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Whom an entry of a list is for. The order is that of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Whom {
    /// The owner.
    Owner,
    /// A user, in the numbers of the machine that runs osync.
    User(u32),
    /// The owning group.
    OwningGroup,
    /// A group, in the numbers of the machine that runs osync.
    Group(u32),
    /// The most that users, groups and the owning group get.
    Mask,
    /// Everybody else.
    Others,
}

/// An access control list: permission bits (0 to 7) by whom they are for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Acl(BTreeSet<(Whom, u8)>);

const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;

impl Acl {
    /// What permission bits alone say: the list of an entry that has none.
    #[must_use]
    pub fn of_mode(mode: u16) -> Self {
        let bits = |shift: u16| (mode >> shift & 7) as u8;
        let list = [(Whom::Owner, bits(6)), (Whom::OwningGroup, bits(3)), (Whom::Others, bits(0))];
        Acl(list.into())
    }

    /// Whether it says no more than permission bits can.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0
            .iter()
            .all(|(whom, _)| matches!(whom, Whom::Owner | Whom::OwningGroup | Whom::Others))
    }

    /// The bytes of `system.posix_acl_access` or `…_default`; `None`: they are no list.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
            return None;
        }
        let mut list = BTreeSet::new();
        for entry in entries.chunks_exact(8) {
            let short = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let whom = match short(0) {
                0x01 => Whom::Owner,
                0x02 => Whom::User(id),
                0x04 => Whom::OwningGroup,
                0x08 => Whom::Group(id),
                0x10 => Whom::Mask,
                0x20 => Whom::Others,
                _ => return None,
            };
            list.insert((whom, (short(2) & 7) as u8));
        }
        Some(Acl(list))
    }

    /// The bytes that Linux keeps.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (whom, bits) in &self.0 {
            let (tag, id): (u16, u32) = match *whom {
                Whom::Owner => (0x01, NOBODY),
                Whom::User(id) => (0x02, id),
                Whom::OwningGroup => (0x04, NOBODY),
                Whom::Group(id) => (0x08, id),
                Whom::Mask => (0x10, NOBODY),
                Whom::Others => (0x20, NOBODY),
            };
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&u16::from(*bits).to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    /// Takes in one line of `getfacl -n`, without a leading `default:`: `user:1000:rw-`.
    /// False if it is not such a line.
    pub fn learn(&mut self, line: &str) -> bool {
        let mut parts = line.split(':');
        let (Some(tag), Some(id), Some(bits), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let whom = match (tag, id.parse()) {
            ("user", Ok(id)) => Whom::User(id),
            ("group", Ok(id)) => Whom::Group(id),
            ("user", _) if id.is_empty() => Whom::Owner,
            ("group", _) if id.is_empty() => Whom::OwningGroup,
            ("mask", _) if id.is_empty() => Whom::Mask,
            ("other", _) if id.is_empty() => Whom::Others,
            _ => return false,
        };
        let mut sum = 0;
        for (letter, (wanted, bit)) in bits.bytes().zip([(b'r', 4), (b'w', 2), (b'x', 1)]) {
            match letter {
                _ if letter == wanted => sum |= bit,
                b'-' => {}
                _ => return false,
            }
        }
        bits.len() == 3 && self.0.insert((whom, sum))
    }

    /// The list in the words of `setfacl --set`: `u::rw-,u:1000:r--,…`.
    #[must_use]
    pub fn to_words(&self) -> String {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|(whom, bits)| {
                let who = match whom {
                    Whom::Owner => "u:".to_owned(),
                    Whom::User(id) => format!("u:{id}"),
                    Whom::OwningGroup => "g:".to_owned(),
                    Whom::Group(id) => format!("g:{id}"),
                    Whom::Mask => "m:".to_owned(),
                    Whom::Others => "o:".to_owned(),
                };
                let letter = |bit: u8, letter: char| if bits & bit != 0 { letter } else { '-' };
                format!("{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x'))
            })
            .collect();
        words.join(",")
    }

    /// Everybody named in it: users, then groups.
    pub fn named(&self) -> impl Iterator<Item = (Whose, u32)> + '_ {
        self.0.iter().filter_map(|(whom, _)| match whom {
            Whom::User(id) => Some((Whose::User, *id)),
            Whom::Group(id) => Some((Whose::Group, *id)),
            _ => None,
        })
    }

    /// The same with other numbers for those who are named.
    #[must_use]
    pub fn renumbered(&self, mut number: impl FnMut(Whom) -> Whom) -> Self {
        Acl(self.0.iter().map(|(whom, bits)| (number(*whom), *bits)).collect())
    }
}

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// What an entry has beyond mode, owner and group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// The access control list; `None`: nothing beyond the mode.
    pub access: Option<Acl>,
    /// What new entries of a directory get; `None`: nothing.
    pub default: Option<Acl>,
    /// Extended attributes: values by name.
    pub named: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Which attributes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wanted {
    /// Access control lists.
    pub acl: bool,
    /// Extended attributes.
    pub xattr: bool,
    /// Of all name spaces but `system`, and not only of `user`: what rsync carries between
    /// two super-users.
    pub all_spaces: bool,
}

impl Wanted {
    /// Whether there is anything to look at.
    #[must_use]
    pub fn any(self) -> bool {
        self.acl || self.xattr
    }

    /// Whether an extended attribute of this name takes part.
    #[must_use]
    pub fn takes(self, name: &[u8]) -> bool {
        if self.all_spaces {
            !name.is_empty() && !name.starts_with(b"system.")
        } else {
            name.starts_with(b"user.")
        }
    }
}

/// How an entry's attributes become those of its counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttributeChange {
    /// The access control list, whole; `None`: it stays.
    pub access: Option<Acl>,
    /// The default list of a directory; `None`: it stays, an empty one: it goes.
    pub default: Option<Acl>,
    /// Extended attributes that are made or get another value.
    pub set: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Extended attributes that go.
    pub remove: Vec<Vec<u8>>,
}

impl AttributeChange {
    /// What makes `mine` into `wanted`, whose permission bits are `mode`.
    #[must_use]
    pub fn between(mine: &Attributes, wanted: &Attributes, mode: u16) -> Self {
        let mut change = AttributeChange::default();
        if mine.access != wanted.access {
            change.access = Some(wanted.access.clone().unwrap_or_else(|| Acl::of_mode(mode)));
        }
        if mine.default != wanted.default {
            change.default = Some(wanted.default.clone().unwrap_or_default());
        }
        for (name, value) in &wanted.named {
            if mine.named.get(name) != Some(value) {
                change.set.insert(name.clone(), value.clone());
            }
        }
        let gone = mine.named.keys().filter(|name| !wanted.named.contains_key(*name));
        change.remove = gone.cloned().collect();
        change
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == AttributeChange::default()
    }
}

impl Attributes {
    /// Puts the digests into an entry.
    pub fn digest_into(&self, entry: &mut Entry) {
        let mut extra = entry.extra().clone();
        let list = |name, acl: &Option<Acl>| acl.as_ref().map(|acl| (name, acl.to_bytes()));
        let lists = [list(ACCESS, &self.access), list(DEFAULT, &self.default)];
        extra.acl = digest(lists.iter().flatten().map(|(name, acl)| (*name, acl.as_slice())));
        extra.xattr = digest(self.named.iter().map(|(name, value)| (&name[..], &value[..])));
        entry.set_extra(extra);
    }
}

fn digest<'a>(parts: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<[u8; 16]> {
    let mut hasher = blake3::Hasher::new();
    let mut any = false;
    for part in parts.flat_map(|(name, value)| [name, value]) {
        any = true;
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    any.then_some(short)
}

/// Adds the digests that `look` asks for.
///
/// # Errors
/// What the system says; a file system without attributes has none.
pub(super) fn add<N: Arg + Copy>(
    entry: &mut Entry,
    dir: BorrowedFd<'_>,
    name: N,
    look: LookRules,
) -> Result<()> {
    read(entry, dir, name, look)?.digest_into(entry);
    Ok(())
}

/// What an entry has, as far as `look` asks for it.
///
/// # Errors
/// As for [`add`].
pub(super) fn read<N: Arg + Copy>(
    entry: &Entry,
    dir: BorrowedFd<'_>,
    name: N,
    look: LookRules,
) -> Result<Attributes> {
    let follows = look.follows() && entry.kind != Kind::Symlink;
    let at_link = if follows { AtLink::Follow } else { AtLink::Stay };
    let there = system::Xattrs::of(dir, name, at_link)?;
    let mut found = Attributes::default();
    let wanted = look.attributes;
    if wanted.acl && entry.kind != Kind::Symlink {
        let list = |name| -> Result<Option<Acl>> {
            let bytes = there.value(name)?;
            Ok(bytes.and_then(|bytes| Acl::from_bytes(&bytes)))
        };
        found.access = list(ACCESS)?.filter(|acl| !acl.is_plain());
        if entry.kind.is_dir() {
            found.default = list(DEFAULT)?;
        }
    }
    if wanted.xattr {
        for name in there.names()?.split(|b| *b == 0).filter(|name| wanted.takes(name)) {
            if let Some(value) = there.value(name)? {
                found.named.insert(name.to_vec(), value);
            }
        }
    }
    Ok(found)
}

/// Changes the attributes of an entry; of a link only extended attributes.
///
/// # Errors
/// What the system says. Some may have been changed by then.
pub(super) fn change(now: &Entry, pinned: &Pinned<'_>, change: &AttributeChange) -> Result<()> {
    let there = pinned.xattrs();
    let is_link = now.kind == Kind::Symlink;
    let change_named = || {
        change.remove.iter().try_for_each(|name| there.remove(name))?;
        change.set.iter().try_for_each(|(name, value)| there.set(name, value))
    };
    match change_named() {
        // who may not write a file may not change its attributes, even as its owner
        Err(Errno::ACCESS) if !is_link && now.mode & 0o200 == 0 => {
            pinned.set_mode(now.mode | 0o200)?;
            let result = change_named();
            pinned.set_mode(now.mode)?;
            result?;
        }
        result => result?,
    }
    if let Some(acl) = change.access.as_ref().filter(|_| !is_link) {
        there.set(ACCESS, &acl.to_bytes())?;
    }
    match change.default.as_ref().filter(|_| now.kind.is_dir()) {
        None => Ok(()),
        Some(acl) if *acl == Acl::default() => there.remove(DEFAULT),
        Some(acl) => there.set(DEFAULT, &acl.to_bytes()),
    }
}

/// A user or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Whose {
    /// A user.
    User,
    /// A group.
    Group,
}

impl Whose {
    fn letter(self) -> char {
        match self {
            Whose::User => 'u',
            Whose::Group => 'g',
        }
    }

    fn database(self) -> &'static str {
        match self {
            Whose::User => "passwd",
            Whose::Group => "group",
        }
    }
}

/// What has been found out about both machines' owners.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Numbers over there in numbers here.
    here: HashMap<(Whose, u32), u32>,
    /// Numbers here in numbers over there.
    there: HashMap<(Whose, u32), u32>,
    /// The names that numbers here have; empty: none.
    names: HashMap<(Whose, u32), String>,
}

impl Owners {
    /// The owners of these entries whose names were not asked for yet.
    pub fn unknown(&self, entries: impl Iterator<Item: Borrow<Entry>>) -> BTreeSet<(Whose, u32)> {
        let mut found = BTreeSet::new();
        let mut last = (0, 0);
        for entry in entries {
            let Entry { uid, gid, .. } = *entry.borrow();
            if (uid, gid) == last {
                continue;
            }
            last = (uid, gid);
            for key in [(Whose::User, uid), (Whose::Group, gid)] {
                if key.1 != 0 && !self.here.contains_key(&key) {
                    found.insert(key);
                }
            }
        }
        found
    }

    /// Those among these whose names were not asked for yet.
    pub fn not_asked(&self, mut ids: BTreeSet<(Whose, u32)>) -> BTreeSet<(Whose, u32)> {
        ids.retain(|key| key.1 != 0 && !self.here.contains_key(key));
        ids
    }

    /// Somebody over there in this machine's numbers.
    pub fn whom_here(&self, whom: Whom) -> Whom {
        renumber(whom, &self.here)
    }

    /// Somebody here in the numbers over there.
    pub fn whom_there(&self, whom: Whom) -> Whom {
        renumber(whom, &self.there)
    }

    /// Those among these, in numbers here, who have a name and whose number over there is
    /// not known.
    pub fn names_to_ask(&mut self, ids: BTreeSet<(Whose, u32)>) -> Vec<((Whose, u32), String)> {
        let mut unknown = Vec::new();
        for (whose, id) in ids {
            let name = self.name(whose, id).to_owned();
            if !name.is_empty() && !self.there.contains_key(&(whose, id)) {
                unknown.push(((whose, id), name));
            }
        }
        unknown
    }

    /// Takes in a number over there; `None`: nobody there has that name.
    pub fn learn_there(&mut self, who: (Whose, u32), number: Option<u32>) {
        self.there.insert(who, number.unwrap_or(who.1));
    }

    /// A line of a request for names.
    pub fn line((whose, number): (Whose, u32)) -> String {
        format!("{}{number}\n", whose.letter())
    }

    /// Takes in an answer: `u1000 alice`, or `u1000 ` where there is no name.
    pub fn learn(&mut self, line: &str) {
        let Some((who, name)) = line.split_once(' ') else { return };
        let whose = match who.as_bytes().first() {
            Some(b'u') => Whose::User,
            Some(b'g') => Whose::Group,
            _ => return,
        };
        let Ok(number) = who[1..].parse::<u32>() else { return };
        self.learn_name(whose, number, name);
    }

    /// Takes in the name that a number has over there; empty: none.
    pub fn learn_name(&mut self, whose: Whose, number: u32, name: &str) {
        let here = if name.is_empty() { None } else { number_of(whose, name) };
        self.here.insert((whose, number), here.unwrap_or(number));
    }

    /// Whether all that were asked for have the same numbers on both machines.
    pub fn are_the_same(&self) -> bool {
        self.here.iter().all(|((_, there), here)| there == here)
    }

    /// A number here as it is over there.
    pub fn number_there(&self, whose: Whose, id: u32) -> u32 {
        self.there.get(&(whose, id)).copied().unwrap_or(id)
    }

    /// Puts this machine's numbers into an entry.
    pub fn translate(&self, entry: &mut Entry) {
        entry.uid = self.here.get(&(Whose::User, entry.uid)).copied().unwrap_or(entry.uid);
        entry.gid = self.here.get(&(Whose::Group, entry.gid)).copied().unwrap_or(entry.gid);
    }

    /// The name that a number has here, for the way back; empty: none.
    pub fn name(&mut self, whose: Whose, number: u32) -> &str {
        self.names.entry((whose, number)).or_insert_with(|| {
            if number == 0 { String::new() } else { name_of(whose, number).unwrap_or_default() }
        })
    }
}

fn renumber(whom: Whom, table: &HashMap<(Whose, u32), u32>) -> Whom {
    let number = |whose, id: u32| table.get(&(whose, id)).copied().unwrap_or(id);
    match whom {
        Whom::User(id) => Whom::User(number(Whose::User, id)),
        Whom::Group(id) => Whom::Group(number(Whose::Group, id)),
        other => other,
    }
}

/// The number of somebody with this name on this machine.
pub(super) fn number_of(whose: Whose, name: &str) -> Option<u32> {
    // getent takes digits for a number
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    field(whose, name, named(name), 2)?.parse().ok()
}

/// The name that a number has on this machine.
pub(super) fn name_of(whose: Whose, number: u32) -> Option<String> {
    let text = number.to_string();
    field(whose, &text, numbered(&text), 0)
}

pub(super) fn named(name: &str) -> impl Fn(&[&str]) -> bool {
    move |fields| fields[0] == name
}

pub(super) fn numbered(number: &str) -> impl Fn(&[&str]) -> bool {
    move |fields| fields[2] == number
}

/// Asks the system's databases, with all that is plugged into them; without `getent` (macOS,
/// small containers) the plain files.
fn field(whose: Whose, key: &str, is_it: impl Fn(&[&str]) -> bool, which: usize) -> Option<String> {
    let command = Command::new("getent").args([whose.database(), "--", key]);
    let lines = match process::output(&command, Input::Nothing, &Stop::new()) {
        Ok(output) => output.stdout,
        Err(_) => std::fs::read(format!("/etc/{}", whose.database())).ok()?,
    };
    field_in(&String::from_utf8_lossy(&lines), is_it, which)
}

/// A field of the first of these lines that is the one.
pub(super) fn field_in(
    lines: &str,
    is_it: impl Fn(&[&str]) -> bool,
    which: usize,
) -> Option<String> {
    lines.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() > 2 && is_it(&fields)).then(|| fields[which].to_owned())
    })
}

#[cfg(test)]
mod acl_tests {
    use super::*;

    const WORDS: &str = "u::rw-,u:1234:r--,g::r--,g:7:-wx,m::rwx,o::---";

    fn list() -> Acl {
        let mut acl = Acl::default();
        for line in
            ["user::rw-", "user:1234:r--", "group::r--", "group:7:-wx", "mask::rwx", "other::---"]
        {
            assert!(acl.learn(line), "{line}");
        }
        acl
    }

    #[test]
    fn lists_survive_the_way_through_bytes_and_words() {
        let acl = list();
        assert_eq!(acl.to_words(), WORDS);
        assert_eq!(Acl::from_bytes(&acl.to_bytes()).as_ref(), Some(&acl));
        assert!(!acl.is_plain());
        assert_eq!(acl.named().collect::<Vec<_>>(), [(Whose::User, 1234), (Whose::Group, 7)]);
        let moved = acl.renumbered(|whom| match whom {
            Whom::User(id) => Whom::User(id + 1),
            other => other,
        });
        assert_eq!(moved.to_words(), WORDS.replace("1234", "1235"));
    }

    #[test]
    fn the_bytes_are_those_of_linux() {
        // as getfattr shows those of: user::rw-,user:1234:r--,group::r--,mask::r--,other::r--
        let hex = "0200000001000600ffffffff02000400d204000004000400ffffffff10000400ffffffff20000400ffffffff";
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let acl = Acl::from_bytes(&bytes).unwrap();
        assert_eq!(acl.to_words(), "u::rw-,u:1234:r--,g::r--,m::r--,o::r--");
        assert_eq!(acl.to_bytes(), bytes);
        for broken in
            [&bytes[..3], &bytes[..11], &[3, 0, 0, 0], &[2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(Acl::from_bytes(broken), None);
        }
    }

    #[test]
    fn a_mode_is_a_plain_list() {
        let acl = Acl::of_mode(0o4750);
        assert_eq!(acl.to_words(), "u::rwx,g::r-x,o::---");
        assert!(acl.is_plain());
        let mut masked = acl;
        masked.learn("mask::r--");
        assert!(!masked.is_plain());
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for line in [
            "",
            "user",
            "user::",
            "user::xwr",
            "user:x:rwx:y",
            "user:alice:rwx",
            "flags::rwx",
            "mask:3:rwx",
        ] {
            assert!(!Acl::default().learn(line), "{line}");
        }
    }
}

#[cfg(test)]
mod owners_tests {
    use super::*;
    use crate::tree::Kind;

    #[test]
    fn owners_that_both_machines_know_by_name_are_translated() {
        let mut owners = Owners::default();
        // whatever 'daemon' is over there, it has its own number here
        let here = number_of(Whose::User, "daemon").unwrap();
        owners.learn("u4711 daemon");
        owners.learn("u4712 nobody-has-this-name");
        owners.learn("g4711 ");
        for (there, expected) in [(4711, here), (4712, 4712), (0, 0), (99, 99)] {
            let mut entry = Entry::new(Kind::File);
            (entry.uid, entry.gid) = (there, 4711);
            owners.translate(&mut entry);
            assert_eq!((entry.uid, entry.gid), (expected, 4711));
        }
        assert_eq!(owners.name(Whose::User, here), "daemon");
        assert_eq!(owners.name(Whose::User, 0), "");
        assert_eq!(owners.name(Whose::Group, 3_999_999), "");
    }

    #[test]
    fn each_owner_is_asked_for_once() {
        let mut owners = Owners::default();
        owners.learn("u1 daemon");
        let mut entry = Entry::new(Kind::File);
        (entry.uid, entry.gid) = (1, 5);
        let unknown = owners.unknown([&entry, &entry, &Entry::new(Kind::Dir)].into_iter());
        let lines: String = unknown.into_iter().map(Owners::line).collect();
        assert_eq!(lines, "g5\n");
    }
}
