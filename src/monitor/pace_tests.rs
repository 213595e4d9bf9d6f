//! A monitor's day, played through without watching anything.

use super::*;
use proptest::prelude::*;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One thing that happens, and when (in seconds).
#[derive(Debug, Clone, Copy)]
enum Step {
    Changed(u64),
    Triggered(u64),
    Missed(u64),
    Gone(u64),
    Back(u64),
    /// A run that begins when it is due, takes so long, and ends like this.
    Run(u64, RunEnd),
    /// The same, with a change so many seconds after its beginning.
    RunWithChange(u64, u64),
    /// The same, missing changes.
    RunTooLoud(u64),
}

use RunEnd::{Done, Failed};
use Step::{Back, Changed, Gone, Missed, Run, RunTooLoud, RunWithChange, Triggered};

/// When each run begins and why, with MIN_WAIT 60; the clock jumps to whatever is due.
fn play(max_wait: u64, steps: &[Step]) -> Vec<(u64, Why)> {
    let mut pace = Pace::new(secs(60), secs(max_wait));
    let mut now = secs(0);
    let mut runs = Vec::new();
    let begin = |pace: &mut Pace, now: &mut Duration| {
        let why = loop {
            match pace.next(*now) {
                Next::Run(why) => break why,
                Next::Wait(Some(until)) => {
                    assert!(until > *now, "a wait that is over already");
                    *now = until;
                }
                Next::Wait(None) => panic!("no run is due, ever"),
            }
        };
        pace.began();
        (now.as_secs(), why)
    };
    for step in steps {
        match *step {
            Changed(at) => pace.changed(secs(at)),
            Triggered(at) => {
                now = now.max(secs(at));
                pace.triggered();
            }
            Missed(at) => pace.missed(secs(at)),
            Gone(at) => {
                now = now.max(secs(at));
                pace.gone();
            }
            Back(at) => {
                now = now.max(secs(at));
                pace.back();
            }
            Run(takes, end) => {
                runs.push(begin(&mut pace, &mut now));
                now += secs(takes);
                pace.ended(now, end);
            }
            RunWithChange(takes, after) => {
                runs.push(begin(&mut pace, &mut now));
                pace.changed(now + secs(after));
                now += secs(takes);
                pace.ended(now, Done);
            }
            RunTooLoud(takes) => {
                runs.push(begin(&mut pace, &mut now));
                now += secs(takes);
                pace.missed(now);
                pace.ended(now, Done);
            }
        }
    }
    runs
}

#[test]
fn runs_begin_when_they_should() {
    use Why::{Again, Change, Interval, Start, Trigger};
    type Case<'a> = (&'a str, u64, &'a [Step], &'a [(u64, Why)]);
    let cases: &[Case<'_>] = &[
        ("at once", 7200, &[Run(5, Done)], &[(0, Start)]),
        (
            "MIN_WAIT after the first change, whatever changes later",
            7200,
            &[Run(5, Done), Changed(100), Changed(110), Changed(159), Run(1, Done)],
            &[(0, Start), (160, Change)],
        ),
        (
            "MAX_WAIT after the last run",
            7200,
            &[Run(5, Done), Run(1, Done)],
            &[(0, Start), (7205, Interval)],
        ),
        (
            "a change shortly before MAX_WAIT does not delay the run",
            7200,
            &[Run(5, Done), Changed(7200), Run(1, Done)],
            &[(0, Start), (7205, Interval)],
        ),
        (
            "a change during a run causes another",
            7200,
            &[RunWithChange(100, 10), Run(1, Done)],
            &[(0, Start), (160, Change)],
        ),
        (
            "a change between two runs is not kept for later ones",
            1000,
            &[Run(5, Done), Changed(10), Run(5, Done), Run(5, Done)],
            &[(0, Start), (70, Change), (1075, Interval)],
        ),
        (
            "the trigger file does not wait",
            7200,
            &[Run(5, Done), Changed(30), Triggered(31), Run(1, Done)],
            &[(0, Start), (31, Trigger)],
        ),
        (
            "a failed run is tried again, ever more rarely, at the latest after MAX_WAIT",
            300,
            &[
                Run(0, Failed),
                Run(0, Failed),
                Run(0, Failed),
                Run(0, Failed),
                Run(0, Done),
                Run(0, Done),
            ],
            &[
                (0, Start),
                (60, Again),
                (180, Again),
                (420, Again),
                (720, Interval),
                (1020, Interval),
            ],
        ),
        (
            "a change does not wait for the pause after a failure",
            7200,
            &[Run(0, Failed), Run(0, Failed), Changed(70), Run(0, Failed)],
            &[(0, Start), (60, Again), (130, Change)],
        ),
        (
            "after a good run the pauses are short again",
            0,
            &[
                Run(0, Failed),
                Run(0, Failed),
                Run(0, Done),
                Changed(1000),
                Run(0, Failed),
                Run(0, Done),
            ],
            &[(0, Start), (60, Again), (180, Again), (1060, Change), (1120, Again)],
        ),
        (
            "missed changes lead to a run",
            0,
            &[Run(5, Done), Missed(10), Run(5, Done)],
            &[(0, Start), (70, Again)],
        ),
        (
            "runs that are too loud for themselves do not follow each other closely",
            0,
            &[RunTooLoud(0), RunTooLoud(0), RunTooLoud(0), Run(0, Done)],
            &[(0, Start), (60, Again), (180, Again), (420, Again)],
        ),
        (
            "a replica that is gone leads to no run before MAX_WAIT",
            7200,
            &[Run(5, Done), Changed(10), Gone(20), Run(5, Failed)],
            &[(0, Start), (7205, Interval)],
        ),
        (
            "and to one at once when it comes back",
            7200,
            &[Run(5, Done), Gone(20), Back(500), Run(5, Done)],
            &[(0, Start), (500, Why::Back)],
        ),
    ];
    for (name, max_wait, steps, expected) in cases {
        assert_eq!(play(*max_wait, steps), *expected, "{name}");
    }
}

#[test]
fn without_max_wait_and_without_changes_nothing_is_due() {
    let mut pace = Pace::new(secs(60), secs(0));
    pace.began();
    pace.ended(secs(1), Done);
    assert_eq!(pace.next(secs(1_000_000)), Next::Wait(None));
}

proptest! {
    #[test]
    fn a_change_leads_to_a_run_within_min_wait(
        min_wait in 0..100_u64, max_wait in 0..1000_u64, at in 0..2000_u64, later in 0..200_u64
    ) {
        let mut pace = Pace::new(secs(min_wait), secs(max_wait));
        pace.began();
        pace.ended(secs(0), Done);
        pace.changed(secs(at));
        pace.changed(secs(at + later));
        prop_assert!(matches!(pace.next(secs(at + min_wait)), Next::Run(_)));
    }

    #[test]
    fn a_wait_never_ends_in_the_past(
        noticed in prop::collection::vec((0..6_u8, 0..500_u64), 0..20), now in 0..1000_u64
    ) {
        let mut pace = Pace::new(secs(7), secs(90));
        for (what, at) in noticed {
            match what {
                0 => pace.changed(secs(at)),
                1 => pace.triggered(),
                2 => pace.missed(secs(at)),
                3 => pace.began(),
                4 => pace.ended(secs(at), Failed),
                _ => pace.ended(secs(at), Done),
            }
        }
        if let Next::Wait(Some(until)) = pace.next(secs(now)) {
            prop_assert!(until > secs(now));
        }
    }
}
