//! Which of the kept versions of a path somebody means (spec 9, `osync restore`).
//!
//! A file's versions are numbered from the newest. A directory's versions are the moments at
//! which something in it was replaced or deleted: version N is what it held right before the
//! N-th newest of them.

use crate::replica::kept_versions::KeptVersion;
use crate::state::journal::{KeptPlace, LostAt, RecordedConflict};
use crate::tree::{RelPath, Side};
use std::collections::{BTreeMap, BTreeSet};

/// Without a run that is known, what came within so many seconds came at one moment.
const ONE_MOMENT: i64 = 60;

/// A kept version, and what the journal knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Whose work directory keeps it.
    pub side: Side,
    /// The version.
    pub kept: KeptVersion,
    /// The run that put it there.
    pub run: Option<i64>,
    /// When it came, in seconds since the epoch: by the clock of that run where it is known.
    pub at: Option<i64>,
    /// It was known to be damaged when it was replaced or deleted.
    pub is_damaged: bool,
}

impl Held {
    /// When it came; what nothing tells of comes before all others.
    #[must_use]
    pub fn came(&self) -> i64 {
        self.at.unwrap_or(i64::MIN)
    }
}

/// Which version is asked for. One that is known to be damaged is taken by its number only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The newest that is kept, and not damaged.
    Newest,
    /// By its number.
    Number(u64),
    /// What was there at a moment, in seconds since the epoch.
    At(i64),
    /// What was there before a run.
    BeforeRun {
        /// Its number.
        number: i64,
        /// When it began, in seconds since the epoch.
        began: i64,
    },
}

/// Which of two versions is to stand on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// That of this side.
    Of(Side),
    /// Both, one beside the other.
    Both,
}

/// Why there is nothing to put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoVersion {
    /// Nothing is kept of it.
    #[error("no version of it is kept")]
    None,
    /// There are fewer.
    #[error("there is no version {asked}; kept: {has} (osync history shows them)")]
    Fewer {
        /// The number asked for.
        asked: u64,
        /// How many there are.
        has: usize,
    },
    /// What is there now is what was there then.
    #[error("nothing of it was replaced or deleted since then")]
    NothingSince,
    /// What was there then is kept, but damaged.
    #[error(
        "only a damaged version of it is kept; 'osync history' with the path shows its number, and \
         --version brings it back all the same"
    )]
    OnlyDamaged,
}

/// What is to be put back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chosen<'h> {
    /// The versions, by path.
    pub versions: BTreeMap<RelPath, &'h Held>,
    /// Paths whose version of then is kept, but damaged: it is not put back.
    pub damaged: BTreeSet<RelPath>,
}

/// The versions of a path, the newest first: each is one or more kept things that came at the
/// same moment. For a file each is a version of its own.
#[must_use]
pub fn versions<'h>(path: &RelPath, held: &'h [Held]) -> Vec<Vec<&'h Held>> {
    let mut sorted: Vec<&Held> = held.iter().collect();
    sorted.sort_by(|a, b| {
        let name = |held: &'h Held| (held.side, &held.kept.path);
        // what no run put there was put there after the runs of the same second: by a restore
        let when = |held: &'h Held| (held.came(), held.run.unwrap_or(i64::MAX));
        let order = when(b).cmp(&when(a)).then_with(|| name(a).cmp(&name(b)));
        order.then_with(|| newness(&b.kept).cmp(&newness(&a.kept)))
    });
    let is_file = held.iter().all(|held| held.kept.path == *path && !held.kept.entry.kind.is_dir());
    let mut versions: Vec<Vec<&Held>> = Vec::new();
    for held in sorted {
        let joins = !is_file
            && versions.last().and_then(|group| group.last()).is_some_and(|last| {
                match (last.run, held.run) {
                    (Some(one), Some(other)) => one == other,
                    (None, None) => last.came() - held.came() < ONE_MOMENT,
                    _ => false,
                }
            });
        match versions.last_mut().filter(|_| joins) {
            Some(group) => group.push(held),
            None => versions.push(vec![held]),
        }
    }
    versions
}

