//! Who may read and write a configuration file, and what follows from that (spec 2).

use super::conf_file::Parsed;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Everybody knows this one: it is in the sample files.
const SAMPLE_TOKEN: &[u8] = b"SomeAlphaNumericToken9";

/// Who may do what with a file, as its user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    us: u32,
    owner: u32,
    group: u32,
    mode: u32,
}

impl Access {
    /// Of a file, for the user that this process acts as.
    pub(super) fn of(file: &Metadata) -> Access {
        let us = rustix::process::geteuid().as_raw();
        Access { us, owner: file.uid(), group: file.gid(), mode: file.mode() }
    }

    /// Somebody else than root, its user and, if that is one of these, its owner may write it.
    fn foreign_writers(self) -> Option<String> {
        if self.owner != 0 && self.owner != self.us {
            return Some(format!("it belongs to another user (uid {})", self.owner));
        }
        self.others(0o2).map(|who| format!("{who} may write to it"))
    }

    /// Others than root and its owner that have one of these rights. A group with the number
    /// of the owner is the owner's own, as most systems make one.
    fn others(self, rights: u32) -> Option<String> {
        let is_own_group = self.group == 0 || self.group == self.owner;
        if self.mode & rights != 0 {
            Some("everyone".to_owned())
        } else if self.mode & (rights << 3) != 0 && !is_own_group {
            Some(format!("its group ({})", self.group))
        } else {
            None
        }
    }

    /// Why root must not run the commands in the file.
    pub(super) fn no_commands(self) -> Option<String> {
        let why = self.foreign_writers().filter(|_| self.us == 0)?;
        Some(format!(
            "root does not run the commands of this file, because {why}; let it belong to root \
             alone ('chown root:root' and 'chmod go-w'), or write the value itself"
        ))
    }

    /// What deserves a warning.
    pub(super) fn warnings(self, parsed: &Parsed) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = self.foreign_writers() {
            let whose = if self.us == 0 { "root" } else { "this user" };
            warnings.push(format!(
                "{why}, and {whose} runs what this configuration file says; 'chown' it, or \
                 'chmod go-w' it"
            ));
        }
        if let (Some(who), Some(key)) = (self.others(0o4), secret(parsed)) {
            warnings.push(format!(
                "{who} may read this configuration file, and {key} is secret; 'chmod 600' it"
            ));
        }
        warnings
    }
}

/// A secret that the file holds and the task needs. (A token is of no use without a remote
/// side; samples come with one.)
fn secret(parsed: &Parsed) -> Option<&'static str> {
    let value = |key: &str| {
        let of_key = |a: &&super::conf_file::Assignment| a.key.eq_ignore_ascii_case(key);
        parsed.assignments.iter().rev().find(of_key).map_or(&b""[..], |a| a.value.as_slice())
    };
    let is_remote = ["INITIATOR_SYNC_DIR", "TARGET_SYNC_DIR"]
        .iter()
        .any(|key| value(key).starts_with(b"ssh://"));
    let token = value("_REMOTE_TOKEN");
    if !value("SMTP_PASSWORD").is_empty() {
        Some("SMTP_PASSWORD")
    } else if is_remote && !token.is_empty() && token != SAMPLE_TOKEN {
        Some("_REMOTE_TOKEN")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::conf_file::Assignment;

    fn access(us: u32, owner: u32, group: u32, mode: u32) -> Access {
        Access { us, owner, group, mode: 0o100_000 | mode }
    }

    #[test]
    fn root_runs_commands_only_of_files_that_root_alone_may_write() {
        for (access, refused) in [
            (access(0, 0, 0, 0o644), None),
            (access(0, 0, 0, 0o664), None),
            (access(0, 1000, 1000, 0o600), Some("another user (uid 1000)")),
            (access(0, 0, 100, 0o664), Some("its group (100) may write")),
            (access(0, 0, 0, 0o666), Some("everyone may write")),
            // nobody's rights grow when the file is not root's to run
            (access(1000, 1001, 1001, 0o644), None),
        ] {
            let told = access.no_commands();
            assert_eq!(told.is_some(), refused.is_some(), "{access:?}: {told:?}");
            assert!(told.unwrap_or_default().contains(refused.unwrap_or_default()), "{access:?}");
        }
    }

    #[test]
    fn foreign_files_and_readable_secrets_are_warned_of() {
        let parsed = |settings: &[(&str, &str)]| Parsed {
            assignments: settings
                .iter()
                .map(|(key, value)| Assignment {
                    key: (*key).to_owned(),
                    value: value.as_bytes().to_vec(),
                    line: 1,
                })
                .collect(),
            ..Parsed::default()
        };
        let plain = [("INSTANCE_ID", "x")];
        let password = [("SMTP_PASSWORD", "pw")];
        let remote = [("TARGET_SYNC_DIR", "ssh://h//x"), ("_REMOTE_TOKEN", "abc")];
        let local = [("TARGET_SYNC_DIR", "/x"), ("_REMOTE_TOKEN", "abc")];
        let sample =
            [("TARGET_SYNC_DIR", "ssh://h//x"), ("_REMOTE_TOKEN", "SomeAlphaNumericToken9")];
        let unset = [("SMTP_PASSWORD", "pw"), ("SMTP_PASSWORD", "")];
        for (access, settings, expected) in [
            (access(1000, 1000, 1000, 0o664), &plain[..], &[][..]),
            (access(1000, 1000, 1000, 0o660), &password, &[]),
            (access(1000, 1000, 1000, 0o644), &password, &["everyone may read"]),
            (access(1000, 1000, 100, 0o640), &password, &["its group (100) may read"]),
            (access(1000, 1000, 1000, 0o600), &password, &[]),
            (access(0, 0, 0, 0o640), &remote, &[]),
            (access(0, 0, 0, 0o644), &remote, &["_REMOTE_TOKEN is secret"]),
            (access(0, 0, 0, 0o644), &local, &[]),
            (access(0, 0, 0, 0o644), &sample, &[]),
            (access(0, 0, 0, 0o644), &unset, &[]),
            (access(1000, 0, 0, 0o644), &plain, &[]),
            (access(1000, 1001, 1001, 0o644), &plain, &["another user (uid 1001)"]),
            (access(0, 1001, 1001, 0o644), &plain, &["and root runs what"]),
            (access(0, 0, 0, 0o666), &password, &["everyone may write", "everyone may read"]),
        ] {
            let told = access.warnings(&parsed(settings));
            assert_eq!(told.len(), expected.len(), "{access:?} {settings:?}: {told:?}");
            for (told, part) in told.iter().zip(expected) {
                assert!(told.contains(part), "{access:?} {settings:?}: {told}");
            }
        }
    }
}
