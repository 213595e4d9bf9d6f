//! Our matcher against the installed rsync: the table of cases, and random patterns on
//! random trees. What rsync itself is told of the patterns.

use crate::support::couple::Couple;
use osync::testing::config::RuleText;
use osync::testing::filter::{Filter, Inclusion, PathKind};
use osync::testing::filter::{VisibleSet, listing};
use osync::testing::rsync::options;
use osync::testing::tree::RelPath;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

include!("../../src/filter/cases.rs");

/// A path and whether it is a directory.
type Node = (Vec<u8>, bool);

#[test]
fn the_table_of_patterns_holds_for_rsync_itself() {
    for (texts, excluded, included) in CASES {
        let rules: Vec<RuleText> = texts.iter().map(|text| rule(text)).collect();
        let mut paths: Vec<(Node, bool)> = Vec::new();
        for (list, visible) in [(excluded, false), (included, true)] {
            paths.extend(list.split_whitespace().map(|path| (node(path), visible)));
        }
        // A name may stand for a file and for a directory in one case: as many trees as it takes.
        while !paths.is_empty() {
            let root = tempfile::tempdir().unwrap();
            paths.retain(|((path, is_dir), visible)| {
                if !make(root.path(), path, *is_dir) {
                    return true;
                }
                let found = rsync(root.path(), &rules).contains(&rel(path));
                assert_eq!(found, *visible, "{texts:?} on {:?}", rel(path));
                false
            });
        }
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn random_patterns_on_random_trees_match_as_in_rsync(
        nodes in prop::collection::vec(any_node(), 1..25),
        rules in prop::collection::vec(any_rule(), 1..6),
    ) {
        let root = tempfile::tempdir().unwrap();
        let mut made: Vec<Node> = Vec::new();
        for (path, is_dir) in nodes {
            if make(root.path(), &path, is_dir) {
                let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/');
                made.extend(ends.map(|(end, _)| (path[..end].to_vec(), true)));
                made.push((path, is_dir));
            }
        }
        let filter = Filter::new(&rules);
        let seen = rsync(root.path(), &rules);
        for (path, is_dir) in &made {
            let path = rel(path);
            let verdict = filter.verdict_with_parents(path.as_bytes(), PathKind::of(*is_dir));
            let included = verdict == Inclusion::Included;
            prop_assert_eq!(seen.contains(&path), included, "{:?} {:?}", path, &rules);
        }

        // What the rules say as options is what they say as configured.
        let again = run(root.path(), filter.rsync_args());
        prop_assert_eq!(&seen, &again, "{:?}", &rules);

        // Whatever may be pruned is never visible.
        for prune in filter.prunable() {
            for (path, _) in made.iter().filter(|(_, is_dir)| *is_dir) {
                let hit = match prune {
                    osync::testing::filter::Prune::Name(name) => rel(path).name() == name,
                    osync::testing::filter::Prune::Path(whole) => path == whole,
                };
                prop_assert!(!hit || !seen.contains(&rel(path)), "{:?} {:?}", prune, &rules);
            }
        }
    }
}

#[test]
fn options_that_change_the_listing_are_obeyed_through_rsync() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("d/e")).unwrap();
    fs::create_dir_all(at("only-dirs/f")).unwrap();
    fs::write(at("d/e/small"), "x").unwrap();
    fs::write(at("d/big"), vec![0; 3000]).unwrap();
    fs::write(at("a -> b"), "x").unwrap();
    fs::write(at("new\nline"), "x").unwrap();
    fs::write(at("back\\#012"), "x").unwrap();
    std::os::unix::fs::symlink("../outside", at("link")).unwrap();
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (
            &["--max-size=1K"],
            &["d/e/small", "a -> b", "new\nline", "back\\#012", "link"],
            &["d/big"],
        ),
        (&["--min-size", "1K"], &["d/big"], &["d/e/small", "a -> b"]),
        (&["-vmf", "- small"], &["d/big"], &["d/e", "d/e/small", "only-dirs"]),
        (&["--safe-links"], &["d/big"], &["link"]),
        (&["--no-links"], &["d/big"], &["link"]),
        (&["--bwlimit", "--exclude=big", "-z"], &["d/big", "link"], &[]),
    ];
    for (args, visible, hidden) in cases {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let seen =
            run(root.path(), options::listing(&options::parse(&shell_words::join(&args)).unwrap()));
        for path in *visible {
            assert!(seen.contains(&rel(path.as_bytes())), "{args:?} shows {path:?}");
        }
        for path in *hidden {
            assert!(!seen.contains(&rel(path.as_bytes())), "{args:?} hides {path:?}");
        }
    }
}

