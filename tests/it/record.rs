//! What a run tells without any flag, with `--verbose`, and with `--dry` (spec 10, "The record
//! of a run"; spec 1, `--dry`).

use crate::support::replicas::script;
use crate::support::sandbox::{Outcome, Sandbox};
use crate::support::sshd::Sshd;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An rsync that transfers nothing.
pub fn no_transfers(bin: &Path) {
    let rsync = "for word do [ \"$word\" = --version ] && exec /usr/bin/rsync \"$@\"; done\n\
                 echo 'no way' >&2\nexit 23\n";
    script(bin, "rsync", rsync);
}

/// Lines without the time before them.
fn lines(run: &Outcome) -> Vec<String> {
    let text = run.stdout.lines().chain(run.stderr.lines());
    text.map(|line| line.split_once(" - ").map_or(line, |(_, rest)| rest).to_owned()).collect()
}

/// The line before the last one of the log.
fn summed_up(sandbox: &Sandbox) -> String {
    let log = sandbox.log();
    let line = log.lines().rev().nth(1).unwrap_or_default();
    let line = line.split_once(" - ").map_or(line, |(_, rest)| rest);
    line.rsplit_once(" in ").map_or(line, |(what, _)| what).to_owned()
}

#[test]
fn a_run_tells_what_it_did_and_sums_up() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f moves content-of-16-by\nf goes x\nf both 1");
    let first = sandbox.sync(&[]);
    assert_eq!(summed_up(&sandbox), "3 updates to the target, 18 bytes", "{first}");
    sandbox.sync(&[]);
    assert_eq!(summed_up(&sandbox), "nothing to do; 3 files compared");

    sandbox.a.rename("moves", "moved");
    sandbox.a.remove("goes");
    sandbox.a.write("both", "one", 1_600_000_001);
    sandbox.b.write("both", "other", 1_600_000_002);
    sandbox.b.make("f new y");
    let run = sandbox.sync(&[]);
    assert_eq!(run.status, Some(0), "{run}");
    let told = lines(&run);
    let kept = sandbox.a.at(".osync_workdir/backup/both");
    let conflict = format!(
        "conflict on both: the target's version wins: its modification time is newer; the \
         initiator's version is kept in {}",
        kept.display()
    );
    for line in ["deleted on the target: goes", "moved on the target: moves -> moved", &*conflict] {
        assert!(told.iter().any(|told| told == line), "no {line} in {run}");
    }
    assert_eq!(fs::read(kept).unwrap(), b"one");
    assert!(!run.stdout.contains("updated on"), "only with --verbose: {run}");
    let sum = "2 updates to the initiator, 1 deletion, 1 move, 1 conflict, 6 bytes";
    assert_eq!(summed_up(&sandbox), sum);
    assert!(run.stdout.ends_with(" - osync finished.\n"), "{run}");
}

#[test]
fn verbose_shows_every_action_the_calls_and_the_settings() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f same x 0644\nf goes x");
    sandbox.sync(&[]);
    sandbox.a.make("f new x");
    sandbox.a.remove("goes");
    fs::set_permissions(sandbox.a.at("same"), fs::Permissions::from_mode(0o600)).unwrap();
    let run = sandbox.quick().arg("--verbose").env("MIN_WAIT", "5").run();
    assert_eq!(run.status, Some(0), "{run}");
    for text in [
        "updated on the target: new",
        "attributes set on the target: same",
        "deleted on the target: goes",
        "rsync -l -t ",
        "MIN_WAIT = 5",
    ] {
        assert!(run.stdout.contains(text), "no {text} in {run}");
    }
    assert!(!run.stdout.contains("MAX_WAIT"), "a default: {run}");
}

