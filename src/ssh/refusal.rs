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
    (
        "Permission denied (",
        "the host does not accept this login. Check the user name, that the public key stands in \
         its ~/.ssh/authorized_keys, and SSH_RSA_PRIVATE_KEY or SSH_PASSWORD_FILE",
    ),
    (
        "Permission denied, please try again",
        "the host does not accept the password of SSH_PASSWORD_FILE",
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

/// The remedy for what ssh said, if it is something known.
#[must_use]
pub fn explain(said: &str, to: &SshLocation) -> Option<String> {
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
            let found = explain(said, &to);
            assert!(found.as_deref().is_some_and(|f| f.contains(remedy)), "{said}: {found:?}");
        }
        assert_eq!(explain("something new", &to), None);
    }
}
