//! Mail that is encrypted on its way to a relay, with a certificate that is made for each test.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kith_model::secret::Secret;
use kith_model::sending::{MailReply, MailSecurity, SendFailure};
use parking_lot::Mutex;
use rcgen::CertifiedKey;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::egress::address::Reach;
use crate::egress::client::Client;
use crate::egress::request::Target;
use crate::egress::smtp::MailExchange;
use crate::guests::runtime;

/// What a relay heard, each line with whether it came encrypted.
type HeardLines = Arc<Mutex<Vec<(Wire, String)>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Clear,
    Encrypted,
}

/// A certificate that is its own root, for this name or address.
fn certificate(name: &str) -> CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed([name.to_owned()]).unwrap()
}

/// A client that trusts this certificate and nothing else.
fn trusting(made: &CertifiedKey<rcgen::KeyPair>) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    Client::trusting(roots).unwrap()
}

/// Hand a mail to a relay on this machine that shows the certificate; what it said, and all that it heard.
fn hand_over(
    client: &Client,
    made: &CertifiedKey<rcgen::KeyPair>,
    security: MailSecurity,
) -> (Result<MailReply, SendFailure>, Vec<(Wire, String)>) {
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let (acceptor, heard) = (TlsAcceptor::from(Arc::new(config)), HeardLines::default());
    let hearing = Arc::clone(&heard);
    let sent = runtime().block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = async {
            let (stream, _) = listener.accept().await.unwrap();
            // Whoever does not trust it ends the handshake, and whoever has its answer the connection.
            drop(serve(stream, &acceptor, security, &hearing).await);
        };
        let (sent, ()) = tokio::join!(client.hand_over(exchange(port, security)), relay);
        sent
    });
    let heard = heard.lock().clone();
    (sent, heard)
}

fn exchange(port: u16, security: MailSecurity) -> MailExchange {
    MailExchange {
        target: Target {
            https: false,
            host: "127.0.0.1".to_owned(),
            port,
            default_port: false,
            path_and_query: "/".to_owned(),
        },
        reach: Reach { loopback: true, networks: Vec::new() },
        look_ups: Arc::default(),
        security,
        login: Some(("shop".to_owned(), Secret::from("s3cret"))),
        sender: "shop@example.com".parse().unwrap(),
        to: "ada@example.com".parse().unwrap(),
        message: b"Subject: Hello\r\n\r\nDear Ada\r\n".to_vec(),
        wait: Duration::from_secs(20),
        is_whole: Arc::new(AtomicBool::new(false)),
    }
}

async fn serve(
    mut stream: TcpStream,
    acceptor: &TlsAcceptor,
    security: MailSecurity,
    heard: &Mutex<Vec<(Wire, String)>>,
) -> io::Result<()> {
    if security == MailSecurity::StartTls {
        stream.write_all(b"220 relay\r\n").await?;
        converse(&mut stream, Wire::Clear, heard).await?;
    }
    let mut stream = acceptor.accept(stream).await?;
    if security == MailSecurity::Tls {
        stream.write_all(b"220 relay\r\n").await?;
    }
    converse(&mut stream, Wire::Encrypted, heard).await
}

/// Answer what comes until TLS is to begin, the connection ends, or the other side says goodbye.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    wire: Wire,
    heard: &Mutex<Vec<(Wire, String)>>,
) -> io::Result<()> {
    let mut is_mail = false;
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(stream.read_u8().await?);
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        heard.lock().push((wire, line.clone()));
        let (said, is_end) = match line.split_whitespace().next().unwrap_or_default() {
            "." if is_mail => {
                is_mail = false;
                ("250 2.0.0 queued\r\n", false)
            }
            _ if is_mail => continue,
            "EHLO" => ("250-relay\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n", false),
            "STARTTLS" => ("220 go on\r\n", true),
            "AUTH" => ("235 2.7.0 welcome\r\n", false),
            "DATA" => {
                is_mail = true;
                ("354 go on\r\n", false)
            }
            "QUIT" => ("221 bye\r\n", true),
            _ => ("250 2.1.0 ok\r\n", false),
        };
        stream.write_all(said.as_bytes()).await?;
        if is_end {
            return Ok(());
        }
    }
}

#[test]
fn a_mail_and_its_password_go_encrypted_to_a_relay_that_is_trusted() {
    for security in [MailSecurity::StartTls, MailSecurity::Tls] {
        let made = certificate("127.0.0.1");
        let (sent, heard) = hand_over(&trusting(&made), &made, security);
        let queued = MailReply { code: 250, enhanced: Some("2.0.0".to_owned()), text: "queued".to_owned() };
        assert_eq!(sent, Ok(queued), "{security:?}");
        let said = |wire: Wire| -> Vec<&str> {
            heard.iter().filter(|(on, _)| *on == wire).map(|(_, line)| line.as_str()).collect()
        };
        let clear: &[&str] = match security {
            MailSecurity::StartTls => &["EHLO example.com", "STARTTLS"],
            _ => &[],
        };
        assert_eq!(said(Wire::Clear), clear, "{security:?}");
        let encrypted = said(Wire::Encrypted);
        for line in
            ["AUTH PLAIN AHNob3AAczNjcmV0", "MAIL FROM:<shop@example.com>", "RCPT TO:<ada@example.com>", "Dear Ada"]
        {
            assert!(encrypted.contains(&line), "{security:?}: {line} in {encrypted:?}");
        }
    }
}

/// One that nobody vouches for, and one of another host.
#[test]
fn a_relay_that_is_not_trusted_hears_nothing() {
    for security in [MailSecurity::StartTls, MailSecurity::Tls] {
        let (own, of_another) = (certificate("127.0.0.1"), certificate("relay.example"));
        for (client, made) in
            [(Client::new().unwrap(), &own), (trusting(&of_another), &own), (trusting(&of_another), &of_another)]
        {
            let (sent, heard) = hand_over(&client, made, security);
            let Err(SendFailure::Connection(reason)) = &sent else { panic!("{security:?}: {sent:?}") };
            assert!(reason.starts_with("TLS: "), "{reason}");
            assert!(!heard.iter().any(|(wire, _)| *wire == Wire::Encrypted), "{heard:?}");
            assert!(
                heard.iter().all(|(_, line)| ["EHLO example.com", "STARTTLS"].contains(&line.as_str())),
                "{heard:?}"
            );
        }
    }
}
