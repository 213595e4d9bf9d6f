//! Owners go by name: whose numbers differ between the two machines keep their files
//! (spec 5; rsync does the same). Root stays root.

use crate::process::{self, Command, Input, Stop};
use crate::replica::Whom;
use crate::tree::Entry;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

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
    pub fn unknown<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> BTreeSet<(Whose, u32)> {
        let mut found = BTreeSet::new();
        let mut last = (0, 0);
        for entry in entries {
            if (entry.uid, entry.gid) == last {
                continue;
            }
            last = (entry.uid, entry.gid);
            for key in [(Whose::User, entry.uid), (Whose::Group, entry.gid)] {
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
mod tests {
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
