//! `osync init`: asks for two places, tries them, and writes the file of a task, with a key of its
//! own where that helps. Nothing that it makes cannot be made by hand.

mod ask;
mod proposals;

use super::check::{self, CheckArgs, Collector, Verdict, finding};
use super::settings;
use super::sync::{self, SyncArgs};
use super::task_args::Refused;
use super::task_files::{say, shown, write_new};
use super::{complain, in_words};
use crate::batch;
use crate::config::upgrade::new_file;
use crate::config::{Config, Environment, Flags, Location, SshLocation};
use crate::process::{self, Command, Exit, Input, find_program, own_program};
use crate::replica::{self, Access, Agent, Prepared, ReplicaError, Trouble, new_identity};
use crate::report::summary::sum_up;
use crate::report::{FileAccess, Log};
use crate::ssh::is_refused_login;
use crate::task::file_systems::limits;
use crate::task::intent::Intent;
use crate::tree::Side;
use crate::tree::path::{escape, with_home};
use anyhow::{Context, bail};
use ask::{Answerer, Interview, YesOrNo};
use clap::{Args, ValueHint};
pub use proposals::RunTimes;
use proposals::{
    NextStep, Restriction, Starters, Units, adding, authorized_line, is_unit_name, plain_name,
    scheduled, shell_word, usual_patterns,
};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  osync init                                    asks for everything
  osync init --initiator=~/docs docs.conf       asks for the rest
  osync init --initiator=a --target=b --yes     asks nothing
  osync init --new-key --ssh-filter             asks, and makes a key for an osync over there

With --yes, what is not said has its usual value, and what cannot be done ends it before anything \
is written. No file is ever overwritten. Ctrl-C ends it at any time, and leaves no half of a file.

Exit status: 0 the task is ready, 1 no file was written, or a run would fail, 2 a run would warn, \
128 bad usage.";

/// `osync init`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// The file to write [default: NAME.conf in /etc/osync, or for others than root in
    /// ~/.config/osync]
    #[arg(value_name = "CONFIG_FILE", value_hint = ValueHint::FilePath)]
    pub config_file: Option<OsString>,
    /// The first directory, on this machine
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub initiator: Option<OsString>,
    /// The second one: ssh://[user@]host[:port]//path if it is on another machine
    #[arg(long, value_name = "DIR|SSH_URI", value_hint = ValueHint::DirPath)]
    pub target: Option<OsString>,
    /// The name of the task [default: that of the file]
    #[arg(long, value_name = "ID")]
    pub instance_id: Option<OsString>,
    /// Let the first run make a directory that is not there
    #[arg(long)]
    pub create_dirs: bool,
    /// The private key for ssh
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub rsakey: Option<OsString>,
    /// Make a key for this task alone [default: ~/.ssh/osync_ID, or the file of --rsakey]
    #[arg(long)]
    pub new_key: bool,
    /// An osync is installed over there: keep the new key to this directory
    #[arg(long, requires = "new_key")]
    pub ssh_filter: bool,
    /// Leave out what matches this pattern, as rsync has them; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<OsString>,
    /// When it is to run by itself: what is to be done for that is shown, not done
    #[arg(long, value_name = "WHEN")]
    pub schedule: Option<RunTimes>,
    /// Ask nothing
    #[arg(long)]
    pub yes: bool,
}

/// Makes a task.
pub fn run(args: &InitArgs, environment: &Environment) -> anyhow::Result<ExitCode> {
    let whom = if args.yes { Answerer::Nobody } else { Answerer::Person };
    let mut init = Init { args, environment, ask: Interview::new(whom)?, line: None };
    if whom == Answerer::Person {
        say("This writes the file of a task that keeps two directories in step. Both stay\n\
             as they are. Ctrl-C ends it at any time.\n");
    }
    let mut draft = init.named()?;
    init.find(&mut draft, Side::Initiator)?;
    init.find_target(&mut draft)?;
    init.choose_patterns(&mut draft)?;
    let schedule = init.schedule()?;
    init.write(&draft)?;
    init.try_it(&draft, schedule)
}

