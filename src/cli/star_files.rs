//! Pair tasks of one initiator as one task with several targets, and back (docs/star.md): the files,
//! and which state belongs to which target. Nothing is synchronised, and no state is changed.

use super::settings::is_not_default;
use super::task_files::{Task, not_understood, read, resolved, say, shown, write_new};
use super::{Effect, settings, state_dir};
use crate::config::FileForm;
use crate::config::conf_file::Trouble;
use crate::config::keys::{Key, ValueKind};
use crate::config::toml_file::ARRAY_SEPARATOR;
use crate::config::upgrade::{Replacement, with_settings};
use crate::config::{Config, Environment, Flags, Location, Setting, load};
use crate::replica::{LockSeen, look_at_lock};
use crate::report::FileAccess;
use crate::state::StateStore;
use crate::state::targets::{self, KnownTarget, ListedTarget, Seen};
use crate::tree::path::for_shell;
use anyhow::{Context, bail};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What two tasks of one initiator may have different, and still be one.
const OWN: [&str; 4] = ["INSTANCE_ID", "TARGET_SYNC_DIR", "CONFIG_FILE_REVISION", "LOGFILE"];

/// Which tasks could be one, each offer with the command that makes it so.
pub(super) fn offers(tasks: &[Task]) -> Vec<String> {
    let is_pair = |task: &&Task| {
        !task.config.is_star() && matches!(task.config.replicas.initiator, Location::Local(_))
    };
    let mut hubs: Vec<Vec<&Task>> = Vec::new();
    for task in tasks.iter().filter(is_pair) {
        // one task may have a file of each form
        let is_same = |other: &&Task| other.config.instance_id == task.config.instance_id;
        match hubs.iter_mut().find(|hub| share_a_hub(hub[0], task)) {
            Some(hub) if hub.iter().any(is_same) => {}
            Some(hub) => hub.push(task),
            None => hubs.push(vec![task]),
        }
    }
    hubs.iter().filter(|hub| hub.len() > 1).map(|hub| offer(hub)).collect()
}

fn share_a_hub(one: &Task, other: &Task) -> bool {
    let place = |task: &Task| {
        let config = &task.config;
        (config.replicas.initiator.clone(), config.state_dirs.initiator.clone())
    };
    place(one) == place(other)
}

fn offer(hub: &[&Task]) -> String {
    let names: Vec<String> = hub.iter().map(|task| shown(&task.file)).collect();
    let initiator = &hub[0].config.replicas.initiator;
    let what = format!("{} have the same initiator, {initiator}", names.join(", "));
    let differing = hub.iter().flat_map(|task| differing(hub[0], task));
    let differing: std::collections::BTreeSet<&str> = differing.collect();
    if !differing.is_empty() {
        let keys = differing.into_iter().collect::<Vec<_>>().join(", ");
        return format!(
            "{what}, but not the same {keys}: as one task with several targets they would share it"
        );
    }
    let files: Vec<String> =
        hub.iter().map(|task| for_shell(task.file.as_os_str().as_bytes())).collect();
    format!(
        "{what}. They can be one task with several targets, which goes on with their states, and \
         brings a change of each to all in one run:\n  osync upgrade --to-star NEW.{} {}",
        hub[0].form.extension(),
        files.join(" ")
    )
}

/// Keys that two tasks have set differently.
fn differing(one: &Task, other: &Task) -> Vec<&'static str> {
    let is_same = |key: &Key, setting: &Setting| {
        let theirs = other.settings.get(key.name);
        theirs.is_some_and(|theirs| match key.kind {
            ValueKind::Boolean => is_not_default(key, setting) == is_not_default(key, theirs),
            _ => setting.value.trim_ascii() == theirs.value.trim_ascii(),
        })
    };
    let compared = one.settings.iter().filter(|(key, _)| !OWN.contains(&key.name));
    compared.filter(|(key, setting)| !is_same(key, setting)).map(|(key, _)| key.name).collect()
}

