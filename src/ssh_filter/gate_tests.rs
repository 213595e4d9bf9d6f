//! What a client may say, and what an attacker could try, as tables.

use super::*;
use proptest::prelude::*;

const MARK: &str = "0123456789abcdef";

fn scripts() -> Scripts {
    Scripts {
        first: "first() {\necho\n}\n".to_owned(),
        loadable: vec!["do_stat() {\n:\n}\n".to_owned(), "do_scan() {\n:\n}\n".to_owned()],
        hook: "do_hook() {\nsh -c x\n}\n".to_owned(),
    }
}

/// /data is the directory; /data/link leads to /data/real.
fn resolve(path: &Path) -> Result<PathBuf, String> {
    match path.to_str() {
        Some("/data/link") => Ok("/data/real".into()),
        Some(text) if text.starts_with("/data/") && !text.contains("..") => Ok(text.into()),
        _ => Err("outside".to_owned()),
    }
}

/// Everything goes in at once; what comes out: the script, and what is passed on.
fn play(said: &str, follow: bool) -> Result<(String, String), String> {
    let scripts = scripts();
    let mut gate = Gate::new(&scripts, follow, &resolve);
    let (mut script, mut passed) = (String::new(), String::new());
    let mut rest = said.as_bytes();
    while !rest.is_empty() {
        let (taken, step) = gate.take(rest).map_err(|refusal| refusal.to_string())?;
        rest = &rest[taken..];
        match step {
            Step::More => {}
            Step::Open(opening) => script = String::from_utf8(opening.script).unwrap(),
            Step::Pass(bytes) => passed.push_str(std::str::from_utf8(&bytes).unwrap()),
        }
    }
    Ok((script, passed))
}

/// An opening as our client has it.
fn opening(greet: &str) -> String {
    let (left, right) = MARK.split_at(8);
    format!("mark={left}\nmark=${{mark}}{right}\n{}{greet}; serve\n", scripts().first)
}

const GREET: &str = "greet '%/data/x' '%rsync' find look plain";

#[test]
fn a_client_of_ours_gets_its_script_and_its_requests_through() {
    let greet = "greet '%/data/link' '%/opt/my\\0040bin/rsync' create write plain";
    let requests = format!(
        "{MARK} 1 load\n{}{MARK}\n{MARK} 2 stat\n>=dir\n=a $(b)\n%a\\0012b\n.\n{MARK} 3 scan plain write\n=/data/x/list\n=12 34\nu0\n.\n{MARK} 4 unlock\n",
        scripts().loadable[0]
    );
    let (script, passed) = play(&(opening(greet) + &requests), false).unwrap();
    let expected = format!(
        "mark={MARK}\n{}greet '%/data/real' '%rsync' create write plain\n{}{LEARN_NOTHING}serve\n",
        scripts().first,
        scripts().loadable.concat()
    );
    assert_eq!(script, expected);
    assert_eq!(passed, requests);
}

#[test]
fn openings_that_are_not_ours_are_refused() {
    let good = opening(GREET);
    assert!(play(&good, false).is_ok());
    let cases = [
        ("another script", "id\n".to_owned()),
        ("requests at once", good.replace("; serve", "")),
        ("a mark with a command", good.replace("mark=01234567", "mark=x; id; y")),
        ("a mark with an expansion", good.replace("mark=01234567", "mark=$(id)")),
        ("a short mark", good.replace("mark=01234567", "mark=0")),
        ("a changed script", good.replace("echo", "id")),
        ("a line more", good.replace("greet", "id\ngreet")),
        ("a line less", good.replace("echo\n", "")),
        ("no greeting", good.replace(GREET, "id")),
        ("another directory", good.replace("/data/x", "/etc")),
        ("dots", good.replace("/data/x", "/data/../etc")),
        ("a command behind the greeting", good.replace("plain", "plain; id")),
        ("a command in a name", good.replace("'%rsync'", "$(id)")),
        ("a quote in a name", good.replace("'%rsync'", "'%a'b'")),
        ("a plain name", good.replace("'%rsync'", "'=rsync'")),
        ("a NUL in a name", good.replace("'%rsync'", "'%a\\0000'")),
        ("a byte too big", good.replace("'%rsync'", "'%a\\0777'")),
        ("sudo", good.replace("plain", "sudo")),
        ("unknown words", good.replace("find", "$x")),
        ("something else than serve", good.replace("serve", "id")),
        ("a NUL", good.replace("serve", "ser\0ve")),
    ];
    for (name, said) in cases {
        assert!(play(&said, false).is_err(), "{name}: {said:?}");
    }
}

