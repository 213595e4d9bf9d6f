//! Runs a user's command on this machine (spec 7, "Hooks").

use super::HookResult;
use crate::process::{self, Excerpt, Exit, HookShell, Input, Stop};
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
    let mut shell = HookShell::of_this_machine().command(command);
    shell.env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    shell.time_limit = limit;
    let mut said = Excerpt::default();
    let exit = process::run(&shell, Input::Nothing, stop, &mut |_, line| {
        said.push(line);
        said.push(b"\n");
    });
    let status = match exit.map_err(|error| format!("cannot run a command: {error}"))? {
        Exit::Code(code) => Some(code),
        Exit::Signal(number) => Some(128 + number),
        Exit::TimedOut => None,
        Exit::Stopped(_) => return Err("the run was stopped while a command ran".to_owned()),
    };
    Ok(HookResult { status, output: said.bytes() })
}
