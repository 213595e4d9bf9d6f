//! `targets-ID`: which state belongs to which target of a star (spec 10, "A star in one task").
//!
//! Each target of a star has the state of a pair of its own: that of instance `ID`, `ID@2`, `ID@3`
//! and so on, or of a pair that was joined to the star. A state stays with its target, whatever
//! becomes of its place in the list, because it is bound to the identity that the target itself
//! holds. A target without the identity that belongs to its place keeps the state: then the guard
//! of the pair stops it.

use super::baseline::Baseline;
use super::error::{Shown, StateError};
use super::files::Durable;
use super::identity::{Identity, IdentityFound};
use super::store::StateStore;
use crate::tree::Pair;
use serde::{Deserialize, Serialize};

/// What is known of the target of one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTarget {
    /// The instance under whose name the state is kept.
    pub instance: String,
    /// The identity of the target, once it has one.
    pub identity: Option<Identity>,
    /// Where it was in the last run, for people; `None` if that was a run of a pair, empty if
    /// another target stands there now.
    pub place: Option<String>,
}

/// What a run finds at a target before anything is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It cannot be reached.
    Nothing,
    /// A replica without an identity.
    Nameless,
    /// A replica with this identity.
    Named(Identity),
}

impl Seen {
    /// What a replica that was reached says of itself.
    #[must_use]
    pub fn of(found: &IdentityFound) -> Self {
        found.known().map_or(Seen::Nameless, |identity| Seen::Named(identity.clone()))
    }
}

/// A target of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTarget {
    /// Where it is.
    pub place: String,
    /// What is there.
    pub seen: Seen,
}

/// Which state a target has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// That of an earlier run, of this instance.
    Known(String),
    /// A new one, of this instance: no run has met the target so far.
    New(String),
    /// It is the same replica as another target of the list, or a copy of it: this one, from 0.
    Twin(usize),
}

impl Binding {
    /// The instance under whose name the state is kept.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        match self {
            Binding::Known(instance) | Binding::New(instance) => Some(instance),
            Binding::Twin(_) => None,
        }
    }
}

/// The instance of the state with a number.
fn instance_of(id: &str, number: usize) -> String {
    if number == 1 { id.to_owned() } else { format!("{id}@{number}") }
}

/// Whether an instance is one that a star makes for its targets.
fn is_of(id: &str, instance: &str) -> bool {
    let number = || instance.strip_prefix(id)?.strip_prefix('@')?.parse::<usize>().ok();
    let has_number = |number| number >= 2 && instance_of(id, number) == instance;
    instance == id || number().is_some_and(has_number)
}

/// Decides which state each target of the list of a star has. Pure.
#[must_use]
pub fn bind(id: &str, known: &[KnownTarget], listed: &[ListedTarget]) -> Vec<Binding> {
    let mut bound: Vec<Option<Binding>> = vec![None; listed.len()];
    // Who a replica is counts more than where it is.
    for (index, target) in listed.iter().enumerate() {
        let Seen::Named(identity) = &target.seen else { continue };
        let state = known.iter().find(|known| known.identity.as_ref() == Some(identity));
        let same = (0..listed.len()).filter(|other| listed[*other].seen == target.seen);
        let at_home =
            |other: &usize| state.is_some_and(|s| s.place.as_ref() == Some(&listed[*other].place));
        // Of several that are one replica, or copies of it, the one in its old place has the state.
        let owner = same.clone().find(at_home).or_else(|| same.clone().next()).unwrap_or(index);
        if owner != index {
            bound[index] = Some(Binding::Twin(owner));
        } else if let Some(state) = state {
            bound[index] = Some(Binding::Known(state.instance.clone()));
        }
    }
    let is_free = |bound: &[Option<Binding>], instance: &str| {
        !bound.iter().flatten().any(|binding| binding.instance() == Some(instance))
    };
    // Another replica in a known place, or none: the guard of the pair tells of it.
    for (index, target) in listed.iter().enumerate() {
        if bound[index].is_some() {
            continue;
        }
        let of_place = known.iter().find(|known| known.place.as_ref() == Some(&target.place));
        // the state of the pair that the task was before
        let of_pair = || {
            let is_of_pair = |known: &&KnownTarget| known.instance == id && known.place.is_none();
            known.iter().find(is_of_pair).filter(|_| index == 0)
        };
        let state = of_place.or_else(of_pair);
        if let Some(state) = state.filter(|state| is_free(&bound, &state.instance)) {
            bound[index] = Some(Binding::Known(state.instance.clone()));
        }
    }
    for index in 0..listed.len() {
        if bound[index].is_none() {
            let is_unused = |instance: &String| {
                known.iter().all(|known| known.instance != *instance) && is_free(&bound, instance)
            };
            // most often the place in the list, which is what a person expects
            let mut instances = (index + 1..).map(|number| instance_of(id, number));
            bound[index] = instances.find(is_unused).map(Binding::New);
        }
    }
    bound.into_iter().flatten().collect()
}

