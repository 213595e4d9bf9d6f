//! A real sshd on a free port of 127.0.0.1.
#![allow(dead_code)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server that knows one user (the one who runs the tests) and one key, and is ended
/// when dropped.
pub struct Sshd {
    dir: TempDir,
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Sshd {
    /// Starts a server with further lines in its configuration.
    pub fn start(lines: &str) -> Self {
        Self::start_with(lines, None)
    }

    /// With an /etc/shadow of its own.
    fn start_with(lines: &str, shadow: Option<&str>) -> Self {
        let dir = tempfile::Builder::new().prefix("osync-sshd-").tempdir().unwrap();
        for key in ["host", "user", "stranger"] {
            keygen(&dir.path().join(key));
        }
        let public = fs::read(dir.path().join("user.pub")).unwrap();
        fs::write(dir.path().join("authorized_keys"), public).unwrap();
        if let Some(shadow) = shadow {
            fs::write(dir.path().join("shadow"), shadow).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            // sshd wants it for its unprivileged half; packages make it at boot
            let _ = fs::create_dir("/run/sshd");
        }
        // another program may take the free port before sshd does
        for _ in 0..20 {
            let port = free_port();
            fs::write(dir.path().join("sshd_config"), config(dir.path(), port, lines)).unwrap();
            if let Some(child) = listen(dir.path()) {
                let server = Sshd { dir, child, port };
                server.trust(server.port);
                return server;
            }
        }
        panic!("sshd does not start: {}", log_of(dir.path()));
    }

    /// A server at which the user who runs the tests logs in with a password, which holds
    /// at that server only; none: only root can make one.
    pub fn with_password(password: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let said = Command::new("openssl").args(["passwd", "-6", password]).output().ok()?;
        let hash = String::from_utf8(said.stdout).ok()?;
        let entry = format!("{}:", user());
        let shadow = fs::read_to_string("/etc/shadow").ok()?;
        let others = shadow.lines().filter(|line| !line.starts_with(&entry));
        let mut text: String = others.map(|line| format!("{line}\n")).collect();
        text.push_str(&format!("{entry}{}:19000:0:99999:7:::\n", hash.trim()));
        Some(Self::start_with("PasswordAuthentication yes", Some(&text)))
    }

    /// An ssh URI of a path on this machine.
    pub fn uri(&self, path: &Path) -> String {
        self.uri_by(self.port, path)
    }

    /// The same through another port.
    pub fn uri_by(&self, port: u16, path: &Path) -> String {
        format!("ssh://{}@127.0.0.1:{port}/{}", user(), path.display())
    }

    /// Puts the host key for a port into known_hosts.
    pub fn trust(&self, port: u16) {
        self.trust_at("127.0.0.1", port);
    }

    /// The same for another name of this machine.
    pub fn trust_at(&self, host: &str, port: u16) {
        let key = fs::read_to_string(self.path("host.pub")).unwrap();
        let mut known = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("known_hosts"))
            .unwrap();
        writeln!(known, "[{host}]:{port} {key}").unwrap();
    }

    /// The key that is let in.
    pub fn key(&self) -> PathBuf {
        self.path("user")
    }

    /// A key that is not.
    pub fn strange_key(&self) -> PathBuf {
        self.path("stranger")
    }

