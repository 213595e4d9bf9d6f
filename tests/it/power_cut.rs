//! Power cuts at random moments (8-knowing, "On the disk"): on ext4, xfs and btrfs; of the
//! initiator, the target, both; during a run and after one.
//!
//! What holds whenever: a good copy on one of the disks is never replaced by one that is
//! empty or short because its data never reached the disk, a name that a disk lost does not
//! count as deleted, and both sides are equal in the end.
//!
//! The ordinary suite tries a few. More:
//!
//! ```sh
//! OSYNC_POWER_CUTS=50 OSYNC_POWER_SEED=7 cargo test --test it power_cut:: -- --nocapture
//! ```

use crate::faults::trial::{Line, end_all};
use crate::support::power::PowerDisk;
use crate::support::sandbox::{Outcome, Sandbox};
use crate::support::sshd::Sshd;
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const SORTS: [&str; 3] = ["ext4", "xfs", "btrfs"];

/// The content of every file by its path.
type Files = BTreeMap<String, Vec<u8>>;

fn number_of(name: &str, ordinarily: u64) -> u64 {
    let wanted = std::env::var(name).ok();
    wanted.map_or(ordinarily, |number| number.parse().expect("a number"))
}

/// Random numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn coin(&mut self) -> bool {
        self.roll(2) == 0
    }

    fn content(&mut self) -> Vec<u8> {
        let most = [1, 100, 5_000, 70_000, 400_000][self.roll(5) as usize];
        let size = 1 + self.roll(most) as usize;
        let mut word = self.roll(u64::MAX) | 1;
        std::iter::repeat_with(|| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (word >> 56) as u8 | 1
        })
        .take(size)
        .collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// At some part of the time that a run takes; the machine goes with the disk.
    During,
    /// As before, but only the disk goes: the run comes to an end of its own.
    DiskOnly,
    /// When a run has ended with 0.
    After,
}

struct Trial<'l> {
    sandbox: Sandbox,
    disks: [Option<PowerDisk>; 2],
    dice: Dice,
    /// What each path ever was, and may be in the end, the best last.
    versions: BTreeMap<String, Vec<Vec<u8>>>,
    /// What a user deleted.
    deleted: Vec<String>,
    settings: [&'static str; 1],
    line: &'l Line<'l>,
    words: String,
}

impl<'l> Trial<'l> {
    fn new(sort: &str, cut: [bool; 2], seed: u64, line: &'l Line<'l>) -> Result<Self, String> {
        let sandbox = Sandbox::new();
        let mut disks = [None, None];
        for (side, root) in [&sandbox.a.root, &sandbox.b.root].into_iter().enumerate() {
            if cut[side] {
                disks[side] = Some(PowerDisk::plug_in(sort, root)?);
            }
        }
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        dice.roll(2);
        let prevails = ["CONFLICT_PREVALANCE=initiator", "CONFLICT_PREVALANCE=target"];
        let settings = [prevails[dice.roll(2) as usize]];
        let words = format!("{sort}, seed {seed}, cut {cut:?}, {settings:?}");
        let (versions, deleted) = (BTreeMap::new(), Vec::new());
        Ok(Trial { sandbox, disks, dice, versions, deleted, settings, line, words })
    }

    fn roots(&self) -> [&Path; 2] {
        [&self.sandbox.a.root, &self.sandbox.b.root]
    }

