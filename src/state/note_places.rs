//! Where it is noted how the last run ended and what somebody was told of it: with the state of
//! the task, and where that is not there in the user's own state directory. A disk that is not
//! mounted fails every run, and a first run may fail before it makes anything.

use super::error::StateError;
use super::files::StateDir;
use super::last_run::LastRun;
use super::store::StateStore;
use super::told::{Channel, Told};
use crate::config::{Config, Location};
use crate::tree::{Pair, Side};
use std::path::PathBuf;

/// The places of a task, the best first.
#[derive(Debug)]
pub struct NotePlaces {
    own: Option<StateStore>,
    /// Where the state of the task would be, if it could be used.
    unusable: Option<StateDir>,
    elsewhere: Option<StateStore>,
}

impl NotePlaces {
    /// The places of a task.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let initiator = config.replicas.initiator.to_string();
        Self::new(StateDir::of(config), &config.instance_id, &initiator)
    }

    /// The places of a task with this initiator, for people; `own`: where its state is, if that
    /// can be said.
    #[must_use]
    pub fn new(own: Option<StateDir>, instance_id: &str, initiator: &str) -> Self {
        let elsewhere = elsewhere(instance_id, initiator);
        Self::with_user_dir(own, instance_id, &elsewhere, user_dir())
    }

    /// The places of a target of a star (its INSTANCE_ID). `own`: where its state is and of which
    /// instance, if it has one. A first run that fails does not know yet which it will have.
    #[must_use]
    pub fn of_target(own: Option<(StateDir, &str)>, star: &str, places: &Pair<Location>) -> Self {
        let (dir, instance_id) = match own {
            Some((dir, instance_id)) => (Some(dir), instance_id),
            None => (None, star),
        };
        let elsewhere = elsewhere(star, &format!("{}\0{}", places.initiator, places.target));
        Self::with_user_dir(dir, instance_id, &elsewhere, user_dir())
    }

    fn with_user_dir(
        own: Option<StateDir>,
        instance_id: &str,
        name: &str,
        user_dir: Option<PathBuf>,
    ) -> Self {
        let (own, unusable) = match own {
            Some(dir) if dir.is_there() => (Some(dir), None),
            other => (None, other),
        };
        NotePlaces {
            own: own.and_then(|dir| StateStore::open(dir, instance_id).ok()),
            unusable,
            elsewhere: user_dir.and_then(|dir| StateStore::open(StateDir::Custom(dir), name).ok()),
        }
    }

    fn all(&self) -> impl Iterator<Item = &StateStore> {
        self.own.iter().chain(&self.elsewhere)
    }

    /// Whether notes go to the state of the task itself.
    #[must_use]
    pub fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// What was told last.
    #[must_use]
    pub fn told(&self, channel: Channel) -> Option<Told> {
        self.all().find_map(|place| place.told(channel).ok().flatten())
    }

    /// Notes what was told in the best place; what stands in the other one is out of date.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_told(&self, channel: Channel, told: Option<&Told>) -> Result<(), StateError> {
        for (index, place) in self.all().enumerate() {
            place.set_told(channel, told.filter(|_| index == 0))?;
        }
        Ok(())
    }

    /// The last run, wherever it was noted; `None` before the first.
    ///
    /// # Errors
    /// The task has a state that cannot be opened, or what it says of the last run cannot be read
    /// or is torn.
    pub fn last_run(&self) -> Result<Option<LastRun>, StateError> {
        if let Some(dir) = &self.unusable {
            dir.open()?;
        }
        let own = self.own.as_ref().map(StateStore::last_run).transpose()?.flatten();
        let elsewhere = self.elsewhere.as_ref().and_then(|place| place.last_run().ok().flatten());
        Ok(match (own, elsewhere) {
            (Some(own), Some(elsewhere)) if elsewhere.ended > own.ended => Some(LastRun {
                failing_since: match own.failing_since {
                    0 => elsewhere.failing_since,
                    since => since,
                },
                failed_runs: own.failed_runs + elsewhere.failed_runs,
                last_success: own.last_success,
                begins: [own.begins, elsewhere.begins].concat(),
                kept: own.kept,
                open_conflicts: own.open_conflicts,
                differences: own.differences,
                ..elsewhere
            }),
            (own, elsewhere) => own.or(elsewhere),
        })
    }

    /// Notes how many bytes a side keeps since the last run, if that is another number than is
    /// noted.
    ///
    /// # Errors
    /// What is known of the last run cannot be read, or written.
    pub fn set_kept(&self, side: Side, kept: u64) -> Result<(), StateError> {
        self.own.as_ref().map_or(Ok(()), |own| own.set_kept(side, kept))
    }

    /// Notes a run that has just ended; `before` is what was known before it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_last_run(&self, last: LastRun, before: Option<LastRun>) -> Result<(), StateError> {
        match (&self.own, &self.elsewhere) {
            (Some(own), elsewhere) => {
                own.set_last_run(last, before)?;
                elsewhere.as_ref().map_or(Ok(()), StateStore::forget_last_run)
            }
            (None, Some(elsewhere)) => elsewhere.set_last_run(last, before),
            (None, None) => Ok(()),
        }
    }
}

