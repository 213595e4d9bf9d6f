//! What a run shows, logs and reports (spec 6).

use crate::support::sandbox::{Outcome, Run, Sandbox};
use crate::support::schema::check_report;
use crate::support::terminal;
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A changed tree on both sides, after a first run.
fn with_changes() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.a.make("f keep same\n f gone old\n f mode x\n f both one\n d dir\n f dir/deep text");
    let run = sandbox.sync(&[]);
    assert_eq!(run.status, Some(0), "{run}");
    sandbox.a.write("new from a", "12345", 1_600_000_000);
    sandbox.b.write("new\nline", "123", 1_600_000_000);
    sandbox.a.remove("gone");
    fs::set_permissions(sandbox.a.at("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.a.rename("dir/deep", "dir/moved");
    sandbox.a.write("both", "initiator's", 1_600_000_001);
    sandbox.b.write("both", "target's", 1_600_000_002);
    sandbox
}

/// The lines that a summary has after changes like those.
fn summary(sandbox: &Sandbox) -> Vec<String> {
    let (a, b) = (sandbox.a.root.display(), sandbox.b.root.display());
    vec![
        "Attributes only updates: INITIATOR << >> TARGET".into(),
        format!("UPDATE >> {b}/mode"),
        "File transfers and simple deletions: INITIATOR << >> TARGET (may include file ownership and timestamp attributes)".into(),
        format!("UPDATE >> {b}/new from a"),
        format!("UPDATE << {a}/both"),
        format!("UPDATE << {a}/new\\nline"),
        "File deletions: INITIATOR << >> TARGET".into(),
        format!("DELETE >> {b}/gone"),
        "File moves: INITIATOR << >> TARGET".into(),
        format!("MOVE >> {b}/dir/deep -> {b}/dir/moved"),
        "Initiator has 2 updates.".into(),
        "Target has 2 updates.".into(),
        "Initiator has 0 deletions.".into(),
        "Target has 1 deletions.".into(),
        "Initiator has 0 moves.".into(),
        "Target has 1 moves.".into(),
    ]
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let is_dir = path.symlink_metadata().unwrap().is_dir();
            if is_dir { dirs.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The text of every line without its prefix in seconds, which each must have.
fn without_prefix(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| {
            let rest = line.strip_prefix("TIME: ").unwrap_or_else(|| panic!("no prefix: {line}"));
            let (seconds, rest) = rest.split_once(" - ").unwrap();
            assert!(seconds.bytes().all(|b| b.is_ascii_digit()), "{line}");
            rest
        })
        .collect()
}

#[test]
fn a_run_says_what_it_is_and_how_it_ended() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let run = sandbox.quick().arg("--instance-id=tell me").run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stderr, "");
    let said = without_prefix(&run.stdout);
    assert!(said[0].contains(concat!("osync ", env!("CARGO_PKG_VERSION"))), "{run}");
    assert!(
        said[1].contains("[tell me]") && said[1].contains('@') && said[1].contains("PID"),
        "{run}"
    );
    assert_eq!(said.last(), Some(&"osync finished."));
    assert_eq!(sandbox.log(), run.stdout, "what is shown is logged");
    assert!(!run.stdout.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn the_last_line_tells_warnings_and_errors_apart() {
    let sandbox = Sandbox::new();
    let run = sandbox.quick().env("LOGFILE", "/dev/full").run();
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("(WARN):cannot write the log file /dev/full any more"), "{run}");
    assert!(run.stderr.ends_with("(WARN):osync finished with warnings.\n"), "{run}");
    let run = sandbox.quick().env("LOCAL_RUN_BEFORE_CMD", "false").run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.ends_with("(ERROR):osync finished with errors.\n"), "{run}");
    assert!(!run.stdout.contains("(ERROR)"), "{run}");
}

