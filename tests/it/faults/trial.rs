//! One history, one kill, one judgement.

use super::verdict::{Before, check_completed, check_interrupted, check_work_dir};
use crate::properties::{Keeps, Settings, any_rounds, any_settings, every_detail, quick};
use crate::support::history::{ANCHOR, Clock, Step};
use crate::support::model::{Expected, Model, Rules};
use crate::support::sandbox::{Replica, Run, Sandbox};
use crate::support::sshd::Sshd;
use crate::support::trees;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What happens to two replicas before the run that is killed.
pub enum Story {
    /// Something of everything, so that a run comes to every step.
    Every,
    /// The same, and nothing is kept of what goes.
    EveryUnkept,
    /// A random history with this seed.
    Random(u64),
}

/// How the target is reached.
pub enum Line<'s> {
    Local,
    Ssh(&'s Sshd),
    /// By the osync over there.
    Peer(&'s Sshd),
}

impl Line<'_> {
    /// A run whose target is reached like this.
    pub fn reach(&self, run: Run, target: &Path) -> Run {
        let (server, osync) = match self {
            Line::Local => return run,
            Line::Ssh(server) => (server, "no"),
            Line::Peer(server) => (server, crate::support::osync()),
        };
        run.arg(format!("--target={}", server.uri(target)))
            .env("SSH_RSA_PRIVATE_KEY", server.key())
            .env("SSH_OPTIONAL_ARGS", server.options().join(" "))
            .env("SSH_COMPRESSION", "no")
            .env("REMOTE_HOST_PING", "no")
            .env("REMOTE_OSYNC", osync)
    }
}

/// How a run ends too soon.
#[derive(Debug)]
pub enum Kill {
    /// When it comes to a step for the nth time.
    At { step: String, nth: u64 },
    /// After a while: it and all it has started.
    After(Duration),
    /// After a while: what the server has started for it.
    ServerAfter(Duration),
    /// When the run comes to a step for the nth time, those of the server's processes whose
    /// name begins like this are ended, or frozen as if the network had gone.
    Server { step: String, nth: u64, name: &'static str, frozen: bool },
}

/// Two replicas at the moment before the run.
pub struct Trial<'s> {
    sandbox: Sandbox,
    settings: Settings,
    line: &'s Line<'s>,
    before: Before,
    expected: Expected,
    name: String,
}

impl<'s> Trial<'s> {
    /// Plays the story up to its last run, and foresees what that must lead to.
    pub fn prepare(story: &Story, line: &'s Line<'s>) -> Self {
        let (settings, rounds, name) = match story {
            Story::Every => (plain(), Vec::new(), "the story of everything".to_owned()),
            Story::EveryUnkept => {
                let keeps = Keeps { deleted: false, replaced: false };
                let name = "the story of everything, with nothing kept".to_owned();
                (Settings { keeps, ..plain() }, Vec::new(), name)
            }
            Story::Random(seed) => {
                let (settings, rounds) = random(*seed);
                (settings, rounds, format!("the random history {seed}"))
            }
        };
        let sandbox = Sandbox::new();
        let mut trial = Trial {
            sandbox,
            settings,
            line,
            before: Before::default(),
            expected: Expected::default(),
            name,
        };
        for replica in trial.replicas() {
            replica.write(ANCHOR, "anchor", 1_500_000_000);
        }
        match story {
            Story::Every | Story::EveryUnkept => trial.play_everything(),
            Story::Random(_) => trial.play(&rounds),
        }
        trial
    }

    pub fn replicas(&self) -> [&Replica; 2] {
        [&self.sandbox.a, &self.sandbox.b]
    }

    fn play(&mut self, rounds: &[Vec<Step>]) {
        let mut clock = Clock::default();
        for (number, round) in rounds.iter().enumerate() {
            for step in round {
                clock.step([&self.sandbox.a.root, &self.sandbox.b.root], step);
            }
            self.foresee();
            // What is left alone keeps an older baseline than the one this run would leave:
            // nothing that comes after it can be foreseen.
            if number + 1 == rounds.len() || !self.expected.left_alone.is_empty() {
                break;
            }
            self.settle();
        }
    }

