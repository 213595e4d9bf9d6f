//! What ssh's own words mean, and what to do about them. Pure.

use crate::config::SshLocation;

/// Known texts of ssh, sudo and shells, and the remedy for each. The first that matches
/// counts, so the more specific stand first.
const KNOWN: &[(&str, &str)] = &[
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host shows another key than known_hosts has for it. If it was reinstalled, check \
         its new key and forget the old one with 'ssh-keygen -R {known}'; if not, somebody may \
         be listening in",
    ),
    (
        "add this line to",
        "compare that fingerprint with the one the host's administrator tells you, before you \
         add the line",
    ),
    (
        "is marked as revoked",
        "the host shows a key that was withdrawn: ask its administrator before anything else",
    ),
    ("Host key verification failed", "{unknown}"),
    ("No ED25519 host key is known", "{unknown}"),
    ("host key is known for", "{unknown}"),
    (
        "UNPROTECTED PRIVATE KEY FILE",
        "the private key can be read by others, so ssh does not use it: chmod 600 it",
    ),
    (
        "has a passphrase",
        "load the key into an ssh agent whose SSH_AUTH_SOCK osync gets, or use a key without a \
         passphrase",
    ),
    (
        "Too many authentication failures",
        "the agent offers too many keys before the right one: set SSH_RSA_PRIVATE_KEY, and add \
         '-o IdentitiesOnly=yes' to SSH_OPTIONAL_ARGS",
    ),
    ("Permission denied (", "{login}"),
    ("Permission denied, please try again", "{login}"),
    (
        "ssh_filter: refused: the token is wrong",
        "_REMOTE_TOKEN (or --remote-token) has to be the word that stands behind the filter in \
         the host's authorized_keys",
    ),
    (
        "ssh_filter: refused: the command does not begin with a token",
        "set _REMOTE_TOKEN (or --remote-token) to the word that stands behind the filter in the \
         host's authorized_keys",
    ),
    ("Connection refused", "no ssh server answers at that port: check host, port and firewall"),
    (
        "Could not resolve hostname",
        "the host name is not known: check its spelling, DNS, or ssh_config",
    ),
    ("Connection timed out", "{silent}"),
    ("Operation timed out", "{silent}"),
    ("timed out during banner exchange", "{silent}"),
    ("not responding", "the line went dead; the next run goes on from here"),
    ("No route to host", "{silent}"),
    ("Network is unreachable", "{silent}"),
    ("Connection closed by", "the host closed the connection; its log (auth.log) says why"),
    ("Connection reset", "the connection broke; the next run goes on from here"),
    ("Broken pipe", "the connection broke; the next run goes on from here"),
    ("Bad owner or permissions on", "ssh does not trust its configuration file"),
    ("sudo: command not found", "there is no sudo on the host: install it, or set SUDO_EXEC=no"),
    ("sudo: not found", "there is no sudo on the host: install it, or set SUDO_EXEC=no"),
    ("must have a tty", "{sudo}; and 'Defaults:{user} !requiretty'"),
    ("a terminal is required", "{sudo}"),
    ("a password is required", "{sudo}"),
    ("not allowed to execute", "{sudo}"),
    ("not allowed to preserve the environment", "{sudo}"),
    ("not in the sudoers file", "{sudo}"),
];

/// What we log in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Keys, or whatever else ssh finds.
    Keys,
    /// The password of SSH_PASSWORD_FILE, after any keys.
    Password,
}

