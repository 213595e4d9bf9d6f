//! Who runs this, where, and as which process: for the header of a run and for mail.

use super::{Level, Reporter};
use chrono::Local;

/// Whether lines carry date and time anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamped {
    /// They do: the first line needs none of its own.
    Yes,
    /// They do not.
    No,
}

/// User, host and process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The login name of the effective user, or its number.
    pub user: String,
    /// The name of this machine.
    pub host: String,
    /// Our process id.
    pub pid: u32,
}

impl Who {
    /// Ourselves.
    #[must_use]
    pub fn here() -> Who {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
        let user = login_name(&passwd, uid)
            .or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
            .unwrap_or_else(|| uid.to_string());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Who { user, host, pid: std::process::id() }
    }

    /// The first lines of a run (spec 6, "Log lines").
    pub fn open_run(&self, log: &dyn Reporter, instance_id: &str, dry: bool, stamped: Stamped) {
        let version = env!("CARGO_PKG_VERSION");
        let now = match stamped {
            Stamped::Yes => String::new(),
            Stamped::No => format!("{} - ", Local::now().format("%Y-%m-%d %H:%M:%S %z")),
        };
        log.say(Level::Notice, &format!("{now}osync {version} starts."));
        let Who { user, host, pid } = self;
        log.say(
            Level::Notice,
            &format!("Sync task [{instance_id}] launched as {user}@{host} (PID {pid})."),
        );
        if dry {
            log.say(Level::Notice, "Dry run: nothing will be changed.");
        }
    }
}

/// The name that a passwd file gives to a user.
pub(super) fn login_name(passwd: &[u8], uid: u32) -> Option<String> {
    let wanted = uid.to_string();
    passwd.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number == wanted.as_bytes() && !name.is_empty())
            .then(|| String::from_utf8_lossy(name).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_names_come_from_the_passwd_file() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n\n";
        assert_eq!(login_name(passwd, 1000).as_deref(), Some("me"));
        assert_eq!(login_name(passwd, 0).as_deref(), Some("root"));
        assert_eq!(login_name(passwd, 100), None);
    }
}