#[test]
fn a_list_of_rsync_that_is_not_whole_decides_nothing() {
    const SETTINGS: &str = "RSYNC_OPTIONAL_ARGS='--max-size=1M'\n";
    let bad_days = [
        // what a full disk, a broken pipe or a killed process makes of it, and a status of 0
        ("head -n 2", "exit 0"),
        ("head -c 150", "exit 0"),
        ("grep -v kept", "exit 0"),
        ("grep -v '^Number of created'", "exit 0"),
        ("cat", "echo 'rsync: opendir \"/x\" failed: Permission denied (13)' >&2; exit 23"),
        ("cat", "exit 23"),
        ("cat", "exit 12"),
    ];
    for (number, (cut, end)) in bad_days.into_iter().enumerate() {
        let couple = Couple::both().into_iter().nth(usize::from(number == 0)).unwrap();
        let [a, b] = [0, 1].map(|side| couple.side(side));
        a.make("f d/one 1\nf d/two 2\nf kept 3\nf last 4");
        couple.sync(SETTINGS);
        fs::create_dir(couple.sandbox.path("liar")).unwrap();
        let liar = couple.sandbox.path("liar/rsync");
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' --out-format=osync:%n '*) rsync \"$@\" | {cut}; {end};; \
             esac\nexec rsync \"$@\"\n"
        );
        fs::write(&liar, script).unwrap();
        fs::set_permissions(&liar, fs::Permissions::from_mode(0o755)).unwrap();
        b.remove("d/two");
        a.write("kept", "edited", 1_700_000_000);
        let before = [a.details(), b.details()];
        let run = couple.run(&format!("{SETTINGS}RSYNC_EXECUTABLE='{}'\n", liar.display())).run();
        assert_eq!(run.status, Some(1), "{cut}, {end}: {run}");
        assert!(run.to_string().contains("cannot list"), "{cut}, {end}: {run}");
        assert_eq!([a.details(), b.details()], before, "{cut}, {end}: {run}");
        couple.sync(SETTINGS);
        assert!(!a.has("d/two") && b.read("kept").unwrap() == b"edited", "{cut}, {end}");
    }
}

#[test]
fn a_link_that_leads_nowhere_does_not_make_a_list_of_rsync_partial() {
    let couple = Couple::both().into_iter().next().unwrap();
    let [a, b] = [0, 1].map(|side| couple.side(side));
    a.make("f d/one 1\nl d/nowhere ../../missing");
    couple.sync("RSYNC_OPTIONAL_ARGS='--copy-unsafe-links'\n");
    assert!(b.has("d/one"));
}

#[test]
fn what_appears_meanwhile_in_a_new_subtree_is_filtered_too() {
    for from in [0, 1] {
        for couple in Couple::both() {
            let (source, other) = (couple.side(from), couple.side(1 - from));
            source.make("f new/f one\nf new/sub/g two\nf keep\\x20me.tmp three");
            // rsync begins after the scan; by then somebody has made something more
            let meanwhile = couple.sandbox.path("meanwhile/rsync");
            fs::create_dir(couple.sandbox.path("meanwhile")).unwrap();
            let script = format!(
                "#!/bin/sh\ncase \" $* \" in *' --files-from=- '*) mkdir -p '{root}/new/cache/in' && \
                 echo x >'{root}/new/cache/in/c' && echo x >'{root}/new/sub/e d.tmp';; esac\nexec rsync \"$@\"\n",
                root = source.root.display()
            );
            fs::write(&meanwhile, script).unwrap();
            fs::set_permissions(&meanwhile, fs::Permissions::from_mode(0o755)).unwrap();
            let run = couple.run(&format!(
                "RSYNC_EXECUTABLE='{}'\nRSYNC_PATTERN_FIRST=include\n\
                 RSYNC_INCLUDE_PATTERN='keep me.tmp'\nRSYNC_EXCLUDE_PATTERN='*.tmp;/new/cache/'\n",
                meanwhile.display()
            ));
            let outcome = run.run();
            let way = format!("{} from {from}: {outcome}", couple.way);
            assert_eq!(outcome.status, Some(0), "{way}");
            for path in ["new/cache/in/c", "new/sub/e d.tmp"] {
                assert!(source.has(path), "{path}: {way}");
            }
            assert!(!other.has("new/cache") && !other.has("new/sub/e d.tmp"), "{way}");
            for path in ["keep me.tmp", "new/f", "new/sub/g"] {
                assert_eq!(other.read(path), source.read(path), "{path}: {way}");
            }
        }
    }
}

#[test]
fn the_patterns_of_the_keys_come_before_optional_args() {
    const SETTINGS: &str = "RSYNC_INCLUDE_PATTERN='core;main.o;/C/'\n\
                            RSYNC_OPTIONAL_ARGS='-C --exclude=/C --exclude=*.big'\n";
    for couple in Couple::both() {
        let (a, b) = (couple.side(0), couple.side(1));
        a.make("f p/core 1\nf p/main.c 2\nf p/main.o 3\nf p/other.o 4\nf C/f 5\nf x.big 6");
        let first = couple.run(SETTINGS).run();
        assert_eq!(first.status, Some(0), "{}: {first}", couple.way);
        let arrived = ["p/core", "p/main.c", "p/main.o", "C/f"];
        assert_eq!(arrived.map(|path| b.read(path)), arrived.map(|path| a.read(path)));
        assert!(!b.has("p/other.o") && !b.has("x.big"), "{}: {first}", couple.way);
        // a change and a deletion of what only the keys let in
        b.write("p/core", "later", 1_700_000_000);
        a.remove("p/main.o");
        let second = couple.run(SETTINGS).run();
        assert_eq!(second.status, Some(0), "{}: {second}", couple.way);
        assert_eq!(a.read("p/core").unwrap(), b"later", "{}: {second}", couple.way);
        assert!(!b.has("p/main.o") && a.has("p/other.o"), "{}: {second}", couple.way);
    }
}

