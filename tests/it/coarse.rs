//! File systems with coarse times (spec 4, "Deciding one path"): no side is changed for
//! ever. Loop-mounted images where the machine can mount them.

use crate::support::sandbox::Sandbox;
use crate::support::ways::each;
use std::path::Path;
use std::process::Command;

/// An image mounted for as long as this lives.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// Mounts a new image at a directory; none, with a reason, where that cannot be.
fn mount<'a>(sandbox: &Sandbox, make: &[&str], at: &'a Path) -> Option<Mounted<'a>> {
    let image = sandbox.path("image");
    std::fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
    let made = Command::new(make[0]).args(&make[1..]).arg(&image).output();
    let mounted = made.is_ok_and(|made| made.status.success())
        && Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, at])
            .output()
            .is_ok_and(|mounted| mounted.status.success());
    if !mounted {
        eprintln!("NOT TESTED: an image of {} cannot be mounted here", make[0]);
    }
    mounted.then(|| Mounted(at))
}

/// Plays changes in both directions with a replica on such a file system.
fn play(make: &[&str], settings: &str) {
    each(settings, |way| {
        let (here, there) = (way.here(), way.there());
        let Some(_mounted) = mount(&way.sandbox, make, &there.root) else { return };
        let _ = std::fs::remove_dir(there.at("lost+found"));
        here.make("d d 1500000001.7\nf d/f one 1500000003.123456789\nf odd two 1500000001\nd e/x");
        way.fine();
        assert_eq!(there.contents(), here.contents(), "{}", way.name);
        way.idle();
        here.write("d/f", "changed", 1_600_000_001);
        there.write("odd", "changed there", 1_600_000_003);
        there.write("new", "n", 1_600_000_005);
        way.fine();
        assert_eq!(there.contents(), here.contents(), "{}", way.name);
        assert_eq!(here.read("odd").unwrap(), b"changed there", "{}", way.name);
        way.idle();
        // a change within the second of the last one
        here.make("f d/f again 1600000001.9");
        there.remove("new");
        way.fine();
        assert_eq!(there.contents(), here.contents(), "{}", way.name);
        way.idle();
    });
}

#[test]
fn times_of_whole_seconds_are_no_endless_change() {
    play(&["mkfs.ext4", "-q", "-I", "128"], "");
}

#[test]
fn times_of_two_seconds_without_owners_and_modes_are_no_endless_change() {
    play(
        &["mkfs.vfat"],
        "PRESERVE_PERMISSIONS=no\nPRESERVE_OWNER=no\nPRESERVE_GROUP=no\nPRESERVE_EXECUTABILITY=no",
    );
}
