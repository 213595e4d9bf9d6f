//! A star in one task (spec 10): one hub, many targets, in one run.

use crate::support::fake_ssh::SKIP_SSH_OPTIONS;
use crate::support::replicas::script;
use crate::support::sandbox::{Outcome, Replica, Run, Sandbox, fine};
use crate::support::schema::check_report;
use crate::support::sshd::Sshd;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A hub, which is the replica `a` of the sandbox, and its leaves.
pub struct Star {
    pub sandbox: Sandbox,
    pub leaves: Vec<Replica>,
}

impl Star {
    pub fn new(leaves: usize) -> Star {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("bin")).unwrap();
        // the host `hangs` never answers, the host `late` when there is a file of that name; `is down`
        // in such a file's name is a host that nobody reaches
        let late = sandbox.path("late");
        let here = sandbox.root().display();
        let hangs = format!(
            "case $1 in *hangs*) exec sleep 600 ;;
            *late*) while ! [ -e '{}' ]; do sleep 0.1; done ;; esac
            [ -e '{here}'/\"$1 is down\" ] && exit 255
            OVER_THERE=$1 && export OVER_THERE\n",
            late.display()
        );
        script(
            &sandbox.path("bin"),
            "ssh",
            &format!("{SKIP_SSH_OPTIONS}{hangs}shift\nexec sh -c \"$*\"\n"),
        );
        // an osync that only the hosts `peer…` have
        let far = format!(
            "case $OVER_THERE in peer*) exec '{}' \"$@\" ;; esac\nexit 127\n",
            env!("CARGO_BIN_EXE_osync")
        );
        script(&sandbox.path("bin"), "far-osync", &far);
        let leaf = |number| {
            let root = sandbox.path(format!("leaf {number}"));
            fs::create_dir(&root).unwrap();
            Replica { root }
        };
        let leaves = (1..=leaves).map(leaf).collect();
        Star { sandbox, leaves }
    }

    pub fn hub(&self) -> &Replica {
        &self.sandbox.a
    }

    /// The list with all leaves in order.
    pub fn list(&self) -> Vec<String> {
        self.leaves.iter().map(|leaf| leaf.root.display().to_string()).collect()
    }

    pub fn conf(&self, list: &[String], lines: &str) -> PathBuf {
        let path = self.sandbox.path("etc/star.conf");
        let text = format!(
            "INSTANCE_ID=star\nINITIATOR_SYNC_DIR=\"{}\"\nTARGET_SYNC_DIRS=\"{}\"\n{lines}\n",
            self.hub().root.display(),
            list.join(";\n  ")
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// The file of a task of the hub and one leaf.
    pub fn pair_conf(&self, id: &str, leaf: usize) -> PathBuf {
        let text = format!(
            "INSTANCE_ID={id}\nINITIATOR_SYNC_DIR='{}'\nTARGET_SYNC_DIR='{}'\n",
            self.hub().root.display(),
            self.leaves[leaf].root.display()
        );
        let file = self.sandbox.path(format!("etc/{id}.conf"));
        fs::write(&file, text).unwrap();
        file
    }

    /// A run of any command, not yet started; the ssh of these tests is found first.
    pub fn osync(&self) -> Run {
        let path = std::env::var("PATH").unwrap();
        self.sandbox.osync().env("PATH", format!("{}:{path}", self.sandbox.path("bin").display()))
    }

    fn run_with(&self, list: &[String], lines: &str, args: &[&str]) -> Outcome {
        self.osync().arg(self.conf(list, lines)).args(args).run()
    }

    /// A run with all leaves.
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.run_with(&self.list(), "", args)
    }

    fn report(&self, list: &[String], lines: &str) -> (Outcome, Value) {
        let file = self.sandbox.path("report.json");
        let run = self.run_with(list, lines, &["--report", file.to_str().unwrap()]);
        let report = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        check_report(&report);
        (run, report)
    }

    #[track_caller]
    pub fn assert_all_alike(&self) {
        for leaf in &self.leaves {
            assert_eq!(leaf.contents(), self.hub().contents(), "{}", leaf.root.display());
        }
    }

    /// With a first run behind it, in which all have met.
    pub fn met(leaves: usize) -> Star {
        let star = Star::new(leaves);
        star.hub().make("f old x\nd dir\nf dir/kept y\nf dir/gone z");
        fine(&star.run(&[]));
        star.assert_all_alike();
        star
    }
}

#[test]
fn what_changes_on_any_leaf_is_on_every_leaf_after_one_run() {
    let star = Star::met(4);
    star.leaves[3].make("f new from-4");
    star.leaves[1].write("old", "edited", 2_000_000_000);
    star.leaves[2].remove("dir/gone");
    star.leaves[0].rename("dir/kept", "moved");
    star.hub().make("f hub h");
    fine(&star.run(&[]));
    star.assert_all_alike();
    let hub = star.hub();
    assert_eq!(hub.read("new").as_deref(), Some(&b"from-4"[..]));
    assert_eq!(hub.read("old").as_deref(), Some(&b"edited"[..]));
    assert!(!hub.has("dir/gone") && !hub.has("dir/kept") && hub.has("moved"));
    for leaf in &star.leaves {
        assert!(!leaf.has(".osync_workdir/deleted/dir/kept"), "a move stays one on every leaf");
    }
    let run = star.run(&[]);
    fine(&run);
    assert_eq!(run.stdout.matches("nothing to do").count(), 5, "four targets and all: {run}");
}

#[test]
fn of_three_that_conflict_the_newest_wins_and_both_losers_are_kept_where_they_were() {
    let star = Star::met(3);
    for (leaf, (text, day)) in star.leaves.iter().zip([("one", 1), ("three", 3), ("two", 2)]) {
        leaf.write("old", text, 2_000_000_000 + day);
    }
    let run = star.run(&[]);
    fine(&run);
    star.assert_all_alike();
    assert_eq!(star.hub().read("old").as_deref(), Some(&b"three"[..]));
    for (leaf, lost) in [(0, "one"), (2, "two")] {
        let kept = star.leaves[leaf].read(".osync_workdir/backup/old");
        assert_eq!(kept.as_deref(), Some(lost.as_bytes()), "{run}");
    }
    assert!(run.stdout.contains("2 conflicts"), "{run}");
}

