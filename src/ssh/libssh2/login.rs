//! Logging in: with keys of the agent, with key files, then with the password.

use super::host_key::base64;
use super::options::Options;
use super::{Account, Failure, TIMEOUT, code, is_gone};
use crate::ssh::askpass;
use ssh2::{KeyboardInteractivePrompt, Prompt, Session};

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Key files that are tried where none is named, as with ssh.
const USUAL_KEYS: [&str; 3] = ["id_rsa", "id_ecdsa", "id_ed25519"];

/// Logs in by whatever the server accepts.
pub(super) fn login(
    session: &Session,
    user: &str,
    options: &Options,
    account: &Account,
) -> Result<(), Failure> {
    let mut attempt = Attempt { session, user, options, said: Vec::new(), offered: 0 };
    let methods = match session.auth_methods(user) {
        Ok(methods) => methods.to_owned(),
        Err(_) if session.authenticated() => return Ok(()),
        Err(cause) => return Err(attempt.stopped(&cause)),
    };
    let accepts = |method: &str| methods.split(',').any(|known| known == method);
    if accepts("publickey") && attempt.with_keys(account)? {
        return Ok(());
    }
    if let Some(file) = &options.password_file {
        let password = askpass::read_password(file).map_err(|cause| {
            Failure(format!("osync rsh: cannot read the password file {}: {cause}", file.display()))
        })?;
        let password = String::from_utf8(password).map_err(|_| {
            Failure(format!("osync rsh: the password in {} is not UTF-8", file.display()))
        })?;
        if accepts("keyboard-interactive") && attempt.by_answers(&password)? {
            return Ok(());
        }
        if accepts("password") && attempt.by_password(&password)? {
            return Ok(());
        }
    }
    attempt.said.push(format!("{user}@{}: Permission denied ({methods}).", options.host));
    Err(Failure(attempt.said.join("\n")))
}

/// A login under way.
struct Attempt<'a> {
    session: &'a Session,
    user: &'a str,
    options: &'a Options,
    /// Why something was not tried.
    said: Vec<String>,
    /// How many keys the server has refused.
    offered: u32,
}

impl Attempt<'_> {
    /// By keys: those that are named first, from the agent where it holds them, else from
    /// their files; then whatever else the agent holds.
    fn with_keys(&mut self, account: &Account) -> Result<bool, Failure> {
        let mut agent = self.session.agent().ok().filter(|_| agent_is_named());
        if let Some(open) = &mut agent
            && open.connect().and_then(|()| open.list_identities()).is_err()
        {
            agent = None;
        }
        let held = agent.as_ref().and_then(|agent| agent.identities().ok()).unwrap_or_default();
        let files = self.key_files(account);
        let is_of = |file: &KeyFile, blob: &[u8]| file.public.as_deref() == Some(&base64(blob));
        for file in &files {
            let in_agent = held.iter().find(|key| is_of(file, key.blob()));
            if let (Some(agent), Some(key)) = (&agent, in_agent)
                && self.judge(agent.userauth(self.user, key))?
            {
                return Ok(true);
            }
            if in_agent.is_none() && self.by_file(file)? {
                return Ok(true);
            }
        }
        if let Some(agent) = agent.filter(|_| !self.options.only_these_keys) {
            let is_new = |blob: &[u8]| !files.iter().any(|file| is_of(file, blob));
            for key in held.iter().filter(|key| is_new(key.blob())) {
                if self.judge(agent.userauth(self.user, key))? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The key files to try. A named one that cannot be read is reported.
    fn key_files(&mut self, account: &Account) -> Vec<KeyFile> {
        if self.options.keys.is_empty() {
            let usual = USUAL_KEYS.iter().filter_map(|name| account.dot_ssh(name));
            return usual.filter_map(|path| KeyFile::look(&path).ok()).collect();
        }
        let mut files = Vec::new();
        for path in &self.options.keys {
            match KeyFile::look(&account.expand(path)) {
                Ok(file) => files.push(file),
                Err(why) => self.said.push(why),
            }
        }
        files
    }

    fn by_file(&mut self, file: &KeyFile) -> Result<bool, Failure> {
        if let Some(objection) = &file.objection {
            self.said.push(objection.clone());
            return Ok(false);
        }
        let tried = self.session.userauth_pubkey_file(self.user, None, &file.path, None);
        if let Err(cause) = &tried
            && !is_gone(cause)
            && !is_refusal(cause)
        {
            self.said.push(format!(
                "libssh2 cannot use the private key {}: {}",
                file.path.display(),
                cause.message()
            ));
        }
        self.judge(tried)
    }

    fn by_answers(&self, password: &str) -> Result<bool, Failure> {
        let mut answers = Answers { password, is_used: false };
        self.look(self.session.userauth_keyboard_interactive(self.user, &mut answers))
    }

    fn by_password(&self, password: &str) -> Result<bool, Failure> {
        self.look(self.session.userauth_password(self.user, password))
    }

    fn judge(&mut self, tried: Result<(), ssh2::Error>) -> Result<bool, Failure> {
        self.offered += 1;
        self.look(tried)
    }

    /// Whether we are logged in. A refusal of the server is not yet a failure.
    fn look(&self, tried: Result<(), ssh2::Error>) -> Result<bool, Failure> {
        match tried {
            Err(cause) if is_gone(&cause) => Err(self.stopped(&cause)),
            _ => Ok(self.session.authenticated()),
        }
    }

    /// The server has hung up.
    fn stopped(&self, cause: &ssh2::Error) -> Failure {
        let Options { host, port, .. } = self.options;
        if code(cause) == TIMEOUT {
            return Failure(format!("Connection timed out while logging in to {host} port {port}"));
        }
        let mut text = self.said.join("\n");
        if self.offered > 1 {
            text.push_str(&format!(
                "Too many authentication failures? {} keys were offered.\n",
                self.offered
            ));
        }
        text.push_str(&format!("Connection closed by {host} port {port}"));
        Failure(text)
    }
}

/// Without SSH_AUTH_SOCK there is no agent.
fn agent_is_named() -> bool {
    std::env::var_os("SSH_AUTH_SOCK").is_some_and(|socket| !socket.is_empty())
}

/// `LIBSSH2_ERROR_AUTHENTICATION_FAILED`, `PUBLICKEY_UNVERIFIED`.
fn is_refusal(cause: &ssh2::Error) -> bool {
    matches!(code(cause), -18 | -19)
}

/// Answers the first question for a password with the password, and nothing else.
struct Answers<'a> {
    password: &'a str,
    is_used: bool,
}

impl KeyboardInteractivePrompt for Answers<'_> {
    fn prompt<'p>(&mut self, _: &str, _: &str, prompts: &[Prompt<'p>]) -> Vec<String> {
        let mut answer = |prompt: &Prompt<'p>| {
            let asks = askpass::asks_for_password(prompt.text.as_bytes(), "".as_ref());
            if asks && !prompt.echo && !std::mem::replace(&mut self.is_used, true) {
                return self.password.to_owned();
            }
            String::new()
        };
        prompts.iter().map(&mut answer).collect()
    }
}

