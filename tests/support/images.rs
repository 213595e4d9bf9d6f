//! File systems of Windows in images, mounted through FUSE.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Which file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Folds case, has neither links nor owners, and times of whole seconds.
    ExFat,
    /// NTFS as ntfs-3g mounts it.
    Ntfs,
    /// NTFS that folds case.
    FoldingNtfs,
}

/// A mounted image; taken away again when dropped.
pub struct Image {
    at: PathBuf,
    device: String,
}

impl Image {
    /// A new one, mounted; none, with the reason said, where that cannot be.
    pub fn mount(kind: Kind, file: &Path, at: &Path) -> Option<Image> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            eprintln!("skipped: {kind:?} needs root and /dev/fuse");
            return None;
        }
        std::fs::File::create(file).unwrap().set_len(24 << 20).unwrap();
        let device = run("losetup", &["-f", "--show", file.to_str()?])?;
        let image = Image { at: at.to_owned(), device: device.trim().to_owned() };
        let (device, place) = (image.device.as_str(), at.to_str()?);
        match kind {
            Kind::ExFat => {
                run("mkfs.exfat", &[device])?;
                run("mount.exfat-fuse", &[device, place])?;
            }
            Kind::Ntfs => {
                run("mkntfs", &["-Q", "-F", device])?;
                run("ntfs-3g", &[device, place])?;
            }
            Kind::FoldingNtfs => {
                run("mkntfs", &["-Q", "-F", device])?;
                run("lowntfs-3g", &["-o", "ignore_case", device, place])?;
            }
        }
        Some(image)
    }
}

/// What a program says; none, with the reason said, if it cannot do its work.
fn run(program: &str, args: &[&str]) -> Option<String> {
    match Command::new(program).args(args).output() {
        Ok(done) if done.status.success() => {
            Some(String::from_utf8_lossy(&done.stdout).into_owned())
        }
        Ok(done) => {
            eprintln!("skipped: {program}: {}", String::from_utf8_lossy(&done.stderr));
            None
        }
        Err(error) => {
            eprintln!("skipped: {program}: {error}");
            None
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).output();
    }
}
