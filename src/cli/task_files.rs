//! Configuration files that a command rewrites or makes: `osync upgrade`.

use super::task_args::Refused;
use super::{complain, print, settings};
use crate::config::FileForm;
use crate::config::conf_file::Trouble;
use crate::config::{Config, Environment, Flags, Resolution, Settings};
use crate::report::{FileAccess, written_beside};
use crate::tree::path::escape;
use anyhow::Context;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A task with the file that it stands in.
pub(super) struct Task {
    pub file: PathBuf,
    pub form: FileForm,
    pub settings: Settings,
    pub config: Config,
}

impl Task {
    pub(super) fn read(file: &Path, environment: &Environment) -> anyhow::Result<Self> {
        Self::of(file, settings::gather(Some(file.as_os_str()), &Flags::default(), environment))
    }

    pub(super) fn of(file: &Path, gathered: Resolution) -> anyhow::Result<Self> {
        let settings = gathered.settings.clone();
        let form = FileForm::of(file).unwrap_or(FileForm::Conf);
        Ok(Task { file: file.to_owned(), form, settings, config: resolved(gathered)? })
    }
}

pub(super) fn resolved(resolution: Resolution) -> Result<Config, Refused> {
    for warning in &resolution.warnings {
        complain(&warning.to_string());
    }
    for placeholder in resolution.config.iter().flat_map(|config| &config.alerts.placeholders) {
        complain(&placeholder.to_string());
    }
    let refused = Refused::unresolved(&resolution);
    resolution.config.ok_or(refused)
}

pub(super) fn say(text: &str) {
    print(&format!("{text}\n"));
}

pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{}: cannot read", shown(file)))
}

pub(super) fn not_understood(name: &str, errors: &[Trouble]) -> Refused {
    let line = |error: &Trouble| format!("{name}:{}: {}", error.line, error.text);
    Refused::Settings(errors.iter().map(line).collect())
}

/// A new file that appears with its whole content. Nothing that is there is overwritten.
pub(super) fn write_new(to: &Path, text: &[u8], access: FileAccess<'_>) -> std::io::Result<()> {
    written_beside(to, text, access)?.persist_noclobber(to)?;
    Ok(())
}

pub(super) fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}