/// A task in the making.
#[derive(Clone)]
struct Draft {
    file: PathBuf,
    instance_id: OsString,
    initiator: OsString,
    target: OsString,
    create_dirs: bool,
    key: Option<PathBuf>,
    token: Option<String>,
    /// Whether owners and groups are carried over, as they are by default.
    owners: bool,
    patterns: Vec<u8>,
}

impl Draft {
    /// What is not as it is by default.
    fn settings(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut settings = vec![
            ("INSTANCE_ID", self.instance_id.as_bytes().to_vec()),
            ("INITIATOR_SYNC_DIR", self.initiator.as_bytes().to_vec()),
            ("TARGET_SYNC_DIR", self.target.as_bytes().to_vec()),
        ];
        let mut set = |key, value: &[u8]| settings.push((key, value.to_vec()));
        if self.create_dirs {
            set("CREATE_DIRS", b"yes");
        }
        if let Some(key) = &self.key {
            set("SSH_RSA_PRIVATE_KEY", key.as_os_str().as_bytes());
            // else the login might depend on another key that an agent has just now
            set("SSH_OPTIONAL_ARGS", b"-o IdentitiesOnly=yes");
        }
        if let Some(token) = &self.token {
            set("_REMOTE_TOKEN", token.as_bytes());
        }
        if !self.owners {
            set("PRESERVE_OWNER", b"no");
            set("PRESERVE_GROUP", b"no");
        }
        if !self.patterns.is_empty() {
            set("RSYNC_EXCLUDE_PATTERN", &self.patterns);
        }
        settings
    }

    /// The task as a run would read it from the file.
    ///
    /// # Errors
    /// The settings contradict each other, or the file would not say what was meant.
    fn config(&self, environment: &Environment) -> anyhow::Result<Config> {
        let settings = self.settings();
        let text = new_file(&settings);
        let resolution = settings::gather_text(&self.file, &text, &Flags::default(), environment);
        let read = |key| resolution.settings.get(key).map(|setting| setting.value.as_slice());
        if let Some((key, _)) = settings.iter().find(|(key, value)| read(key) != Some(value)) {
            bail!("{key}: such a value cannot stand in a configuration file");
        }
        let texts = resolution.errors.iter().map(|problem| problem.text.clone());
        let texts: Vec<String> = texts.collect();
        resolution.config.with_context(|| texts.join("; "))
    }
}

/// What is being done.
struct Init<'a> {
    args: &'a InitArgs,
    environment: &'a Environment,
    ask: Interview,
    /// What lets a new key in over there.
    line: Option<String>,
}

/// Why a place cannot be used as it is.
enum Obstacle {
    /// It is not there.
    Missing(ReplicaError),
    /// Anything else.
    Other(String),
}

