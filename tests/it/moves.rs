//! Moves: what one side renamed is renamed on the other, here and over ssh, both ways
//! (spec 4, "Moves").

use crate::support::sandbox::Replica;
use crate::support::ways;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The inode of everything that a replica holds, by path.
fn inodes(replica: &Replica) -> BTreeMap<Vec<u8>, u64> {
    replica.tree().into_iter().map(|(path, node)| (path, node.ino)).collect()
}

fn inode(replica: &Replica, path: &str) -> u64 {
    fs::metadata(replica.at(path)).unwrap().ino()
}

#[test]
fn directories_are_renamed_with_all_that_is_in_them() {
    ways::each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("d photos\nd photos/2024\nf photos/2024/a 1\nf photos/2024/b 2\nf photos/c 3");
        way.fine();
        let before = inodes(there);
        fs::create_dir(here.at("archive")).unwrap();
        here.rename("photos", "archive/pictures");
        here.rename("archive/pictures/c", "archive/pictures/d");
        here.write("archive/pictures/2024/b", "edited", 1_600_000_000);
        way.fine();
        let name = way.name;
        assert_eq!(
            inode(there, "archive/pictures/2024/a"),
            before[&b"photos/2024/a"[..]],
            "{name}"
        );
        assert_eq!(inode(there, "archive/pictures/d"), before[&b"photos/c"[..]], "{name}");
        assert_eq!(there.deleted(), "", "{name}");
        way.in_step();
    });
}

/// Directories that went into each other, whichever name comes first, inside out, and one
/// out of what another took along: each time everything is renamed there and nothing else.
#[test]
fn directories_that_moved_into_directories_that_moved_are_followed() {
    ways::each("", |way| {
        let (here, there) = (way.here(), way.there());
        let name = way.name;
        here.make(
            "f keep 1\nf a/of-a 1\nf m/of-m 2\nf m/in/of-in 3\nf m/in/deep/of-deep 4\nf x/y/of-y 5",
        );
        way.fine();
        let follow = |renames: &[(&str, &str)]| {
            let before = inodes(there);
            for (from, to) in renames {
                here.rename(from, to);
            }
            way.fine();
            let now = inodes(there);
            let is_new = |inode: &u64| !before.values().any(|old| old == inode);
            assert!(!now.values().any(is_new), "{name}: {renames:?}: {before:?} {now:?}");
            let gone = there.deleted() + &there.backup();
            assert!(gone.is_empty(), "{name}: {renames:?}: {gone}");
            way.in_step();
        };
        follow(&[("m", "z"), ("a", "z/new")]);
        follow(&[("z/new", "z/in/new"), ("z", "b")]);
        follow(&[("b/in", "top"), ("b", "top/b")]);
        follow(&[("top/deep", "d"), ("top", "d/t"), ("d/t/b", "x/y/b"), ("x", "d/t/x")]);
        assert_eq!(
            there.contents(),
            "d d\nf d/of-deep 4\nd d/t\nd d/t/new\nf d/t/new/of-a 1\nf d/t/of-in 3\nd d/t/x\n\
             d d/t/x/y\nd d/t/x/y/b\nf d/t/x/y/b/of-m 2\nf d/t/x/y/of-y 5\nf keep 1\n",
            "{name}"
        );
    });
}

/// The first of a chain of renames is refused: what depends on it is not done either, both
/// say so, and when the cause is gone the next run follows.
#[test]
fn a_chain_of_moves_heals_when_its_first_was_refused() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no fault points");
        return;
    }
    ways::each("", |way| {
        let (here, there) = (way.here(), way.there());
        let name = way.name;
        here.make("f keep 1\nf a/of-a 1\nf m/of-m 2");
        way.fine();
        let before = inodes(there);
        here.rename("m", "z");
        here.rename("a", "z/a");
        // where the directory is to go, something of the same name came meanwhile
        let meanwhile = format!("planned:1:echo mine > '{}'", there.at("z").display());
        let run = way.prepare(&[]).env("OSYNC_FAULT", meanwhile).run();
        assert_eq!(run.status, Some(1), "{name}: {run}");
        for words in ["z: cannot follow", "z/a: cannot follow"] {
            assert!(run.stderr.contains(words), "{name}: {run}");
        }
        assert_eq!(there.read("z").unwrap(), b"mine\n", "{name}");
        assert_eq!(there.read("a/of-a").unwrap(), b"1", "{name}");
        there.remove("z");
        way.fine();
        assert_eq!(inode(there, "z/a/of-a"), before[&b"a/of-a"[..]], "{name}");
        assert_eq!(inode(there, "z/of-m"), before[&b"m/of-m"[..]], "{name}");
        way.in_step();
    });
}

#[test]
fn a_kind_changes_below_a_directory_that_moved() {
    ways::each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("d docs\nf docs/b 1\nf docs/c 2\nd docs/d\nf docs/d/in 3");
        way.fine();
        fs::create_dir(here.at("m")).unwrap();
        here.rename("docs", "m/docs");
        here.remove("m/docs/b");
        here.make("d m/docs/b\nf m/docs/b/new 4");
        here.remove("m/docs/d");
        here.make("f m/docs/d 5");
        way.fine();
        way.in_step();
        let (deleted, backup) = (there.deleted(), there.backup());
        assert!(deleted.contains("in 3") && backup.contains("b 1"), "{}: {backup}", way.name);
    });
}

#[test]
fn a_file_moves_into_a_directory_that_replaced_a_file() {
    ways::each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f path_id x\nf moved 12345\nf anchor 1");
        way.fine();
        here.remove("path_id");
        fs::create_dir_all(here.at("path_id/deep")).unwrap();
        here.rename("moved", "path_id/deep/moved");
        way.fine();
        way.in_step();
        assert_eq!(there.read("path_id/deep/moved").unwrap(), b"12345", "{}", way.name);
    });
}