#[test]
fn requests_that_lead_out_are_refused() {
    let cases = [
        format!("{MARK} 1 hook 0\n"),
        format!("{MARK} 1 load\n{}{MARK}\n", scripts().hook),
        format!("{MARK} 1 load\nid\n{MARK}\n"),
        format!("{MARK} 1 load\n{}id\n{MARK}\n", scripts().loadable[0]),
        format!("{MARK} 1 load x\n{}{MARK}\n", scripts().loadable[0]),
        format!("{MARK} 1 load\n{MARK}\n"),
        format!("{MARK} 1 stat $(id)\n"),
        format!("{MARK} 1 stat;id\n"),
        format!("{MARK} 1 stat /etc\n"),
        format!("{MARK} x stat\n"),
        format!("{MARK} 1\n"),
        format!("{MARK} \n"),
        format!("{MARK} 1  stat\n"),
        format!("{MARK} 1 scan follow write\n"),
        format!("{MARK} 1 scan dirs write\n"),
        format!("{MARK} 1 below behind\n"),
        format!("{MARK} 1 stat dirs\n"),
        format!("{}\0{} 1 hook 0\n", &MARK[..3], &MARK[3..]),
    ];
    for request in cases {
        assert!(play(&(opening(GREET) + &request), false).is_err(), "{request:?}");
    }
    let follow = format!("{MARK} 1 scan follow write\n");
    assert!(play(&(opening(GREET) + &follow), true).is_ok());
}

#[test]
fn what_is_no_request_is_data_and_passes_as_it_is() {
    for data in [
        "=x\n",
        "=a b; $(id) `id` ..x x.. a/b\n",
        "=.\n",
        ".\n",
        "hook\n",
        ">=a/b\n",
        "K=\n",
        "%a\\0012/x\n",
        "*aside backup keep .2026.01.02-03.04.05\n",
        "*meta 0640 - 0\n",
        ":f 7 12 1700000000.000000005\n",
        "@=@1700000000.000000005 2023-11-14T22:13:20.000000005Z 202311142213.20\n",
        "u0\n",
        "=/data/x/.osync_workdir/state/listing\n",
    ] {
        let (_, passed) = play(&(opening(GREET) + data), false).unwrap();
        assert_eq!(passed, data);
    }
}

#[test]
fn data_that_lead_out_or_could_be_a_request_are_refused() {
    let cases = [
        "=..\n".to_owned(),
        "=../x\n".to_owned(),
        "=a/../x\n".to_owned(),
        "=a/..\n".to_owned(),
        ">=..\n".to_owned(),
        "@=../../etc/x\n".to_owned(),
        "K=..\n".to_owned(),
        "%a/\\0056\\0056/b\n".to_owned(),
        "%..\n".to_owned(),
        "%\\x2e\n".to_owned(),
        "%a\\cb\n".to_owned(),
        "%\\0000\n".to_owned(),
        "=/etc/passwd\n".to_owned(),
        ">=/etc\n".to_owned(),
        "*aside ../../x keep\n".to_owned(),
        "*aside .. keep\n".to_owned(),
        "*/bin/sh\n".to_owned(),
        "*meta $(id)\n".to_owned(),
        "@x\n".to_owned(),
        "id; x\n".to_owned(),
        // what shells drop, some of them, could make these requests
        format!("\u{81}{MARK} 1 load\n"),
        format!(" {MARK} 1 hook\n"),
        format!("{MARK}1 hook\n"),
        format!("={MARK}\n"),
        format!("{}\u{88}{} 1 load\n", &MARK[..3], &MARK[3..]),
        format!("{}\\{} 1 load\n", &MARK[..3], &MARK[3..]),
    ];
    for data in cases {
        assert!(play(&(opening(GREET) + &data), true).is_err(), "{data:?}");
    }
}

