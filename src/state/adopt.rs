//! Taking over from osync 1.3: its lists are read, and what they hold that cannot be used
//! is told.

use super::baseline::Baseline;
use super::error::{Shown, StateError};
use super::lists::{List, parse};
use super::merge::{Lists, merge};
use super::store::{Note, StateStore, Weight};
use crate::tree::{Pair, Side, Stamp, path::escape};

impl StateStore {
    /// The baseline that the lists give, with the snapshot if there is one.
    pub(super) fn adopt(
        &self,
        old: Option<&Baseline>,
        listed_at: Pair<Option<Stamp>>,
    ) -> Result<(Baseline, Vec<Note>), StateError> {
        let trees = self.read_both("tree-after")?;
        let failed = self.read_both("failed-delete")?;
        let trees = trees.as_ref().map(|bytes| bytes.as_deref().map(parse));
        let failed = failed.as_ref().map(|bytes| bytes.as_deref().map(parse));
        let mut notes = vec![came_from(old)];
        for side in Side::BOTH {
            match &trees[side] {
                Some(list) => notes.extend(self.refused(side, "tree-after", list)),
                None => notes.push(self.missing(side, old)),
            }
            let list = failed[side].as_ref();
            notes.extend(list.and_then(|list| self.refused(side, "failed-delete", list)));
        }
        let lists = Lists {
            tree: trees.map(|list| list.map(|list| list.paths)),
            listed_at,
            failed: failed.map(|list| list.map(|list| list.paths).unwrap_or_default()),
        };
        let baseline = merge(old, &lists).map_err(|why| StateError::Merge {
            path: Shown::new(self.files.path(&self.name("snapshot"))),
            why,
        })?;
        Ok((baseline, notes))
    }

    fn read_both(&self, what: &str) -> Result<Pair<Option<Vec<u8>>>, StateError> {
        let mut both = Pair::default();
        for side in Side::BOTH {
            both[side] = self.files.read(&self.side_name(side, what))?.map(|(bytes, _)| bytes);
        }
        Ok(both)
    }

    fn refused(&self, side: Side, what: &str, list: &List<'_>) -> Option<Note> {
        let (count, first) = list.refused?;
        let path = Shown::new(self.files.path(&self.side_name(side, what)));
        let first = escape(first);
        let text = format!(
            "state file {path}: {count} line(s) are no paths below a replica and were passed \
             over, the first is '{first}'"
        );
        Some(Note { weight: Weight::Warning, text })
    }

    fn missing(&self, side: Side, old: Option<&Baseline>) -> Note {
        let path = Shown::new(self.files.path(&self.side_name(side, "tree-after")));
        let so = match old {
            Some(_) => format!("for the {side} the snapshot says what existed"),
            None => format!("so nothing counts as deleted on the {side}"),
        };
        Note { weight: Weight::Warning, text: format!("there is no list {path}: {so}") }
    }
}

fn came_from(old: Option<&Baseline>) -> Note {
    let text = match old {
        Some(_) => "osync 1.3 has run since the last run of this osync: its lists say what existed",
        None => "there is no snapshot yet: the lists of osync 1.3 say what existed",
    };
    Note { weight: Weight::Notice, text: text.to_owned() }
}
