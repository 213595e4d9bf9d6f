//! `osync scrub`: what rots is found and healed (spec 9, "Scrub").

use crate::immutable::Fast;
use crate::star::Star;
use crate::support::couple::Couple;
use crate::support::mounts::Mounted;
use crate::support::power::PowerDisk;
use crate::support::replicas::Sort;
use crate::support::running::Running;
use crate::support::sandbox::{Outcome, Replica, Sandbox, fine};
use crate::support::schema::check_report;
use crate::support::smtp::{Behaviour, SmtpServer};
use crate::support::trees::{set_mode, whole};
use rustix::fs::IFlags;
use rustix::process::Signal;
use serde_json::Value;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Names that are no trouble for anybody who takes them as bytes.
const NAMES: [&[u8]; 6] =
    [b"plain", b"a b", b"-dash", b"new\nline", b"quote'\"s", b"bytes\xff\xfe"];

/// What a scrub says, as JSON.
struct Scrubbed {
    status: Option<i32>,
    value: Value,
    said: Outcome,
}

impl Scrubbed {
    fn number(&self, key: &str) -> u64 {
        self.value[key].as_u64().unwrap_or_else(|| panic!("{key}: {}", self.said))
    }

    /// The damaged paths, each with whose copy it is.
    fn damaged(&self) -> Vec<String> {
        let all = self.value["damaged"].as_array().unwrap().iter();
        let line = |one: &Value| {
            format!("{} {}", one["damaged"].as_str().unwrap(), one["path"].as_str().unwrap())
        };
        let mut lines: Vec<String> = all.map(line).collect();
        lines.sort();
        lines
    }
}

fn scrubbed(couple: &Couple, words: &[&str], lines: &str) -> Scrubbed {
    let said = couple.command(&[&["scrub", "--json"], words].concat(), lines).run();
    let value = serde_json::from_str(said.stdout.trim()).unwrap_or_else(|_| panic!("{said}"));
    Scrubbed { status: said.status, value, said }
}

fn scrub(couple: &Couple, words: &[&str]) -> Scrubbed {
    scrubbed(couple, words, "")
}

/// Scrubs until all contents are known: those of files that were touched within the last moment
/// are not believed yet.
fn learn(couple: &Couple) {
    let patience = Instant::now();
    loop {
        let scrub = scrub(couple, &[]);
        assert_eq!(scrub.status, Some(0), "{}", scrub.said);
        if scrub.number("new_files") == 0 {
            return;
        }
        assert!(patience.elapsed() < Duration::from_secs(60), "{}", scrub.said);
    }
}

/// A byte flips, and nothing but the content tells.
fn rot(path: &Path) {
    rot_bits(path, 0x10);
}

fn rot_bits(path: &Path, bits: u8) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let seen = file.metadata().unwrap();
    let mut byte = [0];
    let at = seen.len() / 2;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ bits], at).unwrap();
    file.set_times(FileTimes::new().set_modified(seen.modified().unwrap())).unwrap();
}

/// Mode, owner, size and mtime of a file.
fn metadata(path: &Path) -> (u32, u32, u64, i64, i64) {
    let seen = fs::metadata(path).unwrap();
    (seen.mode(), seen.uid(), seen.len(), seen.mtime(), seen.mtime_nsec())
}

fn fill(replica: &Replica, names: &[&[u8]]) {
    for (number, name) in names.iter().enumerate() {
        let content = format!("the content of number {number}\n").repeat(number + 1);
        replica.write(name, content, 1_500_000_000 + number as i64);
    }
}

#[test]
fn damage_on_either_side_is_found_carried_over_by_no_run_and_healed() {
    for sort in [Sort::Local, Sort::Ssh, Sort::Peer] {
        let couple = Couple::reached_by(sort);
        fill(couple.side(0), &NAMES);
        set_mode(&couple.side(0).at("plain"), 0o640);
        couple.sync("");
        learn(&couple);
        let good = [0, 1].map(|side| couple.side(side).details());
        let rotten = [(0, NAMES[0]), (1, NAMES[1]), (0, NAMES[3]), (1, NAMES[5])];
        for (side, name) in rotten {
            rot(&couple.side(side).at(name));
        }
        let before = rotten.map(|(side, name)| metadata(&couple.side(side).at(name)));
        let bad = rotten.map(|(side, name)| couple.side(side).read(name).unwrap());

        let found = scrub(&couple, &[]);
        assert_eq!(found.status, Some(1), "{sort:?}: {}", found.said);
        let mut expected: Vec<String> = rotten
            .iter()
            .map(|(side, name)| {
                let side = ["initiator", "target"][*side];
                match std::str::from_utf8(name) {
                    Ok(name) => format!("{side} {name}"),
                    Err(_) => format!("{side} bytes\\xFF\\xFE"),
                }
            })
            .collect();
        expected.sort();
        assert_eq!(found.damaged(), expected, "{sort:?}");

        // the other content is seen, and goes nowhere
        for lines in ["", "CHECKSUM=yes", "CHECKSUM=yes"] {
            let run = couple.run(lines).run();
            assert!(matches!(run.status, Some(0 | 2)), "{sort:?}: {run}");
        }
        for ((side, name), bad) in rotten.iter().zip(&bad) {
            assert_eq!(&couple.side(*side).read(name).unwrap(), bad, "{sort:?}");
            assert_ne!(&couple.side(1 - side).read(name).unwrap(), bad, "{sort:?}");
        }

        let healed = scrub(&couple, &["--heal"]);
        assert_eq!(healed.status, Some(2), "{sort:?}: {}", healed.said);
        assert_eq!((healed.number("damaged_files"), healed.number("healed_files")), (0, 4));
        assert_eq!([0, 1].map(|side| couple.side(side).details()), good, "{sort:?}");
        let after = rotten.map(|(side, name)| metadata(&couple.side(side).at(name)));
        assert_eq!(after, before, "{sort:?}");
        for ((side, name), bad) in rotten.iter().zip(&bad) {
            let kept = [b".osync_workdir/backup/", *name].concat();
            assert_eq!(&couple.side(*side).read(kept).unwrap(), bad, "{sort:?}");
        }
        couple.sync_twice("");
        let last = scrub(&couple, &[]);
        assert_eq!(last.status, Some(0), "{sort:?}: {}", last.said);
    }
}