#[test]
fn a_run_that_could_not_begin_is_summed_up_too() {
    let sandbox = Sandbox::new();
    sandbox.b.remove("");
    let run = sandbox.sync(&[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert_eq!(summed_up(&sandbox), "nothing was done");
}

#[test]
fn a_run_in_which_everything_failed_does_not_say_that_nothing_was_to_do() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let bin = sandbox.path("bin");
    fs::create_dir(&bin).unwrap();
    no_transfers(&bin);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = sandbox.quick().env("PATH", path).run();
    assert_eq!(run.status, Some(1), "{run}");
    let line = run.stdout.lines().next_back().unwrap_or_default();
    assert!(line.contains("nothing was done in ") && line.ends_with("; 1 file compared"), "{run}");
}

#[test]
fn a_dry_run_shows_the_plan_for_a_target_that_is_to_be_made() {
    let server = Sshd::start("");
    for remote in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.a.make("d dir\nf dir/one hello");
        sandbox.b.remove("");
        let target = match remote {
            true => server.uri(&sandbox.b.root),
            false => sandbox.b.root.display().to_string(),
        };
        let run = || {
            let run = sandbox.osync().arg(format!("--initiator={}", sandbox.a.root.display()));
            let run = run.arg(format!("--target={target}")).args(["--dry", "--rsakey"]);
            let run = run.arg(server.key()).env("SSH_OPTIONAL_ARGS", server.options().join(" "));
            run.env("DESTINATION_MAILS", "me@example.org").env("SMTP_SERVER", "127.0.0.1")
        };
        let dry = run().env("CREATE_DIRS", "yes").run();
        assert_eq!((dry.status, dry.stderr.as_str()), (Some(0), ""), "{dry}");
        assert!(dry.stdout.contains("the plan for the empty directory that CREATE_DIRS"), "{dry}");
        let update = format!("UPDATE >> {}/dir/one", sandbox.b.root.display());
        assert!(dry.stdout.contains(&update), "{dry}");
        assert!(dry.stdout.lines().all(|line| line.contains("(dry run) ")), "{dry}");
        assert!(!sandbox.b.root.exists() && !sandbox.a.has(".osync_workdir"));
        let without = run().run();
        assert_eq!(without.status, Some(1), "{without}");
        assert!(without.stderr.contains("CREATE_DIRS"), "{without}");
    }
}

#[test]
fn a_dry_run_shows_what_a_guard_would_stop() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x\nf two x\nf three x");
    sandbox.sync(&[]);
    sandbox.a.remove("one");
    sandbox.a.remove("two");
    let run = |flag: Option<&str>| sandbox.quick().args(flag).env("MAX_DELETE_PERCENT", "50").run();
    let dry = run(Some("--dry"));
    assert_eq!(dry.status, Some(1), "{dry}");
    assert!(dry.stderr.contains("MAX_DELETE_PERCENT=50"), "{dry}");
    let gone = format!("DELETE >> {}", sandbox.b.at("one").display());
    assert!(dry.stdout.contains(&gone), "{dry}");
    // and what a guard has stopped is no run that another one resumes
    assert_eq!(run(None).status, Some(1));
    let after = run(None);
    assert!(!after.stdout.contains("did not come to its end"), "{after}");
    assert!(sandbox.b.has("one"));
}

#[test]
fn check_says_the_verdict_first_and_the_truth() {
    let sandbox = Sandbox::new();
    sandbox.b.remove("");
    let file = sandbox.config("task.conf", "CREATE_DIRS=yes\nMIN_WAIT=5");
    let check = |flags: &[&str]| sandbox.osync().arg("check").arg(&file).args(flags).run();
    let good = check(&[]);
    assert_eq!(good.status, Some(0), "{good}");
    assert!(good.stdout.starts_with("Everything is fine.\n"), "{good}");
    assert!(good.stdout.contains("is missing and will be created"), "{good}");
    assert!(good.stdout.contains("MIN_WAIT = 5") && !good.stdout.contains("MAX_WAIT"), "{good}");
    assert!(good.stdout.lines().count() < 20, "{good}");
    assert!(check(&["--verbose"]).stdout.contains("MAX_WAIT = 7200"));
    assert_eq!(check(&["--errors-only"]).stdout, "");
    // something else stands where the directory would be
    let file = sandbox.path("etc/file");
    fs::write(&file, "").unwrap();
    let below = format!("CREATE_DIRS=yes\nTARGET_SYNC_DIR=\"{}/x\"", file.display());
    sandbox.config("task.conf", &below);
    let bad = check(&[]);
    assert_eq!(bad.status, Some(1), "{bad}");
    assert!(bad.stdout.starts_with("A run would fail.\nerror    target: "), "{bad}");
    let silent = check(&["--silent"]);
    assert_eq!((silent.status, silent.stdout.as_str()), (Some(1), ""), "{silent}");
    assert!(check(&["--errors-only"]).stdout.contains("A run would fail."));
}

#[test]
fn one_slash_too_few_behind_the_host_is_told() {
    let server = Sshd::start("");
    let sandbox = Sandbox::new();
    let uri = server.uri(&sandbox.b.root).replacen("//", "##", 1).replacen("//", "/", 1);
    let uri = uri.replacen("##", "//", 1);
    let run = sandbox.osync().arg(format!("--initiator={}", sandbox.a.root.display()));
    let run = run.arg(format!("--target={uri}")).arg("--rsakey").arg(server.key());
    let run = run.env("SSH_OPTIONAL_ARGS", server.options().join(" ")).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("write two slashes behind the host"), "{run}");
}
