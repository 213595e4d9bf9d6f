//! The pages in `docs/`: their commands do what they say, and their links lead somewhere.

use crate::support::pages::play;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One test for each page whose blocks are run.
macro_rules! pages {
    ($($name:ident: $page:literal,)*) => {
        const PLAYED: &[&str] = &[$($page),*];
        $(
            #[test]
            fn $name() {
                play($page);
            }
        )*
    };
}

pages! {
    the_first_pair: "first-pair.md",
    three_servers: "three-servers.md",
    over_a_slow_line: "slow-line.md",
    as_root_without_trusting_root: "root.md",
    get_something_back: "get-back.md",
    a_run_that_fails_at_night: "failed-at-night.md",
    from_osync_1_3: "from-osync-1.3.md",
    from_unison: "from-unison.md",
    what_rots_is_healed: "scrub.md",
    versions: "versions.md",
    a_star: "star.md",
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of the pages in `docs/`.
fn names() -> BTreeSet<String> {
    let entries = fs::read_dir(repository().join("docs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".md")).collect()
}

/// Every page that somebody may read: in `docs/`, and at the top.
fn all_pages() -> Vec<PathBuf> {
    let top = fs::read_dir(repository()).unwrap().map(|entry| entry.unwrap().path());
    let top = top.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    top.chain(names().iter().map(|name| repository().join("docs").join(name))).collect()
}

#[test]
fn every_page_with_blocks_to_run_is_played() {
    let with_blocks = names().into_iter().filter(|name| {
        read(&repository().join("docs").join(name))
            .lines()
            .any(|line| line.starts_with("```sh run"))
    });
    let played: BTreeSet<String> = PLAYED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(with_blocks.collect::<BTreeSet<_>>(), played);
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    for page in all_pages() {
        let text = read(&page);
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let shown = format!("{}: {link}", page.display());
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{shown} leads nowhere");
            let is_in_book = page.parent().unwrap().ends_with("docs");
            assert!(!is_in_book || !file.starts_with(".."), "{shown} leads out of the book");
            if !anchor.is_empty() {
                assert!(anchors(&read(&target)).contains(anchor), "{shown}: no such heading");
            }
        }
    }
}

#[test]
fn lines_are_short_but_those_of_tables() {
    let is_long = |line: &&str| line.chars().count() >= 120 && !line.starts_with('|');
    for page in all_pages() {
        let long: Vec<String> = read(&page).lines().filter(is_long).map(str::to_owned).collect();
        assert_eq!(long, [""; 0], "{}", page.display());
    }
}

#[test]
fn the_summary_lists_every_page_once() {
    let summary = read(&repository().join("docs/SUMMARY.md"));
    let mut listed = links(&summary);
    listed.sort_unstable();
    let mut pages = names();
    pages.remove("SUMMARY.md");
    assert_eq!(listed, pages.into_iter().collect::<Vec<_>>());
}

/// Lines without those of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Where links and pictures of a page lead.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // what stands in backquotes is no link
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let ends = plain.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        found.extend(ends.map(|(link, _)| link.to_owned()));
    }
    found
}

/// The names that headings of a page can be reached by.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let names = headings.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    });
    names.collect()
}

#[test]
fn links_and_anchors_are_found() {
    let text = "# A, b\n[x](y.md#z) `[no](no.md)` ![p](q.png)\n```\n[no](no.md)\n# no\n```\n";
    assert_eq!(links(text), ["y.md#z", "q.png"]);
    assert_eq!(anchors(text), BTreeSet::from(["a-b".to_owned()]));
}