#[test]
fn random_flips_in_the_image_of_a_file_system_are_all_found_and_healed() {
    let couple = Couple::reached_by(Sort::Local);
    let roots = [0, 1].map(|side| couple.side(side).root.clone());
    let mut disks = Vec::new();
    for root in &roots {
        match PowerDisk::plug_in("ext4", root) {
            Ok(disk) => disks.push(disk),
            Err(why) => return eprintln!("skipped: {why}"),
        }
    }
    const FILES: usize = 10_000;
    let name = |number: usize| format!("dir{}/file{number}", number % 70);
    let text = |number: usize| format!("<{number:05}> ").repeat(10 + number % 130);
    for number in 0..FILES {
        let at = couple.side(0).at(name(number));
        if number < 70 {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
        }
        fs::write(at, text(number)).unwrap();
    }
    couple.sync("");
    learn(&couple);
    // another file with the same content has taken the name of one that rots on the other side
    let (first, twin) = (couple.side(0).at(name(11)), couple.side(0).at("twin"));
    let time = fs::metadata(&first).unwrap().modified().unwrap();
    fs::copy(&first, &twin).unwrap();
    let set = FileTimes::new().set_modified(time);
    File::options().write(true).open(&twin).unwrap().set_times(set).unwrap();
    fs::rename(twin, first).unwrap();

    let rots_on = |number: usize| match number % 101 {
        0 => [true, false],
        11 => [false, true],
        50 => [true, true],
        _ => [false, false],
    };
    for (side, disk) in disks.iter_mut().enumerate() {
        let rotten = |number: usize| rots_on(number)[side];
        let count = (0..FILES).filter(|number| rotten(*number)).count();
        let flipped = disk.edit_image(|image| flip(image, 1 << (side + 3), rotten));
        assert!(flipped >= count, "{flipped}");
    }
    let read = |side: usize, number: usize| couple.side(side).read(name(number)).unwrap();
    let now = || -> Vec<[bool; 2]> {
        let is_good = |side, number| read(side, number) == text(number).as_bytes();
        (0..FILES).map(|number| [0, 1].map(|side| is_good(side, number))).collect()
    };
    let rotten: Vec<[bool; 2]> =
        (0..FILES).map(|number| rots_on(number).map(|is_rotten| !is_rotten)).collect();
    assert_eq!(now(), rotten);
    let both: Vec<usize> = (0..FILES).filter(|number| rots_on(*number) == [true, true]).collect();
    let of_both = |side: usize| both.iter().map(|number| read(side, *number)).collect::<Vec<_>>();
    let before = [0, 1].map(of_both);

    // no run takes damage for news, whether or not it compares contents
    for lines in ["", "CHECKSUM=yes"] {
        let run = couple.run(lines).run();
        assert_eq!(run.status, Some(0), "{lines}: {run}");
        assert_eq!(now(), rotten, "{lines}: {run}");
    }
    let expected = |rotten: [bool; 2]| match rotten {
        [true, true] => Some("both"),
        [true, false] => Some("initiator"),
        [false, true] => Some("target"),
        [false, false] => None,
    };
    let line = |number| Some(format!("{} {}", expected(rots_on(number))?, name(number)));
    let mut damaged: Vec<String> = (0..FILES).filter_map(line).collect();
    damaged.sort();
    let healed = scrub(&couple, &["--heal"]);
    assert_eq!(healed.status, Some(1), "{}", healed.said);
    assert_eq!(healed.damaged(), damaged);
    assert_eq!(healed.number("healed_files"), (damaged.len() - both.len()) as u64);
    assert_eq!([0, 1].map(of_both), before, "what is damaged on both sides is not touched");
    let whole = now().iter().filter(|good| **good == [true, true]).count();
    assert_eq!(whole, FILES - both.len());
}

/// Flips a bit in the first block of some files of an image, each of which begins with its number;
/// says in how many blocks.
fn flip(image: &File, bit: u8, is_meant: impl Fn(usize) -> bool) -> usize {
    const BLOCK: usize = 1024;
    let length = image.metadata().unwrap().len();
    let mut piece = vec![0; 1 << 20];
    let mut flipped = 0;
    for start in (0..length).step_by(piece.len()) {
        let read = image.read_at(&mut piece, start).unwrap();
        for (index, block) in piece[..read].chunks(BLOCK).enumerate() {
            let is_first = block[0] == b'<' && block[6..8] == *b"> ";
            let number = is_first.then(|| std::str::from_utf8(&block[1..6]).ok()?.parse().ok());
            if number.flatten().is_some_and(&is_meant) {
                let at = start + (index * BLOCK) as u64 + 9;
                image.write_all_at(&[block[9] ^ bit], at).unwrap();
                flipped += 1;
            }
        }
    }
    flipped
}

#[test]
fn where_the_disk_fills_up_what_is_not_healed_stays_as_it_was_and_is_healed_once_there_is_room() {
    for sort in [Sort::Local, Sort::Ssh, Sort::Peer] {
        let couple = Couple::reached_by(sort);
        let there = couple.side(1);
        let Some(_disk) = Mounted::tmpfs(&there.root, "size=4m") else {
            return;
        };
        couple.side(0).make("d d");
        let names: Vec<String> = (0..8).map(|number| format!("d/f {number}")).collect();
        let text = |name: &str| format!("<{name}> ").repeat(20_000);
        for name in &names {
            couple.side(0).write(name, text(name), 1_500_000_000);
        }
        let lines = "RSYNC_EXCLUDE_PATTERN=filler\nMINIMUM_SPACE=0";
        couple.sync(lines);
        learn(&couple);
        names.iter().for_each(|name| rot(&there.at(name)));
        let rotten: Vec<_> = names.iter().map(|name| there.read(name).unwrap()).collect();
        let filler = File::create(there.at("filler")).unwrap();
        let free = rustix::fs::statvfs(&there.root).unwrap();
        let fill = (free.f_bavail * free.f_frsize).saturating_sub(500_000);
        rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, fill).unwrap();
        let healed = couple.command(&["scrub", "--heal"], lines).run();
        assert_eq!(healed.status, Some(1), "{sort:?}: {healed}");
        assert!(!healed.stderr.contains("not healed"), "told by the ERROR of its path: {healed}");
        let backup = |name: &str| there.read(format!(".osync_workdir/backup/{name}"));
        let mut left = 0;
        for (name, rotten) in names.iter().zip(&rotten) {
            let now = there.read(name).unwrap();
            if now == *rotten {
                left += 1;
                assert_eq!(backup(name), None, "{sort:?}: {name}: {healed}");
                let told = format!("(ERROR):target: {name}: it is damaged");
                assert_eq!(healed.stderr.matches(&told).count(), 1, "{sort:?}: {healed}");
            } else {
                assert!(now == text(name).as_bytes(), "{sort:?}: {name}: {healed}");
                let lies = format!("{name}: cannot put the version that was replaced");
                let is_kept = backup(name).as_ref() == Some(rotten);
                assert!(is_kept || healed.stderr.contains(&lies), "{sort:?}: {name}: {healed}");
            }
        }
        assert!((1..8).contains(&left), "{sort:?}: {left}: {healed}");
        filler.set_len(0).unwrap();
        let healed = couple.command(&["scrub", "--heal"], lines).run();
        assert_eq!(healed.status, Some(2), "{sort:?}: {healed}");
        for (name, rotten) in names.iter().zip(&rotten) {
            assert!(there.read(name).unwrap() == text(name).as_bytes(), "{sort:?}: {healed}");
            assert_eq!(backup(name).as_ref(), Some(rotten), "{sort:?}: {name}: {healed}");
        }
        assert_eq!(couple.sync(lines).status, Some(0), "{sort:?}");
    }
}