/// The targets whose states no target of the list has any more, though the places where they were
/// are still in the list: other replicas stand there now. Pure.
#[must_use]
pub fn displaced<'k>(
    before: &'k [KnownTarget],
    places: &[String],
    bound: &[Binding],
) -> Vec<&'k KnownTarget> {
    let is_listed = |known: &KnownTarget| {
        known.place.as_ref().is_some_and(|place| places.contains(place)) && known.identity.is_some()
    };
    before.iter().filter(|known| is_listed(known) && is_not_found(known, bound)).collect()
}

/// The targets whose places others had taken in an earlier run, and that are still at no place of the
/// list. Pure.
#[must_use]
pub fn still_displaced<'k>(before: &'k [KnownTarget], bound: &[Binding]) -> Vec<&'k KnownTarget> {
    let had_none = |known: &KnownTarget| known.place.as_deref() == Some("");
    before.iter().filter(|known| had_none(known) && is_not_found(known, bound)).collect()
}

fn is_not_found(known: &KnownTarget, bound: &[Binding]) -> bool {
    bound.iter().all(|binding| binding.instance() != Some(known.instance.as_str()))
}

/// The state of a target of the list as the last run had it, for commands that ask no replica;
/// `None` if no run has met the target.
#[must_use]
pub fn instance_at(
    id: &str,
    known: &[KnownTarget],
    places: &[String],
    index: usize,
) -> Option<String> {
    let listed =
        places.iter().map(|place| ListedTarget { place: place.clone(), seen: Seen::Nothing });
    match bind(id, known, &listed.collect::<Vec<_>>()).into_iter().nth(index) {
        Some(Binding::Known(instance)) => Some(instance),
        _ => None,
    }
}

