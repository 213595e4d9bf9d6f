//! Mail through the system's `sendmail`.

use super::Patience;
use crate::process::{self, Command, Exit, Input, Stop};
use lettre::Address;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// LocalExecutor a mail to `sendmail`.
pub(super) fn send(
    from: &Address,
    to: &[Address],
    mail: &[u8],
    patience: Patience,
) -> Result<(), String> {
    let program = program()?;
    let mut command = Command::new(&program).args(["-oi", "-f", from.as_ref(), "--"]);
    command = command.args(to.iter().map(Address::to_string));
    command.time_limit = Some(patience.total);
    command.grace = Some(Duration::from_secs(2));
    let name = program.display();
    // our line ends on the way to a local program
    let text: Vec<u8> = mail.iter().copied().filter(|b| *b != b'\r').collect();
    let output =
        process::output(&command, Input::Bytes(&text), &Stop::new()).map_err(|e| e.to_string())?;
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

/// The `sendmail` of this machine.
pub(super) fn program() -> Result<PathBuf, String> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    find(std::env::split_paths(&search)).ok_or_else(|| {
        "SMTP_SERVER is not set, and there is no sendmail in PATH, /usr/sbin or /usr/lib; \
         set SMTP_SERVER, or install a program that brings sendmail"
            .to_owned()
    })
}

/// The first `sendmail` in these directories, or where it often is out of PATH.
fn find(search: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    search
        .chain(["/usr/sbin".into(), "/usr/lib".into()])
        .filter(|dir: &PathBuf| dir.is_absolute())
        .map(|dir| dir.join("sendmail"))
        .find(|program| is_executable(program))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn sendmail_is_found_where_it_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, good) = (dir.path().join("plain"), dir.path().join("good"));
        for (place, mode) in [(&plain, 0o644), (&good, 0o755)] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("sendmail"), "#!/bin/sh\n").unwrap();
            fs::set_permissions(place.join("sendmail"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let search = [PathBuf::from("."), plain, good.clone()];
        assert_eq!(find(search.into_iter()), Some(good.join("sendmail")));
    }
}