#[test]
fn a_leaf_that_cannot_take_part_is_an_error_of_its_own_and_its_news_come_later() {
    let star = Star::met(4);
    let lock = star.leaves[3].at(".osync_workdir/lock");
    fs::write(&lock, format!("{}@another\n", std::process::id())).unwrap();
    let away = |leaf: usize| star.sandbox.path(format!("away {leaf}"));
    for leaf in [0, 1] {
        fs::rename(&star.leaves[leaf].root, away(leaf)).unwrap();
    }
    // as a mount point without its disk
    fs::create_dir(&star.leaves[1].root).unwrap();
    star.leaves[2].make("f new n");
    fs::write(away(0).join("mine"), "m").unwrap();

    let (run, report) = star.report(&star.list(), "");
    assert_eq!(run.status, Some(1), "{run}");
    assert_eq!(report["targets"].as_array().unwrap().len(), 4);
    for (leaf, status, says) in [
        (0, 1, "no such directory"),
        (1, 1, "does not carry the identity"),
        (3, 1, "already running"),
    ] {
        let target = &report["targets"][leaf];
        assert_eq!(target["status"], status, "{report:#}");
        let text = target["problems"][0]["text"].as_str().unwrap();
        assert!(text.contains(says), "{text}");
        let place = star.leaves[leaf].root.display().to_string();
        assert!(report["problems"].as_array().unwrap().iter().any(|problem| {
            problem["text"].as_str().unwrap().starts_with(&format!("{place}: "))
        }));
        assert!(run.stderr.contains(&format!("[{place}] ")), "{run}");
    }
    assert!(run.stderr.contains("With --only it holds for this target alone"), "{run}");
    assert_eq!(report["targets"][2]["status"], 0);
    assert!(star.hub().has("new"), "the others are finished: {run}");
    assert_eq!(star.leaves[1].contents(), "", "nothing is put where the disk is missing");

    fs::remove_file(lock).unwrap();
    fs::remove_dir_all(&star.leaves[1].root).unwrap();
    for leaf in [0, 1] {
        fs::rename(away(leaf), &star.leaves[leaf].root).unwrap();
    }
    fine(&star.run(&[]));
    star.assert_all_alike();
    assert!(star.hub().has("mine"));
}

