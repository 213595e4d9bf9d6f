use super::*;
use crate::config::fuzzing::Fake as Home;
use std::collections::BTreeMap;

const OLD: [(&str, &str); 3] = [
    ("v1.0", include_str!("../../tests/data/old-configurations/v1.0.conf")),
    ("v1.1", include_str!("../../tests/data/old-configurations/v1.1.conf")),
    ("v1.2", include_str!("../../tests/data/old-configurations/v1.2.conf")),
];

fn upgraded(text: &str) -> String {
    String::from_utf8(upgrade(text.as_bytes(), &mut Home).unwrap().text).unwrap()
}

fn values(text: &str) -> BTreeMap<String, String> {
    let parsed = conf_file::parse(text.as_bytes(), &mut Home);
    assert_eq!(parsed.errors, []);
    let value = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    parsed.assignments.iter().map(|one| (one.key.clone(), value(&one.value))).collect()
}

#[test]
fn old_files_become_complete_files_of_today() {
    for (version, text) in OLD {
        let new = upgraded(text);
        let values = values(&new);
        for key in KEYS {
            let there = std::iter::once(&key.name).chain(key.aliases);
            assert!(there.into_iter().any(|n| values.contains_key(*n)), "{version}: {}", key.name);
        }
        for name in values.keys() {
            assert!(keys::find(name).is_some(), "{version}: {name} is left");
        }
        assert_eq!(values["CONFIG_FILE_REVISION"], "1.3.0", "{version}");
    }
}

#[test]
fn running_it_again_changes_nothing() {
    for (version, text) in OLD {
        for text in [text.to_owned(), text.replace('\n', "\r\n")] {
            let once = upgrade(text.as_bytes(), &mut Home).unwrap();
            assert!(!once.notes.is_empty());
            let twice = upgrade(&once.text, &mut Home).unwrap();
            assert_eq!(twice.notes, [""; 0], "{version}");
            assert!(twice.text == once.text, "{version}");
        }
    }
    let shipped = include_str!("../../sync.conf.example");
    let sample = shipped.replace("=yes\n", "=true\n").replace("=no\n", "=false\n");
    assert_eq!(upgraded(&sample), sample);
}

#[test]
fn every_line_of_the_user_stays_or_is_changed_in_place() {
    let new = upgraded(OLD[0].1);
    let mut lines = new.lines();
    for expected in [
        "###### A task of 2014, by hand",
        "## which one",
        "INSTANCE_ID=\"old\"",
        "INITIATOR_SYNC_DIR=\"${HOME}/data/master\"   # on this machine",
        "TARGET_SYNC_DIR=\"ssh://syncuser@your-remote-host.tld:2222//srv/slave\"",
        "CREATE_DIRS=false",
        "LOGFILE=\"/var/log/osync_${INSTANCE_ID}.log\"",
        "RSYNC_EXCLUDE_PATTERN=\"tmp;archives\"",
        "#REMOTE_SYNC=yes",
        "SSH_RSA_PRIVATE_KEY=~/.ssh/id_rsa",
        "#REMOTE_USER=syncuser",
        "#REMOTE_HOST=your-remote-host.tld",
        "#REMOTE_PORT=2222",
        "SSH_COMPRESSION=true",
        "RSYNC_REMOTE_PATH=\"\"",
        "PRESERVE_ACL='false'",
        "CONFLICT_BACKUP=\"true\"",
        "CONFLICT_PREVALANCE=target",
        "SOFT_DELETE_DAYS=60",
        "## nothing disappears on the master",
        "SKIP_DELETION=\"initiator\"",
        "LOCAL_RUN_BEFORE_CMD=\"logger 'sync of $INSTANCE_ID begins'\"",
    ] {
        assert!(lines.any(|line| line == expected), "{expected}\n{new}");
    }
}