impl Init<'_> {
    /// Asks for what names the task: both places, and the file.
    fn named(&mut self) -> anyhow::Result<Draft> {
        let mut draft = Draft {
            file: PathBuf::from("task.conf"),
            instance_id: "task".into(),
            initiator: OsString::new(),
            target: OsString::new(),
            create_dirs: self.args.create_dirs,
            key: self.args.rsakey.as_deref().map(|key| self.absolute(key)).transpose()?,
            token: None,
            owners: true,
            patterns: Vec::new(),
        };
        draft.initiator = self.asked(
            self.args.initiator.as_deref(),
            "--initiator=DIR",
            "First directory, on this machine",
            OsStr::new(""),
            &|init, typed| match init.place(typed)? {
                (Location::Local(_), place) => Ok(place),
                (Location::Ssh(_), _) => bail!("the first directory is one of this machine"),
            },
        )?;
        let begun = &draft;
        draft.target = self.asked(
            self.args.target.as_deref(),
            "--target=DIR|SSH_URI",
            "Second one, or ssh://user@host//directory",
            OsStr::new(""),
            &|init, typed| {
                let target = init.place(typed)?.1;
                let draft = Draft { target: target.clone(), ..begun.clone() };
                draft.config(init.environment).map(|_| target)
            },
        )?;
        let name = Path::new(&draft.initiator).file_name().unwrap_or_default();
        let usual = self.tasks()?.join(plain_name(name.as_bytes()) + ".conf");
        draft.file = self
            .asked(
                self.args.config_file.as_deref(),
                "CONFIG_FILE",
                "Configuration file to write",
                usual.as_os_str(),
                &|init, typed| init.new_conf(typed).map(PathBuf::into_os_string),
            )?
            .into();
        draft.instance_id = match &self.args.instance_id {
            Some(id) => id.clone(),
            None => plain_name(draft.file.file_stem().unwrap_or_default().as_bytes()).into(),
        };
        draft.config(self.environment)?;
        Ok(draft)
    }

    /// What an option says, else what somebody types, else what is usual, made into something that
    /// can be used. What cannot is asked for again.
    fn asked(
        &mut self,
        given: Option<&OsStr>,
        option: &str,
        question: &str,
        usual: &OsStr,
        usable: &dyn Fn(&Self, &OsStr) -> anyhow::Result<OsString>,
    ) -> anyhow::Result<OsString> {
        let mut given = given.map(OsStr::to_owned);
        loop {
            let typed = match given.take() {
                Some(given) => given,
                None if self.ask.whom() == Answerer::Nobody && usual.is_empty() => {
                    return Err(Refused::Usage(format!("{option} is missing")).into());
                }
                None => self.ask.text(question, usual)?,
            };
            match usable(self, &typed) {
                Err(error) if self.ask.whom() == Answerer::Person => complain(&in_words(&error)),
                done => return done,
            }
        }
    }

    /// A place as the file is to have it: one of this machine from the root.
    fn place(&self, typed: &OsStr) -> anyhow::Result<(Location, OsString)> {
        let place = Location::parse(typed.as_bytes())?;
        let text = match &place {
            Location::Local(_) => self.absolute(typed)?.into_os_string(),
            Location::Ssh(_) => typed.to_owned(),
        };
        Ok((place, text))
    }

    fn absolute(&self, typed: &OsStr) -> anyhow::Result<PathBuf> {
        let home = self.environment.filled("HOME").map(Path::new);
        std::path::absolute(with_home(Path::new(typed), home))
            .with_context(|| escape(typed.as_bytes()))
    }

    /// Where this user's tasks lie.
    fn tasks(&self) -> anyhow::Result<PathBuf> {
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from(batch::TASKS));
        }
        let config = self.environment.filled("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || self.environment.filled("HOME").map(|home| Path::new(home).join(".config"));
        let config = config.or_else(home).context("HOME is not set")?;
        Ok(config.join("osync"))
    }

    /// A `.conf` file that is not there yet.
    fn new_conf(&self, typed: &OsStr) -> anyhow::Result<PathBuf> {
        let file = self.absolute(typed)?;
        if file.extension().is_none_or(|extension| extension != "conf") {
            bail!("{}: the name of the file has to end in .conf", shown(&file));
        }
        if file.symlink_metadata().is_ok() {
            return Err(already_there(&file));
        }
        Ok(file)
    }

    /// Tries a place as a run does, and asks for what helps until it can be used.
    fn find(&mut self, draft: &mut Draft, side: Side) -> anyhow::Result<Option<Prepared>> {
        loop {
            let obstacle = match self.look(draft, side)? {
                Ok(found) => return Ok(found),
                Err(obstacle) => obstacle,
            };
            match obstacle {
                Obstacle::Missing(error) if self.ask.whom() == Answerer::Person => {
                    say(&format!("{} is not there.", error.location));
                    let question = "Shall the first run make it?";
                    draft.create_dirs = self.ask.agrees(question, YesOrNo::No)?;
                    if !draft.create_dirs && !self.another(draft, side)? {
                        return Ok(None);
                    }
                }
                Obstacle::Missing(error) => bail!("{error} (here: --create-dirs)"),
                Obstacle::Other(text) if self.ask.whom() == Answerer::Nobody => bail!("{text}"),
                Obstacle::Other(text) => {
                    say(&finding(side.name(), Verdict::Error, &text).to_string());
                    let is_new = self.line.is_none() && draft.key.is_none();
                    if let Some(to) = remote(draft, side)
                        && is_new
                        && is_refused_login(&text)
                        && self.ask.agrees("\nMake a key for this task alone?", YesOrNo::Yes)?
                    {
                        self.make_key(draft, &to, None)?;
                    }
                    if !self.another(draft, side)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Whether it is to be tried again, perhaps another one; otherwise it is left for later. A place
    /// that has a key of its own by now stays: the line that lets the key in names it.
    fn another(&mut self, draft: &mut Draft, side: Side) -> anyhow::Result<bool> {
        const LATER: &str = "later";
        let (can_wait, can_change) = (side == Side::Target, self.line.is_none());
        let question = match (can_wait, can_change) {
            (true, true) => "Return tries it again, 'later' goes on without, or another directory",
            (true, false) => "Return tries it again, 'later' goes on without",
            (false, _) => "Return tries it again, or another directory",
        };
        loop {
            let typed = self.ask.text(question, OsStr::new(""))?;
            if typed.is_empty() {
                return Ok(true);
            }
            if can_wait && typed == LATER {
                return Ok(false);
            }
            if !can_change {
                continue;
            }
            let mut changed = draft.clone();
            let taken = self.place(&typed).and_then(|(_, place)| {
                match side {
                    Side::Initiator => changed.initiator = place,
                    Side::Target => changed.target = place,
                }
                changed.config(self.environment)
            });
            match taken {
                Ok(_) => {
                    *draft = changed;
                    return Ok(true);
                }
                Err(error) => complain(&in_words(&error)),
            }
        }
    }

    /// Looks at a place; `Ok(None)`: the first run will make it.
    fn look(
        &self,
        draft: &Draft,
        side: Side,
    ) -> anyhow::Result<Result<Option<Prepared>, Obstacle>> {
        let config = draft.config(self.environment)?;
        let reporter = Collector::default();
        let reached = check::reach(&config, side, self.ask.stop(), &reporter);
        self.ask.go_on()?;
        let (found, prepared) = match reached {
            Ok((place, prepared, _)) => {
                let place = format!("{place}{}", over_there(prepared.agent));
                (check::space(&config, side, &place, &prepared), Some(prepared))
            }
            Err(error) if error.trouble == Trouble::Missing && !draft.create_dirs => {
                return Ok(Err(Obstacle::Missing(error)));
            }
            Err(error) if error.trouble == Trouble::Missing => {
                (check::to_be_made(&config, side, self.ask.stop(), &error), None)
            }
            Err(error) => return Ok(Err(Obstacle::Other(error.to_string()))),
        };
        self.ask.go_on()?;
        if found.verdict == Verdict::Error {
            return Ok(Err(Obstacle::Other(found.text)));
        }
        say(&found.to_string());
        Ok(Ok(prepared))
    }

    /// The target, and a key of its own where that helps.
    fn find_target(&mut self, draft: &mut Draft) -> anyhow::Result<()> {
        let to = remote(draft, Side::Target);
        let found = match &to {
            // nothing lets it in before its line is over there
            Some(to) if self.args.new_key => {
                self.make_key(draft, to, None)?;
                let is_later =
                    self.ask.whom() == Answerer::Nobody || !self.another(draft, Side::Target)?;
                if is_later { None } else { self.find(draft, Side::Target)? }
            }
            None if self.args.new_key => {
                return Err(Refused::Usage("--new-key is for a target over ssh".into()).into());
            }
            _ => self.find(draft, Side::Target)?,
        };
        let Some(to) = remote(draft, Side::Target) else { return Ok(()) };
        if found.is_some() && draft.key.is_none() && self.ask.whom() == Answerer::Person {
            let depends = self.environment.filled("SSH_AUTH_SOCK").is_some();
            if depends {
                say(
                    "\nThis login may depend on your ssh agent, which cron and services do not have.",
                );
            }
            let usual = if depends { YesOrNo::Yes } else { YesOrNo::No };
            if self.ask.agrees("Make a key for this task alone?", usual)? {
                self.make_key(draft, &to, found.as_ref())?;
                if self.another(draft, Side::Target)? {
                    self.find(draft, Side::Target)?;
                }
            }
        }
        let logs_in_as_root = match &to.user {
            Some(user) => user == "root",
            None => rustix::process::geteuid().is_root(),
        };
        draft.owners = found.map_or(logs_in_as_root, |found| found.can_chown);
        if !draft.owners {
            say("Owners and groups are not carried over: only root over there could set them.");
        }
        Ok(())
    }

    /// Makes a key without a passphrase, unless there is one, and says what lets it in. It is not
    /// known whether an osync is over there before somebody has logged in.
    fn make_key(
        &mut self,
        draft: &mut Draft,
        to: &SshLocation,
        found: Option<&Prepared>,
    ) -> anyhow::Result<()> {
        let home = self.environment.filled("HOME").map(PathBuf::from);
        let key = match &draft.key {
            Some(key) => key.clone(),
            None => home
                .context("HOME is not set")?
                .join(".ssh")
                .join(format!("osync_{}", plain_name(draft.instance_id.as_bytes()))),
        };
        if key.symlink_metadata().is_err() {
            self.generate(&key)?;
            say(&format!("\n{} is the new key.", shown(&key)));
        } else {
            say(&format!("\n{} is there already, and is used.", shown(&key)));
        }
        let public_key = self.public_key(&key)?;
        draft.key = Some(key);
        let has_osync = match found {
            Some(found) => found.agent == Agent::Osync,
            None if self.args.ssh_filter => true,
            None => self.ask.agrees(
                "Is this version of osync installed over there, too? Then the key can be kept\n\
                 to this directory, and opens no shell.",
                YesOrNo::No,
            )?,
        };
        let restriction = if has_osync && (found.is_some() || !draft.create_dirs) {
            Restriction::new(new_identity().context("no random numbers")?.0, to)
        } else {
            None
        };
        if has_osync && restriction.is_none() {
            say(
                "The key opens a shell: it can be kept only to a directory that is there, and whose\n\
                 name can stand in authorized_keys.",
            );
        }
        let line = authorized_line(&public_key, restriction.as_ref());
        draft.token = restriction.map(|restriction| restriction.token);
        say(&format!(
            "A line in ~/.ssh/authorized_keys over there lets it in. Where you can log in\n\
             already, by password say, this adds it:\n\n{}\n",
            adding(&line, to)
        ));
        self.line = Some(line);
        Ok(())
    }

    /// Makes a key in a directory of its own first: a key that is there is whole.
    fn generate(&self, key: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot make the key {}", shown(key));
        let dir = key.parent().with_context(failed)?;
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700).create(dir).with_context(failed)?;
        let place = tempfile::Builder::new().prefix(".osync-").tempdir_in(dir);
        let place = place.with_context(failed)?;
        let made = place.path().join("key");
        let command = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "osync", "-f"])
            .arg(&made);
        self.output(&command).with_context(failed)?;
        let public = |key: &Path| {
            let mut name = key.as_os_str().to_owned();
            name.push(".pub");
            PathBuf::from(name)
        };
        for (from, to) in [(public(&made), public(key)), (made, key.to_owned())] {
            let from = tempfile::TempPath::try_from_path(from).with_context(failed)?;
            from.persist_noclobber(&to).map_err(|error| error.error).with_context(failed)?;
        }
        Ok(())
    }

    /// The public half of a key.
    fn public_key(&self, key: &Path) -> anyhow::Result<String> {
        let command = Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(key);
        let said = self.output(&command).with_context(|| format!("the key {}", shown(key)))?;
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// What a program prints.
    fn output(&self, command: &Command) -> anyhow::Result<Vec<u8>> {
        let output = process::output(command, Input::Nothing, self.ask.stop())?;
        match output.exit {
            Exit::Code(0) => Ok(output.stdout),
            Exit::Stopped(_) => bail!("interrupted"),
            _ => bail!("{}", escape(output.stderr.trim_ascii())),
        }
    }

    fn choose_patterns(&mut self, draft: &mut Draft) -> anyhow::Result<()> {
        let given = &self.args.exclude;
        if given.iter().any(|pattern| pattern.as_bytes().contains(&b';')) {
            let text = "--exclude: a pattern with a ';' belongs in a file (RSYNC_EXCLUDE_FROM)";
            return Err(Refused::Usage(text.to_owned()).into());
        }
        let patterns = if given.is_empty() && self.ask.whom() == Answerer::Person {
            say(
                "\nPatterns of what is left out, as rsync has them, with ';' between; 'usual' is\n\
                 what desktops, editors and downloads leave behind: .DS_Store, *.swp, *.part …",
            );
            self.ask.text("Leave out", OsStr::new(""))?
        } else {
            given.join(OsStr::new(";"))
        };
        draft.patterns = match patterns.as_bytes() {
            b"usual" => usual_patterns().collect::<Vec<_>>().join(";").into_bytes(),
            _ => patterns.into_vec(),
        };
        draft.config(self.environment).map(drop)
    }

    fn schedule(&mut self) -> anyhow::Result<RunTimes> {
        use clap::ValueEnum;
        let mut given = self.args.schedule;
        loop {
            if let Some(schedule) = given {
                return Ok(schedule);
            }
            let question = "When shall it run? changes, 10min, hourly, daily or never";
            let typed = self.ask.text(question, OsStr::new("10min"))?;
            given = RunTimes::from_str(&typed.to_string_lossy(), true).ok();
        }
    }

    fn write(&mut self, draft: &Draft) -> anyhow::Result<()> {
        let (file, text) = (&draft.file, new_file(&draft.settings()));
        let name = shown(file);
        if self.ask.whom() == Answerer::Person {
            let is_setting = |line: &&[u8]| !matches!(line.first(), None | Some(b'#' | b'['));
            let lines = text.split(|byte| *byte == b'\n').filter(is_setting);
            let lines: Vec<_> = lines.map(escape).collect();
            say(&format!("\n{name} will say:\n\n  {}\n", lines.join("\n  ")));
            if !self.ask.agrees("Write it?", YesOrNo::Yes)? {
                bail!("no task was made");
            }
        }
        let access = if draft.token.is_some() { FileAccess::Private } else { FileAccess::Usual };
        file.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| write_new(file, &text, access))
            .map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => already_there(file),
                _ => anyhow::Error::new(error).context(format!("{name}: cannot write")),
            })?;
        say(&format!("{name} is written."));
        self.ask.go_on()
    }

    /// Checks the task, looks what its first run would do, and says what is next.
    fn try_it(&self, draft: &Draft, schedule: RunTimes) -> anyhow::Result<ExitCode> {
        let file = shell_word(&draft.file);
        let task = |run| SyncArgs { config_file: Some(draft.file.clone().into_os_string()), run };
        say(&format!("\nosync check {file}"));
        let flags = Flags { errors_only: true, ..Flags::default() };
        let checked = CheckArgs { json: false, sync: task(flags) };
        let mut status = check::checked(&checked, self.environment)?;
        self.ask.go_on()?;
        if status == 1 {
            if let Some(line) = &self.line {
                say(&format!(
                    "\nWhat lets the key in, in ~/.ssh/authorized_keys over there:\n{line}"
                ));
            }
            say("\nOnce that is done, this tries it again:");
            say(&format!("  osync check {file}"));
            return Ok(ExitCode::from(status));
        }
        say("A run can be made.");
        let config = draft.config(self.environment)?;
        self.tell_limits(&config)?;
        say(&format!("\nosync {file} --dry"));
        status = status.max(self.dry_run(draft)?);
        self.ask.go_on()?;
        let mut steps: Vec<NextStep> =
            vec![("To synchronise now".to_owned(), format!("osync {file}"))];
        let starters = self.starters(&draft.file)?;
        steps.extend(scheduled(schedule, &own_program(), &draft.file, starters));
        for (what, command) in steps {
            say(&format!("\n{what}:\n  {command}"));
        }
        Ok(ExitCode::from(status))
    }

    /// What a first run would find out of the file systems, in the work directories that it would
    /// make.
    fn tell_limits(&self, config: &Config) -> anyhow::Result<()> {
        for side in Side::BOTH {
            let reporter = Collector::default();
            let mut replica = replica::at(config, side, self.ask.stop(), &reporter);
            match replica.prepare(Access::ReadWrite { create: false }) {
                Err(error) if error.trouble == Trouble::Missing => continue,
                prepared => prepared?,
            };
            for text in limits(side, &replica.abilities()?, &config.preserve) {
                say(&text);
            }
        }
        self.ask.go_on()
    }

    /// A dry run in one line; every path of it stands in the log.
    fn dry_run(&self, draft: &Draft) -> anyhow::Result<u8> {
        let started = Instant::now();
        let flags = Flags { dry: true, silent: true, ..Flags::default() };
        let file = Some(draft.file.as_os_str());
        let resolution = settings::gather(file, &flags, self.environment);
        let config = resolution.config.context("the file cannot be read any more")?;
        let log = Arc::new(Log::for_task(&config, started));
        let outcome = sync::run_logged(&config, &log, started, Intent::Synchronise);
        for problem in log.tally().problems {
            say(&problem.to_string());
        }
        let conflicts = outcome.conflicts.len() as u64;
        let time = started.elapsed();
        say(&sum_up(&outcome.counts, conflicts, outcome.files, outcome.reach, time));
        Ok(outcome.status)
    }

    fn starters(&self, file: &Path) -> anyhow::Result<Starters> {
        let is_found = Path::new(SYSTEMD).is_dir()
            && file.parent() == Some(&self.tasks()?)
            && is_unit_name(file.file_name().unwrap_or_default().as_bytes());
        let units = match (is_found, rustix::process::geteuid().is_root()) {
            (false, _) => Units::No,
            (true, true) => Units::System,
            (true, false) => Units::User,
        };
        Ok(Starters { units, has_crontab: find_program("crontab").is_some() })
    }
}

/// There where systemd runs.
const SYSTEMD: &str = "/run/systemd/system";

fn already_there(file: &Path) -> anyhow::Error {
    anyhow::anyhow!("{} is there already, and is not overwritten", shown(file))
}

/// Where a place is, if that is another machine.
fn remote(draft: &Draft, side: Side) -> Option<SshLocation> {
    let place = if side == Side::Target { &draft.target } else { &draft.initiator };
    match Location::parse(place.as_bytes()) {
        Ok(Location::Ssh(to)) => Some(to),
        _ => None,
    }
}

/// Who would do the work over there.
fn over_there(agent: Agent) -> &'static str {
    match agent {
        Agent::Here => "",
        Agent::Osync => ", with an osync over there",
        Agent::Shell => ", with sh and rsync over there",
        Agent::ShellBesideOsync(_) => {
            ", with sh and rsync, as the osync over there is of another version"
        }
    }
}