#[test]
fn flags_decide_what_is_shown() {
    let show = |args: &[&str]| {
        let sandbox = with_changes();
        fs::remove_file(sandbox.path("osync.log")).unwrap();
        let run = sandbox.sync(args);
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(run.stderr, "", "{args:?}");
        (run.stdout, sandbox.log(), summary(&sandbox))
    };

    let (shown, logged, _) = show(&["--silent", "--verbose"]);
    assert_eq!(shown, "");
    assert!(logged.contains("osync finished.") && logged.contains("(VERBOSE):"), "{logged}");

    let (shown, logged, _) = show(&["--errors-only"]);
    assert_eq!((shown, logged), (String::new(), String::new()));

    let (shown, _, _) = show(&["--no-prefix"]);
    assert!(!shown.contains("TIME:") && shown.ends_with("osync finished.\n"), "{shown}");

    let (shown, logged, summary) = show(&["--errors-only", "--summary", "--no-prefix"]);
    let (last, rest) = lines(&shown).split_last().map(|(l, r)| (*l, r.to_vec())).unwrap();
    assert_eq!(rest, summary);
    assert!(
        last.starts_with("Transferred 11 bytes to the initiator and 5 bytes to the target in "),
        "{last}"
    );
    assert_eq!(logged, shown);
}

