//! A reporter that keeps what it is told.

use osync::testing::report::{Event, Level, Reporter};
use std::sync::Mutex;

/// Keeps what is said.
#[derive(Default)]
pub struct Ear(Mutex<Vec<(Level, String)>>);

impl Ear {
    pub fn all(&self) -> Vec<(Level, String)> {
        self.0.lock().unwrap().clone()
    }

    pub fn errors(&self) -> Vec<String> {
        let errors = self.all().into_iter().filter(|(level, _)| *level == Level::Error);
        errors.map(|(_, text)| text).collect()
    }
}

impl Reporter for Ear {
    fn tell(&self, event: Event<'_>) {
        if let Event::Message(level, text) | Event::Remark(level, text) = event {
            self.0.lock().unwrap().push((level, text.to_owned()));
        }
    }
}
