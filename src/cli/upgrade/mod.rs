//! `osync upgrade`: reads and writes what `config::upgrade` decides, and renames state
//! files (spec 7, "Upgrade").

mod rewrite;
mod state_files;

use super::args::UpgradeArgs;
use super::run_flags::RunFlags;
use super::{complain, print, settings};
use crate::config::{Config, Environment, Problem};
use std::path::Path;

/// What is to happen to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// What is decided is done.
    Do,
    /// It is only said (`--dry`).
    Say,
}

/// Upgrades a task.
///
/// # Errors
/// What could not be done, each in a line. All else has been done.
pub fn run(args: &UpgradeArgs, environment: &Environment) -> Result<(), Vec<String>> {
    let way = if args.dry { Way::Say } else { Way::Do };
    let Some(file) = &args.config_file else {
        return state_files::rename(&quicksync(args, environment)?, way);
    };
    let file = Path::new(file);
    if args.to_toml {
        return rewrite::to_toml(file, environment, way);
    }
    let text = rewrite::file(file, environment, way)?;
    state_files::rename(&settings_of(file, &text, args, environment)?, way)
}

/// The task that the flags describe.
fn quicksync(args: &UpgradeArgs, environment: &Environment) -> Result<Config, Vec<String>> {
    resolved(settings::gather(None, &flags(args).to_flags(), environment))
}

/// The task of a file with its new text, which a dry run has not written.
fn settings_of(
    file: &Path,
    text: &[u8],
    args: &UpgradeArgs,
    environment: &Environment,
) -> Result<Config, Vec<String>> {
    let flags = flags(args).to_flags();
    resolved(settings::gather_text(file, text, &flags, environment))
}

fn flags(args: &UpgradeArgs) -> RunFlags {
    RunFlags {
        initiator: args.initiator.clone(),
        target: args.target.clone(),
        instance_id: args.instance_id.clone(),
        rsakey: args.rsakey.clone(),
        ..RunFlags::default()
    }
}

fn resolved(resolution: crate::config::Resolution) -> Result<Config, Vec<String>> {
    for warning in &resolution.warnings {
        complain(&warning.to_string());
    }
    for placeholder in resolution.config.iter().flat_map(|config| &config.alerts.placeholders) {
        complain(&placeholder.to_string());
    }
    let errors = resolution.errors;
    resolution.config.ok_or_else(|| errors.iter().map(Problem::to_string).collect())
}

fn say(text: &str) {
    print(&format!("{text}\n"));
}