#[test]
fn a_dry_run_tells_the_whole_plan_marks_every_line_and_changes_nothing() {
    let sandbox = with_changes();
    let everything = |dir: &Path| {
        let mut all: Vec<_> = files(dir)
            .into_iter()
            .map(|path| {
                let meta = path.symlink_metadata().unwrap();
                (path.clone(), meta.modified().unwrap(), fs::read(&path).unwrap_or_default())
            })
            .collect();
        all.sort();
        all
    };
    let before = (everything(&sandbox.a.root), everything(&sandbox.b.root));
    let run = sandbox.sync(&["--dry", "--no-prefix"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!((everything(&sandbox.a.root), everything(&sandbox.b.root)), before);

    let mark = |line: &str| {
        let rest = line.strip_prefix("(dry run) ").unwrap_or_else(|| panic!("not marked: {line}"));
        rest.to_owned()
    };
    let said: Vec<String> = run.stdout.lines().map(mark).collect();
    let (a, b) = (sandbox.a.root.display(), sandbox.b.root.display());
    let mut expected = summary(&sandbox);
    expected.push("To be transferred: 11 bytes to the initiator and 5 bytes to the target.".into());
    expected.push("Conflicts: INITIATOR << >> TARGET".into());
    expected.push(format!("{a}/both << >> {b}/both"));
    expected.push("There is 1 conflict.".into());
    let start = said.iter().position(|line| *line == expected[0]).unwrap();
    assert_eq!(said[start..start + expected.len()], expected, "{run}");
    let verdict = &said[start + expected.len()];
    assert!(verdict.contains("conflict on both: the target's version wins"), "{run}");
}

#[test]
fn conflicts_are_listed_when_asked_for() {
    let sandbox = with_changes();
    let run = sandbox.sync(&["--log-conflicts", "--errors-only", "--no-prefix"]);
    assert_eq!(run.status, Some(0), "{run}");
    let (a, b) = (sandbox.a.root.display(), sandbox.b.root.display());
    let expected = format!(
        "Conflicts: INITIATOR << >> TARGET\n{a}/both << >> {b}/both\nThere is 1 conflict.\n"
    );
    assert_eq!(run.stdout, expected, "{run}");

    let run = with_changes().sync(&["--verbose", "--no-prefix"]);
    assert!(run.stdout.contains("\nconflict on both: the target's version wins"), "{run}");
    assert!(run.stdout.contains("the initiator's version is kept in "), "{run}");
}

#[test]
fn secrets_appear_nowhere_in_what_a_run_writes() {
    let sandbox = Sandbox::new();
    sandbox.a.make("f one x");
    let secrets = ["TokenSecret91", "smtp'Secret92", "Secret92"];
    let config = sandbox.config(
        "secret.conf",
        "_REMOTE_TOKEN=TokenSecret91\n\
         SMTP_PASSWORD=\"smtp'Secret92\"\nSMTP_USER=me\n\
         DESTINATION_MAILS=a@example.org\nSMTP_SERVER=127.0.0.1\nSMTP_PORT=1\n\
         ALWAYS_SEND_MAILS=yes\n\
         LOCAL_RUN_BEFORE_CMD='echo \"TokenSecret91 smtp'\\''Secret92\"; exit 1'\n",
    );
    for debug in ["yes", "no"] {
        let report = sandbox.path("report.json");
        let run = sandbox
            .osync()
            .arg(&config)
            .args(["--verbose", "--summary", "--report"])
            .arg(&report)
            .env("_DEBUG", debug)
            .env("METRICS_FILE", sandbox.path("metrics.prom"))
            .run();
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains("*** ***"), "the hook's words are masked: {run}");
        assert!(report.exists() && sandbox.path("metrics.prom").exists());
        let written = files(sandbox.root()).into_iter().filter(|path| *path != config);
        let texts = written.map(|path| (path.clone(), fs::read(&path).unwrap_or_default()));
        let shown = [("stdout", &run.stdout), ("stderr", &run.stderr)];
        let shown = shown.map(|(name, text)| (name.into(), text.clone().into_bytes()));
        for (place, text) in texts.chain(shown) {
            let text = String::from_utf8_lossy(&text);
            for secret in secrets {
                assert!(!text.contains(secret), "{secret} in {}:\n{text}", place.display());
            }
        }
    }
}

#[test]
fn a_report_for_machines_is_written() {
    let sandbox = with_changes();
    let file = sandbox.path("report.json");
    let report = |run: Outcome| -> Value {
        assert!(file.exists(), "{run}");
        let report = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        check_report(&report);
        report
    };
    let args = |run: Run| run.arg("--report").arg(&file);

    let dry = report(args(sandbox.quick()).arg("--dry").run());
    let value = report(args(sandbox.quick()).run());
    for (pointer, expected) in [
        ("/task", json!("quicksync_task")),
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
        ("/status", json!(0)),
        ("/result", json!("success")),
        ("/complete", json!(true)),
        ("/initiator/replica", json!(sandbox.a.root)),
        ("/initiator/updates", json!(2)),
        ("/initiator/bytes", json!(11)),
        ("/target/updates", json!(1)),
        ("/target/metadata", json!(1)),
        ("/target/deletions", json!(1)),
        ("/target/moves", json!(1)),
        ("/target/bytes", json!(5)),
        ("/conflict_count", json!(1)),
        ("/conflicts/0/path", json!("both")),
        ("/conflicts/0/winner", json!("target")),
        ("/problems", json!([])),
    ] {
        assert_eq!(value.pointer(pointer), Some(&expected), "{pointer} in {value:#}");
        if pointer.starts_with("/target") {
            assert_eq!(dry.pointer(pointer), Some(&expected), "{pointer} in {dry:#}");
        }
    }
    assert_eq!((&value["dry_run"], &dry["dry_run"]), (&json!(false), &json!(true)));

    let failed = report(args(sandbox.quick()).env("LOCAL_RUN_BEFORE_CMD", "exit 7").run());
    assert_eq!((&failed["status"], &failed["result"]), (&json!(1), &json!("error")));
    assert_eq!(failed.pointer("/problems/0/level"), Some(&json!("error")));
    assert_eq!(failed.pointer("/problem_count/errors"), Some(&json!(1)));
    assert_eq!(failed.pointer("/target/updates"), Some(&json!(0)));
}

#[test]
fn a_run_that_cannot_begin_is_reported_too() {
    let sandbox = Sandbox::new();
    fs::remove_dir(&sandbox.b.root).unwrap();
    let file = sandbox.path("report.json");
    let run = sandbox.quick().arg("--report").arg(&file).run();
    assert_eq!(run.status, Some(1), "{run}");
    let value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    check_report(&value);
    assert_eq!((&value["status"], &value["complete"]), (&json!(1), &json!(false)), "{value:#}");
    assert_eq!(value.pointer("/problems/0/level"), Some(&json!("critical")), "{value:#}");
}

#[test]
fn metrics_are_written_and_remember_the_last_success() {
    let sandbox = with_changes();
    let file = sandbox.path("osync.prom");
    let metrics = |hook: &str| {
        let run =
            sandbox.quick().env("METRICS_FILE", &file).env("LOCAL_RUN_BEFORE_CMD", hook).run();
        (run.status, fs::read_to_string(&file).unwrap())
    };
    let value = |text: &str, metric: &str| -> f64 {
        let found = text.lines().find_map(|line| line.strip_prefix(&format!("{metric} ")));
        found.unwrap_or_else(|| panic!("no {metric} in {text}")).parse().unwrap()
    };
    let task = "{instance=\"quicksync_task\"}";
    let (status, good) = metrics("true");
    assert_eq!(status, Some(0), "{good}");
    assert_eq!(
        value(
            &good,
            "osync_updates_total_last_run{instance=\"quicksync_task\",side=\"initiator\"}"
        ),
        2.0
    );
    assert_eq!(
        value(&good, "osync_deletions_total_last_run{instance=\"quicksync_task\",side=\"target\"}"),
        1.0
    );
    assert_eq!(value(&good, &format!("osync_conflicts_total_last_run{task}")), 1.0);
    let success = format!("osync_last_success_timestamp_seconds{task}");
    assert!(value(&good, &success) > 1.6e9);

    let (status, bad) = metrics("false");
    assert_eq!(status, Some(1), "{bad}");
    assert_eq!(value(&bad, &format!("osync_exit_status{task}")), 1.0);
    assert_eq!(value(&bad, &success), value(&good, &success));
    let ran = format!("osync_last_run_timestamp_seconds{task}");
    assert!(value(&bad, &ran) > value(&good, &ran));
}

#[test]
fn a_report_that_cannot_be_written_is_a_warning() {
    let sandbox = Sandbox::new();
    let run = sandbox.sync(&["--report", "/no/such/dir/report.json"]);
    let file = "(WARN):cannot write the report file /no/such/dir/report.json";
    let cause = "No such file or directory (os error 2)";
    assert!(run.stderr.contains(&format!("{file}: {cause}\n")), "{run}");
    assert_eq!(run.status, Some(2), "{run}");
}

#[test]
fn a_reader_that_goes_away_does_not_disturb_a_run() {
    let sandbox = with_changes();
    let script = format!(
        "{{ '{}' --initiator='{}' --target='{}' --summary; echo $? > status; }} 2>&1 | true",
        crate::support::osync(),
        sandbox.a.root.display(),
        sandbox.b.root.display()
    );
    sandbox.program("sh").args(["-c", &script]).run();
    assert_eq!(fs::read_to_string(sandbox.path("status")).unwrap(), "0\n", "{}", sandbox.log());
    assert!(sandbox.log().ends_with("osync finished.\n"), "{}", sandbox.log());
    assert_eq!(sandbox.a.contents(), sandbox.b.contents());
}

#[test]
fn long_words_of_a_child_are_cut_with_a_note() {
    let sandbox = Sandbox::new();
    let hook = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo \"word $i\"; done; exit 1";
    let run = sandbox.quick().env("LOCAL_RUN_BEFORE_CMD", hook).arg("--no-prefix").run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(
        run.stderr.contains("\n(ERROR):word 1\n") && run.stderr.contains("\n(ERROR):word 1000\n")
    );
    assert!(!run.stderr.contains("word 500\n") && run.stderr.contains("bytes left out"), "{run}");
}

/// Runs the program on a terminal of 80 columns and returns all that it wrote there.
fn on_terminal(run: Run) -> String {
    on_terminal_of(80, run)
}

fn on_terminal_of(columns: u16, run: Run) -> String {
    let (mut master, slave) = terminal::open(columns);
    let mut command = run.env("TERM", "xterm").into_command();
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command); // it holds the other end
    let mut shown = Vec::new();
    let _ = master.read_to_end(&mut shown); // ends with an error when the program does
    child.wait().unwrap();
    String::from_utf8(shown).unwrap()
}

