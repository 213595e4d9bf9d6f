//! Writers that never pause: files and directories are created, changed, renamed and
//! deleted on both sides while one run follows the other (docs/reliability.md).
//!
//! What must hold whatever happens when: every version that lay there complete and
//! untouched while a whole run went by is still somewhere in the end, in a replica, in
//! `backup/` or in `deleted/`; of what the writers leave when they stop, nothing is lost
//! either; and then two runs bring both sides together.

use crate::support::kept::Kept;
use crate::support::sandbox::{Outcome, Run, Sandbox};
use crate::support::sshd::{Sshd, user};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// About how many files a writer keeps.
const CROWD: usize = 120;
/// About how much a writer does while a run goes by.
const DEEDS_A_RUN: u64 = 40;

/// What a writer did to a version that was there.
struct Touch {
    version: Vec<u8>,
    from: Instant,
    until: Instant,
    /// A copy of it is gone, by the writer's own hand.
    destroyed: bool,
}

/// What the writers did.
#[derive(Default)]
struct Journal {
    /// Versions that were complete at some time.
    written: Mutex<BTreeSet<Vec<u8>>>,
    touches: Mutex<Vec<Touch>>,
}

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// Somebody at work in one replica.
struct Writer<'j> {
    root: PathBuf,
    /// What the names at the top begin with: nobody else's do, or all do.
    mine: char,
    /// Tells the contents of this writer from those of the other.
    side: usize,
    count: usize,
    dice: Dice,
    journal: &'j Journal,
    /// Between two deeds, in microseconds: as much happens during a run on any machine.
    pace: &'j AtomicU64,
}

impl Writer<'_> {
    fn work(&mut self, until: &AtomicBool) {
        while !until.load(Ordering::Relaxed) {
            self.deed();
            std::thread::sleep(Duration::from_micros(self.pace.load(Ordering::Relaxed)));
        }
    }

    /// What fails because the other side's change came first is not done.
    fn deed(&mut self) {
        let (files, dirs) = self.look();
        let pick = |dice: &mut Dice, from: &[PathBuf]| {
            (!from.is_empty()).then(|| from[dice.below(from.len())].clone())
        };
        let file = pick(&mut self.dice, &files);
        let dir = pick(&mut self.dice, &dirs);
        let kind = if files.len() > CROWD { 10 + self.dice.below(4) } else { self.dice.below(14) };
        let fresh = self.fresh_name(&dirs);
        match (kind, file, dir) {
            (0..=2, ..) => self.write_in_place(&fresh),
            (3..=4, Some(file), _) => self.write_in_place(&file),
            (5, Some(file), _) => self.write_aside(&file),
            (6, ..) => self.write_aside(&fresh),
            (7, ..) => drop(fs::create_dir(&fresh)),
            (8, Some(file), _) => self.rename(&file, &fresh),
            (9, _, Some(dir)) if !fresh.starts_with(&dir) => self.rename(&dir, &fresh),
            (10, Some(file), _) => {
                self.touch(&file, true, || drop(fs::remove_file(&file)));
                let _ = fs::create_dir(&file);
            }
            (11..=12, Some(file), _) => {
                self.touch(&file, true, || drop(fs::remove_file(&file)));
            }
            (13, _, Some(dir)) => self.touch(&dir, true, || drop(fs::remove_dir_all(&dir))),
            _ => {}
        }
    }

    /// What there is that is this writer's.
    fn look(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let (mut files, mut dirs) = (Vec::new(), Vec::new());
        let mut open = vec![self.root.clone()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if dir == self.root && !name.to_string_lossy().starts_with(self.mine) {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => {
                        open.push(entry.path());
                        dirs.push(entry.path());
                    }
                    Ok(_) => files.push(entry.path()),
                    Err(_) => {}
                }
            }
        }
        // the order of the system is no order
        files.sort();
        dirs.sort();
        (files, dirs)
    }

    fn fresh_name(&mut self, dirs: &[PathBuf]) -> PathBuf {
        let name = format!("{}{}", self.mine, self.dice.below(30));
        let at = self.dice.below(dirs.len() + 1);
        dirs.get(at).unwrap_or(&self.root).join(name)
    }

    /// Unlike all others in its length too: what both sides write at the same tick of the
    /// clock and of the same size is the same to a run without CHECKSUM.
    fn next_version(&mut self) -> Vec<u8> {
        self.count += 1;
        let mut version = format!("{}-{:06}.", self.side, self.count).into_bytes();
        let length = [20, 10_000, 20_000, 120_000][self.dice.below(4)];
        version.resize(length + 2 * self.count + self.side, b'.');
        version
    }

    /// As most programs do: for a moment there is half a file.
    fn write_in_place(&mut self, path: &Path) {
        let version = self.next_version();
        self.touch(path, true, || {
            let written = File::create(path).and_then(|mut file| {
                let (start, rest) = version.split_at(version.len() / 2);
                file.write_all(start)?;
                std::thread::yield_now();
                file.write_all(rest)
            });
            if written.is_ok() {
                self.journal.written.lock().unwrap().insert(version.clone());
            }
        });
    }

    /// As careful programs do.
    fn write_aside(&mut self, path: &Path) {
        let version = self.next_version();
        let aside = path.with_extension("part");
        self.touch(&aside, true, || drop(fs::write(&aside, &version)));
        self.journal.written.lock().unwrap().insert(version);
        self.rename(&aside, path);
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        self.touch(from, false, || self.touch(to, true, || drop(fs::rename(from, to))));
    }

    /// Does something to a file, or to a directory and all in it.
    fn touch(&self, path: &Path, destroyed: bool, deed: impl FnOnce()) {
        let from = Instant::now();
        let before = contents(path);
        deed();
        // of a directory that could be emptied in part only, of a file that others renamed
        // meanwhile: what may be gone counts as gone
        let until = Instant::now();
        let mut touches = self.journal.touches.lock().unwrap();
        for version in before {
            touches.push(Touch { version, from, until, destroyed });
        }
    }
}

