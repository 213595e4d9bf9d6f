//! What resolving has to know about the machine, as a trait: tests bring their own.

use std::io;
use std::path::{Path, PathBuf};

/// Questions to the machine. Nothing is changed by asking them.
pub trait Surroundings {
    /// The directory that relative paths begin in.
    fn current_dir(&self) -> PathBuf;

    /// Whether there is a file of this name.
    fn is_file(&self, path: &Path) -> bool;

    /// The path with symbolic links resolved, as far as it exists.
    fn real_path(&self, path: &Path) -> PathBuf;

    /// The content of a pattern file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The machine this program runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Surroundings for ThisMachine {
    fn current_dir(&self) -> PathBuf {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn real_path(&self, path: &Path) -> PathBuf {
        let mut missing = Vec::new();
        for present in path.ancestors() {
            if let Ok(real) = present.canonicalize() {
                return missing.iter().rev().fold(real, |path, name| path.join(name));
            }
            missing.extend(present.file_name());
        }
        path.to_owned()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}
