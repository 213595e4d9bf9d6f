//! Metadata beyond content and time (docs/fidelity.md): ACLs and extended attributes, locally
//! and over ssh, in both directions, and twice in a row.

use crate::support::couple::Couple;
use crate::support::replicas::Sort;
use crate::support::sandbox::Replica;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const BOTH: &str = "PRESERVE_ACL=yes\nPRESERVE_XATTR=yes";
/// Names that a tool which prints or takes names as text stumbles over.
const NAMES: [&[u8]; 4] = [b"plain", b"a b", b"nl\nq\\z=\"'$(x)", b"-n \xff"];

/// The target here, and behind ssh; as root, and as an ordinary user over there.
fn couples() -> impl Iterator<Item = Couple> {
    let sorts = [(Sort::Local, "local"), (Sort::Ssh, "ssh"), (Sort::Nobody, "ordinary user")];
    sorts.into_iter().map(|(sort, way)| {
        let mut couple = Couple::reached_by(sort);
        couple.way = way;
        couple
    })
}

/// Runs one of the tools of ACLs or attributes in a replica.
fn tool(replica: &Replica, program: &str, args: &[&str], name: &[u8]) {
    let done = Command::new(program).args(args).arg("--").arg(replica.at(name)).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {args:?}: {said}");
}

fn setfacl(replica: &Replica, spec: &str, name: &[u8]) {
    tool(replica, "setfacl", &["-m", spec], name);
}

fn setfattr(replica: &Replica, attribute: &str, value: &str, name: &[u8]) {
    tool(replica, "setfattr", &["-n", attribute, "-v", value], name);
}

/// All that the system's own tools tell of an entry beside its content and owner.
fn told(replica: &Replica, name: &[u8]) -> String {
    let path = replica.at(name);
    let ask = |program: &str, args: &[&str]| {
        let said = Command::new(program).args(args).arg("--").arg(&path).output().unwrap();
        assert!(said.status.success(), "{program}: {}", String::from_utf8_lossy(&said.stderr));
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        text.lines()
            .filter(|line| {
                !["# file", "# owner", "# group"].iter().any(|what| line.starts_with(what))
            })
            .fold(String::new(), |all, line| all + line + "\n")
    };
    let lists = ask("getfacl", &["-npE"]);
    lists + &ask("getfattr", &["-d", "-e", "hex", "-m", "^user", "--absolute-names"])
}

fn same(couple: &Couple, name: &[u8]) -> String {
    let [a, b] = [0, 1].map(|side| told(couple.side(side), name));
    assert_eq!(a, b, "{}: {}", couple.way, String::from_utf8_lossy(name));
    a
}

fn inode(replica: &Replica, name: &[u8]) -> u64 {
    replica.at(name).symlink_metadata().unwrap().ino()
}

fn ctime(path: &Path) -> (i64, i64) {
    let seen = path.symlink_metadata().unwrap();
    (seen.ctime(), seen.ctime_nsec())
}

/// Waits until the clock of the file system has gone on since an entry was changed: it stands
/// still for some milliseconds.
fn pass_time(since: &Path, probe: &Path) {
    std::fs::write(probe, "").unwrap();
    while ctime(probe) <= ctime(since) {
        std::fs::write(probe, "").unwrap();
    }
}

#[test]
fn lists_and_attributes_alone_go_over_both_ways_without_content() {
    for couple in couples() {
        let [a, b] = [couple.side(0), couple.side(1)];
        std::fs::create_dir(a.at("dir")).unwrap();
        for name in NAMES {
            a.write(name, "content", 1_000_000_000);
            a.write([b"dir/", name].concat(), "content", 1_000_000_000);
        }
        couple.sync_twice(BOTH);
        for (from, to) in [(a, b), (b, a)] {
            let inodes: Vec<u64> = NAMES.map(|name| inode(to, name)).to_vec();
            let who = if std::ptr::eq(from, a) { "u:1234:rw-" } else { "g:4321:--x" };
            for name in NAMES {
                setfacl(from, who, name);
                setfattr(from, "user.mark", who, name);
                setfattr(from, "user.empty", "", &[b"dir/", name].concat());
            }
            setfacl(from, &format!("d:{who}"), b"dir");
            setfacl(from, who, b"dir");
            couple.sync_twice(BOTH);
            for name in NAMES {
                let all = same(&couple, name);
                assert!(all.contains(&who[2..6]) && all.contains("user.mark=0x"), "{all}");
                assert!(same(&couple, &[b"dir/", name].concat()).contains("user.empty"));
                assert_eq!(to.read(name).unwrap(), b"content");
            }
            assert!(same(&couple, b"dir").contains("default:"));
            assert_eq!(inodes, NAMES.map(|name| inode(to, name)), "{}: moved", couple.way);
            assert_eq!(to.backup(), "", "{}", couple.way);
        }
        // taken away on one side, all of it, or one of several
        tool(b, "setfacl", &["-k"], b"dir");
        tool(b, "setfacl", &["-x", "u:1234"], b"plain");
        tool(a, "setfacl", &["-b"], b"a b");
        tool(b, "setfattr", &["-x", "user.mark"], b"a b");
        tool(a, "setfattr", &["-x", "user.mark"], NAMES[2]);
        couple.sync_twice(BOTH);
        assert!(!same(&couple, b"dir").contains("default:"));
        assert!(!same(&couple, b"plain").contains("1234"));
        assert!(same(&couple, b"plain").contains("4321"));
        assert!(!same(&couple, NAMES[2]).contains("user.mark"));
        // of one file both changed something, and metadata is one field: the later one won
        let all = same(&couple, b"a b");
        assert_eq!(all.contains("4321"), !all.contains("user.mark"), "{all}");
    }
}

