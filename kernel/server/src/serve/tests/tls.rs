//! Tests of the server's own TLS, with a certificate made for each.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto, version};
use tokio_rustls::{TlsConnector, rustls};

use super::super::tls::{Tls, TlsError, TlsFiles};
use super::{listening, read_all};

/// A fresh certificate for `localhost`, which is its own root.
fn certificate() -> CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn files(folder: &Path, made: &CertifiedKey<rcgen::KeyPair>) -> TlsFiles {
    let files = TlsFiles { certificate: folder.join("server.pem"), key: folder.join("server.key") };
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}

fn connector(root: &CertificateDer<'static>, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let config = config.with_protocol_versions(versions).unwrap().with_root_certificates(roots).with_no_client_auth();
    Arc::new(config).into()
}

async fn connect(connector: &TlsConnector, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_tls_is_answered_and_who_does_not_speak_is_cut_off() {
    let (folder, made) = (tempfile::tempdir().unwrap(), certificate());
    let tls = files(folder.path(), &made);
    let server = listening(|config| {
        config.http.tls = Some(tls);
        config.http.head_timeout = Duration::from_millis(500);
    })
    .await;
    for version in [&version::TLS12, &version::TLS13] {
        let connector = connector(made.cert.der(), &[version]);
        let mut stream = connect(&connector, TcpStream::connect(server.address).await.unwrap()).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        assert!(answer.contains("strict-transport-security: max-age=31536000"), "{answer}");
    }

    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(!read_all(&mut plain).await.contains("HTTP/1.1"), "it gets a TLS alert at most");
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    read_all(&mut half).await;
    let connector = connector(made.cert.der(), &[&version::TLS13]);
    let mut silent = connect(&connector, TcpStream::connect(server.address).await.unwrap()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut [0])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "a handshake alone holds no place: {ended:?}");
    server.stop.send(()).unwrap();
    server.stopped.await.unwrap().unwrap();
}

/// The certificate that a handshake shows.
async fn shown(tls: &Tls, trusted: &CertificateDer<'static>) -> Result<(), rustls::Error> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let connector = connector(trusted, &[&version::TLS13]);
    let connecting = connector.connect(ServerName::try_from("localhost").unwrap(), near);
    let (connected, _) = tokio::join!(connecting, tls.acceptor().accept(far));
    connected.map(drop).map_err(|error| rustls::Error::General(error.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_once_it_fits_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (certificate(), certificate());
    let paths = files(folder.path(), &old);
    let tls = Tls::open(paths.clone()).unwrap();
    assert!(shown(&tls, old.cert.der()).await.is_ok());
    // Half of a renewal. The length tells it where the clock of the files is too coarse to.
    fs::write(&paths.certificate, new.cert.pem() + "\n").unwrap();
    tls.reload_if_changed();
    assert!(shown(&tls, old.cert.der()).await.is_ok(), "the old pair stays in use");
    fs::write(&paths.key, new.signing_key.serialize_pem() + "\n").unwrap();
    tls.reload_if_changed();
    assert!(shown(&tls, new.cert.der()).await.is_ok());
    assert!(shown(&tls, old.cert.der()).await.is_err());
}

#[test]
fn files_that_are_no_certificate_are_told_apart() {
    let (folder, made) = (tempfile::tempdir().unwrap(), certificate());
    let good = files(folder.path(), &made);
    let missing = Tls::open(TlsFiles { key: folder.path().join("none"), ..good.clone() }).err();
    assert!(matches!(missing, Some(TlsError::Unreadable { .. })), "{missing:?}");
    let swapped = Tls::open(TlsFiles { certificate: good.key.clone(), key: good.certificate.clone() }).err();
    assert!(matches!(swapped, Some(TlsError::NotPem { what: "certificate", .. })), "{swapped:?}");
    fs::write(&good.key, certificate().signing_key.serialize_pem()).unwrap();
    let foreign = Tls::open(good).err();
    assert!(matches!(foreign, Some(TlsError::Unusable { .. })), "{foreign:?}");
}
