//! The items of each room that `tests/` and `benches/` use from outside, as
//! `osync::testing::ROOM::ITEM`. What is named here counts as used, so name no more than a
//! test needs.
#![allow(missing_docs)]

pub mod cli {
    pub use crate::cli::{Cli, with_command};
}

pub mod config {
    pub use crate::config::keys::KEYS;
    pub use crate::config::{
        Alerts, Location, Preserve, Remote, RemoteOsync, RuleText, Secret, SmtpEncryption,
        SshLocation, TransferSettings, Transport,
    };
}

pub mod filter {
    pub use crate::filter::listing::{self, VisibleSet};
    pub use crate::filter::{Filter, Inclusion, PathKind, Prune};
}

pub mod process {
    pub use crate::process::{Stop, StopReason};
}

pub mod replica {
    pub use crate::replica::peer::protocol;
    pub use crate::replica::{
        Access, Agent, AttributeChange, Cleaned, DigestKind, Keep, Keeping, LocalReplica,
        LockRequest, Locked, LookRules, Op, OpResult, PathError, Prepared, RemoteReplica, Replica,
        Retention, Scan, ScanRequest, ShellOptions, TakenLock, Trouble, Unread, Wanted,
    };
}

pub mod report {
    pub use crate::report::mail;
    pub use crate::report::{Event, Level, Reporter, Tally};
}

pub mod rsync {
    pub use crate::rsync::{
        CallContext, End, Finished, ListOutcome, OnProgress, Progress, Purpose, RemoteEnd,
        Transfer, UnknownOptions, fits, options, transfer, visible,
    };
}

pub mod state {
    pub use crate::state::{
        Ask, Baseline, Form, Header, Identity, Inflight, InflightNote, InflightPath, LastAction,
        Loaded, Origin, Part, Record, Recorded, RunLists, RunMark, Saved, StateDir, StateHealth,
        StateStore, command,
    };
}

pub mod tree {
    pub use crate::tree::{Entry, Extra, Inode, Kind, Pair, RelPath, Side, Stamp, Standing, Tree};
}
