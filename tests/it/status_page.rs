//! The page of `osync status --html` in a real browser (spec 10): Chromium, where there is one.

use crate::support::sandbox::Sandbox;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOSTILE: &str = "<script>alert('x')\"&amp;<b>";

/// Tasks in many states, with names that are anything but harmless, and their page.
fn page() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    let add = |file: &str, id: &str, lines: &str| {
        let place = |side| sandbox.path(format!("{file}-{side}"));
        for side in ["a", "b"] {
            fs::create_dir_all(place(side)).unwrap();
        }
        let path = sandbox.path("etc").join(format!("{file}.conf"));
        let text = format!(
            "INSTANCE_ID='{id}'\nINITIATOR_SYNC_DIR='{}'\nTARGET_SYNC_DIR='{}'\n{lines}\n",
            place("a").display(),
            place("b").display()
        );
        fs::write(&path, text).unwrap();
        path
    };
    let sync = |file: &Path| sandbox.osync().arg(file).run().status;
    let hostile = add("<script>alert(1)<b>", "<script>alert(2)&lt;<b>", "");
    for content in ["one", "more"] {
        for side in ["a", "b"] {
            let file = sandbox.path(format!("<script>alert(1)<b>-{side}/{HOSTILE}"));
            fs::write(file, format!("{content} {side}")).unwrap();
        }
        assert_eq!(sync(&hostile), Some(0));
    }
    let failing = add("failing", "failing", "");
    assert_eq!(sync(&failing), Some(0));
    fs::remove_dir_all(sandbox.path("failing-b")).unwrap();
    assert_eq!(sync(&failing), Some(1));
    let warned = add("warned", "warned", "MINIMUM_SPACE=9999999999999");
    assert_eq!(sync(&warned), Some(2));
    add("never", "never", "");
    add("broken", "broken", "MIN_WAIT=\"<img src=x onerror=alert(3)>\"");
    let page = sandbox.path("page.html");
    let run = sandbox.osync().arg("status").arg(sandbox.path("etc")).arg("--html").arg(&page).run();
    assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{run}");
    (sandbox, page)
}

fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: there is no Chromium to look at the page with");
    }
    found
}

/// What the probe finds in the page, as wide as that, and what the browser says meanwhile.
fn probe(browser: &Path, sandbox: &Sandbox, page: &Path, width: u32, dark: Dark) -> Value {
    let probe = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/status-page-probe.html"),
    );
    let url = format!("file://{}", page.display());
    let text =
        probe.unwrap().replace("PAGE\"", &format!("{url}\"")).replace("WIDTH", &width.to_string());
    let file = sandbox.path("probe.html");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ]);
    if dark == Dark::Yes {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    let profile = sandbox.path(format!("profile-{width}-{dark:?}"));
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.arg(format!("file://{}", file.display())).env("HOME", sandbox.path("home"));
    let out = command.output().unwrap();
    let (dom, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(!said.contains("CONSOLE"), "{said}");
    let found =
        dom.split_once("<pre id=\"found\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (found, _) = found.unwrap_or_else(|| panic!("{dom}\n{said}"));
    let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: {found}\n{said}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dark {
    Yes,
    No,
}

#[test]
fn the_page_is_right_in_a_browser_on_a_desk_and_on_a_phone_by_day_and_by_night() {
    let Some(browser) = chromium() else { return };
    let (sandbox, page) = page();
    for (width, dark) in [(1280, Dark::No), (390, Dark::Yes)] {
        let found = probe(&browser, &sandbox, &page, width, dark);
        let what = format!("{width} {dark:?}: {found:#}");
        let number = |name: &str| found[name].as_i64().unwrap_or_else(|| panic!("{name}: {what}"));
        assert_eq!(found["resources"], serde_json::json!([]), "it asks for nothing: {what}");
        assert_eq!(number("scripts"), 0, "{what}");
        let text = found["text"].as_str().unwrap();
        for shown in [HOSTILE, "<script>alert(2)&lt;<b>", "<script>alert(1)<b>-a", "<img src=x"] {
            assert!(text.contains(shown), "{shown}: {what}");
        }
        for state in ["cannot be read", "failing for", "never run", "warnings", "ok"] {
            assert!(text.contains(state), "{state}: {what}");
        }
        assert!(text.contains("osync conflicts "), "{what}");
        assert!(number("texts") > 50, "{what}");
        assert!(found["lowest"].as_f64().unwrap() >= 4.5, "contrast: {what}");
        assert_eq!(found["dark"], dark == Dark::Yes, "{what}");
        assert!(number("too_wide") <= 0, "it scrolls sideways: {what}");
        assert!(number("focusable") > 5 && number("focusable") == number("focused"), "{what}");
        assert_eq!(number("broken_links"), 0, "{what}");
        assert!(number("tables") > 2 && number("without_headers") == 0, "{what}");
        assert!(number("plots") > 4 && number("plots") == number("all_plots"), "{what}");
        assert_eq!(found["language"], "en");
    }
}

#[test]
fn the_page_is_replaced_as_a_whole_and_a_page_that_cannot_be_written_is_an_error() {
    let (sandbox, page) = page();
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.trim_end().ends_with("</html>"));
    assert!(!text.to_lowercase().contains("<script") && !text.contains("<img"), "{text}");
    assert!(!text.contains("http://") && !text.contains("https://"), "nothing from elsewhere");
    let run =
        sandbox.osync().args(["status", "--html", "/no/such/dir/x"]).arg(sandbox.path("etc")).run();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("cannot write the page /no/such/dir/x"), "{run}");
}
