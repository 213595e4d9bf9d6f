//! rsync's options: the one table of what this program has to know about them. Pure; uses no
//! other room, so that `config`, `filter` and `ssh_filter` may use it too.

/// Whether a value follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// The option stands alone.
    Nothing,
    /// A value, behind `=` or as the next argument.
    Value,
    /// A value that is a directory of the receiving side.
    Directory,
}

/// What an option means to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Refused in RSYNC_OPTIONAL_ARGS: rsync would do something else than was planned.
    Refused,
    /// It changes which paths take part, so rsync itself is asked for their list.
    Listing,
    /// The ssh filter lets it pass: a client's rsync gives it to its server, and it neither reads
    /// nor writes outside of the directories that are named. Left out on purpose: named files
    /// (`--log-file`, `--files-from=FILE`, batches, `--temp-dir`), `--write-devices`, daemons,
    /// `--delete*`, `--remove-source-files`, `--inplace`.
    Served,
    /// It follows symbolic links, which may lead anywhere.
    FollowsLinks,
}

/// One option.
#[derive(Debug)]
pub struct RsyncOption {
    /// Its long name without the dashes; empty where it has only a letter.
    pub long: &'static str,
    /// Its letter.
    pub letter: Option<u8>,
    /// Whether a value follows.
    pub takes: Takes,
    marks: &'static [Mark],
}

impl RsyncOption {
    /// Whether it has this meaning.
    #[must_use]
    pub fn is(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }
}

const fn long(long: &'static str, takes: Takes, marks: &'static [Mark]) -> RsyncOption {
    RsyncOption { long, letter: None, takes, marks }
}

const fn both(letter: u8, long: &'static str, takes: Takes, marks: &'static [Mark]) -> RsyncOption {
    RsyncOption { long, letter: Some(letter), takes, marks }
}

use Mark::{FollowsLinks, Listing, Refused, Served};
use Takes::{Directory, Nothing, Value};

