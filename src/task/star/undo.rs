//! `osync undo` of a star: the hub and all targets back to where they were before the last run that
//! changed anything.
//!
//! That run was a row of turns, and each is a run in the journal of its pair. They are taken back
//! one by one, the last one first, so that each finds its two sides as it has left them. An undo
//! that was broken off between two of them goes on with the others.

use super::{Parting, Round, Star, Turned};
use crate::process::fault;
use crate::report::Level;
use crate::state::StateStore;
use crate::state::journal::{Journal, JournalError, RecordedTurn, Wanted};
use crate::task::closing::Halt;
use crate::task::intent::Intent;
use crate::task::undo::{Extent, UndoRequest, UnlessWhole};
use std::collections::{BTreeMap, BTreeSet};

/// A turn, and the instance of the pair that had it.
type TurnOf = (String, RecordedTurn);

/// What is to be taken back.
#[derive(Debug, PartialEq, Eq)]
struct ToUndo {
    /// The last turn first.
    turns: Vec<TurnOf>,
    /// When the undo began with which this one goes on.
    goes_on_with: Option<i64>,
}

/// What an undo takes back, from the last run that changed anything and, if that was an undo, the
/// run that it took back. Pure.
fn to_undo(last: Vec<TurnOf>, undone: &[TurnOf]) -> ToUndo {
    let is_undone = |(instance, turn): &&TurnOf| {
        last.iter().any(|(by, undo)| by == instance && undo.undoes == Some(turn.number))
    };
    let is_open = |turn: &&TurnOf| turn.1.has_changes && !is_undone(turn);
    let rest: Vec<TurnOf> = undone.iter().filter(is_open).cloned().collect();
    let goes_on_with = last.first().and_then(|(_, turn)| turn.star).filter(|_| !rest.is_empty());
    let mut turns = if rest.is_empty() { last } else { rest };
    turns.retain(|(_, turn)| turn.has_changes);
    turns.sort_by_key(|(_, turn)| std::cmp::Reverse((turn.began, turn.number)));
    ToUndo { turns, goes_on_with }
}

/// What the journals say of the last run.
fn look_up(journals: &BTreeMap<String, Journal>) -> Result<ToUndo, JournalError> {
    let turns = |whole: i64| -> Result<Vec<TurnOf>, JournalError> {
        let mut found = Vec::new();
        for (instance, journal) in journals {
            let turns = journal.turns(whole)?.into_iter();
            found.extend(turns.map(|turn| (instance.clone(), turn)));
        }
        Ok(found)
    };
    let mut newest = None;
    for journal in journals.values() {
        newest = newest.max(journal.last_whole()?);
    }
    let last = newest.map_or(Ok(Vec::new()), turns)?;
    let mut undone = Vec::new();
    for (instance, turn) in last.iter().filter(|(_, turn)| turn.star.is_some()) {
        let (Some(number), Some(journal)) = (turn.undoes, journals.get(instance)) else { continue };
        let wanted = Wanted { number: Some(number), ..Wanted::default() };
        if let Some(one) = journal.runs(&wanted)?.pop() {
            undone = turns(one.run.star.unwrap_or(one.run.began))?;
            break;
        }
    }
    Ok(to_undo(last, &undone))
}