#[test]
fn where_both_copies_are_damaged_neither_is_touched_and_somebody_decides() {
    for (taken, kept_on) in [("initiator", 1), ("target", 0)] {
        let couple = Couple::reached_by(Sort::Local);
        couple.side(0).make("f both 1234567890\nf other x");
        couple.sync("");
        learn(&couple);
        rot(&couple.side(0).at("both"));
        fs::write(couple.side(1).at("scratch"), "").unwrap();
        let file = File::options().write(true).open(couple.side(1).at("both")).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"!", 0).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        fs::remove_file(couple.side(1).at("scratch")).unwrap();
        let before = [0, 1].map(|side| couple.side(side).read("both").unwrap());
        for words in [&[][..], &["--heal"]] {
            let found = scrub(&couple, words);
            assert_eq!(found.status, Some(1), "{}", found.said);
            assert_eq!(found.damaged(), ["both both"], "{}", found.said);
            assert_eq!([0, 1].map(|side| couple.side(side).read("both").unwrap()), before);
        }
        assert_eq!(status_of(&couple)["tasks"][0]["damaged_files"], 1);
        let listed = couple.command(&["conflicts"], "").run();
        assert!(listed.stdout.contains("both: both copies are damaged"), "{listed}");
        fine(&couple.command(&["conflicts", "take", "both", taken], "").run());
        let expected = &before[1 - kept_on];
        for side in [0, 1] {
            assert_eq!(&couple.side(side).read("both").unwrap(), expected, "{taken}");
        }
        assert!(couple.side(kept_on).backup().contains("both"), "{taken}");
        let none = couple.command(&["conflicts"], "").run();
        assert!(none.stdout.contains("no conflict is open"), "{none}");
        learn(&couple);
        couple.sync_twice("CHECKSUM=yes");
    }
}

#[test]
fn both_damaged_copies_can_stand_beside_each_other() {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("f both.txt 1234567890\nf other x");
    couple.sync("");
    learn(&couple);
    rot(&couple.side(0).at("both.txt"));
    rot(&couple.side(1).at("both.txt"));
    // the same flip on both sides is somebody's doing: another one
    couple.side(1).write("both.txt", "0234567890", 1_500_000_000);
    let mtime = fs::metadata(couple.side(0).at("both.txt")).unwrap().modified().unwrap();
    let file = File::options().write(true).open(couple.side(1).at("both.txt")).unwrap();
    file.set_times(FileTimes::new().set_modified(mtime)).unwrap();
    assert_eq!(scrub(&couple, &[]).damaged(), ["both both.txt"]);
    let diff = couple.command(&["conflicts", "diff", "both.txt"], "").run();
    fine(&diff);
    assert!(diff.stdout.contains("\n+0234567890"), "the target's copy is compared: {diff}");
    fine(&couple.command(&["conflicts", "take", "both.txt", "both"], "").run());
    couple.sync_twice("");
    let names = couple.side(0).contents();
    assert_eq!(names, couple.side(1).contents());
    assert!(names.contains("both.conflict-") && names.contains("0234567890"), "{names}");
}

#[test]
fn what_was_changed_since_the_last_run_is_not_judged() {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("f edited 1\nf gone 2\nf same 3");
    couple.sync("");
    learn(&couple);
    couple.side(0).write("edited", "another-one", 1_600_000_000);
    couple.side(0).make("f new 5");
    couple.side(1).remove("gone");
    let scrub = scrub(&couple, &["--heal"]);
    assert_eq!(scrub.status, Some(0), "{}", scrub.said);
    assert_eq!(scrub.number("changed_files"), 2, "{}", scrub.said);
    couple.sync_twice("");
    assert_eq!(couple.side(1).contents(), "f edited another-one\nf new 5\nf same 3\n");
}

#[test]
fn a_chmod_does_not_make_a_damaged_file_sound_and_an_edit_does() {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("f chmod 1234567890\nf edit 1234567890\nf move 1234567890");
    couple.sync("CHECKSUM=yes");
    learn(&couple);
    for name in ["chmod", "edit", "move"] {
        rot(&couple.side(0).at(name));
    }
    assert_eq!(scrub(&couple, &[]).damaged().len(), 3);
    set_mode(&couple.side(0).at("chmod"), 0o600);
    couple.side(0).write("edit", "edited by hand", 1_600_000_000);
    couple.side(0).rename("move", "moved");
    for lines in ["", "CHECKSUM=yes"] {
        let run = couple.run(lines).run();
        assert!(matches!(run.status, Some(0 | 2)), "{run}");
    }
    assert_eq!(couple.side(1).read("edit").unwrap(), b"edited by hand");
    for name in ["chmod", "moved"] {
        assert_eq!(couple.side(1).read(name).unwrap(), b"1234567890", "{name}");
    }
    let healed = scrub(&couple, &["--heal"]);
    assert!(healed.damaged().contains(&"initiator chmod".to_owned()), "{}", healed.said);
    assert_eq!(couple.side(0).read("chmod").unwrap(), b"1234567890", "{}", healed.said);
}

fn status_of(couple: &Couple) -> Value {
    let conf = couple.sandbox.path("etc/couple.conf");
    let run = couple.sandbox.osync().arg("status").arg(conf).arg("--json").run();
    serde_json::from_str(&run.stdout).unwrap()
}

/// Two sides in step, of which the target's `f` is known to be damaged.
fn with_damaged_f(lines: &str) -> Couple {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("d dir\nf f 1234567890\nf g other\nf dir/x 1");
    couple.sync(lines);
    learn(&couple);
    rot(&couple.side(1).at("f"));
    assert_eq!(scrub(&couple, &[]).damaged(), ["target f"]);
    couple
}

/// Runs, which may warn of damaged files.
fn run(couple: &Couple, lines: &str) -> Outcome {
    let run = couple.run(lines).run();
    assert!(matches!(run.status, Some(0 | 2)), "{run}");
    run
}

#[test]
fn the_last_sound_copy_stays_when_the_damaged_one_has_another_name_and_is_held_back() {
    type Change = (&'static str, &'static str, fn(&Replica));
    let changes: [Change; 5] = [
        ("moved, not followed", "DETECT_MOVES=no", |side| side.rename("f", "f2")),
        ("moved onto another file", "", |side| side.rename("f", "g")),
        ("linked twice and unlinked", "", |side| {
            for name in ["f2", "f3"] {
                fs::hard_link(side.at("f"), side.at(name)).unwrap();
            }
            side.remove("f");
        }),
        ("rotated", "", |side| {
            side.rename("f", "f.1");
            side.write("f", "new", 1_600_000_000);
        }),
        ("a directory made of it", "", |side| {
            side.rename("f", "f2");
            fs::create_dir(side.at("f")).unwrap();
            side.rename("f2", "f/f");
        }),
    ];
    for (what, lines, change) in changes {
        let lines = format!("SOFT_DELETE=no\nCONFLICT_BACKUP=no\n{lines}");
        let couple = with_damaged_f(&lines);
        let bad = couple.side(1).read("f").unwrap();
        change(couple.side(1));
        for _ in 0..2 {
            let run = run(&couple, &lines);
            let holds = |content: &[u8]| {
                let names = ["f", "f2", "f.1", "f/f", "g", "f3"];
                names.iter().any(|name| {
                    fs::read(couple.side(0).at(name)).is_ok_and(|found| found == content)
                })
            };
            assert!(holds(b"1234567890"), "{what}: {run}");
            assert!(!holds(&bad), "{what}: {run}");
        }
    }
}

#[test]
fn what_was_kept_for_its_sound_content_goes_when_the_damaged_file_does() {
    let lines = "DETECT_MOVES=no";
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("d dir\nf dir/f 1234567890");
    couple.sync(lines);
    learn(&couple);
    rot(&couple.side(1).at("dir/f"));
    assert_eq!(scrub(&couple, &[]).damaged(), ["target dir/f"]);
    couple.side(1).rename("dir", "moved");
    for _ in 0..2 {
        let run = run(&couple, lines);
        assert_eq!(couple.side(0).contents(), "d dir\nf dir/f 1234567890\nd moved\n", "{run}");
    }
    couple.side(1).remove("moved/f");
    let run = run(&couple, lines);
    assert_eq!(couple.side(0).contents(), "d moved\n", "{run}");
    couple.sync(lines);
}

