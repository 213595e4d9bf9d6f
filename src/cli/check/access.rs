//! What a run will need: rsync, both replicas (the remote one through ssh), the hosts to
//! ping, mail. Each is tried as a run would, but nothing is created.

use super::{Finding, Verdict};
use crate::config::{Config, Location};
use crate::process::signals::SignalWatch;
use crate::process::{self, Command, Input, Stop};
use crate::replica::{self, Access, Prepared, ReplicaError, Trouble};
use crate::report::{Event, Level, Reporter, mail};
use crate::task::preflight;
use crate::tree::Side;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries everything.
pub(super) fn try_all(config: &Config) -> Vec<Finding> {
    let stop = Stop::new();
    let watch = SignalWatch::stopping(&stop);
    let mut findings = vec![rsync(config, &stop)];
    if let Err(error) = &watch {
        let text = format!("cannot listen to them: {error}");
        findings.push(finding("signals", Verdict::Warning, text));
    }
    findings.extend(hosts(config, &stop));
    findings.extend(Side::BOTH.into_iter().flat_map(|side| replica(config, side, &stop)));
    findings.extend(mail_way(config));
    findings
}

fn finding(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Finding {
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

/// REMOTE_HOST_PING and REMOTE_3RD_PARTY_HOSTS, which matter for remote replicas only.
fn hosts(config: &Config, stop: &Stop) -> Vec<Finding> {
    let remote = config.replicas.iter().find_map(|(_, place)| match place {
        Location::Ssh(ssh) => Some(ssh),
        Location::Local(_) => None,
    });
    let Some(ssh) = remote else { return Vec::new() };
    let mut findings = Vec::new();
    if config.remote.ping {
        findings.push(match preflight::ping(&ssh.host, stop) {
            Ok(true) => finding("ping", Verdict::Fine, format!("{} answers", ssh.host)),
            Ok(false) => finding("ping", Verdict::Error, format!("{} does not answer", ssh.host)),
            Err(error) => finding("ping", Verdict::Error, error.to_string()),
        });
    }
    let others = &config.remote.third_party_hosts;
    if !others.is_empty() {
        let answers = |host: &&String| preflight::ping(host, stop).unwrap_or(false);
        findings.push(match others.iter().find(answers) {
            Some(host) => finding("other hosts", Verdict::Fine, format!("{host} answers")),
            None => finding("other hosts", Verdict::Warning, "none of them answers a ping"),
        });
    }
    findings
}

fn replica(config: &Config, side: Side, stop: &Stop) -> Vec<Finding> {
    let collector = Collector::default();
    let prepared = reach(config, side, stop, &collector);
    let said = collector.0.into_inner().unwrap_or_default();
    let mut findings: Vec<_> =
        said.into_iter().map(|text| finding(side.name(), Verdict::Warning, text)).collect();
    findings.push(match prepared {
        Ok((place, prepared)) => space(config, side, &place, prepared),
        Err(error) if config.create_dirs && error.trouble == Trouble::Missing => {
            to_be_made(config, side, stop, &error)
        }
        Err(error) => finding(side.name(), Verdict::Error, error.to_string()),
    });
    findings
}

/// A run would make this directory: whether it could shows the nearest one that is there,
/// where rsync is looked for, too.
fn to_be_made(config: &Config, side: Side, stop: &Stop, missing: &ReplicaError) -> Finding {
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
            Ok(_) => {
                let text = format!("{} is missing and will be created", missing.location);
                return finding(side.name(), Verdict::Fine, text);
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

/// Asks the replica as a run would, without making anything; also says where it is.
fn reach(
    config: &Config,
    side: Side,
    stop: &Stop,
    reporter: &dyn Reporter,
) -> Result<(String, Prepared), ReplicaError> {
    let mut replica = replica::at(config, side, stop, reporter);
    let prepared = replica.prepare(Access::ReadWrite { create: false })?;
    Ok((replica.location(), prepared))
}

fn space(config: &Config, side: Side, place: &str, found: Prepared) -> Finding {
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
        let text = match config.alerts.placeholders.first() {
            Some(placeholder) => placeholder.to_string(),
            None => "no DESTINATION_MAILS, so none is sent".to_owned(),
        };
        return vec![finding("mail", Verdict::Fine, text)];
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

/// Keeps what a room says.
#[derive(Default)]
struct Collector(Mutex<Vec<String>>);

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
