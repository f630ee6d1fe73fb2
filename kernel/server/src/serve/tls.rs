//! TLS of the server's own: the certificate and key, read again when their files change or on SIGHUP, so that a renewed
//! certificate needs no restart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use kith_pipeline::offload;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, crypto};

/// Where the certificate and its key lie, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those that lead to the root.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{} cannot be read", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} holds no {what} in PEM; it begins `-----BEGIN {begins}-----`", .path.display())]
    NotPem { path: PathBuf, what: &'static str, begins: &'static str, source: pem::Error },
    #[error("the certificate {} cannot be used with the key {}", .files.certificate.display(), .files.key.display())]
    Unusable { files: TlsFiles, source: rustls::Error },
}

/// How often the files are looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// What tells a changed file: a renewal writes it again, or puts another in its place.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The certificate in use.
pub(super) struct Tls {
    files: TlsFiles,
    settings: ArcSwap<ServerConfig>,
    /// Of the files as they were last read, whether or not they could be used.
    read: Mutex<Stamp>,
}

impl Tls {
    /// Read the files. Blocking.
    pub(super) fn open(files: TlsFiles) -> Result<Tls, TlsError> {
        let stamp = stamp(&files);
        let settings = ArcSwap::from(load(&files)?);
        Ok(Tls { files, settings, read: Mutex::new(stamp) })
    }

    /// For one more connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.settings.load_full())
    }

    /// Read the files again. Where they cannot be used, e.g. because a renewal has replaced one of them so far, what was read
    /// before stays in use. Blocking.
    fn reload(&self) {
        *self.read.lock() = stamp(&self.files);
        let certificate = self.files.certificate.display();
        match load(&self.files) {
            Ok(settings) => {
                self.settings.store(settings);
                tracing::info!(%certificate, "the certificate was read again");
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::error!(%certificate, error, "the certificate in use stays: the one in its file cannot be used");
            }
        }
    }

    /// The same, where a file has changed.
    pub(super) fn reload_if_changed(&self) {
        let changed = *self.read.lock() != stamp(&self.files);
        if changed {
            self.reload();
        }
    }
}

/// Follow the files until the task is dropped.
pub(super) async fn follow(tls: Arc<Tls>) {
    let mut look = tokio::time::interval(LOOK_PERIOD);
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP is not heard; the certificate is read again when its file changes");
            None
        }
    };
    loop {
        let told = tokio::select! {
            _ = look.tick() => false,
            told = async { match &mut hangup { Some(hangup) => hangup.recv().await, None => std::future::pending().await } } => told.is_some(),
        };
        let tls = Arc::clone(&tls);
        offload::run(move || if told { tls.reload() } else { tls.reload_if_changed() }).await;
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    [&files.certificate, &files.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len()))
    })
}

fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let read = |path: &Path| fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source });
    let certificates = CertificateDer::pem_slice_iter(&read(&files.certificate)?).collect::<Result<Vec<_>, _>>();
    let certificates =
        certificates.and_then(|all| if all.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(all) });
    let not_pem = |path: &Path, what, begins| {
        let path = path.to_owned();
        move |source| TlsError::NotPem { path, what, begins, source }
    };
    let certificates = certificates.map_err(not_pem(&files.certificate, "certificate", "CERTIFICATE"))?;
    let key = zeroize::Zeroizing::new(read(&files.key)?);
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(not_pem(&files.key, "private key", "PRIVATE KEY"))?;
    let unusable = |source| TlsError::Unusable { files: files.clone(), source };
    let settings = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(unusable)?
        .with_no_client_auth();
    let mut settings = settings.with_single_cert(certificates, key).map_err(unusable)?;
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(settings))
}