/// As many cases as PROPTEST_CASES says; always the same ones unless PROPTEST_RNG_SEED
/// says otherwise.
fn config(cases: u32) -> Config {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(3);
    }
    config
}

fn any_node() -> impl Strategy<Value = Node> {
    let names: &[&[u8]] = &[
        b"a",
        b"b",
        b"ab",
        b"ba",
        b"foo",
        b"x.o",
        b".o",
        b"*",
        b"[a]",
        b"\\",
        b"a\\b",
        b"#a",
        b";a",
        b"- a",
        b"+ a",
        b"!",
        b" a",
        b"a ",
        b"-",
        b"\xff",
        b"\xc3\xa4",
        b"a\nb",
        b"A1",
    ];
    let name =
        prop_oneof![3 => prop::sample::select(&names[..6]), 1 => prop::sample::select(names)];
    (prop::collection::vec(name, 1..5).prop_map(|names| names.join(&b'/')), any::<bool>())
}

fn any_rule() -> impl Strategy<Value = RuleText> {
    let parts: &[&[u8]] = &[
        b"/",
        b"/",
        b"/",
        b"a",
        b"b",
        b"a",
        b"b",
        b"foo",
        b"x.o",
        b"*",
        b"*",
        b"**",
        b"***",
        b"?",
        b"[ab]",
        b"[!a]",
        b"[^b]",
        b"[[:alpha:]]",
        b"[]a]",
        b"[a-",
        b"]",
        b"\\",
        b"\\*",
        b"!",
        b"#",
        b" ",
        b"\xff",
        b"[\x80-\xff]",
        b"-",
    ];
    let signs: &[&[u8]] = &[b"", b"", b"", b"", b"- ", b"+ ", b"!", b"#", b";", b"/"];
    let body = prop::collection::vec(prop::sample::select(parts), 1..6).prop_map(|p| p.concat());
    let tails: &[&[u8]] = &[b"", b"", b"/", b"/***", b"/**", b"\r"];
    let tail = prop::sample::select(tails);
    let pattern = (prop::sample::select(signs), body, tail)
        .prop_map(|(sign, body, tail)| [sign, &body, tail].concat());
    (any::<bool>(), any::<bool>(), pattern).prop_map(|(include, from_file, pattern)| RuleText {
        include,
        from_file,
        pattern,
    })
}

fn rule(text: &str) -> RuleText {
    let (key, pattern) = text.split_once('=').unwrap();
    RuleText {
        include: key.starts_with("in"),
        from_file: key.ends_with('f'),
        pattern: pattern.into(),
    }
}

fn node(path: &str) -> Node {
    let dir = path.strip_suffix('/');
    (dir.unwrap_or(path).into(), dir.is_some())
}

fn rel(path: &[u8]) -> RelPath {
    RelPath::new(path).unwrap()
}

/// Makes a file or directory with its parents; false if something else is in the way.
fn make(root: &Path, path: &[u8], is_dir: bool) -> bool {
    let at = root.join(OsStr::from_bytes(path));
    if is_dir {
        fs::create_dir_all(at).is_ok()
    } else {
        fs::create_dir_all(at.parent().unwrap()).is_ok() && fs::write(at, "x").is_ok()
    }
}

/// What rsync sees with rules given to it as the configuration has them: key values as
/// options, pattern files as files.
fn rsync(root: &Path, rules: &[RuleText]) -> VisibleSet {
    let files = TempDir::new().unwrap();
    let args = rules.iter().enumerate().map(|(number, rule)| {
        let key = if rule.include { "--include" } else { "--exclude" };
        let mut arg = key.as_bytes().to_vec();
        if rule.from_file {
            let file = files.path().join(number.to_string());
            fs::write(&file, [&rule.pattern, &b"\n"[..]].concat()).unwrap();
            arg.extend_from_slice(b"-from=");
            arg.extend_from_slice(file.as_os_str().as_bytes());
        } else {
            arg.push(b'=');
            arg.extend_from_slice(&rule.pattern);
        }
        OsStr::from_bytes(&arg).to_owned()
    });
    run(root, args.collect::<Vec<_>>())
}

fn run(root: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> VisibleSet {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new("rsync");
    command.args(listing::ARGUMENTS).args(args).arg("--");
    command.arg(root.join("")).arg(nowhere.path().join(""));
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    listing::visible(&output.stdout).unwrap()
}
