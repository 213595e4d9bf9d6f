//! `osync check`: the effective settings with their origins, what is wrong with them, and
//! whether everything can be reached. Changes nothing (spec 1).

use super::sync::{self, SyncArgs};
use super::{print, settings};
use crate::config::keys::Section;
use crate::config::{Config, Environment, Location, Origin, Problem, Resolution, StarTarget};
use crate::process::SignalWatch;
use crate::process::{self, Command, Input, Stop};
use crate::reconcile::guard::Danger;
use crate::replica::{self, Access, Prepared, ReplicaError, Trouble};
use crate::report::{Event, Level, Reporter, mail, notify};
use crate::state::targets::{self, KnownTarget};
use crate::state::{Identity, IdentityFound, StateDir, StateStore};
use crate::task::preflight;
use crate::tree::Side;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  osync check docs.conf                 all settings, and what was tried
  osync check docs.conf --errors-only   only what is wrong
  osync check --initiator=a --target=b  a task without a file
  osync check docs.conf --json          for other programs

Exit status: 0 all is well, 1 a run would fail, 2 a run would warn.";

/// `osync check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Print JSON, for other programs
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub sync: SyncArgs,
}

/// How a finding counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Fine,
    /// A run would warn.
    Warning,
    /// A run would fail.
    Error,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// `rsync`, `initiator`, `mail`, `PING_URL` …
    pub what: &'static str,
    /// How it counts.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {}: {}", word(self.verdict), self.what, self.text)
    }
}

/// Checks a task; the exit status is the one that a run would have.
pub fn run(args: &CheckArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    checked(args, environment).map(ExitCode::from)
}

/// The same; returns that exit status as a number.
pub(super) fn checked(args: &CheckArgs, environment: &Environment) -> anyhow::Result<u8> {
    sync::complete(&args.sync, environment)?;
    let flags = &args.sync.run;
    let resolution = settings::gather(args.sync.config_file.as_deref(), flags, environment);
    let findings = resolution.config.as_ref().map(try_all).unwrap_or_default();
    let status = status(&resolution, &findings);
    let run = &args.sync.run;
    let detail = match (run.errors_only, run.verbose) {
        (true, _) => Detail::Problems,
        (false, true) => Detail::Everything,
        (false, false) => Detail::Usual,
    };
    if !run.silent {
        print(&match args.json {
            true => json(&resolution, &findings, status),
            false => text(&resolution, &findings, status, detail),
        });
    }
    Ok(status)
}

fn status(resolution: &Resolution, findings: &[Finding]) -> u8 {
    let worst = findings.iter().map(|finding| finding.verdict).max();
    if !resolution.errors.is_empty() || worst == Some(Verdict::Error) {
        1
    } else if !resolution.warnings.is_empty() || worst == Some(Verdict::Warning) {
        2
    } else {
        0
    }
}

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries everything.
fn try_all(config: &Config) -> Vec<Finding> {
    let stop = Stop::new();
    let watch = SignalWatch::stopping(&stop);
    let mut findings = vec![rsync(config, &stop)];
    if let Err(error) = &watch {
        let text = format!("cannot listen to them: {error}");
        findings.push(finding("signals", Verdict::Warning, text));
    }
    let pairs = config.pairs();
    findings.extend(pairs.iter().flat_map(|pair| pinged(pair, &stop)));
    findings.extend(other_hosts(config, &stop));
    let KnownIdentities { initiator, targets } = known_identities(config);
    findings.extend(replica(config, Side::Initiator, &initiator, &stop));
    for (pair, recorded) in pairs.iter().zip(targets) {
        findings.extend(replica(pair, Side::Target, &recorded, &stop));
    }
    findings.extend(mail_way(config));
    findings.extend(services(config));
    findings
}

pub(super) fn finding(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding { what, verdict, text: text.into() }
}

fn rsync(config: &Config, stop: &Stop) -> Finding {
    let name = &config.transfer.executable;
    let mut command = Command::new(name).arg("--version");
    command.time_limit = Some(PATIENCE);
    match process::output(&command, Input::Nothing, stop) {
        Ok(output) if output.exit.is_success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().next().unwrap_or_default();
            let words: Vec<_> = line.split_whitespace().collect();
            finding("rsync", Verdict::Fine, words.join(" "))
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            finding("rsync", Verdict::Error, format!("'{name} --version' fails: {said}"))
        }
        Err(error) => finding("rsync", Verdict::Error, error.to_string()),
    }
}