#[test]
fn small_things_are_treated_as_they_should() {
    for (text, part) in [
        ("SYNC_ID=a", "INSTANCE_ID=a"),
        ("export SYNC_ID=a # x", "export INSTANCE_ID=a # x"),
        ("KRB5=\"YES\"", "KRB5=\"true\""),
        ("KRB5=$(echo no)", "KRB5=$(echo no)"),
        ("KRB5=true", "KRB5=true"),
        ("A='$SYNC_IDS'", "A='$SYNC_IDS'"),
        ("A=${SYNC_ID:-x}", "A=${INSTANCE_ID:-x}"),
        ("A='cost $ $'", "A='cost $ $'"),
        ("SKIP_DELETION=slave,master", "SKIP_DELETION=target,initiator"),
        ("REMOTE_SYNC=no\nSLAVE_SYNC_DIR=/x", "\nTARGET_SYNC_DIR=/x\n"),
        ("REMOTE_SYNC=yes\nREMOTE_HOST=h\nSLAVE_SYNC_DIR=/x", "\nTARGET_SYNC_DIR=ssh://h//x\n"),
        (
            "REMOTE_SYNC=yes\nREMOTE_HOST=h\nSLAVE_SYNC_DIR=ssh://g//x",
            "\nTARGET_SYNC_DIR=ssh://g//x\n",
        ),
        ("REMOTE_3RD_PARTY_HOST=h", "REMOTE_3RD_PARTY_HOSTS=h"),
        (
            "SOFT_MAX_EXEC_TIME_TOTAL=1\nSOFT_MAX_EXEC_TIME_FILE_TASK=2",
            "SOFT_MAX_EXEC_TIME_TOTAL=1\nSOFT_MAX_EXEC_TIME_FILE_TASK=2",
        ),
        ("CONFIG_FILE_REVISION=1.2.0", "CONFIG_FILE_REVISION=1.3.0"),
        ("REMOTE_HOST=h REMOTE_PORT=1", "#REMOTE_HOST=h"),
        ("[GENERAL]\nSYNC_ID=a\n[REMOTE_OPTIONS]\nKRB5=yes\n", "[REMOTE_OPTIONS]\nKRB5=true"),
        ("", "[GENERAL]\n"),
        ("# no end of line", "# no end of line\n\n[GENERAL]\n"),
    ] {
        let new = upgraded(text);
        assert!(new.contains(part), "{text}: {new}");
        assert_eq!(upgraded(&new), new, "{text}");
    }
}

#[test]
fn names_that_are_no_text_stay_as_they_are_beside_what_is_changed() {
    let old = b"SYNC_ID=t\nMASTER_SYNC_DIR=\"/m\xfcsik/${SYNC_ID}\"\nSLAVE_SYNC_DIR=/b\xe9\n\
                REMOTE_SYNC=yes\nREMOTE_HOST=h\nREMOTE_RSYNC_PATH=no\n";
    let new = upgrade(old, &mut Home).unwrap().text;
    let lines: Vec<&[u8]> = new.split(|b| *b == b'\n').collect();
    for line in
        [&b"INITIATOR_SYNC_DIR=\"/m\xfcsik/${INSTANCE_ID}\""[..], b"TARGET_SYNC_DIR=ssh://h//b\xe9"]
    {
        assert!(lines.contains(&line), "{}", String::from_utf8_lossy(&new));
    }
    assert_eq!(upgrade(&new, &mut Home).unwrap().text, new);
}

/// A machine on which no pattern file is there.
struct Bare;