/// A key file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyFile {
    /// The private key.
    pub path: PathBuf,
    /// The public key in base64, if `PATH.pub` stands beside it.
    pub public: Option<String>,
    /// Why it cannot be used without an agent, if it cannot.
    pub objection: Option<String>,
}

impl KeyFile {
    /// Looks at a key file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let unreadable =
            |cause: std::io::Error| format!("cannot read the private key {shown}: {cause}");
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        let text = std::fs::read(path).map_err(unreadable)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".pub");
        let public = std::fs::read(beside).ok().and_then(|text| public_key(&text));
        let is_ours = meta.uid() == rustix::process::getuid().as_raw();
        let mode = meta.permissions().mode() & 0o777;
        let objection = if is_ours && mode & 0o077 != 0 {
            Some(format!(
                "WARNING: UNPROTECTED PRIVATE KEY FILE! The permissions {mode:04o} of {shown} are \
                 too open; the key is not used."
            ))
        } else if is_encrypted(&text) {
            Some(format!(
                "the private key {shown} has a passphrase, nobody is here to type it, and no agent \
                 has opened it"
            ))
        } else {
            None
        };
        Ok(KeyFile { path: path.to_owned(), public, objection })
    }
}

/// The base64 part of a public key file.
pub(super) fn public_key(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    text.split_ascii_whitespace().nth(1).map(str::to_owned)
}

/// Whether a private key can only be read with a passphrase.
pub(super) fn is_encrypted(text: &[u8]) -> bool {
    /// The beginning of every OpenSSH key whose cipher is "none", in base64.
    const OPEN: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN"));
    let first = lines.next().unwrap_or_default();
    if first.contains("OPENSSH PRIVATE KEY") {
        let body: String = lines.take_while(|line| !line.starts_with('-')).collect();
        return !body.is_empty() && !body.starts_with(OPEN);
    }
    first.contains("ENCRYPTED")
        || lines.any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
}

#[cfg(test)]
mod login_tests {
    use super::*;

    #[test]
    fn the_password_is_given_once_and_to_a_question_for_it_only() {
        let mut answers = Answers { password: "pw", is_used: false };
        let ask = |text: &'static str, echo| Prompt { text: text.into(), echo };
        let mut said = |prompts: &[Prompt<'_>]| answers.prompt("", "", prompts);
        assert_eq!(said(&[ask("Name: ", true), ask("Enter PIN for token: ", false)]), ["", ""]);
        assert_eq!(said(&[ask("Password: ", false), ask("Password again: ", false)]), ["pw", ""]);
        assert_eq!(said(&[ask("Password: ", false)]), [""]);
        assert!(said(&[]).is_empty());
    }
}

#[cfg(test)]
mod private_key_tests {
    use super::*;

    #[test]
    fn keys_with_a_passphrase_are_told_by_their_beginning() {
        for (text, expected) in [
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAA\n",
                false,
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAG\n",
                true,
            ),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n", false),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nMIIE\n",
                true,
            ),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n", true),
            ("-----BEGIN PRIVATE KEY-----\nMIIE\n", false),
            ("no key at all", false),
            ("", false),
        ] {
            assert_eq!(is_encrypted(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\n").unwrap();
        std::fs::write(dir.path().join("k.pub"), "ssh-ed25519 AAAA me\n").unwrap();
        for (mode, usable) in [(0o600, true), (0o400, true), (0o640, false), (0o644, false)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let key = KeyFile::look(&path).unwrap();
            assert_eq!(key.objection.is_none(), usable, "{mode:o}");
            assert_eq!(key.public.as_deref(), Some("AAAA"));
        }
        assert!(KeyFile::look(&dir.path().join("none")).unwrap_err().contains("cannot read"));
    }
}
