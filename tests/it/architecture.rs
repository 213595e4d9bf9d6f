//! The house holds together: the direction of its dependencies, and what the pure rooms
//! must not use (docs/architecture.md, "Direction").

use std::fs;
use std::path::{Path, PathBuf};

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let start = src.join(below);
    let mut pending = vec![start.clone(), start.with_extension("rs")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") && path.exists() {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(&src).unwrap().to_owned(), code(&text)));
        }
    }
    assert!(!found.is_empty(), "there is no room {below}");
    found
}

/// The text without comments and without what stands in the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name.contains("test") || name == "table.rs" || name == "cases.rs"
    })
}

#[test]
fn pure_rooms_use_no_files_processes_environment_or_clocks() {
    let pure = ["tree", "filter", "reconcile", "ssh_filter/decide"];
    let impure = [
        "std::fs",
        "std::process",
        "std::env",
        "std::net",
        "SystemTime",
        "Instant::now",
        "rustix::",
        "chrono::",
    ];
    for room in pure {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
        if !src.exists() && !src.with_extension("rs").exists() {
            continue;
        }
        for (path, text) in sources(room).iter().filter(|(path, _)| !is_test_file(path)) {
            for word in impure {
                assert!(!text.contains(word), "{}: {word} in a pure room", path.display());
            }
        }
    }
}

#[test]
fn threads_uses_no_room() {
    for (path, text) in sources("threads") {
        assert!(!text.contains("crate::"), "{}", path.display());
    }
}

#[test]
fn no_arrow_runs_back_up() {
    // room → what it may not use
    let above: &[(&str, &[&str])] = &[
        (
            "tree",
            &[
                "config",
                "filter",
                "state",
                "reconcile",
                "replica",
                "rsync",
                "ssh",
                "report",
                "process",
                "task",
                "cli",
                "monitor",
                "batch",
                "ssh_filter",
            ],
        ),
        (
            "process",
            &[
                "filter",
                "state",
                "reconcile",
                "replica",
                "rsync",
                "ssh",
                "report",
                "task",
                "cli",
                "monitor",
                "batch",
                "ssh_filter",
            ],
        ),
        (
            "config",
            &[
                "state",
                "reconcile",
                "replica",
                "rsync",
                "report",
                "task",
                "cli",
                "monitor",
                "batch",
                "ssh_filter",
            ],
        ),
        (
            "filter",
            &[
                "state",
                "reconcile",
                "replica",
                "rsync",
                "report",
                "task",
                "cli",
                "monitor",
                "batch",
            ],
        ),
        (
            "state",
            &["reconcile", "replica", "rsync", "task", "cli", "monitor", "batch", "ssh_filter"],
        ),
        (
            "reconcile",
            &["rsync", "ssh", "process", "task", "cli", "monitor", "batch", "ssh_filter"],
        ),
        (
            "rsync",
            &["state", "reconcile", "replica", "task", "cli", "monitor", "batch", "ssh_filter"],
        ),
        ("replica", &["reconcile", "task", "cli", "monitor", "batch", "ssh_filter"]),
        ("report", &["rsync", "task", "cli", "monitor", "batch", "ssh_filter"]),
        ("task", &["cli", "monitor", "batch", "ssh_filter"]),
        ("monitor", &["cli", "batch", "ssh_filter"]),
        ("batch", &["cli", "monitor", "ssh_filter"]),
        ("ssh_filter", &["cli", "monitor", "batch", "task"]),
    ];
    for (room, forbidden) in above {
        for (path, text) in sources(room).iter().filter(|(path, _)| !is_test_file(path)) {
            for other in *forbidden {
                let uses = text.contains(&format!("crate::{other}::"))
                    || text.contains(&format!("crate::{other};"))
                    || text.contains(&format!("crate::{other},"));
                assert!(!uses, "{}: {room} uses {other}", path.display());
            }
        }
    }
}
