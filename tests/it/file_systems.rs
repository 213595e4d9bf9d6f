//! File systems that fold names, refuse some, and lack what others have (spec 8, "What a file
//! system can do"): real exFAT and NTFS through FUSE. Where these cannot be mounted, the tests
//! say so and pass.

use crate::support::images::{Image, Kind};
use crate::support::sandbox::{Replica, Sandbox};
use crate::support::trees::set_mode;
use crate::support::ways::{Way, each};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::os::unix::fs::{FileTypeExt, symlink};

/// Plays a scenario in which `there` is on such a file system.
fn on(kind: Kind, settings: &str, play: impl Fn(&Way, &Replica, &Replica)) {
    each(settings, |way| {
        let (here, there) = (way.here(), way.there());
        if let Some(_mounted) = Image::mount(kind, &way.sandbox.path("image"), &there.root) {
            play(way, here, there);
        }
    });
}

fn names(side: &Replica) -> Vec<String> {
    side.tree().into_keys().map(|name| String::from_utf8(name).unwrap()).collect()
}

/// Both sides hold the same under the same names, and a further run does nothing.
fn alike(way: &Way) {
    assert_eq!(way.sandbox.a.contents(), way.sandbox.b.contents(), "{}", way.name);
    way.idle();
}

/// The same where a side spells names as it likes.
fn alike_but_for_case(way: &Way) {
    let of = |side: &Replica| {
        let mut lines: Vec<String> = side.contents().lines().map(str::to_lowercase).collect();
        lines.sort();
        lines
    };
    assert_eq!(of(&way.sandbox.a), of(&way.sandbox.b), "{}", way.name);
    way.idle();
}

#[test]
fn two_names_that_are_one_across_lose_nothing() {
    for kind in [Kind::ExFat, Kind::FoldingNtfs] {
        on(kind, "", |way, here, there| {
            here.make("f File one\nf file other\nd Dir\nf Dir/a A\nd dir\nf dir/b B\nf z z");
            let before = here.contents();
            for _ in 0..2 {
                let run = way.run();
                assert_eq!(run.status, Some(1), "{run}");
                for names in ["File", "'file'", "Dir", "'dir'"] {
                    assert!(run.stderr.contains(names), "{run}");
                }
                assert_eq!(here.contents(), before, "{}", way.name);
                assert_eq!(there.contents(), "f z z\n", "{}", way.name);
            }
            here.remove("file");
            here.rename("dir", "other");
            way.fine();
            alike_but_for_case(way);
            // one that is there already is no reason to touch it when another comes
            here.make("f FILE third");
            there.write("File", "edited", 1_700_000_000);
            assert_eq!(way.run().status, Some(1));
            assert_eq!(there.read("File").unwrap(), b"edited");
            assert_eq!(here.read("File").unwrap(), b"one");
            here.remove("FILE");
            way.fine();
            assert_eq!(here.read("File").unwrap(), b"edited");
            alike_but_for_case(way);
        });
    }
}

#[test]
fn a_rename_that_changes_only_the_case_is_a_rename_on_the_other_side_too() {
    on(Kind::ExFat, "", |way, here, there| {
        here.make("f readme x\nd dir\nf dir/caf\u{e9} y\nf dir/z z");
        way.fine();
        alike(way);
        here.rename("readme", "README");
        here.rename("dir", "Dir");
        here.rename("Dir/caf\u{e9}", "Dir/CAF\u{c9}");
        way.fine();
        assert!(names(there).contains(&"Dir/CAF\u{c9}".to_owned()), "{:?}", names(there));
        alike(way);
        there.rename("README", "ReadMe");
        there.rename("Dir/z", "Dir/Z");
        way.fine();
        assert!(here.has("ReadMe") && here.has("Dir/Z") && !here.has("README"));
        alike(way);
        // a rename and an edit, on either side
        here.rename("ReadMe", "readme");
        here.write("readme", "edited", 1_700_000_001);
        there.rename("Dir", "DIR");
        there.write("DIR/Z", "edited too", 1_700_000_003);
        way.fine();
        assert_eq!(here.read("DIR/Z").unwrap(), b"edited too");
        assert_eq!(there.read("readme").unwrap(), b"edited");
        assert_eq!((here.deleted(), there.deleted()), (String::new(), String::new()));
        alike(way);
    });
}

#[test]
fn where_a_file_system_spells_names_as_it_likes_the_other_side_keeps_its_spelling() {
    on(Kind::FoldingNtfs, "", |way, here, there| {
        here.make("f README x\nd Dir\nf Dir/File y");
        way.fine();
        alike_but_for_case(way);
        assert_eq!(names(here), ["Dir", "Dir/File", "README"]);
        here.rename("README", "ReadMe");
        there.write("Dir/File", "edited", 1_700_000_000);
        there.write("New", "n", 1_700_000_000);
        way.fine();
        assert_eq!(here.read("Dir/File").unwrap(), b"edited");
        assert_eq!(names(here)[..3], ["Dir", "Dir/File", "ReadMe"]);
        alike_but_for_case(way);
        here.remove("Dir/File");
        way.fine();
        assert!(!there.has("Dir/File"));
        alike_but_for_case(way);
    });
}