    fn write(&mut self, side: usize, path: &str) {
        let content = self.dice.content();
        let at = self.roots()[side].join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, &content).unwrap();
        self.versions.entry(path.to_owned()).or_default().push(content);
    }

    fn run(&self) -> Outcome {
        self.command().run()
    }

    fn command(&self) -> crate::support::sandbox::Run {
        let mut run = self.sandbox.quick();
        for setting in self.settings {
            let (name, value) = setting.split_once('=').unwrap();
            run = run.env(name, value);
        }
        self.line.reach(run, &self.sandbox.b.root)
    }

    /// Both sides in step, on the disks.
    fn prepare(&mut self) {
        for number in 0..12 {
            self.write(number % 2, &format!("old{number}"));
            self.write(number % 2, &format!("dir{}/old{number}", number % 3));
        }
        let first = self.run();
        assert_eq!(first.status, Some(0), "{}: {first}", self.words);
    }

    /// A user's work on both sides. What is edited is on the disk, as good editors see to;
    /// what is new need not be.
    fn change(&mut self) {
        for number in 0..12 {
            let side = self.dice.roll(2) as usize;
            let path = if self.dice.coin() {
                format!("old{number}")
            } else {
                format!("dir{}/old{number}", number % 3)
            };
            match self.dice.roll(4) {
                0 | 1 => self.write(side, &path),
                2 => {
                    fs::remove_file(self.roots()[side].join(&path)).unwrap();
                    self.deleted.push(path);
                }
                _ => {}
            }
        }
        for disk in self.disks.iter().flatten() {
            disk.flush();
        }
        for number in 0..10 {
            let side = self.dice.roll(2) as usize;
            self.write(side, &format!("new{number}"));
            self.write(side, &format!("fresh{}/sub/new{number}", side));
            self.write(side, &format!("dir{}/new{number}", number % 3));
        }
    }

    /// The power goes, and whatever ran on the machine with it.
    fn cut(&mut self, when: When, usual: Duration) {
        let mut child = None;
        if when == When::After {
            let run = self.run();
            assert_eq!(run.status, Some(0), "{}: {run}", self.words);
        } else {
            let mut command = self.command().into_command();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            child = Some(command.spawn().unwrap());
            let part = self.dice.roll(1000) as u32;
            std::thread::sleep(usual * part / 1000);
        }
        let commits = self.dice.roll(3) != 0;
        for disk in self.disks.iter().flatten() {
            if commits {
                disk.commit();
            }
            disk.cut();
        }
        if let Some(mut child) = child {
            if when == When::During {
                end_all(Pid::from_child(&child), true);
                if let Line::Ssh(server) | Line::Peer(server) = self.line {
                    end_all(server.pid(), false);
                }
            }
            child.wait().unwrap();
        }
        for disk in self.disks.iter_mut().flatten() {
            disk.restore();
        }
    }

    fn files(&self) -> [Files; 2] {
        self.roots().map(|root| {
            let mut files = Files::new();
            let mut dirs = vec![root.to_owned()];
            while let Some(dir) = dirs.pop() {
                for entry in fs::read_dir(&dir).unwrap().flatten() {
                    let path = entry.path();
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    match entry.file_type().unwrap() {
                        _ if name == ".osync_workdir" => {}
                        kind if kind.is_dir() => dirs.push(path),
                        _ => drop(files.insert(name, fs::read(&path).unwrap())),
                    }
                }
            }
            files
        })
    }

    /// Plain runs until one finds all in order, and what they made of it.
    fn heal(&self) {
        let before = self.files();
        let mut told = String::new();
        let mut healed = false;
        for _ in 0..3 {
            let run = self.run();
            told.push_str(&run.to_string());
            healed = matches!(run.status, Some(0 | 2));
            if !healed {
                break;
            }
        }
        let wrong = |what: &str| -> ! {
            let sizes = |files: &Files| -> Vec<String> {
                files.iter().map(|(path, content)| format!("{path} {}", content.len())).collect()
            };
            panic!(
                "{}: {what}\n--- there after the cut: {:#?}\n--- now: {:#?}\n{told}\n--- log\n{}",
                self.words,
                before.each_ref().map(sizes),
                self.files().each_ref().map(sizes),
                self.sandbox.log()
            );
        };
        if !healed {
            wrong("a run after the cut fails");
        }
        let after = self.files();
        if after[0] != after[1] {
            wrong("the sides differ in the end");
        }
        for (path, versions) in &self.versions {
            let is_there = |version: &&Vec<u8>| before.iter().any(|f| f.get(path) == Some(version));
            let best = versions.iter().rev().find(is_there);
            match (best, after[0].get(path)) {
                (None, _) => {}
                (Some(_), None) if self.deleted.contains(path) => {}
                (Some(best), Some(now)) if best == now => {}
                (Some(_), None) => wrong(&format!("{path}: deleted, and nobody deleted it")),
                (Some(best), Some(now)) => wrong(&format!(
                    "{path}: a good copy of {} bytes was replaced by one of {}",
                    best.len(),
                    now.len()
                )),
            }
        }
    }
}

/// Whether it could be tried.
fn try_once(seed: u64, line: &Line<'_>) -> Result<(), String> {
    let sort = SORTS[seed as usize % 3];
    let cut = [[true, false], [false, true], [true, true]][(seed / 3) as usize % 3];
    let when = [When::After, When::During, When::During, When::DiskOnly][seed as usize % 4];
    let mut usual = Duration::ZERO;
    if when != When::After {
        let mut rehearsal = Trial::new(sort, cut, seed, line)?;
        rehearsal.prepare();
        rehearsal.change();
        let started = Instant::now();
        rehearsal.run();
        usual = started.elapsed();
    }
    let mut trial = Trial::new(sort, cut, seed, line)?;
    trial.words.push_str(&format!(", {when:?}"));
    trial.prepare();
    trial.change();
    trial.cut(when, usual);
    trial.heal();
    Ok(())
}

#[test]
fn a_power_cut_loses_no_good_copy() {
    let first = number_of("OSYNC_POWER_SEED", 1);
    let mut tried = 0;
    for seed in first..first + number_of("OSYNC_POWER_CUTS", 4) {
        match try_once(seed, &Line::Local) {
            Ok(()) => tried += 1,
            Err(why) => println!("skipped: {why}"),
        }
    }
    println!("{tried} power cuts");
}

/// The server's processes go with its disk.
#[test]
fn a_power_cut_over_there_loses_no_good_copy() {
    let first = number_of("OSYNC_POWER_SEED", 4);
    let server = Sshd::start("SetEnv HOME=/nonexistent");
    let lines = [Line::Ssh(&server), Line::Peer(&server)];
    let mut tried = 0;
    let seeds = first..first + number_of("OSYNC_POWER_CUTS", 2);
    for (seed, line) in seeds.zip(lines.iter().cycle()) {
        match try_once(seed, line) {
            Ok(()) => tried += 1,
            Err(why) => println!("skipped: {why}"),
        }
    }
    println!("{tried} power cuts over ssh");
}