#[test]
fn a_terminal_gets_colours_and_the_log_never() {
    let sandbox = Sandbox::new();
    let failing = || sandbox.quick().env("LOCAL_RUN_BEFORE_CMD", "exit 3");
    let shown = on_terminal(failing());
    assert!(shown.contains("TIME: 0 - \x1b[31mthe local command before the run"), "{shown}");
    assert!(!shown.contains("(ERROR)"), "a colour instead of a mark: {shown}");
    let plain = on_terminal(failing().env("NO_COLOR", "1"));
    assert!(plain.contains("TIME: 0 - (ERROR):the local command"), "{plain}");
    assert!(!plain.contains("\x1b[3"), "{plain}");
    assert!(!sandbox.log().contains('\x1b'), "{}", sandbox.log());
}

#[test]
fn a_terminal_shows_progress_unless_it_is_not_wanted() {
    for (args, wanted) in [
        (&[][..], true),
        (&["--non-interactive"], false),
        (&["--silent"], false),
        (&["--errors-only"], false),
    ] {
        let sandbox = Sandbox::new();
        // slow enough to be seen: two seconds
        fs::write(sandbox.a.at("big"), vec![7; 400_000]).unwrap();
        let shown = on_terminal(sandbox.quick().args(args).env("BANDWIDTH", "200"));
        assert_eq!(shown.contains(">> target"), wanted, "{args:?}: {shown}");
        assert_eq!(shown.contains("/1 files"), wanted, "{args:?}: {shown}");
        assert!(sandbox.b.has("big") && !sandbox.log().contains("files"), "{}", sandbox.log());
    }
}