#[test]
fn a_damaged_file_goes_to_no_new_place_in_a_new_directory_either() {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("d dir\nf dir/bad 1234567890\nf dir/good x");
    couple.sync("");
    learn(&couple);
    rot(&couple.side(0).at("dir/bad"));
    assert_eq!(scrub(&couple, &[]).damaged(), ["initiator dir/bad"]);
    // the other side has lost everything, and is begun anew
    couple.side(1).remove("dir");
    couple.side(1).remove(".osync_workdir");
    let run = couple.run("").arg("--initialize").run();
    assert!(matches!(run.status, Some(0 | 2)), "{run}");
    let run = couple.run("").run();
    assert_eq!(run.status, Some(2), "{run}");
    assert_eq!(couple.side(1).contents(), "d dir\nf dir/good x\n", "{run}");
}

#[test]
fn a_healing_leaves_what_is_to_be_done_to_the_next_run() {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("d dir\nf dir/bad 1234567890\nf mode x\nf edit x\nf gone x");
    couple.sync("");
    learn(&couple);
    rot(&couple.side(1).at("dir/bad"));
    set_mode(&couple.side(0).at("mode"), 0o600);
    couple.side(1).write("edit", "edited", 1_600_000_000);
    couple.side(0).remove("gone");
    couple.side(0).make("f dir/new x");
    let healed = scrub(&couple, &["--heal"]);
    assert_eq!(healed.number("healed_files"), 1, "{}", healed.said);
    assert!(couple.side(1).has("gone") && !couple.side(1).has("dir/new"));
    couple.sync_twice("");
    assert_eq!(couple.side(0).details(), couple.side(1).details());
    let contents = couple.side(1).contents();
    assert_eq!(contents, "d dir\nf dir/bad 1234567890\nf dir/new x\nf edit edited\nf mode x\n");
}

