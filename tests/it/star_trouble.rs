//! Leaves of a star that are slow, full or exchanged, and what is told of leaves that fail (spec 10).

use crate::record::no_transfers;
use crate::star::Star;
use crate::support::https::{Answer, HttpsServer};
use crate::support::mounts::Mounted;
use crate::support::sandbox::fine;
use crate::support::smtp::{Behaviour, SmtpServer};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// Programs named `find` that list a replica over ssh wait for each other.
fn let_scans_wait_for(star: &Star, count: usize) {
    let scans = star.sandbox.path("scans");
    let _ = fs::remove_dir_all(&scans);
    fs::create_dir(&scans).unwrap();
    let script = format!(
        r#"#!/bin/sh
wait_for_others() {{
    : > '{scans}'/scan.$$
    tries=0
    while set -- '{scans}'/scan.*; [ $# -lt {count} ]; do
        if [ $tries -ge 300 ]; then
            : > '{scans}/alone'
            break
        fi
        tries=$((tries + 1))
        sleep 0.1
    done
}}
case "$*" in *'./.osync_workdir -prune'*) wait_for_others ;; esac
exec /usr/bin/find "$@"
"#,
        scans = scans.display(),
    );
    let find = star.sandbox.path("bin/find");
    fs::write(&find, script).unwrap();
    fs::set_permissions(&find, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn targets_over_ssh_are_scanned_at_the_same_time() {
    let star = Star::new(3);
    let ssh = |leaf: usize| format!("ssh://host{leaf}/{}", star.leaves[leaf].root.display());
    let list = [0, 1, 2].map(ssh);
    let conf = star.conf(&list, "REMOTE_OSYNC=no");
    star.hub().make("f one x");
    fine(&star.osync().arg(&conf).run());
    let_scans_wait_for(&star, 3);
    star.leaves[2].make("f new n");
    let run = star.osync().arg(&conf).run();
    fine(&run);
    assert!(star.sandbox.path("scans").read_dir().unwrap().count() >= 3, "{run}");
    assert!(!star.sandbox.path("scans/alone").exists(), "one waited for the other: {run}");
    for leaf in &star.leaves {
        assert!(leaf.has("new") && !leaf.has(".osync_workdir/lock"), "{run}");
    }
}

#[test]
fn a_leaf_that_does_not_answer_for_long_delays_nobody_and_has_its_turn_when_it_does() {
    let star = Star::met(3);
    star.leaves[0].make("f from-late l");
    star.leaves[2].make("f from-last l");
    star.hub().make("f new n");
    let mut list = star.list();
    list[0] = format!("ssh://late/{}", list[0]);
    let conf = star.conf(&list, "REMOTE_OSYNC=no");
    // the second turn of the one comes after the first of the other
    let (answers, done) = (star.sandbox.path("late"), star.leaves[1].at("from-last"));
    let waits = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(60);
        while !done.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        fs::write(answers, "").unwrap();
        done.exists()
    });
    let run = star.osync().arg(conf).run();
    assert!(waits.join().unwrap(), "the others had to wait: {run}");
    fine(&run);
    assert!(run.stdout.contains("has not answered yet"), "{run}");
    assert!(star.leaves[2].has("from-late"), "its news are on every leaf: {run}");
    star.assert_all_alike();
}

