//! Random histories of a star: a hub and four leaves, here or behind ssh, some of which are away for
//! a while, and runs that are killed. Checked by what must hold whatever osync decides: with
//! everybody there, two runs bring all together; no content is lost; nothing is deleted that nobody
//! deleted.
//!
//! ```sh
//! TMPDIR=/dev/shm OSYNC_FAULT_ROUNDS=1000 OSYNC_FAULT_SEED=7 \
//!     cargo test --test it star_histories:: -- --nocapture
//! ```
//! So many histories are those of each of the tests below; a real sshd gets a tenth of them. On a
//! disk, four fifths of the time is waiting for it.

use crate::star::Star;
use crate::support::running::{PATIENCE, processes_about};
use crate::support::sandbox::{Replica, Run};
use crate::support::sshd::Sshd;
use crate::support::trees::{self, Mtime, What};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
/// Directories that are renamed, whatever is in them.
const DIRS: [[&str; 2]; 3] = [["d", "moved"], ["moved", "d"], ["d/g", "a"]];
/// Where a run is killed, or the osync over there.
const KILLS: [&str; 24] = [
    "hub locked",
    "targets noted",
    "locked",
    "asked",
    "answered",
    "scanned",
    "run numbered",
    "run noted",
    "in flight",
    "before a batch",
    "set aside, not looked at",
    "taken away, not looked at",
    "an operation is done",
    "rsync named an item",
    "delivered",
    "applied",
    "flushed",
    "state file written",
    "state file placed",
    "baseline saved",
    "journal written",
    "recorded",
    "cleaned",
    "unlocking",
];

/// How the leaves are reached.
#[derive(Clone, Copy)]
enum Reach<'s> {
    /// All are directories of this machine.
    Local,
    /// The first is one; the others are behind a stand-in for ssh, two of them behind an osync over
    /// there.
    StandIn,
    /// The first is one; the others are behind a server, whose osync takes part in every other run.
    Sshd(&'s Sshd),
}

impl Reach<'_> {
    /// A leaf as the list has it.
    fn place(self, leaf: usize, root: &Path) -> String {
        match (self, leaf) {
            (Reach::Local, _) | (_, 0) => root.display().to_string(),
            (Reach::StandIn, _) => format!("ssh://{}/{}", HOSTS[leaf], root.display()),
            (Reach::Sshd(server), _) => server.uri(root),
        }
    }
}

/// Where the leaves are, by the stand-in for ssh.
const HOSTS: [&str; 4] = ["", "bare", "peer2", "peer3"];

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

impl People {
    /// A directory that was renamed on another replica takes what was deleted along.
    fn deleted_by_any_name(&self) -> BTreeSet<String> {
        let mut all = self.deleted.clone();
        loop {
            let moved = |path: &String| {
                let by = |[dir, name]: [&str; 2]| {
                    Some(format!("{name}/{}", path.strip_prefix(dir)?.strip_prefix('/')?))
                };
                DIRS.into_iter().filter_map(by).collect::<Vec<_>>()
            };
            let more: Vec<String> = all.iter().flat_map(moved).collect();
            let before = all.len();
            all.extend(more);
            if all.len() == before {
                return all;
            }
        }
    }
}

struct History<'s> {
    star: Star,
    reach: Reach<'s>,
    chance: Chance,
    people: People,
    away: BTreeMap<usize, Away>,
    told: Vec<String>,
}

/// How a leaf is away.
enum Away {
    /// Its directory is at another place.
    Moved(PathBuf),
    /// Nobody reaches its machine, while this file is there.
    Down(PathBuf),
}

impl<'s> History<'s> {
    fn new(seed: u64, reach: Reach<'s>) -> Self {
        let (star, chance) = (Star::new(4), Chance(seed));
        let told = vec![format!("seed {seed}")];
        // with nothing left in it, the guard against emptied replicas would stop a run
        for replica in star.leaves.iter().chain([star.hub()]) {
            replica.make("f stays s");
        }
        let made = BTreeSet::from(["stays".to_owned()]);
        let people = People { made, ..People::default() };
        History { star, reach, chance, people, away: BTreeMap::new(), told }
    }

    /// The hub is number 4.
    fn replica(&self, number: usize) -> Replica {
        let root = match (self.away.get(&number), self.star.leaves.get(number)) {
            (Some(Away::Moved(to)), _) => to.clone(),
            (_, Some(leaf)) => leaf.root.clone(),
            (_, None) => self.star.hub().root.clone(),
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
        let known: BTreeSet<&str> = files.keys().map(String::as_str).chain(PATHS).collect();
        let known: Vec<&str> = known.into_iter().filter(|path| *path != "stays").collect();
        let path = known[self.chance.below(known.len())].to_owned();
        let had = files.get(&path).cloned();
        // what is a directory here, or lies below a file, is none of the paths
        let is_free = |path: &&str| {
            let above = path.match_indices('/').map(|(end, _)| &path[..end]);
            !replica.has(path) && above.into_iter().all(|dir| !files.contains_key(dir))
        };
        if had.is_none() && !is_free(&path.as_str()) {
            return;
        }
        let free = PATHS.iter().find(|path| is_free(path)).map(|path| (*path).to_owned());
        let [dir, name] = DIRS[self.chance.below(DIRS.len())];
        let below: Vec<&String> =
            files.keys().filter(|path| path.starts_with(&format!("{dir}/"))).collect();
        if self.chance.one_in(6) && !below.is_empty() && is_free(&name) {
            self.told.push(format!("{number}: move directory {dir:?} to {name:?}"));
            replica.rename(dir, name);
            for path in below {
                self.people.made.insert(path.replacen(dir, name, 1));
                self.people.deleted.insert(path.clone());
            }
            return;
        }
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
            match self.away.remove(&leaf) {
                Some(away) if self.chance.one_in(2) => self.come_back(leaf, away),
                Some(away) => drop(self.away.insert(leaf, away)),
                None if self.chance.one_in(4) => {
                    let away = self.leave(leaf);
                    self.away.insert(leaf, away);
                }
                None => {}
            }
        }
        self.told.push(format!("away: {:?}", self.away.keys().collect::<Vec<_>>()));
    }

