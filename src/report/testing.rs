//! A reporter for tests.

use super::{Event, Level, Reporter};
use std::sync::Mutex;

/// Keeps what is said.
#[derive(Default)]
pub struct Ear(Mutex<Vec<(Level, String)>>);

impl Reporter for Ear {
    fn tell(&self, event: Event<'_>) {
        let (level, text) = match event {
            Event::Message(level, text) => (level, text.to_owned()),
            Event::Problem(problem) => (problem.level, problem.to_string()),
            _ => return,
        };
        self.0.lock().unwrap().push((level, text));
    }
}

impl Ear {
    /// What was said at a level, a line each.
    pub fn said(&self, level: Level) -> String {
        let said = self.all();
        said.iter().filter(|(l, _)| *l == level).map(|(_, text)| format!("{text}\n")).collect()
    }

    /// All that was said.
    pub fn all(&self) -> Vec<(Level, String)> {
        self.0.lock().unwrap().clone()
    }
}
