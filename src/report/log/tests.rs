use super::*;
use crate::tree::{RelPath, Side};
use std::io::Write;
use std::sync::Arc;

/// A stream whose text a test can read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that has gone away.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn flags() -> Flags {
    Flags { no_prefix: true, ..Flags::default() }
}

fn output() -> Output {
    Output {
        log_file: None,
        log_conflicts: false,
        debug: false,
        color: true,
        dated_prefix: false,
        report_file: None,
    }
}

/// A log into a temporary directory, and what it shows.
struct Desk {
    log: Log,
    out: Shared,
    err: Shared,
    dir: tempfile::TempDir,
}

impl Desk {
    fn new(flags: &Flags, output: &Output) -> Desk {
        let (out, err) = (Shared::default(), Shared::default());
        let stream = |to: &Shared| OutputStream { to: Box::new(to.clone()), colors: false };
        let screen = Screen { out: stream(&out), err: stream(&err), progress: None };
        let dir = tempfile::tempdir().unwrap();
        let place = LogPlace { wanted: Some(dir.path().join("o.log")), ..LogPlace::default() };
        Desk { log: Log::with_screen(flags, output, &place, Instant::now(), screen), out, err, dir }
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("o.log")).unwrap()
    }
}

/// One line of each level.
fn say_everything(log: &Log) {
    log.say(Level::Notice, "notice");
    log.say(Level::Verbose, "verbose");
    log.say(Level::Always, "always");
    log.say(Level::Debug, "debug");
    log.say(Level::Warn, "warn");
    log.say(Level::Error, "error");
    log.say(Level::Critical, "critical");
}

#[test]
fn flags_decide_which_levels_are_shown_and_logged() {
    let bad = "(WARN):warn\n(ERROR):error\n(CRITICAL):critical\n";
    for (name, flags, output, out) in [
        ("plain", flags(), output(), "notice\nalways\n"),
        (
            "verbose",
            Flags { verbose: true, ..flags() },
            output(),
            "notice\n(VERBOSE):verbose\nalways\n",
        ),
        ("errors only", Flags { errors_only: true, ..flags() }, output(), "always\n"),
        ("debug", flags(), Output { debug: true, ..output() }, "notice\nalways\n(DEBUG):debug\n"),
    ] {
        let desk = Desk::new(&flags, &output);
        say_everything(&desk.log);
        assert_eq!((desk.out.text().as_str(), desk.err.text().as_str()), (out, bad), "{name}");
        assert_eq!(desk.file(), format!("{out}{bad}"), "{name}");

        let desk = Desk::new(&Flags { silent: true, ..flags }, &output);
        say_everything(&desk.log);
        assert_eq!((desk.out.text(), desk.err.text()), (String::new(), String::new()), "{name}");
        assert_eq!(desk.file(), format!("{out}{bad}"), "{name}, silent");
    }
}

#[test]
fn every_line_of_a_message_gets_its_prefix() {
    let desk = Desk::new(&Flags::default(), &output());
    desk.log.say(Level::Error, "one\ntwo");
    assert_eq!(desk.file(), "TIME: 0 - (ERROR):one\nTIME: 0 - (ERROR):two\n");
    assert_eq!(desk.err.text(), desk.file());
}

#[test]
fn every_line_of_a_dry_run_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o.log");
    let place = LogPlace { wanted: Some(path.clone()), dry: true, ..LogPlace::default() };
    let screen = Screen::standard(&flags(), &output());
    let silent = Flags { silent: true, ..flags() };
    let log = Log::with_screen(&silent, &output(), &place, Instant::now(), screen);
    log.say(Level::Always, "UPDATE >> /a");
    log.say(Level::Warn, "one\ntwo");
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        "(dry run) UPDATE >> /a\n(WARN):(dry run) one\n(WARN):(dry run) two\n"
    );
}

#[test]
fn secrets_are_masked_on_screen_in_the_file_and_in_what_is_kept() {
    let desk = Desk::new(&flags(), &Output { debug: true, ..output() });
    desk.log.add_secret(&Secret::new("hunter2"));
    desk.log.say(Level::Debug, "env TOKEN=hunter2 sh");
    desk.log.problem(Level::Error, None, None, "login with hunter2 failed");
    let kept = format!("{:?}{:?}", desk.log.lines(), desk.log.tally());
    for text in [desk.out.text(), desk.err.text(), desk.file(), kept] {
        assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn problems_are_counted_with_side_and_path() {
    let desk = Desk::new(&flags(), &output());
    let path = RelPath::new("a\nb").unwrap();
    desk.log.problem(Level::Warn, Some(Side::Target), Some(&path), "cannot do: it is so");
    assert_eq!(desk.err.text(), "(WARN):target: a\\nb: cannot do: it is so\n");
    assert_eq!(desk.log.worst(), Some(Level::Warn));
    desk.log.say(Level::Error, "no path");
    let tally = desk.log.tally();
    assert_eq!((tally.errors, tally.warnings, tally.problems.len()), (1, 1, 2));
    assert_eq!(tally.problems[0].path, Some(path));

    desk.log.close_run(Some(Level::Error));
    assert!(desk.err.text().ends_with("(ERROR):osync finished with errors.\n"));
    assert_eq!(desk.log.tally().errors, 1, "the closing line does not count");
    desk.log.tell(Event::Remark(Level::Error, "cannot send mail"));
    assert!(desk.err.text().ends_with("(ERROR):cannot send mail\n"));
    assert_eq!(desk.log.tally().errors, 1, "nor do remarks");
    desk.log.begin_run();
    assert_eq!((desk.log.worst(), desk.log.lines()), (None, vec![]));
}

#[test]
fn the_last_thousand_lines_are_kept() {
    let desk = Desk::new(&flags(), &output());
    desk.log.say_all(Level::Always, &mut |line| {
        (0..1500).for_each(|n| line(&format!("line {n}")));
    });
    let lines = desk.log.lines();
    assert_eq!((lines.len(), lines[0].as_str()), (1000, "line 500"));
    assert_eq!(desk.file().lines().count(), 1500);
}

#[test]
fn a_reader_that_goes_away_stops_nothing() {
    let broken = || OutputStream { to: Box::new(Broken), colors: true };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o.log");
    let place = LogPlace { wanted: Some(path.clone()), ..LogPlace::default() };
    let screen = Screen { out: broken(), err: broken(), progress: None };
    let log = Log::with_screen(&flags(), &output(), &place, Instant::now(), screen);
    say_everything(&log);
    assert!(std::fs::read_to_string(path).unwrap().ends_with("(CRITICAL):critical\n"));
}

#[test]
fn a_log_that_cannot_be_written_any_more_is_one_warning() {
    let (out, err) = (Shared::default(), Shared::default());
    let stream = |to: &Shared| OutputStream { to: Box::new(to.clone()), colors: false };
    let place = LogPlace { wanted: Some("/dev/full".into()), ..LogPlace::default() };
    let screen = Screen { out: stream(&out), err: stream(&err), progress: None };
    let log = Log::with_screen(&flags(), &output(), &place, Instant::now(), screen);
    log.say(Level::Notice, "one");
    log.say(Level::Notice, "two");
    assert_eq!(out.text(), "one\ntwo\n");
    assert_eq!(err.text().matches("cannot write the log file /dev/full any more").count(), 1);
    assert_eq!(log.tally().warnings, 1);
}

#[test]
fn lengths_of_time_are_spelled_for_people() {
    for (secs, text) in [(5, "5 s"), (65, "1 min 5 s"), (3725, "1 h 2 min")] {
        assert_eq!(spell(Duration::from_secs(secs)), text);
    }
}