    fn leave(&mut self, leaf: usize) -> Away {
        if matches!(self.reach, Reach::StandIn) && leaf > 0 && self.chance.one_in(2) {
            let down = self.star.sandbox.path(format!("{} is down", HOSTS[leaf]));
            fs::write(&down, "").unwrap();
            return Away::Down(down);
        }
        let away = self.star.sandbox.path(format!("away {leaf}"));
        fs::rename(&self.star.leaves[leaf].root, &away).unwrap();
        Away::Moved(away)
    }

    fn come_back(&self, leaf: usize, away: Away) {
        match away {
            Away::Moved(to) => fs::rename(to, &self.star.leaves[leaf].root).unwrap(),
            Away::Down(file) => fs::remove_file(file).unwrap(),
        }
    }

    fn osync(&mut self) -> Run {
        let leaves = self.star.leaves.iter().enumerate();
        let list: Vec<_> = leaves.map(|(leaf, of)| self.reach.place(leaf, &of.root)).collect();
        let run = self.star.osync().arg(self.star.conf(&list, ""));
        match self.reach {
            Reach::Local => run,
            Reach::StandIn => run.env("REMOTE_OSYNC", self.star.sandbox.path("bin/far-osync")),
            Reach::Sshd(server) => {
                let osync = if self.chance.one_in(2) { "no" } else { env!("CARGO_BIN_EXE_osync") };
                run.env("PATH", std::env::var_os("PATH").unwrap())
                    .env("REMOTE_OSYNC", osync)
                    .env("SSH_RSA_PRIVATE_KEY", server.key())
                    .env("SSH_OPTIONAL_ARGS", server.options().join(" "))
                    .env("LOCK_WAIT", "60")
            }
        }
    }

    fn run(&mut self) {
        let mut run = self.osync();
        let killed = self.chance.one_in(3);
        if killed {
            let step = KILLS[self.chance.below(KILLS.len())];
            let step = format!("{step}:{}", 1 + self.chance.below(6));
            self.told.push(format!("killed at {step}"));
            run = run.env("OSYNC_FAULT", step);
        }
        let run = run.run();
        self.wait_for_the_others();
        let ended_well = match run.status {
            Some(status) if self.away.is_empty() => matches!(status, 0 | 2),
            status => status == Some(1),
        };
        // the osync over there may be the one that is killed
        let is_killed = killed && (run.signal == Some(9) || run.status == Some(1));
        self.told.push(run.to_string());
        assert!(ended_well || is_killed, "{}", self.told.join("\n"));
    }

    /// What a killed run leaves at the other end of a line sees that it is gone, and ends.
    fn wait_for_the_others(&self) {
        let until = Instant::now() + PATIENCE;
        while !processes_about(self.star.sandbox.root()).is_empty() {
            assert!(Instant::now() < until, "survivors\n{}", self.told.join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        }
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
            self.come_back(leaf, away);
        }
        for _ in 0..2 {
            let run = self.osync().run();
            self.told.push(run.to_string());
            assert!(matches!(run.status, Some(0 | 2)), "{}", self.told.join("\n"));
        }
        self.check();
    }

    fn check(&self) {
        let told = || self.told.join("\n");
        let hub = self.files(4);
        for leaf in 0..4 {
            let (is, expected) = (self.replica(leaf).contents(), self.replica(4).contents());
            assert_eq!(is, expected, "leaf {leaf} differs\n{}", told());
        }
        for path in self.people.made.difference(&self.people.deleted_by_any_name()) {
            // of a file and a directory of one name, one makes way, and is kept
            let is_above = |file: &String| path.starts_with(&format!("{file}/"));
            let is_there = self.replica(4).has(path) || hub.keys().any(is_above);
            assert!(is_there, "nobody deleted {path:?}\n{}", told());
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

/// Plays as many histories as the environment says, one of so many of them.
fn play_all(reach: Reach<'_>, one_of: u64) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("OSYNC_FAULT_ROUNDS").unwrap_or(4).div_ceil(one_of);
    let seed = number("OSYNC_FAULT_SEED").unwrap_or(1);
    let began = Instant::now();
    for round in 0..rounds {
        History::new(seed.wrapping_mul(1_000_003).wrapping_add(round), reach).play();
    }
    println!("{rounds} histories in {:.0} s", began.elapsed().as_secs_f64());
}

#[test]
fn whatever_happens_all_come_together_and_nothing_is_lost() {
    play_all(Reach::Local, 1);
}

#[test]
fn whatever_happens_so_it_is_behind_a_shell_and_behind_an_osync_over_there() {
    play_all(Reach::StandIn, 1);
}

#[test]
fn whatever_happens_so_it_is_behind_a_real_sshd() {
    play_all(Reach::Sshd(&Sshd::start("")), 10);
}