#[test]
fn where_both_spell_a_name_differently_prevalence_gives_the_spelling() {
    for (settings, wins) in [("", "README"), ("CONFLICT_PREVALANCE=target", "Readme")] {
        on(Kind::ExFat, settings, |way, here, there| {
            let (initiator, target) =
                if way.here_is() == "initiator" { (here, there) } else { (there, here) };
            initiator.make("f README same 1500000000");
            target.make("f Readme same 1500000000");
            way.fine();
            assert_eq!((names(here), names(there)), (vec![wins.to_owned()], vec![wins.to_owned()]));
            alike(way);
        });
    }
}

#[test]
fn what_cannot_be_there_is_left_out_and_never_deleted() {
    on(Kind::ExFat, "", |way, here, there| {
        let long = "n".repeat(200);
        here.make(&format!("f plain x\nd d\nf d/a:b y\nd e?\nf e?/inside z\nf {long} l"));
        symlink("plain", here.at("link")).unwrap();
        mknodat(CWD, here.at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let before = here.contents();
        let run = way.run();
        assert_eq!(run.status, Some(2), "{run}");
        for words in [
            "links left out: 1 ('link')",
            "fifos left out: 1 ('pipe')",
            "names left out: 2 ('d/a:b' and others)",
        ] {
            assert!(run.stderr.contains(words), "{words}: {run}");
        }
        assert_eq!(run.stderr.matches("(WARN)").count(), 4, "{run}");
        let there_now = format!("d d\nf {long} l\nf plain x\n");
        for _ in 0..2 {
            assert_eq!(here.contents(), before, "{}", way.name);
            assert_eq!(there.contents(), there_now, "{}", way.name);
            way.fine();
        }
        // more of them: said again
        symlink("plain", here.at("d/second")).unwrap();
        let run = way.run();
        assert!(run.status == Some(2) && run.stderr.contains("links left out: 2"), "{run}");
        way.fine();
        // a file becomes a link, and a name becomes one that is refused
        here.remove("plain");
        symlink("d", here.at("plain")).unwrap();
        way.run();
        assert_eq!(there.read("plain").unwrap(), b"x", "nothing makes way for what cannot come");
        assert!(here.at("plain").is_symlink());
        way.idle();
    });
}

#[test]
fn ntfs_takes_names_as_they_are() {
    on(Kind::Ntfs, "", |way, here, there| {
        here.make("f File one\nf file other\nf a:b y\nf caf\u{e9} z");
        symlink("File", here.at("link")).unwrap();
        way.fine();
        assert_eq!(here.contents(), there.contents(), "{}", way.name);
        alike(way);
        here.rename("a:b", "A:B");
        there.write("file", "edited", 1_700_000_000);
        way.fine();
        assert_eq!(here.read("file").unwrap(), b"edited");
        alike(way);
    });
}

#[test]
fn without_times_everything_converges_and_deletions_stay() {
    for settings in ["RSYNC_OPTIONAL_ARGS=--no-times", "RSYNC_OPTIONAL_ARGS='-v --no-t'"] {
        each(settings, |way| {
            let (here, there) = (way.here(), way.there());
            here.make("f a one 1500000000\nd d 1500000000\nf d/b two 1500000000\nf gone x");
            symlink("a", here.at("link")).unwrap();
            way.fine();
            assert_eq!(here.contents(), there.contents(), "{}", way.name);
            way.idle();
            here.remove("gone");
            here.write("a", "edited", 1_400_000_000);
            there.write("d/b", "edited there", 1_400_000_000);
            way.fine();
            assert_eq!(there.read("a").unwrap(), b"edited", "{}", way.name);
            assert_eq!(here.read("d/b").unwrap(), b"edited there", "{}", way.name);
            assert!(!here.has("gone") && !there.has("gone"), "{}", way.name);
            way.idle();
        });
    }
}

#[test]
fn times_of_directories_are_left_alone_where_they_are_to_be() {
    each("RSYNC_OPTIONAL_ARGS=--omit-dir-times", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("d d 1500000000\nf d/b two 1500000000\nd whole 1500000000\nf whole/x x");
        there.make("d d 1400000000");
        way.fine();
        let time = |side: &Replica, path: &str| side.tree()[path.as_bytes()].mtime.secs;
        assert_eq!(time(there, "d/b"), 1_500_000_000, "{}", way.name);
        assert_ne!(time(there, "d"), 1_500_000_000, "{}", way.name);
        assert_ne!(time(there, "whole"), 1_500_000_000, "{}", way.name);
        way.idle();
    });
}

