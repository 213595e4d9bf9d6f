//! rsyncs that are older than this machine's, or none at all: scripts that refuse what those
//! refuse, in their words, and do the rest with the installed one (spec 5, "rsync calls").

use crate::support::over_ssh::OverSsh;
use crate::support::sandbox::{Outcome, Run, Sandbox};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// An rsync of a version that refuses options of this pattern (of perl), as the client and as
/// the server, which reads its options from standard input (-s).
fn old_rsync(sandbox: &Sandbox, version: &str, refused: &str) -> PathBuf {
    let text = r#"#!/usr/bin/perl
my @args = @ARGV;
my $as = 'client';
if (grep { $_ eq '--server' } @args) {
  my ($told, $byte, $as_told) = ('', '', 'server');
  while ($told !~ /\0\0\z/) { sysread(STDIN, $byte, 1) or last; $told .= $byte }
  my (undef, @more) = split /\0/, $told;
  s/^-s/-/ for @args;
  @args = ((grep { $_ ne '-' } @args), @more);
  $as = $as_told;
}
if (my ($option) = grep { /REFUSED/ } @args) {
  print STDERR "rsync: $option: unknown option\n";
  print STDERR "rsync error: syntax or usage error (code 1) at main.c(1569) [$as=VERSION]\n";
  exit 1;
}
exec '/usr/bin/rsync', @args if $as eq 'server';
my $status = system '/usr/bin/rsync', @args;
# the times of links that come are compared by the second
if ($args[-1] =~ m{^/}) {
  for my $link (split /\0/, `find '$args[-1]' -type l -path '*there*' -print0`) {
    my $time = (lstat $link)[9];
    system 'touch', '-h', '-d', "\@$time.5", $link;
  }
}
exit $status >> 8;
"#;
    script(sandbox, &text.replace("REFUSED", refused).replace("VERSION", version))
}

/// A program called rsync, in a directory of its own.
fn script(sandbox: &Sandbox, text: &str) -> PathBuf {
    let dir = sandbox.path("old");
    let program = dir.join("rsync");
    fs::create_dir_all(&dir).unwrap();
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Which of the two is the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Old {
    Here,
    There,
}

impl Old {
    fn run(self, task: &OverSsh, program: &std::path::Path) -> Run {
        let run = task.run().env("REMOTE_OSYNC", "no").env("PRESERVE_ACL", "no");
        match self {
            Old::Here => run.env("RSYNC_EXECUTABLE", program),
            Old::There => run.env("RSYNC_REMOTE_PATH", program.parent().unwrap()),
        }
    }
}

/// All but the last one, which says that there were some.
fn errors(run: &Outcome) -> Vec<&str> {
    let is_error = |line: &&str| line.contains("ERROR") && !line.contains("finished with errors");
    run.stderr.lines().filter(is_error).collect()
}

#[test]
fn an_rsync_3_1_2_on_either_side_does_all_that_a_run_needs() {
    for old in [Old::Here, Old::There] {
        let task = OverSsh::new();
        let program = old_rsync(&task.sandbox, "3.1.2", "^-\\@|^--modify-window");
        let (a, b) = (&task.sandbox.a, &task.sandbox.b);
        a.make("f dir/file text\nl dir/link file\nl link dir");
        b.make(
            "f there/file text\nl there/link file 1500000000.25\nl there/other file 1500000000.25",
        );
        task.fine(old.run(&task, &program));
        task.assert_in_step();
        for link in ["dir/link", "link", "there/link", "there/other"] {
            let [here, there] = [a, b].map(|side| side.at(link).symlink_metadata().unwrap());
            let time = |of: &fs::Metadata| (of.mtime(), of.mtime_nsec());
            assert_eq!(time(&here), time(&there), "{old:?} {link}");
        }
        let run = task.fine(old.run(&task, &program).arg("--summary"));
        assert!(run.stdout.contains("Initiator has 0 updates."), "{run}");
        assert!(run.stdout.contains("Target has 0 updates."), "{run}");
    }
}

#[test]
fn an_rsync_that_is_too_old_is_one_error_with_the_version_that_is_needed() {
    // what it only sends or only gets is asked for with options that it knows
    for (old, place, paths) in
        [(Old::Here, "of this machine", "35 paths"), (Old::There, "over there", "2 paths")]
    {
        let task = OverSsh::new();
        let program = old_rsync(&task.sandbox, "3.0.9", "^--(outbuf|ignore-missing-args)");
        let files: String = (0..30).map(|n| format!("f dir-{}/{n} {n}\n", n % 3)).collect();
        task.sandbox.a.make(&files);
        task.sandbox.b.make("f new/file text");
        let run = old.run(&task, &program).run();
        assert_eq!(run.status, Some(1), "{run}");
        let errors = errors(&run);
        assert_eq!(errors.len(), 1, "{run}");
        for words in [place, "3.1.2", paths] {
            assert!(errors[0].contains(words), "{run}");
        }
    }
}

#[test]
fn openrsync_is_recognised_and_said_once() {
    for old in [Old::Here, Old::There] {
        for words in ["invalid option -- 's'", "unknown option -- s"] {
            let task = OverSsh::new();
            let text = format!("#!/bin/sh\necho \"rsync: {words}\" >&2\nexit 1\n");
            let program = script(&task.sandbox, &text);
            task.sandbox.a.make("f a 1\nf b 2\nf d/c 3");
            task.sandbox.b.make("f e 5");
            let run = old.run(&task, &program).run();
            assert_eq!(run.status, Some(1), "{run}");
            let errors = errors(&run);
            assert_eq!(errors.len(), 1, "{run}");
            assert!(errors[0].contains("openrsync") && errors[0].contains("3.1.2"), "{run}");
        }
    }
}

#[test]
fn two_thousand_files_for_an_rsync_that_cannot_run_are_one_error() {
    let sandbox = Sandbox::new();
    let program = script(&sandbox, "#!/bin/sh\necho cannot run >&2\nexit 126\n");
    let files: String = (0..2000).map(|n| format!("f file-{n:04} {n}\n")).collect();
    sandbox.a.make(&files);
    sandbox.b.make("f dir/file text");
    let run = sandbox
        .osync()
        .arg(format!("--initiator={}", sandbox.a.root.display()))
        .arg(format!("--target={}", sandbox.b.root.display()))
        .env("RSYNC_EXECUTABLE", &program)
        .run();
    assert_eq!(run.status, Some(1), "{run}");
    let errors = errors(&run);
    assert_eq!(errors.len(), 1, "{run}");
    assert!(errors[0].contains("2002 paths"), "{run}");
}
