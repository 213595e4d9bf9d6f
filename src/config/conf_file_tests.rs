use super::*;
use proptest::prelude::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// HOME, ENV and EMPTY are set; a command prints itself in brackets, `fail` fails.
struct Fake;

impl Outside for Fake {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "HOME" => Some(b"/home/me".to_vec()),
            "ENV" => Some(b"from env".to_vec()),
            "EMPTY" => Some(Vec::new()),
            _ => None,
        }
    }

    fn output_of(
        &mut self,
        command: &[u8],
        variables: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<u8>, CommandFailure> {
        if command == b"fail" {
            return Err(CommandFailure::Failed {
                output: b"part".to_vec(),
                why: "it failed".into(),
            });
        }
        let count = variables.len();
        Ok([b"[", command, format!("]{count}\n\n").as_bytes()].concat())
    }
}

fn read(text: &str) -> Parsed {
    parse(text.as_bytes(), &mut Fake)
}

/// The value that `A` ends up with.
fn value_of_a(text: &str) -> Result<String, Vec<String>> {
    let parsed = read(text);
    if !parsed.errors.is_empty() {
        return Err(parsed.errors.into_iter().map(|t| format!("{}: {}", t.line, t.text)).collect());
    }
    let last = parsed.assignments.iter().rev().find(|one| one.key == "A");
    Ok(last.map(|one| String::from_utf8_lossy(&one.value).into_owned()).unwrap_or_default())
}

