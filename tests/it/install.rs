//! install.sh, the service units and the init scripts.

use crate::support::replicas::script;
use crate::support::sandbox::{Outcome, Sandbox};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const LINKS: [&str; 6] = [
    "osync.sh",
    "osync-batch.sh",
    "osync-batch",
    "ssh_filter.sh",
    "upgrade-v1.0x-v1.3x.sh",
    "upgrade-v1.0x-v1.2x.sh",
];

/// What is installed, and a stand-in for the binary that prints pages and can wait.
struct Package {
    sandbox: Sandbox,
}

const STAND_IN: &str = r#"#!/bin/sh
case "$1 $2" in
"man "*) echo "a manual" ;;
"completions "*) echo "completions for $2" ;;
*"broken.conf "*) exit 1 ;;
*" --on-changes") sleep 600 & trap 'kill $!; exit 0' TERM; wait $! ;;
*) echo "$0 $*" ;;
esac
"#;

impl Package {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let source = sandbox.path("source");
        copy_tree(&Path::new(REPOSITORY).join("examples"), &source.join("examples"));
        for file in ["install.sh", "exclude.list.example"] {
            fs::copy(Path::new(REPOSITORY).join(file), source.join(file)).unwrap();
        }
        fs::write(source.join("sync.conf.example"), "INSTANCE_ID=sample\n").unwrap();
        write_program(&source.join("osync"), STAND_IN);
        Package { sandbox }
    }

    fn source(&self, path: &str) -> PathBuf {
        self.sandbox.path("source").join(path)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.sandbox.path("prefix").join(path)
    }

    #[track_caller]
    fn install(&self, args: &[&str]) -> Outcome {
        let mut prefix = std::ffi::OsString::from("--prefix=");
        prefix.push(self.sandbox.path("prefix"));
        let run = self.sandbox.program(self.source("install.sh")).arg(prefix).args(args).run();
        assert_eq!(run.status, Some(0), "{run}");
        run
    }

    /// Every file and link below the prefix, with its content.
    fn files(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.sandbox.path("prefix")];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.sandbox.path("prefix")).unwrap();
                let name = name.to_str().unwrap().to_owned();
                if path.is_symlink() {
                    found.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
                } else if path.is_dir() {
                    pending.push(path);
                } else {
                    let content = fs::read(&path).unwrap();
                    found.insert(name, String::from_utf8_lossy(&content).into_owned());
                }
            }
        }
        found
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn everything_is_installed_below_a_prefix_and_removed_again() {
    let package = Package::new();
    package.install(&["--init=systemd"]);
    let files = package.files();
    for link in LINKS {
        assert_eq!(files[&format!("usr/local/bin/{link}")], "-> osync");
    }
    assert_eq!(files["usr/local/bin/osync"], STAND_IN);
    assert_eq!(files["etc/osync/sync.conf.example"], "INSTANCE_ID=sample\n");
    assert!(files["etc/osync/exclude.list.example"].contains("Thumbs.db"));
    assert_eq!(files["usr/local/share/man/man1/osync.1"], "a manual\n");
    assert_eq!(files["usr/local/share/man/man1/osync-history.1"], "a manual\n");
    assert_eq!(files["usr/local/share/man/man5/osync.conf.5"], "a manual\n");
    let bash = &files["usr/local/share/bash-completion/completions/osync"];
    assert_eq!(bash, "completions for bash\n");
    assert_eq!(files["usr/local/share/bash-completion/completions/osync.sh"], *bash);
    let fish = &files["usr/local/share/fish/vendor_completions.d/osync.sh.fish"];
    assert_eq!(fish, "complete -c osync.sh -w osync\n");
    for unit in [
        "usr/lib/systemd/system/osync-srv@.service",
        "usr/lib/systemd/system/osync-target-helper-srv@.service",
        "usr/lib/systemd/system/osync-batch.service",
        "usr/lib/systemd/system/osync-batch.timer",
        "usr/lib/systemd/system/osync-scrub@.service",
        "usr/lib/systemd/system/osync-scrub@.timer",
        "etc/systemd/user/osync-srv@.service",
    ] {
        assert!(files[unit].contains("[Unit]"), "{unit}");
    }
    let mode = fs::metadata(package.at("usr/local/bin/osync")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    package.install(&["--remove"]);
    assert_eq!(package.files(), BTreeMap::new());
    package.install(&["--remove"]);
}

#[test]
fn a_package_has_everything_below_usr_and_no_manifest() {
    let package = Package::new();
    package.install(&["--package", "--init=systemd"]);
    let files = package.files();
    assert_eq!(files["usr/bin/osync"], STAND_IN);
    assert_eq!(files["usr/bin/osync.sh"], "-> osync");
    assert_eq!(files["usr/share/man/man5/osync.conf.5"], "a manual\n");
    for unit in [
        "system/osync-batch.service",
        "system/osync-scrub@.service",
        "system/osync-srv@.service",
        "user/osync-srv@.service",
    ] {
        let text = &files[&format!("usr/lib/systemd/{unit}")];
        assert!(text.contains("/usr/bin/osync ") && !text.contains("/usr/local"), "{text}");
    }
    let others: Vec<&String> = files
        .keys()
        .filter(|path| !path.starts_with("usr/bin/") && !path.starts_with("usr/share/"))
        .filter(|path| !path.starts_with("usr/lib/systemd/") && !path.starts_with("etc/osync/"))
        .collect();
    assert_eq!(others, [""; 0]);
    assert!(files.keys().all(|path| !path.contains("manifest")), "{files:?}");
    let installer = package.source("install.sh");
    let nowhere = package.sandbox.program(&installer).arg("--package").run();
    assert_eq!(nowhere.status, Some(1), "{nowhere}");
}

#[test]
fn installing_twice_changes_nothing_more() {
    let package = Package::new();
    package.install(&[]);
    let once = package.files();
    package.install(&["--no-stats"]);
    assert_eq!(package.files(), once);
}

#[test]
fn a_new_version_replaces_what_nobody_touched_and_nothing_else() {
    let package = Package::new();
    package.install(&["--init=sysv"]);
    let example = package.at("etc/osync/sync.conf.example");
    let excludes = package.at("etc/osync/exclude.list.example");
    let script = package.at("etc/init.d/osync-srv");
    fs::write(&example, "mine\n").unwrap();
    fs::write(package.at("etc/osync/task.conf"), "mine too\n").unwrap();
    let edited = format!("{}\n# edited\n", fs::read_to_string(&script).unwrap());
    fs::write(&script, &edited).unwrap();
    write_program(&package.source("osync"), &format!("{STAND_IN}# version 2\n"));
    fs::write(package.source("sync.conf.example"), "version 2\n").unwrap();
    fs::write(package.source("exclude.list.example"), "version 2\n").unwrap();
    let run = package.install(&["--init=sysv"]);
    assert!(run.stdout.contains("sync.conf.example is yours"), "{run}");
    assert_eq!(fs::read_to_string(&example).unwrap(), "mine\n");
    assert_eq!(fs::read_to_string(example.with_extension("example.new")).unwrap(), "version 2\n");
    assert_eq!(fs::read_to_string(&excludes).unwrap(), "version 2\n");
    assert_eq!(fs::read_to_string(script.with_extension("save")).unwrap(), edited);
    assert!(!fs::read_to_string(&script).unwrap().contains("# edited"));
    let binary = fs::read_to_string(package.at("usr/local/bin/osync")).unwrap();
    assert!(binary.ends_with("# version 2\n"));
    package.install(&["--remove"]);
    let left: Vec<String> = package.files().into_keys().collect();
    let expected =
        ["etc/init.d/osync-srv.save", "etc/osync/sync.conf.example", "etc/osync/task.conf"];
    assert_eq!(left, expected);
}

#[test]
fn programs_of_the_old_tool_are_kept_beside_the_links() {
    let package = Package::new();
    fs::create_dir_all(package.at("usr/local/bin")).unwrap();
    write_program(&package.at("usr/local/bin/osync.sh"), "#!/usr/bin/env bash\n");
    symlink("/opt/my/filter", package.at("usr/local/bin/ssh_filter.sh")).unwrap();
    let before = package.files();
    for _ in 0..2 {
        package.install(&["--init=none"]);
        let files = package.files();
        assert_eq!(files["usr/local/bin/osync.sh"], "-> osync");
        assert_eq!(files["usr/local/bin/osync.sh.save"], "#!/usr/bin/env bash\n");
        assert_eq!(files["usr/local/bin/ssh_filter.sh.save"], "-> /opt/my/filter");
        assert!(!files.contains_key("usr/local/bin/osync.sh.save.1"), "{files:?}");
    }
    let run = package.install(&["--remove"]);
    assert_eq!(package.files(), before, "what was there is there again: {run}");
}

#[test]
fn a_filter_that_refused_sudo_goes_on_refusing_it() {
    for (text, refuses) in [
        ("#!/usr/bin/env bash\nSUDO_EXEC=true\n", false),
        ("#!/usr/bin/env bash\n## sudo\n  export SUDO_EXEC=\"yes\"\n", false),
        ("#!/usr/bin/env bash\nSUDO_EXEC=true\n# changed\nSUDO_EXEC=false\n", true),
        ("#!/usr/bin/env bash\nSUDO_EXEC='no'\n", true),
        ("#!/usr/bin/env bash\n#SUDO_EXEC=true\n", true),
        ("#!/usr/bin/env bash\nexit 1 # nothing at all\n", true),
    ] {
        let package = Package::new();
        fs::remove_file(package.source("osync")).unwrap();
        symlink(crate::support::osync(), package.source("osync")).unwrap();
        fs::create_dir_all(package.at("usr/local/bin")).unwrap();
        let filter = package.at("usr/local/bin/ssh_filter.sh");
        write_program(&filter, text);
        for _ in 0..2 {
            package.install(&["--init=none"]);
            let run = |command: &str| {
                let run = package.sandbox.program(&filter).arg("TOKEN");
                run.env("SSH_ORIGINAL_COMMAND", format!("env _REMOTE_TOKEN=TOKEN {command}")).run()
            };
            let plain = run("env LC_ALL=C sh -c 'echo let in'");
            assert_eq!(plain.stdout, "let in\n", "{text}: {plain}");
            let sudo = run("sudo -n env echo let in");
            assert_eq!(sudo.stderr.contains("sudo is not allowed"), refuses, "{text}: {sudo}");
        }
        let bin = package.at("usr/local/bin");
        fs::write(bin.join("unrelated"), "").unwrap();
        package.install(&["--remove"]);
        assert_eq!(fs::read_to_string(&filter).unwrap(), text);
    }
}

#[test]
fn an_installation_for_one_user_works_as_a_whole() {
    let package = Package::new();
    let home = package.sandbox.path("home");
    let bin = home.join(".local/bin");
    let installer = package.source("install.sh");
    let run = |args: &[&str]| {
        let run = package.sandbox.program(&installer).args(args).arg("--init=systemd").run();
        assert_eq!(run.status, Some(0), "{run}");
        run
    };
    let first = run(&["--user"]);
    assert!(first.stdout.contains("is not in your PATH yet"), "{first}");
    assert_eq!(fs::read_to_string(bin.join("osync")).unwrap(), STAND_IN);
    assert_eq!(fs::read_link(bin.join("osync.sh")).unwrap(), Path::new("osync"));
    assert!(home.join(".config/osync/sync.conf.example").exists());
    assert!(home.join(".local/share/man/man1/osync.1").exists());
    let unit = home.join(".config/systemd/user/osync-srv@.service");
    let unit = fs::read_to_string(unit).unwrap();
    let wanted = format!("exec {} \"$$conf\"", bin.join("osync").display());
    assert!(unit.contains(&wanted) && !unit.contains("/usr/local"), "{unit}");
    run(&["--user", "--remove"]);
    assert!(!bin.join("osync").exists() && !bin.join("osync.sh").exists());
}

/// The script that a unit hands to `sh`, and what stands behind it, with `%E` and `%i` put in.
fn exec_start(unit: &str, home: &Path, etc: &Path, instance: &str) -> String {
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let text = line.replace("%E", home.to_str().unwrap()).replace("%i", instance);
    text.replace("$$", "$").replace("\"/etc/osync", &format!("\"{}", etc.display()))
}

#[test]
fn instances_named_as_osync_1_3_has_them_find_their_files() {
    let sandbox = Sandbox::new();
    let program = sandbox.path("osync");
    write_program(&program, "#!/bin/sh\necho \"$@\"\n");
    let (own, etc) = (sandbox.path("own"), sandbox.path("etc"));
    fs::create_dir_all(own.join("osync")).unwrap();
    let unit = Path::new(REPOSITORY).join("examples/systemd/user/osync-srv@.service");
    let unit = fs::read_to_string(unit).unwrap();
    let unit = unit.replace("/usr/local/bin/osync", program.to_str().unwrap());
    let start =
        |name: &str| sandbox.program("sh").args(["-c", &exec_start(&unit, &own, &etc, name)]).run();
    fs::write(etc.join("old.conf"), "").unwrap();
    fs::write(own.join("osync/mine.conf"), "").unwrap();
    fs::write(etc.join("mine.conf"), "").unwrap();
    let old = start("old.conf");
    assert_eq!(old.stdout, format!("{}/old.conf --on-changes\n", etc.display()), "{old}");
    let mine = start("mine.conf");
    assert_eq!(mine.stdout, format!("{}/osync/mine.conf --on-changes\n", own.display()));
    assert_eq!(start("none.conf").status, Some(128));

    // OpenRC: osync-srv.documents reads documents.conf
    let script = fs::read_to_string(Path::new(REPOSITORY).join("examples/openrc/osync-srv"));
    let script = script.unwrap();
    for (instance, file) in
        [("old", "old.conf"), ("old.conf", "old.conf"), ("new", "new.toml"), ("no", "no")]
    {
        fs::write(etc.join("new.toml"), "").unwrap();
        let run = sandbox
            .program("sh")
            .args(["-c", &format!("{script}\necho \"$conf\"")])
            .env("RC_SVCNAME", format!("osync-srv.{instance}"))
            .env("OSYNC_CONF_DIR", &etc)
            .run();
        assert_eq!(run.stdout, format!("{}/{file}\n", etc.display()), "{run}");
    }
}

#[test]
fn another_init_system_replaces_the_files_of_the_one_before() {
    let package = Package::new();
    package.install(&["--init=systemd"]);
    package.install(&["--init=openrc"]);
    let names: Vec<String> = package.files().into_keys().collect();
    assert!(names.iter().any(|name| name == "etc/init.d/osync-srv"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("systemd")), "{names:?}");
}

#[test]
fn silence_and_bad_options() {
    let package = Package::new();
    let run = package.install(&["--silent"]);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    let installer = package.source("install.sh");
    let help = package.sandbox.program(&installer).arg("--help").run();
    assert_eq!(help.status, Some(0), "{help}");
    for option in ["--prefix", "--init", "--deps", "--remove", "--silent", "--no-stats"] {
        assert!(help.stdout.contains(option), "{help}");
    }
    for args in [&["--frobnicate"][..], &["--init=launchd"], &["--prefix"]] {
        let run = package.sandbox.program(&installer).args(args).run();
        assert_eq!(run.status, Some(1), "{args:?} {run}");
        assert!(!run.stderr.is_empty());
    }
}

/// All programs of this machine but rsync, ssh and the package managers, and an `apt-get`
/// that writes down what it is asked for and ends with the status in a file `end`.
fn machine_without_rsync_and_ssh(sandbox: &Sandbox) -> PathBuf {
    let bin = sandbox.path("bin");
    fs::create_dir(&bin).unwrap();
    let left_out = ["rsync", "ssh", "apt-get", "dnf", "yum", "zypper", "apk", "pacman", "pkg"];
    for directory in ["/bin", "/usr/bin"] {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            if !left_out.iter().any(|out| name == *out) {
                let _ = symlink(entry.path(), bin.join(name));
            }
        }
    }
    let root = sandbox.root().display();
    let script = format!("#!/bin/sh\necho \"$*\" >>'{root}/apt.log'\nexit $(cat '{root}/end')\n");
    write_program(&bin.join("apt-get"), &script);
    bin
}

