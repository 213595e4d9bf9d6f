//! The code blocks of a page of `docs/`, run one after the other in a directory that stands for
//! the whole machine.
//!
//! | block | what happens |
//! |---|---|
//! | ```` ```sh run ````, perhaps with `status=N` | the shell runs it; it ends with 0, or with N |
//! | ```` ```text ```` right behind one | all that it printed, with `…` for what varies; dates, times of day and durations vary by themselves, and blanks do not count |
//! | ```` ```KIND file=PATH ```` | a file is written |
//! | `<!-- run` … `-->` | the shell runs it, and the reader does not see it |
//!
//! Paths below [`PLACES`] lie in the directory, and host names that end in `.example` lead to an
//! sshd of this machine, where the user who runs the tests logs in, whatever user is named.
#![allow(dead_code)]

use super::sandbox::Sandbox;
use super::sshd::Sshd;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

/// What a page may use of a machine.
const PLACES: [&str; 8] =
    ["/srv", "/data", "/export", "/mnt", "/etc/osync", "/var/log", "/home", "/usr/local/bin"];

/// Lets a host name lead to the server of the page, and leaves the user's name out.
const SSH: &str = r#"#!/bin/sh
count=$#
while [ "$count" -gt 0 ]; do
    word=$1
    shift
    count=$((count - 1))
    case $word in
    -l)
        shift
        count=$((count - 1))
        continue
        ;;
    *@*.example) word=${word#*@} ;;
    esac
    set -- "$@" "$word"
done
exec /usr/bin/ssh -F ROOT/ssh_config "$@"
"#;

/// Runs all blocks of a page, and compares what they print with what it says they print.
#[track_caller]
pub fn play(page: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(path).unwrap();
    let machine = Machine::new(&text);
    let mut printed: Option<String> = None;
    for block in blocks(&text) {
        let place = format!("docs/{page}:{}", block.line);
        match block.kind {
            Kind::File(path) => machine.write(&path, &block.text),
            Kind::Run(status) => printed = Some(machine.run(&place, &block.text, status)),
            Kind::Hidden => drop(machine.run(&place, &block.text, 0)),
            Kind::Output => {
                let Some(printed) = printed.take() else { continue };
                let wanted: Vec<&str> = block.text.lines().collect();
                let found: Vec<&str> = printed.lines().collect();
                assert!(
                    are_alike(&wanted, &found),
                    "{place}: other output than the page has:\n{printed}"
                );
            }
            Kind::Other => printed = None,
        }
    }
}

/// A directory that stands for a machine, and perhaps an sshd that stands for the others.
struct Machine {
    sandbox: Sandbox,
    _server: Option<Sshd>,
}

impl Machine {
    fn new(page: &str) -> Self {
        let sandbox = Sandbox::new();
        for place in PLACES {
            fs::create_dir_all(sandbox.path(&place[1..])).unwrap();
        }
        fs::create_dir_all(sandbox.path("home/me/.ssh")).unwrap();
        let bin = sandbox.path("usr/local/bin");
        symlink(crate::support::osync(), bin.join("osync")).unwrap();
        symlink("osync", bin.join("osync.sh")).unwrap();
        let server = page.contains(".example").then(|| {
            let root = sandbox.root().display();
            let server = Sshd::start(&format!(
                "AuthorizedKeysFile {root}/home/me/.ssh/authorized_keys {root}/key.pub\n\
                 SetEnv PATH={root}/usr/local/bin:/usr/bin:/bin HOME={root}/home/me SHLVL=2"
            ));
            fs::copy(server.key().with_extension("pub"), sandbox.path("key.pub")).unwrap();
            let config = format!(
                "Host *\nHostName 127.0.0.1\nPort {}\nIdentityFile {}\nIdentitiesOnly yes\n\
                 UserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n",
                server.port,
                server.key().display(),
                server.path("known_hosts").display()
            );
            fs::write(sandbox.path("ssh_config"), config).unwrap();
            fs::write(bin.join("ssh"), SSH.replace("ROOT", &root.to_string())).unwrap();
            fs::set_permissions(bin.join("ssh"), Permissions::from_mode(0o755)).unwrap();
            server
        });
        Machine { sandbox, _server: server }
    }

    /// A text of the page with paths of the machine as they are here.
    fn localised(&self, text: &str) -> String {
        let root = self.sandbox.root().to_str().unwrap();
        let mut out = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let is_within = out.ends_with(|c: char| c.is_alphanumeric() || "._-~".contains(c));
            let is_place = PLACES.iter().any(|place| {
                let after = rest.strip_prefix(place);
                after.is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric()))
            });
            if is_place && !is_within {
                out.push_str(root);
            }
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
        out
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.localised(path), self.localised(text)).unwrap();
    }

    /// All that it prints, with paths as the page has them.
    #[track_caller]
    fn run(&self, place: &str, script: &str, status: i32) -> String {
        let bin = self.sandbox.path("usr/local/bin");
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let script = format!("exec 2>&1\n{}", self.localised(script));
        let shell = self.sandbox.program("sh").args(["-eu", "-c", &script]);
        let home = self.sandbox.path("home/me");
        let shell = shell.env("PATH", path).env("HOME", &home).env("REMOTE_OSYNC", "auto");
        let run = shell.dir(&home).run();
        assert_eq!(run.status, Some(status), "{place}: {run}");
        run.stdout.replace(self.sandbox.root().to_str().unwrap(), "")
    }
}

