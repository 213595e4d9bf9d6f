//! Mail through a program of this machine: `sendmail`, else `mutt`, else `mail`.

use super::Patience;
use crate::process::{self, Command, Exit, Input, Stop};
use lettre::Address;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A mail in the forms that local programs take it.
pub(super) struct Mail<'a> {
    /// Who it is from.
    pub from: &'a Address,
    /// Who it is for.
    pub to: &'a [Address],
    /// The subject, one line.
    pub subject: &'a str,
    /// The text alone.
    pub text: &'a str,
    /// The attached log, gzipped, and its name.
    pub attachment: Option<(&'a str, &'a [u8])>,
    /// All of it, with headers and attachment.
    pub whole: &'a [u8],
}

/// A program that sends mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mailer {
    kind: Kind,
    /// Where it is.
    pub program: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sendmail,
    Mutt,
    Mail,
}

impl Kind {
    /// In the order of what each can carry: `mail` knows no attachments.
    const ALL: [(Kind, &'static str); 3] =
        [(Kind::Sendmail, "sendmail"), (Kind::Mutt, "mutt"), (Kind::Mail, "mail")];
}

impl Mailer {
    /// The best of this machine.
    pub(super) fn of_this_machine() -> Option<Mailer> {
        Mailer::find(&std::env::var_os("PATH").unwrap_or_default())
    }

    /// The best in these directories, or where `sendmail` often is out of PATH.
    fn find(path: &OsStr) -> Option<Mailer> {
        Kind::ALL.into_iter().find_map(|(kind, name)| {
            let usual = if kind == Kind::Sendmail { "/usr/sbin:/usr/lib" } else { "" };
            let mut found = [path, OsStr::new(usual)].into_iter().flat_map(|path| {
                process::programs(OsStr::new(name), path).filter(|program| program.is_absolute())
            });
            Some(Mailer { kind, program: found.next()? })
        })
    }

    /// Sends a mail.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(super) fn send(&self, mail: &Mail<'_>, patience: Patience) -> Result<(), String> {
        let command = Command::new(&self.program);
        match self.kind {
            Kind::Sendmail => {
                let command = command.args(["-oi", "-f", mail.from.as_ref(), "--"]);
                let command = command.args(mail.to.iter().map(Address::to_string));
                // our line ends on the way to a local program
                let text: Vec<u8> = mail.whole.iter().copied().filter(|b| *b != b'\r').collect();
                self.run(command, &text, patience)
            }
            Kind::Mutt => {
                let held = mail
                    .attachment
                    .map(|(name, bytes)| Attached::new(name, bytes))
                    .transpose()
                    .map_err(|e| format!("{}: cannot write the attachment: {e}", self.shown()))?;
                // -n, -F: what the user's own mutt is set to is not ours to send with
                let mut command = command.args(["-n", "-F", "/dev/null", "-s", mail.subject]);
                command = command.env("EMAIL", mail.from.to_string());
                if let Some(attached) = &held {
                    command = command.arg("-a").arg(&attached.file);
                }
                let command = command.arg("--").args(mail.to.iter().map(Address::to_string));
                self.run(command, mail.text.as_bytes(), patience)
            }
            Kind::Mail => {
                // no "--": some take what follows it for options of sendmail
                let plain =
                    mail.to.iter().map(Address::to_string).filter(|to| !to.starts_with('-'));
                let command = command.args(["-s", mail.subject]).args(plain);
                self.run(command, mail.text.as_bytes(), patience)
            }
        }
    }

    fn run(&self, mut command: Command, input: &[u8], patience: Patience) -> Result<(), String> {
        command.time_limit = Some(patience.total);
        command.grace = Some(Duration::from_secs(2));
        let name = self.shown();
        let output = process::output(&command, Input::Bytes(input), &Stop::new())
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = match said.trim() {
            "" => String::new(),
            words => format!(": {words}"),
        };
        match output.exit {
            Exit::Code(0) => Ok(()),
            Exit::Code(status) => Err(format!("{name} ended with status {status}{said}")),
            Exit::TimedOut => {
                Err(format!("{name}: not done after {} s{said}", patience.total.as_secs()))
            }
            Exit::Signal(signal) => Err(format!("{name} was ended by signal {signal}{said}")),
            Exit::Stopped(_) => Err(format!("{name} was stopped")),
        }
    }

    fn shown(&self) -> String {
        self.program.display().to_string()
    }
}

/// A file that `mutt` attaches under its name; gone when this is dropped.
struct Attached {
    _dir: tempfile::TempDir,
    file: PathBuf,
}

impl Attached {
    fn new(name: &str, bytes: &[u8]) -> io::Result<Attached> {
        let dir = tempfile::Builder::new().prefix("osync-mail-").tempdir()?;
        let file = dir.path().join(name);
        std::fs::write(&file, bytes)?;
        Ok(Attached { _dir: dir, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn the_program_that_can_carry_most_is_found_where_it_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let put = |place: &str, name: &str, mode: u32| {
            let file = dir.path().join(place).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        let search = ["plain", "good"].map(|place| dir.path().join(place));
        let find = || {
            // the machine of the test may have a sendmail of its own out of PATH
            Mailer::find(&std::env::join_paths(&search).unwrap())
                .filter(|found| found.program.starts_with(dir.path()))
                .map(|found| found.program)
        };
        let own =
            Path::new("/usr/sbin/sendmail").exists() || Path::new("/usr/lib/sendmail").exists();
        put("plain", "sendmail", 0o644);
        let mail = put("good", "mail", 0o755);
        assert!(own || find() == Some(mail));
        let mutt = put("plain", "mutt", 0o755);
        assert!(own || find() == Some(mutt));
        let sendmail = put("good", "sendmail", 0o755);
        assert_eq!(find(), Some(sendmail));
    }
}
