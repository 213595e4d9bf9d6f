//! What must hold of any trigger file (docs/testing.md).

use super::trigger::asks_for;

/// A task's id, a newline, and new lines of the trigger file: a line of another task wakes
/// nobody, one without a `#` everybody.
pub(crate) fn trigger(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (id, lines) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut lines_of = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let asks = asks_for(lines, id);
    let is_touch = lines_of.clone().next().is_none();
    let names_it = lines_of.any(|line| {
        !line.contains(&b'#')
            || line
                .strip_prefix(id)
                .is_some_and(|rest| rest.first() == Some(&b'#') && !rest[1..].contains(&b'#'))
    });
    assert_eq!(asks, is_touch || names_it);
}
