//! What must hold of any file that reports read (docs/testing.md).

use super::log::login_name;
use super::run_report::{labels_of, last_success, metrics_text};
use super::{Counts, RunReport, Tally};
use crate::tree::Pair;
use std::time::SystemTime;

/// A task in the first line, and a METRICS_FILE behind it: the time of the last success is
/// one, and stands in the next file as it stood in this; no name of a task breaks a line.
pub(crate) fn metrics(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (task, before) = text.split_once('\n').unwrap_or_default();
    let failed = |task: &str| RunReport {
        task: task.to_owned(),
        started: SystemTime::UNIX_EPOCH,
        ended: SystemTime::UNIX_EPOCH,
        replicas: Pair::default(),
        status: 1,
        complete: true,
        summed_up: String::new(),
        log: None,
        dry: false,
        counts: Pair::new(Counts::default(), Counts::default()),
        tally: Tally::default(),
        conflicts: Vec::new(),
        scrub: None,
        targets: Vec::new(),
    };
    let lines = |page: &str| page.matches('\n').count();
    let usual = lines(&metrics_text(&failed("task"), ""));
    // no task has such a name, but the file is another program's to read
    for task in [task, &text] {
        let labels = labels_of(&failed(task), None);
        let success = last_success(before, &labels);
        assert!(success.is_none_or(|time| time.is_finite() && time >= 0.0), "{success:?}");
        let page = metrics_text(&failed(task), before);
        assert_eq!(last_success(&page, &labels), Some(success.unwrap_or(0.0)));
        assert_eq!(lines(&page), usual);
        let is_known = |line: &str| line.starts_with("osync_") || line.starts_with("# ");
        assert!(page.split_terminator('\n').all(is_known), "{page}");
    }
}

/// A number in the first line, and a passwd file behind it: the name that is found is that
/// of a user of this number.
pub(crate) fn passwd(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (number, passwd) = text.split_once('\n').unwrap_or_default();
    let Ok(uid) = number.parse::<u32>() else { return };
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let mut lines = passwd.split('\n').map(fields);
    let is_it =
        |line: &Vec<String>| line.len() > 2 && line[2] == uid.to_string() && !line[0].is_empty();
    let found = login_name(passwd.as_bytes(), uid);
    assert_eq!(found, lines.find(is_it).map(|line| line[0].clone()));
}