/// Every option that has a letter, takes a value, or means something to a run.
#[rustfmt::skip] // a table: one row, one line
static OPTIONS: &[RsyncOption] = &[
    both(b'A', "acls", Nothing, &[Served]),
    long("address", Value, &[]),
    long("append", Nothing, &[Refused, Served]),
    long("append-verify", Nothing, &[Refused]),
    both(b'U', "atimes", Nothing, &[Served]),
    both(b'b', "backup", Nothing, &[Refused, Served]),
    long("backup-dir", Directory, &[Refused, Served]),
    both(b'B', "block-size", Value, &[Served]),
    long("bwlimit", Value, &[Served]),
    long("cc", Value, &[]),
    both(b'c', "checksum", Nothing, &[Served]),
    long("checksum-choice", Value, &[Served]),
    long("checksum-seed", Value, &[Served]),
    long("chmod", Value, &[]),
    long("chown", Value, &[]),
    long("compare-dest", Directory, &[Served]),
    both(b'z', "compress", Nothing, &[Served]),
    long("compress-choice", Value, &[Served]),
    long("compress-level", Value, &[Served]),
    long("compress-threads", Value, &[Served]),
    long("config", Value, &[]),
    long("confine-root", Value, &[]),
    long("contimeout", Value, &[]),
    long("copy-as", Value, &[]),
    long("copy-dest", Directory, &[Served]),
    both(b'k', "copy-dirlinks", Nothing, &[Served, FollowsLinks]),
    both(b'L', "copy-links", Nothing, &[Served, FollowsLinks]),
    long("copy-unsafe-links", Nothing, &[Listing]),
    both(b'N', "crtimes", Nothing, &[Served]),
    both(b'C', "cvs-exclude", Nothing, &[Listing]),
    long("daemon", Nothing, &[Refused]),
    long("debug", Value, &[Served]),
    long("del", Nothing, &[Refused]),
    long("delay-updates", Nothing, &[Served]),
    long("delete", Nothing, &[Refused]),
    long("delete-after", Nothing, &[Refused]),
    long("delete-before", Nothing, &[Refused]),
    long("delete-delay", Nothing, &[Refused]),
    long("delete-during", Nothing, &[Refused]),
    long("delete-excluded", Nothing, &[Refused]),
    long("delete-missing-args", Nothing, &[Refused]),
    long("devices", Nothing, &[Served]),
    both(b'd', "dirs", Nothing, &[Listing, Served]),
    long("dparam", Value, &[]),
    both(b'n', "dry-run", Nothing, &[Refused, Served]),
    long("early-input", Value, &[]),
    long("exclude", Value, &[Listing]),
    long("exclude-from", Value, &[Listing]),
    both(b'E', "executability", Nothing, &[Served]),
    long("existing", Nothing, &[Refused, Served]),
    long("fake-super", Nothing, &[Served]),
    long("files-from", Value, &[Refused]),
    both(b'f', "filter", Value, &[Listing]),
    long("force", Nothing, &[Served]),
    both(b'0', "from0", Nothing, &[Listing, Served]),
    long("fsync", Nothing, &[Served]),
    both(b'y', "fuzzy", Nothing, &[Served]),
    both(b'g', "group", Nothing, &[Served]),
    long("groupmap", Value, &[Served]),
    both(b'H', "hard-links", Nothing, &[Served]),
    long("iconv", Value, &[]),
    long("ignore-errors", Nothing, &[Served]),
    long("ignore-existing", Nothing, &[Refused, Served]),
    long("ignore-missing-args", Nothing, &[Served]),
    long("ignore-non-existing", Nothing, &[Refused]),
    both(b'I', "ignore-times", Nothing, &[Served]),
    long("include", Value, &[Listing]),
    long("include-from", Value, &[Listing]),
    long("info", Value, &[Served]),
    long("inplace", Nothing, &[Refused]),
    both(b'i', "itemize-changes", Nothing, &[Served]),
    both(b'K', "keep-dirlinks", Nothing, &[Served, FollowsLinks]),
    long("link-dest", Directory, &[Served]),
    both(b'l', "links", Nothing, &[Served]),
    long("list-only", Nothing, &[Refused, Served]),
    long("log-file", Value, &[]),
    long("log-file-format", Value, &[]),
    long("log-format", Value, &[Served]),
    long("max-alloc", Value, &[Served]),
    long("max-delete", Value, &[]),
    long("max-size", Value, &[Listing, Served]),
    long("min-size", Value, &[Listing, Served]),
    long("mkpath", Nothing, &[Served]),
    both(b'@', "modify-window", Value, &[Served]),
    long("msgs2stderr", Nothing, &[Served]),
    long("munge-links", Nothing, &[Served]),
    long("new-compress", Nothing, &[Served]),
    long("no-D", Nothing, &[Listing]),
    long("no-W", Nothing, &[Served]),
    long("no-devices", Nothing, &[Listing]),
    long("no-implied-dirs", Nothing, &[Served]),
    long("no-l", Nothing, &[Listing]),
    long("no-links", Nothing, &[Listing]),
    long("no-msgs2stderr", Nothing, &[Served]),
    long("no-r", Nothing, &[Listing, Served]),
    long("no-recursive", Nothing, &[Listing]),
    long("no-relative", Nothing, &[Served]),
    long("no-specials", Nothing, &[Listing, Served]),
    long("no-whole-file", Nothing, &[Served]),
    long("numeric-ids", Nothing, &[Served]),
    long("old-compress", Nothing, &[Served]),
    long("old-d", Nothing, &[Listing]),
    long("old-dirs", Nothing, &[Listing]),
    both(b'O', "omit-dir-times", Nothing, &[Served]),
    both(b'J', "omit-link-times", Nothing, &[Served]),
    both(b'x', "one-file-system", Nothing, &[Listing, Served]),
    long("only-write-batch", Value, &[Refused]),
    long("open-noatime", Nothing, &[Served]),
    long("out-format", Value, &[]),
    long("outbuf", Value, &[]),
    both(b'o', "owner", Nothing, &[Served]),
    long("partial", Nothing, &[Served]),
    long("partial-dir", Directory, &[Served]),
    long("password-file", Value, &[]),
    both(b'p', "perms", Nothing, &[Served]),
    long("port", Value, &[]),
    long("preallocate", Nothing, &[Served]),
    long("protocol", Value, &[]),
    both(b'm', "prune-empty-dirs", Nothing, &[Listing, Served]),
    both(b'q', "quiet", Nothing, &[Served]),
    long("read-batch", Value, &[Refused]),
    both(b'r', "recursive", Nothing, &[Served]),
    both(b'R', "relative", Nothing, &[Refused, Served]),
    both(b'M', "remote-option", Value, &[]),
    long("remove-sent-files", Nothing, &[Refused]),
    long("remove-source-files", Nothing, &[Refused]),
    both(b'e', "rsh", Value, &[]),
    long("rsync-path", Value, &[]),
    long("safe-links", Nothing, &[Listing, Served]),
    long("sender", Nothing, &[Refused]),
    long("server", Nothing, &[Refused]),
    long("size-only", Nothing, &[Served]),
    long("skip-compress", Value, &[Served]),
    long("sockopts", Value, &[]),
    both(b'S', "sparse", Nothing, &[Served]),
    long("specials", Nothing, &[Served]),
    long("stats", Nothing, &[Served]),
    long("stderr", Value, &[Served]),
    long("stop-after", Value, &[]),
    long("stop-at", Value, &[]),
    long("suffix", Value, &[Refused, Served]),
    long("super", Nothing, &[Served]),
    both(b'T', "temp-dir", Value, &[Refused]),
    long("time-limit", Value, &[]),
    long("timeout", Value, &[Served]),
    both(b't', "times", Nothing, &[Served]),
    both(b'u', "update", Nothing, &[Refused, Served]),
    long("use-qsort", Nothing, &[Served]),
    long("usermap", Value, &[Served]),
    both(b'v', "verbose", Nothing, &[Served]),
    both(b'W', "whole-file", Nothing, &[Served]),
    long("write-batch", Value, &[Refused]),
    both(b'X', "xattrs", Nothing, &[Served]),
    long("zc", Value, &[]),
    long("zl", Value, &[]),
    long("zt", Value, &[]),
    both(b'D', "", Nothing, &[Served]),
    both(b'F', "", Nothing, &[Listing]),
];