/// Waits until a file was last touched a while ago: what was touched just now is no evidence, and
/// the clock of a shell over there counts whole seconds.
fn settled(path: &Path) {
    let seen = fs::metadata(path).unwrap();
    let touched = Duration::new(seen.ctime() as u64, seen.ctime_nsec() as u32);
    while SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
        < touched + Duration::from_millis(1100)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn with_scrub_in_the_settings_damage_is_known_from_the_first_run_on() {
    for sort in [Sort::Local, Sort::Ssh] {
        let couple = Couple::reached_by(sort);
        let lines = "SCRUB=yes";
        fill(couple.side(0), &NAMES);
        couple.side(1).write("from there", "the other way", 1_500_000_000);
        settled(&couple.side(1).at("from there"));
        couple.sync(lines);
        couple.side(0).write("later", "in a second run", 1_500_000_000);
        settled(&couple.side(0).at("later"));
        couple.sync(lines);
        for (side, name) in [(1, "plain"), (0, "from there"), (1, "later")] {
            rot(&couple.side(side).at(name));
        }
        let healed = scrub(&couple, &["--heal"]);
        let expected = ["initiator from there", "target later", "target plain"];
        assert_eq!(healed.damaged(), expected, "{sort:?}: {}", healed.said);
        assert_eq!(healed.status, Some(2), "{sort:?}: {}", healed.said);
        assert_eq!(couple.side(0).details(), couple.side(1).details(), "{sort:?}");
    }
}

#[test]
fn what_is_known_of_a_file_goes_along_when_it_is_renamed() {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("d dir\nf dir/one 1234567890\nf dir/two x");
    couple.sync("");
    learn(&couple);
    couple.side(0).rename("dir", "other");
    couple.sync("");
    rot(&couple.side(1).at("other/one"));
    let healed = scrub(&couple, &["--heal"]);
    assert_eq!(healed.damaged(), ["target other/one"], "{}", healed.said);
    assert_eq!(couple.side(1).read("other/one").unwrap(), b"1234567890");
}

#[test]
fn a_dry_scrub_writes_nothing_down_and_heals_nothing() {
    let couple = Couple::reached_by(Sort::Local);
    fill(couple.side(0), &NAMES);
    couple.sync("");
    learn(&couple);
    rot(&couple.side(1).at("plain"));
    let state = couple.side(0).at(".osync_workdir/state");
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = (names(&state), whole(&couple.side(1).tree()));
    for words in [&["--dry"][..], &["--dry", "--heal"]] {
        let found = scrub(&couple, words);
        assert_eq!(found.status, Some(1), "{}", found.said);
        assert_eq!(found.damaged(), ["target plain"]);
        assert_eq!((names(&state), whole(&couple.side(1).tree())), before);
    }
}

#[test]
fn parts_of_all_files_are_read_in_turn_until_all_were() {
    let couple = Couple::reached_by(Sort::Local);
    let names: Vec<String> = (0..40).map(|number| format!("file{number}")).collect();
    for name in &names {
        couple.side(0).make(&format!("f {name} 1234567890"));
    }
    couple.sync("");
    learn(&couple);
    rot(&couple.side(1).at("file7"));
    let mut checked = 0;
    let mut found = Vec::new();
    for _ in 0..4 {
        let part = scrub(&couple, &["--percent", "25"]);
        let is_again = u64::from(!found.is_empty());
        checked += part.number("checked_files") - is_again;
        found = part.damaged();
    }
    assert!((40..=44).contains(&checked), "{checked}");
    assert_eq!(found, ["target file7"], "what is damaged is looked at each time");
    let timed = scrub(&couple, &["--time", "60"]);
    assert_eq!(timed.number("checked_files"), 40);
    for words in [&["--percent", "0"][..], &["--percent", "101"], &["--time", "0"], &["x"]] {
        let run = couple.command(&[&["scrub"], words].concat(), "").run();
        assert_eq!(run.status, Some(128), "{run}");
    }
}

#[test]
fn files_that_are_written_meanwhile_are_never_called_damaged() {
    for sort in [Sort::Local, Sort::Ssh] {
        let couple = Couple::reached_by(sort);
        for number in 0..20 {
            couple.side(0).make(&format!("f file{number} {}", "x".repeat(3000)));
        }
        couple.sync("");
        learn(&couple);
        // appended to and rewritten at each step of the reading
        let root = couple.side(0).root.display();
        let write = format!(
            "scanned:1:cd '{root}'; for n in 1 2 3 4; do echo more >> file$n; done; \
             for n in 5 6 7; do printf y | dd of=file$n conv=notrunc status=none; done"
        );
        let run =
            couple.command(&["scrub", "--heal", "--json"], "").env("OSYNC_FAULT", write).run();
        let value: Value = serde_json::from_str(run.stdout.trim()).unwrap();
        assert_eq!(value["damaged"].as_array().unwrap().len(), 0, "{run}");
        assert_eq!(run.status, Some(0), "{run}");
        assert!(value["unread_copies"].as_u64().unwrap() >= 7, "{run}");
        couple.sync("");
        assert_eq!(couple.side(0).contents(), couple.side(1).contents());
    }
}

#[test]
fn a_scrub_that_is_killed_leaves_each_file_old_or_healed_and_is_made_good_by_the_next() {
    let steps = [
        "read",
        "damage noted",
        "digests kept",
        "scrubbed",
        "in flight",
        "rsync named an item",
        "settling",
        "applied",
        "baseline saved",
        "healing noted",
        "healed",
        "journal written",
    ];
    for step in steps {
        let couple = Couple::reached_by(Sort::Local);
        fill(couple.side(0), &NAMES);
        couple.sync("");
        learn(&couple);
        let good = couple.side(1).details();
        rot(&couple.side(1).at("plain"));
        rot(&couple.side(0).at("a b"));
        let bad = couple.side(1).read("plain").unwrap();
        let sound = couple.side(0).read("plain").unwrap();
        let killed =
            couple.command(&["scrub", "--heal"], "").env("OSYNC_FAULT", format!("{step}:1")).run();
        let now = couple.side(1).read("plain").unwrap();
        assert!(now == bad || now == sound, "{step}: {killed}");
        assert!(killed.signal.is_some(), "{step}: {killed}");
        if ["in flight", "applied", "healing noted", "healed"].contains(&step) {
            let told = couple.command(&["history"], "").run();
            let expected = "scrub: 2 files damaged; it was broken off while it healed";
            assert!(told.stdout.contains(expected), "{step}: {told}");
        }
        let run = couple.run("").run();
        assert!(matches!(run.status, Some(0 | 2)), "{step}: {run}");
        let patience = Instant::now();
        while scrub(&couple, &["--heal"]).status != Some(0) {
            assert!(patience.elapsed() < Duration::from_secs(60), "{step}");
        }
        for side in [0, 1] {
            assert_eq!(couple.side(side).details(), good, "{step}");
        }
        let kept = couple.side(1).read(".osync_workdir/backup/plain");
        assert_eq!(kept, Some(bad), "{step}");
        let restored = couple.command(&["restore", "plain"], "").run();
        assert_eq!(restored.status, Some(1), "only a damaged version is kept: {step}: {restored}");
        couple.sync("");
        assert!(!couple.side(0).at(".osync_workdir/state/damaged-test").exists(), "{step}");
        let open = open_conflicts(&couple);
        assert!(open.contains("no conflict is open"), "{step}: {open}");
    }
}

#[test]
fn a_scrub_that_is_stopped_keeps_what_it_has_read() {
    let couple = Couple::reached_by(Sort::Local);
    for number in 0..40 {
        couple.side(0).make(&format!("f file{number} {}", "x".repeat(4000)));
    }
    couple.sync("");
    let trace = couple.sandbox.path("trace");
    let slow = couple.command(&["scrub", "--bwlimit", "16"], "").env("OSYNC_FAULT_TRACE", &trace);
    let mut running = Running::start(&couple.sandbox, slow);
    let has_read = || fs::read_to_string(&trace).is_ok_and(|steps| steps.contains("\nread:1\n"));
    running.until("it reads", has_read);
    running.signal(Signal::TERM);
    assert_eq!(running.end(), Some(2));
    assert!(couple.side(0).at(".osync_workdir/state/digests-test").exists());
    learn(&couple);
}

#[test]
fn torn_digests_are_begun_anew_with_a_warning() {
    let couple = Couple::reached_by(Sort::Local);
    fill(couple.side(0), &NAMES);
    couple.sync("");
    learn(&couple);
    for (name, words) in [("digests", "are torn"), ("damaged", "is torn")] {
        let file = couple.side(0).at(format!(".osync_workdir/state/{name}-test"));
        rot(&couple.side(1).at("plain"));
        scrub(&couple, &[]);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        let found = couple.command(&["scrub", "--heal"], "").run();
        let said = format!("{}{}", found.stdout, found.stderr);
        assert!(said.contains(words), "{name}: {found}");
        // what differs is named even where nothing tells which copy is sound
        assert!(said.contains("plain"), "{name}: {found}");
        let after = couple.side(0).read("plain").unwrap();
        couple.side(1).remove("plain");
        couple.side(0).write("plain", after, 1_600_000_000);
        couple.sync("");
        learn(&couple);
    }
}

#[test]
fn a_copy_that_differs_and_was_never_read_before_is_left_to_somebody() {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("f doc 1234567890\nf other x");
    couple.sync("");
    rot(&couple.side(1).at("doc"));
    let found = scrub(&couple, &["--heal"]);
    assert_eq!(found.status, Some(1), "{}", found.said);
    assert_eq!(found.damaged(), ["undecided doc"]);
    fine(&couple.command(&["conflicts", "take", "doc", "initiator"], "").run());
    assert_eq!(couple.side(1).read("doc").unwrap(), b"1234567890");
    learn(&couple);
}

#[test]
fn all_names_of_a_damaged_file_get_the_sound_content_and_stay_linked() {
    let couple = Couple::reached_by(Sort::Local);
    let lines = "PRESERVE_HARDLINKS=yes";
    couple.side(0).make("f one 1234567890\nf other x");
    fs::hard_link(couple.side(0).at("one"), couple.side(0).at("two")).unwrap();
    let config = |words: &[&str]| scrubbed(&couple, words, lines);
    couple.sync(lines);
    while config(&[]).number("new_files") > 0 {}
    rot(&couple.side(1).at("one"));
    let healed = config(&["--heal"]);
    assert_eq!(healed.status, Some(2), "{}", healed.said);
    let inode = |name| fs::metadata(couple.side(1).at(name)).unwrap().ino();
    assert_eq!(inode("one"), inode("two"));
    assert_eq!(couple.side(1).read("two").unwrap(), b"1234567890");
    couple.sync(lines);
}

#[test]
fn a_name_that_was_not_healed_stays_damaged_when_another_one_of_the_file_is() {
    let heal = |couple: &Couple| {
        let healed = scrub(couple, &["--heal"]);
        assert_eq!((healed.number("healed_files"), healed.number("damaged_files")), (1, 1));
        assert_eq!(healed.damaged(), ["target f", "target held back"]);
    };
    let take = |couple: &Couple| {
        fine(&couple.command(&["conflicts", "take", "f", "initiator"], "").run());
    };
    let remedies: [&dyn Fn(&Couple); 2] = [&heal, &take];
    for remedy in remedies {
        let couple = with_damaged_f("");
        let bad = couple.side(1).read("f").unwrap();
        fs::hard_link(couple.side(1).at("f"), couple.side(1).at("held back")).unwrap();
        run(&couple, "");
        remedy(&couple);
        assert_eq!(couple.side(1).read("f").unwrap(), b"1234567890");
        for lines in ["", "CHECKSUM=yes", ""] {
            let run = run(&couple, lines);
            assert_eq!(couple.side(1).read("held back").unwrap(), bad, "{run}");
            assert!(!couple.side(0).has("held back"), "{run}");
            scrub(&couple, &[]);
        }
        couple.side(1).remove("held back");
        run(&couple, "");
        couple.sync("");
    }
}

#[test]
fn a_file_that_could_not_be_healed_keeps_none_from_being_healed_later() {
    let couple = with_damaged_f("");
    rot(&couple.side(1).at("g"));
    assert_eq!(scrub(&couple, &[]).damaged(), ["target f", "target g"]);
    let Some(fast) = Fast::make(&couple.side(1).at("f"), IFlags::IMMUTABLE) else { return };
    let one = scrub(&couple, &["--heal"]);
    assert_eq!((one.status, one.number("healed_files")), (Some(1), 1), "{}", one.said);
    assert!(!one.said.to_string().contains("by the next run"), "{}", one.said);
    drop(fast);
    let other = scrub(&couple, &["--heal"]);
    assert_eq!((other.status, other.number("healed_files")), (Some(2), 1), "{}", other.said);
    assert_eq!(couple.side(1).read("f").unwrap(), b"1234567890", "{}", other.said);
    couple.sync("");
}

fn open_conflicts(couple: &Couple) -> String {
    couple.command(&["conflicts"], "").run().stdout
}

#[test]
fn a_damaged_file_that_is_held_back_under_a_new_name_is_known_by_that_name_and_can_be_settled() {
    let lines = "DETECT_MOVES=no";
    let held_back = || {
        let couple = with_damaged_f(lines);
        couple.side(1).rename("f", "f2");
        run(&couple, lines);
        assert_eq!(scrub(&couple, &["--heal"]).damaged(), ["target f2"]);
        let open = open_conflicts(&couple);
        assert!(open.contains("f2: the target's copy is damaged"), "{open}");
        assert!(open.lines().all(|line| !line.starts_with("f:")), "{open}");
        couple
    };
    let couple = held_back();
    let refused = couple.command(&["conflicts", "take", "f2", "initiator"], "").run();
    assert_ne!(refused.status, Some(0), "{refused}");
    fine(&couple.command(&["conflicts", "take", "f2", "target"], "").run());
    couple.sync(lines);
    assert_eq!(couple.side(0).read("f2"), couple.side(1).read("f2"));
    assert!(!couple.side(0).has("f"));
    assert!(!open_conflicts(&couple).contains("f2"));

    let couple = held_back();
    couple.side(1).write("f2", "edited", 1_600_000_000);
    run(&couple, lines);
    assert!(!open_conflicts(&couple).contains("f2"));
    couple.sync(lines);
    assert_eq!(couple.side(0).read("f2").unwrap(), b"edited");

    let couple = held_back();
    couple.side(1).rename("f2", "f");
    let healed = scrub(&couple, &["--heal"]);
    assert_eq!((healed.status, healed.number("healed_files")), (Some(2), 1), "{}", healed.said);
    assert_eq!(couple.side(1).read("f").unwrap(), b"1234567890");
    assert!(!open_conflicts(&couple).contains("f2"));
    couple.sync(lines);
}

#[test]
fn what_was_damaged_and_is_gone_or_renamed_on_both_sides_is_no_open_conflict() {
    let couple = with_damaged_f("");
    for side in [0, 1] {
        couple.side(side).remove("f");
    }
    run(&couple, "");
    assert_eq!(open_conflicts(&couple).matches("damaged").count(), 0);
    couple.sync("");

    let couple = with_damaged_f("");
    for side in [0, 1] {
        couple.side(side).rename("f", "f2");
    }
    run(&couple, "");
    assert_eq!(scrub(&couple, &["--heal"]).status, Some(2));
    let open = open_conflicts(&couple);
    assert_eq!(open.matches("damaged").count(), 0, "{open}");
    couple.sync("");
}

#[test]
fn what_is_damaged_and_was_healed_is_told_by_status_conflicts_history_report_and_metrics() {
    let couple = Couple::reached_by(Sort::Local);
    fill(couple.side(0), &NAMES);
    couple.sync("");
    learn(&couple);
    rot(&couple.side(1).at("plain"));
    let lines = format!(
        "REPORT='{0}/report.json'\nMETRICS_FILE='{0}/metrics.prom'",
        couple.sandbox.root().display()
    );
    let read = |name: &str| fs::read_to_string(couple.sandbox.path(name)).unwrap();
    let status = || status_of(&couple);
    assert_eq!(scrubbed(&couple, &[], &lines).status, Some(1));
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    check_report(&report);
    assert_eq!(report["scrub"]["damaged_files"], 1);
    assert_eq!(report["scrub"]["damaged"][0]["path"], "plain");
    assert!(read("metrics.prom").contains("osync_scrub_checked_files{instance=\"test\"} 6\n"));
    assert!(read("metrics.prom").contains("osync_scrub_damaged_files{instance=\"test\"} 1\n"));
    let task = &status()["tasks"][0];
    assert_eq!((&task["state"], &task["damaged_files"]), (&"damaged".into(), &1.into()));
    assert_eq!(task["last_scrub"]["checked_files"], 6);
    let run = couple.command(&["conflicts", "--json"], "").run();
    let conflict: Value = serde_json::from_str(run.stdout.trim()).unwrap();
    assert_eq!(conflict["state"], "damaged", "{run}");
    for nobody in ["winner", "won", "lost"] {
        assert!(conflict[nobody].is_null(), "{nobody}: {run}");
    }
    assert_eq!(conflict["initiator"], conflict["target"], "{run}");
    let run = couple.command(&["history", "plain"], "").run();
    assert!(run.stdout.contains("the target's copy is damaged: plain"), "{run}");

    assert_eq!(scrubbed(&couple, &["--heal"], &lines).status, Some(2));
    assert!(read("metrics.prom").contains("osync_scrub_damaged_files{instance=\"test\"} 0\n"));
    assert_eq!(status()["tasks"][0]["state"], "ok");
    let run = couple.command(&["conflicts"], "").run();
    assert!(run.stdout.contains("no conflict is open"), "{run}");
    let run = couple.command(&["conflicts", "--all"], "").run();
    assert!(run.stdout.contains("plain [resolved]: the target's copy is damaged (found"), "{run}");
    let run = couple.command(&["history"], "").run();
    assert!(run.stdout.contains("scrub: 1 update to the target"), "{run}");
    // a run is taken back, and no healing
    let undo = couple.command(&["undo", "--dry"], "").run();
    assert!(undo.stdout.contains("run 1"), "{undo}");
}

#[test]
fn a_restore_takes_the_newest_sound_version_and_a_damaged_one_by_its_number_only() {
    let couple = Couple::reached_by(Sort::Local);
    couple.side(0).make("f f the-old-one\nf g never-changed");
    couple.sync("");
    couple.side(0).write("f", "1234567890", 1_500_000_100);
    couple.sync("");
    learn(&couple);
    for name in ["f", "g"] {
        rot(&couple.side(1).at(name));
    }
    let bad = couple.side(1).read("f").unwrap();
    assert_eq!(scrub(&couple, &["--heal"]).number("healed_files"), 2);

    let shown = couple.command(&["history", "f"], "").run();
    let kept = |number: &str| {
        let is_it = |line: &&str| line.trim_start().starts_with(number);
        shown.stdout.lines().rfind(is_it).unwrap_or_else(|| panic!("{shown}"))
    };
    assert!(kept("1 ").ends_with("  damaged") && !kept("2 ").contains("damaged"), "{shown}");
    let shown = couple.command(&["history", "f", "--json"], "").run();
    let versions = shown.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let damaged: Vec<Value> = versions.map(|one| one["damaged"].clone()).collect();
    assert!(damaged.ends_with(&[true.into(), false.into()]), "{shown}");

    let looked_at = |name: &str, words: &[&str]| {
        let dir = couple.sandbox.path(name);
        let to = dir.to_str().unwrap();
        fine(&couple.command(&[&["restore", "f", "--to", to], words].concat(), "").run());
        fs::read(dir.join("f")).unwrap()
    };
    assert_eq!(looked_at("newest", &[]), b"the-old-one");
    assert_eq!(looked_at("by number", &["--version", "1"]), bad);
    let refused = couple.command(&["restore", "g"], "").run();
    assert_eq!(refused.status, Some(1), "{refused}");
    assert!(refused.stderr.contains("only a damaged version of it is kept"), "{refused}");
    assert_eq!(couple.side(0).read("g").unwrap(), b"never-changed");
    let back = couple.command(&["restore", "g", "--version", "1"], "").run();
    fine(&back);
    assert!(back.stdout.contains("it is a damaged version"), "{back}");
}

#[test]
fn a_sound_copy_that_goes_because_the_damaged_one_was_deleted_is_kept_whatever_the_settings_say() {
    let lines = "SOFT_DELETE=no\nCONFLICT_BACKUP=no";
    let couple = with_damaged_f(lines);
    for side in [0, 1] {
        couple.side(side).remove("g");
    }
    couple.side(1).remove("f");
    couple.side(1).remove("dir/x");
    let run = couple.run(lines).run();
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.to_string().contains("it is kept in deleted/"), "{run}");
    assert_eq!(couple.side(0).contents(), "d dir\n", "{run}");
    assert_eq!(couple.side(0).deleted(), "f f 1234567890\n", "{run}");
    couple.sync(lines);
    fine(&couple.command(&["restore", "f"], lines).run());
    couple.sync(lines);
    assert_eq!(couple.side(1).read("f").unwrap(), b"1234567890");
}

