//! The integration tests: the real binary, rsync, ssh and file systems.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod batch;
mod checksum;
mod cli;
mod coarse;
mod command_line;
mod config;
mod disk_full;
mod faults;
mod fidelity;
mod fidelity_settings;
mod filter;
mod forced_command;
mod hard_links;
mod hooks;
mod install;
mod libssh2;
mod links;
mod local;
mod locks;
mod mail;
mod modes;
mod monitor;
mod moves;
mod output;
mod properties;
mod remote;
mod replica_suite;
mod restricted;
mod rsync;
mod scenario;
mod security;
mod settings;
mod settings_policy;
mod settings_remote;
mod signals;
mod state;
mod upgrade;
mod writers;
