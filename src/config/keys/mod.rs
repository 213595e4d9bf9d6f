//! The one table of settings: parsing, checking, environment names, TOML, the sample file
//! and the manual all come from it or are tested against it (spec 2, "Keys").

mod table;

pub use table::{KEYS, OBSOLETE};

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true|false|yes|no` in any case.
    Boolean,
    /// A whole number, 0 or more.
    Number,
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A file or directory; a leading `~/` is the home directory.
    Path,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// Words separated by blanks or commas.
    Words,
    /// Arguments of a program, split and quoted as in a shell.
    Arguments,
    /// `initiator`, `target` or both.
    Sides,
    /// Patterns separated by PATH_SEPARATOR_CHAR.
    Patterns,
}

impl Kind {
    /// The kind in a word or two, for the manual and for error messages.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Boolean => "yes or no",
            Kind::Number => "number",
            Kind::Text => "text",
            Kind::Secret => "secret",
            Kind::Path => "path",
            Kind::Choice(_) => "choice",
            Kind::Arguments => "arguments",
            Kind::Words | Kind::Sides => "list",
            Kind::Patterns => "patterns",
        }
    }
}

/// The sections of a configuration file. They only serve the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `[GENERAL]`
    General,
    /// `[REMOTE_OPTIONS]`
    Remote,
    /// `[MISC_OPTIONS]`
    Misc,
    /// `[BACKUP_DELETE_OPTIONS]`
    BackupDelete,
    /// `[RESUME_OPTIONS]`
    Resume,
    /// `[ALERT_OPTIONS]`
    Alert,
    /// `[EXECUTION_HOOKS]`
    Hooks,
}

impl Section {
    /// All sections, in the order of the sample file.
    pub const ALL: [Section; 7] = [
        Section::General,
        Section::Remote,
        Section::Misc,
        Section::BackupDelete,
        Section::Resume,
        Section::Alert,
        Section::Hooks,
    ];

    /// The name between the brackets.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Section::General => "GENERAL",
            Section::Remote => "REMOTE_OPTIONS",
            Section::Misc => "MISC_OPTIONS",
            Section::BackupDelete => "BACKUP_DELETE_OPTIONS",
            Section::Resume => "RESUME_OPTIONS",
            Section::Alert => "ALERT_OPTIONS",
            Section::Hooks => "EXECUTION_HOOKS",
        }
    }
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its name in files and in the environment.
    pub name: &'static str,
    /// Other names that mean the same.
    pub aliases: &'static [&'static str],
    /// Where it stands.
    pub section: Section,
    /// What it holds.
    pub kind: Kind,
    /// The value of a setting that nobody sets.
    pub default: &'static str,
    /// The value in the sample file, where that is another one.
    pub sample: Option<&'static str>,
    /// What it does, in a sentence or two.
    pub about: &'static str,
}

/// The key of this name or alias, in upper case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || key.aliases.contains(&name))
}

/// What became of a key of v1.0 or v1.1, if it is one: the new name or a short advice.
#[must_use]
pub fn obsolete(name: &str) -> Option<&'static Obsolete> {
    OBSOLETE.iter().find(|old| old.name == name)
}

/// A key of an older version that is none any more.
#[derive(Debug)]
pub struct Obsolete {
    /// The old name.
    pub name: &'static str,
    /// The key that took its place; none: nothing needs it any more.
    pub now: Option<&'static str>,
}

/// The known key that is nearest in spelling, if one is near enough to be meant.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase();
    let names = KEYS.iter().flat_map(|key| std::iter::once(&key.name).chain(key.aliases));
    names
        .map(|known| (strsim::damerau_levenshtein(&upper, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().max(upper.len()).div_ceil(4).max(1))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_means_one_key() {
        let mut seen = BTreeSet::new();
        for key in KEYS {
            for name in std::iter::once(&key.name).chain(key.aliases) {
                assert!(seen.insert(*name), "{name} stands twice");
            }
        }
        for old in OBSOLETE {
            assert!(seen.insert(old.name), "{} is both old and new", old.name);
            assert!(old.now.is_none_or(|now| find(now).is_some()), "{:?}", old.now);
        }
    }

    #[test]
    fn keys_stand_in_the_order_of_their_sections() {
        let mut order: Vec<_> = KEYS.iter().map(|k| k.section.name()).collect();
        order.dedup();
        assert_eq!(order, Section::ALL.map(Section::name));
    }

    #[test]
    fn misspelt_keys_find_their_neighbour() {
        for (typed, meant) in [
            ("SOFT_DELET", Some("SOFT_DELETE")),
            ("PRESERVE_PERMISSION", Some("PRESERVE_PERMISSIONS")),
            ("bandwidht", Some("BANDWIDTH")),
            ("TARGET_SYNCDIR", Some("TARGET_SYNC_DIR")),
            ("SOMETHING_ELSE_ALTOGETHER", None),
            ("X", None),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }
}
