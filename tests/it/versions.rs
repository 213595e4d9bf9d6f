//! What a run keeps, and that it destroys nothing that it has not seen (spec 8, "Kept
//! versions").

use crate::support::sandbox::{Outcome, Run, Sandbox};
use crate::support::sshd::{Sshd, user};
use crate::support::trees;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A run over ssh, or between two local directories.
fn run(sandbox: &Sandbox, server: Option<&Sshd>) -> Run {
    let run = sandbox.quick();
    let Some(server) = server else { return run };
    let root = sandbox.b.root.display();
    run.arg(format!("--target=ssh://{}@127.0.0.1:{}/{root}", user(), server.port))
        .env("SSH_RSA_PRIVATE_KEY", server.key())
        .env("SSH_OPTIONAL_ARGS", server.options().join(" "))
}

fn both(trial: impl Fn(Option<&Sshd>)) {
    trial(None);
    trial(Some(&Sshd::start("")));
}

fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_loser_of_a_conflict_outlives_ordinary_edits_of_the_winner() {
    both(|server| {
        let sandbox = Sandbox::new();
        sandbox.a.write("f", "agreed", 1_600_000_000);
        assert_eq!(run(&sandbox, server).run().status, Some(0));
        sandbox.a.write("f", "what a wrote, and it wins", 1_600_000_200);
        sandbox.b.write("f", "b-wrote", 1_600_000_100);
        assert_eq!(run(&sandbox, server).run().status, Some(0));
        assert_eq!(sandbox.b.backup(), trees::normal("f f b-wrote"));
        for round in 1..4 {
            let content = "edited".repeat(round);
            sandbox.a.write("f", content, 1_600_000_300 + round as i64);
            let edited = run(&sandbox, server).run();
            assert_eq!(edited.status, Some(0), "{edited}");
        }
        let kept = names(sandbox.b.at(".osync_workdir/backup"));
        assert_eq!(kept.len(), 2, "{kept:?}: overwritten ones replace each other");
        let lost = &kept[1];
        assert!(kept[0] == "f" && lost.starts_with("f.2"), "{kept:?}");
        let lost = fs::read(sandbox.b.at(format!(".osync_workdir/backup/{lost}"))).unwrap();
        assert_eq!(lost, b"b-wrote");
        assert!(!sandbox.b.has(".osync_workdir/replaced"));
    });
}

/// An rsync that lets somebody work while it does: once its receiver has looked.
fn disturbing_rsync(sandbox: &Sandbox, deed: &str) -> String {
    fs::create_dir(sandbox.path("waits")).unwrap();
    let path = sandbox.path("waits/rsync");
    let text = format!(
        "#!/bin/sh\nPATH=${{PATH#*:}}\n\
         case \"$*\" in *--files-from*) ;; *) exec rsync \"$@\" ;; esac\nexec 3<&0\nrsync --bwlimit=1m \"$@\" <&3 3<&- &\nrsync=$!\n\
         exec 0<&- 3<&-\nwhile ! ls -A '{b}' '{b}/new' 2>/dev/null | grep -q '^\\.big\\.'; do\n  \
         kill -0 $rsync 2>/dev/null || exit\ndone\n\
         if mkdir '{done}' 2>/dev/null; then {deed}; fi\nwait $rsync\n",
        b = sandbox.b.root.display(),
        done = sandbox.path("waits/done").display()
    );
    fs::write(&path, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).unwrap();
    let searched = std::env::var("PATH").unwrap();
    format!("{}:{searched}", path.parent().unwrap().display())
}

/// A run during which somebody does something on the target while `big` is on its way.
fn disturbed(sandbox: &Sandbox, deed: &str) -> Outcome {
    let b = sandbox.b.root.display();
    let path = disturbing_rsync(sandbox, &format!("cd '{b}' && {deed}"));
    run(sandbox, None).env("PATH", path).env("CONFLICT_BACKUP", "no").env("SOFT_DELETE", "no").run()
}

