use super::keys::ValueKind;
use super::toml_file::in_toml;
use super::upgrade::{comment, entry};
use crate::config::conf_file;
use crate::config::fuzzing::Fake;
use crate::config::keys::{KEYS, OBSOLETE, Section};
use crate::config::toml_file;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// `sync.conf.example`.
fn conf() -> String {
    let mut out = String::from(
        "# A task of osync. Lines are KEY=value, quoted as in a shell; what follows a '#' is a\n\
         # comment. Every setting is shown; one that is left out has its default, which is\n\
         # told where this file sets another value. docs/configuration.md says more.\n\
         #\n\
         # Run it with: osync /etc/osync/sync.conf\n\
         # Look before:  osync check /etc/osync/sync.conf\n\
         #               osync /etc/osync/sync.conf --dry --verbose\n",
    );
    for section in Section::ALL {
        let _ = writeln!(out, "\n[{}]", section.name());
        for key in KEYS.iter().filter(|key| key.section == section) {
            out.push('\n');
            let entry = entry(key, key.sample.unwrap_or(key.default).as_bytes());
            out.push_str(std::str::from_utf8(&entry).unwrap());
        }
    }
    out
}

/// `examples/sync.toml`.
fn toml() -> String {
    let mut out = String::from(
        "# The same settings as in sync.conf.example, in TOML. Keys may also stand in upper\n\
         # case and without their sections. Nothing is expanded here but '~/' in paths.\n",
    );
    for section in Section::ALL {
        let _ = writeln!(out, "\n[{}]", section.name().to_lowercase());
        for key in KEYS.iter().filter(|key| key.section == section) {
            let value = key.sample.unwrap_or(key.default);
            let _ = write!(out, "\n{}", comment(key.about));
            let _ =
                writeln!(out, "{} = {}", key.name.to_lowercase(), in_toml(key.kind, value, ";"));
        }
    }
    out
}

/// The tables of `docs/configuration.md`.
fn manual() -> String {
    let mut out = String::new();
    for section in Section::ALL {
        let _ = writeln!(out, "\n### [{}]\n", section.name());
        out.push_str("| key | type | default | what it does |\n|---|---|---|---|\n");
        for key in KEYS.iter().filter(|key| key.section == section) {
            let names = match key.aliases {
                [] => format!("`{}`", key.name),
                aliases => format!("`{}` (also `{}`)", key.name, aliases.join("`, `")),
            };
            let default = match key.default {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            let kind = match key.kind {
                ValueKind::Choice(words) => words
                    .iter()
                    .filter(|word| !word.is_empty())
                    .map(|word| format!("`{word}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
                kind => kind.describe().to_owned(),
            };
            let _ = writeln!(out, "| {names} | {kind} | {default} | {} |", key.about);
        }
    }
    out.push('\n');
    out
}

/// Compares a file of the repository with what the table of keys says. With
/// OSYNC_UPDATE_SAMPLES set, writes the file instead.
fn is_up_to_date(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("OSYNC_UPDATE_SAMPLES").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == expected,
        "{name} differs from the table of keys; \
         run the unit tests of config::sample with OSYNC_UPDATE_SAMPLES=1"
    );
}

#[test]
fn the_sample_files_are_made_from_the_table() {
    is_up_to_date("sync.conf.example", &conf());
    is_up_to_date("examples/sync.toml", &toml());
}

#[test]
fn both_samples_set_every_key_to_the_same_value() {
    let conf = conf_file::parse(conf().as_bytes(), &mut Fake);
    let toml = toml_file::parse(toml().as_bytes());
    assert_eq!((&conf.errors, &toml.errors), (&Vec::new(), &Vec::new()));
    assert_eq!(conf.warnings, []);
    let names = |parsed: &conf_file::Parsed| -> BTreeSet<String> {
        parsed.assignments.iter().map(|one| one.key.clone()).collect()
    };
    let all: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    assert_eq!(names(&conf), all);
    assert_eq!(names(&toml), all);
    for one in &conf.assignments {
        let other = toml.assignments.iter().find(|other| other.key == one.key).unwrap();
        let shown = |value: &[u8]| String::from_utf8_lossy(value).replace('\0', "");
        assert_eq!(shown(&one.value), shown(&other.value), "{}", one.key);
    }
}

#[test]
fn comments_are_short_lines() {
    let long = conf().lines().filter(|line| line.len() > 90).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(long, [""; 0]);
    assert!(OBSOLETE.iter().all(|old| !conf().contains(&format!("\n{}=", old.name))));
}

/// The table in docs/configuration.md, between its markers.
#[test]
fn the_manual_lists_every_key_as_the_table_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- keys: begin -->\n", "<!-- keys: end -->");
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    is_up_to_date("docs/configuration.md", &format!("{before}{begin}{}{end}{after}", manual()));
}