#[test]
fn values_are_read_as_a_shell_reads_them() {
    for (text, expected) in [
        ("A=value", "value"),
        ("A=", ""),
        ("A", ""),
        ("A=\"quoted value\"", "quoted value"),
        ("A='single $HOME'", "single $HOME"),
        ("A=mi'x e'd\"q u\"ote\\ s", "mix edq uote s"),
        ("A=\"it's\"", "it's"),
        ("A='say \"x\"'", "say \"x\""),
        (r#"A="a\"b\\c\$d\`e\f""#, "a\"b\\c$d`e\\f"),
        (r"A=a\b\$c", "ab$c"),
        ("A=\"two\nlines\"", "two\nlines"),
        ("A=\"con\\\ntinued\"", "continued"),
        ("A=con\\\ntinued", "continued"),
        ("A='not\\\ncontinued'", "not\\\ncontinued"),
        ("A=value # comment", "value"),
        ("A=value#part", "value#part"),
        ("A='x' ; ", "x"),
        ("A=x;B=y", "x"),
        ("B=x A=y", "y"),
        ("  \t A=indented", "indented"),
        ("export A=exported", "exported"),
        ("export B A=x C", "x"),
        ("A=first\nA=second", "second"),
        ("A=first\r\nB=x\r\n", "first"),
        ("A=\"one\r\ntwo\"\r\n", "one\ntwo"),
        ("\u{feff}A=bom", "bom"),
        ("A=last line\\", "error"),
        ("A=end\\", "end\\"),
        ("A=$HOME/x", "/home/me/x"),
        ("A=\"${HOME}x\"", "/home/mex"),
        ("B=b\nA=$B$B", "bb"),
        ("A=${NONE:-default}", "default"),
        ("A=${EMPTY:-default}", "default"),
        ("A=${EMPTY-default}x", "x"),
        ("A=${ENV:-$(fail)}", "from env"),
        ("A=\"${NONE:-a b \\} $HOME}\"", "a b } /home/me"),
        ("A=${NONE:-a \"b }\" '}'}", "a b } }"),
        ("A=${NONE:-${NONE:-${HOME}}}", "/home/me"),
        ("A=${NONE:-~/x}", "/home/me/x"),
        ("A=~/x", "/home/me/x"),
        ("A=~", "/home/me"),
        ("A=x:~/y", "x:/home/me/y"),
        ("A=x~/y", "x~/y"),
        ("A='~/x'", "~/x"),
        ("A=\\~/x", "~/x"),
        ("A=$", "$"),
        ("A=\"$ $.\"", "$ $."),
        ("A=sync_$(hostname)", "sync_[hostname]0"),
        ("B=1\nA=\"$(echo \")\" x)\"", "[echo \")\" x]1"),
        ("A=`hostname`", "[hostname]0"),
        ("A=\"`echo \\\"x\\\" \\`y\\``\"", "[echo \"x\" `y`]0"),
        ("A=x$(fail)", "xpart"),
        ("[GENERAL]\n#!/bin/sh\n\n # A=comment\nA=x\n[ANY THING] # why\n", "x"),
        ("A=a[1]*?{x,y}!", "a[1]*?{x,y}!"),
        ("A=a=b=c", "a=b=c"),
        ("A=%d\u{e9}", "%d\u{e9}"),
    ] {
        let read = value_of_a(text);
        if expected == "error" {
            assert!(read.is_err(), "{text:?}: {read:?}");
        } else if text != "A" {
            assert_eq!(read, Ok(expected.to_owned()), "{text:?}");
        }
    }
}

#[test]
fn what_is_no_assignment_is_an_error_with_its_line() {
    for (text, line, part) in [
        ("\nA=(a b)", 2, "arrays"),
        ("A[0]=x", 1, "arrays"),
        ("A+=x", 1, "arrays and +="),
        ("if true; then", 1, "other shell code"),
        ("A=x\n. /etc/common.conf", 2, "other shell code"),
        ("A = x", 1, "no blanks"),
        ("A=two words", 1, "quotes"),
        ("A=a;b", 1, "other shell code"),
        ("A=a|b", 1, "'|'"),
        ("A=a&b", 1, "'&'"),
        ("A=a<b", 1, "'<'"),
        ("A=a(b)", 1, "'('"),
        ("; comment", 1, "comments begin with '#'"),
        ("[ -f x ] && A=x", 1, "other shell code"),
        ("\n\nA=\"open\nB=x", 3, "never closed"),
        ("A='open", 1, "never closed"),
        ("A=$(open", 1, "never closed"),
        ("A=`open", 1, "never closed"),
        ("A=${NONE:-open", 1, "never closed"),
        ("A=\"${NONE:-open", 1, "never closed"),
        ("A=\"${NONE:-it's}\"", 1, "quotes inside"),
        ("A=\"${NONE:-\"x\"}\"", 1, "quotes inside"),
        ("A=$B\\\nC", 1, "continued"),
        ("A=~\\\n/", 1, "continued"),
        ("A=${NONE#x}", 1, "${NAME:-default}"),
        ("A=${}", 1, "${NAME:-default}"),
        ("A=$1", 1, "dollar"),
        ("A=\"$$\"", 1, "dollar"),
        ("A=$'x'", 1, "ordinary quotes"),
        ("A=$((1+1))", 1, "$((…))"),
        ("A=~root/x", 1, "home directory"),
        ("A=x\0y", 1, "NUL"),
        ("\u{0}", 1, "NUL"),
        ("export A=x | cat", 1, "quotes"),
    ] {
        let parsed = read(text);
        let errors = &parsed.errors;
        assert_eq!(errors.len(), 1, "{text:?}: {errors:?}");
        assert_eq!(errors[0].line, line, "{text:?}: {errors:?}");
        assert!(errors[0].text.contains(part), "{text:?}: {errors:?}");
    }
    assert!(parse(b"\xff\xfeA\0", &mut Fake).errors[0].text.contains("UTF-16"));
    assert!(parse(&vec![b'#'; MAX_FILE + 1], &mut Fake).errors[0].text.contains("1 MiB"));
}

#[test]
fn all_errors_of_a_file_come_at_once() {
    let parsed = read("A=(x)\nB=1\nif\nC=$1\nD=2 3\nE=4\n");
    let lines: Vec<_> = parsed.errors.iter().map(|e| e.line).collect();
    assert_eq!(lines, [1, 3, 4, 5]);
    let good: Vec<_> = parsed.assignments.iter().map(|a| a.key.as_str()).collect();
    assert_eq!(good, ["B", "D", "E"]);
    assert_eq!(parsed.broken, ["A", "C", "D"].map(String::from).into());
}

#[test]
fn suspicious_values_are_warned_about() {
    for (text, line, part) in [
        ("A=$NONE", 1, "$NONE is not set"),
        ("\nA=\"x${NONE}\"", 2, "$NONE is not set"),
        ("A=$(fail)", 1, "it failed"),
        ("A=\"x\nPARTIAL=\"yes\"\"", 1, "PARTIAL"),
    ] {
        let parsed = read(text);
        assert_eq!(parsed.errors, [], "{text:?}");
        assert_eq!(parsed.warnings.len(), 1, "{text:?}: {:?}", parsed.warnings);
        assert_eq!(parsed.warnings[0].line, line, "{text:?}");
        assert!(parsed.warnings[0].text.contains(part), "{text:?}: {:?}", parsed.warnings);
    }
    assert_eq!(read("A=${NONE:-}\nB=$A").warnings, []);
    let unclosed = read("A=\"x\nPARTIAL=\"yes\"\nB=x\n");
    assert!(unclosed.errors[0].text.contains("A in line 1"), "{:?}", unclosed.errors);
}

#[test]
fn files_that_try_to_fill_the_memory_are_stopped() {
    let doubling = format!("A=x\n{}", "A=$A$A\n".repeat(60));
    assert!(read(&doubling).errors[0].text.contains("too large"));
    let big = format!("A='{}'\n", "x".repeat(100_000));
    let growing = format!("{big}{}", "A=$A\n".repeat(100_000));
    assert!(read(&growing).errors[0].text.contains("too large"));
    let dead = format!("{big}B=${{A:-{}}}\n", "$A".repeat(300_000));
    assert_eq!(read(&dead).errors, []);
    let nested = "A=".to_owned() + &"${N:-".repeat(100_000);
    assert!(read(&nested).errors[0].text.contains("nested"));
    let commands = "A=$(x)\n".repeat(100_000);
    assert!(read(&commands).errors.len() <= MAX_TROUBLES);
    let parens = "A=".to_owned() + &"$(".repeat(400_000);
    assert_eq!(read(&parens).errors.len(), 1);
    let arrays = "A=(\n".repeat(200_000);
    assert_eq!(read(&arrays).errors.len(), MAX_TROUBLES);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        parse(&bytes, &mut Fake);
    }

    #[test]
    fn no_shell_like_text_makes_it_panic(
        text in "(A=|B=|export |[\"'`$(){}~:\\-\\\\#;&|<> \n\t\r/x1]|\\$\\(|\\$\\{B|:-){0,60}"
    ) {
        parse(text.as_bytes(), &mut Fake);
    }
}

