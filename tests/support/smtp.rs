//! A real SMTP server on a free port of 127.0.0.1: EHLO, STARTTLS, TLS from the first
//! byte, AUTH PLAIN and LOGIN, refusals, and silence.

#![allow(dead_code)]

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How the server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protection {
    #[default]
    Plain,
    StartTls,
    Implicit,
}

/// What the server does.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    pub protection: Protection,
    /// The user and password it wants before it takes mail.
    pub login: Option<(String, String)>,
    /// Offers AUTH LOGIN only.
    pub login_only: bool,
    /// Recipients it does not take.
    pub refuse: Vec<String>,
    /// Refuses every mail at MAIL FROM.
    pub refuse_all: bool,
    /// Accepts the connection and never says a word.
    pub hang: bool,
    /// Takes the mail and never confirms it.
    pub hang_after_data: bool,
}

/// A mail as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body, with CRLF line ends, dots unstuffed.
    pub data: Vec<u8>,
    pub encrypted: bool,
    pub login: Option<(String, String)>,
}

impl Received {
    /// The value of a header line, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.data).replace("\r\n ", " ").replace("\r\n\t", " ");
        let start = format!("{}: ", name.to_ascii_lowercase());
        text.lines()
            .take_while(|line| !line.is_empty())
            .find(|line| line.to_ascii_lowercase().starts_with(&start))
            .map(|line| line[start.len()..].to_owned())
    }

    pub fn subject(&self) -> String {
        self.header("Subject").unwrap_or_default()
    }

    /// Everything, for looking for words.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }

    /// The bytes of the attachment.
    pub fn attachment(&self) -> Option<Vec<u8>> {
        let text = self.text();
        let (_, part) = text.split_once("Content-Disposition: attachment")?;
        let (_, rest) = part.split_once("\r\n\r\n")?;
        let (body, _) = rest.split_once("\r\n--")?;
        Some(base64(body))
    }

    /// The attachment without its compression.
    pub fn attached_log(&self) -> Option<String> {
        let bytes = self.attachment()?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

#[derive(Default)]
struct Mailbox {
    mails: Mutex<Vec<Received>>,
    arrived: Condvar,
}

/// A running server; it ends when it is dropped.
pub struct SmtpServer {
    address: SocketAddr,
    certificate: String,
    mailbox: Arc<Mailbox>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl SmtpServer {
    pub fn start(behaviour: Behaviour) -> SmtpServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, certificate) = super::tls::server(&["localhost", "127.0.0.1"]);
        let (mailbox, over) = (Arc::new(Mailbox::default()), Arc::new(AtomicBool::new(false)));
        let host = Host { behaviour, tls, mailbox: mailbox.clone() };
        let ended = over.clone();
        let thread = std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(stream), host) = (stream, host.clone()) else { continue };
                if host.behaviour.hang {
                    silent.push(stream); // open until the server ends
                } else {
                    std::thread::spawn(move || host.serve(stream));
                }
            }
        });
        SmtpServer { address, certificate, mailbox, over, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate as PEM: for the file that SSL_CERT_FILE names.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What has arrived so far.
    pub fn mails(&self) -> Vec<Received> {
        self.mailbox.mails.lock().unwrap().clone()
    }

    /// Waits until this many mails have arrived.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        let until = Instant::now() + Duration::from_secs(60);
        let mut mails = self.mailbox.mails.lock().unwrap();
        while mails.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "only {} of {count} mails have arrived", mails.len());
            mails = self.mailbox.arrived.wait_timeout(mails, left).unwrap().0;
        }
        mails.clone()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}
type Line = BufReader<Box<dyn ReadWrite>>;

#[derive(Clone)]
struct Host {
    behaviour: Behaviour,
    tls: Arc<ServerConfig>,
    mailbox: Arc<Mailbox>,
}

