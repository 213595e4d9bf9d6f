//! What must hold of anything that Linux says of processes (docs/testing.md).

use super::proc::{ProcessStat, boot_time_in, ignored_in};

/// The name of a program, and what Linux says of the processes of such a name: whatever the
/// name, the numbers behind it are those of the process.
pub(crate) fn proc_stat(bytes: &[u8]) {
    let numbers: Vec<String> = (23..=52).map(|number: u32| number.to_string()).collect();
    let rest = format!(") S 1 77 {}4242 {}", "5 ".repeat(16), numbers.join(" "));
    let stat = ProcessStat::parse(&[b"99 (", bytes, rest.as_bytes()].concat());
    assert!(
        stat.is_some_and(|stat| {
            (stat.group, stat.started, stat.is_zombie()) == (77, Some(4242), false)
        }),
        "{stat:?}"
    );
    assert!(ProcessStat::parse(bytes).is_none() || bytes.contains(&b')'));
    let text = String::from_utf8_lossy(bytes);
    let says = |word: &str| text.lines().any(|line| line.starts_with(word));
    assert!(says("SigIgn:") || ignored_in(&text) == 0);
    assert!(says("btime ") || boot_time_in(&text).is_none());
}