/// What a block is for.
enum Kind {
    /// The shell runs it, and it ends with this status.
    Run(i32),
    /// The same, and the reader does not see it.
    Hidden,
    /// It is written to a file.
    File(String),
    /// What the block before it printed, if that was run.
    Output,
    /// The reader's alone.
    Other,
}

struct Block {
    kind: Kind,
    text: String,
    /// Of the page, from 1.
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, head)) = lines.next() {
        let (kind, end) = match head.strip_prefix("```") {
            _ if head == "<!-- run" => (Kind::Hidden, "-->"),
            Some(info) => (kind_of(info), "```"),
            None => continue,
        };
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != end);
        let text = body.map(|line| format!("{line}\n")).collect();
        found.push(Block { kind, text, line: at + 1 });
    }
    found
}

/// The kind of a block behind three backquotes and these words.
fn kind_of(info: &str) -> Kind {
    let words: Vec<&str> = info.split(' ').collect();
    match words.as_slice() {
        ["text"] => Kind::Output,
        ["sh", "run"] => Kind::Run(0),
        ["sh", "run", status] => {
            Kind::Run(status.strip_prefix("status=").unwrap().parse().unwrap())
        }
        [_, file] if file.starts_with("file=") => Kind::File(file["file=".len()..].to_owned()),
        _ => Kind::Other,
    }
}

/// Whether lines are as a page has them. One that is only `…` stands for any number.
fn are_alike(wanted: &[&str], found: &[&str]) -> bool {
    match (wanted.split_first(), found.split_first()) {
        (None, _) => found.is_empty(),
        (Some((&"…", rest)), _) => (0..=found.len()).any(|skip| are_alike(rest, &found[skip..])),
        (Some((one, wanted)), Some((other, found))) => {
            is_alike(&settled(one), &settled(other)) && are_alike(wanted, found)
        }
        (Some(_), None) => false,
    }
}

/// Whether a line is as a page has it, with `…` for anything.
fn is_alike(wanted: &str, found: &str) -> bool {
    let mut parts = wanted.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = found.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// A line without what is another one each time: dates, times of day, seconds; and with one blank
/// between words.
fn settled(line: &str) -> String {
    let words: Vec<String> = line.split_whitespace().map(without_digits_of_time).collect();
    words.join(" ")
}

fn without_digits_of_time(word: &str) -> String {
    let bare = word.trim_matches(|c: char| "(),;:.".contains(c));
    let shape: String = bare.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let is_duration =
        shape.strip_suffix(".0").is_some_and(|whole| whole.trim_matches('0').is_empty());
    match shape.as_str() {
        "0000-00-00" | "00:00" | "00:00:00" => word.replace(bare, &shape),
        _ if is_duration => word.replace(bare, "0.0"),
        _ => word.to_owned(),
    }
}

#[test]
fn output_is_alike_where_only_times_and_dots_differ() {
    for (page, printed, alike) in [
        ("a\n", "a\n", true),
        ("a\n", "b\n", false),
        ("a\n", "a\nb\n", false),
        ("a\n…\nd\n", "a\nb\nc\nd\n", true),
        ("…\nd\n", "d\n", true),
        ("a … c … e\n", "a b c d e\n", true),
        ("a … c\n", "a b\n", false),
        ("…b\n", "abab\n", true),
        ("2 files in 0.1 s\n", "2  files in 12.7 s\n", true),
        ("2 files in 0.1 s\n", "3 files in 0.1 s\n", false),
        ("(since 2026-01-02 03:04:05)\n", "(since 2025-12-31 23:59:01)\n", true),
        ("4.2 KiB\n", "4 KiB\n", false),
    ] {
        let lines = |text: &'static str| text.lines().collect::<Vec<_>>();
        assert_eq!(are_alike(&lines(page), &lines(printed)), alike, "{page:?} {printed:?}");
    }
}

#[test]
fn paths_of_a_page_lie_in_the_sandbox_and_no_others_do() {
    let machine = Machine::new("");
    let root = machine.sandbox.root().to_str().unwrap();
    for (page, here) in [
        ("ls /srv/docs", "ls ROOT/srv/docs"),
        ("--target=ssh://me@nas//data/docs", "--target=ssh://me@nas/ROOT/data/docs"),
        ("\"/mnt\" /mount ~/srv x/srv /srvx", "\"ROOT/mnt\" /mount ~/srv x/srv /srvx"),
        ("cp /usr/bin/x /usr/local/bin/", "cp /usr/bin/x ROOT/usr/local/bin/"),
    ] {
        assert_eq!(machine.localised(page), here.replace("ROOT", root));
    }
}