/// Which of two versions of a path that came in the same second is the newer one: the one under the
/// plain name, then the one with the higher number behind its date.
fn newness(kept: &KeptVersion) -> (bool, usize, &RelPath) {
    (kept.place == kept.path, kept.place.as_bytes().len(), &kept.place)
}

/// Why the version that lost a conflict cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoLoser {
    /// Nothing that is kept looks like it.
    #[error("the version that lost is no longer kept")]
    Gone,
    /// Nothing tells which of them it is.
    #[error(
        "several kept versions may be the one that lost; 'osync history' with the path lists them, \
         and 'osync restore --version' brings one back"
    )]
    Several,
}

/// The version that lost a conflict, among those that are kept of its path. It has to look like what
/// lost: where the journal says it lies, another task of the replica may have put a version of its
/// own (the turn of another target of a star), and given this one another name.
///
/// # Errors
/// See [`NoLoser`].
pub fn loser<'h>(held: &'h [Held], conflict: &RecordedConflict) -> Result<&'h Held, NoLoser> {
    let decided = &conflict.decided;
    let side = decided.winner.other();
    let may_be_it = |held: &&Held| {
        held.side == side && decided.lost.as_ref().is_none_or(|lost| lost.is_of(&held.kept.entry))
    };
    let is_of_this_name = |held: &&Held| held.kept.path == decided.path;
    let is_at_its_place = |held: &&Held| match &decided.lost_at {
        Some(LostAt::Kept(KeptPlace { keep, place })) => {
            (held.kept.keep, &held.kept.place) == (*keep, place)
        }
        Some(LostAt::Beside(_)) => false,
        None => is_of_this_name(held) && held.run == Some(conflict.run),
    };
    let candidates: Vec<&Held> = held.iter().filter(may_be_it).collect();
    if let Some(found) = candidates.iter().copied().find(is_at_its_place) {
        return Ok(found);
    }
    match candidates.into_iter().filter(is_of_this_name).collect::<Vec<_>>()[..] {
        [only] => Ok(only),
        [] => Err(NoLoser::Gone),
        _ => Err(NoLoser::Several),
    }
}

/// The version that won a conflict, where its own side keeps it: something else has replaced it there
/// since, the turn of another target of a star, say. The newest of several.
#[must_use]
pub fn replaced_winner<'h>(held: &'h [Held], conflict: &RecordedConflict) -> Option<&'h Held> {
    let decided = &conflict.decided;
    let won = decided.won.as_ref()?;
    let is_it = |held: &&Held| {
        held.side == decided.winner
            && held.kept.path == decided.path
            && won.is_of(&held.kept.entry)
            && !held.is_damaged
    };
    held.iter().filter(is_it).max_by_key(|held| held.came())
}

/// What is to be put back: for each path the oldest version of those that are not older than what
/// is asked for. `to` is the side that gets it, whose own version is taken where both sides have one
/// of the same moment.
///
/// # Errors
/// See [`NoVersion`].
pub fn choose<'h>(
    path: &RelPath,
    held: &'h [Held],
    choice: Choice,
    to: Side,
) -> Result<Chosen<'h>, NoVersion> {
    let versions = versions(path, held);
    if versions.is_empty() {
        return Err(NoVersion::None);
    }
    let is_sound = |group: &Vec<&Held>| group.iter().any(|held| !held.is_damaged);
    let since = |is_since: &dyn Fn(&Held) -> bool| {
        versions.iter().take_while(|group| group.iter().any(|held| is_since(held))).count()
    };
    let count = match choice {
        Choice::Newest => versions.iter().position(is_sound).ok_or(NoVersion::OnlyDamaged)? + 1,
        Choice::Number(asked) => match usize::try_from(asked) {
            Ok(count) if (1..=versions.len()).contains(&count) => count,
            _ => return Err(NoVersion::Fewer { asked, has: versions.len() }),
        },
        Choice::At(moment) => since(&|held| held.came() > moment),
        Choice::BeforeRun { number, began } => {
            since(&|held| held.run.map_or(held.came() >= began, |run| run >= number))
        }
    };
    if count == 0 {
        return Err(NoVersion::NothingSince);
    }
    let mut chosen: BTreeMap<RelPath, &Held> = BTreeMap::new();
    let mut damaged = BTreeSet::new();
    for group in versions[..count].iter().rev() {
        let mut of_group: BTreeMap<RelPath, &Held> = BTreeMap::new();
        for held in group {
            if held.is_damaged && !matches!(choice, Choice::Number(_)) {
                damaged.insert(held.kept.path.clone());
                continue;
            }
            let of_path = of_group.entry(held.kept.path.clone()).or_insert(held);
            if held.side == to && of_path.side != to {
                *of_path = held;
            }
        }
        for (path, held) in of_group {
            // what an older moment has stands, and nothing goes below what was no directory
            let is_below_a_file = path
                .ancestors()
                .skip(1)
                .any(|above| chosen.get(&above).is_some_and(|c| !c.kept.entry.kind.is_dir()));
            let is_above = !held.kept.entry.kind.is_dir()
                && chosen
                    .range(path.clone()..)
                    .next()
                    .is_some_and(|(other, _)| other.is_within(&path));
            if !is_below_a_file && !is_above {
                chosen.entry(path).or_insert(held);
            }
        }
    }
    damaged.retain(|path| !chosen.contains_key(path));
    if chosen.is_empty() {
        return Err(NoVersion::OnlyDamaged);
    }
    Ok(Chosen { versions: chosen, damaged })
}