/// REMOTE_HOST_PING.
fn pinged(pair: &Config, stop: &Stop) -> Option<Finding> {
    let remote = pair.replicas.iter().find_map(|(_, place)| match place {
        Location::Ssh(ssh) => Some(ssh),
        Location::Local(_) => None,
    });
    let ssh = remote.filter(|_| pair.remote.ping)?;
    Some(match preflight::ping(&ssh.host, stop) {
        Ok(true) => finding("ping", Verdict::Fine, format!("{} answers", ssh.host)),
        Ok(false) => finding("ping", Verdict::Error, format!("{} does not answer", ssh.host)),
        Err(error) => finding("ping", Verdict::Error, error.to_string()),
    })
}

/// REMOTE_3RD_PARTY_HOSTS, which matter where a replica is remote.
fn other_hosts(config: &Config, stop: &Stop) -> Option<Finding> {
    let others = &config.remote.third_party_hosts;
    if others.is_empty() || !config.places().any(Location::is_remote) {
        return None;
    }
    let answers = |host: &&String| preflight::ping(host, stop).unwrap_or(false);
    Some(match others.iter().find(answers) {
        Some(host) => finding("other hosts", Verdict::Fine, format!("{host} answers")),
        None => finding("other hosts", Verdict::Warning, "none of them answers a ping"),
    })
}

/// The identities that each replica had in the last runs; empty where none has recorded any.
struct KnownIdentities {
    initiator: Vec<Identity>,
    /// Of the targets that take part, in the order of the list.
    targets: Vec<Vec<Identity>>,
}

/// Reads these identities from the state. One that cannot be read counts as empty here: runs and
/// `osync state` report it.
fn known_identities(config: &Config) -> KnownIdentities {
    let open = |instance: &str| StateStore::open(StateDir::of(config)?, instance).ok();
    let Some(store) = open(&config.instance_id) else {
        return KnownIdentities {
            initiator: Vec::new(),
            targets: vec![Vec::new(); config.pairs().len()],
        };
    };
    if !config.is_star() {
        let of_snapshot = store.recorded_identities().unwrap_or_default();
        return KnownIdentities {
            initiator: of_snapshot.initiator.into_iter().collect(),
            targets: vec![of_snapshot.target.into_iter().collect()],
        };
    }
    let known = store.known_targets().unwrap_or_default();
    let places = config.listed_places();
    // those that changed their places are told apart by a run
    let all: Vec<Identity> = known.iter().filter_map(|known| known.identity.clone()).collect();
    let instance = |index| targets::instance_at(&config.instance_id, &known, &places, index);
    // the state of each target knows the hub
    let of_hub = |(index, _): (usize, &StarTarget)| {
        open(instance(index)?.as_str())?.recorded_identities().ok()?.initiator
    };
    let of_target = |(index, _): (usize, &StarTarget)| {
        let instance = instance(index);
        let is_it = |known: &&KnownTarget| Some(&known.instance) == instance.as_ref();
        let has_one = known.iter().find(is_it).is_some_and(|known| known.identity.is_some());
        if has_one { all.clone() } else { Vec::new() }
    };
    KnownIdentities {
        initiator: config.chosen_targets().filter_map(of_hub).collect(),
        targets: config.chosen_targets().map(of_target).collect(),
    }
}

fn replica(config: &Config, side: Side, recorded: &[Identity], stop: &Stop) -> Vec<Finding> {
    let collector = Collector::default();
    let prepared = reach(config, side, stop, &collector);
    let said = collector.0.into_inner().unwrap_or_default();
    let mut findings: Vec<_> =
        said.into_iter().map(|text| finding(side.name(), Verdict::Warning, text)).collect();
    findings.push(match prepared {
        Ok((place, _, found)) if is_stranger(recorded, &found) => {
            let danger = Danger::Stranger { side, has_no_identity: found.known().is_none() };
            finding(side.name(), Verdict::Error, format!("{place}: {danger}"))
        }
        Ok((place, prepared, _)) => space(config, side, &place, &prepared),
        Err(error) if config.create_dirs && error.trouble == Trouble::Missing => {
            to_be_made(config, side, stop, &error)
        }
        Err(error) => finding(side.name(), Verdict::Error, error.to_string()),
    });
    findings
}

