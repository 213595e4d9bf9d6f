//! The house holds together (docs/architecture.md, "Direction"): no arrow between rooms runs
//! back up, no circle goes round inside a room, and the pure rooms ask nobody for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the top down. A room uses rooms of later lines, and within a line only what
/// `BESIDE` allows.
const FLOORS: &[&[&str]] = &[
    &["cli"],
    &["monitor", "batch", "ssh_filter"],
    &["task"],
    &["report", "reconcile", "replica", "rsync"],
    &["state", "ssh", "filter"],
    &["tree", "config", "process"],
    &["threads", "system"],
];

/// Arrows within one floor.
const BESIDE: &[(&str, &str)] = &[
    ("replica", "report"),
    ("replica", "rsync"),
    ("rsync", "report"),
    ("reconcile", "report"),
    ("reconcile", "replica"),
    ("config", "process"),
    ("config", "tree"),
    ("process", "tree"),
];

/// Arrows that run up, each to a file that uses no room itself.
const LEAVES: &[&str] = &["rsync::options"];

/// Uses no files, processes, environment or clock.
const PURE: &[&str] = &["tree", "filter", "reconcile", "rsync/options", "ssh_filter/decision"];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The sources of a room or of one file, by their paths below `src`, without tests.
fn sources(of: &str) -> BTreeMap<PathBuf, String> {
    let (dir, file) = (src().join(of), src().join(of).with_extension("rs"));
    assert!(dir.exists() || file.exists(), "there is no {of} in src");
    let mut found = BTreeMap::new();
    let mut pending = vec![dir, file];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") && path.exists() {
            let name = path.strip_prefix(src()).unwrap().to_owned();
            if !is_for_tests(&name) {
                found.insert(name, code(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

fn is_for_tests(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        let name = name.trim_end_matches(".rs");
        ["tests", "testing", "fuzzing", "table", "cases", "edges"].contains(&name)
            || name.ends_with("_tests")
    })
}

/// The text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let text = text.split("#[cfg(test)]\npub(crate) mod tests {").next().unwrap_or_default();
    let text = text.split("#[cfg(test)]\npub(super) mod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What a file names with `crate::` or `super::`, as paths from the crate's root. Grouped
/// imports are taken apart.
fn uses(module: &[String], text: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (keyword, base) in [("crate::", &[][..]), ("super::", parent(module)), ("self::", module)] {
        for (at, _) in text.match_indices(keyword) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            names(base, &text[at + keyword.len()..], &mut found);
        }
    }
    found
}

fn parent(module: &[String]) -> &[String] {
    &module[..module.len().saturating_sub(1)]
}

/// Adds the paths that the text begins with; returns what follows them.
fn names<'t>(base: &[String], text: &'t str, found: &mut BTreeSet<Vec<String>>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = names(base, rest, found).trim_start();
            match rest.strip_prefix(',') {
                Some(more) if more.trim_start().starts_with('}') => rest = more.trim_start(),
                Some(more) => {
                    rest = more;
                    continue;
                }
                None => {}
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut path = base.to_vec();
    if word == "super" {
        path.pop();
    } else if word != "self" {
        path.push(word.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(rest) => names(&path, rest, found),
        None => {
            found.insert(path);
            // `name as other`
            let rest = rest.trim_start();
            let renamed = rest.strip_prefix("as ").map(str::trim_start);
            renamed.map_or(rest, |rest| {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
                &rest[end.unwrap_or(rest.len())..]
            })
        }
    }
}

/// The module that a file is: `ssh/libssh2/mod.rs` is `ssh::libssh2`.
fn module(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let mut parts: Vec<String> =
        path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn every_room_has_its_floor() {
    let apart = ["main", "lib", "testing", "fuzzing"];
    for entry in fs::read_dir(src()).unwrap() {
        let room = entry.unwrap().path();
        let room = room.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(apart.contains(&&*room) || floor(&room).is_some(), "{room} has no floor");
    }
    for room in FLOORS.concat() {
        sources(room);
    }
}

#[test]
fn no_arrow_runs_back_up() {
    let (mut wrong, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for room in FLOORS.concat() {
        for (path, text) in sources(room) {
            for used in uses(&module(&path), &text) {
                let Some(other) = used.first().filter(|other| *other != room) else { continue };
                let Some(below) = floor(other) else { continue };
                let is_leaf = LEAVES.iter().any(|leaf| used.join("::").starts_with(leaf));
                let beside = BESIDE.iter().find(|arrow| **arrow == (room, other.as_str()));
                seen.extend(beside.copied());
                let is_fine = floor(room).unwrap() < below || beside.is_some() || is_leaf;
                if !is_fine {
                    wrong.insert(format!("{}: {room} uses {}", path.display(), used.join("::")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(seen, BESIDE.iter().copied().collect(), "arrows on one floor");
    for leaf in LEAVES {
        for (path, text) in sources(&leaf.replace("::", "/")) {
            assert!(!text.contains("crate::"), "{} uses a room", path.display());
        }
    }
}

#[test]
fn pure_rooms_use_no_files_processes_environment_or_clocks() {
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
    for room in PURE {
        for (path, text) in sources(room) {
            for word in impure {
                assert!(!text.contains(word), "{}: {word} in a pure room", path.display());
            }
        }
    }
}

#[test]
fn one_room_alone_asks_which_system_this_is() {
    for room in FLOORS.concat().into_iter().filter(|room| *room != "system") {
        for (path, text) in sources(room) {
            for word in ["target_os", "target_vendor", "target_family"] {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
}

/// Rooms in which files still use each other in circles; each goes when its room is rebuilt.
const CIRCULAR: &[&str] = &["replica", "task"];

#[test]
fn no_circle_goes_round_inside_a_room() {
    let mut wrong = Vec::new();
    for room in FLOORS.concat() {
        let files = sources(room);
        let modules: BTreeSet<Vec<String>> = files.keys().map(|path| module(path)).collect();
        // The file at the top of a module only gathers what is below it, and what is below may
        // name what stands there: circles are looked for between the files beside each other.
        let mut arrows: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
        for (path, text) in &files {
            let from = module(path);
            let is_top = modules.iter().any(|m| m.len() > from.len() && m.starts_with(&from));
            if is_top {
                continue;
            }
            for used in uses(&from, text) {
                let file = (1..=used.len())
                    .rev()
                    .map(|n| used[..n].to_vec())
                    .find(|m| modules.contains(m));
                let Some(to) = file.filter(|to| *to != from && !from.starts_with(to)) else {
                    continue;
                };
                arrows.entry(from.clone()).or_default().insert(to);
            }
        }
        if let Some(circle) = circle(&arrows)
            && !CIRCULAR.contains(&room)
        {
            wrong.push(format!("{room}: {circle}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Some circle, shown; none if there is none.
fn circle(arrows: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Option<String> {
    let mut left = arrows.clone();
    // what uses nothing that is left is in no circle
    loop {
        let before = left.len();
        let keys: BTreeSet<Vec<String>> = left.keys().cloned().collect();
        left.retain(|_, to| to.iter().any(|to| keys.contains(to)));
        if left.len() == before {
            break;
        }
    }
    let (mut at, mut way) = (left.keys().next()?.clone(), Vec::new());
    while !way.contains(&at) {
        let next = left[&at].iter().find(|to| left.contains_key(*to))?.clone();
        way.push(std::mem::replace(&mut at, next));
    }
    way.push(at);
    Some(way.iter().map(|m| m.join("::")).collect::<Vec<_>>().join(" → "))
}