#[test]
fn a_scrub_has_the_lowest_priority_on_both_sides() {
    for sort in [Sort::Local, Sort::Ssh, Sort::Peer] {
        let couple = Couple::reached_by(sort);
        couple.side(0).make("f f x");
        couple.sync("");
        let told = couple.sandbox.path("told");
        let tell = |side: &str| format!("(nice; ionice) > '{}/{side}'", told.display());
        fs::create_dir(&told).unwrap();
        let lines = format!(
            "LOCAL_RUN_AFTER_CMD=\"{}\"\nREMOTE_RUN_AFTER_CMD=\"{}\"",
            tell("here"),
            tell("there")
        );
        assert_eq!(scrubbed(&couple, &[], &lines).status, Some(0), "{sort:?}");
        let sides: &[&str] = if couple.is_remote() { &["here", "there"] } else { &["here"] };
        for side in sides {
            let priority = fs::read_to_string(told.join(side)).unwrap();
            assert_eq!(priority, "19\nidle\n", "{sort:?}: {side}");
        }
    }
}

#[test]
fn mail_tells_of_damage_and_of_what_was_healed_and_of_nothing_else() {
    let server = SmtpServer::start(Behaviour::default());
    let couple = Couple::reached_by(Sort::Local);
    fill(couple.side(0), &NAMES);
    couple.sync("");
    learn(&couple);
    let lines = format!(
        "DESTINATION_MAILS=a@example.org\nSMTP_SERVER=localhost\nSMTP_PORT={}",
        server.port()
    );
    assert_eq!(scrubbed(&couple, &[], &lines).status, Some(0));
    assert_eq!(server.mails().len(), 0, "all is sound");
    for name in ["plain", "a b"] {
        rot(&couple.side(1).at(name));
    }
    assert_eq!(scrubbed(&couple, &[], &lines).status, Some(1));
    let mails = server.wait_for(1);
    assert!(mails[0].subject().contains("Error alert for test"), "{}", mails[0].subject());
    let text = mails[0].text();
    assert!(text.contains("target: plain: it is damaged") && text.contains("a b"), "{text}");
    assert!(text.contains("2 files damaged"), "{text}");
    assert_eq!(scrubbed(&couple, &["--heal"], &lines).status, Some(2));
    let mails = server.wait_for(2);
    assert!(mails[1].subject().contains("Warning alert for test"), "{}", mails[1].subject());
    let text = mails[1].text();
    assert!(text.contains("2 files damaged, all healed"), "{text}");
}