#[test]
fn missing_programs_are_installed_when_asked_for_and_named_otherwise() {
    let package = Package::new();
    let bin = machine_without_rsync_and_ssh(&package.sandbox);
    let install = |end: i32, args: &[&str]| {
        fs::write(package.sandbox.path("end"), end.to_string()).unwrap();
        let prefix = format!("--prefix={}", package.sandbox.path("prefix").display());
        let program = package.sandbox.program(package.source("install.sh")).arg(prefix);
        let run = program.arg("--init=none").args(args).env("PATH", &bin).run();
        assert_eq!(run.status, Some(0), "{run}");
        let asked = fs::read_to_string(package.sandbox.path("apt.log")).unwrap_or_default();
        let _ = fs::remove_file(package.sandbox.path("apt.log"));
        (run, asked)
    };
    let command = "apt-get install -y rsync openssh-client";
    let (run, asked) = install(0, &[]);
    assert!(run.stdout.contains(&format!("osync needs rsync openssh-client: {command}")), "{run}");
    assert_eq!(asked, "", "nobody was there to be asked {run}");
    let (run, asked) = install(0, &["--silent"]);
    assert_eq!((run.stdout.as_str(), asked.as_str()), ("", ""), "{run}");
    let (run, asked) = install(0, &["--deps"]);
    assert_eq!(asked, "update -q\ninstall -y rsync openssh-client\n", "{run}");
    let (run, asked) = install(1, &["--deps", "--silent"]);
    assert!(asked.contains("install -y"), "{run}");
    assert!(run.stderr.contains(&format!("could not be installed: {command}")), "{run}");
}

