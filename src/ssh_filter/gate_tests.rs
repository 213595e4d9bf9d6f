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
    format!("mark={left}\nmark=$mark{right}\n{}{greet}\nserve\n", scripts().first)
}

const GREET: &str = "greet '%/data/x' '%rsync' find look plain";

#[test]
fn a_client_of_ours_gets_its_script_and_its_requests_through() {
    let greet = "greet '%/data/link' '%/opt/my\\0040bin/rsync' create write plain";
    let requests = format!(
        "{MARK} 1 load\n{}{MARK}\n{MARK} 2 stat\n>=dir\n=a $(b)\n%a\\0012b\n.\n{MARK} 3 scan plain write\n.\n{MARK} 4 unlock\n",
        scripts().loadable[0]
    );
    let (script, passed) = play(&(opening(greet) + &requests), false).unwrap();
    let expected = format!(
        "mark={MARK}\n{}greet '%/data/real' '%rsync' create write plain\nserve\n",
        scripts().first
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
    for data in ["=x\n", ".\n", "hook\n", " 0123456789abcdef 1 hook\n", "0123456789abcdef1 hook\n"]
    {
        let (_, passed) = play(&(opening(GREET) + data), false).unwrap();
        assert_eq!(passed, data);
    }
}

proptest! {
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