#[test]
fn history_tells_of_all_that_a_scrub_found_damaged() {
    let couple = Couple::reached_by(Sort::Local);
    let names: Vec<String> = (0..120).map(|number| format!("file{number}")).collect();
    for name in &names {
        couple.side(0).make(&format!("f {name} 1234567890"));
    }
    couple.sync("");
    learn(&couple);
    for name in &names {
        rot(&couple.side(1).at(name));
    }
    assert_eq!(scrub(&couple, &[]).damaged().len(), 120);
    let told = couple.command(&["history"], "").run();
    assert!(told.stdout.contains("  scrub: 120 files damaged\n"), "{told}");
    let number = told.stdout.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    let run = couple.command(&["history", "--run", number], "").run();
    for name in &names {
        let line = format!("  damaged: {name}: the target's copy is damaged\n");
        assert!(run.stdout.contains(&line), "{run}");
    }
    let json = couple.command(&["history", "--run", number, "--json"], "").run();
    assert_eq!(json.stdout.matches("\"state\":\"damaged\"").count(), 120, "{json}");
}

#[test]
fn what_the_file_system_cannot_read_is_named_and_never_called_damaged() {
    let couple = Couple::reached_by(Sort::Local);
    // this one has checksums of its own, and refuses what does not fit them
    let mut disk = match PowerDisk::plug_in("btrfs", &couple.side(1).root) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let text = "<00001> ".repeat(1000);
    couple.side(0).write("f", &text, 1_500_000_000);
    couple.side(0).make("f other x");
    couple.sync("");
    learn(&couple);
    let flipped = disk.edit_image(|image| flip(image, 1, |number| number == 1));
    assert!(flipped > 0);
    let found = scrub(&couple, &["--heal"]);
    assert_eq!(found.status, Some(1), "{}", found.said);
    assert_eq!((found.damaged().len(), found.number("unread_copies")), (0, 1), "{}", found.said);
    let said = found.said.to_string();
    assert!(said.contains("target: f: its content cannot be checked: cannot read it"), "{said}");
    assert_eq!(couple.side(0).read("f").unwrap(), text.as_bytes());
}

#[test]
fn a_scrub_says_as_little_as_a_run_where_that_is_asked_for() {
    let couple = Couple::reached_by(Sort::Local);
    fill(couple.side(0), &NAMES);
    couple.sync("");
    learn(&couple);
    let said = |words: &[&str]| {
        let run = couple.command(&[&["scrub"], words].concat(), "").run();
        format!("{}{}", run.stdout, run.stderr)
    };
    assert_eq!([said(&["--silent"]), said(&["--errors-only"])], ["", ""]);
    assert!(said(&["--verbose"]).contains("6 of 6 files checked"));
    rot(&couple.side(1).at("plain"));
    assert_eq!(said(&["--silent"]), "");
    assert!(said(&["--errors-only"]).starts_with("(ERROR):target: plain: it is damaged"));
    assert!(couple.sandbox.log().contains("target: plain: it is damaged"));
}

fn scrub_star(star: &Star, words: &[&str]) -> Outcome {
    star.osync().arg("scrub").arg(star.sandbox.path("etc/star.conf")).args(words).run()
}