#[test]
fn a_listing_is_kept_inside_or_nowhere() {
    let scan = |cache: &str| {
        play(&(opening(GREET) + &format!("{MARK} 1 scan plain write\n{cache}\n=\n.\n")), false)
    };
    for cache in ["=", "=/data/x/list", "%/data/x/li\\0012st"] {
        assert!(scan(cache).is_ok(), "{cache}");
    }
    for cache in ["=/etc/cron.d/x", "=x", "=/data/../etc/x", ".", "*x", "%/etc/x", ">=/data/x"] {
        assert!(scan(cache).is_err(), "{cache}");
    }
    let hidden = format!("{MARK} 1 scan plain write\n{MARK} 2 stat\n");
    assert!(play(&(opening(GREET) + &hidden), false).is_err());
}

/// What a shell would make of a line of data.
fn as_the_shell_has_it(line: &str) -> String {
    let name = line.strip_prefix(['>', 'K', 'U', 'G', '@']).unwrap_or(line);
    match name.strip_prefix('%') {
        Some(octal) => octal.replace("\\0056", ".").replace("\\0057", "/"),
        None => name.strip_prefix('=').unwrap_or(name).to_owned(),
    }
}

proptest! {
    #[test]
    fn no_data_that_pass_name_anything_above_or_outside(
        prefix in prop::sample::select(vec!["=", "%", ">=", ">%", "K=", "@%", "U=", "", "*"]),
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "..", ".", "a", "/", "/etc", "/data/", "\\0056", "\\0057", "$x", "=", "%",
            ]),
            0..6,
        )
    ) {
        let line = format!("{prefix}{}", parts.concat());
        if play(&(opening(GREET) + &line + "\n"), false).is_ok() {
            let name = as_the_shell_has_it(&line);
            prop_assert!(!name.split('/').any(|part| part == ".."), "{line:?}");
            prop_assert!(!name.starts_with('/') || name.starts_with("/data/"), "{line:?}");
        }
    }

    #[test]
    fn names_come_back_as_they_were(name in prop::collection::vec(1..=255_u8, 0..40)) {
        prop_assert_eq!(undatum(&datum(&name)), Some(name));
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut(cut in 1..200_usize) {
        let said = opening(GREET) + &format!("{MARK} 2 stat\n=x\n.\n");
        let scripts = scripts();
        let mut gate = Gate::new(&scripts, false, &resolve);
        let mut passed = Vec::new();
        for mut chunk in said.as_bytes().chunks(cut) {
            while !chunk.is_empty() {
                let (taken, step) = gate.take(chunk).unwrap();
                chunk = &chunk[taken..];
                if let Step::Pass(bytes) = step {
                    passed.extend(bytes);
                }
            }
        }
        prop_assert_eq!(passed, format!("{MARK} 2 stat\n=x\n.\n").into_bytes());
    }

    #[test]
    fn nothing_with_the_mark_passes_but_plain_requests(
        words in prop::collection::vec("[a-z;$( ]{1,6}|hook|load|[0-9]{1,3}", 0..5)
    ) {
        let request = format!("{MARK} {}\n", words.join(" "));
        if let Ok((_, passed)) = play(&(opening(GREET) + &request), false) {
            let sound = passed.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.- \n".contains(&b));
            let asked = passed.split_whitespace().nth(2);
            prop_assert!(sound && asked != Some("hook"), "{passed}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic(said in prop::collection::vec(any::<u8>(), 0..200)) {
        let scripts = scripts();
        let mut gate = Gate::new(&scripts, false, &resolve);
        let _ = gate.take(&said);
    }
}