#[test]
fn installed_programs_act_as_their_names_say() {
    let package = Package::new();
    fs::remove_file(package.source("osync")).unwrap();
    symlink(crate::support::osync(), package.source("osync")).unwrap();
    package.install(&["--init=none"]);
    let run = |name: &str, args: &[&str]| {
        let program = package.at("usr/local/bin").join(name);
        package.sandbox.program(program).args(args).run()
    };
    for name in ["osync", "osync.sh"] {
        let version = run(name, &["--version"]);
        assert_eq!(version.status, Some(0), "{version}");
        assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version}");
    }
    let refused = run("ssh_filter.sh", &["TOKEN"]);
    assert_eq!(refused.status, Some(1), "{refused}");
    assert!(refused.stderr.contains("this key opens no shell"), "{refused}");
    let upgrade = run("upgrade-v1.0x-v1.3x.sh", &["--help"]);
    assert!(upgrade.stdout.contains("upgrade"), "{upgrade}");
    let batch = run("osync-batch.sh", &["--help"]);
    assert!(batch.stdout.contains("--max-runs"), "{batch}");
    let files = package.files();
    assert!(files["usr/local/share/man/man1/osync.1"].contains(".TH"));
}

/// In a mount namespace of its own, so that nothing of this machine is touched.
#[test]
fn it_installs_for_real_where_no_prefix_is_given() {
    let package = Package::new();
    let script = r#"
        set -eu
        # all that the installer writes to becomes temporary, and systemd out of reach
        mkdir "$1/tmpfs" && mount -t tmpfs tmpfs "$1/tmpfs"
        for dir in etc usr/local usr/lib usr/sbin; do
            mkdir -p "$1/tmpfs/$dir/upper" "$1/tmpfs/$dir/work"
            mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$1/tmpfs/$dir/upper,workdir=$1/tmpfs/$dir/work" "/$dir"
        done
        mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system
        mkdir "$1/bin" && PATH=$1/bin:/usr/local/bin:$PATH
        printf '#!/bin/sh\necho "$@" >>"%s"\n' "$1/systemctl.log" >"$1/bin/systemctl"
        chmod 755 "$1/bin/systemctl"
        ./install.sh --init=systemd
        grep -qx daemon-reload "$1/systemctl.log"
        ! grep -q stop "$1/systemctl.log"
        [ "$(osync.sh hello)" = "/usr/local/bin/osync.sh hello" ]
        [ -f /usr/lib/systemd/system/osync-srv@.service ]
        [ -f /etc/osync/sync.conf.example ]
        ./install.sh --remove
        for kind in osync-srv@ osync-target-helper-srv@; do
            grep -qx "stop $kind\*.service" "$1/systemctl.log"
            grep -qx "disable $kind.service" "$1/systemctl.log"
        done
        grep -qx "disable --now osync-batch.timer" "$1/systemctl.log"
        grep -qx "disable osync-scrub@.timer" "$1/systemctl.log"
        ! command -v osync.sh
        [ ! -e /usr/lib/systemd/system/osync-srv@.service ]
        # OpenRC: a service for each link
        rm -r /run/systemd
        printf '#!/bin/sh\necho "$@" >>"%s"\n' "$1/openrc.log" >/usr/sbin/openrc-run
        chmod 755 /usr/sbin/openrc-run
        ./install.sh --init=openrc
        ln -s osync-srv /etc/init.d/osync-srv.sync.conf
        ./install.sh --remove
        grep -qx "/etc/init.d/osync-srv.sync.conf stop" "$1/openrc.log"
        echo all is well
    "#;
    // An ordinary user is root in a user namespace of its own.
    let own: &[&str] = if rustix::process::geteuid().is_root() { &["-m"] } else { &["-r", "-m"] };
    let possible = package.sandbox.program("unshare").args(own).arg("true").run();
    assert_eq!(possible.status, Some(0), "unshare is needed for this test: {possible}");
    let run = package
        .sandbox
        .program("unshare")
        .args(own)
        .args(["sh", "-c", script, "sh"])
        .arg(package.sandbox.root())
        .dir(package.source(""))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.ends_with("all is well\n"), "{run}");
}

