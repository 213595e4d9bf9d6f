//! A real HTTP server on a free port of 127.0.0.1, with TLS and a certificate of its own, that
//! keeps what it is sent.
#![allow(dead_code)]

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// What the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Answers with this status.
    Status(u16),
    /// Closes the connection at once.
    Close,
    /// Takes the request and never answers.
    Hang,
    /// Answers something that is no HTTP.
    Noise,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// `POST /path?query`.
    pub line: String,
    /// Header lines.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

impl Got {
    pub fn has_header(&self, line: &str) -> bool {
        self.headers.iter().any(|header| header.eq_ignore_ascii_case(line))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// A running server.
pub struct HttpsServer {
    address: SocketAddr,
    certificate: String,
    answer: Arc<Mutex<Answer>>,
    got: mpsc::Receiver<Got>,
}

impl HttpsServer {
    pub fn start(answer: Answer) -> Self {
        let (tls, certificate) = super::tls::server(&["localhost"]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let (send, got) = mpsc::channel();
        let with = Arc::clone(&answer);
        // ends with the process: nothing waits for it
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, send) = (Arc::clone(&tls), send.clone());
                let answer = *with.lock().unwrap();
                std::thread::spawn(move || serve(stream, tls, answer, &send));
            }
        });
        HttpsServer { address, certificate, answer, got }
    }

    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// A URL with a path that nobody else may see.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// Writes the certificate where a program finds it with SSL_CERT_FILE.
    pub fn write_certificate(&self, file: &Path) {
        std::fs::write(file, &self.certificate).unwrap();
    }

    /// All requests since the last call. A run has made its requests when it is over.
    pub fn requests(&self) -> Vec<Got> {
        self.got.try_iter().collect()
    }
}

fn serve(stream: TcpStream, tls: Arc<ServerConfig>, answer: Answer, send: &mpsc::Sender<Got>) {
    if answer == Answer::Close {
        return;
    }
    let Ok(connection) = ServerConnection::new(tls) else { return };
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let Some(got) = read(&mut stream) else { return };
    let _ = send.send(got);
    let text = match answer {
        Answer::Status(number) => format!(
            "HTTP/1.1 {number} Word\r\nLocation: https://elsewhere.example/\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        Answer::Noise => "this is no HTTP\r\n\r\n".to_owned(),
        Answer::Close => return,
        Answer::Hang => {
            // until the other side has lost its patience
            let _ = stream.get_ref().sock.set_read_timeout(Some(Duration::from_secs(60)));
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let stream = stream.get_mut();
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

fn read(stream: &mut impl BufRead) -> Option<Got> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = |line: &String| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    let mut body = vec![0; lines.iter().find_map(length).unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    let first = lines.remove(0);
    let line = first.strip_suffix(" HTTP/1.1").unwrap_or(&first).to_owned();
    Some(Got { line, headers: lines, body: String::from_utf8(body).ok()? })
}
