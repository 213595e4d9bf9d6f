//! State files of v1.0 and v1.1 under the names of today, here and on a remote replica.

use super::{Way, say};
use crate::config::{Config, Location, SshLocation};
use crate::process::signals::SignalWatch;
use crate::process::{self, Exit, Input, Stop};
use crate::ssh::{self, Ssh, Use};
use crate::tree::Side;
use crate::tree::path::escape;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the sides were called.
const OLD_NAMES: [(&str, &str); 2] = [("master-", "initiator-"), ("slave-", "target-")];

/// Renames the old state files of a task on both replicas. Where a file of the new name
/// is there already, the old one stays.
pub(super) fn rename(config: &Config, way: Way) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    let stop = Stop::new();
    let _watch = SignalWatch::stopping(&stop)
        .map_err(|error| vec![format!("cannot listen to signals: {error}")])?;
    for side in Side::BOTH {
        let (Location::Local(root) | Location::Ssh(SshLocation { path: root, .. })) =
            &config.replicas[side];
        let dir = state_dir(config, side, root);
        let done = match &config.replicas[side] {
            Location::Local(_) => here(&dir, &config.instance_id, way),
            Location::Ssh(to) => there(config, &dir, to, way, &stop),
        };
        match done {
            Ok(renamed) if renamed.is_empty() => {
                let dir = escape(dir.as_os_str().as_bytes());
                say(&format!("{side}: no state files to rename in {dir}"));
            }
            Ok(renamed) => renamed.iter().for_each(|line| say(&format!("{side}: {line}"))),
            Err(problem) => problems.push(format!("{side}: {problem}")),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn state_dir(config: &Config, side: Side, root: &Path) -> PathBuf {
    config.state_dirs[side].clone().unwrap_or_else(|| root.join(".osync_workdir/state"))
}

fn here(dir: &Path, id: &str, way: Way) -> Result<Vec<String>, String> {
    let shown = escape(dir.as_os_str().as_bytes());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {shown}: {error}")),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(|error| format!("cannot read {shown}: {error}"))?.file_name());
    }
    names.sort();
    let mut done = Vec::new();
    for name in names {
        let Some(new) = new_name(name.as_bytes(), id) else { continue };
        let (from, to) = (dir.join(&name), dir.join(OsStr::from_bytes(&new)));
        if to.symlink_metadata().is_ok() {
            let new = escape(&new);
            done.push(format!("{} stays: {new} is there already", escape(name.as_bytes())));
            continue;
        }
        if way == Way::Do {
            fs::rename(&from, &to).map_err(|e| {
                format!("cannot rename {}: {e}", escape(from.as_os_str().as_bytes()))
            })?;
        }
        done.push(format!("{} is {} now", escape(name.as_bytes()), escape(&new)));
    }
    Ok(done)
}

/// The name of today of a state file of this task; none if it is none or needs none.
fn new_name(name: &[u8], id: &str) -> Option<Vec<u8>> {
    let suffix = format!("-{id}");
    let (_, new, rest) = OLD_NAMES
        .iter()
        .find_map(|(old, new)| name.strip_prefix(old.as_bytes()).map(|rest| (old, new, rest)))?;
    rest.ends_with(suffix.as_bytes()).then(|| [new.as_bytes(), rest].concat())
}

/// The same on a remote replica: one small script over one ssh connection. Paths go to it
/// in octal, never as shell text.
fn there(
    config: &Config,
    dir: &Path,
    to: &SshLocation,
    way: Way,
    stop: &Stop,
) -> Result<Vec<String>, String> {
    let ssh = Ssh::new(&config.remote, to);
    ssh.check().map_err(|error| error.to_string())?;
    let octal =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("\\0{byte:03o}")).collect::<String>();
    let (dir, id) = (octal(dir.as_os_str().as_bytes()), octal(config.instance_id.as_bytes()));
    let way = if way == Way::Do { "rename" } else { "say" };
    let input = format!("set -- '{dir}' '{id}' {way}\n{}", include_str!("state_files.sh"));
    let command = ssh.command(Use::Control, &ssh.control_shell(None));
    let output = process::output(&command, Input::Bytes(input.as_bytes()), stop)
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.exit {
        Exit::Code(0) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let marked = text.lines().filter_map(|line| line.strip_prefix("osync: "));
            Ok(marked.map(str::to_owned).collect())
        }
        Exit::Stopped(_) => Err("interrupted; run it again".to_owned()),
        _ => Err(ssh::explain(&said, to, ssh.login())
            .unwrap_or(format!("cannot rename state files: {said}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_names_of_this_task_change() {
        for (name, expected) in [
            ("master-tree-after-id", Some("initiator-tree-after-id")),
            ("slave-deleted-list-id", Some("target-deleted-list-id")),
            ("slave-tree-after-other", None),
            ("initiator-tree-after-id", None),
            ("masterly-id", None),
            ("master-", None),
        ] {
            let new = new_name(name.as_bytes(), "id");
            assert_eq!(new.as_deref(), expected.map(str::as_bytes), "{name}");
        }
    }
}