impl Star<'_> {
    /// Undoes the last run that changed anything.
    pub(super) fn undo(
        &mut self,
        unless_whole: UnlessWhole,
        store: &StateStore,
    ) -> Result<(), Halt> {
        let mut journals = BTreeMap::new();
        for known in &self.known {
            let journal = Journal::read(store.dir(), &known.instance);
            let journal = journal.map_err(|error| Halt::state(&error))?;
            journals.extend(journal.map(|journal| (known.instance.clone(), journal)));
        }
        let ToUndo { turns, goes_on_with } =
            look_up(&journals).map_err(|error| Halt::state(&error))?;
        drop(journals);
        if turns.is_empty() {
            return Err(Halt::fatal("no run of this task is in the journal: nothing to undo"));
        }
        self.whole = goes_on_with.unwrap_or(self.whole);
        let turns = self.with_leaves(turns, unless_whole)?;
        if unless_whole == UnlessWhole::Refuse {
            for (at, number) in &turns {
                self.undo_turn(*at, *number, unless_whole, Extent::Check)?;
            }
        }
        // what is lost from here on ends nothing half-way
        for (at, number) in &turns {
            self.undo_turn(*at, *number, UnlessWhole::DoTheRest, Extent::All)?;
            fault::point("turn undone");
        }
        let leaves: BTreeSet<usize> = turns.iter().map(|(at, _)| *at).collect();
        if leaves.len() > 1 && !self.put_back.is_empty() {
            for at in leaves {
                self.undo_turn(at, 0, UnlessWhole::DoTheRest, Extent::Record)?;
            }
        }
        Ok(())
    }

    /// The targets of these turns, with the numbers of their runs. All have to be there, or nothing
    /// is undone.
    fn with_leaves(
        &mut self,
        turns: Vec<TurnOf>,
        unless_whole: UnlessWhole,
    ) -> Result<Vec<(usize, i64)>, Halt> {
        let mut found = Vec::new();
        let mut missing = BTreeMap::new();
        for (instance, turn) in turns {
            let of_it = |at: &usize| self.leaves[*at].config.instance_id == instance;
            match (0..self.leaves.len()).find(of_it) {
                Some(at) if self.leaves[at].met.is_some() => found.push((at, turn.number)),
                Some(at) => {
                    let refused = self.leaves[at].refused.as_ref();
                    let why = match refused {
                        Some(Halt::Replica(error)) => error.what.clone(),
                        Some(halt) => halt.words(),
                        None => "gone".to_owned(),
                    };
                    missing.insert(self.leaves[at].name.clone(), why);
                }
                None => {
                    let place = self.known.iter().find(|known| known.instance == instance);
                    let place = place.and_then(|known| known.place.clone());
                    let place = place.filter(|place| !place.is_empty()).unwrap_or(instance);
                    missing.insert(place, "it is not in the list of targets".to_owned());
                }
            }
        }
        let level = match unless_whole {
            UnlessWhole::Refuse => Level::Error,
            UnlessWhole::DoTheRest => Level::Warn,
        };
        for (name, why) in &missing {
            let text = format!("{name} took part in that run and cannot be put back now: {why}");
            self.around.reporter().problem(level, None, None, &text);
        }
        if missing.is_empty() || unless_whole == UnlessWhole::DoTheRest {
            return Ok(found);
        }
        Err(Halt::fatal("nothing was undone (--force undoes the rest)"))
    }

    /// Takes one turn back.
    fn undo_turn(
        &mut self,
        at: usize,
        number: i64,
        unless_whole: UnlessWhole,
        extent: Extent,
    ) -> Result<(), Halt> {
        self.hub.check_stop()?;
        let request = UndoRequest { run: Some(number), unless_whole, extent };
        // remote commands run once, and not for a mere look
        let round = match extent {
            Extent::All if self.leaves[at].turns.is_none() => Round::First,
            Extent::All | Extent::Check | Extent::Record => Round::Second,
        };
        if self.turn(at, Intent::Undo(request), round, 1, None) == Turned::Busy {
            let _ = self.turn(at, Intent::Undo(request), Round::PutOff, 1, None);
        }
        // what is kept is needed for the turns to come, and cleaned up by the next run
        if let Some(met) = self.leaves[at].met.take() {
            let parted = Parting { met, retention: None }.clean_and_unlock();
            self.parted(at, parted);
        }
        let leaf = &mut self.leaves[at];
        if leaf.turns.as_ref().is_some_and(|turns| turns.complete) {
            if extent == Extent::Check {
                leaf.turns = None;
            }
            return Ok(());
        }
        Err(Halt::fatal(match extent {
            Extent::Check => "nothing was undone",
            Extent::All | Extent::Record => {
                "not everything was undone; 'osync undo' again goes on with the rest"
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1:7 @20`: run 7 of pair 1, begun at 20; `1:8 @30 of 7` undoes run 7; a dash: it changed
    /// nothing.
    fn turns(text: &str) -> Vec<TurnOf> {
        let one = |text: &str| {
            let words: Vec<&str> = text.split(' ').collect();
            let (instance, number) = words[0].split_once(':').unwrap();
            let number_at = |at: usize| words.get(at).map(|word| word.parse().unwrap());
            let turn = RecordedTurn {
                number: number.trim_end_matches('-').parse().unwrap(),
                began: words[1][1..].parse().unwrap(),
                undoes: number_at(3),
                has_changes: !number.ends_with('-'),
                star: Some(5),
            };
            (instance.to_owned(), turn)
        };
        text.split(", ").filter(|text| !text.is_empty()).map(one).collect()
    }

    #[test]
    fn turns_are_taken_back_in_reverse_and_an_undo_that_was_broken_off_goes_on() {
        for (what, last, undone, expected, goes_on) in [
            ("a run", "1:7 @20, 1:8 @50, 2:3 @30", "", "1:8, 2:3, 1:7", None),
            ("some of it idle", "1:7- @20, 2:3 @30", "", "2:3", None),
            ("nothing", "", "", "", None),
            (
                "an undo",
                "1:9 @60 of 8, 2:4 @70 of 3, 1:10 @80 of 7",
                "1:7 @20, 1:8 @50, 2:3 @30",
                "1:10, 2:4, 1:9",
                None,
            ),
            (
                "one that was broken off",
                "1:9 @60 of 8",
                "1:7 @20, 1:8 @50, 2:3 @30",
                "2:3, 1:7",
                Some(5),
            ),
            (
                "one that left a whole turn",
                "1:9 @60 of 8, 2:4- @70 of 3",
                "1:8 @50, 2:3 @30",
                "1:9",
                None,
            ),
        ] {
            let found = to_undo(turns(last), &turns(undone));
            let names: Vec<String> = found
                .turns
                .iter()
                .map(|(instance, turn)| format!("{instance}:{}", turn.number))
                .collect();
            assert_eq!(
                (names.join(", ").as_str(), found.goes_on_with),
                (expected, goes_on),
                "{what}"
            );
        }
    }
}
