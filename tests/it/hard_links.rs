//! Hard links (PRESERVE_HARDLINKS; spec 4, "Hard links"): groups that are made, split and
//! joined on either side, here and over ssh.

use crate::support::sandbox::Replica;
use crate::support::trees::{Mtime, What, set_mtime};
use crate::support::ways::{Way, each, each_with_ordinary_user};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

const ON: &str = "PRESERVE_HARDLINKS=yes";

/// The names of each file, as text: `a=b c`.
fn links(replica: &Replica) -> String {
    let mut groups: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (path, node) in replica.tree() {
        if matches!(node.what, What::File(_)) {
            groups.entry(node.ino).or_default().push(String::from_utf8_lossy(&path).into_owned());
        }
    }
    let mut lines: Vec<String> = groups.into_values().map(|names| names.join("=")).collect();
    lines.sort();
    lines.join(" ")
}

fn link(replica: &Replica, from: &str, to: &str) {
    fs::hard_link(replica.at(from), replica.at(to)).unwrap();
}

/// New content in the very inode.
fn edit(replica: &Replica, path: &str, content: &str, mtime: i64) {
    let mut file =
        fs::OpenOptions::new().write(true).truncate(true).open(replica.at(path)).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    drop(file);
    set_mtime(&replica.at(path), Mtime::secs(mtime));
}

/// A new inode of this content under an old name, as editors save.
fn save(replica: &Replica, path: &str, content: &str, mtime: i64) {
    replica.write("saved", content, mtime);
    replica.rename("saved", path);
}

fn in_step(way: &Way, expected: &str) {
    assert_eq!(links(way.here()), expected, "{}: here", way.name);
    assert_eq!(links(way.there()), expected, "{}: there", way.name);
    way.in_step();
}

#[test]
fn groups_are_made_joined_split_and_renamed() {
    let play = |way: &Way| {
        let here = way.here();
        here.make("f a one\nd d\nf d/alone x\nf new\\nline 1 1400000000 600");
        link(here, "a", "d/b");
        link(here, "new\nline", "-rf *");
        way.fine();
        in_step(way, "-rf *=new\nline a=d/b d/alone");
        // a new name, in a new directory
        here.make("d e");
        link(here, "a", "e/c");
        way.fine();
        in_step(way, "-rf *=new\nline a=d/b=e/c d/alone");
        let kept = way.there().backup();
        assert!(!kept.contains("f "), "{}: nothing was replaced: {kept}", way.name);
        // new content under all names, on the other side
        edit(way.there(), "e/c", "two", 1_600_000_000);
        way.fine();
        in_step(way, "-rf *=new\nline a=d/b=e/c d/alone");
        assert_eq!(here.read("a").unwrap(), b"two");
        // one name leaves with new content, another with the same content
        save(here, "d/b", "three", 1_600_000_009);
        save(way.there(), "-rf *", "1", 1_400_000_000);
        set_mode(way.there(), "-rf *");
        way.fine();
        in_step(way, "-rf * a=e/c d/alone d/b new\nline");
        // a name is renamed, another one deleted
        here.rename("e/c", "moved");
        way.fine();
        in_step(way, "-rf * a=moved d/alone d/b new\nline");
        way.there().remove("a");
        way.fine();
        in_step(way, "-rf * d/alone d/b moved new\nline");
        // files in step are joined
        fs::remove_file(here.at("-rf *")).unwrap();
        link(here, "new\nline", "-rf *");
        way.fine();
        in_step(way, "-rf *=new\nline d/alone d/b moved");
    };
    each(ON, play);
    each_with_ordinary_user(ON, play);
}

fn set_mode(replica: &Replica, path: &str) {
    crate::support::trees::set_mode(&replica.at(path), 0o600);
}

#[test]
fn new_names_of_an_unchanged_file_cost_no_transfer() {
    each(ON, |way| {
        let here = way.here();
        here.write("z", vec![b'x'; 300_000], 1_500_000_000);
        way.fine();
        let inode = way.there().tree()[&b"z"[..]].ino;
        link(here, "z", "a");
        let run = way.run_with(&["--stats"]);
        assert_eq!(run.status, Some(0), "{run}");
        assert!(run.stdout.contains("Literal data: 0 bytes"), "{run}");
        in_step(way, "a=z");
        assert_eq!(way.there().tree()[&b"a"[..]].ino, inode, "{}", way.name);
    });
}