/// A star of these leaves of it, in step, of which all contents are known.
fn learn_star(star: &Star, list: &[String]) {
    star.hub().make("f plain 1234567890\nf other x");
    fine(&star.osync().arg(star.conf(list, "")).run());
    let patience = Instant::now();
    while scrub_star(star, &["--json"]).stdout.contains("\"new_files\":2") {
        assert!(patience.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn what_is_damaged_at_the_hub_goes_to_no_target_whichever_scrub_has_found_it() {
    let star = Star::new(3);
    learn_star(&star, &star.list()[..2]);
    rot(&star.hub().at("plain"));
    assert_eq!(scrub_star(&star, &["--only", "1"]).status, Some(1));
    for lines in ["", "CHECKSUM=yes"] {
        let run = star.osync().arg(star.conf(&star.list(), lines)).run();
        assert_eq!(run.status, Some(2), "{run}");
        assert!(!star.leaves[2].has("plain"), "{run}");
        assert_eq!(star.leaves[1].read("plain").unwrap(), b"1234567890", "{run}");
    }
    star.conf(&star.list(), "");
    let healed = scrub_star(&star, &["--heal"]);
    assert_eq!(star.hub().read("plain").unwrap(), b"1234567890", "{healed}");
    fine(&star.run(&[]));
    assert_eq!(star.leaves[2].read("plain").unwrap(), b"1234567890");
}

#[test]
fn what_is_damaged_at_the_hub_goes_to_no_target_of_a_star_made_of_pairs_either() {
    let star = Star::new(3);
    star.hub().make("f plain 1234567890\nf other x");
    let pairs = [("berlin", 0), ("rome", 1)].map(|(id, leaf)| star.pair_conf(id, leaf));
    let conf = star.conf(&star.list()[..2], "");
    for pair in &pairs {
        fine(&star.osync().arg(pair).run());
        fine(&star.osync().arg("upgrade").arg(&conf).arg("--join").arg(pair).run());
    }
    learn_star(&star, &star.list()[..2]);
    rot(&star.hub().at("plain"));
    assert_eq!(scrub_star(&star, &["--only", "2"]).status, Some(1));
    let run = star.osync().arg(star.conf(&star.list(), "")).run();
    assert_eq!(run.status, Some(2), "{run}");
    assert!(!star.leaves[2].has("plain"), "{run}");
}

#[test]
fn a_file_of_the_hub_that_one_turn_has_healed_is_damaged_for_no_other() {
    let star = Star::new(3);
    learn_star(&star, &star.list());
    rot(&star.hub().at("plain"));
    assert_eq!(scrub_star(&star, &[]).status, Some(1));
    let healed = scrub_star(&star, &["--heal"]);
    assert_eq!(healed.status, Some(2), "{healed}");
    assert_eq!(healed.stderr.matches("plain: it is damaged").count(), 1, "{healed}");
    fine(&scrub_star(&star, &[]));
    fine(&star.run(&[]));
    fine(&scrub_star(&star, &[]));
    for replica in star.leaves.iter().chain([star.hub()]) {
        assert_eq!(replica.read("plain").unwrap(), b"1234567890");
    }
}

/// What the hub keeps is common to all pairs of a star, though the journal of one pair only tells what
/// it is.
#[test]
fn a_damaged_version_of_the_hub_is_damaged_for_all_targets() {
    let star = Star::new(3);
    learn_star(&star, &star.list());
    rot(&star.hub().at("plain"));
    let bad = star.hub().read("plain").unwrap();
    let conf = star.conf(&star.list(), "CONFLICT_BACKUP_MULTIPLE=yes");
    assert_eq!(scrub_star(&star, &["--heal"]).status, Some(2));
    let command =
        |word: &str, more: &[&str]| star.osync().arg(word).arg(&conf).arg("plain").args(more).run();
    // the contents that the hub keeps, as each pair lists them, and whether it calls them damaged
    let kept = || {
        let shown = command("history", &["--json"]);
        fine(&shown);
        let lines = shown.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_hub = lines.filter(|line| !line["version"].is_null() && line["side"] == "initiator");
        let of_hub = of_hub.map(|line| {
            let place = line["kept_as"].as_str().unwrap();
            let content = star.hub().read(format!(".osync_workdir/backup/{place}")).unwrap();
            (line["damaged"].as_bool().unwrap(), content)
        });
        let mut of_hub: Vec<(bool, Vec<u8>)> = of_hub.collect();
        of_hub.sort();
        of_hub
    };
    assert_eq!(kept(), vec![(true, bad.clone()); 3]);
    let refused = command("restore", &[]);
    assert_eq!(refused.status, Some(1), "{refused}");
    assert!(refused.stderr.contains("only a damaged version of it is kept"), "{refused}");
    assert_eq!(star.hub().read("plain").unwrap(), b"1234567890");
    // a sound version of the same size and time, which the turn of another target puts there; in the
    // same second it would have the same name
    std::thread::sleep(Duration::from_millis(1100));
    star.leaves[2].write("plain", "edited", 2_000_000_000);
    fine(&star.osync().arg(&conf).run());
    let sound = vec![(false, b"1234567890".to_vec()); 3];
    assert_eq!(kept(), [sound, vec![(true, bad); 3]].concat());
    fine(&command("restore", &[]));
    assert_eq!(star.hub().read("plain").unwrap(), b"1234567890");
}

/// A target that had its turn before the hub was healed has to wait for the next scrub.
#[test]
fn a_damaged_copy_is_healed_by_the_hub_that_another_target_has_healed() {
    for (leaf, expected) in [(2, &[Some(2)][..]), (0, &[Some(1), Some(2)])] {
        let star = Star::new(3);
        learn_star(&star, &star.list());
        rot(&star.hub().at("plain"));
        // two disks do not rot alike
        rot_bits(&star.leaves[leaf].at("plain"), 0x01);
        let bad = star.leaves[leaf].read("plain").unwrap();
        for status in expected {
            let healed = scrub_star(&star, &["--heal"]);
            assert_eq!(healed.status, *status, "{leaf}: {healed}");
        }
        for replica in star.leaves.iter().chain([star.hub()]) {
            assert_eq!(replica.read("plain").unwrap(), b"1234567890", "{leaf}");
        }
        assert_eq!(star.leaves[leaf].read(".osync_workdir/backup/plain"), Some(bad));
        fine(&scrub_star(&star, &[]));
        fine(&star.run(&[]));
        fine(&scrub_star(&star, &[]));
    }
}

#[test]
fn each_target_of_a_star_is_scrubbed() {
    let star = Star::new(2);
    learn_star(&star, &star.list());
    let scrub = |words: &[&str]| scrub_star(&star, words);
    rot(&star.leaves[1].at("plain"));
    fine(&scrub(&["--only", "1"]));
    let found = scrub(&[]);
    assert_eq!(found.status, Some(1), "{found}");
    let of_second = format!("[{}] ", star.list()[1]);
    let lines: Vec<_> = found.stdout.lines().chain(found.stderr.lines()).collect();
    for what in ["plain", "launched as"] {
        let is_named = |line: &&&str| line.contains(what) && line.contains(&of_second);
        assert!(lines.iter().any(|line| is_named(&line)), "{what}: {found}");
    }
    let told = scrub(&["--json"]).stdout;
    let told: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(told.iter().map(|line| &line["leaf"]).eq(&star.list()), "{told:?}");
    let healed = scrub(&["--heal"]);
    assert_eq!(healed.status, Some(2), "{healed}");
    assert_eq!(star.leaves[1].read("plain").unwrap(), b"1234567890");
    fine(&scrub(&[]));
}

#[test]
fn nothing_is_scrubbed_before_a_run_has_recorded_anything() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let (a, b) = (sandbox.a.root.clone(), sandbox.b.root.clone());
    let run = sandbox.osync().arg("scrub").arg("--initiator").arg(a).arg("--target").arg(b).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("let a run finish first"), "{run}");
}