/// The option of this long name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static RsyncOption> {
    OPTIONS.iter().find(|option| option.long == name && !name.is_empty())
}

/// The option of this letter.
#[must_use]
pub fn by_letter(letter: u8) -> Option<&'static RsyncOption> {
    OPTIONS.iter().find(|option| option.letter == Some(letter))
}

/// One or more options in one argument (`-av`), and the argument behind it if that is the value
/// of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The arguments as they were given: one or two.
    pub words: Vec<String>,
    /// Each option by itself, with a value only where that is joined to it: `-v`, `-f- x`,
    /// `--max-size=1`.
    options: Vec<String>,
}

/// Splits a line of options as a shell would and groups them with their values.
///
/// # Errors
/// Everything that is wrong with them, each in a sentence.
pub fn parse(line: &str) -> Result<Vec<Group>, Vec<String>> {
    let words = shell_words::split(line).map_err(|_| vec!["a quote is not closed".to_owned()])?;
    let (mut groups, mut problems) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (options, last) = match split(&word) {
            Ok(found) => found,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        problems.extend(options.iter().find_map(|option| refusal(option)));
        let mut group = Group { words: vec![word], options };
        if last == Last::WantsValue {
            match words.next() {
                Some(value) => group.words.push(value),
                None => problems.push(format!("{} lacks its value", group.words[0])),
            }
        }
        groups.push(group);
    }
    if problems.is_empty() { Ok(groups) } else { Err(problems) }
}

/// Whether the last option of an argument has what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    IsComplete,
    WantsValue,
}

