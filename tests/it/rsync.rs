//! Tests of: what we rely on rsync for (spec 5, "rsync calls"; spec 4, "Overwriting"), with
//! the installed rsync, here and through a remote shell that stays on this machine.

use crate::support::ear::Ear;
use crate::support::installed_rsync::{assert_went_on, may_write_through_links};
use crate::support::trees;
use osync::testing::config;
use osync::testing::process::{Stop, StopReason};
use osync::testing::report::Level;
use osync::testing::rsync::{
    CallContext, End, Finished, ListOutcome, OnProgress, Progress, Purpose, RemoteEnd, Transfer,
    UnknownOptions, fits, transfer, visible,
};
use osync::testing::tree::{RelPath, Side};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;

/// Two directories and a place for backups.
struct Bench {
    dir: TempDir,
    settings: config::TransferSettings,
    preserve: config::Preserve,
    ear: Ear,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("osync-rsync-").tempdir().unwrap();
        for name in ["s", "d", "backup"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let settings = config::TransferSettings {
            executable: "rsync".into(),
            remote_path: None,
            bandwidth: 0,
            compress: true,
            partial: false,
            delta_copies: true,
            delta_copies_asked: false,
            optional_args: Vec::new(),
            stats: false,
        };
        let preserve = config::Preserve::USUAL;
        Bench { dir, settings, preserve, ear: Ear::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn local(&self, name: &str) -> End {
        End::Local { root: self.path(name) }
    }

    /// The same directory behind a remote shell that runs its command here.
    fn remote(&self, name: &str) -> End {
        let shell = self.script("remote shell", "shift 4; exec sh -c \"$*\"");
        End::Remote(RemoteEnd {
            shell: vec![shell.into(), OsString::new()], // an empty word, to see it arrive
            env: Vec::new(),
            destination: "user@host".into(),
            root: self.path(name),
            rsync_path: "env LC_ALL=C rsync".into(),
        })
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// rsync as a user who is not root: the same for root and for anybody else.
    fn as_user(&mut self) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let script = "exec setpriv --reuid=65534 --regid=65534 --clear-groups rsync \"$@\"";
        self.settings.executable = self.script("rsync as nobody", script).to_str().unwrap().into();
        for entry in [&self.path(""), &self.path("s"), &self.path("d")] {
            fs::set_permissions(entry, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let status = std::process::Command::new("chown")
            .args(["-R", "65534:65534", "s", "d"])
            .current_dir(self.dir.path())
            .status();
        assert!(status.unwrap().success());
    }

    fn send(&self, purpose: Purpose, paths: &[&str]) -> Finished {
        let (source, destination) = (self.local("s"), self.local("d"));
        self.call(&plain(purpose, &source, &destination), paths)
    }

    fn call(&self, call: &Transfer<'_>, paths: &[&str]) -> Finished {
        self.call_with(call, paths, &Stop::new(), &|_, _| ())
    }

    fn call_with(
        &self,
        call: &Transfer<'_>,
        paths: &[&str],
        stop: &Stop,
        progress: &OnProgress<'_>,
    ) -> Finished {
        let paths = paths.iter().map(|path| RelPath::new(*path).unwrap());
        transfer(self.context(stop), call, paths, progress).unwrap()
    }

    fn context<'a>(&'a self, stop: &'a Stop) -> CallContext<'a> {
        let Bench { settings, preserve, ear, .. } = self;
        CallContext { settings, preserve, stop, reporter: ear }
    }

    fn make(&self, name: &str, text: &str) {
        trees::make(&self.path(name), text);
    }

    /// A number of bytes of rsync's statistics.
    fn statistic(&self, name: &str) -> u64 {
        let said = self.ear.all();
        let line = said.iter().rev().find_map(|(_, text)| text.strip_prefix(name)).unwrap();
        line.trim_matches([':', ' ']).trim_end_matches(" bytes").parse().unwrap()
    }

    /// All that was said, a line each.
    fn said(&self) -> String {
        self.ear.all().iter().map(|(_, text)| format!("{text}\n")).collect()
    }

    fn contents(&self, name: &str) -> String {
        trees::contents(&trees::read(&self.path(name)))
    }
}

static NOTHING_LACKS: UnknownOptions = UnknownOptions::new();

fn plain<'a>(purpose: Purpose, source: &'a End, destination: &'a End) -> Transfer<'a> {
    Transfer {
        purpose,
        source,
        destination,
        to: Side::Target,
        rules: &[],
        backup_dir: None,
        partial_dir: None,
        resumes: false,
        is_listed_first: false,
        makes_holes: false,
        shows_progress: true,
        lacking: &NOTHING_LACKS,
    }
}

fn with_backup<'a>(bench: &Bench, source: &'a End, destination: &'a End) -> Transfer<'a> {
    let backup_dir = Some(bench.path("backup"));
    Transfer { backup_dir, ..plain(Purpose::Content, source, destination) }
}

#[test]
fn any_name_goes_through_here_and_behind_a_remote_shell_both_ways() {
    let names: Vec<Vec<u8>> = [
        &b"#comment"[..],
        b";comment",
        b"-dash",
        b" space ",
        b"n\new\nlines\r\t",
        b"\\#012",
        b"*",
        b"[ab]",
        b"?",
        b"$(touch hit)",
        b"`id`",
        b"it's",
        b"\"q\"",
        b"a -> b",
        b"\xff\xfe\x01",
        b"~",
        b"host:path",
        b".",
        b"\xe2\x80\xae",
    ]
    .iter()
    .filter(|name| ***name != b"."[..])
    .map(|name| [&b"dir "[..], name, b"/", name].concat())
    .collect();
    for (source, destination) in [(false, false), (false, true), (true, false)] {
        let bench = Bench::new();
        for name in &names {
            let path = trees::at(&bench.path("s"), name);
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let end = |remote, name| if remote { bench.remote(name) } else { bench.local(name) };
        let (source, destination) = (end(source, "s"), end(destination, "d"));
        let paths = names.iter().flat_map(|name| {
            let path = RelPath::new(name.clone()).unwrap();
            [path.parent().unwrap(), path]
        });
        let finished = transfer(
            bench.context(&Stop::new()),
            &plain(Purpose::Content, &source, &destination),
            paths,
            &|_, _| (),
        )
        .unwrap();
        assert_eq!(finished.outcome, ListOutcome::Done, "{finished:?}");
        assert_eq!(bench.contents("d"), bench.contents("s"));
        assert_eq!(finished.progress.files as usize, names.len());
    }
}

#[test]
fn wildcards_in_the_roots_lead_nowhere_else() {
    for root in ["r*", "r[ab]", "r?", "b\\k*", "b\\k", "~", "$x", "it's a \"root\"", "n\nl"] {
        for push in [true, false] {
            let bench = Bench::new();
            for name in [root, "rx", "ra", "bk", "b\\kx"] {
                fs::create_dir(bench.path(name)).unwrap();
            }
            let (from, to) = if push { ("s", root) } else { (root, "d") };
            bench.make(from, "f file right");
            let (source, destination) = if push {
                (bench.local(from), bench.remote(to))
            } else {
                (bench.remote(from), bench.local(to))
            };
            let finished = bench.call(&plain(Purpose::Content, &source, &destination), &["file"]);
            assert_eq!(finished.outcome, ListOutcome::Done, "{root} {finished:?}");
            assert_eq!(bench.contents(to), bench.contents(from), "{root}");
        }
    }
}

#[test]
fn parents_that_are_not_listed_and_the_root_keep_their_attributes() {
    let bench = Bench::new();
    bench.make("s", "d dir 2000 700\nf dir/f new 3000 600");
    bench.make("d", "d dir 1000 755");
    fs::set_permissions(bench.path("s"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(bench.path("d"), fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(bench.send(Purpose::Content, &["dir/f"]).outcome, ListOutcome::Done);
    let mode = |name| fs::metadata(bench.path(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("d"), mode("d/dir"), mode("d/dir/f")), (0o750, 0o755, 0o600));
}

#[test]
fn nothing_is_deleted_and_only_what_is_listed_moves() {
    let bench = Bench::new();
    bench.make("s", "f dir/a 1\nf dir/b 2\nf c 3");
    bench.make("d", "f dir/x 4\nf y 5");
    assert_eq!(bench.send(Purpose::Content, &["dir", "dir/a"]).outcome, ListOutcome::Done);
    assert_eq!(
        bench.send(Purpose::Content, &[]).outcome,
        ListOutcome::Done,
        "an empty list is fine"
    );
    assert_eq!(bench.contents("d"), trees::normal("d dir\nf dir/a 1\nf dir/x 4\nf y 5"));
}

#[test]
fn what_vanished_on_the_source_is_no_error() {
    let bench = Bench::new();
    bench.make("s", "f a 1\nf b 2");
    for purpose in [Purpose::Content, Purpose::Subtrees] {
        let finished = bench.send(purpose, &["a", "gone", "gone/below", "nowhere/at/all", "b"]);
        assert_eq!(finished.outcome, ListOutcome::Done, "{purpose:?}");
    }
    assert_eq!(bench.contents("d"), bench.contents("s"));
}

#[test]
fn what_an_update_replaces_is_in_the_backup() {
    let bench = Bench::new();
    bench.make("s", "f p/f new\nl link new\nl file-to-link new\nf link-to-file new\nd file-to-dir");
    bench.make(
        "d",
        "f p/f old\nl link old\nf file-to-link old\nl link-to-file old\nf file-to-dir old",
    );
    let (source, destination) = (bench.local("s"), bench.local("d"));
    let call = with_backup(&bench, &source, &destination);
    let paths = ["p/f", "link", "file-to-link", "link-to-file", "file-to-dir"];
    assert_eq!(bench.call(&call, &paths).outcome, ListOutcome::Done);
    assert_eq!(bench.contents("d"), bench.contents("s"));
    let old = "f p/f old\nl link old\nf file-to-link old\nl link-to-file old\nf file-to-dir old";
    assert_eq!(bench.contents("backup"), trees::normal(&format!("d p\n{old}")));
    // only the last one is kept
    bench.make("s", "f p/f newer");
    assert_eq!(bench.call(&call, &["p/f"]).outcome, ListOutcome::Done);
    assert_eq!(fs::read(bench.path("backup/p/f")).unwrap(), b"new");
}

/// Not what we want, but what rsync does: a reason why it never works in `backup/` itself.
#[test]
fn a_backup_replaces_a_directory_of_its_name_with_all_it_holds() {
    let bench = Bench::new();
    bench.make("s", "f f new");
    bench.make("d", "f f old");
    bench.make("backup", "f f/precious kept");
    let (source, destination) = (bench.local("s"), bench.local("d"));
    let finished = bench.call(&with_backup(&bench, &source, &destination), &["f"]);
    assert_eq!(finished.outcome, ListOutcome::Done);
    assert_eq!(bench.contents("backup"), trees::normal("f f old"));
}

#[test]
fn the_longest_path_that_fits_is_transferred() {
    let bench = Bench::new();
    let (source, destination) = (bench.local("s"), bench.local("d"));
    let root = source.root().as_os_str().len();
    let of_length = |length: usize| {
        let bytes: Vec<u8> =
            (1..=length).map(|n| if n % 100 == 0 && n < length { b'/' } else { b'x' }).collect();
        RelPath::new(bytes).unwrap()
    };
    let path = of_length(4095 - root - 1);
    let roots = [source.root(), destination.root()];
    assert!(fits(&path, roots, None));
    assert!(!fits(&of_length(4095 - root), roots, None));
    let file = trees::at(source.root(), path.as_bytes());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "deep").unwrap();
    let text = std::str::from_utf8(path.as_bytes()).unwrap();
    let finished = bench.send(Purpose::Content, &[text]);
    assert_eq!(finished.outcome, ListOutcome::Done, "{finished:?}");
    assert_eq!(fs::read(trees::at(destination.root(), path.as_bytes())).unwrap(), b"deep");
}

#[test]
fn a_failed_path_is_named_with_its_cause_and_the_rest_of_the_list_is_done() {
    let mut bench = Bench::new();
    bench.make("s", "f closed/a new\nf open/b new");
    bench.make("d", "f closed/a old\nd closed - 555\nd open");
    bench.as_user();
    let finished = bench.send(Purpose::Content, &["closed/a", "open/b"]);
    assert_eq!(finished.outcome, ListOutcome::Partial, "{finished:?}");
    let [message] = &finished.messages[..] else { panic!("{finished:?}") };
    assert_eq!(message.path, Some(RelPath::new("closed/a").unwrap()));
    assert!(message.text.starts_with("permission denied"), "{message:?}");
    assert_eq!(fs::read(bench.path("d/open/b")).unwrap(), b"new");
}

#[test]
fn an_unwritable_directory_that_is_listed_is_opened_for_the_time_being() {
    let mut bench = Bench::new();
    bench.make("s", "f closed/a new\nf closed/b new\nd closed - 555");
    bench.make("d", "f closed/a old\nd closed - 555");
    bench.as_user();
    let finished = bench.send(Purpose::Content, &["closed", "closed/a", "closed/b"]);
    assert_eq!(finished.outcome, ListOutcome::Done, "{finished:?}");
    assert_eq!(bench.contents("d"), bench.contents("s"));
    let mode = fs::metadata(bench.path("d/closed")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o555);
}

#[test]
fn a_directory_with_content_is_not_replaced_by_a_file() {
    let bench = Bench::new();
    bench.make("s", "f k file");
    bench.make("d", "f k/content kept");
    let (source, destination) = (bench.local("s"), bench.local("d"));
    let finished = bench.call(&with_backup(&bench, &source, &destination), &["k"]);
    assert_eq!(finished.outcome, ListOutcome::Partial);
    assert!(finished.messages.iter().any(|m| m.path == Some(RelPath::new("k").unwrap())));
    assert_eq!(fs::read(bench.path("d/k/content")).unwrap(), b"kept");
}

#[test]
fn a_subtree_comes_whole_with_the_times_of_its_directories() {
    let bench = Bench::new();
    bench.make("s", "f t/u/f 1 1000\nl t/l x 1001\nd t/u 1002 711\nd t 1003 700\nf other 2");
    assert_eq!(bench.send(Purpose::Subtrees, &["t"]).outcome, ListOutcome::Done);
    fs::remove_file(bench.path("s/other")).unwrap();
    let details = |name| trees::details(&trees::read(&bench.path(name)));
    assert_eq!(details("d"), details("s"));
}

#[test]
fn what_has_appeared_below_a_subtree_is_not_replaced() {
    let bench = Bench::new();
    bench.make("s", "f t/f ours 1000\nl t/l ours 1001\nf t/k ours 1002\nf t/new ours 1003");
    bench.make("d", "f t/f theirs 900\nl t/l theirs 901\nd t/k 902\nf t/k/x theirs 903");
    let source = bench.local("s");
    let target = bench.local("d");
    let backup_dir = Some(bench.path("backup"));
    let call = Transfer { backup_dir, ..plain(Purpose::Subtrees, &source, &target) };
    bench.call(&call, &["t"]);
    assert_eq!(
        bench.contents("d"),
        "d t\nf t/f theirs\nd t/k\nf t/k/x theirs\nl t/l theirs\nf t/new ours\n"
    );
}

#[test]
fn hard_links_of_one_call_stay_together() {
    let mut bench = Bench::new();
    bench.preserve.hardlinks = true;
    bench.make("s", "f a 1");
    fs::hard_link(bench.path("s/a"), bench.path("s/b")).unwrap();
    assert_eq!(bench.send(Purpose::Content, &["a", "b"]).outcome, ListOutcome::Done);
    let inode = |name| fs::metadata(bench.path(name)).unwrap().ino();
    assert_eq!(inode("d/a"), inode("d/b"));
}

#[test]
fn a_receiver_parent_that_became_a_link_is_not_followed() {
    if may_write_through_links() {
        println!("skipped: this rsync follows links, and nothing here keeps it inside");
        return;
    }
    let bench = Bench::new();
    bench.make("s", "f p/f new");
    fs::create_dir(bench.path("outside")).unwrap();
    std::os::unix::fs::symlink(bench.path("outside"), bench.path("d/p")).unwrap();
    let finished = bench.send(Purpose::Content, &["p/f"]);
    assert_eq!(finished.outcome, ListOutcome::Partial, "{finished:?}");
    assert_eq!(bench.contents("outside"), "");
}

#[test]
fn with_keep_dirlinks_a_link_to_a_directory_is_that_directory_on_both_sides() {
    let mut bench = Bench::new();
    bench.preserve.keep_dirlinks = true;
    bench.make("s", "f p/f new\nf elsewhere/g new");
    std::os::unix::fs::symlink("elsewhere", bench.path("s/q")).unwrap();
    fs::create_dir(bench.path("outside")).unwrap();
    std::os::unix::fs::symlink(bench.path("outside"), bench.path("d/p")).unwrap();
    let finished = bench.send(Purpose::Content, &["p/f", "q", "q/g"]);
    assert_eq!(finished.outcome, ListOutcome::Done, "{finished:?}");
    assert_eq!(bench.contents("outside"), trees::normal("f f new"));
    assert!(bench.path("d/p").is_symlink() && !bench.path("d/q").is_symlink());
    assert_eq!(fs::read(bench.path("d/q/g")).unwrap(), b"new");
}

/// Stops a call in the middle of a big file, then lets it go on.
fn stopped_half_way(bench: &mut Bench, source: &End, destination: &End) {
    let big: Vec<u8> = (0..4_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(6_000_000)
        .collect();
    fs::write(bench.path("s/big"), &big).unwrap();
    fs::write(bench.path("d/big"), "old").unwrap();
    bench.settings.partial = true;
    bench.settings.compress = false;
    bench.settings.bandwidth = 2000;
    let partial_dir = Some(bench.path("partial"));
    let call = Transfer { partial_dir, ..plain(Purpose::Content, source, destination) };
    let stop = Stop::new();
    let asked = stop.clone();
    let finished = bench.call_with(&call, &["big"], &stop, &move |progress, _| {
        if progress.bytes > 1_000_000 {
            asked.request(StopReason::HardLimit);
        }
    });
    assert_eq!(finished.outcome, ListOutcome::Stopped(StopReason::HardLimit), "{finished:?}");
    assert_eq!(fs::read(bench.path("d/big")).unwrap(), b"old", "the old version is whole");
    assert_eq!(bench.contents("d").lines().count(), 1, "no temporary file is left");
    let part = fs::metadata(bench.path("partial/big")).unwrap().len();
    assert!((500_000..6_000_000).contains(&part), "{part}");
    bench.settings.bandwidth = 0;
    bench.settings.stats = true;
    let again = bench.call(&Transfer { resumes: true, ..call }, &["big"]);
    assert_eq!(again.outcome, ListOutcome::Done, "{again:?}");
    assert!(fs::read(bench.path("d/big")).unwrap() == big);
    let matched = bench.statistic("Matched data");
    assert_went_on(&bench.said(), part, matched, &bench.path("partial/big"));
}

#[test]
fn a_stopped_call_keeps_its_partial_file_and_goes_on_from_there() {
    let mut bench = Bench::new();
    let (source, destination) = (bench.local("s"), bench.local("d"));
    stopped_half_way(&mut bench, &source, &destination);
}

#[test]
fn a_stopped_call_keeps_its_partial_file_on_the_other_side_too() {
    let mut bench = Bench::new();
    let (source, destination) = (bench.local("s"), bench.remote("d"));
    stopped_half_way(&mut bench, &source, &destination);
}

#[test]
fn what_rsync_cannot_put_together_is_sent_again_whole() {
    let mut bench = Bench::new();
    // an rsync that cannot use what is there already
    let script = bench.script(
        "rsync that fails",
        "echo >>\"$0 was called\"\n\
         case \" $* \" in *' --whole-file '*) exec rsync \"$@\" ;; esac\n\
         tr -d '\\0' >\"$0 was given\"\n\
         for name in dir/a precious; do\n\
         echo \"ERROR: $name failed verification -- update put into partial-dir.\" >&2\n\
         done\n\
         exit 23",
    );
    bench.settings.executable = script.to_str().unwrap().into();
    bench.settings.partial = true;
    bench.make("s", "f dir/a new 1000\nf dir/b new 1000\nf precious new 1000");
    bench.make("d", "f dir/a old 900\nf dir/b old 900\nf precious old 900");
    let (source, destination) = (bench.local("s"), bench.local("d"));
    let partial_dir = Some(bench.path("partial"));
    let call = plain(Purpose::Content, &source, &destination);
    let finished =
        bench.call(&Transfer { partial_dir, resumes: true, ..call }, &["dir/a", "dir/b"]);
    // the listed one that failed, and nothing else, whatever it names
    assert_eq!(bench.contents("d"), "d dir\nf dir/a new\nf dir/b old\nf precious old\n");
    assert_eq!(finished.outcome, ListOutcome::Partial);
    let [told] = &finished.messages[..] else { panic!("{finished:?}") };
    assert_eq!(told.path, Some(RelPath::new("precious").unwrap()));
    let calls = fs::read(bench.path("rsync that fails was called")).unwrap();
    assert_eq!(calls.len(), 2);
    let given = fs::read_to_string(bench.path("rsync that fails was given")).unwrap();
    assert_eq!(given, "./dir/a./dir/b");
    let said = bench.said();
    assert_eq!(said.matches("dir/a: rsync could not put it together").count(), 1, "{said}");
}

#[test]
fn progress_itemised_lines_and_statistics_reach_the_caller() {
    let mut bench = Bench::new();
    bench.settings.stats = true;
    bench.make("s", "f dir/a\\nb 12345\nf c 678");
    let last = Mutex::new(Progress::default());
    let (source, destination) = (bench.local("s"), bench.local("d"));
    let call = plain(Purpose::Content, &source, &destination);
    let finished =
        bench.call_with(&call, &["dir", "dir/a\nb", "c"], &Stop::new(), &|progress, _| {
            *last.lock().unwrap() = progress;
        });
    assert_eq!(finished.progress, Progress { files: 2, bytes: 8 });
    assert_eq!(last.lock().unwrap().files, 2);
    let said = bench.ear.all();
    let has = |level, text: &str| said.iter().any(|(l, t)| *l == level && t.contains(text));
    assert!(has(Level::Verbose, ">f+++++++++ dir/a\\nb"), "{said:?}");
    assert!(has(Level::Notice, "Number of files:"), "{said:?}");
    assert!(has(Level::Verbose, "--files-from=-"), "{said:?}");
}

#[test]
fn a_missing_rsync_is_explained_on_either_side() {
    let mut bench = Bench::new();
    bench.make("s", "f f 1");
    let (source, mut destination) = (bench.local("s"), bench.remote("d"));
    if let End::Remote(remote) = &mut destination {
        remote.rsync_path = "no-rsync-of-this-name".into();
    }
    let finished = bench.call(&plain(Purpose::Content, &source, &destination), &["f"]);
    let ListOutcome::Failed(why) = finished.outcome else { panic!("{finished:?}") };
    assert!(why.contains("no rsync on the other side"), "{why}");
    bench.settings.executable = "/nowhere/rsync".into();
    let error = transfer(
        bench.context(&Stop::new()),
        &plain(Purpose::Content, &source, &source),
        std::iter::empty(),
        &|_, _| (),
    );
    assert!(error.unwrap_err().to_string().contains("/nowhere/rsync is not installed"));
}

#[test]
fn a_remote_shell_that_talks_is_explained() {
    let bench = Bench::new();
    bench.make("s", "f f 1");
    let source = bench.local("s");
    let mut destination = bench.remote("d");
    if let End::Remote(remote) = &mut destination {
        let noisy =
            bench.script("noisy", "echo Welcome to this machine; shift 4; exec sh -c \"$*\"");
        remote.shell[0] = noisy.into();
    }
    let finished = bench.call(&plain(Purpose::Content, &source, &destination), &["f"]);
    let ListOutcome::Failed(why) = finished.outcome else { panic!("{finished:?}") };
    assert!(why.contains("login banner"), "{why}");
}

#[test]
fn rsync_itself_says_what_takes_part() {
    let bench = Bench::new();
    bench.make("s", "f small 1\nf big 1234567890\nf dir/\\xff\\n 1");
    let args = ["--max-size=5".to_owned()];
    for end in [bench.local("s"), bench.remote("s")] {
        let set = visible(&bench.settings, [], &args, &end, &Stop::new()).unwrap();
        let has = |path: &[u8]| set.contains(&RelPath::new(path).unwrap());
        assert!(has(b"small") && has(b"dir") && has(b"dir/\xff\n") && !has(b"big"), "{set:?}");
    }
    let nowhere = End::Local { root: Path::new("/nowhere/at/all").into() };
    let error = visible(&bench.settings, [], &args, &nowhere, &Stop::new());
    let ok_or_error = error.map(|set| set.is_empty());
    assert!(!matches!(ok_or_error, Ok(false)), "{ok_or_error:?}");
    assert!(bench.path("s").as_os_str().as_bytes().starts_with(b"/"));
}