impl Login {
    /// What to look at when the host does not let us in. It tells what it would take:
    /// `Permission denied (publickey,password).`
    fn remedy(self, said: &str) -> &'static str {
        let offered = said.rsplit_once("Permission denied (").map_or("", |(_, rest)| rest);
        let offered = offered.split(')').next().unwrap_or_default();
        let takes_passwords = offered.is_empty()
            || offered.split(',').any(|way| matches!(way, "password" | "keyboard-interactive"));
        match self {
            Login::Keys => {
                "the host does not accept this login. Check the user name, that the public key \
                 stands in its ~/.ssh/authorized_keys, and SSH_RSA_PRIVATE_KEY or \
                 SSH_PASSWORD_FILE"
            }
            Login::Password if takes_passwords => {
                "the host does not accept the user name or the password in SSH_PASSWORD_FILE \
                 (or does not let this user in by password)"
            }
            Login::Password => {
                "the host takes no passwords, so SSH_PASSWORD_FILE is of no use there: set \
                 SSH_RSA_PRIVATE_KEY"
            }
        }
    }
}

/// The remedy for what ssh said, if it is something known.
#[must_use]
pub fn explain(said: &str, to: &SshLocation, login: Login) -> Option<String> {
    let (_, remedy) = KNOWN.iter().find(|(text, _)| said.contains(text))?;
    let known = match to.port {
        Some(port) if port != 22 => format!("'[{}]:{port}'", to.host),
        _ => to.host.clone(),
    };
    let port = to.port.map(|p| format!("-p {p} ")).unwrap_or_default();
    let user = to.user.as_deref().unwrap_or("USER");
    let unknown = format!(
        "the host's key is not known yet. Connect once by hand ('ssh {port}{}') and check it, or \
         set SSH_IGNORE_KNOWN_HOSTS=yes if that is safe here",
        to.destination()
    );
    let sudo = format!(
        "sudo on the host wants a password or does not allow it. This line in its sudoers file \
         (visudo) helps: {user} ALL=(root) NOPASSWD:SETENV: /usr/bin/rsync, /usr/bin/bash"
    );
    let silent = "the host does not answer: check its name and port, the network and firewalls";
    Some(
        remedy
            .replace("{unknown}", &unknown)
            .replace("{silent}", silent)
            .replace("{login}", login.remedy(said))
            .replace("{sudo}", &sudo)
            .replace("{known}", &known)
            .replace("{user}", user),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_refusals_come_with_a_remedy() {
        let to = SshLocation {
            user: Some("u".into()),
            host: "h".into(),
            port: Some(2222),
            path: "/d".into(),
        };
        for (said, remedy) in [
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "ssh-keygen -R '[h]:2222'",
            ),
            (
                "No ED25519 host key is known for [h]:2222 and you have requested strict checking.\r\nHost key verification failed.",
                "ssh -p 2222 u@h",
            ),
            ("u@h: Permission denied (publickey,password).", "authorized_keys"),
            ("ssh: connect to host h port 2222: Connection refused", "no ssh server answers"),
            ("ssh: Could not resolve hostname h: Name or service not known", "spelling"),
            ("ssh: connect to host h port 2222: Connection timed out", "does not answer"),
            (
                "sudo: a password is required",
                "u ALL=(root) NOPASSWD:SETENV: /usr/bin/rsync, /usr/bin/bash",
            ),
            ("sudo: a terminal is required to read the password; either", "NOPASSWD"),
            ("Timeout, server h not responding.", "went dead"),
        ] {
            let found = explain(said, &to, Login::Keys);
            assert!(found.as_deref().is_some_and(|f| f.contains(remedy)), "{said}: {found:?}");
        }
        assert_eq!(explain("something new", &to, Login::Keys), None);
        for (said, remedy) in [
            ("Permission denied (publickey,password).", "the password in SSH_PASSWORD_FILE"),
            ("Permission denied, please try again.", "the password in SSH_PASSWORD_FILE"),
            ("Permission denied (publickey).", "takes no passwords"),
        ] {
            let found = explain(said, &to, Login::Password).unwrap_or_default();
            assert!(found.contains(remedy) && !found.contains("authorized_keys"), "{found}");
        }
        let found = explain("ssh_filter: refused: the token is wrong", &to, Login::Keys);
        assert!(found.is_some_and(|found| found.contains("_REMOTE_TOKEN")));
    }
}
