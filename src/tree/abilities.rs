//! What a file system can store (spec 8, "What a file system can do").

use super::entry::Kind;
use super::names::Naming;
use serde::{Deserialize, Serialize};

/// What a file system can do, as the trials of a run found out.
#[derive(Clone, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools)] // one for each ability
pub struct Abilities {
    /// Which spellings it takes for the same name.
    pub naming: Naming,
    /// The longest name it allows.
    pub longest_name: NameLimit,
    /// Bytes that no name may hold, besides NUL and `/`.
    pub refused_bytes: Vec<u8>,
    /// Names may hold bytes that are not UTF-8.
    pub any_bytes: bool,
    /// Names may end with a dot or a space.
    pub any_end: bool,
    /// `con`, `nul` and the like are allowed as names.
    pub device_names: bool,
    /// It has symbolic links.
    pub symlinks: bool,
    /// A file can have several names.
    pub hard_links: bool,
    /// It has named pipes.
    pub fifos: bool,
    /// It has Unix sockets.
    pub sockets: bool,
    /// It has device nodes. Also true where this user may not make any, so that it was not tried.
    pub devices: bool,
    /// Permission bits stay as they were set.
    pub modes: bool,
    /// Owners and groups can be set. Also true where this user may not set them, so that it was
    /// not tried.
    pub owners: bool,
    /// Modification times can be set.
    pub sets_times: bool,
    /// The precision of modification times, in nanoseconds.
    pub time_step: u32,
    /// The ctime changes even where the mtime stays the same.
    pub own_ctime: bool,
    /// A renamed file keeps its inode number.
    pub keeps_inodes: bool,
    /// An entry has the same inode number under all its spellings. (Some file systems invent
    /// one for each.)
    pub one_inode: bool,
}

/// How long a name may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum NameLimit {
    /// In bytes.
    Bytes(u32),
    /// In UTF-16 code units.
    Utf16(u32),
}

/// Why a file system cannot store an entry. Where several apply, the first is given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub enum Lack {
    /// It has no symbolic links.
    Symlinks,
    /// It has no named pipes.
    Fifos,
    /// It has no sockets.
    Sockets,
    /// It has no device nodes.
    Devices,
    /// The name is too long.
    NameLength,
    /// The file system refuses this name, or a byte in it.
    NameRefused,
}

impl Default for Abilities {
    /// An ordinary Unix file system.
    fn default() -> Self {
        Abilities {
            naming: Naming::default(),
            longest_name: NameLimit::Bytes(255),
            refused_bytes: Vec::new(),
            any_bytes: true,
            any_end: true,
            device_names: true,
            symlinks: true,
            hard_links: true,
            fifos: true,
            sockets: true,
            devices: true,
            modes: true,
            owners: true,
            sets_times: true,
            time_step: 1,
            own_ctime: true,
            keeps_inodes: true,
            one_inode: true,
        }
    }
}

impl Abilities {
    /// Why an entry of this kind and name cannot be stored; `None` if it can.
    #[must_use]
    pub fn lack(&self, kind: Kind, name: &[u8]) -> Option<Lack> {
        let by_kind = match kind {
            Kind::File | Kind::Dir => None,
            Kind::Symlink => (!self.symlinks).then_some(Lack::Symlinks),
            Kind::Fifo => (!self.fifos).then_some(Lack::Fifos),
            Kind::Socket => (!self.sockets).then_some(Lack::Sockets),
            Kind::CharDevice | Kind::BlockDevice => (!self.devices).then_some(Lack::Devices),
        };
        by_kind.or_else(|| self.lack_of_name(name))
    }

    fn lack_of_name(&self, name: &[u8]) -> Option<Lack> {
        let is_too_long = match self.longest_name {
            NameLimit::Bytes(most) => name.len() > most as usize,
            NameLimit::Utf16(most) => {
                // The cheap test first: no text has more UTF-16 units than UTF-8 bytes.
                name.len() > most as usize
                    && String::from_utf8_lossy(name).encode_utf16().count() > most as usize
            }
        };
        if is_too_long {
            return Some(Lack::NameLength);
        }
        let is_refused = (!self.refused_bytes.is_empty()
            && name.iter().any(|byte| self.refused_bytes.contains(byte)))
            || (!self.any_bytes && std::str::from_utf8(name).is_err())
            || (!self.any_end && name.ends_with(b".") | name.ends_with(b" "))
            || (!self.device_names && is_device_name(name));
        is_refused.then_some(Lack::NameRefused)
    }
}

/// Whether Windows takes the name for a device: `con`, `com1` and so on, with any extension.
fn is_device_name(name: &[u8]) -> bool {
    let stem = name.split(|byte| *byte == b'.').next().unwrap_or_default();
    let stem = stem.trim_ascii_end().to_ascii_lowercase();
    match stem.as_slice() {
        b"con" | b"prn" | b"aux" | b"nul" => true,
        [start @ .., b'1'..=b'9'] => matches!(start, b"com" | b"lpt"),
        _ => false,
    }
}

impl Lack {
    /// What cannot be stored, for people.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Lack::Symlinks => "symbolic links",
            Lack::Fifos => "fifos",
            Lack::Sockets => "sockets",
            Lack::Devices => "devices",
            Lack::NameLength => "entries with long names",
            Lack::NameRefused => "entries with refused names",
        }
    }

    /// Why it cannot be stored, for people.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Lack::Symlinks | Lack::Fifos | Lack::Sockets => "the file system there has none",
            Lack::Devices => "the file system there has none, or only the super-user can make them",
            Lack::NameLength => "the file system there has no names of that length",
            Lack::NameRefused => "the file system there refuses such names",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_file_system_lacks_nothing() {
        let all = Abilities::default();
        for kind in Kind::ALL {
            for name in [&b"a:b"[..], b"con", b"a.", b"\xff", &[b'n'; 255]] {
                assert_eq!(all.lack(kind, name), None);
            }
        }
        assert_eq!(all.lack(Kind::File, &[b'n'; 256]), Some(Lack::NameLength));
    }

    #[test]
    fn what_cannot_be_there_is_told_by_kind_and_name() {
        let exfat = Abilities {
            longest_name: NameLimit::Utf16(255),
            refused_bytes: b"\x01:*?".to_vec(),
            any_bytes: false,
            any_end: false,
            device_names: false,
            symlinks: false,
            fifos: false,
            ..Abilities::default()
        };
        let long = "é".repeat(255);
        for (kind, name, lack) in [
            (Kind::File, "plain", None),
            (Kind::Symlink, "plain", Some(Lack::Symlinks)),
            (Kind::Fifo, "a:b", Some(Lack::Fifos)),
            (Kind::Socket, "plain", None),
            (Kind::Dir, "a:b", Some(Lack::NameRefused)),
            (Kind::File, "a.", Some(Lack::NameRefused)),
            (Kind::File, "Com1.txt", Some(Lack::NameRefused)),
            (Kind::File, "com10", None),
            (Kind::File, "contents", None),
            (Kind::File, long.as_str(), None),
        ] {
            assert_eq!(exfat.lack(kind, name.as_bytes()), lack, "{kind:?} {name}");
        }
        assert_eq!(exfat.lack(Kind::File, b"\xff"), Some(Lack::NameRefused));
        let longer = format!("{long}x");
        assert_eq!(exfat.lack(Kind::File, longer.as_bytes()), Some(Lack::NameLength));
    }
}