#[test]
fn what_failed_is_not_summed_up_as_nothing_to_do() {
    let star = Star::met(2);
    let bin = star.sandbox.path("bin");
    no_transfers(&bin);
    star.hub().make("f new n");
    let run = star.run(&[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(!run.stdout.contains("nothing to do"), "{run}");
    assert_eq!(run.stdout.matches("nothing was done in").count(), 3, "{run}");
    // one of them is away, and the other is in step
    fs::remove_file(bin.join("rsync")).unwrap();
    fine(&star.run(&[]));
    fs::rename(&star.leaves[1].root, star.sandbox.path("away")).unwrap();
    let run = star.run(&[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert_eq!(run.stdout.matches("nothing to do").count(), 1, "for the other alone: {run}");
}

#[test]
fn a_leaf_that_is_full_is_an_error_of_its_own() {
    let star = Star::met(3);
    let full = &star.leaves[1];
    let kept = star.sandbox.path("kept");
    fs::rename(&full.root, &kept).unwrap();
    fs::create_dir(&full.root).unwrap();
    let Some(_disk) = Mounted::tmpfs(&full.root, "size=2m") else { return };
    fine(&star.sandbox.program("cp").arg("-a").arg(kept.join(".")).arg(&full.root).run());
    star.hub().write("large", vec![7; 3_000_000], 1_600_000_000);
    star.leaves[2].make("f new n");
    let conf = star.conf(&star.list(), "MINIMUM_SPACE=0");
    let run = star.osync().arg(&conf).run();
    assert_eq!(run.status, Some(1), "{run}");
    let said = format!("[{}] ", full.root.display());
    let is_told = |line: &str| line.contains(&said) && line.contains("o space left");
    assert!(run.stderr.lines().any(is_told), "{run}");
    for leaf in [&star.leaves[0], &star.leaves[2]] {
        assert!(leaf.has("large") && leaf.has("new"), "{run}");
    }
    // there is room again
    star.hub().write("large", vec![8; 1000], 1_600_000_001);
    fine(&star.osync().arg(&conf).run());
    star.assert_all_alike();
}

#[test]
fn a_leaf_with_another_disk_in_its_place_is_left_alone_and_two_that_changed_places_go_on() {
    let star = Star::met(3);
    let away = star.sandbox.path("away");
    // the disk of another star is plugged in there
    let other = Star::met(1);
    fs::rename(&star.leaves[0].root, &away).unwrap();
    fs::rename(&other.leaves[0].root, &star.leaves[0].root).unwrap();
    star.leaves[0].remove("old");
    star.leaves[2].make("f new n");
    let run = star.run(&[]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(!star.leaves[0].has("new"), "nothing is put on a disk of others: {run}");
    assert!(star.hub().has("old") && star.leaves[1].has("new"), "{run}");

    fs::remove_dir_all(&star.leaves[0].root).unwrap();
    fs::rename(&star.leaves[1].root, &star.leaves[0].root).unwrap();
    fs::rename(&away, &star.leaves[1].root).unwrap();
    star.leaves[1].remove("old");
    let run = star.run(&[]);
    fine(&run);
    assert!(!star.hub().has("old"), "each has kept its state, so a deletion is one: {run}");
    star.assert_all_alike();
}

#[test]
fn check_sees_a_target_whose_disk_is_not_there() {
    let star = Star::met(2);
    let conf = star.conf(&star.list(), "");
    let pair = star.sandbox.path("etc/pair.conf");
    let text = format!(
        "INSTANCE_ID=star@2\nINITIATOR_SYNC_DIR='{}'\nTARGET_SYNC_DIR='{}'\n",
        star.hub().root.display(),
        star.leaves[1].root.display()
    );
    fs::write(&pair, text).unwrap();
    let check = |file| star.osync().arg("check").arg(file).run();
    for file in [&conf, &pair] {
        fine(&check(file));
    }
    fs::rename(&star.leaves[1].root, star.sandbox.path("away")).unwrap();
    fs::create_dir(&star.leaves[1].root).unwrap();
    for file in [&conf, &pair] {
        let run = check(file);
        assert_eq!(run.status, Some(1), "{run}");
        let says = format!("{}: the target replica does not carry", star.list()[1]);
        assert!(run.stdout.contains(&says), "{run}");
    }
    // the others changed places, which a run sees
    fs::remove_dir(&star.leaves[1].root).unwrap();
    fs::rename(&star.leaves[0].root, &star.leaves[1].root).unwrap();
    fs::rename(star.sandbox.path("away"), &star.leaves[0].root).unwrap();
    fine(&check(&conf));
}

#[test]
fn check_knows_the_initiator_by_the_targets_of_the_list() {
    let star = Star::met(2);
    let second = star.conf(&star.list()[1..], "");
    fs::remove_file(star.hub().at(".osync_workdir/identity")).unwrap();
    let check = || star.osync().arg("check").arg(&second).run();
    assert_eq!(check().status, Some(1), "no run would go on: {}", check());
    let run = star.osync().arg(&second).arg("--initialize").run();
    fine(&run);
    fine(&star.osync().arg(&second).run());
    // the state of the first target still knows the identity that is gone
    fine(&check());
}

#[test]
fn a_known_target_that_another_one_has_replaced_is_warned_of() {
    let star = Star::met(3);
    let away = star.sandbox.path("away");
    fs::rename(&star.leaves[1].root, &away).unwrap();
    fs::rename(&star.leaves[2].root, &star.leaves[1].root).unwrap();
    fs::create_dir(&star.leaves[2].root).unwrap();
    let run = star.run(&[]);
    assert_eq!(run.status, Some(2), "{run}");
    let was = format!("the target that was at {}", star.leaves[1].root.display());
    assert!(run.to_string().contains(&was), "{run}");
    star.assert_all_alike();
    let run = star.run(&[]);
    fine(&run);
    assert!(run.stdout.contains("star@2, whose place another one has taken, is still"), "{run}");
    // it has its state again when it comes back
    fs::remove_dir_all(&star.leaves[2].root).unwrap();
    fs::rename(&away, &star.leaves[2].root).unwrap();
    star.leaves[2].remove("old");
    let run = star.run(&[]);
    assert!(!star.hub().has("old"), "a deletion is one: {run}");
    assert!(!run.stdout.contains("is still at no place"), "{run}");
    star.assert_all_alike();
}

#[test]
fn a_target_that_is_refused_stays_as_it_was_found() {
    let star = Star::met(2);
    let root = &star.leaves[1].root;
    fs::rename(root, star.sandbox.path("away")).unwrap();
    fs::create_dir(root).unwrap();
    let run = star.run(&[]);
    assert_eq!(run.status, Some(1), "{run}");
    fs::remove_dir(root).unwrap();
}

#[test]
fn mail_and_notification_name_the_targets_that_failed_and_come_once_for_all() {
    let star = Star::met(3);
    let (mails, service) =
        (SmtpServer::start(Behaviour::default()), HttpsServer::start(Answer::Status(200)));
    service.write_certificate(&star.sandbox.path("ca.pem"));
    for leaf in [0, 2] {
        fs::rename(&star.leaves[leaf].root, star.sandbox.path(format!("away {leaf}"))).unwrap();
    }
    let settings = format!(
        "DESTINATION_MAILS=a@example.org\nSMTP_SERVER=localhost\nSMTP_PORT={}\n\
         NOTIFY_URL={}\nNOTIFY_FORMAT=json\nALERT_REPEAT=86400",
        mails.port(),
        service.url("/hook")
    );
    let conf = star.conf(&star.list(), &settings);
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o600)).unwrap();
    let run = || star.osync().arg(&conf).env("SSL_CERT_FILE", star.sandbox.path("ca.pem")).run();
    let list = star.list();
    let names = |text: &str| {
        list.iter().map(|leaf| text.contains(&format!("{leaf}: "))).collect::<Vec<bool>>()
    };
    let failed = run();
    assert_eq!(failed.status, Some(1), "{failed}");
    let [mail] = &mails.wait_for(1)[..] else { panic!("one mail: {failed}") };
    assert_eq!(names(&mail.text()), [true, false, true], "{}", mail.text());
    let [note] = &service.requests()[..] else { panic!("one notification: {failed}") };
    assert_eq!(names(&note.json()["text"].to_string()), [true, false, true], "{note:?}");
    // the same again is not told again; another one is
    assert_eq!(run().status, Some(1));
    assert_eq!((mails.mails().len(), service.requests().len()), (1, 0), "told already");
    fs::rename(star.sandbox.path("away 0"), &star.leaves[0].root).unwrap();
    let failed = run();
    assert_eq!(failed.status, Some(1), "{failed}");
    let [_, mail] = &mails.wait_for(2)[..] else { panic!("a second mail: {failed}") };
    assert_eq!(names(&mail.text()), [false, false, true], "{}", mail.text());
    let [note] = &service.requests()[..] else { panic!("another notification: {failed}") };
    assert_eq!(names(&note.json()["text"].to_string()), [false, false, true], "{note:?}");
    fs::rename(star.sandbox.path("away 2"), &star.leaves[2].root).unwrap();
    fine(&run());
    let over = service.requests();
    assert!(over.len() == 1 && over[0].body.contains("works again"), "{over:?}");
}