/// Runs `systemd-analyze verify` on units as they are, but for the path of the program.
#[track_caller]
fn verify(sandbox: &Sandbox, directory: &str, names: &[&str]) {
    let copies = sandbox.path("units");
    let _ = fs::remove_dir_all(&copies);
    fs::create_dir(&copies).unwrap();
    let mut paths = Vec::new();
    for name in names {
        let text = fs::read_to_string(Path::new(REPOSITORY).join(directory).join(name)).unwrap();
        let path = copies.join(name);
        fs::write(&path, text.replace("/usr/local/bin/osync", "/bin/true")).unwrap();
        paths.push(path);
    }
    let run = sandbox
        .program("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&paths)
        .env("XDG_RUNTIME_DIR", sandbox.path("tmp"))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let complaints: Vec<&str> = run.stderr.lines().filter(|line| line.contains("osync")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let sandbox = Sandbox::new();
    let system = [
        "osync-srv@.service",
        "osync-target-helper-srv@.service",
        "osync-batch.service",
        "osync-batch.timer",
        "osync-scrub@.service",
        "osync-scrub@.timer",
    ];
    verify(&sandbox, "examples/systemd", &system);
    let user = [
        "osync-srv@.service",
        "osync-batch.service",
        "osync-batch.timer",
        "osync-scrub@.service",
        "osync-scrub@.timer",
    ];
    verify(&sandbox, "examples/systemd/user", &user);
    let of_a_task = ["osync-task@.service", "osync-task@.timer"];
    verify(&sandbox, "examples/monitoring", &of_a_task);
}

#[test]
fn the_init_script_starts_one_instance_a_file_and_stops_them_all() {
    let sandbox = Sandbox::new();
    let program = sandbox.path("osync");
    write_program(&program, STAND_IN);
    for name in ["a.conf", "b c.conf", "d.toml", "sync.conf.example", "target-helper.conf"] {
        fs::write(sandbox.path("etc").join(name), "").unwrap();
    }
    fs::write(sandbox.path("etc/e.conf"), " INITIATOR_SYNC_DIR='ssh://h//x'\n").unwrap();
    // the settings that the script takes from /etc/default
    let script = fs::read_to_string(Path::new(REPOSITORY).join("examples/init.d/osync-srv"));
    let script = script
        .unwrap()
        .replace("OSYNC=/usr/local/bin/osync", &format!("OSYNC={}", program.display()))
        .replace("CONF_DIR=/etc/osync", &format!("CONF_DIR={}", sandbox.path("etc").display()))
        .replace("PID_DIR=/var/run", &format!("PID_DIR={}", sandbox.path("tmp").display()))
        .replace("OPTIONS=--silent", "OPTIONS=");
    write_program(&sandbox.path("osync-srv"), &script);
    let service = |action: &str| sandbox.program(sandbox.path("osync-srv")).arg(action).run();
    let pids = || {
        let mut pids = Vec::new();
        for entry in fs::read_dir(sandbox.path("tmp")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "pid") {
                pids.push(fs::read_to_string(path).unwrap().trim().to_owned());
            }
        }
        pids
    };
    assert_eq!(service("status").status, Some(3));
    let start = service("start");
    assert_eq!(start.status, Some(0), "{start}");
    let started = pids();
    assert_eq!(started.len(), 3, "{start}");
    assert_eq!(service("status").status, Some(0));
    let again = service("start");
    assert_eq!(again.stdout.matches("runs already").count(), 3, "{again}");
    assert_eq!(pids().len(), 3);
    let stop = service("stop");
    assert_eq!(stop.status, Some(0), "{stop}");
    assert!(pids().is_empty());
    for pid in started {
        assert!(!Path::new("/proc").join(pid).exists());
    }
    assert_eq!(service("stop").status, Some(0));
    // a stale pid of another program is not ours to end
    let own = std::process::id().to_string();
    fs::write(sandbox.path("tmp/osync-srv.a.conf.pid"), own).unwrap();
    let stop = service("stop");
    assert!(stop.stdout.contains("a.conf does not run"), "{stop}");
    fs::write(sandbox.path("etc/broken.conf"), "").unwrap();
    let start = service("start");
    assert_eq!(start.status, Some(1), "{start}");
    assert!(start.stderr.contains("broken.conf did not start"), "{start}");
    service("stop");
    let usage = service("frobnicate");
    assert_eq!(usage.status, Some(2), "{usage}");
}

#[test]
fn licences_of_libraries_are_all_there_or_an_error() {
    for (cargo, why) in [
        ("exit 101", "cargo tree has failed"),
        ("echo 'no-such-library v1.0.0|MIT'", "the sources of no-such-library 1.0.0 are not in"),
    ] {
        let sandbox = Sandbox::new();
        let bin = sandbox.path("bin");
        fs::create_dir(&bin).unwrap();
        script(&bin, "rustc", "echo 'host: here'\n");
        script(&bin, "cargo", &format!("{cargo}\n"));
        let licences = sandbox.program("sh").arg(format!("{REPOSITORY}/packaging/licences.sh"));
        let run = licences.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).run();
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains(why), "{run}");
    }
}
