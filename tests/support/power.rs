//! A disk whose power can be cut: a file system in memory behind a loop device.
//!
//! The image is a memfd. Sealing it against writes takes the power away at one instant, for
//! every file system alike: what the kernel has not written by then never arrives. A copy of
//! the image is the disk that is there when the power is back.

#![allow(dead_code)]

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the smallest xfs takes.
const SIZE: u64 = 320 << 20;

/// A mounted disk.
pub struct PowerDisk {
    mount: PathBuf,
    image: File,
    device: String,
}

impl PowerDisk {
    /// A new file system of this sort (`ext4`, `xfs`, `btrfs`), mounted and empty.
    ///
    /// # Errors
    /// Why this machine cannot have it.
    pub fn plug_in(sort: &str, mount: &Path) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may mount".to_owned());
        }
        let image = image()?;
        let force = if sort == "ext4" { "-F" } else { "-f" };
        run(&[&format!("mkfs.{sort}"), "-q", force, &path_of(&image)])?;
        let device = attach(&image, mount)?;
        let _ = fs::remove_dir(mount.join("lost+found"));
        let disk = PowerDisk { mount: mount.to_owned(), image, device };
        disk.flush();
        Ok(disk)
    }

    /// Everything that was written so far is on the disk.
    pub fn flush(&self) {
        run(&["sync", "-f", &self.mount.to_string_lossy()]).unwrap();
    }

    /// The journal is, and with it names, sizes and times that go without their contents: what
    /// the kernel does every few seconds.
    pub fn commit(&self) {
        let dir = self.mount.join(".osync_workdir");
        let _ = fs::create_dir(&dir);
        let file = File::create(dir.join("power")).unwrap();
        let _ = file.sync_all();
    }

    /// Nothing is written any more.
    pub fn cut(&self) {
        fcntl_add_seals(&self.image, SealFlags::WRITE).unwrap();
    }

    /// The power is back: what had reached the disk is there. Nobody may use it by now.
    pub fn restore(&mut self) {
        self.unmount();
        let image = image().unwrap();
        run(&["cp", "--sparse=always", &path_of(&self.image), &path_of(&image)]).unwrap();
        self.device = attach(&image, &self.mount).unwrap();
        self.image = image;
        let _ = fs::remove_file(self.mount.join(".osync_workdir/power"));
    }

    /// Changes bytes of the disk itself, under the feet of its file system. Nobody may use it.
    pub fn edit_image<T>(&mut self, edit: impl FnOnce(&File) -> T) -> T {
        self.unmount();
        let edited = edit(&self.image);
        self.device = attach(&self.image, &self.mount).unwrap();
        edited
    }

    fn unmount(&self) {
        let mount = self.mount.to_string_lossy();
        if let Err(why) = run(&["umount", &mount]) {
            println!("{why}; unmounted lazily");
            let _ = run(&["umount", "-l", &mount]);
        }
        let _ = run(&["losetup", "-d", &self.device]);
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn image() -> Result<File, String> {
    let image = memfd_create("disk", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC);
    let image = File::from(image.map_err(|e| format!("no memory files: {e}"))?);
    image.set_len(SIZE).map_err(|e| format!("no room for a disk in memory: {e}"))?;
    Ok(image)
}

fn path_of(image: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), image.as_raw_fd())
}

fn attach(image: &File, mount: &Path) -> Result<String, String> {
    let device = run(&["losetup", "-f", "--show", &path_of(image)])?;
    let device = device.trim().to_owned();
    if let Err(why) = run(&["mount", &device, &mount.to_string_lossy()]) {
        let _ = run(&["losetup", "-d", &device]);
        return Err(why);
    }
    Ok(device)
}

fn run(words: &[&str]) -> Result<String, String> {
    let command = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let failed = |why: io::Error| format!("{words:?}: {why}");
    let output = command.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
