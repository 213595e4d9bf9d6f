//! The time limits of a run, and its heartbeat (spec 7, "Limits and signals").

use super::Surroundings;
use crate::config::Config;
use crate::process::{Deadlines, Limits};
use crate::report::mail::mail_soft_limit;
use crate::report::{Event, Level, Reporter};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The clock of a run. Dropping it stops the clock and waits for a mail under way.
pub struct Watch {
    clock: Option<Deadlines>,
    mail: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Starts the clock of a run.
pub fn watch(config: &Config, around: &Surroundings<'_>) -> Watch {
    let limits = config.limits;
    let limits =
        Limits::from_seconds(around.started, limits.soft, limits.hard, limits.keep_logging);
    let mail = Arc::new(Mutex::new(None));
    let (settings, log, slot) = (config.clone(), Arc::clone(around.log), Arc::clone(&mail));
    let on_soft = move || {
        let text = format!(
            "SOFT_MAX_EXEC_TIME ({} seconds) has passed; the run goes on",
            settings.limits.soft
        );
        log.problem(Level::Warn, None, None, &text);
        // A slow mail server must not hold up the clock.
        let (settings, log) = (settings.clone(), Arc::clone(&log));
        let letter = std::thread::spawn(move || mail_soft_limit(&settings, &log));
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(letter);
    };
    let log = Arc::clone(around.log);
    let on_heartbeat = move |passed| log.tell(Event::Heartbeat("the run", passed));
    let clock = match Deadlines::start(limits, around.stop, on_soft, on_heartbeat) {
        Ok(deadlines) => Some(deadlines),
        Err(error) => {
            let text = format!("the time limits are not watched: {error}");
            around.reporter().problem(Level::Warn, None, None, &text);
            None
        }
    };
    Watch { clock, mail }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.clock = None;
        let letter = self.mail.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(letter) = letter {
            // A panic there has been printed already.
            let _ = letter.join();
        }
    }
}
