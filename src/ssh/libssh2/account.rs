//! Who we are: the login name and the home directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The user this process belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// The login name.
    pub name: Option<String>,
    /// The home directory.
    pub home: Option<PathBuf>,
}

impl Account {
    /// Ourselves: by the passwd file, and by the environment where that does not know us.
    pub fn ours() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
        let listed = listed(&passwd, uid);
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let from_environment = || {
            let name = variable("LOGNAME").or_else(|| variable("USER"))?;
            name.into_string().ok()
        };
        Account {
            name: listed.name.or_else(from_environment),
            home: variable("HOME").map(PathBuf::from).or(listed.home),
        }
    }

    /// A file of `~/.ssh`.
    pub fn dot_ssh(&self, name: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(".ssh").join(name))
    }

    /// The path with `~/` replaced by the home directory.
    pub fn expand(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(below), Some(home)) => home.join(below),
            _ => path.to_owned(),
        }
    }
}

/// What a passwd file says about a user.
pub(super) fn listed(passwd: &[u8], uid: u32) -> Account {
    let wanted = uid.to_string();
    for line in passwd.split(|b| *b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        if let [name, _, number, _, _, home, ..] = fields[..]
            && number == wanted.as_bytes()
        {
            let home = Path::new(OsStr::from_bytes(home));
            return Account {
                name: std::str::from_utf8(name).ok().filter(|n| !n.is_empty()).map(str::to_owned),
                home: home.is_absolute().then(|| home.to_owned()),
            };
        }
    }
    Account::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nbad:x:7\n\
                       :x:9:9::home:/bin/sh\n";
        for (uid, name, home) in [
            (0, Some("root"), Some("/root")),
            (1000, Some("me"), Some("/home/me")),
            (7, None, None),
            (8, None, None),
            (9, None, None), // neither a name nor a place
        ] {
            let found = listed(passwd, uid);
            assert_eq!(found.name.as_deref(), name, "{uid}");
            assert_eq!(found.home.as_deref(), home.map(Path::new), "{uid}");
        }
    }

    #[test]
    fn a_tilde_is_the_home_directory() {
        let account = Account { name: None, home: Some("/h".into()) };
        for (path, expected) in [("~/k", "/h/k"), ("/k", "/k"), ("k", "k"), ("~x/k", "~x/k")] {
            assert_eq!(account.expand(Path::new(path)), Path::new(expected));
        }
        assert_eq!(account.dot_ssh("id_rsa").as_deref(), Some(Path::new("/h/.ssh/id_rsa")));
    }
}
