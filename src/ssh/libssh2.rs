//! `osync rsh`: a remote shell of our own for machines without an ssh client (spec 5,
//! "Second transport"). It stands where `ssh` stands: the control shell and rsync run it
//! as a child and talk to the other side through its standard input and output.
//!
//! It speaks like ssh, too: the remote command's exit status is its own, 255 means that
//! the connection failed, and the reason stands on standard error in ssh's words.

mod account;
mod connect;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod host_key;
mod known_hosts;
mod line;
mod login;
mod options;
mod private_key;
mod pump;

use account::Account;
use options::Options;
use std::ffi::OsString;
use std::io::Write;

/// What a failed connection exits with, as ssh does.
const FAILED: u8 = 255;

/// Why there is no connection, or none any more; the text may have several lines.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

/// Connects, runs the remote command and returns the exit status. `words` are what stands
/// behind `osync rsh`.
#[must_use]
pub fn main(words: &[OsString]) -> u8 {
    match run(words) {
        Ok(status) => status,
        Err(failure) => {
            // nobody may be left to hear it
            let _ = writeln!(std::io::stderr().lock(), "{failure}");
            FAILED
        }
    }
}

fn run(words: &[OsString]) -> Result<u8, Failure> {
    let options = Options::parse(words).map_err(|why| Failure(format!("osync rsh: {why}")))?;
    let account = Account::ours();
    let user = options.user.clone().or_else(|| account.name.clone()).ok_or_else(|| {
        Failure("osync rsh: this user has no name; write ssh://user@host/…".to_owned())
    })?;
    let line = connect::connect(&options)?;
    let trust = host_key::Trust::load(&options, &account);
    let session = connect::handshake(&options, &line, &trust)?;
    trust.verify(&session)?;
    login::login(&session, &user, &options, &account)?;
    let channel = connect::start(&session, &options)?;
    pump::Pump::new(session, channel, line, &options)?.run()
}

/// What keeps these settings from working over this transport; none: nothing. For whoever
/// wants to know before a connection is tried.
pub(super) fn objection(words: &[OsString]) -> Option<String> {
    let mut whole = words.to_vec();
    whole.extend(["host".into(), "command".into()]);
    match Options::parse(&whole) {
        Ok(options) if options.host == "host" && options.command == "command" => None,
        Ok(options) => Some(format!("SSH_OPTIONAL_ARGS: '{}' is no option", options.host)),
        Err(why) => Some(why),
    }
}