impl crate::config::conf_file::Outside for Bare {
    fn variable(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn lacks_pattern_file(&self, _: &[u8]) -> bool {
        true
    }

    fn output_of(
        &mut self,
        _: &[u8],
        _: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<u8>, crate::config::conf_file::CommandFailure> {
        Ok(Vec::new())
    }
}

#[test]
fn what_osync_1_3_went_on_without_is_taken_out_of_the_way() {
    let old = b"INSTANCE_ID=a\nsome stray words\n= x\nRSYNC_EXCLUDE_FROM=\"gone.list\"\n\
                LOGFILE = x\nRSYNC_INCLUDE_FROM=\"\"\n";
    let new = upgrade(old, &mut Bare).unwrap();
    let text = String::from_utf8(new.text.clone()).unwrap();
    for line in [
        "# some stray words",
        "# = x",
        "RSYNC_EXCLUDE_FROM=\"\"",
        "# LOGFILE = x",
        "RSYNC_INCLUDE_FROM=\"\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let told = new.notes.join("\n");
    assert!(told.contains("line 2 is not a setting") && told.contains("no gone.list"), "{told}");
    let again = upgrade(&new.text, &mut Bare).unwrap();
    assert_eq!((again.text, again.notes), (new.text, vec![]));
    for code in ["if true; then\nA=1\nfi\n", "f() {\n", ". /etc/x\n", "A=(1 2)\n", "A=b c\n"] {
        assert!(upgrade(code.as_bytes(), &mut Bare).is_err(), "{code}");
    }
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let errors = upgrade(b"SYNC_ID=a\nif true; then\n", &mut Home).unwrap_err();
    assert_eq!(errors.iter().map(|e| e.line).collect::<Vec<_>>(), [2]);
}

#[test]
fn what_shares_a_line_with_a_setting_of_old_stays() {
    for (line, kept, key, value) in [
        (
            "MASTER_SYNC_DIR=\"/m\"; REMOTE_SYNC=no",
            "INITIATOR_SYNC_DIR=\"/m\"",
            "INITIATOR_SYNC_DIR",
            "/m",
        ),
        ("REMOTE_SYNC=no; SOFT_DELETE=no", "SOFT_DELETE=false", "SOFT_DELETE", "false"),
        (
            "SOFT_DELETE=no;REMOTE_SYNC=no # note",
            "SOFT_DELETE=false # note",
            "SOFT_DELETE",
            "false",
        ),
        (
            "SOFT_DELETE=no; export REMOTE_SYNC=no; PARTIAL=yes",
            "SOFT_DELETE=false; PARTIAL=true",
            "PARTIAL",
            "true",
        ),
        ("export REMOTE_SYNC=no PARTIAL=yes", "PARTIAL=true", "PARTIAL", "true"),
        ("export PARTIAL=yes REMOTE_SYNC=no", "export PARTIAL=true", "PARTIAL", "true"),
        ("LOGFILE=\"/a\nb\"; REMOTE_SYNC=no", "LOGFILE=\"/a\nb\"", "LOGFILE", "/a\nb"),
        (
            "LOGFILE=/x/export\nREMOTE_SYNC=no; PARTIAL=yes",
            "LOGFILE=/x/export\n",
            "LOGFILE",
            "/x/export",
        ),
        ("LOGFILE=/export REMOTE_SYNC=no", "LOGFILE=/export", "LOGFILE", "/export"),
        (
            "LOGFILE=/x;\nREMOTE_SYNC=no PARTIAL=yes",
            "LOGFILE=/x;\n#REMOTE_SYNC=no\n",
            "PARTIAL",
            "true",
        ),
        ("PARTIAL=yes; REMOTE_SYNC=no; REMOTE_PORT=22", "PARTIAL=true", "PARTIAL", "true"),
    ] {
        let new = upgraded(line);
        assert!(new.contains(kept), "{line}: {new}");
        assert!(new.contains("#REMOTE_SYNC=no\n"), "{line}: {new}");
        let found = values(&new);
        assert_eq!(found.get(key).map(String::as_str), Some(value), "{line}: {new}");
        assert!(!found.contains_key("REMOTE_SYNC"), "{line}");
        assert_eq!(upgraded(&new), new, "{line}");
    }
}

#[test]
fn settings_are_replaced_where_they_stand() {
    let replace = |text: &str, value: &str| {
        let value = value.as_bytes().to_vec();
        let one = Replacement { old: "TARGET_SYNC_DIR", new: "TARGET_SYNC_DIRS", value };
        let new = with_settings(FileForm::Conf, text.as_bytes(), &[one], &mut Home);
        new.map(|new| String::from_utf8(new).unwrap())
    };
    for (text, value, expected) in [
        (
            "# x\nTARGET_SYNC_DIR=/a # y\nA=1\n",
            "/a;/b",
            "# x\nTARGET_SYNC_DIRS=\"/a;/b\" # y\nA=1\n",
        ),
        ("export TARGET_SYNC_DIR='/a'\r\n", "/a", "export TARGET_SYNC_DIRS=\"/a\"\r\n"),
        ("TARGET_SYNC_DIR=/a\nTARGET_SYNC_DIR=/b\n", "$`\"\\", {
            "TARGET_SYNC_DIRS=\"\\$\\`\\\"\\\\\"\nTARGET_SYNC_DIRS=\"\\$\\`\\\"\\\\\"\n"
        }),
        (
            "TARGET_SYNC_DIR=/a\nTARGET_SYNC_DIRS=\"\"\n",
            "/a;/b",
            "TARGET_SYNC_DIR=\"\"\nTARGET_SYNC_DIRS=\"/a;/b\"\n",
        ),
    ] {
        let new = replace(text, value).unwrap();
        assert_eq!(new, expected);
        assert_eq!(values(&new)["TARGET_SYNC_DIRS"], value, "it is read as it was meant");
    }
    assert!(replace("SLAVE_SYNC_DIR=/a\n", "/b").is_err(), "it has another name there");
}

#[test]
fn a_toml_file_gets_other_settings_and_keeps_the_rest_as_it_is() {
    let replace = |text: &str, old, new, value: &[u8]| {
        let one = Replacement { old, new, value: value.to_vec() };
        with_settings(FileForm::Toml, text.as_bytes(), &[one], &mut Home)
    };
    let to_star = |text: &str| replace(text, "TARGET_SYNC_DIR", "TARGET_SYNC_DIRS", b"/a \"\0/b");
    let to_pair = |text: &str| replace(text, "TARGET_SYNC_DIRS", "TARGET_SYNC_DIR", b"/a \\");
    for (text, change, expected) in [
        (
            "\u{feff}# ä\r\n[general]\r\ntarget_sync_dir = '/x' # y\r\npartial = true",
            &to_star as &dyn Fn(&str) -> _,
            "\u{feff}# ä\r\n[general]\r\ntarget_sync_dirs = ['/a \"', \"/b\"] # y\r\npartial = true",
        ),
        (
            "general.\"target_sync_dir\" = \"\"\"\n/x\"\"\"\n",
            &to_star,
            "general.target_sync_dirs = ['/a \"', \"/b\"]\n",
        ),
        (
            "general = { TARGET_SYNC_DIR = '/x', target_sync_dirs = [] }\n",
            &to_star,
            "general = { TARGET_SYNC_DIR = \"\", target_sync_dirs = ['/a \"', \"/b\"] }\n",
        ),
        (
            "TARGET_SYNC_DIRS = [\n  '/a \\', # one\n  '/b', # two\n]\nzip = 1\n",
            &to_pair,
            "TARGET_SYNC_DIR = '/a \\'\nzip = 1\n",
        ),
    ] {
        let new = String::from_utf8(change(text).unwrap()).unwrap();
        assert_eq!(new, expected);
        assert_eq!(toml_file::parse(new.as_bytes()).errors, []);
    }
    for text in ["target_sync_dirs = []", "a = = 1\ntarget_sync_dir = ''"] {
        assert!(to_star(text).is_err(), "{text}");
    }
    let odd = replace("target_sync_dir = ''", "TARGET_SYNC_DIR", "TARGET_SYNC_DIRS", b"/\xff\0");
    assert!(odd.unwrap_err()[0].text.contains("UTF-8"));
}

#[test]
fn a_new_file_says_byte_for_byte_what_it_was_made_of() {
    let settings: Vec<(&str, Vec<u8>)> = vec![
        ("TARGET_SYNC_DIR", b"ssh://h//$HOME `id` $(id) \\n \"both' \xff\x1b".to_vec()),
        ("RSYNC_EXCLUDE_PATTERN", b"a;b\n# c\n".to_vec()),
        ("INSTANCE_ID", b" x ".to_vec()),
        ("CREATE_DIRS", b"yes".to_vec()),
    ];
    let text = new_file(&settings);
    let parsed = conf_file::parse(&text, &mut Home);
    assert_eq!((parsed.errors, parsed.warnings), (vec![], vec![]));
    for (key, value) in &settings {
        let mut found = parsed.assignments.iter().filter(|one| one.key == *key);
        assert_eq!(found.next().map(|one| &one.value), Some(value), "{key}");
        assert!(found.next().is_none(), "{key} is set twice");
    }
    assert_eq!(parsed.assignments.len(), settings.len());
}