#[test]
fn both_sides_give_a_file_new_names() {
    each(ON, |way| {
        way.here().make("f a one\nf b two");
        way.fine();
        link(way.here(), "a", "c");
        link(way.there(), "a", "d");
        link(way.there(), "b", "e");
        way.fine();
        in_step(way, "a=c=d b=e");
    });
}

#[test]
fn a_group_with_one_name_changed_on_each_side_falls_apart_and_loses_nothing() {
    each(ON, |way| {
        way.here().make("f a one");
        link(way.here(), "a", "b");
        way.fine();
        save(way.here(), "a", "here", 1_600_000_000);
        save(way.there(), "b", "there", 1_600_000_001);
        way.fine();
        in_step(way, "a b");
        for side in [way.here(), way.there()] {
            assert_eq!(side.contents(), "f a here\nf b there\n", "{}", way.name);
        }
        assert_eq!(way.there().backup(), "f a one\n");
        assert_eq!(way.here().backup(), "f b one\n");
    });
}

#[test]
fn the_same_file_edited_on_one_side_and_given_a_name_on_the_other() {
    each(ON, |way| {
        way.here().make("f a one");
        link(way.here(), "a", "b");
        way.fine();
        edit(way.here(), "a", "edited", 1_600_000_000);
        link(way.there(), "a", "c");
        way.fine();
        in_step(way, "a=b c");
        assert_eq!(way.here().contents(), "f a edited\nf b edited\nf c one\n");
    });
}

#[test]
fn a_group_edited_on_both_sides_is_one_conflict_and_the_loser_is_kept() {
    each(ON, |way| {
        way.here().make("f a one");
        link(way.here(), "a", "b");
        way.fine();
        edit(way.here(), "a", "older", 1_600_000_000);
        edit(way.there(), "b", "newer", 1_600_000_009);
        way.fine();
        in_step(way, "a=b");
        assert_eq!(way.here().read("a").unwrap(), b"newer");
        assert_eq!(way.here().backup(), "f a older\nf b older\n", "{}", way.name);
    });
}

#[test]
fn the_setting_can_be_switched_on_later_and_joins_copies_with_a_backup() {
    each("", |way| {
        way.here().make("f a one\nf sub/c x");
        link(way.here(), "a", "sub/b");
        way.fine();
        assert_eq!(links(way.there()), "a sub/b sub/c", "without it, links are copies");
    });
    each(ON, |way| {
        // as another tool left them: the initiator is the side that prevails
        for side in [way.here(), way.there()] {
            side.make("f a one\nf b one");
        }
        fs::remove_file(way.sandbox.a.at("b")).unwrap();
        link(&way.sandbox.a, "a", "b");
        way.fine();
        in_step(way, "a=b");
        assert_eq!(way.sandbox.b.backup(), "f b one\n", "{}", way.name);
    });
}

#[test]
fn deleting_whole_groups_and_linked_directories() {
    each(ON, |way| {
        let here = way.here();
        here.make("d d\nd e\nf d/a one\nf other x");
        link(here, "d/a", "e/b");
        link(here, "d/a", "top");
        way.fine();
        here.remove("d");
        way.there().remove("top");
        way.fine();
        in_step(way, "e/b other");
        assert_eq!(way.there().deleted(), "d d\nf d/a one\n", "{}", way.name);
        here.remove("e");
        way.fine();
        in_step(way, "other");
    });
}

#[test]
fn a_name_that_changed_meanwhile_holds_back_its_whole_group() {
    // a directory stands where a link is wanted: nothing is replaced, nothing is lost
    each(ON, |way| {
        way.here().make("f a one");
        way.fine();
        link(way.here(), "a", "b");
        way.there().make("d b\nf b/inside precious");
        let run = way.run();
        assert_ne!(run.status, None, "{run}");
        way.run();
        let everything = [way.here(), way.there()]
            .map(|side| side.contents() + &side.backup() + &side.deleted())
            .concat();
        assert!(everything.contains("inside precious"), "{}: {everything}", way.name);
        assert!(everything.contains("f a one"), "{}: {everything}", way.name);
        way.in_step();
    });
}
