//! Where a task works, so that tasks beside each other do not meet. Pure.

use crate::config::Location;
use std::path::{Component, Path, PathBuf};

/// The places a task works in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footprint {
    /// None: nobody knows (its settings cannot be read), so it runs alone.
    places: Option<Places>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Places {
    instance_id: String,
    directories: Vec<(Machine, PathBuf)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Machine {
    Here,
    There(String),
}

impl Footprint {
    /// Of a task whose settings cannot be read.
    #[must_use]
    pub fn unknown() -> Self {
        Footprint::default()
    }

    /// From the places themselves.
    #[must_use]
    pub fn new(instance_id: &str, locations: impl IntoIterator<Item = Location>) -> Self {
        let directories = locations
            .into_iter()
            .map(|location| match location {
                Location::Local(path) => (Machine::Here, path),
                // The user and the port are left out: they may lead to the same directory.
                Location::Ssh(ssh) => (Machine::There(ssh.host.to_ascii_lowercase()), ssh.path),
            })
            .collect();
        let places = Places { instance_id: instance_id.to_owned(), directories };
        Footprint { places: Some(places) }
    }

    /// Whether two tasks could meet. In doubt they could.
    #[must_use]
    pub fn overlaps(&self, other: &Footprint) -> bool {
        let (Some(ours), Some(theirs)) = (&self.places, &other.places) else { return true };
        // State and log files carry the instance id.
        ours.instance_id == theirs.instance_id
            || ours.directories.iter().any(|(machine, path)| {
                theirs.directories.iter().any(|(other_machine, other_path)| {
                    may_be_the_same(machine, other_machine) && meet(path, other_path)
                })
            })
    }
}

/// Different names may be of one host, and of this one: but whoever writes two names for
/// one machine and nests directories over them is not served by `--parallel`.
fn may_be_the_same(one: &Machine, other: &Machine) -> bool {
    match (one, other) {
        (Machine::There(name), Machine::Here) | (Machine::Here, Machine::There(name)) => {
            matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1")
        }
        _ => one == other,
    }
}

/// Whether one lies in the other. An absolute and a relative path (in the login
/// directory) could.
fn meet(one: &Path, other: &Path) -> bool {
    let unclear = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    if one.is_absolute() != other.is_absolute() || unclear(one) || unclear(other) {
        return true;
    }
    let (one, other) = (in_home(one), in_home(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// `~/data` and `data` are one directory over ssh.
fn in_home(path: &Path) -> PathBuf {
    path.strip_prefix("~").unwrap_or(path).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, locations: &[&str]) -> Footprint {
        Footprint::new(id, locations.iter().map(|l| Location::parse(l.as_bytes()).unwrap()))
    }

    #[test]
    fn tasks_meet_where_they_share_a_directory_or_an_instance_id() {
        let cases: &[(&[&str], &[&str], bool)] = &[
            (&["/a", "/b"], &["/c", "/d"], false),
            (&["/a", "/b"], &["/b", "/c"], true),
            (&["/a", "/b"], &["/b/below", "/c"], true),
            (&["/a", "/b/below"], &["/c", "/b"], true),
            (&["/a", "/b"], &["/bb", "/c"], false),
            (&["/a/", "/b"], &["/a", "/c"], true),
            (&["/a", "/b"], &["/x/../a", "/c"], true),
            (&["/a", "ssh://h//x"], &["/b", "ssh://h//y"], false),
            (&["/a", "ssh://h//x"], &["/b", "ssh://u@H:22//x/y"], true),
            (&["/a", "ssh://h//x"], &["/b", "ssh://g//x"], false),
            (&["/a", "ssh://h//x"], &["/b", "ssh://h/x"], true),
            (&["/a", "ssh://h/x"], &["/b", "ssh://h/y"], false),
            (&["/a", "ssh://h/x"], &["/b", "ssh://h/~/x"], true),
            (&["/a", "ssh://h//a"], &["/b", "/c"], false),
            (&["/a", "ssh://localhost//b"], &["/b", "/c"], true),
        ];
        for (one, other, expected) in cases {
            let (one, other) = (task("one", one), task("other", other));
            assert_eq!(one.overlaps(&other), *expected, "{one:?} {other:?}");
            assert_eq!(other.overlaps(&one), *expected, "{other:?} {one:?}");
        }
        assert!(task("same", &["/a", "/b"]).overlaps(&task("same", &["/c", "/d"])));
        assert!(task("known", &["/a", "/b"]).overlaps(&Footprint::unknown()));
    }
}