/// Writes the file of a star with the targets of pair tasks, and has it go on with their states.
pub(super) fn to_star(
    to: &Path,
    tasks: &[Task],
    environment: &Environment,
    effect: Effect,
) -> anyhow::Result<()> {
    let Some((first, others)) = tasks.split_first() else { bail!("name the pair tasks") };
    if let Some(star) = tasks.iter().find(|task| task.config.is_star()) {
        bail!("{}: it is no pair: it has TARGET_SYNC_DIRS", shown(&star.file));
    }
    for other in others {
        let (one, two) = (shown(&first.file), shown(&other.file));
        if !share_a_hub(first, other) {
            bail!("{one} and {two} have another initiator, or keep its state in another place");
        }
        if let [key, ..] = differing(first, other).as_slice() {
            bail!("{one} and {two} have set {key} differently; one task has it only once");
        }
    }
    if FileForm::of(to) != Some(first.form) {
        bail!(
            "{}: its name has to end in .{}, like that of {}, whose settings it gets",
            shown(to),
            first.form.extension(),
            shown(&first.file)
        );
    }
    let separator = first.settings.get("PATH_SEPARATOR_CHAR").map(|setting| &setting.value[..]);
    let separator = separator.filter(|bytes| !bytes.is_empty()).unwrap_or(b";");
    let (separator, between) = match first.form {
        FileForm::Conf => (separator, &[separator, b"\n    "].concat()[..]),
        FileForm::Toml => (&[ARRAY_SEPARATOR][..], &[ARRAY_SEPARATOR][..]),
    };
    let mut list = Vec::new();
    for task in tasks {
        let target = task.settings.get("TARGET_SYNC_DIR").map(|setting| setting.value.trim_ascii());
        let target = target.unwrap_or_default();
        if target.windows(separator.len()).any(|part| part == separator) {
            let what = "its target has PATH_SEPARATOR_CHAR in its name, which separates targets";
            bail!("{}: {what}", shown(&task.file));
        }
        if !list.is_empty() {
            list.extend(between);
        }
        list.extend(target);
    }
    let text = changed(
        first,
        &[Replacement { old: "TARGET_SYNC_DIR", new: "TARGET_SYNC_DIRS", value: list }],
        environment,
    )?;
    let star = resolved(settings::gather_text(to, &text, &Flags::default(), environment))?;
    let joined = join_all(&star, tasks)?;
    write(to, &text, &first.file, effect)?;
    joined.carry_out(effect)?;
    if effect == Effect::Done {
        say(
            "Both the new task and the pairs may run; to run the new one alone, move the files of \
             the pairs away.",
        );
    }
    Ok(())
}

/// Writes the file of a pair for each target of a star.
pub(super) fn to_pairs(
    star: &Task,
    environment: &Environment,
    effect: Effect,
) -> anyhow::Result<()> {
    let config = &star.config;
    if !config.is_star() {
        bail!("{}: it has no TARGET_SYNC_DIRS", shown(&star.file));
    }
    let store = StateStore::open(state_dir(config)?, &config.instance_id)?;
    let known = store.known_targets()?;
    let listed: Vec<ListedTarget> = config
        .listed_places()
        .into_iter()
        .map(|place| ListedTarget { place, seen: Seen::Nothing })
        .collect();
    let bound = targets::bind(&config.instance_id, &known, &listed);
    let mut made = Vec::new();
    for (index, target) in config.targets.iter().enumerate() {
        let Some(instance) = bound[index].instance() else { continue };
        let replacement = |old, new, value: &[u8]| Replacement { old, new, value: value.to_vec() };
        let replacements = [
            replacement("TARGET_SYNC_DIRS", "TARGET_SYNC_DIR", target.name.as_bytes()),
            replacement("INSTANCE_ID", "INSTANCE_ID", instance.as_bytes()),
        ];
        let text = changed(star, &replacements, environment)?;
        made.push((pair_file(star, index + 1), text));
    }
    if let Some((file, _)) = made.iter().find(|(file, _)| file.symlink_metadata().is_ok()) {
        bail!("{} is there already; move it away first", shown(file));
    }
    for (file, text) in &made {
        write(file, text, &star.file, effect)?;
    }
    if effect == Effect::Done {
        say("Both the pairs and the task with all targets may run; to run the pairs alone, move \
             its file away.");
    }
    Ok(())
}

/// `docs.conf` → `docs-2.conf`.
fn pair_file(star: &Task, number: usize) -> PathBuf {
    let mut name = star.file.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}.{}", star.form.extension()));
    star.file.with_file_name(name)
}

