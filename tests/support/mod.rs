//! What the integration tests share: sandboxes, trees, servers.

pub mod bad_day;
pub mod couple;
pub mod ear;
pub mod fake_ssh;
pub mod history;
pub mod https;
pub mod images;
pub mod installed_rsync;
pub mod kept;
pub mod model;
pub mod mounts;
pub mod no_landlock;
pub mod over_ssh;
pub mod pages;
pub mod power;
pub mod replicas;
pub mod running;
pub mod sandbox;
pub mod schema;
pub mod smtp;
pub mod ssh_agent;
pub mod sshd;
pub mod terminal;
pub mod tls;
pub mod trees;
pub mod ways;

use std::sync::LazyLock;

/// The program under test: the one that cargo has built with the tests, or the one that
/// OSYNC_UNDER_TEST names (`tests/run.sh`: built as for another Unix).
pub fn osync() -> &'static str {
    static OTHER: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("OSYNC_UNDER_TEST").ok());
    OTHER.as_deref().unwrap_or(env!("CARGO_BIN_EXE_osync"))
}
