//! Access control lists as values: from and to the bytes of Linux, from the words of
//! `getfacl -n`, to the words of `setfacl`. Pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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

    /// The same with what permission bits say of the owner.
    #[must_use]
    pub fn with_owner_of(mut self, mode: u16) -> Self {
        self.0.retain(|(whom, _)| *whom != Whom::Owner);
        self.0.insert((Whom::Owner, (mode >> 6 & 7) as u8));
        self
    }

    /// Everybody named in it: users, then groups.
    pub fn named(&self) -> impl Iterator<Item = Whom> + '_ {
        self.0
            .iter()
            .map(|(whom, _)| *whom)
            .filter(|whom| matches!(whom, Whom::User(_) | Whom::Group(_)))
    }

    /// The same with other numbers for those who are named.
    #[must_use]
    pub fn renumbered(&self, mut number: impl FnMut(Whom) -> Whom) -> Self {
        Acl(self.0.iter().map(|(whom, bits)| (number(*whom), *bits)).collect())
    }
}

impl Acl {
    /// Everybody whom it names.
    pub fn whom(&self) -> impl Iterator<Item = Whom> {
        self.0.iter().map(|(whom, _)| *whom)
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(acl.named().collect::<Vec<_>>(), [Whom::User(1234), Whom::Group(7)]);
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
        assert_eq!(acl.clone().with_owner_of(0o321).to_words(), "u::-wx,g::r-x,o::---");
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
