//! Writes upgraded files beside the copy that keeps the old one.

use super::{Way, say};
use crate::config::{Environment, load, to_toml, upgrade};
use crate::tree::path::escape;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Rewrites a `.conf` file and returns its new text.
pub(super) fn file(
    file: &Path,
    environment: &Environment,
    way: Way,
) -> Result<Vec<u8>, Vec<String>> {
    let name = shown(file);
    if file.extension().is_none_or(|extension| extension != "conf") {
        return Err(vec![format!("{name}: only .conf files are upgraded")]);
    }
    let old = read(file)?;
    let new = upgrade::upgrade(&old, &mut load::Shell::for_file(environment, file)).map_err(
        |errors| {
            errors
                .iter()
                .map(|error| format!("{name}:{}: {}", error.line, error.text))
                .collect::<Vec<_>>()
        },
    )?;
    if new.text == old {
        say(&format!("{name} is up to date."));
        return Ok(old);
    }
    for note in &new.notes {
        say(&format!("{name}: {note}"));
    }
    match way {
        Way::Say => say(&format!("{name} would be rewritten.")),
        Way::Do => {
            let copy = keep_copy(file, &old)
                .map_err(|e| vec![format!("{name}: cannot keep a copy: {e}")])?;
            replace(file, &new.text).map_err(|e| vec![format!("{name}: cannot write: {e}")])?;
            say(&format!("{name} is rewritten; {} keeps it as it was.", shown(&copy)));
        }
    }
    Ok(new.text)
}

/// Writes `FILE.toml` from `FILE.conf`.
pub(super) fn to_toml(file: &Path, environment: &Environment, way: Way) -> Result<(), Vec<String>> {
    let name = shown(file);
    if file.extension().is_none_or(|extension| extension != "conf") {
        return Err(vec![format!("{name}: only a .conf file can become a .toml file")]);
    }
    // A file of an older version first becomes one of today.
    let old = read(file)?;
    let mut shell = load::Shell::for_file(environment, file);
    let errors = |errors: Vec<crate::config::conf_file::Trouble>| -> Vec<String> {
        errors.iter().map(|error| format!("{name}:{}: {}", error.line, error.text)).collect()
    };
    let today = upgrade::upgrade(&old, &mut shell).map_err(errors)?;
    let made = to_toml::to_toml(&today.text, &mut shell).map_err(errors)?;
    for note in &made.notes {
        say(&format!("{name}: {note}"));
    }
    let to = file.with_extension("toml");
    let target = shown(&to);
    match fs::read(&to) {
        Ok(there) if there == made.text.as_bytes() => say(&format!("{target} is up to date.")),
        Ok(_) => return Err(vec![format!("{target} is there already; move it away first")]),
        Err(_) if way == Way::Say => say(&format!("{target} would be written.")),
        Err(_) => {
            let mode_of = fs::metadata(file).ok();
            write_new(&to, made.text.as_bytes(), mode_of.as_ref())
                .map_err(|e| vec![format!("{target}: cannot write: {e}")])?;
            say(&format!("{target} is written."));
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, Vec<String>> {
    fs::read(file).map_err(|error| vec![format!("{}: cannot read: {error}", shown(file))])
}

/// Copies the old text to the first of `FILE.save`, `FILE.save.1` … that is free, or that
/// holds it already.
fn keep_copy(file: &Path, old: &[u8]) -> std::io::Result<PathBuf> {
    let metadata = fs::metadata(file)?;
    for number in 0_u32.. {
        let mut name = file.as_os_str().to_owned();
        name.push(".save");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let copy = PathBuf::from(name);
        match fs::read(&copy) {
            Ok(there) if there == old => return Ok(copy),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write_new(&copy, old, Some(&metadata))?;
                return Ok(copy);
            }
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other("there are too many copies"))
}

/// A new file that appears with its whole content, the mode and the owner of another one.
fn write_new(to: &Path, text: &[u8], like: Option<&fs::Metadata>) -> std::io::Result<()> {
    let temporary = written_beside(to, text, like)?;
    temporary.persist_noclobber(to).map_err(|error| error.error)?;
    Ok(())
}

/// Replaces a file at once; where it is a link, what the link leads to.
fn replace(file: &Path, text: &[u8]) -> std::io::Result<()> {
    let file = file.canonicalize()?;
    let metadata = fs::metadata(&file)?;
    let temporary = written_beside(&file, text, Some(&metadata))?;
    temporary.persist(&file).map_err(|error| error.error)?;
    Ok(())
}

fn written_beside(
    file: &Path,
    text: &[u8],
    like: Option<&fs::Metadata>,
) -> std::io::Result<tempfile::NamedTempFile> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(text)?;
    if let Some(like) = like {
        // Only root can give a file away; the mode matters in any case.
        let _ = std::os::unix::fs::chown(temporary.path(), Some(like.uid()), Some(like.gid()));
        temporary.as_file().set_permissions(like.permissions())?;
    }
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}
