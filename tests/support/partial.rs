//! What the installed rsync makes of partial files.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// Whether the installed rsync can go on from a file in an absolute partial directory.
/// Some cannot (docs/fidelity.md): osync then has the file sent again, whole.
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
