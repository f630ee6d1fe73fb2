//! The other end of mail: a small SMTP server that answers by a script and keeps what it got.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a relay does with a mail.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// It says this once it has the whole mail, e.g. `250 2.0.0 queued`.
    Says(&'static str),
    /// It has the whole mail and closes the connection.
    Drops,
    /// It says this of the recipient, and has no mail.
    Refuses(&'static str),
}

/// A mail that a relay had whole.
#[derive(Debug, Clone)]
pub struct RelayedMail {
    /// The addresses of the envelope, between angle brackets.
    pub sender: String,
    pub recipients: Vec<String>,
    /// Headers and bodies as they came.
    pub content: String,
}

impl RelayedMail {
    /// A header's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        let head = self.content.split("\r\n\r\n").next().unwrap_or_default();
        let found = head.split("\r\n").filter_map(|line| line.split_once(": ")).find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }
}

#[derive(Default)]
struct Told {
    script: VecDeque<Verdict>,
    mails: Vec<RelayedMail>,
}

/// A relay on a free port of the loopback interface, without TLS. Its thread ends with the process.
pub struct Relay {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
}

impl Relay {
    /// Take every mail unless told otherwise.
    pub fn start() -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay { address: listener.local_addr().unwrap(), told: Arc::default() };
        let told = Arc::clone(&relay.told);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = Arc::clone(&told);
                std::thread::spawn(move || drop(serve(&stream, &told)));
            }
        });
        relay
    }

    /// `127.0.0.1:PORT`, as a grant names it.
    pub fn place(&self) -> String {
        self.address.to_string()
    }

    /// Treat the next mail so; each call adds one to the script.
    pub fn will(&self, verdict: Verdict) {
        self.told.lock().unwrap().script.push_back(verdict);
    }

    /// The mails that it had whole, whatever it said of them.
    pub fn mails(&self) -> Vec<RelayedMail> {
        self.told.lock().unwrap().mails.clone()
    }
}

/// Speak with one client until either side closes.
fn serve(mut stream: &TcpStream, told: &Mutex<Told>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut sender, mut recipients) = (String::new(), Vec::new());
    let mut verdict = Verdict::Says("250 2.0.0 queued");
    stream.write_all(b"220 relay.example\r\n")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let said = match line.split_whitespace().next().unwrap_or_default() {
            "EHLO" => "250-relay.example\r\n250 8BITMIME",
            "MAIL" => {
                sender = address();
                verdict = told.lock().unwrap().script.pop_front().unwrap_or(verdict);
                "250 2.1.0 ok"
            }
            "RCPT" => match verdict {
                Verdict::Refuses(said) => said,
                Verdict::Says(_) | Verdict::Drops => {
                    recipients.push(address());
                    "250 2.1.5 ok"
                }
            },
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                let content = content(&mut reader)?;
                let (sender, recipients) = (std::mem::take(&mut sender), std::mem::take(&mut recipients));
                told.lock().unwrap().mails.push(RelayedMail { sender, recipients, content });
                match verdict {
                    Verdict::Says(said) | Verdict::Refuses(said) => said,
                    Verdict::Drops => return Ok(()),
                }
            }
            "QUIT" => "221 2.0.0 bye",
            _ => "502 5.5.1 what",
        };
        stream.write_all(format!("{said}\r\n").as_bytes())?;
    }
}

/// A mail up to its end, the dots taken out that were put in.
fn content(reader: &mut BufReader<&TcpStream>) -> std::io::Result<String> {
    let mut content = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(content);
        }
        content.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