/// The text of a task's file with other settings.
fn changed(
    task: &Task,
    replacements: &[Replacement],
    environment: &Environment,
) -> anyhow::Result<Vec<u8>> {
    let name = shown(&task.file);
    let mut shell = load::Shell::for_file(environment, &task.file);
    let errors = |errors: Vec<Trouble>| not_understood(&name, &errors);
    Ok(with_settings(task.form, &read(&task.file)?, replacements, &mut shell).map_err(errors)?)
}

fn write(to: &Path, text: &[u8], like: &Path, effect: Effect) -> anyhow::Result<()> {
    let name = shown(to);
    if to.symlink_metadata().is_ok() {
        bail!("{name} is there already; move it away first");
    }
    if effect == Effect::Planned {
        say(&format!("{name} would be written."));
        return Ok(());
    }
    fs::metadata(like)
        .and_then(|like| write_new(to, text, FileAccess::Like(&like)))
        .with_context(|| format!("{name}: cannot write"))?;
    say(&format!("{name} is written."));
    Ok(())
}

/// What a star is to know of its targets.
pub(super) struct Joined {
    store: StateStore,
    known: Vec<KnownTarget>,
    said: Vec<String>,
    /// Pairs of which no run has recorded anything.
    unrecorded: Vec<String>,
}

impl Joined {
    pub(super) fn carry_out(&self, effect: Effect) -> anyhow::Result<()> {
        if effect == Effect::Done {
            self.store.set_known_targets(&self.known)?;
        }
        self.said.iter().for_each(|line| say(line));
        Ok(())
    }
}

/// Lets a star go on with the states of pairs: what each has recorded of its target is what the
/// star knows of it, so that there is no first contact.
///
/// # Errors
/// One of them is no pair of that hub, or no run of it has recorded anything.
pub(super) fn join(star: &Config, pairs: &[Task]) -> anyhow::Result<Joined> {
    let joined = join_all(star, pairs)?;
    match joined.unrecorded.first() {
        Some(name) => {
            bail!("{name}: no run of it has recorded anything, so there is nothing to go on with")
        }
        None => Ok(joined),
    }
}

/// The same; pairs of which nothing is recorded may be among them.
fn join_all(star: &Config, pairs: &[Task]) -> anyhow::Result<Joined> {
    if !star.is_star() {
        bail!("--join is for a task with TARGET_SYNC_DIRS");
    }
    let (Location::Local(hub), dir) = (&star.replicas.initiator, state_dir(star)?) else {
        bail!("the initiator is another machine; do it there");
    };
    match look_at_lock(hub, &star.instance_id)? {
        LockSeen::Free | LockSeen::Dead { .. } => {}
        LockSeen::Held { .. } | LockSeen::Unclear(_) => {
            bail!("the initiator is locked by a run; try again when that has ended");
        }
    }
    let store = StateStore::open(dir.clone(), &star.instance_id)?;
    let mut known = store.known_targets()?;
    let (mut said, mut unrecorded) = (Vec::new(), Vec::new());
    for Task { file, config: pair, .. } in pairs {
        let (name, place) = (shown(file), pair.replicas.target.to_string());
        if pair.is_star() {
            bail!("{name}: it is no pair: it has TARGET_SYNC_DIRS");
        }
        if state_dir(pair)? != dir || pair.replicas.initiator != star.replicas.initiator {
            bail!("{name}: its initiator, or where its state is kept, is another one");
        }
        if !star.listed_places().contains(&place) {
            bail!("{name}: its target {place} is not in TARGET_SYNC_DIRS");
        }
        let recorded =
            StateStore::open(dir.clone(), &pair.instance_id)?.recorded_identities()?.target;
        let Some(identity) = recorded else {
            said.push(format!("{name}: no run of it has recorded anything; {place} begins anew"));
            unrecorded.push(name);
            continue;
        };
        let same = known.iter().find(|known| known.identity.as_ref() == Some(&identity));
        if let Some(same) = same.filter(|same| same.place.is_some()) {
            let instance = &same.instance;
            said.push(format!("{name}: the target {place} has the state of {instance} already"));
            continue;
        }
        targets::note(&mut known, &pair.instance_id, Some(&identity), &place);
        let instance = &pair.instance_id;
        said.push(format!("{name}: the target {place} goes on with the state of {instance}"));
    }
    Ok(Joined { store, known, said, unrecorded })
}