/// A run would make this directory: whether it could shows the nearest one that is there,
/// where rsync is looked for, too.
pub(super) fn to_be_made(
    config: &Config,
    side: Side,
    stop: &Stop,
    missing: &ReplicaError,
) -> Finding {
    let path = match &config.replicas[side] {
        Location::Local(path) => path,
        Location::Ssh(to) => &to.path,
    };
    let collector = Collector::default();
    let mut config = config.clone();
    let up = path.ancestors().skip(1);
    let up = up.map(|dir| if dir.as_os_str().is_empty() { Path::new("~") } else { dir });
    for above in up {
        match &mut config.replicas[side] {
            Location::Local(path) => *path = above.to_owned(),
            Location::Ssh(to) => to.path = above.to_owned(),
        }
        match reach(&config, side, stop, &collector) {
            Ok((_, found, _)) => {
                let place = format!("{} is missing and will be created", missing.location);
                return space(&config, side, &place, &found);
            }
            Err(error) if error.trouble == Trouble::Missing => {}
            Err(error) => {
                let text = format!(
                    "{} is missing and cannot be created: {}: {}",
                    missing.location, error.location, error.what
                );
                return finding(side.name(), Verdict::Error, text);
            }
        }
    }
    finding(side.name(), Verdict::Error, missing.to_string())
}

fn is_stranger(recorded: &[Identity], found: &IdentityFound) -> bool {
    match found {
        _ if recorded.is_empty() => false,
        // a run mends it
        IdentityFound::Torn => false,
        IdentityFound::Missing => true,
        IdentityFound::Known(identity) => !recorded.contains(identity),
    }
}

/// Asks the replica as a run would, without making anything; also says where it is, and which
/// identity it carries.
pub(super) fn reach(
    config: &Config,
    side: Side,
    stop: &Stop,
    reporter: &dyn Reporter,
) -> Result<(String, Prepared, IdentityFound), ReplicaError> {
    let mut replica = replica::at(config, side, stop, reporter);
    let prepared = replica.prepare(Access::ReadWrite { create: false })?;
    let identity = replica.identity()?;
    Ok((replica.location(), prepared, identity))
}

pub(super) fn space(config: &Config, side: Side, place: &str, found: &Prepared) -> Finding {
    if found.free_kib < config.minimum_space {
        let text = format!(
            "{place}: only {} KiB are free, less than MINIMUM_SPACE={}",
            found.free_kib, config.minimum_space
        );
        return finding(side.name(), Verdict::Warning, text);
    }
    finding(side.name(), Verdict::Fine, format!("{place}, {} KiB free", found.free_kib))
}

fn mail_way(config: &Config) -> Vec<Finding> {
    if config.alerts.recipients.is_empty() {
        let said = |text: String| finding("mail", Verdict::Fine, text);
        return match config.alerts.placeholders.as_slice() {
            [] => vec![said("no DESTINATION_MAILS, so none is sent".to_owned())],
            placeholders => placeholders.iter().map(|found| said(found.to_string())).collect(),
        };
    }
    let collector = Collector::default();
    mail::check(&config.alerts, &collector);
    let warnings = collector.0.into_inner().unwrap_or_default();
    let mut findings: Vec<_> =
        warnings.into_iter().map(|text| finding("mail", Verdict::Warning, text)).collect();
    findings.push(match mail::reach(&config.alerts, mail::Patience::default()) {
        Ok(way) => finding("mail", Verdict::Fine, way),
        // A run that has something to report would only note this in its log.
        Err(why) => finding("mail", Verdict::Warning, why),
    });
    findings
}

/// PING_URL and NOTIFY_URL. Nobody is told anything: a check that raised an alarm, or put one
/// off, would not be made again.
fn services(config: &Config) -> Vec<Finding> {
    let urls = [("PING_URL", &config.notify.ping_url), ("NOTIFY_URL", &config.notify.url)];
    let asked = urls.into_iter().filter_map(|(key, url)| Some((key, url.as_ref()?)));
    asked
        .map(|(key, url)| match notify::reach(url) {
            Ok(text) => {
                let text = format!("{text} (only its front page was asked for)");
                finding(key, Verdict::Fine, text)
            }
            // a run would only note this in its log
            Err(why) => finding(key, Verdict::Warning, why),
        })
        .collect()
}