    fn play_everything(&mut self) {
        let a = &self.sandbox.a;
        a.make(&format!(
            "f stays 1\nf edited-a 1\nf edited-b 1\nf fought 1\nf gone-a 1\nf gone-b 1\n\
             f moved/one 1\nf moved/two 2\nf renamed 77777\nf dir/a/b 1\nf dir/c 1\nf dirgone/x/y 1\n\
             f dirgone/z 1\nf to-dir 1\nd to-file\nf to-file/in/side 1\nf mode 1\nf {0} 1\n\
             f fight/x 1\n\
             f fight2/k1 1\nf fight2/k2 22\nf fight2/deep/k3 333\nf fight2/e 4444\nl link stays\n",
            "L".repeat(250)
        ));
        self.settle();
        // kept from an earlier run: the next ones of the same name need room
        let a = &self.sandbox.a;
        a.write("edited-a", "22", 1_600_000_000);
        a.remove("gone-b");
        a.make("f gone-b 333 1600000000");
        self.settle();
        let [a, b] = self.replicas();
        a.write("edited-a", "4444", 1_600_000_100);
        b.write("edited-b", "4444", 1_600_000_100);
        a.write("fought", "55555", 1_600_000_100);
        b.write("fought", "666666", 1_600_000_101);
        a.remove("gone-a");
        b.remove("gone-b");
        a.rename("moved", "moved-whole");
        b.remove("dirgone");
        fs::create_dir(b.at("fresh")).unwrap();
        b.rename("renamed", "fresh/renamed-there");
        a.remove("to-dir");
        a.make("f to-dir/now/dir 7");
        a.remove("to-file");
        a.make("f to-file 8 1600000000");
        trees::set_mode(&a.at("mode"), 0o600);
        a.write("L".repeat(250), "99", 1_600_000_100);
        a.remove("link");
        a.make("l link elsewhere 1600000100");
        a.make("f new-a/deep/er 1\nf new\\nline 1\nf -dash 1\nf inv\\xff 1\n");
        b.make("f new-b/deep/er 1\nf .stays.Xy12Zz mine\nd empty\n");
        a.remove("fight");
        a.write("fight", "a file", 1_600_000_100);
        b.make("f fight/new 1 1600000200\n");
        // a directory of which little changed, against a file
        a.write("fight2/e", "55555", 1_600_000_100);
        b.remove("fight2");
        b.write("fight2", "a file too", 1_600_000_100);
        // several megabytes: rsync is at it for some time
        b.write("big", big(), 1_600_000_300);
        self.foresee();
    }

    /// A run that comes to its end; the baselines are what it left.
    fn settle(&mut self) {
        let run = self.run().run();
        assert!(matches!(run.status, Some(0 | 2)), "{}: {run}", self.name);
        self.before.base = self.replicas().map(Replica::tree);
    }

    /// What a run must lead to from here.
    fn foresee(&mut self) {
        let now = self.replicas().map(Replica::tree);
        let rules = Rules {
            target_prevails: self.settings.target_prevails,
            force: self.settings.force,
            checksum: self.settings.checksum,
            skip: self.settings.skip_deletion,
            moves: self.settings.detect_moves,
        };
        let base = &self.before.base;
        let model = Model::new(
            rules,
            [&now[0], &now[1]],
            [&base[0], &base[1]],
            Default::default(),
            |_, _| false,
        );
        self.expected = model.expected();
        self.before.now = now;
    }

    fn run(&self) -> Run {
        self.line.reach(quick(&self.sandbox, &self.settings), &self.sandbox.b.root)
    }

    /// The steps of an undisturbed run, and how often it comes to each.
    pub fn trace(&self) -> BTreeMap<String, u64> {
        let trace = self.sandbox.path("trace");
        let run = self.run().env("OSYNC_FAULT_TRACE", &trace).run();
        assert!(matches!(run.status, Some(0 | 2)), "{}: {run}", self.name);
        let mut steps = BTreeMap::new();
        for line in fs::read_to_string(trace).unwrap().lines() {
            let (step, _) = line.rsplit_once(':').unwrap();
            *steps.entry(step.to_owned()).or_default() += 1;
        }
        steps
    }

    /// How long an undisturbed run takes.
    pub fn duration(&self) -> Duration {
        let started = Instant::now();
        let run = self.run().run();
        assert!(matches!(run.status, Some(0 | 2)), "{}: {run}", self.name);
        started.elapsed()
    }

    /// Kills the run, and judges what it left and what the next run makes of it. Whether
    /// it really was killed: a short run may be over before.
    pub fn check(&self, kill: &Kill) -> bool {
        let (was_killed, story) = self.kill(kill);
        let wrong = |what: &str, run: &str| {
            let [a, b] = self.before.now.each_ref().map(trees::details);
            let [base_a, base_b] = self.before.base.each_ref().map(trees::details);
            let [now_a, now_b] = self.replicas().map(Replica::details);
            panic!(
                "{}, {kill:?} ({:?}): {what}\n--- a before\n{a}--- its baseline\n{base_a}\
                 --- b before\n{b}--- its baseline\n{base_b}--- a now\n{now_a}--- b now\n{now_b}\
                 --- the run that was killed\n{story}--- then\n{run}",
                self.name, self.settings
            )
        };
        let held = check_interrupted(&self.before, &self.expected, self.replicas(), &self.settings);
        held.unwrap_or_else(|what| wrong(&what, "(not yet)"));
        let next = self.run().arg("--verbose").run();
        let text = next.to_string();
        if !matches!(next.status, Some(0 | 2)) {
            wrong("the next run fails", &text);
        }
        let completed = check_completed(
            &self.before,
            &mut self.expected_now(),
            self.replicas(),
            &self.settings,
        );
        completed.unwrap_or_else(|what| wrong(&what, &text));
        let after = self.replicas().map(Replica::tree);
        let again = self.run().run();
        let still = self.replicas().map(Replica::tree);
        for (after, still) in after.iter().zip(&still) {
            if every_detail(after) != every_detail(still) {
                wrong("the run after that changed something", &format!("{text}{again}"));
            }
        }
        for replica in self.replicas() {
            check_work_dir(&replica.root).unwrap_or_else(|what| wrong(&what, &text));
        }
        was_killed
    }