/// The options of one argument.
fn split(word: &str) -> Result<(Vec<String>, Last), String> {
    if let Some(long) =
        word.strip_prefix("--").filter(|long| !long.is_empty() && !long.starts_with('='))
    {
        let wants = by_name(long).is_some_and(|option| option.takes != Nothing);
        let last = if wants { Last::WantsValue } else { Last::IsComplete };
        return Ok((vec![word.to_owned()], last));
    }
    let cluster = match word.strip_prefix('-') {
        Some(cluster) if !cluster.is_empty() && !cluster.starts_with('-') => cluster,
        _ => {
            return Err(format!(
                "'{word}' is not an option; rsync would take it for a file (write values as --option=value)"
            ));
        }
    };
    let mut options = Vec::new();
    for (at, letter) in cluster.char_indices() {
        let behind = &cluster[at + letter.len_utf8()..];
        let known = u8::try_from(letter).ok().and_then(by_letter);
        if known.is_some_and(|option| option.takes != Nothing) {
            options.push(format!("-{letter}{behind}"));
            let last = if behind.is_empty() { Last::WantsValue } else { Last::IsComplete };
            return Ok((options, last));
        }
        options.push(format!("-{letter}"));
    }
    Ok((options, Last::IsComplete))
}

/// The option that a piece of a [`Group`] is.
fn known(option: &str) -> Option<&'static RsyncOption> {
    match option.strip_prefix("--") {
        Some(long) => by_name(long.split('=').next().unwrap_or(long)),
        None => by_letter(*option.as_bytes().get(1)?),
    }
}

/// Why an option may not stand in RSYNC_OPTIONAL_ARGS. Families of options that a later rsync
/// may add to are refused as a whole.
fn refusal(option: &str) -> Option<String> {
    const FAMILIES: [&str; 3] = ["--append", "--backup", "--delete"];
    let is_refused = known(option).is_some_and(|option| option.is(Refused))
        || FAMILIES.iter().any(|family| option.starts_with(family));
    let name = match option.strip_prefix("--") {
        Some(_) => option.split('=').next().unwrap_or(option),
        // a letter is one byte here: only those of the table are refused
        None => option.get(..2).unwrap_or(option),
    };
    is_refused.then(|| format!("{name} is refused: it would break the plan of a run"))
}

/// Those options that change which paths take part, in order, each with its value.
#[must_use]
pub fn listing(groups: &[Group]) -> Vec<String> {
    let mut kept = Vec::new();
    for group in groups {
        let last = group.options.len().saturating_sub(1);
        for (n, option) in group.options.iter().enumerate() {
            if known(option).is_some_and(|option| option.is(Listing)) {
                kept.push(option.clone());
                kept.extend(group.words.get(1).filter(|_| n == last).cloned());
            }
        }
    }
    kept
}

/// Whether [`listing`] options keep rsync on one file system (`-x`): what is mounted below a
/// replica is excluded then, as a whole.
#[must_use]
pub fn stays_on_one_file_system(listing: &[String]) -> bool {
    listing.iter().any(|option| matches!(option.as_str(), "-x" | "--one-file-system"))
}

/// Which modification times rsync sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Those of everything but directories.
    pub files: bool,
    /// Those of directories.
    pub dirs: bool,
}