/// The name under which the version that lost a conflict stands beside the one that won:
/// `NAME.conflict-SIDE-DATE.EXT`.
#[must_use]
pub fn beside(path: &RelPath, side: Side, date: &str) -> RelPath {
    /// Longer ones are no endings.
    const LONGEST_ENDING: usize = 16;
    const LONGEST: usize = 255;
    let name = path.name();
    let dot = name.iter().rposition(|byte| *byte == b'.');
    let dot = dot.filter(|dot| *dot > 0 && name.len() - dot <= LONGEST_ENDING);
    let (stem, ending) = name.split_at(dot.unwrap_or(name.len()));
    let infix = format!(".conflict-{}-{date}", side.name());
    let mut room = LONGEST - infix.len() - ending.len();
    if stem.len() > room {
        // never through a character
        while room > 0 && stem[room] & 0xc0 == 0x80 {
            room -= 1;
        }
    }
    let stem = &stem[..room.min(stem.len())];
    let name = [stem, infix.as_bytes(), ending].concat();
    path.parent().unwrap_or_default().join(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Version;
    use crate::state::journal::{ConflictState, Decided, Look, Matter};
    use crate::tree::Keep;
    use crate::tree::{Entry, Kind};

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn held(side: Side, of: &str, came: i64, run: Option<i64>) -> Held {
        let kept = KeptVersion {
            keep: Keep::Backup,
            place: path(&format!("{of}.{came}")),
            path: path(of),
            entry: Entry::new(Kind::File),
            came: Some(came),
            version: Version::Ordinary,
        };
        Held { side, kept, run, at: Some(came), is_damaged: false }
    }

    fn chosen(of: &str, held: &[Held], choice: Choice) -> Result<Vec<String>, NoVersion> {
        let chosen = choose(&path(of), held, choice, Side::Initiator)?;
        let place = |held: &&Held| format!("{} {}", held.side, held.kept.place);
        let left = chosen.damaged.iter().map(|path| format!("damaged: {path}"));
        Ok(chosen.versions.values().map(place).chain(left).collect())
    }

    #[test]
    fn versions_of_a_file_are_numbered_over_both_sides_from_the_newest() {
        let all = [
            held(Side::Target, "a", 100, Some(1)),
            held(Side::Initiator, "a", 200, Some(2)),
            held(Side::Target, "a", 150, None),
        ];
        for (choice, expected) in [
            (Choice::Newest, Ok("initiator a.200")),
            (Choice::Number(2), Ok("target a.150")),
            (Choice::Number(3), Ok("target a.100")),
            (Choice::Number(4), Err(NoVersion::Fewer { asked: 4, has: 3 })),
            (Choice::Number(0), Err(NoVersion::Fewer { asked: 0, has: 3 })),
            (Choice::At(99), Ok("target a.100")),
            (Choice::At(100), Ok("target a.150")),
            (Choice::At(200), Err(NoVersion::NothingSince)),
            (Choice::BeforeRun { number: 2, began: 199 }, Ok("initiator a.200")),
            (Choice::BeforeRun { number: 1, began: 90 }, Ok("target a.100")),
        ] {
            let expected = expected.map(|text| vec![text.to_owned()]);
            assert_eq!(chosen("a", &all, choice), expected, "{choice:?}");
        }
        assert_eq!(chosen("a", &[], Choice::Newest), Err(NoVersion::None));
    }

    fn won_by_the_target() -> Decided {
        let (reason, winner) = (String::new(), Side::Target);
        Decided { path: path("a"), winner, reason, won: None, lost: None, lost_at: None }
    }

    fn conflict_of(decided: Decided) -> RecordedConflict {
        let (matter, state) = (Matter::Conflict, ConflictState::Open);
        RecordedConflict { id: 1, run: 7, began: 0, ended: 0, matter, decided, state }
    }

    #[test]
    fn what_lost_is_known_by_its_look_and_its_place_only_among_those() {
        let one = |place: &str, size: u64| {
            let mut one = held(Side::Initiator, "a", 100, Some(7));
            (one.kept.place, one.kept.entry.size) = (path(place), size);
            one
        };
        let conflict = |size: u64, lost_at: Option<&str>| {
            let kept = |at| LostAt::Kept(KeptPlace { keep: Keep::Backup, place: path(at) });
            let lost = Some(Look::of(&one("a", size).kept.entry));
            conflict_of(Decided { lost, lost_at: lost_at.map(kept), ..won_by_the_target() })
        };
        let all = [one("a", 3), one("a.1", 1), one("a.2", 2), one("a.3", 2)];
        for (size, lost_at, expected) in [
            (3, Some("a"), Ok("a")),
            // another one has its place, and it has got another name
            (1, Some("a"), Ok("a.1")),
            (2, Some("a.3"), Ok("a.3")),
            (2, Some("a"), Err(NoLoser::Several)),
            (4, Some("a"), Err(NoLoser::Gone)),
            (1, None, Ok("a.1")),
            (4, None, Err(NoLoser::Gone)),
        ] {
            let found = loser(&all, &conflict(size, lost_at)).map(|one| one.kept.place.shown());
            assert_eq!(found, expected.map(str::to_owned), "{size} {lost_at:?}");
        }
        let mut elsewhere = all.to_vec();
        elsewhere.iter_mut().for_each(|one| one.side = Side::Target);
        assert_eq!(loser(&elsewhere, &conflict(3, Some("a"))), Err(NoLoser::Gone));
    }

    #[test]
    fn what_won_and_was_replaced_is_known_by_its_look_on_its_own_side() {
        let one = |side: Side, came: i64, size: u64| {
            let mut one = held(side, "a", came, None);
            one.kept.entry.size = size;
            one
        };
        let conflict = |size: u64| {
            let won = Some(Look::of(&one(Side::Target, 0, size).kept.entry));
            conflict_of(Decided { won, ..won_by_the_target() })
        };
        let damaged = Held { is_damaged: true, ..one(Side::Target, 100, 4) };
        let all = [
            one(Side::Target, 100, 1),
            one(Side::Target, 300, 1),
            one(Side::Initiator, 400, 1),
            one(Side::Initiator, 100, 2),
            damaged,
        ];
        for (size, expected) in [(1, Some("a.300")), (2, None), (3, None), (4, None)] {
            let found = replaced_winner(&all, &conflict(size)).map(|one| one.kept.place.shown());
            assert_eq!(found.as_deref(), expected, "{size}");
        }
    }

    #[test]
    fn of_versions_of_one_second_the_one_under_the_plain_name_is_the_newest() {
        let of = |place: &str| {
            let mut one = held(Side::Initiator, "a", 100, None);
            one.kept.place = path(place);
            one
        };
        let date = "a.2026.01.01-00.00.00";
        let all = [of(date), of("a"), of(&format!("{date}.10")), of(&format!("{date}.9"))];
        let order = versions(&path("a"), &all);
        let places: Vec<_> = order.iter().flatten().map(|one| one.kept.place.shown()).collect();
        assert_eq!(places, ["a", &format!("{date}.10"), &format!("{date}.9"), date]);
    }

    #[test]
    fn what_a_restore_put_aside_is_newer_than_what_a_run_did_in_the_same_second() {
        let all = [
            held(Side::Target, "a", 200, Some(2)),
            held(Side::Initiator, "a", 200, None),
            held(Side::Initiator, "a", 100, None),
        ];
        assert_eq!(chosen("a", &all, Choice::Newest), Ok(vec!["initiator a.200".to_owned()]));
        assert_eq!(chosen("a", &all, Choice::Number(2)), Ok(vec!["target a.200".to_owned()]));
    }

    #[test]
    fn a_damaged_version_is_taken_by_its_number_only() {
        let damaged = |held: Held| Held { is_damaged: true, ..held };
        let healed = [
            damaged(held(Side::Target, "a", 300, Some(3))),
            held(Side::Target, "a", 200, Some(2)),
            damaged(held(Side::Target, "a", 100, Some(1))),
        ];
        for (choice, expected) in [
            (Choice::Newest, Ok("target a.200")),
            (Choice::Number(1), Ok("target a.300")),
            (Choice::Number(3), Ok("target a.100")),
            (Choice::At(250), Err(NoVersion::OnlyDamaged)),
            (Choice::At(50), Ok("target a.200")),
            (Choice::BeforeRun { number: 3, began: 290 }, Err(NoVersion::OnlyDamaged)),
        ] {
            let expected = expected.map(|text| vec![text.to_owned()]);
            assert_eq!(chosen("a", &healed, choice), expected, "{choice:?}");
        }
        assert_eq!(chosen("a", &healed[..1], Choice::Newest), Err(NoVersion::OnlyDamaged));
        let in_dir = [
            damaged(held(Side::Target, "d/x", 300, Some(3))),
            held(Side::Target, "d/y", 200, Some(2)),
            damaged(held(Side::Target, "d/z", 200, Some(2))),
        ];
        let found = chosen("d", &in_dir, Choice::At(150)).unwrap();
        assert_eq!(found, ["target d/y.200", "damaged: d/x", "damaged: d/z"]);
        assert_eq!(chosen("d", &in_dir, Choice::Number(1)).unwrap(), ["target d/x.300"]);
    }

    #[test]
    fn a_directory_is_what_it_held_before_a_moment() {
        let all = [
            held(Side::Target, "d/x", 100, Some(1)),
            held(Side::Target, "d/x", 200, Some(2)),
            held(Side::Initiator, "d/x", 200, Some(2)),
            held(Side::Target, "d/y", 205, Some(2)),
        ];
        for (choice, expected) in [
            (Choice::Newest, vec!["initiator d/x.200", "target d/y.205"]),
            (Choice::Number(2), vec!["target d/x.100", "target d/y.205"]),
            (Choice::At(150), vec!["initiator d/x.200", "target d/y.205"]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(chosen("d", &all, choice), Ok(expected), "{choice:?}");
        }
    }

    #[test]
    fn a_loser_gets_a_name_that_says_so_and_keeps_its_ending() {
        for (of, expected) in [
            ("a.odt", "a.conflict-target-D.odt"),
            ("d/a", "d/a.conflict-target-D"),
            (".hidden", ".hidden.conflict-target-D"),
            ("x.tar.gz", "x.tar.conflict-target-D.gz"),
        ] {
            assert_eq!(beside(&path(of), Side::Target, "D"), path(expected));
        }
        for name in ["ä".repeat(127), format!("a.{}", "x".repeat(253)), "y".repeat(255)] {
            let beside = beside(&path(&name), Side::Initiator, "2026.11.29-15.54.37");
            assert!(beside.name().len() <= 255 && beside.name().len() > 200, "{beside}");
            assert!(std::str::from_utf8(beside.name()).is_ok(), "{beside}");
        }
    }
}
