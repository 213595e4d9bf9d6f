//! `told-CHANNEL-ID`: which failure somebody was told of last (spec 10, "Being told").
//!
//! A small file for each way of telling; there is none while all is well.

use super::error::StateError;
use super::files::Durable;
use super::store::StateStore;
use serde::{Deserialize, Serialize};

/// What was told last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which failure: `report::failure::Failure::key`.
    pub failure: String,
    /// When, in milliseconds since the epoch.
    pub at: i64,
}

/// A way of telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Mail.
    Mail,
    /// NOTIFY_URL.
    Notification,
    /// Mail about a scrub: a run that is well does not end what a scrub found, nor the other way.
    MailOfScrub,
    /// NOTIFY_URL about a scrub.
    NotificationOfScrub,
}

impl Channel {
    fn file(self) -> &'static str {
        match self {
            Channel::Mail => "told-mail",
            Channel::Notification => "told-notify",
            Channel::MailOfScrub => "told-scrub-mail",
            Channel::NotificationOfScrub => "told-scrub-notify",
        }
    }
}

impl StateStore {
    /// What was told last; `None` if all was well, or if the file is torn.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn told(&self, channel: Channel) -> Result<Option<Told>, StateError> {
        let found = self.files.read(&self.name(channel.file()))?;
        Ok(found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()))
    }

    /// Notes what was told; `None`: that it is over.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_told(&self, channel: Channel, told: Option<&Told>) -> Result<(), StateError> {
        let name = self.name(channel.file());
        match told {
            None => self.files.remove(&name),
            Some(told) => {
                let bytes = serde_json::to_vec(told).unwrap_or_default();
                self.files.replace(&name, Durable::No, &bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateDir;

    #[test]
    fn each_channel_remembers_what_it_told_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(StateDir::Custom(dir.path().into()), "id").unwrap();
        let told = Told { failure: "f".into(), at: 7 };
        store.set_told(Channel::Mail, Some(&told)).unwrap();
        assert_eq!(store.told(Channel::Mail).unwrap(), Some(told));
        assert_eq!(store.told(Channel::Notification).unwrap(), None);
        store.set_told(Channel::Mail, None).unwrap();
        assert_eq!(store.told(Channel::Mail).unwrap(), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(dir.path().join("told-mail-id"), "{torn").unwrap();
        assert_eq!(store.told(Channel::Mail).unwrap(), None);
    }
}