/// Notes what a run has found: the identity, if there is one, and the place. Nothing else counts
/// as being there any more.
pub fn note(
    known: &mut Vec<KnownTarget>,
    instance: &str,
    identity: Option<&Identity>,
    place: &str,
) {
    for other in known.iter_mut().filter(|other| other.instance != instance) {
        if other.place.as_deref() == Some(place) {
            other.place = Some(String::new());
        }
    }
    let place = Some(place.to_owned());
    match known.iter_mut().find(|known| known.instance == instance) {
        Some(target) => {
            target.place = place;
            if identity.is_some() {
                target.identity = identity.cloned();
            }
        }
        None => {
            let (instance, identity) = (instance.to_owned(), identity.cloned());
            known.push(KnownTarget { instance, identity, place });
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    targets: Vec<KnownTarget>,
}

impl StateStore {
    /// What is known of the targets of a star; this is the store of its first state. States that
    /// runs of pairs have made are among them.
    ///
    /// # Errors
    /// The directory, the file or a snapshot cannot be read, or is damaged.
    pub fn known_targets(&self) -> Result<Vec<KnownTarget>, StateError> {
        let mut known = self.noted_targets()?;
        for target in known.iter_mut().filter(|target| target.identity.is_none()) {
            let store = StateStore::open(self.dir().clone(), &target.instance)?;
            target.identity = store.recorded_identities()?.target;
        }
        Ok(known)
    }

    /// The instances of all pairs of a star; this is the store of its first state. No snapshot is read.
    ///
    /// # Errors
    /// The directory or the file cannot be read, or the file is damaged.
    pub fn instances_of_star(&self) -> Result<Vec<String>, StateError> {
        Ok(self.noted_targets()?.into_iter().map(|target| target.instance).collect())
    }

    /// The targets that the file names, and those whose states are named as the star names them.
    fn noted_targets(&self) -> Result<Vec<KnownTarget>, StateError> {
        let name = self.name("targets");
        let mut known = match self.files.read(&name)? {
            // as a power cut leaves it: the snapshots have the identities
            Some((bytes, _)) if bytes.iter().all(|byte| *byte == 0) => Vec::new(),
            Some((bytes, _)) => {
                let path = Shown::new(self.files.path(&name));
                let what = "it does not tell which state belongs to which target. Remove it: the \
                            next run finds out by their identities";
                let written: Written = serde_json::from_slice(&bytes)
                    .map_err(|_| StateError::Malformed { path, what })?;
                written.targets
            }
            None => Vec::new(),
        };
        for instance in Self::instances(self.dir())? {
            let is_new = !known.iter().any(|known| known.instance == instance);
            if is_new && is_of(self.instance(), &instance) {
                known.push(KnownTarget { instance, identity: None, place: None });
            }
        }
        Ok(known)
    }

    /// The identities of the replicas that the snapshot is about, as far as there are any.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn recorded_identities(&self) -> Result<Pair<Option<Identity>>, StateError> {
        let snapshot = self.read_snapshot()?;
        let of_it = |(baseline, _, _): (Baseline, _, _)| baseline.header().identities.clone();
        Ok(snapshot.map(of_it).unwrap_or_default())
    }

    /// Keeps what is known of the targets.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_known_targets(&self, targets: &[KnownTarget]) -> Result<(), StateError> {
        let written = Written { targets: targets.to_vec() };
        let bytes = serde_json::to_vec(&written).unwrap_or_default();
        let name = self.name("targets");
        match self.files.read(&name)? {
            Some((old, _)) if old == bytes => Ok(()),
            _ => self.files.replace(&name, Durable::Yes, &bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateDir;

    fn instance(number: &str) -> String {
        number.parse().map_or(number.to_owned(), |number| instance_of("id", number))
    }

    /// `1 x /a`: state 1, identity x, last seen in /a; a dash for what is not known.
    fn known(text: &str) -> Vec<KnownTarget> {
        let one = |text: &str| {
            let words: Vec<&str> = text.split(' ').collect();
            let word = |at: usize| Some(words[at]).filter(|word| *word != "-");
            KnownTarget {
                instance: instance(words[0]),
                identity: word(1).map(|id| Identity(id.to_owned())),
                place: word(2).map(str::to_owned),
            }
        };
        text.split(", ").filter(|text| !text.is_empty()).map(one).collect()
    }

    /// `/a x`: a target with identity x in /a; `/a -` has none, `/a !` cannot be reached.
    fn listed(text: &str) -> Vec<ListedTarget> {
        let one = |text: &str| {
            let (place, id) = text.split_once(' ').unwrap();
            let seen = match id {
                "-" => Seen::Nameless,
                "!" => Seen::Nothing,
                id => Seen::Named(Identity(id.to_owned())),
            };
            ListedTarget { place: place.to_owned(), seen }
        };
        text.split(", ").map(one).collect()
    }

    #[test]
    fn a_state_stays_with_its_target_whatever_becomes_of_the_list() {
        #[allow(non_snake_case)]
        let Known = |number: usize| Binding::Known(instance_of("id", number));
        #[allow(non_snake_case)]
        let New = |number: usize| Binding::New(instance_of("id", number));
        use Binding::Twin;
        let three = "1 x /a, 2 y /b, 3 z /c";
        for (what, before, now, expected) in [
            ("the first run", "", "/a -, /b -", vec![New(1), New(2)]),
            ("the first run, one is away", "", "/a !, /b -", vec![New(1), New(2)]),
            ("as before", three, "/a x, /b y, /c z", vec![Known(1), Known(2), Known(3)]),
            ("another order", three, "/c z, /a x, /b y", vec![Known(3), Known(1), Known(2)]),
            ("one less", three, "/b y, /c z", vec![Known(2), Known(3)]),
            ("one more in front", three, "/n -, /a x", vec![New(4), Known(1)]),
            ("at another place", three, "/new y, /a x", vec![Known(2), Known(1)]),
            ("places exchanged", three, "/a y, /b x", vec![Known(2), Known(1)]),
            ("away", three, "/a x, /b !", vec![Known(1), Known(2)]),
            ("empty, as without its disk", three, "/a x, /b -", vec![Known(1), Known(2)]),
            ("another disk", three, "/a x, /b other", vec![Known(1), Known(2)]),
            ("moved, and another disk in its place", three, "/b n, /q y", vec![New(4), Known(2)]),
            ("moved, and nothing in its place", three, "/b !, /q y", vec![New(4), Known(2)]),
            ("twice in the list", three, "/q x, /a x", vec![Twin(1), Known(1)]),
            ("twice in the list, not known", "", "/q n, /a n", vec![New(1), Twin(0)]),
            ("twice, moved", three, "/q x, /r x", vec![Known(1), Twin(0)]),
            ("a pair before", "1 x -", "/a x, /b -", vec![Known(1), New(2)]),
            ("a pair before, behind a new one", "1 x -", "/b -, /a x", vec![New(2), Known(1)]),
            ("a pair before, away", "1 x -", "/a !, /b -", vec![Known(1), New(2)]),
            ("a pair before, its disk missing", "1 x -", "/a -, /b -", vec![Known(1), New(2)]),
            ("a pair of osync 1.3 before", "1 - -", "/a -, /b -", vec![Known(1), New(2)]),
            ("killed in the first run", "1 - /a, 2 - /b", "/b y, /a -", vec![Known(2), Known(1)]),
            ("the state of a stranger", "2 s -", "/a -, /b -", vec![New(1), New(3)]),
        ] {
            assert_eq!(bind("id", &known(before), &listed(now)), expected, "{what}");
        }
    }

    #[test]
    fn a_known_target_whose_place_another_one_has_is_displaced() {
        let three = "1 x /a, 2 y /b, 3 z /c";
        for (what, before, now, expected) in [
            ("as before", three, "/a x, /b y, /c z", vec![]),
            ("places exchanged", three, "/a x, /b z, /c y", vec![]),
            ("taken from the list", three, "/a x, /c z", vec![]),
            ("away, or without its disk", three, "/a x, /b !, /c -", vec![]),
            (
                "another in its place, nothing at that one's",
                three,
                "/a x, /b z, /c -",
                vec!["id@2"],
            ),
            ("the same, and that one's cannot be reached", three, "/a x, /b z, /c !", vec!["id@2"]),
            ("a target that no run has met", "2 - /b", "/a -, /b y", vec![]),
        ] {
            let (before, now) = (known(before), listed(now));
            let places: Vec<String> = now.iter().map(|target| target.place.clone()).collect();
            let bound = bind("id", &before, &now);
            let found = displaced(&before, &places, &bound);
            let found: Vec<&str> = found.iter().map(|known| known.instance.as_str()).collect();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_pair_that_was_joined_keeps_its_own_state() {
        let bound = bind("id", &known("1 x /a, other y /b"), &listed("/a x, /b y, /c -"));
        let instances: Vec<_> = bound.iter().filter_map(Binding::instance).collect();
        assert_eq!(instances, ["id", "other", "id@3"]);
    }

    #[test]
    fn a_command_finds_a_state_by_the_place_of_its_target() {
        let known = known("1 x -, 2 y /b, 4 z /a");
        let places = ["/c", "/d", "/b", "/a"].map(str::to_owned);
        let found = (0..4).map(|index| instance_at("id", &known, &places, index));
        let expected = [Some("id"), None, Some("id@2"), Some("id@4")];
        assert_eq!(found.collect::<Vec<_>>(), expected.map(|of| of.map(str::to_owned)));
    }

    #[test]
    fn only_one_target_is_known_at_a_place() {
        let mut known = known("1 x /a, 2 y /b");
        note(&mut known, "id@3", None, "/a");
        note(&mut known, "id@2", Some(&Identity("z".to_owned())), "/c");
        note(&mut known, "id@3", None, "/b");
        let places: Vec<_> = known.iter().map(|known| known.place.clone().unwrap()).collect();
        assert_eq!(places, ["", "/c", "/b"]);
        assert_eq!(known[1].identity, Some(Identity("z".to_owned())));
        note(&mut known, "id@2", None, "/c");
        assert_eq!(known[1].identity, Some(Identity("z".to_owned())), "what is known stays");
    }

    #[test]
    fn states_are_named_after_their_task() {
        for (instance, expected) in [
            ("id", true),
            ("id@2", true),
            ("id@12", true),
            ("id@1", false),
            ("id@02", false),
            ("id@x", false),
            ("other@2", false),
            ("id@2@3", false),
        ] {
            assert_eq!(is_of("id", instance), expected, "{instance}");
        }
        assert_eq!([instance_of("a@b", 1), instance_of("a@b", 3)], ["a@b", "a@b@3"]);
    }

    #[test]
    fn what_is_known_comes_back_and_what_is_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(StateDir::Custom(dir.path().to_owned()), "x").unwrap();
        assert_eq!(store.known_targets().unwrap(), []);
        let targets = known("1 a /a, 3 - /c");
        store.set_known_targets(&targets).unwrap();
        assert_eq!(store.known_targets().unwrap(), targets);
        let at = dir.path().join("targets-x");
        let whole = std::fs::read(&at).unwrap();
        std::fs::write(&at, &whole[..whole.len() / 2]).unwrap();
        let error = store.known_targets().unwrap_err().to_string();
        assert!(error.contains("targets-x") && error.contains("Remove it"), "{error}");
        std::fs::write(&at, b"").unwrap();
        assert_eq!(store.known_targets().unwrap(), [], "as after a power cut");
    }
}