#[test]
fn what_is_edited_or_made_while_rsync_runs_is_kept_and_named_though_nothing_is_to_be_kept() {
    for (path, deed) in [
        ("zz", "printf 'their edit' > zz"),
        ("zznew", "printf 'their edit' > zznew"),
        ("new/zz", "printf 'their edit' > new/zz"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.a.write("zz", "old", 1_600_000_000);
        sandbox.a.write("anchor", "stays", 1_600_000_000);
        assert_eq!(run(&sandbox, None).run().status, Some(0));
        sandbox.a.write("zz", "a's edit", 1_600_000_100);
        sandbox.a.write("zznew", "new on a", 1_600_000_100);
        let big = vec![b'x'; 1 << 20];
        if path.starts_with("new/") {
            fs::create_dir(sandbox.a.at("new")).unwrap();
            sandbox.a.write("new/big", &big, 1_600_000_100);
            sandbox.a.write("new/zz", "new on a", 1_600_000_100);
            // small files, on average
            for number in 0..40 {
                sandbox.a.write(format!("new/small{number}"), "x", 1_600_000_100);
            }
        } else {
            sandbox.a.write("big", &big, 1_600_000_100);
        }
        let told = disturbed(&sandbox, deed);
        let kept = [".osync_workdir/backup/", ""].map(|dir| sandbox.b.read(format!("{dir}{path}")));
        assert!(kept.contains(&Some(b"their edit".to_vec())), "{path}: {kept:?} {told}");
        assert!(told.status == Some(2) || told.status == Some(1), "{path}: {told}");
        assert!(told.stderr.contains(path), "{path} is not named: {told}");
        let big = if path.starts_with("new/") { "new/big" } else { "big" };
        assert!(sandbox.b.has(big), "rsync did nothing: {told}");
        assert!(!sandbox.b.has(".osync_workdir/replaced"), "{path}");
        assert!(sandbox.b.read("anchor").is_some());
    }
}

#[test]
fn with_nothing_to_be_kept_nothing_is_kept() {
    both(|server| {
        let sandbox = Sandbox::new();
        sandbox.a.make("f d/f old\nf d/gone old\nf gone\\nline old\nf -gone old");
        let quick =
            || run(&sandbox, server).env("CONFLICT_BACKUP", "no").env("SOFT_DELETE", "no").run();
        assert_eq!(quick().status, Some(0));
        sandbox.a.write("d/f", "edited", 1_600_000_100);
        for name in ["d/gone", "gone\nline", "-gone"] {
            sandbox.a.remove(name);
        }
        let told = quick();
        assert_eq!(told.status, Some(0), "{told}");
        assert_eq!(sandbox.a.contents(), sandbox.b.contents());
        assert_eq!(sandbox.b.backup() + &sandbox.b.deleted(), "");
        assert!(!sandbox.b.has(".osync_workdir/replaced"));
    });
}

#[test]
fn each_version_has_the_date_of_its_coming_in_its_name() {
    both(|server| {
        let sandbox = Sandbox::new();
        sandbox.a.make("f anchor stays");
        for round in ["one", "two"] {
            sandbox.a.write("f", round, 1_600_000_000);
            assert_eq!(run(&sandbox, server).run().status, Some(0));
            sandbox.a.remove("f");
            assert_eq!(run(&sandbox, server).run().status, Some(0));
            // The first of them came long ago.
            if round == "one" {
                let record = sandbox.b.at(".osync_workdir/deleted.arrivals");
                let text = fs::read_to_string(&record).unwrap();
                let line = text.lines().find(|line| line.ends_with(" o f")).unwrap();
                let later: i64 = line.split(' ').next().unwrap().parse().unwrap();
                fs::write(&record, format!("{} o f\n", later + 10)).unwrap();
            }
        }
        let kept = names(sandbox.b.at(".osync_workdir/deleted"));
        assert_eq!(kept.len(), 2, "{kept:?}");
        let record = fs::read_to_string(sandbox.b.at(".osync_workdir/deleted.arrivals")).unwrap();
        let renamed = record.lines().find(|line| line.ends_with(kept[1].as_str())).unwrap();
        let at = renamed.split(' ').next().unwrap();
        let mut date = Command::new("date");
        date.args(["-d", &format!("@{at}"), "+f.%Y.%m.%d-%H.%M.%S"]);
        let date = date.output().unwrap().stdout;
        assert_eq!(String::from_utf8(date).unwrap().trim(), kept[1]);
    });
}

#[test]
fn what_a_killed_run_had_moved_out_of_the_way_is_kept_by_the_next() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no fault points");
        return;
    }
    for step in ["delivered:1", "settling:1", "taken away, not removed:1"] {
        let sandbox = Sandbox::new();
        sandbox.a.make("f d/f old\nf gone goes\nf anchor stays");
        let quick = || run(&sandbox, None).env("CONFLICT_BACKUP", "no").env("SOFT_DELETE", "no");
        assert_eq!(quick().run().status, Some(0));
        sandbox.a.write("d/f", "edited", 1_600_000_100);
        sandbox.a.remove("gone");
        quick().env("OSYNC_FAULT", step).run();
        let left = sandbox.b.has(".osync_workdir/replaced");
        let told = quick().run();
        assert!(matches!(told.status, Some(0)), "{step}: {told}");
        assert!(left && !sandbox.b.has(".osync_workdir/replaced"), "{step}");
        let kept = if step.starts_with("taken") { "f gone goes" } else { "d d\nf d/f old" };
        assert_eq!(sandbox.b.backup(), trees::normal(kept), "{step}");
        assert_eq!(sandbox.a.contents(), sandbox.b.contents(), "{step}");
    }
}

