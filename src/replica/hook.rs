//! Runs a user's command on this machine (spec 7, "Hooks").

use super::HookResult;
use crate::process::{Exit, HookShell, Stop};
use std::time::Duration;

/// Runs a command in a shell; the limit ends it and its children. A signal counts as the shell
/// counts it: 128 and its number.
///
/// # Errors
/// It cannot be started, or the run is stopped meanwhile.
pub(super) fn run(
    command: &str,
    env: &[(String, String)],
    limit: Option<Duration>,
    stop: &Stop,
) -> Result<HookResult, String> {
    let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let (exit, output) = HookShell::of_this_machine()
        .run(command, env, limit, stop)
        .map_err(|error| format!("cannot run a command: {error}"))?;
    let status = match exit {
        Exit::Code(code) => Some(code),
        Exit::Signal(number) => Some(128 + number),
        Exit::TimedOut => None,
        Exit::Stopped(_) => return Err("the run was stopped while a command ran".to_owned()),
    };
    Ok(HookResult { status, output })
}
