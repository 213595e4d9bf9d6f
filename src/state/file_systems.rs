//! What is known of the file systems of both sides, from an earlier run (spec 8).

use super::error::StateError;
use super::store::StateStore;
use crate::tree::{Abilities, Lack, Pair};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is tried; what an osync with other trials wrote is found out anew.
const TRIALS: u32 = 1;

/// One side's file system as an earlier run found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFileSystem {
    /// What tells it from another.
    pub file_system: String,
    /// What it can do.
    pub abilities: Abilities,
    /// How many entries cannot be there, as last told.
    #[serde(default)]
    pub left_out: BTreeMap<Lack, u64>,
}

/// What of the metadata a run compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Permissions.
    pub permissions: bool,
    /// Whether files can be executed; matters only without permissions.
    pub executability: bool,
    /// Owners.
    pub owner: bool,
    /// Groups.
    pub group: bool,
}

#[derive(Serialize, Deserialize)]
struct Written {
    trials: u32,
    initiator: Option<KnownFileSystem>,
    target: Option<KnownFileSystem>,
}

impl StateStore {
    /// What is known of the file systems. What cannot be understood (an empty file after a
    /// power cut, say) counts as not known: it is found out again.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn file_systems(&self) -> Result<Pair<Option<KnownFileSystem>>, StateError> {
        let found = self.files.read(&self.name("file-systems"))?;
        let written = found.and_then(|(bytes, _)| serde_json::from_slice::<Written>(&bytes).ok());
        Ok(written
            .filter(|written| written.trials == TRIALS)
            .map(|written| Pair::new(written.initiator, written.target))
            .unwrap_or_default())
    }

    /// What the last run that came to its end compared; none if that is not known.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn compared(&self) -> Result<Option<Compared>, StateError> {
        let found = self.files.read(&self.name("compared"))?;
        Ok(found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()))
    }

    /// Keeps what this run compared.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_compared(&self, compared: Compared) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(&compared).unwrap_or_default();
        self.files.update(&self.name("compared"), &bytes)
    }

    /// Keeps what is known of the file systems.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_file_systems(
        &self,
        known: &Pair<Option<KnownFileSystem>>,
    ) -> Result<(), StateError> {
        let Pair { initiator, target } = known.clone();
        let written = Written { trials: TRIALS, initiator, target };
        // numbers, texts and maps of them can always be written as JSON
        let bytes = serde_json::to_vec(&written).unwrap_or_default();
        self.files.update(&self.name("file-systems"), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateDir;

    #[test]
    fn what_is_known_comes_back_and_what_is_torn_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(StateDir::Custom(dir.path().to_owned()), "x").unwrap();
        assert_eq!(store.file_systems().unwrap(), Pair::default());
        let one = KnownFileSystem {
            file_system: "7".to_owned(),
            abilities: Abilities { symlinks: false, ..Abilities::default() },
            left_out: [(Lack::Symlinks, 3)].into(),
        };
        let known = Pair::new(None, Some(one));
        store.set_file_systems(&known).unwrap();
        assert_eq!(store.file_systems().unwrap(), known);
        let at = dir.path().join("file-systems-x");
        let whole = std::fs::read(&at).unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&at, &whole[..cut]).unwrap();
            assert_eq!(store.file_systems().unwrap(), Pair::default(), "{cut}");
        }
    }
}
