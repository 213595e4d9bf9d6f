//! Reads and resolves the settings of a task: files here, meaning in `config`.

use crate::config::{Environment, FileSettings, Flags, Problem, Resolution, Settings};
use crate::config::{ThisMachine, load, resolve};
use crate::filter::{Filter, listing};
use std::ffi::OsStr;
use std::path::Path;

/// Everything that was typed, set and written, resolved.
#[must_use]
pub fn gather(file: Option<&OsStr>, flags: &Flags, environment: &Environment) -> Resolution {
    let loaded = file.map(|file| load::load(Path::new(file), environment)).transpose();
    resolved(loaded, flags, environment)
}

/// The same for a `.conf` file that has another text than the disk says.
#[must_use]
pub fn gather_text(
    file: &Path,
    text: &[u8],
    flags: &Flags,
    environment: &Environment,
) -> Resolution {
    let loaded = load::from_text(file, text, environment);
    resolved(Ok(Some(loaded)), flags, environment)
}

fn resolved(
    loaded: Result<Option<load::Loaded>, Problem>,
    flags: &Flags,
    environment: &Environment,
) -> Resolution {
    let (file, warnings): (Option<FileSettings>, _) = match loaded {
        Ok(Some(loaded)) => (Some(loaded.settings), loaded.warnings),
        Ok(None) => (None, Vec::new()),
        Err(problem) => {
            let settings = Settings::default();
            return Resolution { settings, config: None, errors: vec![problem], warnings: vec![] };
        }
    };
    let mut resolution = resolve(file.as_ref(), flags, environment, &ThisMachine);
    resolution.warnings.splice(0..0, warnings);
    ask_the_filter(&mut resolution);
    resolution
}

/// What patterns and rsync arguments mean is for `filter` to say, which stands above
/// `config`.
fn ask_the_filter(resolution: &mut Resolution) {
    let Some(config) = &mut resolution.config else { return };
    config.selection.listing_args = listing::listing_args(&config.transfer.optional_args);
    let filter = Filter::new(&config.selection.rules);
    for problem in filter.problems() {
        let place = resolution.settings.file.as_deref().map(Path::as_os_str);
        let place = place.map(|place| place.to_string_lossy().into_owned()).unwrap_or_default();
        let told = Problem { place, line: None, key: None, text: problem.to_string() };
        if problem.is_error() {
            resolution.errors.push(told);
        } else {
            resolution.warnings.push(told);
        }
    }
    if !resolution.errors.is_empty() {
        resolution.config = None;
    }
}