#[test]
fn progress_fits_a_narrow_terminal() {
    for (columns, shown) in [(40, ">> target"), (50, ">> target")] {
        let sandbox = Sandbox::new();
        fs::write(
            sandbox.a.at("a name that is longer than the terminal is wide, by far"),
            vec![7; 400_000],
        )
        .unwrap();
        let run = sandbox.quick().arg("--no-prefix").env("BANDWIDTH", "200");
        let text = on_terminal_of(columns, run);
        // drawings begin where the one before is erased
        let drawn: Vec<&str> = text.split("\x1b[J").skip(1).collect();
        let progress: Vec<&&str> = drawn.iter().filter(|text| text.contains(shown)).collect();
        assert!(progress.iter().any(|text| text.contains("% 0/1 files")), "{text}");
        assert!(
            progress.iter().any(|text| text.contains("...") && text.contains("by far")),
            "{text}"
        );
        let lines = progress.iter().flat_map(|text| text.split('\r').next().map(str::trim_end));
        for line in lines {
            assert!(line.chars().count() <= usize::from(columns), "{line:?}: {text}");
            assert!(!line.contains("[]"), "{line:?}");
        }
    }
}

#[test]
fn a_long_run_says_now_and_then_that_it_is_alive() {
    let sandbox = Sandbox::new();
    for (every, heard, content) in [("1", true, 7), ("0", false, 8)] {
        fs::write(sandbox.a.at("big"), vec![content; 600_000]).unwrap();
        let run = sandbox.quick().env("BANDWIDTH", "200").env("KEEP_LOGGING", every).run();
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(run.stdout.contains("still running after "), heard, "{run}");
        fs::remove_file(sandbox.a.at("big")).unwrap();
    }
}

#[test]
fn the_name_of_a_report_may_hold_the_task_and_the_day() {
    let sandbox = Sandbox::new();
    sandbox.a.make(r"f a\xff x");
    let made = |name: &str| sandbox.path(format!("tmp/{name}"));
    let before = chrono::Local::now().format("%Y-%m-%d").to_string();
    let named = sandbox.path("tmp/%i of %d, 5%% %x.json");
    let run = sandbox.quick().env("REPORT", &named).run();
    let after = chrono::Local::now().format("%Y-%m-%d").to_string();
    assert_eq!(run.status, Some(0), "{run}");
    let name = |day: &str| made(&format!("quicksync_task of {day}, 5% %x.json"));
    assert!(name(&before).exists() || name(&after).exists());
    let run = sandbox.quick().env("REPORT", &named).arg("--report").arg(made("flag")).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(made("flag").exists(), "the flag counts more");
}

