//! Landlock (Linux 5.19 and later): directories that a process is kept in by the kernel.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use std::io;
use std::path::{Path, PathBuf};

/// Lets a process write inside one directory only. It may read everything.
#[derive(Debug)]
pub struct Fence(RulesetCreated);

impl Fence {
    /// One that leaves a directory open; `None` if there is no Landlock (or no directory).
    #[must_use]
    pub fn around(dir: &Path) -> Option<Self> {
        let write = AccessFs::from_write(ABI::V3);
        let dir = PathFd::new(dir).ok()?;
        let null = PathFd::new("/dev/null").ok()?;
        let build = || -> Result<_, RulesetError> {
            Ruleset::default()
                // renames from one directory to another are denied before ABI 2
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(AccessFs::from_write(ABI::V2))?
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(write)?
                .create()?
                .add_rule(PathBeneath::new(dir, write))?
                .add_rule(PathBeneath::new(null, AccessFs::WriteFile))
        };
        build().ok().map(|rules| Fence(rules.no_new_privs(false)))
    }

    /// Shuts it behind this thread and all that it starts, if this user may.
    pub fn shut(self) {
        let _ = self.0.restrict_self();
    }
}

/// What rsync needs to read beside its directory: libraries, time zones, and the names
/// of users and groups.
const READABLE: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
    "/etc/crypto-policies",
    "/usr/share/zoneinfo",
    "/usr/share/locale",
    "/var/lib/sss",
    "/run/nscd",
    "/dev/urandom",
];

/// Where libraries and the dynamic loader are; the loader has to be executable.
const LIBRARIES: &[&str] =
    &["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib"];

/// Keeps a process inside one directory: what is in it can be read and written, but not started.
#[derive(Debug)]
pub struct Cage(RulesetCreated);

impl Cage {
    /// One that leaves a directory open, programs that may be started (files, or directories
    /// that hold them) and files that may be read. What does not exist of these is passed over.
    /// `None` if there is no Landlock.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn around(
        root: &Path,
        programs: &[PathBuf],
        readable: &[PathBuf],
    ) -> io::Result<Option<Self>> {
        // No programs are started from the directory, and no devices made in it: through
        // a device, root would reach everything.
        let inside = AccessFs::from_all(ABI::V5)
            & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev);
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let base = Ruleset::default()
            // Renames from one directory to another are denied before ABI 2.
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V2))
            .map(|rules| rules.set_compatibility(CompatLevel::BestEffort));
        let Ok(base) = base else { return Ok(None) };
        let directory = PathFd::new(root).map_err(io::Error::other)?;
        let build = || -> Result<_, RulesetError> {
            base.handle_access(AccessFs::from_all(ABI::V5))?
                .handle_access(AccessNet::from_all(ABI::V4))?
                .scope(Scope::from_all(ABI::V6))?
                .create()?
                .add_rule(PathBeneath::new(directory, inside))?
                .add_rules(path_beneath_rules(readable, read))?
                .add_rules(path_beneath_rules(programs, read | AccessFs::Execute))?
                .add_rules(path_beneath_rules(LIBRARIES, read | AccessFs::Execute))?
                .add_rules(path_beneath_rules(READABLE, read))?
                .add_rules(path_beneath_rules(["/dev/null"], read | AccessFs::WriteFile))
        };
        Ok(build().ok().map(Cage))
    }

    /// Shuts it behind this thread and all that it starts, for good.
    ///
    /// # Errors
    /// The kernel promised it and does not keep it.
    pub fn enter(self) -> Result<(), String> {
        match self.0.restrict_self() {
            Ok(status) if status.ruleset != RulesetStatus::NotEnforced => Ok(()),
            Ok(_) => Err("the kernel does not enforce the directory".to_owned()),
            Err(cause) => Err(format!("the kernel does not enforce the directory: {cause}")),
        }
    }
}
