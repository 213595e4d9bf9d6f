//! Whole runs with a target behind a real sshd (spec 5).

mod awkward;
mod failures;
mod hostile;
mod limits;
mod login;
mod lost_line;
mod settings;
mod thin_line;
mod tools_there;