    /// A file of the server's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// ssh options with which nothing of this machine's own configuration is used.
    pub fn options(&self) -> Vec<String> {
        let known = self.path("known_hosts");
        [
            "-F",
            "none",
            "-o",
            &format!("UserKnownHostsFile={}", known.display()),
            "-o",
            "GlobalKnownHostsFile=/dev/null",
            "-o",
            "IdentitiesOnly=yes",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        log_of(self.dir.path())
    }

    /// Its process.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// How many connections were let in so far.
    pub fn logins(&self) -> usize {
        self.log().matches("Accepted ").count()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The user who runs the tests.
pub fn user() -> String {
    let said = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "osync-test", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// With SHLVL=2 bash does not take the session for a login, and leaves alone whatever the
/// start-up files of the user who runs the tests do.
/// The key exchange is an old one, because that of today, which withstands quantum computers, takes
/// a third of a second of processor time for each connection.
fn config(dir: &Path, port: u16, lines: &str) -> String {
    let dir = dir.display();
    format!(
        "{lines}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nPidFile none\n\
         AuthorizedKeysFile {dir}/authorized_keys\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
         LogLevel VERBOSE\nMaxStartups 100\nSetEnv SHLVL=2\n\
         KexAlgorithms curve25519-sha256\n"
    )
}

/// Starts the server and waits until it listens; none: the port was taken.
fn listen(dir: &Path) -> Option<Child> {
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    if dir.join("shadow").exists() {
        let script = "mount --bind \"$0\" /etc/shadow && exec /usr/sbin/sshd \"$@\"";
        command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(dir.join("shadow"));
    }
    let mut child = command
        .args(["-D", "-e", "-f"])
        .arg(dir.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("these tests need /usr/sbin/sshd (package openssh-server)");
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if log_of(dir).contains("Server listening") {
            return Some(child);
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn log_of(dir: &Path) -> String {
    let log = fs::read(dir.join("log")).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

/// A TCP proxy in front of a port that counts, delays and cuts.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicU64,
    /// Directions that have come to their end: two for each connection.
    ended: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    /// Bytes in both directions together after which the line is cut; 0: never.
    cut_after: AtomicU64,
    /// The same after which nothing passes any more, with the line left open; 0: never.
    stall_after: AtomicU64,
    /// How often the server answered: something came from it behind something sent to it.
    turns: AtomicU64,
    is_asked: AtomicBool,
    /// How long each piece takes in one direction.
    delay_micros: AtomicU64,
}

/// A direction.
#[derive(Clone, Copy)]
enum Way {
    ToServer,
    ToClient,
}

impl Shared {
    fn count(&self, way: Way, bytes: u64) {
        match way {
            Way::ToServer => {
                self.to_server.fetch_add(bytes, Ordering::Relaxed);
                self.is_asked.store(true, Ordering::Relaxed);
            }
            Way::ToClient => {
                self.to_client.fetch_add(bytes, Ordering::Relaxed);
                if self.is_asked.swap(false, Ordering::Relaxed) {
                    self.turns.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Proxy {
    /// Listens on a free port and passes everything on; each direction takes `delay`.
    pub fn start(to: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        shared.delay_micros.store(delay.as_micros() as u64, Ordering::Relaxed);
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { continue };
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                state.connections.fetch_add(1, Ordering::Relaxed);
                let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (one, other) = (Arc::clone(&state), Arc::clone(&state));
                std::thread::spawn(move || pass(client, server, &one, Way::ToServer));
                std::thread::spawn(move || pass(server2, client2, &other, Way::ToClient));
            }
        });
        Proxy { port, shared }
    }

    /// Cuts every line once this many more bytes have passed.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.cut_after.store(self.bytes() + bytes, Ordering::Relaxed);
    }

    /// Swallows everything once this many more bytes have passed: a line gone dead.
    pub fn stall_after(&self, bytes: u64) {
        self.shared.stall_after.store(self.bytes() + bytes, Ordering::Relaxed);
    }

    /// Lets everything pass again.
    pub fn mend(&self) {
        self.shared.stall_after.store(0, Ordering::Relaxed);
        self.shared.cut_after.store(0, Ordering::Relaxed);
    }

    /// Bytes that have passed, both directions together.
    pub fn bytes(&self) -> u64 {
        self.shared.to_server.load(Ordering::Relaxed)
            + self.shared.to_client.load(Ordering::Relaxed)
    }

    /// How often the server answered: about as many round trips.
    pub fn turns(&self) -> u64 {
        self.shared.turns.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.connections() - self.shared.ended.load(Ordering::Relaxed) / 2
    }

    /// Connections that were made.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

/// Passes on what comes, each piece `delay` after it came, in order.
fn pass(mut from: TcpStream, to: TcpStream, shared: &Arc<Shared>, way: Way) {
    let delay = Duration::from_micros(shared.delay_micros.load(Ordering::Relaxed));
    let (sender, receiver) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
    let mut out = to.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for (due, piece) in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if out.write_all(&piece).is_err() {
                return;
            }
        }
        let _ = out.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 16 * 1024];
    let mut dead = false;
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let limit = shared.cut_after.load(Ordering::Relaxed);
        let passed =
            shared.to_server.load(Ordering::Relaxed) + shared.to_client.load(Ordering::Relaxed);
        if limit > 0 && passed + count as u64 > limit {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            break;
        }
        let limit = shared.stall_after.load(Ordering::Relaxed);
        if dead || limit > 0 && passed + count as u64 > limit {
            // what is lost once cannot be mended on the same line
            dead = true;
            continue;
        }
        shared.count(way, count as u64);
        if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
            break;
        }
    }
    drop(sender);
    let _ = writer.join();
    shared.ended.fetch_add(1, Ordering::Relaxed);
}