/// The name of the notes elsewhere: tasks of one name in other places are other tasks.
fn elsewhere(instance_id: &str, places: &str) -> String {
    let hash = blake3::hash(places.as_bytes()).to_hex();
    format!("{instance_id}.{}", &hash[..16])
}

/// `$XDG_STATE_HOME/osync`, `~/.local/state/osync`.
fn user_dir() -> Option<PathBuf> {
    let of_xdg = std::env::var_os("XDG_STATE_HOME").filter(|value| !value.is_empty());
    // a service of the system has no HOME
    let of_home = || std::env::home_dir().filter(|home| home.is_absolute());
    let of_home = || of_home().map(|home| home.join(".local/state"));
    Some(of_xdg.map(PathBuf::from).or_else(of_home)?.join("osync"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn run(ended: i64, status: u8) -> LastRun {
        LastRun { began: ended - 1, ended, status, ..LastRun::default() }
    }

    #[test]
    fn what_happens_while_the_state_is_away_is_noted_elsewhere_and_counts() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let places = || {
            let own = Some(StateDir::Custom(state.clone()));
            NotePlaces::with_user_dir(own, "id", "id.a", Some(dir.path().join("user")))
        };
        let note = |last| {
            let places = places();
            places.set_last_run(last, places.last_run().unwrap()).unwrap();
            places.last_run().unwrap().unwrap()
        };
        // a first run that fails before there is a state
        assert_eq!(places().last_run().unwrap(), None);
        assert_eq!(note(run(10, 1)).failed_runs, 1);
        assert_eq!(note(run(20, 1)).failed_runs, 2);
        let others = NotePlaces::with_user_dir(None, "id", "id.b", Some(dir.path().join("user")));
        assert_eq!(others.last_run().unwrap(), None, "another task of this name");
        // it succeeds
        fs::create_dir(&state).unwrap();
        let good = note(LastRun { kept: [Some(5), None], ..run(30, 0) });
        assert_eq!((good.failed_runs, good.last_success), (0, 30));
        assert_eq!(fs::read_dir(dir.path().join("user")).unwrap().count(), 0, "out of date");
        // its disk goes, and comes back
        let away = dir.path().join("away");
        fs::rename(&state, &away).unwrap();
        assert_eq!(note(run(40, 1)).failed_runs, 1);
        assert_eq!(note(run(50, 1)).failed_runs, 2);
        fs::rename(&away, &state).unwrap();
        let known = places().last_run().unwrap().unwrap();
        assert_eq!((known.status, known.failing_since, known.failed_runs), (1, 39, 2));
        assert_eq!((known.last_success, known.kept), (30, [Some(5), None]));
        let failed = note(run(60, 1));
        assert_eq!((failed.failing_since, failed.failed_runs, failed.last_success), (39, 3, 30));
        assert_eq!(note(run(70, 0)).failed_runs, 0);
        let told = Told { failure: "f".into(), at: 7 };
        places().set_told(Channel::Mail, Some(&told)).unwrap();
        fs::rename(&state, &away).unwrap();
        assert_eq!(places().told(Channel::Mail), None);
        places().set_told(Channel::Mail, Some(&told)).unwrap();
        assert_eq!(places().told(Channel::Mail), Some(told));
    }
}