/// What the options leave of times: the last word on each counts, as for rsync.
#[must_use]
pub fn times(groups: &[Group]) -> Times {
    let (mut times, mut omits_dirs) = (true, false);
    for option in groups.iter().flat_map(|group| &group.options) {
        match option.as_str() {
            "--times" | "-t" | "--archive" | "-a" => times = true,
            "--no-times" | "--no-t" => times = false,
            "--omit-dir-times" | "-O" => omits_dirs = true,
            "--no-omit-dir-times" | "--no-O" => omits_dirs = false,
            _ => {}
        }
    }
    Times { files: times, dirs: times && !omits_dirs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_and_letter_means_one_option() {
        let (mut names, mut letters) = (BTreeSet::new(), BTreeSet::new());
        for option in OPTIONS {
            assert!(option.long.is_empty() || names.insert(option.long), "{option:?}");
            assert!(option.letter.is_none_or(|letter| letters.insert(letter)), "{option:?}");
        }
    }

    fn kept(args: &[&str]) -> Vec<String> {
        listing(&parse(&shell_words::join(args)).unwrap())
    }

    #[test]
    fn options_that_change_the_list_are_found_with_their_values() {
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&["--bwlimit=3", "-v", "--progress"], &[]),
            (&["--filter=- x"], &["--filter=- x"]),
            (&["--filter", "- x", "-v"], &["--filter", "- x"]),
            (&["-f", "- x"], &["-f", "- x"]),
            (&["-f- x"], &["-f- x"]),
            (&["-vf", "- x"], &["-f", "- x"]),
            (&["-vxCf- x"], &["-x", "-C", "-f- x"]),
            (&["-FF"], &["-F", "-F"]),
            (&["-vaxz"], &["-x"]),
            (&["-e", "ssh -x"], &[]),
            (&["-essh -x"], &[]),
            (&["-e", "-x"], &[]),
            (&["--rsh", "--filter=- x"], &[]),
            (&["--max-size", "1M", "--min-size=1"], &["--max-size", "1M", "--min-size=1"]),
            (&["--exclude-from=a", "--include", "b"], &["--exclude-from=a", "--include", "b"]),
            (&["-@", "-x"], &[]),
            (&["--one-file-system", "--safe-links"], &["--one-file-system", "--safe-links"]),
            (&["--executability", "--no-D"], &["--no-D"]),
        ];
        for (args, expected) in cases {
            assert_eq!(kept(args), *expected, "{args:?}");
        }
    }

    #[test]
    fn harmless_arguments_are_grouped_with_their_values() {
        for (text, expected) in [
            ("", vec![]),
            ("--numeric-ids -v", vec![vec!["--numeric-ids"], vec!["-v"]]),
            ("--exclude 'a b' -F", vec![vec!["--exclude", "a b"], vec!["-F"]]),
            ("--exclude=-u", vec![vec!["--exclude=-u"]]),
            ("-f 'merge x' --no-R", vec![vec!["-f", "merge x"], vec!["--no-R"]]),
            ("-vf'- u'", vec![vec!["-vf- u"]]),
            ("-e 'ssh -n'", vec![vec!["-e", "ssh -n"]]),
            ("--no-delete", vec![vec!["--no-delete"]]),
            (
                "--compress-threads 4 --zt 4",
                vec![vec!["--compress-threads", "4"], vec!["--zt", "4"]],
            ),
        ] {
            let expected: Vec<Vec<String>> =
                expected.into_iter().map(|g| g.into_iter().map(str::to_owned).collect()).collect();
            let groups = parse(text).unwrap();
            let found: Vec<Vec<String>> = groups.into_iter().map(|group| group.words).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn times_are_kept_unless_the_last_word_on_them_says_no() {
        for (text, files, dirs) in [
            ("", true, true),
            ("--no-times", false, false),
            ("--no-t", false, false),
            ("--no-times -vt", true, true),
            ("-O", true, false),
            ("-vO", true, false),
            ("--omit-dir-times", true, false),
            ("-O --no-O", true, true),
            ("--filter '-O' -e -O", true, true),
        ] {
            assert_eq!(times(&parse(text).unwrap()), Times { files, dirs }, "{text}");
        }
    }

    #[test]
    fn arguments_that_break_the_plan_are_refused_in_every_spelling() {
        for (text, named) in [
            ("--inplace", "--inplace"),
            ("--append-verify", "--append-verify"),
            ("--delete", "--delete"),
            ("--delete-after", "--delete-after"),
            ("--delete-somehow", "--delete-somehow"),
            ("--del", "--del"),
            ("--remove-source-files", "--remove-source-files"),
            ("-u", "-u"),
            ("-vu", "-u"),
            ("-avn", "-n"),
            ("--update", "--update"),
            ("-R", "-R"),
            ("--existing", "--existing"),
            ("--ignore-existing", "--ignore-existing"),
            ("--temp-dir=/x", "--temp-dir"),
            ("--temp-dir /x", "--temp-dir"),
            ("-T/x", "-T"),
            ("--files-from=x", "--files-from"),
            ("--backup-dir=x", "--backup-dir"),
            ("-b", "-b"),
            ("--dry-run", "--dry-run"),
            ("somefile", "somefile"),
            ("--unknown somefile", "somefile"),
            ("--", "--"),
            ("-", "-"),
            ("--exclude", "--exclude"),
            ("'", "quote"),
        ] {
            let problems = parse(text).expect_err(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(named), "{text}: {problems:?}");
        }
        assert_eq!(parse("-u --inplace x").map_err(|p| p.len()), Err(3));
    }
}
