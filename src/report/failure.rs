//! Whether a failure is the same as before, so that nobody is told of it twice (spec 10, "Being
//! told"). Pure; used by mail and notifications alike. What was told is kept by
//! [`crate::state::told`].

use super::{Problem, Tally};
use crate::state::told::Told;
use std::collections::BTreeSet;
use std::time::Duration;

/// What tells one failure from another: the exit status and the set of problems, without the
/// numbers in their texts (process ids, sizes and counts differ from run to run).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// The failure of a run, by those of its problems that count; `None` if it ended with status 0.
    #[must_use]
    pub fn of(status: u8, tally: &Tally, counts: impl Fn(&Problem) -> bool) -> Option<Self> {
        if status == 0 {
            return None;
        }
        let problems = tally.problems.iter().filter(|problem| counts(problem));
        let lines: BTreeSet<String> = problems.map(line).collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[status]);
        // that digits in their names are no numbers cannot be seen in the texts
        for line in lines.iter().chain(&tally.targets) {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
        Some(Failure(hasher.finalize().to_hex()[..32].to_owned()))
    }

    /// As it is kept.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.0
    }
}

/// A problem without its numbers. A path stays as it is: digits in a name are no numbers.
fn line(problem: &Problem) -> String {
    let side = problem.side.map_or("", |side| side.name());
    let path = problem.path.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut text = String::with_capacity(problem.text.len());
    for char in problem.text.chars() {
        match char.is_ascii_digit() {
            true if text.ends_with('#') => {}
            true => text.push('#'),
            false => text.push(char),
        }
    }
    format!("{}|{side}|{path}|{text}", problem.level.name())
}

/// What is to be told after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing: all of it is known already.
    None,
    /// The failure.
    Failure,
    /// That the failure is over.
    WorksAgain,
}

/// Compares a run with what was told last. `repeat` is after how long the same failure is told
/// again; `None` is never. `now` is in milliseconds since the epoch.
#[must_use]
pub fn news(
    told: Option<&Told>,
    failure: Option<&Failure>,
    repeat: Option<Duration>,
    now: i64,
) -> News {
    match (told, failure) {
        (None, None) => News::None,
        (Some(_), None) => News::WorksAgain,
        (Some(told), Some(failure)) if told.failure == failure.key() => {
            // a clock that was set back must not keep anybody waiting
            let since = u128::try_from(now.saturating_sub(told.at)).unwrap_or(u128::MAX);
            match repeat {
                Some(repeat) if since >= repeat.as_millis() => News::Failure,
                _ => News::None,
            }
        }
        (_, Some(_)) => News::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;
    use crate::tree::{RelPath, Side};

    fn problem(path: &str, text: &str) -> Problem {
        let path = (!path.is_empty()).then(|| RelPath::new(path).unwrap());
        Problem { level: Level::Error, side: Some(Side::Target), path, text: text.into() }
    }

    fn of(status: u8, problems: &[Problem]) -> Option<Failure> {
        let tally = Tally { problems: problems.to_vec(), ..Tally::default() };
        Failure::of(status, &tally, |_| true)
    }

    #[test]
    fn the_failure_of_another_target_is_another_one_though_only_a_digit_tells_them_apart() {
        let of_target = |target: &str| {
            let (mut of_it, mut whole) = (Tally::default(), Tally::default());
            of_it.add(&problem("", "there is no such directory"));
            whole.add_of_target(target, &of_it);
            whole.add_of_target("/mnt/3", &Tally::default());
            Failure::of(1, &whole, |_| true)
        };
        assert_eq!(of_target("/mnt/1"), of_target("/mnt/1"));
        assert_ne!(of_target("/mnt/1"), of_target("/mnt/2"));
    }

    #[test]
    fn failures_are_the_same_but_for_numbers_order_and_repetition() {
        let locked = problem("", "process 4711 holds the lock");
        let denied = problem("a1", "permission denied");
        let base = of(1, &[locked.clone(), denied.clone()]);
        for (what, other, same) in [
            (
                "another number",
                of(1, &[problem("", "process 8 holds the lock"), denied.clone()]),
                true,
            ),
            ("another order", of(1, &[denied.clone(), locked.clone()]), true),
            ("twice", of(1, &[denied.clone(), locked.clone(), locked.clone()]), true),
            ("another status", of(2, &[locked.clone(), denied.clone()]), false),
            ("another path", of(1, &[locked.clone(), problem("a2", "permission denied")]), false),
            ("one less", of(1, std::slice::from_ref(&locked)), false),
        ] {
            assert_eq!(other == base, same, "{what}");
        }
        assert_eq!(of(0, &[locked]), None);
    }

    #[test]
    fn a_failure_is_told_once_until_it_changes_or_is_over() {
        let failure = |text| of(1, &[problem("", text)]);
        let one = failure("one");
        let told = |at| Some(Told { failure: one.as_ref().unwrap().key().into(), at });
        let hour = Some(Duration::from_secs(3600));
        for (what, told, failure, repeat, expected) in [
            ("all is well", None, None, None, News::None),
            ("it begins", None, one.clone(), None, News::Failure),
            ("it goes on", told(0), one.clone(), None, News::None),
            ("it changes", told(0), failure("two"), None, News::Failure),
            ("it is over", told(0), None, None, News::WorksAgain),
            ("not yet again", told(6_400_001), one.clone(), hour, News::None),
            ("again", told(6_400_000), one.clone(), hour, News::Failure),
            ("always", told(10_000_000), one.clone(), Some(Duration::ZERO), News::Failure),
            ("a clock set back", told(20_000_000), one.clone(), hour, News::Failure),
        ] {
            let found = news(told.as_ref(), failure.as_ref(), repeat, 10_000_000);
            assert_eq!(found, expected, "{what}");
        }
    }
}