/// A file system on which the ctime is the mtime; none where it cannot be had.
struct ExFat {
    dir: tempfile::TempDir,
}

impl ExFat {
    fn mounted() -> Option<ExFat> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let on = dir.path().join("mounted");
        fs::create_dir(&on).unwrap();
        let made = ["mkfs.exfat", "mkexfatfs"]
            .iter()
            .any(|tool| Command::new(tool).arg(&image).output().is_ok_and(|o| o.status.success()));
        let mut mount = Command::new("mount.exfat-fuse");
        let mounted = made && mount.arg(&image).arg(&on).output().is_ok_and(|o| o.status.success());
        mounted.then_some(ExFat { dir })
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("mounted")
    }
}

impl Drop for ExFat {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.root()).output();
    }
}

#[test]
fn a_version_that_is_kept_on_exfat_is_not_purged_by_the_run_that_keeps_it() {
    let Some(disk) = ExFat::mounted() else {
        println!("skipped: no exFAT file system can be mounted here (exfat-fuse, mkfs.exfat)");
        return;
    };
    let sandbox = Sandbox::new();
    let quick = || {
        let run = sandbox.osync().arg(format!("--initiator={}", sandbox.a.root.display()));
        run.arg(format!("--target={}", disk.root().display()))
            .env("PRESERVE_PERMISSIONS", "no")
            .env("PRESERVE_OWNER", "no")
            .env("PRESERVE_GROUP", "no")
            .run()
    };
    for name in ["edited", "gone", "dir/gone"] {
        sandbox.a.write(name, "old", 1_000_000_000);
    }
    sandbox.a.write("anchor", "stays", 1_000_000_000);
    assert_eq!(quick().status, Some(0));
    sandbox.a.write("edited", "a newer one", 1_600_000_000);
    sandbox.a.remove("gone");
    sandbox.a.remove("dir");
    for _ in 0..2 {
        let told = quick();
        assert_eq!(told.status, Some(0), "{told}");
        for kept in ["backup/edited", "deleted/gone", "deleted/dir/gone"] {
            let kept = disk.root().join(".osync_workdir").join(kept);
            assert_eq!(fs::read(&kept).ok().as_deref(), Some(&b"old"[..]), "{kept:?}");
        }
    }
}
