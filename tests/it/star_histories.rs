//! Random histories of a star: a hub and four leaves, some of which are away for a while, and runs
//! that are killed. Checked by what must hold whatever osync decides: with everybody there, two
//! runs bring all together; no content is lost; nothing is deleted that nobody deleted.
//!
//! ```sh
//! OSYNC_FAULT_ROUNDS=1000 OSYNC_FAULT_SEED=7 cargo test --test it star_histories:: -- --nocapture
//! ```

use crate::star::Star;
use crate::support::sandbox::Replica;
use crate::support::trees::{self, Mtime, What};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Numbers that follow from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % limit as u64).unwrap()
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

const PATHS: [&str; 7] = ["a", "b", "d/c", "d/e f", "d/g/h", "-i", "d/\u{e4}\n"];
const KILLS: [&str; 9] = [
    "hub locked",
    "targets noted",
    "locked",
    "scanned",
    "run numbered",
    "applied",
    "baseline saved",
    "journal written",
    "state file placed",
];

/// What people did, and what must therefore be there in the end.
#[derive(Default)]
struct People {
    /// Contents that nobody has replaced or deleted knowingly.
    alive: BTreeSet<String>,
    /// Paths that somebody has made.
    made: BTreeSet<String>,
    /// Paths that somebody has deleted or renamed. A version that wins a conflict there may be the
    /// very one that is deleted.
    deleted: BTreeSet<String>,
    written: u64,
}

struct History {
    star: Star,
    chance: Chance,
    people: People,
    /// Where each leaf is while it is away.
    away: BTreeMap<usize, PathBuf>,
    told: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let (star, chance) = (Star::new(4), Chance(seed));
        let told = vec![format!("seed {seed}")];
        // with nothing left in it, the guard against emptied replicas would stop a run
        for replica in star.leaves.iter().chain([star.hub()]) {
            replica.make("f stays s");
        }
        let made = BTreeSet::from(["stays".to_owned()]);
        let people = People { made, ..People::default() };
        History { star, chance, people, away: BTreeMap::new(), told }
    }

    /// The hub is number 4.
    fn replica(&self, number: usize) -> Replica {
        let root = match (self.away.get(&number), self.star.leaves.get(number)) {
            (Some(away), _) => away.clone(),
            (None, Some(leaf)) => leaf.root.clone(),
            (None, None) => self.star.hub().root.clone(),
        };
        Replica { root }
    }

    fn files(&self, number: usize) -> BTreeMap<String, String> {
        let tree = self.replica(number).tree();
        let file = |(path, node): (Vec<u8>, trees::Node)| match node.what {
            What::File(content) => {
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
                Some((text(path), text(content)))
            }
            _ => None,
        };
        tree.into_iter().filter_map(file).collect()
    }

    /// Somebody does something to a replica.
    fn act(&mut self, number: usize) {
        let replica = self.replica(number);
        let files = self.files(number);
        let path = PATHS[self.chance.below(PATHS.len())].to_owned();
        let had = files.get(&path).cloned();
        let free = PATHS.iter().find(|free| !files.contains_key(**free)).map(|p| (*p).to_owned());
        match (self.chance.below(5), had, free) {
            (0, Some(content), _) => {
                self.told.push(format!("{number}: delete {path:?} ({content})"));
                replica.remove(&path);
                self.people.alive.remove(&content);
                self.people.deleted.insert(path);
            }
            (1, Some(content), Some(free)) => {
                self.told.push(format!("{number}: move {path:?} to {free:?} ({content})"));
                fs::create_dir_all(replica.at(&free).parent().unwrap()).unwrap();
                replica.rename(&path, &free);
                self.people.deleted.insert(path);
                self.people.made.insert(free);
            }
            (_, had, _) => {
                self.people.written += 1;
                let content = format!("content {} of {number}", self.people.written);
                self.told.push(format!("{number}: write {path:?} ({content}) over {had:?}"));
                fs::create_dir_all(replica.at(&path).parent().unwrap()).unwrap();
                fs::write(replica.at(&path), &content).unwrap();
                let time = i64::try_from(1_600_000_000 + self.chance.number() % 1_000_000).unwrap();
                trees::set_mtime(&replica.at(&path), Mtime::secs(time));
                if let Some(had) = had {
                    self.people.alive.remove(&had);
                }
                self.people.alive.insert(content);
                self.people.made.insert(path);
            }
        }
    }

    fn leave_or_come_back(&mut self) {
        for leaf in 0..self.star.leaves.len() {
            let root = self.star.leaves[leaf].root.clone();
            match self.away.remove(&leaf) {
                Some(away) if self.chance.one_in(2) => fs::rename(away, root).unwrap(),
                Some(away) => drop(self.away.insert(leaf, away)),
                None if self.chance.one_in(4) => {
                    let away = self.star.sandbox.path(format!("away {leaf}"));
                    fs::rename(root, &away).unwrap();
                    self.away.insert(leaf, away);
                }
                None => {}
            }
        }
        self.told.push(format!("away: {:?}", self.away.keys().collect::<Vec<_>>()));
    }

    fn run(&mut self) {
        let conf = self.star.conf(&self.star.list(), "");
        let mut run = self.star.osync().arg(conf);
        if self.chance.one_in(3) {
            let step = KILLS[self.chance.below(KILLS.len())];
            let step = format!("{step}:{}", 1 + self.chance.below(6));
            self.told.push(format!("killed at {step}"));
            run = run.env("OSYNC_FAULT", step);
        }
        let run = run.run();
        let expected = if self.away.is_empty() { [0, 2] } else { [1, 1] };
        let ended_well = run.status.is_some_and(|status| expected.contains(&status));
        assert!(run.signal == Some(9) || ended_well, "{run}\n{}", self.told.join("\n"));
    }

    fn play(mut self) {
        for _ in 0..2 + self.chance.below(3) {
            self.leave_or_come_back();
            for _ in 0..self.chance.below(9) {
                let number = self.chance.below(5);
                self.act(number);
            }
            self.run();
        }
        for (leaf, away) in std::mem::take(&mut self.away) {
            fs::rename(away, &self.star.leaves[leaf].root).unwrap();
        }
        for _ in 0..2 {
            let run = self.star.run(&[]);
            self.told.push(run.to_string());
            assert!(matches!(run.status, Some(0 | 2)), "{}", self.told.join("\n"));
        }
        self.check();
    }

    fn check(&self) {
        let told = || self.told.join("\n");
        let hub = self.files(4);
        for leaf in 0..4 {
            assert_eq!(self.files(leaf), hub, "leaf {leaf} differs\n{}", told());
        }
        for path in self.people.made.difference(&self.people.deleted) {
            assert!(hub.contains_key(path), "nobody deleted {path:?}\n{}", told());
        }
        let mut kept: BTreeSet<String> = hub.into_values().collect();
        for number in 0..5 {
            for dir in [".osync_workdir/backup", ".osync_workdir/deleted"] {
                let tree = trees::read(&self.replica(number).at(dir));
                kept.extend(tree.into_values().filter_map(|node| match node.what {
                    What::File(content) => String::from_utf8(content).ok(),
                    _ => None,
                }));
            }
        }
        for content in &self.people.alive {
            assert!(kept.contains(content), "{content} is lost\n{}", told());
        }
    }
}

#[test]
fn whatever_happens_all_come_together_and_nothing_is_lost() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("OSYNC_FAULT_ROUNDS").unwrap_or(4);
    let seed = number("OSYNC_FAULT_SEED").unwrap_or(1);
    for round in 0..rounds {
        History::new(seed.wrapping_mul(1_000_003).wrapping_add(round)).play();
    }
}