#[test]
fn a_leaf_that_was_emptied_stops_its_own_pair_only() {
    let star = Star::met(2);
    for path in ["old", "dir"] {
        star.leaves[0].remove(path);
    }
    star.leaves[1].make("f new n");
    let run = star.run(&[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(star.hub().has("old") && star.hub().has("new") && star.leaves[1].has("old"));
    assert!(!star.leaves[0].has("new"));
}

#[test]
fn order_number_and_names_of_the_targets_may_change() {
    let star = Star::met(3);
    let list = star.list();
    let moved = star.sandbox.path("elsewhere");
    fs::rename(&star.leaves[0].root, &moved).unwrap();
    let moved = Replica { root: moved };
    moved.remove("old");
    let new = star.sandbox.path("new leaf");
    fs::create_dir(&new).unwrap();
    let now = [new.display().to_string(), list[2].clone(), moved.root.display().to_string()];
    let run = star.run_with(&now, "", &[]);
    fine(&run);
    assert!(!star.hub().has("old"), "its deletion is known, so this was no first contact: {run}");
    assert!(!star.leaves[2].has("old") && star.leaves[1].has("old"));
    assert_eq!(Replica { root: new }.contents(), star.hub().contents());
    // the second comes back after it was left out
    let run = star.run_with(&[list[1].clone()], "", &[]);
    fine(&run);
    assert!(!star.leaves[1].has("old") && !star.hub().has("old"), "{run}");
}

#[test]
fn a_pair_becomes_a_star_and_a_target_a_pair_again_without_a_first_contact() {
    let star = Star::new(2);
    star.hub().make("f one x\nf two y\nf three z\nf stays s");
    let pair = |id: &str, leaf: usize| fine(&star.osync().arg(star.pair_conf(id, leaf)).run());
    pair("star", 0);
    // the new one stands before the old one
    let mut list = star.list();
    list.reverse();
    star.leaves[0].remove("one");
    fine(&star.run_with(&list, "", &[]));
    assert!(!star.hub().has("one") && !star.leaves[1].has("one"));
    star.leaves[0].remove("two");
    pair("star", 0);
    assert!(!star.hub().has("two"), "the pair knows what the star has recorded");
    star.leaves[1].remove("three");
    pair("star@2", 1);
    assert!(!star.hub().has("three"), "so does that of the other target");
    fine(&star.run_with(&list, "", &[]));
    star.assert_all_alike();
}

#[test]
fn pairs_of_one_hub_are_joined_to_a_star_without_a_first_contact() {
    let star = Star::new(3);
    star.hub().make("f one x\nf two y\nf stays s");
    let pair = |id: &str, leaf: usize| star.pair_conf(id, leaf);
    let (one, two) = (pair("berlin", 0), pair("rome", 1));
    let stranger = pair("stranger", 2);
    for file in [&one, &two] {
        fine(&star.osync().arg(file).run());
    }
    let conf = star.conf(&star.list(), "");
    let join = |files: &[&PathBuf], more: &[&str]| {
        let joined = files.iter().flat_map(|file| [PathBuf::from("--join"), (*file).clone()]);
        star.osync().arg("upgrade").arg(&conf).args(joined).args(more).run()
    };
    let run = join(&[&stranger], &[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("nothing to go on with"), "{run}");
    fine(&join(&[&one, &two], &["--dry"]));
    assert!(!star.hub().has(".osync_workdir/state/targets-star"));
    let run = join(&[&one, &two], &[]);
    fine(&run);
    assert!(run.stdout.contains("goes on with the state of rome"), "{run}");
    fine(&join(&[&one, &two], &[]));
    star.leaves[1].remove("one");
    fine(&star.run_with(&star.list(), "", &[]));
    assert!(!star.hub().has("one") && !star.leaves[0].has("one"), "rome's deletion is known");
    let shown = star.osync().args(["state", "show"]).arg(&conf).run();
    assert!(shown.stdout.contains("berlin") && shown.stdout.contains("rome"), "{shown}");
    star.assert_all_alike();
    star.leaves[0].remove("two");
    fine(&star.osync().arg(&one).run());
    assert!(!star.hub().has("two"), "the pair knows what the star has recorded");
    fine(&star.run_with(&star.list(), "", &[]));
    star.assert_all_alike();
}

#[test]
fn upgrade_makes_pairs_of_one_hub_a_star_and_a_star_pairs_without_a_first_contact() {
    let star = Star::new(3);
    star.hub().make("f one x\nf two y\nf three z\nf stays s");
    let pairs = [("berlin", 0), ("rome", 1), ("new", 2)].map(|(id, leaf)| star.pair_conf(id, leaf));
    for file in &pairs[..2] {
        fine(&star.osync().arg(file).run());
    }
    let etc = star.sandbox.path("etc");
    let upgrade =
        |args: &[&PathBuf], more: &[&str]| star.osync().arg("upgrade").args(more).args(args).run();
    let offered = upgrade(&[&etc], &["--dry"]);
    fine(&offered);
    assert!(offered.stdout.contains("have the same initiator"), "{offered}");
    assert!(offered.stdout.contains("--to-star NEW.conf"), "{offered}");

    let to = star.sandbox.path("etc/all.conf").display().to_string();
    let files: Vec<&PathBuf> = pairs.iter().collect();
    fine(&upgrade(&files, &["--dry", "--to-star", &to]));
    assert!(!PathBuf::from(&to).exists());
    let made = upgrade(&files, &["--to-star", &to]);
    fine(&made);
    assert!(made.stdout.contains("goes on with the state of rome"), "{made}");
    assert!(made.stdout.contains("begins anew"), "{made}");
    let again = upgrade(&files, &["--to-star", &to]);
    assert_eq!(again.status, Some(1), "nothing is overwritten: {again}");
    star.leaves[1].remove("one");
    fine(&star.osync().arg(&to).run());
    assert!(!star.hub().has("one") && !star.leaves[0].has("one"), "rome's deletion is known");
    star.assert_all_alike();

    fine(&upgrade(&[&PathBuf::from(&to)], &["--to-pairs"]));
    star.leaves[2].remove("two");
    fine(&star.osync().arg(star.sandbox.path("etc/all-3.conf")).run());
    assert!(!star.hub().has("two"), "the pair goes on with the state of the star's target");
    star.leaves[1].remove("three");
    fine(&star.osync().arg(star.sandbox.path("etc/all-2.conf")).run());
    assert!(!star.hub().has("three"));
    fine(&star.osync().arg(&to).run());
    star.assert_all_alike();
}

#[test]
fn pairs_that_cannot_share_their_settings_are_not_made_a_star() {
    let star = Star::new(2);
    let [one, two] = [("berlin", 0), ("rome", 1)].map(|(id, leaf)| star.pair_conf(id, leaf));
    let text = fs::read_to_string(&two).unwrap() + "RSYNC_EXCLUDE_PATTERN=*.tmp\nSUDO_EXEC=no\n";
    fs::write(&two, text).unwrap();
    let run = star.osync().arg("upgrade").arg("--dry").args([&one, &two]).run();
    fine(&run);
    assert!(run.stdout.contains("not the same RSYNC_EXCLUDE_PATTERN:"), "{run}");
    let to = star.sandbox.path("etc/all.conf");
    let run = star.osync().arg("upgrade").arg("--to-star").arg(&to).args([&one, &two]).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("RSYNC_EXCLUDE_PATTERN") && !to.exists(), "{run}");
}

#[test]
fn a_replica_that_is_in_the_list_twice_is_refused() {
    let star = Star::met(2);
    let copy = star.sandbox.path("copy");
    let done = Command::new("cp").arg("-a").arg(&star.leaves[0].root).arg(&copy).status().unwrap();
    assert!(done.success());
    let mut list = star.list();
    list.insert(0, copy.display().to_string());
    star.leaves[1].make("f new n");
    let run = star.run_with(&list, "", &[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("copy] target: it is the same replica as"), "{run}");
    assert!(star.leaves[0].has("new"), "the one in its old place takes part: {run}");
    assert!(!copy.join("new").exists());
    fs::remove_file(copy.join(".osync_workdir/identity")).unwrap();
    fine(&star.run_with(&list, "", &[]));
    assert!(copy.join("new").exists());
}

#[test]
fn one_directory_under_two_names_that_a_run_makes_itself_takes_part_once() {
    let star = Star::new(1);
    star.hub().make("f one x");
    let there = star.leaves[0].root.display().to_string();
    // two hosts for ssh, one machine
    let list = [format!("ssh://one/{there}"), format!("ssh://two/{there}")];
    let run = star.run_with(&list, "", &[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("it is the same replica as ssh://one/"), "{run}");
    assert!(star.leaves[0].has("one"));
}

#[test]
fn places_that_meet_are_refused_before_anything_is_done() {
    let star = Star::new(2);
    let [one, two] = [0, 1].map(|leaf: usize| star.list()[leaf].clone());
    std::os::unix::fs::symlink(&star.leaves[0].root, star.sandbox.path("link")).unwrap();
    let link = star.sandbox.path("link").display().to_string();
    let hub = star.hub().root.display().to_string();
    for (list, says) in [
        (vec![one.clone(), one.clone()], "are the same directory"),
        (vec![one.clone(), two.clone(), format!("{one}/below")], "one lies inside the other"),
        (vec![one.clone(), link], "are the same directory"),
        (vec![one.clone(), format!("{hub}/below")], "the target lies inside the initiator"),
        (vec!["ssh://h//x".into(), "ssh://H:22//x/y".into()], "one lies inside the other"),
        (vec!["ssh://h".into()], "TARGET_SYNC_DIRS"),
    ] {
        let run = star.run_with(&list, "", &[]);
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains(says), "{list:?}: {run}");
        assert_eq!(star.hub().contents(), "");
        assert!(!star.hub().has(".osync_workdir"));
    }
}

#[test]
fn places_behind_ssh_of_which_one_lies_in_the_other_take_no_part() {
    for far in ["", "peer-"] {
        let star = Star::new(2);
        star.hub().make("f one x");
        star.leaves[0].make("d be\u{7}low\nf mine m");
        let [outer, other] = [0, 1].map(|leaf: usize| star.list()[leaf].clone());
        let (one, two) =
            (format!("ssh://{far}one/{outer}"), format!("ssh://{far}two/{outer}/be\u{7}low"));
        let osync = star.sandbox.path("bin/far-osync").display().to_string();
        let lines = format!("REMOTE_OSYNC={osync}");
        for list in [[&two, &one, &other], [&other, &one, &two]] {
            let run = star.run_with(&list.map(Clone::clone), &lines, &[]);
            assert_eq!(run.status, Some(1), "{run}");
            let inside = format!("target: it lies inside the target ssh://{far}one/");
            assert!(run.stderr.contains(&inside), "{run}");
            assert!(run.stderr.contains("be\\x07low lies inside it; remove one of"), "{run}");
            assert!(!star.hub().has("mine") && !star.leaves[0].has("one"), "{run}");
            assert!(!star.leaves[0].has(".osync_workdir") && star.leaves[1].has("one"), "{run}");
        }
        // a pair, either way round
        let (hub, root) = (star.hub().root.display(), star.sandbox.root().display().to_string());
        star.hub().make("d below");
        for target in [format!("ssh://{far}one/{hub}/below"), format!("ssh://{far}one/{root}")] {
            let run = star.osync().arg(format!("--initiator={hub}"));
            let run = run.arg(format!("--target={target}")).env("REMOTE_OSYNC", &osync).run();
            assert_eq!(run.status, Some(1), "{run}");
            assert!(run.stderr.contains("one lies inside the other"), "{run}");
            assert!(!star.hub().has("below/one") && !star.sandbox.path("one").exists(), "{run}");
        }
    }
}

#[test]
fn a_second_turn_is_summed_up_by_itself_and_the_status_has_both() {
    let star = Star::met(2);
    star.leaves[0].make("f from-1 n");
    star.leaves[1].make("f from-2 n");
    let run = star.run(&[]);
    fine(&run);
    let first = format!("[{}] ", star.list()[0]);
    let lines: Vec<&str> =
        run.stdout.lines().filter_map(|line| line.split(&*first).nth(1)).collect();
    assert!(lines[0].starts_with("1 update to the initiator, 1 byte"), "{run}");
    assert!(lines[1].starts_with("1 update to the target, 1 byte"), "{run}");
    let status = star.osync().arg("status").arg(star.conf(&star.list(), "")).run();
    assert!(status.stdout.contains("1 update to the target, 1 to the initiator"), "{status}");
}

#[test]
fn a_problem_names_its_target_once() {
    let star = Star::met(2);
    fs::rename(&star.leaves[1].root, star.sandbox.path("away")).unwrap();
    let run = star.run(&[]);
    let line = run.stderr.lines().find(|line| line.contains("no such directory")).unwrap();
    assert_eq!(line.matches(&star.list()[1]).count(), 1, "{run}");
}

#[test]
fn a_target_that_hangs_uses_up_its_own_share_of_the_time() {
    let star = Star::new(2);
    star.hub().make("f one x");
    let mut list = star.list();
    list.insert(0, "ssh://hangs//nowhere".to_owned());
    let run = star.run_with(&list, "HARD_MAX_EXEC_TIME=20", &[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("[ssh://hangs//nowhere] "), "{run}");
    assert!(star.leaves[0].has("one") && star.leaves[1].has("one"), "{run}");
}

#[test]
fn a_target_that_another_run_has_locked_is_waited_for_after_the_others() {
    let star = Star::met(2);
    let lock = star.leaves[0].at(".osync_workdir/lock");
    fs::write(&lock, format!("{}@another\n", std::process::id())).unwrap();
    star.hub().make("f new n");
    let (log, held) = (star.sandbox.path("osync.log"), lock);
    let done = star.leaves[1].at("new");
    let other = std::thread::spawn(move || {
        let waits =
            || fs::read_to_string(&log).unwrap_or_default().contains("waiting for its turn");
        while !waits() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(done.exists(), "the other one did not have to wait");
        fs::remove_file(held).unwrap();
    });
    fine(&star.run(&["--wait=60"]));
    other.join().unwrap();
    star.assert_all_alike();
}

#[test]
fn commands_run_once_and_remote_ones_once_for_each_remote_target() {
    let star = Star::new(3);
    let notes = star.sandbox.path("notes");
    let note = |word: &str| format!("echo {word} >> '{}'", notes.display());
    let hooks = format!(
        "LOCAL_RUN_BEFORE_CMD=\"{}\"\nLOCAL_RUN_AFTER_CMD=\"{}\"\nREMOTE_RUN_BEFORE_CMD=\"{}\"\n\
         REMOTE_RUN_AFTER_CMD=\"{}\"",
        note("before"),
        note("after $OSYNC_STATUS").replace('$', "\\$"),
        note("there before"),
        note("there after"),
    );
    let mut list = star.list();
    for leaf in [0, 1] {
        list[leaf] = format!("ssh://host{leaf}/{}", list[leaf]);
    }
    // a second turn, for the news of the last one
    star.leaves[2].make("f new n");
    fine(&star.run_with(&list, &hooks, &[]));
    star.assert_all_alike();
    assert!(star.leaves[0].has("new"));
    assert_eq!(
        fs::read_to_string(notes).unwrap(),
        "before\nthere before\nthere before\nthere after\nthere after\nafter 0\n"
    );
}

#[test]
fn leaves_over_ssh_take_part_by_a_shell_and_by_an_osync_over_there() {
    let server = Sshd::start("");
    for osync in ["no", crate::support::osync()] {
        let star = Star::new(3);
        let mut list = star.list();
        for leaf in [0, 1] {
            list[leaf] = server.uri(&star.leaves[leaf].root);
        }
        let run = || {
            let run = star.osync().arg(star.conf(&list, ""));
            let path = std::env::var_os("PATH").unwrap();
            let run = run.env("PATH", path).env("REMOTE_OSYNC", osync);
            let run = run.env("SSH_RSA_PRIVATE_KEY", server.key());
            run.env("SSH_OPTIONAL_ARGS", server.options().join(" ")).run()
        };
        star.hub().make("f old x\nf dir/gone y");
        fine(&run());
        star.assert_all_alike();
        star.leaves[0].make("f first 1");
        star.leaves[1].remove("dir/gone");
        star.leaves[2].rename("old", "moved");
        fine(&run());
        star.assert_all_alike();
        let hub = star.hub();
        assert!(hub.has("first") && hub.has("moved") && !hub.has("dir/gone"), "{osync}");
        let again = run();
        fine(&again);
        assert_eq!(again.stdout.matches("nothing to do").count(), 4, "{again}");
        assert!(!hub.has(".osync_workdir/lock"), "{osync}");
    }
}

#[test]
fn one_target_can_be_chosen_by_its_name_or_its_number() {
    let star = Star::met(3);
    star.hub().make("f new n");
    let name = star.list()[2].clone();
    for (only, leaf) in [("2", 1), (name.as_str(), 2)] {
        assert!(!star.leaves[leaf].has("new"));
        fine(&star.run(&["--only", only]));
        assert!(star.leaves[leaf].has("new"));
    }
    assert!(!star.leaves[0].has("new"));
    for wrong in ["0", "4", "leaf"] {
        let conf = star.conf(&star.list(), "");
        for command in [None, Some("history"), Some("undo")] {
            let run = star.osync().args(command).arg(&conf).args(["--only", wrong]).run();
            assert_eq!(run.status, Some(128), "{command:?}: {run}");
            assert!(run.stderr.contains("--only"), "{run}");
        }
    }
}

#[test]
fn a_dry_run_shows_every_pair_and_changes_nothing() {
    let star = Star::new(2);
    star.leaves[1].make("f new n");
    let before = star.list();
    let run = star.run(&["--dry"]);
    fine(&run);
    for leaf in &before {
        assert!(run.stdout.contains(&format!("(dry run) [{leaf}] ")), "{run}");
    }
    assert!(run.stdout.contains("UPDATE << "), "{run}");
    let follows = format!("[{}] 1 update to the initiator, 1 byte: this goes on to", before[1]);
    assert!(run.stdout.contains(&follows), "{run}");
    assert_eq!(run.stdout.matches("this goes on to").count(), 1, "{run}");
    for replica in [star.hub(), &star.leaves[0], &star.leaves[1]] {
        assert!(!replica.has(".osync_workdir"));
    }
    assert!(!star.hub().has("new"));
}

#[test]
fn a_run_that_is_killed_anywhere_is_healed_by_the_next_one() {
    for step in [
        "hub locked:1",
        "targets noted:1",
        "state file placed:1",
        "run numbered:2",
        "applied:1",
        "baseline saved:2",
        "journal written:2",
        "unlocking:3",
        "journal written:4",
    ] {
        let star = Star::met(3);
        star.leaves[0].make("f first 1");
        star.leaves[2].make("f last 2");
        star.leaves[1].remove("old");
        let run = star.osync().arg(star.conf(&star.list(), "")).env("OSYNC_FAULT", step).run();
        assert_eq!(run.signal, Some(9), "{step}: {run}");
        fine(&star.run(&[]));
        star.assert_all_alike();
        assert!(star.hub().has("first") && star.hub().has("last"), "{step}");
        assert!(!star.hub().has("old"), "{step}");
    }
}

#[test]
fn the_first_run_can_be_killed_before_its_targets_have_an_identity() {
    let star = Star::new(2);
    star.hub().make("f one x\nf two y");
    let conf = star.conf(&star.list(), "");
    let run = star.osync().arg(&conf).env("OSYNC_FAULT", "recorded:1").run();
    assert_eq!(run.signal, Some(9), "{run}");
    let mut list = star.list();
    list.reverse();
    star.leaves[0].remove("one");
    fine(&star.run_with(&list, "", &[]));
    assert!(!star.hub().has("one"), "the first target has kept its state");
}

#[test]
fn status_and_metrics_tell_of_each_target() {
    let star = Star::met(2);
    let metrics = star.sandbox.path("m.prom");
    let lines = format!("METRICS_FILE={}", metrics.display());
    fs::rename(&star.leaves[1].root, star.sandbox.path("away")).unwrap();
    let run = star.run_with(&star.list(), &lines, &[]);
    assert_eq!(run.status, Some(1), "{run}");
    let text = fs::read_to_string(metrics).unwrap();
    for (leaf, status) in star.list().iter().zip([0, 1]) {
        let line = format!("osync_exit_status{{instance=\"star\",target=\"{leaf}\"}} {status}");
        assert!(text.contains(&line), "{text}");
    }
    let status = star.osync().args(["status", "--json"]).arg(star.conf(&star.list(), "")).run();
    assert_eq!(status.status, Some(1), "{status}");
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let states: Vec<_> = status["tasks"].as_array().unwrap().iter().collect();
    let of = |leaf: usize| {
        let name = format!("star [{}]", star.list()[leaf]);
        states.iter().find(|task| task["task"] == name.as_str()).unwrap()["state"].clone()
    };
    assert_eq!((of(0), of(1)), ("ok".into(), "failing".into()));
}

#[test]
fn a_run_that_does_not_come_to_its_targets_has_failed_for_all_of_them() {
    let star = Star::met(2);
    let lines = "LOCAL_RUN_BEFORE_CMD=false\nSTOP_ON_CMD_ERROR=yes";
    let run = star.run_with(&star.list(), lines, &[]);
    assert_eq!(run.status, Some(1), "{run}");
    let status = star.osync().arg("status").arg(star.conf(&star.list(), "")).run();
    assert_eq!(status.stdout.matches("failing").count(), 2, "{status}");
    assert!(!star.hub().has(".osync_workdir/lock"));
}

#[test]
fn a_first_run_that_fails_before_there_is_a_state_shows_in_the_status() {
    let star = Star::new(2);
    star.hub().make("f one x");
    let status = || star.osync().arg("status").arg(star.conf(&star.list(), "")).run();
    assert_eq!(status().stdout.matches("never run").count(), 2, "{}", status());
    let lines = "LOCAL_RUN_BEFORE_CMD=false\nSTOP_ON_CMD_ERROR=yes";
    let run = star.run_with(&star.list(), lines, &[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(!star.hub().has(".osync_workdir"), "{run}");
    assert_eq!(status().stdout.matches("failing").count(), 2, "{}", status());
    fine(&star.run(&[]));
    assert_eq!(status().status, Some(0), "{}", status());
    // a target that takes no part has no state either
    let mut list = star.list();
    let copy = star.sandbox.path("copy");
    let done = Command::new("cp").arg("-a").arg(&star.leaves[0].root).arg(&copy).status().unwrap();
    assert!(done.success());
    list.push(copy.display().to_string());
    assert_eq!(star.run_with(&list, "", &[]).status, Some(1));
    let status = star.osync().arg("status").arg(star.conf(&list, "")).run();
    assert_eq!(status.stdout.matches("failing").count(), 1, "{status}");
}

#[test]
fn a_plan_or_an_undo_can_be_about_one_target() {
    let star = Star::met(2);
    star.leaves[1].write("old", "edited", 2_000_000_000);
    fine(&star.run(&[]));
    let conf = star.conf(&star.list(), "");
    let command = |words: &[&str]| star.osync().args(words).arg(&conf);
    star.hub().make("f planned p");
    let plan = star.sandbox.path("plan");
    let run = command(&["plan", "--only", "2", "-o", plan.to_str().unwrap()]).run();
    assert_eq!(run.status, Some(3), "{run}");
    fine(&star.osync().arg("apply").arg(&plan).run());
    assert!(star.leaves[1].has("planned") && !star.leaves[0].has("planned"));
    let run = command(&["undo"]).arg("1").run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("say by --only which"), "{run}");
    let last = format!("2 {}: run ", star.list()[1]);
    assert!(run.stderr.contains(&last) && run.stderr.contains("1 update to the target"), "{run}");
    fine(&command(&["undo", "--only", "2"]).run());
    assert!(!star.leaves[1].has("planned"));
    let run = command(&["check"]).run();
    fine(&run);
    for leaf in star.list() {
        assert!(run.stdout.contains(&format!("target: {leaf}, ")), "{run}");
    }
}

#[test]
fn history_tells_of_all_targets_and_names_each() {
    let star = Star::met(2);
    star.leaves[1].write("old", "edited", 2_000_000_000);
    fine(&star.run(&[]));
    let conf = star.conf(&star.list(), "");
    let history = |more: &[&str]| {
        let run = star.osync().arg("history").arg(&conf).args(more).run();
        fine(&run);
        run.stdout
    };
    let names: Vec<String> = star.list().iter().map(|leaf| format!("[{leaf}] ")).collect();
    let told = history(&[]);
    let at = |text: &str| told.find(text).unwrap_or_else(|| panic!("{text}: {told}"));
    // the news came from the second one, and went to the first one in the same run
    let news = format!("{}1 update to the initiator", names[1]);
    let passed_on = format!("{}1 update to the target", names[0]);
    assert!(at(&passed_on) < at(&news), "the newest first: {told}");
    let told = history(&["--limit", "1"]);
    assert_eq!(told.lines().count(), 2, "the newest of all: {told}");
    let told = history(&["old"]);
    for (name, side) in [(&names[0], "target"), (&names[1], "initiator")] {
        let is_it = |line: &&str| line.starts_with(name.as_str()) && line.contains("updated");
        let line = told.lines().find(is_it).unwrap_or_else(|| panic!("{told}"));
        assert!(line.contains(side), "{told}");
    }
    assert!(told.contains(&format!("{}Kept versions of old", names[0])), "{told}");
    let told = history(&["--json"]);
    for line in told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert!(star.list().contains(&line["leaf"].as_str().unwrap().to_owned()), "{told}");
    }
    let told = history(&["--only", "2"]);
    assert!(told.contains("1 update to the initiator") && !told.contains(&names[1]), "{told}");
}

#[test]
fn restore_finds_the_newest_version_on_whichever_target_it_is_kept() {
    let star = Star::met(2);
    // the second one alone loses a version of it
    star.hub().write("own", "first", 2_000_000_000);
    fine(&star.run(&["--only", "2"]));
    star.hub().write("own", "newest", 2_000_000_002);
    star.leaves[1].write("own", "lost on the second", 2_000_000_001);
    fine(&star.run(&[]));
    star.assert_all_alike();
    let conf = star.conf(&star.list(), "");
    let restore = |more: &[&str]| star.osync().arg("restore").arg(&conf).args(more).run();
    for more in [&["--version", "1"][..], &["--before-run", "1"], &["--side", "target"]] {
        let run = restore(&[&["own"], more].concat());
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains("say by --only which"), "{run}");
    }
    let run = restore(&["no such"]);
    assert_eq!(run.status, Some(1), "{run}");
    let run = restore(&["own", "--dry"]);
    fine(&run);
    assert_eq!(star.hub().read("own").as_deref(), Some(&b"newest"[..]));
    let run = restore(&["own"]);
    fine(&run);
    let kept = star.hub().read("own").unwrap();
    assert_eq!(String::from_utf8(kept).unwrap(), "lost on the second", "{run}");
    assert!(run.stdout.starts_with(&format!("[{}] ", star.list()[1])), "{run}");
    let run = restore(&["own", "--only", "1", "--to", star.sandbox.path("out").to_str().unwrap()]);
    fine(&run);
    fine(&star.run(&[]));
    star.assert_all_alike();
}

#[test]
fn conflicts_of_all_targets_are_listed_and_settled() {
    let star = Star::met(3);
    for (leaf, (text, day)) in star.leaves.iter().zip([("one", 1), ("three", 3), ("two", 2)]) {
        leaf.write("old", text, 2_000_000_000 + day);
    }
    for (leaf, text) in star.leaves[..2].iter().zip(["here", "and there"]) {
        leaf.make("d both");
        leaf.write("both/a", text, 2_000_000_000);
    }
    fine(&star.run(&[]));
    let conf = star.conf(&star.list(), "");
    let conflicts = |more: &[&str]| star.osync().arg("conflicts").arg(&conf).args(more).run();
    let list = star.list();
    let listed = conflicts(&[]);
    fine(&listed);
    for leaf in [&list[1], &list[2]] {
        assert!(listed.stdout.contains(&format!("[{leaf}] old: ")), "{listed}");
    }
    let run = conflicts(&["take", "old", "target"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("say by --only which"), "{run}");
    assert!(!run.stderr.contains(&list[0]), "only those that have one: {run}");
    fine(&conflicts(&["take", "old", "target", "--only", "3"]));
    assert_eq!(star.leaves[2].read("old").as_deref(), Some(&b"two"[..]));
    let run = conflicts(&["take", "old", "initiator"]);
    fine(&run);
    let run = conflicts(&["done", "both/a"]);
    fine(&run);
    let run = conflicts(&["--json"]);
    fine(&run);
    assert_eq!(run.stdout, "", "all are settled");
    assert_eq!(conflicts(&["done", "both/a"]).status, Some(1));
    fine(&star.run(&[]));
    star.assert_all_alike();
    assert_eq!(star.leaves[0].read("old").as_deref(), Some(&b"two"[..]));
}

/// What a target won against the hub may have lost to another target since.
#[test]
fn a_version_that_won_is_taken_as_it_is_kept_once_another_target_has_replaced_it() {
    let refused = [("CONFLICT_BACKUP=no", None), ("CONFLICT_COPY=beside", None)];
    for (lines, expected) in [("", Some("one"))].into_iter().chain(refused) {
        let star = Star::met(3);
        let conf = star.conf(&star.list(), lines);
        star.hub().write("old", "hub", 2_000_000_000);
        for (leaf, (text, day)) in star.leaves.iter().zip([("one", 1), ("three", 2)]) {
            leaf.write("old", text, 2_000_000_000 + day);
        }
        fine(&star.osync().arg(&conf).run());
        let take = |words: &[&str]| {
            star.osync().args(["conflicts".as_ref(), conf.as_os_str()]).args(words).run()
        };
        let run = take(&["take", "old", "target", "--only", "1"]);
        let open = take(&["--only", "1"]).stdout.contains("old: ");
        let now = star.leaves[0].read("old").unwrap();
        match expected {
            Some(expected) => {
                fine(&run);
                assert!(!open && now == expected.as_bytes(), "{run}");
                fine(&star.osync().arg(&conf).run());
                star.assert_all_alike();
                assert_eq!(star.hub().read("old").as_deref(), Some(expected.as_bytes()));
            }
            None => {
                assert_eq!((run.status, run.stderr.lines().count()), (Some(1), 1), "{run}");
                assert!(open && now == b"three", "{run}");
            }
        }
        // here it stands, or is kept as well
        fine(&take(&["take", "old", "target", "--only", "2"]));
    }
}

#[test]
fn history_names_no_place_in_which_another_target_has_put_a_version_since() {
    let star = Star::met(3);
    for (leaf, (text, day)) in star.leaves.iter().zip([("one", 1), ("two", 2), ("three", 3)]) {
        leaf.write("old", text, 2_000_000_000 + day);
    }
    fine(&star.run(&[]));
    assert_eq!(star.hub().read(".osync_workdir/backup/old").as_deref(), Some(&b"two"[..]));
    let conf = star.conf(&star.list(), "");
    let run = star.osync().arg("history").arg(&conf).arg("old").run();
    fine(&run);
    let of_hub = |line: &&str| line.contains("initiator  updated") && line.contains("kept as");
    let lines: Vec<&str> = run.stdout.lines().filter(of_hub).collect();
    assert_eq!(lines.len(), 1, "{run}");
    assert!(lines[0].starts_with(&format!("[{}] ", star.list()[2])), "{run}");
    let run = star.osync().arg("history").arg(&conf).args(["--run", "2", "--json"]).run();
    let lines = run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_hub = |line: &Value| line["side"] == "initiator" && line["path"] == "old";
    let kept: Vec<Value> = lines.filter(of_hub).map(|line| line["kept_as"].clone()).collect();
    assert_eq!(kept, [Value::Null, Value::Null, "old".into()], "{run}");
}

/// The turns of other targets give the hub's copies other names, of which a target's own journal
/// does not know.
#[test]
fn what_lost_to_one_target_is_found_though_others_have_replaced_its_successors() {
    for (asked, expected) in [("1", "hub"), ("2", "one"), ("3", "two")] {
        let star = Star::met(3);
        star.hub().write("old", "hub", 2_000_000_000);
        for (leaf, (text, day)) in star.leaves.iter().zip([("one", 1), ("two", 2), ("three", 3)]) {
            leaf.write("old", text, 2_000_000_000 + day);
        }
        let run = star.run(&[]);
        fine(&run);
        star.assert_all_alike();
        let conf = star.conf(&star.list(), "");
        let of_target = |words: &[&str]| {
            let run = star.osync().arg("conflicts").arg(&conf).args(words).args(["--only", asked]);
            let run = run.run();
            fine(&run);
            run
        };
        let shown = of_target(&["show", "old", "--json"]);
        let told: Value = serde_json::from_str(shown.stdout.trim()).unwrap();
        if let (Some(dir), Some(name)) = (told["kept_in"].as_str(), told["kept_as"].as_str()) {
            let kept = star.hub().read(format!(".osync_workdir/{dir}/{name}"));
            assert_eq!(kept.as_deref(), Some(expected.as_bytes()), "{asked}: {shown}");
        }
        let shown = of_target(&["diff", "old"]);
        assert!(shown.stdout.contains(&format!("\n-{expected}\n")), "{asked}: {shown}");
        of_target(&["take", "old", "initiator"]);
        let now = star.hub().read("old");
        assert_eq!(now.as_deref(), Some(expected.as_bytes()), "{asked}: {run}");
    }
}

#[test]
fn a_target_that_is_the_hub_by_another_way_is_refused_and_the_others_are_finished() {
    for host in ["bare", "peer"] {
        let star = Star::met(2);
        let hub = format!("ssh://{host}/{}", star.hub().root.display());
        let identity = || star.hub().read(".osync_workdir/identity").unwrap();
        let id_of = |text: Vec<u8>| text.split(|b| *b == b'\n').next().unwrap().to_vec();
        let before = id_of(identity());
        let far = star.sandbox.path("bin/far-osync");
        let run = |list: &[String]| {
            let run = star.osync().arg(star.conf(list, "")).env("REMOTE_OSYNC", &far);
            run.run()
        };
        let first = [vec![hub.clone()], star.list()].concat();
        let last = [star.list(), vec![hub]].concat();
        for list in [first, last] {
            star.hub().make("f news n");
            let refused = run(&list);
            assert_eq!(refused.status, Some(1), "{host}: {refused}");
            assert!(!refused.stderr.contains("--force-unlock"), "{host}: {refused}");
            assert_eq!(id_of(identity()), before, "{host}: {refused}");
            star.assert_all_alike();
            fine(&run(&star.list()));
            star.hub().remove("news");
            fine(&run(&star.list()));
        }
    }
}

#[test]
fn the_state_of_every_target_is_shown_and_verified() {
    let star = Star::met(2);
    let conf = star.conf(&star.list(), "");
    let state = |word: &str| star.osync().args(["state", word]).arg(&conf).run();
    let shown = state("show");
    fine(&shown);
    assert!(shown.stdout.contains("star@2"), "{shown}");
    fine(&state("verify"));
    let snapshot = star.hub().at(".osync_workdir/state/snapshot-star@2");
    let half = fs::metadata(&snapshot).unwrap().len() / 2;
    fs::File::options().write(true).open(&snapshot).unwrap().set_len(half).unwrap();
    let verified = state("verify");
    assert_eq!(verified.status, Some(1), "{verified}");
    assert!(verified.to_string().contains("snapshot-star@2"), "{verified}");
}

#[test]
fn toml_has_an_array_and_the_environment_a_list() {
    let star = Star::new(2);
    star.hub().make("f one x");
    let [one, two] = [0, 1].map(|leaf: usize| star.list()[leaf].clone());
    let file = star.sandbox.path("etc/star.toml");
    let hub = star.hub().root.display();
    let text = format!(
        "instance_id = \"star\"\ninitiator_sync_dir = \"{hub}\"\n\
         target_sync_dirs = [\"{one}\", \"{two}\"]\n"
    );
    fs::write(&file, text).unwrap();
    fine(&star.osync().arg(file).run());
    star.assert_all_alike();
    star.hub().make("f two y");
    let run = star
        .osync()
        .arg(format!("--initiator={hub}"))
        .arg("--instance-id=star")
        .env("TARGET_SYNC_DIRS", format!("{one};{two}"))
        .run();
    fine(&run);
    star.assert_all_alike();
}

#[test]
fn toml_pairs_become_a_star_and_that_pairs_again_without_a_first_contact() {
    let star = Star::new(3);
    star.hub().make("f one x\nf two y\nf three z\nf stays s");
    let etc = star.sandbox.path("etc");
    let pair = |id: &str, leaf: usize| {
        let text = format!(
            "# the task {id}\n[general]\ninstance_id = \"{id}\"\ninitiator_sync_dir = '{}'\n\
             target_sync_dir = '{}' # here\n[backup_delete_options]\n\
             conflict_backup_days = 7\n",
            star.hub().root.display(),
            star.leaves[leaf].root.display()
        );
        let file = etc.join(format!("{id}.toml"));
        fs::write(&file, text).unwrap();
        file
    };
    let pairs = [("berlin", 0), ("rome", 1)].map(|(id, leaf)| pair(id, leaf));
    for file in &pairs {
        fine(&star.osync().arg(file).run());
    }
    let upgrade = |words: &[&str], files: &[PathBuf]| {
        star.osync().arg("upgrade").args(words).args(files).run()
    };
    let offered = upgrade(&["--dry"], std::slice::from_ref(&etc));
    fine(&offered);
    assert!(offered.stdout.contains("--to-star NEW.toml"), "{offered}");
    let all = etc.join("all.toml");
    let wrong = upgrade(&["--to-star", etc.join("all.conf").to_str().unwrap()], &pairs);
    assert_eq!(wrong.status, Some(1), "{wrong}");
    assert!(wrong.stderr.contains("end in .toml"), "{wrong}");
    fine(&upgrade(&["--to-star", all.to_str().unwrap()], &pairs));
    let text = fs::read_to_string(&all).unwrap();
    assert!(text.starts_with("# the task berlin\n") && text.contains("_days = 7\n"), "{text}");
    star.leaves[1].remove("one");
    fine(&star.osync().arg(&all).run());
    assert!(!star.hub().has("one") && !star.leaves[0].has("one"), "rome's deletion is known");
    assert_eq!(star.leaves[0].contents(), star.hub().contents());

    // a third pair comes to a file that is there
    let third = pair("third", 2);
    fine(&star.osync().arg(&third).run());
    let more = format!(", '{}'] # here", star.leaves[2].root.display());
    fs::write(&all, text.replace("] # here", &more)).unwrap();
    let run = upgrade(&[all.to_str().unwrap(), "--join"], &[third]);
    fine(&run);
    assert!(run.stdout.contains("goes on with the state of third"), "{run}");
    star.leaves[2].remove("two");
    fine(&star.osync().arg(&all).run());
    assert!(!star.hub().has("two"), "the third one's deletion is known");
    star.assert_all_alike();

    fine(&upgrade(&["--to-pairs"], std::slice::from_ref(&all)));
    star.leaves[1].remove("three");
    fine(&star.osync().arg(etc.join("all-2.toml")).run());
    assert!(!star.hub().has("three"), "the pair goes on with the state of the star's target");
    fine(&star.osync().arg(&all).run());
    star.assert_all_alike();
}