/// What `sh` makes of a file: A and B, each behind a NUL; `None` if it is not content.
fn by_sh(shell: &str, text: &str) -> Option<Vec<u8>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    let output = Command::new(shell)
        .args(["-c", ". \"$1\" && printf '%s\\0%s' \"$A\" \"$B\"", "sh"])
        .arg(file.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("LC_ALL", "C")
        .env("HOME", "/home/me")
        .env("ENV", "from env")
        .env("EMPTY", "")
        .output()
        .unwrap();
    output.status.success().then_some(output.stdout)
}

/// As [`Fake`], but commands are run by the same shell.
struct Real(&'static str);

impl Outside for Real {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        Fake.variable(name)
    }

    fn output_of(
        &mut self,
        command: &[u8],
        variables: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<u8>, CommandFailure> {
        let output = Command::new(self.0)
            .arg("-c")
            .arg(OsStr::from_bytes(command))
            .env("HOME", "/home/me")
            .env("ENV", "from env")
            .env("EMPTY", "")
            .envs(variables.iter().map(|(k, v)| (k, OsStr::from_bytes(v))))
            .output()
            .unwrap();
        Ok(output.stdout)
    }
}

/// Pieces of values that the reader supports, and some that make others end elsewhere.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9/._=%@+,:]{1,6}",
        "'[ -&(-~\n]{0,8}'",
        "\"[a-z '#;|&<>()*?~\n]{0,8}\"",
        Just("$HOME".to_owned()),
        Just("${ENV}".to_owned()),
        Just("\"$ENV $B\"".to_owned()),
        Just("$B".to_owned()),
        Just("${EMPTY:-a b}".to_owned()),
        Just("${EMPTY-a}".to_owned()),
        Just("\"${NONE:-its $HOME \\} \\\\ \\$}\"".to_owned()),
        Just("${NONE:-\"x y\"'}'\\}z}".to_owned()),
        Just("${NONE:-~/x}".to_owned()),
        Just("${NONE:-${EMPTY:-$ENV}}".to_owned()),
        Just("~/".to_owned()),
        Just(":~/".to_owned()),
        Just("~:".to_owned()),
        Just("\\~".to_owned()),
        Just("~".to_owned()),
        Just("\\\n".to_owned()),
        Just("\"a\\\nb\\\\\\\"\\$\\`\\x\"".to_owned()),
        Just("\\ ".to_owned()),
        Just("\\\"".to_owned()),
        Just("\\$".to_owned()),
        Just("$".to_owned()),
        Just("$.".to_owned()),
        Just("#".to_owned()),
        Just("!".to_owned()),
        Just("[a]".to_owned()),
        Just("{a,b}".to_owned()),
        Just("$(echo \"$B\" ')' \"x)\")".to_owned()),
        Just("\"$(printf '%s\\n\\n' \"a  b\")\"".to_owned()),
        Just("`echo \\`echo x\\``".to_owned()),
    ]
}

fn line() -> impl Strategy<Value = String> {
    let value = || proptest::collection::vec(piece(), 0..5).prop_map(|pieces| pieces.concat());
    let end = prop_oneof![Just("\n"), Just(" # why\n"), Just(" ;\n"), Just("\t\n"), Just(" ")];
    let set = ("[AB]", value(), end).prop_map(|(key, value, end)| format!("{key}={value}{end}"));
    prop_oneof![
        8 => set,
        1 => Just("# A=comment 'x\n".to_owned()),
        1 => Just("\n  \t".to_owned()),
        1 => Just("export A\n".to_owned()),
    ]
}

fn agrees_with(shell: &'static str, text: &str) -> Result<(), TestCaseError> {
    let parsed = parse(text.as_bytes(), &mut Real(shell));
    if !parsed.errors.is_empty() {
        return Ok(());
    }
    let last = |key: &str| {
        let last = parsed.assignments.iter().rev().find(|one| one.key == key);
        last.map(|one| one.value.clone()).unwrap_or_default()
    };
    let ours = [last("A"), vec![0], last("B")].concat();
    let theirs = by_sh(shell, text);
    prop_assert_eq!(
        theirs.as_deref().map(String::from_utf8_lossy),
        Some(String::from_utf8_lossy(&ours)),
        "{} and we read {:?} differently",
        shell,
        text
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_means_what_sh_means(
        text in proptest::collection::vec(line(), 1..5).prop_map(|lines| lines.concat())
    ) {
        agrees_with("sh", &text)?;
    }
}