#[test]
fn what_is_new_brings_its_lists_and_attributes() {
    for couple in couples() {
        for side in [0, 1] {
            let from = couple.side(side);
            from.make(&format!(
                "d new{side}\nd new{side}/sub\nf new{side}/sub/f text\nf top{side} x"
            ));
            for name in [format!("new{side}"), format!("new{side}/sub/f"), format!("top{side}")] {
                setfacl(from, "u:1234:r-x", name.as_bytes());
                setfattr(from, "user.new", "1", name.as_bytes());
            }
            setfacl(from, "d:g:7:rwx", format!("new{side}/sub").as_bytes());
            couple.sync_twice(BOTH);
            for name in ["new", "new/sub", "new/sub/f", "top"] {
                let name = name.replacen("new", &format!("new{side}"), 1);
                let name = name.replace("top", &format!("top{side}"));
                let all = same(&couple, name.as_bytes());
                assert!(all.contains(":1234:") || all.contains("default:group:7:rwx"), "{all}");
            }
        }
    }
}

/// The warning comes once: a cron job must not fail every night for what cannot change.
#[test]
fn without_tools_over_there_attributes_go_over_with_contents_and_that_is_told_once() {
    let couple = Couple::reached_by(Sort::BusyBox);
    let [a, b] = [couple.side(0), couple.side(1)];
    a.write("f", "old", 1_000_000_000);
    setfacl(a, "u:1234:r--", b"f");
    setfattr(a, "user.mark", "1", b"f");
    let first = couple.run(BOTH).run();
    assert_eq!(first.status, Some(2), "{first}");
    assert!(first.stderr.contains("package acl") && first.stderr.contains("package attr"));
    assert!(same(&couple, b"f").contains("user.mark"));
    // nothing but attributes: not seen, on either side, and nobody's are touched
    setfattr(a, "user.mark", "2", b"f");
    setfattr(b, "user.other", "3", b"f");
    let second = couple.run(BOTH).run();
    assert_eq!((second.status, second.stderr.as_str()), (Some(0), ""), "{second}");
    assert!(told(a, b"f").contains("user.mark=0x32") && told(b, b"f").contains("user.other"));
    // with content they come
    a.write("f", "new", 1_100_000_000);
    assert_eq!(couple.run(BOTH).run().status, Some(0));
    assert!(same(&couple, b"f").contains("user.mark=0x32"));
    assert_eq!(b.read("f").unwrap(), b"new");
}

#[test]
fn content_and_metadata_flow_in_opposite_directions() {
    for couple in couples() {
        for (content, metadata, who) in [(0, 1, "u:77:rwx"), (1, 0, "u:78:rwx")] {
            let (content, metadata) = (couple.side(content), couple.side(metadata));
            for name in ["f", "g"] {
                content.write(name, "old", 1_600_000_000);
            }
            couple.sync_twice(BOTH);
            content.write("f", "new text", 1_700_000_000);
            content.write("g", "new text", 900_000_000);
            for name in [b"f", b"g"] {
                setfacl(metadata, who, name);
                setfattr(metadata, "user.side", who, name);
            }
            couple.sync_twice(BOTH);
            for name in [b"f", b"g"] {
                let all = same(&couple, name);
                assert!(all.contains(&who[2..]) && all.contains("user.side"), "{all}");
                for side in [0, 1] {
                    assert_eq!(couple.side(side).read(name).unwrap(), b"new text");
                }
            }
        }
    }
}

#[test]
fn of_two_changes_the_later_ctime_wins_whole() {
    for couple in couples() {
        for winner in [0, 1] {
            let (early, late) = (couple.side(1 - winner), couple.side(winner));
            early.write("f", format!("text {winner}"), 1_000_000_000 + winner as i64);
            couple.sync_twice(BOTH);
            setfacl(early, "u:1:r--", b"f");
            setfattr(early, "user.early", "1", b"f");
            pass_time(&early.at("f"), &couple.sandbox.path("probe"));
            let late_list = ["user:2:rw-", "user:3:rw-"][winner];
            tool(late, "setfacl", &["-m", &late_list.replace("user", "u")], b"f");
            couple.sync_twice(BOTH);
            let all = same(&couple, b"f");
            assert!(all.contains(late_list) && !all.contains("user.early"), "{all}");
        }
    }
}

#[test]
fn what_is_off_is_neither_compared_nor_carried_over() {
    for couple in couples() {
        let [a, b] = [couple.side(0), couple.side(1)];
        a.write("f", "text", 1_000_000_000);
        couple.sync_twice("");
        setfacl(a, "u:1234:r--", b"f");
        setfattr(a, "user.mark", "1", b"f");
        // the mask of the list is the group's part of the mode
        tool(a, "setfacl", &["-m", "m:r--"], b"f");
        let before = told(b, b"f");
        couple.sync_twice("");
        assert_eq!(told(b, b"f"), before);
        // turned on later, what differs goes over
        couple.sync_twice("PRESERVE_XATTR=yes");
        let all = told(b, b"f");
        assert!(all.contains("user.mark") && !all.contains("1234"), "{all}");
        couple.sync_twice(BOTH);
        assert!(same(&couple, b"f").contains("1234"));
    }
}