#[test]
fn what_is_preserved_from_now_on_is_brought_over_where_it_differs() {
    for mirrored in [false, true] {
        let sandbox = Sandbox::new();
        let winner = if mirrored { "target" } else { "initiator" };
        let plain = format!("CONFLICT_PREVALANCE={winner}\n");
        let off = format!("{plain}PRESERVE_PERMISSIONS=no\nPRESERVE_EXECUTABILITY=no\n");
        let (wins, loses) =
            if mirrored { (&sandbox.b, &sandbox.a) } else { (&sandbox.a, &sandbox.b) };
        sandbox.a.make("f x one 1500000000 640\nf y two 1500000000 640\nd d 1500000000 750");
        sandbox.b.make("f x one 1500000000 604\nf y two 1500000000 604\nd d 1500000000 705");
        let run = |settings: &str| {
            let run = sandbox.osync().arg(sandbox.config("task.conf", settings)).run();
            assert_eq!(run.status, Some(0), "{run}");
        };
        let mode = |side: &Replica, path: &str| side.tree()[path.as_bytes()].mode;
        run(&off);
        run(&off);
        assert_ne!(mode(&sandbox.a, "x"), mode(&sandbox.b, "x"), "it is not preserved");
        set_mode(&loses.at("y"), 0o600);
        let (kept, kept_dir) = (mode(wins, "x"), mode(wins, "d"));
        run(&plain);
        assert_eq!((mode(loses, "x"), mode(wins, "x")), (kept, kept));
        assert_eq!(mode(loses, "d"), kept_dir);
        // what one side's changed since, goes that way
        assert_eq!((mode(&sandbox.a, "y"), mode(&sandbox.b, "y")), (0o600, 0o600));
        assert_eq!(sandbox.a.details(), sandbox.b.details());
        let before = sandbox.a.details();
        run(&plain);
        assert_eq!((sandbox.a.details(), sandbox.b.details()), (before.clone(), before));
    }
}

#[test]
fn a_file_system_below_the_root_folds_names_by_itself() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        there.make("d stick");
        let file = way.sandbox.path("image");
        let Some(_mounted) = Image::mount(Kind::ExFat, &file, &there.at("stick")) else { return };
        here.make("f File one\nf file other\nf stick/plain x");
        way.run();
        let both = "f File one\nf file other\nf stick/plain x\n";
        assert_eq!(there.contents().replace("d stick\n", ""), both, "{}", way.name);
        here.make("f stick/Name one\nf stick/name other\nf READ a\nf read b");
        for _ in 0..2 {
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            assert!(run.stderr.contains("stick/Name"), "{}: {run}", way.name);
            let [one, other] = ["stick/Name", "stick/name"].map(|name| here.read(name).unwrap());
            assert_eq!((one, other), (b"one".to_vec(), b"other".to_vec()), "{}: {run}", way.name);
            assert!(!there.has("stick/name"), "{}: {run}", way.name);
            assert_eq!(there.read("READ").unwrap(), b"a", "{}: {run}", way.name);
            assert_eq!(there.read("read").unwrap(), b"b", "{}: {run}", way.name);
        }
        // one of them goes: the other comes, and a rename of its case is one
        here.remove("stick/name");
        way.run();
        assert_eq!(there.read("stick/Name").unwrap(), b"one", "{}", way.name);
        here.rename("stick/Name", "stick/NAME");
        way.run();
        assert!(names(there).contains(&"stick/NAME".to_owned()), "{:?}", names(there));
        assert_eq!(there.read("stick/NAME").unwrap(), b"one", "{}", way.name);
        assert!(here.has("stick/NAME"), "{}", way.name);
    });
}

#[test]
fn a_fifo_of_which_a_mounted_file_system_makes_a_file_is_not_displaced_by_it() {
    each("", |way| {
        let (here, there) = (way.here(), way.there());
        here.make("f f 1\nd stick");
        there.make("f f 1\nd stick");
        let file = way.sandbox.path("image");
        let Some(_mounted) = Image::mount(Kind::ExFat, &file, &there.at("stick")) else { return };
        let pipe = here.at("stick/pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        here.make("f stick/other 2");
        for _ in 0..2 {
            let run = way.run();
            assert_eq!(run.status, Some(1), "{}: {run}", way.name);
            assert!(run.stderr.contains("stick/pipe"), "{}: {run}", way.name);
            assert!(there.has("stick/other"), "{}: {run}", way.name);
            assert!(!there.has("stick/pipe"), "{}: {run}", way.name);
            let kept = std::fs::symlink_metadata(&pipe).unwrap();
            assert!(kept.file_type().is_fifo(), "{}: {run}", way.name);
        }
    });
}