impl Host {
    /// One connection, to its end; a client that goes away is no failure.
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
        let raw = stream.try_clone().unwrap();
        let implicit = self.behaviour.protection == Protection::Implicit;
        let line =
            if implicit { self.encrypt(stream) } else { BufReader::new(Box::new(stream) as _) };
        let _ = self.talk(line, &raw, implicit);
    }

    fn encrypt(&self, stream: TcpStream) -> Line {
        let server = ServerConnection::new(self.tls.clone()).unwrap();
        BufReader::new(Box::new(StreamOwned::new(server, stream)))
    }

    fn talk(&self, mut line: Line, raw: &TcpStream, mut encrypted: bool) -> std::io::Result<()> {
        let mut mail = Received::default();
        let mut login = None;
        say(&mut line, "220 test ready")?;
        while let Some(command) = read_line(&mut line)? {
            let (verb, rest) = command.split_once(' ').unwrap_or((&command, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" | "HELO" => self.greet(&mut line, encrypted)?,
                "STARTTLS" if self.behaviour.protection == Protection::StartTls && !encrypted => {
                    say(&mut line, "220 go on")?;
                    line = self.encrypt(raw.try_clone()?);
                    encrypted = true;
                }
                "AUTH" => {
                    let given = credentials(&mut line, rest)?;
                    if given.is_some() && given == self.behaviour.login {
                        login = given;
                        say(&mut line, "235 welcome")?;
                    } else {
                        say(&mut line, "535 wrong user or password")?;
                    }
                }
                "MAIL" if self.behaviour.refuse_all => say(&mut line, "550 no mail here")?,
                "MAIL" if self.behaviour.login != login => say(&mut line, "530 log in first")?,
                "MAIL" => {
                    mail = Received {
                        from: angle(rest),
                        encrypted,
                        login: login.clone(),
                        ..Received::default()
                    };
                    say(&mut line, "250 fine")?;
                }
                "RCPT" if self.behaviour.refuse.contains(&angle(rest)) => {
                    say(&mut line, "550 nobody of that name")?;
                }
                "RCPT" => {
                    mail.to.push(angle(rest));
                    say(&mut line, "250 fine")?;
                }
                "DATA" => {
                    say(&mut line, "354 go on")?;
                    mail.data = read_data(&mut line)?;
                    if self.behaviour.hang_after_data {
                        while read_line(&mut line)?.is_some() {}
                        return Ok(());
                    }
                    self.mailbox.mails.lock().unwrap().push(std::mem::take(&mut mail));
                    self.mailbox.arrived.notify_all();
                    say(&mut line, "250 taken")?;
                }
                "NOOP" | "RSET" => say(&mut line, "250 fine")?,
                "QUIT" => return say(&mut line, "221 bye"),
                _ => say(&mut line, "502 not known")?,
            }
        }
        Ok(())
    }

    fn greet(&self, line: &mut Line, encrypted: bool) -> std::io::Result<()> {
        let mut words = vec!["test greets you"];
        if self.behaviour.protection == Protection::StartTls && !encrypted {
            words.push("STARTTLS");
        } else if self.behaviour.login.is_some() {
            words.push(if self.behaviour.login_only { "AUTH LOGIN" } else { "AUTH PLAIN LOGIN" });
        }
        let last = words.len() - 1;
        for (n, word) in words.into_iter().enumerate() {
            say(line, &format!("250{}{word}", if n == last { ' ' } else { '-' }))?;
        }
        Ok(())
    }
}

/// Takes user and password in the way the client asks for.
fn credentials(line: &mut Line, rest: &str) -> std::io::Result<Option<(String, String)>> {
    let words: Vec<&str> = rest.split(' ').collect();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    match (words[0].to_ascii_uppercase().as_str(), words.get(1)) {
        ("PLAIN", Some(given)) => {
            let all = text(base64(given));
            let mut parts = all.split('\0').skip(1).map(str::to_owned);
            Ok(parts.next().zip(parts.next()))
        }
        ("LOGIN", given) => {
            let user = match given {
                Some(user) => (*user).to_owned(),
                None => ask(line, "334 VXNlcm5hbWU6")?,
            };
            let password = ask(line, "334 UGFzc3dvcmQ6")?;
            Ok(Some((text(base64(&user)), text(base64(&password)))))
        }
        _ => Ok(None),
    }
}

fn ask(line: &mut Line, question: &str) -> std::io::Result<String> {
    say(line, question)?;
    Ok(read_line(line)?.unwrap_or_default())
}

fn say(line: &mut Line, words: &str) -> std::io::Result<()> {
    line.get_mut().write_all(format!("{words}\r\n").as_bytes())?;
    line.get_mut().flush()
}

fn read_line(line: &mut Line) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if line.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

fn read_data(line: &mut Line) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let mut bytes = Vec::new();
        if line.read_until(b'\n', &mut bytes)? == 0 || bytes == b".\r\n" {
            return Ok(data);
        }
        data.extend_from_slice(bytes.strip_prefix(b".").unwrap_or(&bytes));
    }
}

/// What stands between `<` and `>`.
fn angle(text: &str) -> String {
    let (_, rest) = text.split_once('<').unwrap_or(("", text));
    rest.split('>').next().unwrap_or_default().to_owned()
}

/// Decodes base64; what is no digit of it is skipped.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes().filter_map(|b| DIGITS.iter().position(|d| *d == b)) {
        bits = (bits << 6) | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