/// A line as it would be with other numbers, times, units, users and hosts.
fn without_particulars(line: &str) -> String {
    let mut out = String::new();
    let mut is_number = false;
    for c in line.chars() {
        let goes_on = is_number && (c == '.' || c == ',');
        if c.is_ascii_digit() && !is_number {
            out.push('#');
        } else if !c.is_ascii_digit() && !goes_on {
            out.push(c);
        }
        is_number = c.is_ascii_digit() || goes_on;
    }
    for unit in ["bytes", "byte", "KiB", "MiB"] {
        out = out.replace(&format!("# {unit}"), "# BYTES");
    }
    match (out.find("] launched as "), out.find(" (PID")) {
        (Some(from), Some(to)) => format!("{}] launched as SOMEBODY{}", &out[..from], &out[to..]),
        _ => out,
    }
}

/// All that some runs print whose replicas are called as in docs/output.md.
fn lines_of_real_runs() -> String {
    let sandbox = Sandbox::new();
    // a user whom not every file can be read by
    let user = rustix::process::geteuid().is_root().then_some(65534);
    let sync = |args: &[&str]| {
        let task = sandbox.quick().arg("--instance-id=docs").args(args);
        let run = match user {
            Some(id) => task.user(id).env("LOGFILE", "/dev/null").run(),
            None => task.run(),
        };
        let (a, b) = (sandbox.a.root.display(), sandbox.b.root.display());
        let text = format!("{}{}", run.stdout, run.stderr);
        text.replace(&a.to_string(), "/initiator").replace(&b.to_string(), "/target")
    };
    let give_away = || {
        let Some(id) = user else { return };
        for path in ["a", "b", "home", "tmp"] {
            let root = sandbox.path(path);
            let all = sandbox.program("chown").arg("-R").arg(format!("{id}:{id}")).arg(root).run();
            assert_eq!(all.status, Some(0), "{all}");
        }
    };
    sandbox.a.make("f script.sh x\n f old text\n f a one\n f plan.txt p");
    sandbox.a.make("f a.txt two\n d photos");
    give_away();
    sync(&[]);
    let mut said = String::new();
    // the summary, with --dry first
    fs::set_permissions(sandbox.a.at("script.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.a.make("f new n");
    sandbox.b.make("f other o");
    sandbox.a.remove("old");
    sandbox.a.rename("a", "b");
    give_away();
    said.push_str(&sync(&["--dry"]));
    said.push_str(&sync(&["--summary"]));
    // what is told without a flag
    sandbox.a.make("d old\n f old/report.txt r");
    give_away();
    sync(&[]);
    sandbox.a.remove("old/report.txt");
    sandbox.a.rename("a.txt", "b.txt");
    sandbox.a.make("f one 1\n f two 2");
    sandbox.b.make("f three 3\n f four 4");
    give_away();
    said.push_str(&sync(&[]));
    // a conflict
    sandbox.a.write("plan.txt", "mine", 1_700_000_000);
    sandbox.b.write("plan.txt", "theirs", 1_700_000_001);
    give_away();
    said.push_str(&sync(&["--log-conflicts"]));
    // what cannot be read
    sandbox.b.make("f photos/x.jpg x");
    give_away();
    let closed = fs::Permissions::from_mode(0o000);
    fs::set_permissions(sandbox.b.at("photos/x.jpg"), closed).unwrap();
    said.push_str(&sync(&[]));
    said
}

#[test]
fn every_line_that_the_documentation_shows_is_one_of_a_real_run() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/output.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = page.split("```").skip(1).step_by(2);
    let of_runs: Vec<&str> =
        blocks.filter(|block| !block.contains("logrotate")).flat_map(str::lines).collect();
    let shown: Vec<String> =
        of_runs.into_iter().filter(|line| !line.is_empty()).map(without_particulars).collect();
    assert!(shown.len() > 25, "{shown:#?}");
    let said = lines_of_real_runs();
    let real: Vec<String> = said
        .lines()
        .flat_map(|line| {
            let line = without_particulars(line);
            // the page shows what a summary or list of conflicts has without its prefix
            let bare = line.strip_prefix("TIME: # - ").unwrap_or(&line).to_owned();
            [line, bare]
        })
        .collect();
    for line in shown {
        assert!(real.contains(&line), "nothing prints {line:?}:\n{said}");
    }
}
