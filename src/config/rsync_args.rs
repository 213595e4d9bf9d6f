//! RSYNC_OPTIONAL_ARGS: split as a shell would, refused where they break the plan of a
//! run (spec 2, "Keys").

/// Short options of rsync that take a value.
const SHORT_WITH_VALUE: &[u8] = b"eBfTM@";

/// Long options of rsync that take a value, which may be a word of its own.
const LONG_WITH_VALUE: &[&str] = &[
    "address",
    "backup-dir",
    "block-size",
    "bwlimit",
    "cc",
    "checksum-choice",
    "checksum-seed",
    "chmod",
    "chown",
    "compare-dest",
    "compress-choice",
    "compress-level",
    "config",
    "contimeout",
    "copy-as",
    "copy-dest",
    "debug",
    "dparam",
    "early-input",
    "exclude",
    "exclude-from",
    "files-from",
    "filter",
    "groupmap",
    "iconv",
    "include",
    "include-from",
    "info",
    "link-dest",
    "log-file",
    "log-file-format",
    "log-format",
    "max-alloc",
    "max-delete",
    "max-size",
    "min-size",
    "modify-window",
    "only-write-batch",
    "out-format",
    "outbuf",
    "partial-dir",
    "password-file",
    "port",
    "protocol",
    "read-batch",
    "remote-option",
    "rsh",
    "rsync-path",
    "skip-compress",
    "sockopts",
    "stderr",
    "stop-after",
    "stop-at",
    "suffix",
    "temp-dir",
    "time-limit",
    "timeout",
    "usermap",
    "write-batch",
    "zc",
    "zl",
];

/// Options that would make rsync do something else than was planned: as they are written,
/// and whether the name only has to begin so.
const REFUSED_LONG: &[(&str, bool)] = &[
    ("inplace", false),
    ("append", true),
    ("delete", true),
    ("del", false),
    ("remove-source-files", false),
    ("remove-sent-files", false),
    ("update", false),
    ("dry-run", false),
    ("relative", false),
    ("existing", false),
    ("ignore-non-existing", false),
    ("ignore-existing", false),
    ("temp-dir", false),
    ("files-from", false),
    ("backup", true),
    ("suffix", false),
    ("list-only", false),
    ("read-batch", false),
    ("write-batch", false),
    ("only-write-batch", false),
    ("server", false),
    ("sender", false),
    ("daemon", false),
];

/// Their short forms.
const REFUSED_SHORT: &[u8] = b"unRTb";

/// The arguments, one group an option: the option and its value, if that is a word apart.
///
/// # Errors
/// Everything that is wrong with them, each in a sentence.
pub fn read(text: &str) -> Result<Vec<Vec<String>>, Vec<String>> {
    let words = shell_words::split(text).map_err(|_| vec!["a quote is not closed".to_owned()])?;
    let mut problems = Vec::new();
    let mut groups = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let takes_next = match examine(&word) {
            Ok(takes_next) => takes_next,
            Err(problem) => {
                problems.push(problem);
                takes_value_apart(&word)
            }
        };
        let mut group = vec![word];
        if takes_next {
            match words.next() {
                Some(value) => group.push(value),
                None => problems.push(format!("{} lacks its value", group[0])),
            }
        }
        groups.push(group);
    }
    if problems.is_empty() { Ok(groups) } else { Err(problems) }
}

/// Which modification times rsync sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Those of everything but directories.
    pub files: bool,
    /// Those of directories.
    pub dirs: bool,
}

/// What the arguments leave of times: the last word on each counts, as for rsync.
#[must_use]
pub fn times(groups: &[Vec<String>]) -> Times {
    let (mut times, mut omits_dirs) = (true, false);
    for word in groups.iter().filter_map(|group| group.first()) {
        match word.as_str() {
            "--times" => times = true,
            "--no-times" | "--no-t" => times = false,
            "--omit-dir-times" => omits_dirs = true,
            "--no-omit-dir-times" | "--no-O" => omits_dirs = false,
            word => {
                let cluster = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
                for byte in cluster.unwrap_or_default().bytes() {
                    match byte {
                        b't' | b'a' => times = true,
                        b'O' => omits_dirs = true,
                        // the rest is a value
                        byte if SHORT_WITH_VALUE.contains(&byte) => break,
                        _ => {}
                    }
                }
            }
        }
    }
    Times { files: times, dirs: times && !omits_dirs }
}

/// Whether the word is an option that takes the next word as its value.
fn examine(word: &str) -> Result<bool, String> {
    let refused = |what: &str| Err(format!("{what} is refused: it would break the plan of a run"));
    if let Some(long) = word.strip_prefix("--") {
        let name = long.split('=').next().unwrap_or(long);
        if name.is_empty() {
            return Err(format!("'{word}' is no option"));
        }
        if REFUSED_LONG.iter().any(|(bad, open)| name == *bad || (*open && name.starts_with(bad))) {
            return refused(&format!("--{name}"));
        }
        return Ok(takes_value_apart(word));
    }
    let Some(cluster) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
        return Err(format!(
            "'{word}' is no option; rsync would take it for a file (write values as --option=value)"
        ));
    };
    for byte in cluster.bytes() {
        if REFUSED_SHORT.contains(&byte) {
            return refused(&format!("-{}", char::from(byte)));
        }
        if SHORT_WITH_VALUE.contains(&byte) {
            break;
        }
    }
    Ok(takes_value_apart(word))
}

fn takes_value_apart(word: &str) -> bool {
    if let Some(long) = word.strip_prefix("--") {
        return LONG_WITH_VALUE.contains(&long);
    }
    let cluster = word.strip_prefix('-').unwrap_or_default().as_bytes();
    let first = cluster.iter().position(|byte| SHORT_WITH_VALUE.contains(byte));
    first.is_some_and(|at| at + 1 == cluster.len())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            let expected: Vec<Vec<String>> =
                expected.into_iter().map(|g| g.into_iter().map(str::to_owned).collect()).collect();
            assert_eq!(read(text), Ok(expected), "{text}");
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
            assert_eq!(times(&read(text).unwrap()), Times { files, dirs }, "{text}");
        }
    }

    #[test]
    fn arguments_that_break_the_plan_are_refused_in_every_spelling() {
        for (text, named) in [
            ("--inplace", "--inplace"),
            ("--append-verify", "--append-verify"),
            ("--delete", "--delete"),
            ("--delete-after", "--delete-after"),
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
            let problems = read(text).expect_err(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(named), "{text}: {problems:?}");
        }
        assert_eq!(read("-u --inplace x").map_err(|p| p.len()), Err(3));
    }
}