    fn expected_now(&self) -> Expected {
        Expected {
            trees: self.expected.trees.clone(),
            gone: self.expected.gone.clone(),
            left_alone: self.expected.left_alone.clone(),
            warns: self.expected.warns,
        }
    }

    fn kill(&self, kill: &Kill) -> (bool, String) {
        match kill {
            Kill::At { step, nth } => {
                let run = self.run().env("OSYNC_FAULT", format!("{step}:{nth}")).run();
                assert!(matches!(run.status, None | Some(0 | 2)), "{}: {run}", self.name);
                (run.signal == Some(9), run.to_string())
            }
            Kill::Server { step, nth, name, frozen } => {
                let (Line::Ssh(server) | Line::Peer(server)) = self.line else {
                    panic!("there is no server")
                };
                let victims = self.sandbox.path("victims");
                let signal = if *frozen { "STOP" } else { "KILL" };
                let command = format!(
                    "all() {{ for p in $(ps -o pid= --ppid \"$1\"); do echo \"$p\"; all \"$p\"; \
                     done; }}; for p in $(all {}); do case $(ps -o comm= -p \"$p\") in {name}*) \
                     kill -{signal} \"$p\" && echo \"$p\" >> '{}';; esac; done",
                    server.pid().as_raw_nonzero(),
                    victims.display()
                );
                let options = server.options().join(" ");
                let alive = "-o ServerAliveInterval=1 -o ServerAliveCountMax=2";
                let run = self
                    .run()
                    .env("SSH_OPTIONAL_ARGS", format!("{options} {alive}"))
                    .env("OSYNC_FAULT", format!("{step}:{nth}:{command}"))
                    .run();
                assert!(matches!(run.status, Some(0..=2)), "{}: {run}", self.name);
                let victims = fs::read_to_string(victims).unwrap_or_default();
                for victim in victims.lines().filter_map(|line| line.parse().ok()) {
                    // whoever was frozen learns one day that nobody is there any more
                    if let Some(pid) = Pid::from_raw(victim) {
                        let _ = kill_process(pid, Signal::KILL);
                    }
                }
                (!victims.is_empty(), run.to_string())
            }
            Kill::After(delay) | Kill::ServerAfter(delay) => {
                let mut child = self.start();
                std::thread::sleep(*delay);
                let ours = matches!(kill, Kill::After(_));
                let top = match (ours, self.line) {
                    (false, Line::Ssh(server) | Line::Peer(server)) => server.pid(),
                    _ => Pid::from_child(&child),
                };
                end_all(top, ours);
                let status = child.wait().unwrap();
                // of a killed server only the processes of this connection are to be gone
                (!status.success(), format!("{status}\n{}", self.sandbox.log()))
            }
        }
    }

    fn start(&self) -> Child {
        let mut command = self.run().into_command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }
}

/// Kills a process's descendants, and itself if wanted, all at the same moment.
pub fn end_all(top: Pid, with_top: bool) {
    let mut stopped = Vec::new();
    if with_top {
        let _ = kill_process(top, Signal::STOP);
        stopped.push(top);
    }
    loop {
        let found: Vec<Pid> =
            descendants(top).into_iter().filter(|p| !stopped.contains(p)).collect();
        if found.is_empty() {
            break;
        }
        for pid in found {
            let _ = kill_process(pid, Signal::STOP);
            stopped.push(pid);
        }
    }
    for pid in stopped {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn descendants(of: Pid) -> Vec<Pid> {
    let mut parents = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let stat = fs::read(process.path().join("stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let parent = rest.split_whitespace().nth(1).and_then(|p| Pid::from_raw(p.parse().ok()?));
        let pid = process.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if let (Some(pid), Some(parent)) = (pid, parent) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![of];
    let mut next = 0;
    while let Some(at) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == at).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

fn plain() -> Settings {
    Settings {
        target_prevails: false,
        force: false,
        checksum: false,
        detect_moves: true,
        multiple: true,
        keeps: Keeps { deleted: true, replaced: true },
        skip_deletion: [false; 2],
        exclude: "",
        beside: false,
    }
}

/// A random history, without what leaves paths open (exclusion is tried elsewhere).
fn random(seed: u64) -> (Settings, Vec<Vec<Step>>) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = (any_settings(false), any_rounds(false)).new_tree(&mut runner).unwrap();
    let (settings, rounds) = tree.current();
    (Settings { exclude: "", ..settings }, rounds)
}

/// Four megabytes that cannot be compressed.
fn big() -> Vec<u8> {
    let numbers = (0..1_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761) ^ (n >> 3));
    numbers.flat_map(u32::to_le_bytes).collect()
}