/// Keeps what a room says.
#[derive(Default)]
pub(super) struct Collector(Mutex<Vec<String>>);

impl Reporter for Collector {
    fn tell(&self, event: Event<'_>) {
        let text = match event {
            Event::Message(Level::Warn | Level::Error | Level::Critical, text)
            | Event::Remark(Level::Warn, text) => text.to_owned(),
            Event::Problem(problem) => problem.text.clone(),
            _ => return,
        };
        if let Ok(mut texts) = self.0.lock() {
            texts.push(text);
        }
    }
}

/// How much people want to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Problems alone (`--errors-only`).
    Problems,
    /// What was tried, and the settings that are not at their defaults.
    Usual,
    /// Every setting (`--verbose`).
    Everything,
}

/// For people: the verdict first, and what speaks against a run.
fn text(resolution: &Resolution, findings: &[Finding], status: u8, detail: Detail) -> String {
    let mut out = String::new();
    let verdict = match status {
        0 => "Everything is fine.",
        2 => "A run would work, with warnings.",
        _ => "A run would fail.",
    };
    if status != 0 || detail != Detail::Problems {
        let _ = writeln!(out, "{verdict}");
    }
    let errors = resolution.errors.iter().map(|problem| ("error", problem));
    let warnings = resolution.warnings.iter().map(|problem| ("warning", problem));
    for (kind, problem) in errors.chain(warnings) {
        let _ = writeln!(out, "{kind:<8} {problem}");
    }
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    let is_shown =
        |finding: &&&Finding| detail != Detail::Problems || finding.verdict != Verdict::Fine;
    for finding in sorted.iter().filter(is_shown) {
        let _ = writeln!(out, "{finding}");
    }
    if detail == Detail::Problems {
        return out;
    }
    let all = detail == Detail::Everything;
    out.push_str(match all {
        true => "\nSettings\n",
        false => "\nSettings that are not at their defaults (--verbose shows all)\n",
    });
    for section in Section::ALL {
        let of_section = resolution.settings.iter().filter(|(key, setting)| {
            key.section == section && (all || settings::is_not_default(key, setting))
        });
        for (index, (key, setting)) in of_section.enumerate() {
            if index == 0 {
                let _ = writeln!(out, "[{}]", section.name());
            }
            let _ = writeln!(out, "{}", settings::line(&resolution.settings, key, setting));
        }
    }
    out
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "ok",
        Verdict::Warning => "warning",
        Verdict::Error => "error",
    }
}

/// For programs.
fn json(resolution: &Resolution, findings: &[Finding], status: u8) -> String {
    let settings: Vec<Value> = resolution
        .settings
        .iter()
        .map(|(key, setting)| {
            let (origin, place) = match setting.origin {
                Origin::Default => ("default", Value::Null),
                Origin::Environment => ("environment", Value::Null),
                Origin::File(line) => ("file", json!(line)),
                Origin::Flag(flag) => ("flag", json!(flag)),
            };
            json!({
                "key": key.name,
                "section": key.section.name(),
                "value": settings::shown(key, setting),
                "origin": origin,
                "place": place,
            })
        })
        .collect();
    let problems = |problems: &[Problem]| -> Vec<Value> {
        problems
            .iter()
            .map(|problem| {
                json!({
                    "place": problem.place,
                    "line": problem.line(),
                    "key": problem.key,
                    "text": problem.text,
                })
            })
            .collect()
    };
    let access: Vec<Value> = findings
        .iter()
        .map(|f| json!({ "what": f.what, "verdict": word(f.verdict), "text": f.text }))
        .collect();
    let file = resolution.settings.file.as_ref();
    let whole = json!({
        "file": file.map(|file| file.to_string_lossy()),
        "settings": settings,
        "warnings": problems(&resolution.warnings),
        "errors": problems(&resolution.errors),
        "access": access,
        "status": status,
    });
    format!("{whole:#}\n")
}