/// The contents of all files at or below a path, as they are right now.
fn contents(top: &Path) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut open = vec![top.to_owned()];
    while let Some(path) = open.pop() {
        match path.symlink_metadata() {
            Ok(seen) if seen.is_dir() => {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                open.extend(
                    entries.map(|entry| entry.path()).filter(|path| {
                        path.file_name().is_none_or(|name| name != ".osync_workdir")
                    }),
                );
            }
            Ok(_) => found.extend(fs::read(&path)),
            Err(_) => {}
        }
    }
    found
}

/// Whether each writer keeps to names of its own, or all are at the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    Apart,
    Together,
}

fn play(seed: u64, runs: usize, manners: Manners, server: Option<&Sshd>) {
    let sandbox = Sandbox::new();
    // no writer touches it: neither side is ever empty
    sandbox.a.make("f keep stays");
    let run = || -> Run {
        let run = sandbox.quick().env("CONFLICT_BACKUP_MULTIPLE", "yes");
        let Some(server) = server else { return run };
        let root = sandbox.b.root.display();
        run.arg(format!("--target=ssh://{}@127.0.0.1:{}/{root}", user(), server.port))
            .env("SSH_RSA_PRIVATE_KEY", server.key())
            .env("SSH_OPTIONAL_ARGS", server.options().join(" "))
    };
    let pace = AtomicU64::new(0);
    let started = Instant::now();
    assert_eq!(run().run().status, Some(0));
    let set_pace = |usual: Duration| {
        pace.store(usual.as_micros() as u64 / DEEDS_A_RUN, Ordering::Relaxed);
    };
    set_pace(started.elapsed());
    let roots = [&sandbox.a.root, &sandbox.b.root];
    let journal = Journal::default();
    let stop = AtomicBool::new(false);
    let mut still: Vec<(BTreeSet<Vec<u8>>, Instant, Instant)> = Vec::new();
    let mut said: Vec<Outcome> = Vec::new();
    std::thread::scope(|scope| {
        for (side, root) in roots.iter().enumerate() {
            let mine = if manners == Manners::Apart { ['a', 'b'][side] } else { 's' };
            let mut writer = Writer {
                root: root.to_path_buf(),
                mine,
                side,
                count: 0,
                dice: Dice::new(seed * 2 + side as u64),
                journal: &journal,
                pace: &pace,
            };
            let stop = &stop;
            scope.spawn(move || writer.work(stop));
        }
        for number in 0..runs {
            // one that is sure to lie still, however long a run takes
            let version = format!("kept-{number}").into_bytes();
            fs::write(roots[number % 2].join(format!("keep{number}")), &version).unwrap();
            journal.written.lock().unwrap().insert(version);
            let before = Instant::now();
            let there = roots.map(|root| contents(root)).concat_sets();
            said.push(run().run());
            still.push((there, before, Instant::now()));
            set_pace(before.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
    });

    let story = || said.iter().map(Outcome::to_string).collect::<String>();
    for run in &said {
        assert!(matches!(run.status, Some(0..=2)), "{seed}: {}", story());
        assert!(!run.stderr.contains("panicked"), "{seed}: {}", story());
    }
    // the writers have stopped
    let left = roots.map(|root| contents(root)).concat_sets();
    let next = run().run();
    assert!(matches!(next.status, Some(0 | 2)), "{seed}: {}{next}", story());
    let last = run().run();
    assert_eq!(last.status, Some(0), "{seed}: {}{next}{last}", story());
    assert_eq!(sandbox.a.contents(), sandbox.b.contents(), "{seed}: {}{next}{last}", story());

    let kept = Kept::by(&sandbox);
    let name =
        |version: &[u8]| String::from_utf8_lossy(&version[..version.len().min(9)]).into_owned();
    let gone = left.iter().filter(|version| !kept.holds(version)).map(|v| name(v));
    let gone: Vec<_> = gone.collect();
    assert!(gone.is_empty(), "{seed}: lost after the end: {gone:?}\n{}{next}{last}", story());
    let written = journal.written.into_inner().unwrap();
    let touches = journal.touches.into_inner().unwrap();
    let (mut owed, mut lost) = (BTreeSet::new(), Vec::new());
    for (number, (there, from, until)) in still.iter().enumerate() {
        let touched = |version: &Vec<u8>| {
            touches.iter().any(|t| t.version == *version && t.from <= *until && t.until >= *from)
        };
        // where all write the same names, a writer may have destroyed the other copy too
        let given_up = |version: &Vec<u8>| {
            manners == Manners::Together
                && touches.iter().any(|t| t.version == *version && t.destroyed)
        };
        for version in there.iter().filter(|v| written.contains(*v) && !touched(v) && !given_up(v))
        {
            owed.insert(version.clone());
            if !kept.holds(version) {
                lost.push(format!("{} of run {number}", name(version)));
            }
        }
    }
    assert!(lost.is_empty(), "{seed}: lost: {lost:?}\n{}{next}{last}", story());
    println!(
        "seed {seed}: {} versions written in {runs} runs, {} lay still during a whole run, \
         {} runs had errors to tell",
        written.len(),
        owed.len(),
        said.iter().filter(|run| run.status == Some(1)).count()
    );
    assert!(written.len() > runs * 5, "{seed}: {} versions", written.len());
    assert!(owed.len() >= runs, "{seed}: not all was looked at: {} versions", owed.len());
}

/// Both sides' contents as one set.
trait ConcatSets {
    fn concat_sets(self) -> BTreeSet<Vec<u8>>;
}

impl ConcatSets for [BTreeSet<Vec<u8>>; 2] {
    fn concat_sets(self) -> BTreeSet<Vec<u8>> {
        self.into_iter().flatten().collect()
    }
}

fn number(name: &str, ordinarily: usize) -> usize {
    let wanted = std::env::var(name).ok();
    wanted.map_or(ordinarily, |number| number.parse().expect("it is a number"))
}

#[test]
fn writers_that_never_pause_lose_nothing_and_two_runs_bring_both_sides_together() {
    let first = number("OSYNC_FAULT_SEED", 1) as u64;
    let seeds = number("OSYNC_FAULT_ROUNDS", 1) as u64;
    for seed in first..first + seeds {
        play(seed, 5, Manners::Apart, None);
        play(seed, 5, Manners::Together, None);
    }
}

#[test]
fn writers_that_never_pause_lose_nothing_over_ssh() {
    let server = Sshd::start("");
    let first = number("OSYNC_FAULT_SEED", 1) as u64;
    let seeds = number("OSYNC_FAULT_ROUNDS", 2) as u64;
    for seed in first..first + seeds {
        let manners = if seed % 2 == 0 { Manners::Apart } else { Manners::Together };
        play(seed, 3, manners, Some(&server));
    }
}
