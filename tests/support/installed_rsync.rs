//! What the installed rsync can and cannot, asked of itself. osync has to be right with all of
//! them, but what a run can achieve differs.
#![allow(dead_code)]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// Whether it can go on from a file in an absolute partial directory. Where it cannot, osync
/// has the file sent again, whole (docs/fidelity.md).
static GOES_ON: LazyLock<bool> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for name in ["from", "to", "partial"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::write(at("from/file"), &content).unwrap();
    std::fs::write(at("partial/file"), &content[..content.len() / 2]).unwrap();
    let mut option = std::ffi::OsString::from("--partial-dir=");
    option.push(at("partial"));
    let rsync = Command::new("rsync")
        .arg("--no-whole-file")
        .arg(option)
        .args([at("from/file"), at("to/")])
        .output()
        .unwrap();
    rsync.status.success() && std::fs::read(at("to/file")).unwrap() == content
});

/// Whether it goes through a link that stands where the receiver should have a directory, as
/// those before 3.5 do.
static FOLLOWS_LINKS: LazyLock<bool> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["from/dir", "to", "outside"] {
        std::fs::create_dir_all(at(name)).unwrap();
    }
    std::fs::write(at("from/dir/file"), "text").unwrap();
    std::fs::write(at("list"), "dir/file\n").unwrap();
    symlink(at("outside"), at("to/dir")).unwrap();
    let mut option = std::ffi::OsString::from("--files-from=");
    option.push(at("list"));
    let rsync = Command::new("rsync")
        .args(["-l", "--no-implied-dirs"])
        .arg(option)
        .args([at("from/"), at("to/")])
        .output()
        .unwrap();
    let went_through = at("outside/file").exists();
    assert_eq!(rsync.status.success(), went_through, "{rsync:?}");
    went_through
});

/// Whether it follows links that are put in the place of a receiver's directories. Then
/// contents outside are safe only if the kernel keeps it inside, and metadata are not.
pub fn follows_links() -> bool {
    *FOLLOWS_LINKS
}

/// Whether nothing keeps it from writing through such links (docs/security.md, "Names").
pub fn may_write_through_links() -> bool {
    follows_links() && !may_hold()
}

/// Whether the kernel has Landlock and lets this user hold what it starts without taking rights
/// from it: tried on a thread of its own, which stays held.
#[cfg(target_os = "linux")]
fn may_hold() -> bool {
    use landlock::{
        ABI, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    };
    let held = || {
        let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let rules = rules.handle_access(AccessFs::from_write(ABI::V2))?.create()?;
        rules.no_new_privs(false).restrict_self()
    };
    std::thread::spawn(move || held().is_ok()).join().unwrap()
}

#[cfg(not(target_os = "linux"))]
fn may_hold() -> bool {
    false
}

/// What came of going on with a partial file of `kept` bytes: rsync found `matched` bytes of
/// it useful, or, where it cannot, the whole file was sent again and the partial one went.
pub fn assert_went_on(said: &str, kept: u64, matched: u64, partial: &Path) {
    let was_sent_again = said.contains("it is sent again, whole");
    if *GOES_ON {
        assert!(matched > kept / 2, "{matched} of {kept} bytes need not go again: {said}");
        assert!(!was_sent_again, "{said}");
    } else {
        assert!(was_sent_again, "{said}");
    }
    assert!(!partial.exists(), "{}: {said}", partial.display());
}
