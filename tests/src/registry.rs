//! A registry of the OCI's distribution API on this machine: Debian's `docker-registry` where it is installed, and a small one of the
//! tests' own that keeps everything in memory.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{Client, wait_until};

/// The program of the Debian package of the same name.
const DEBIANS: &str = "docker-registry";

/// A registry that runs until it is dropped.
pub struct Registry {
    authority: String,
    /// Debian's, with its folder.
    program: Option<(Child, TempDir)>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.program {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Registry {
    /// Debian's, where it is installed.
    pub fn debians() -> Option<Registry> {
        let mut version = Command::new(DEBIANS);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        if !version.status().is_ok_and(|status| status.success()) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // It takes no port 0, so that this one is let go for it.
        let authority = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let storage = folder.path().join("storage");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {authority}\n",
            storage.display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(DEBIANS);
        command.arg("serve").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let registry = Registry { authority, program: Some((child, folder)) };
        let client = Client::new(&format!("http://{}", registry.authority), None);
        wait_until("the registry listens", || client.try_send("GET", "/v2/", &[], "").is_ok());
        Some(registry)
    }

    /// The tests' own.
    pub fn own() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let stored = Arc::new(Mutex::new(Stored::default()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(&stream, &mut stored.lock().unwrap());
            }
        });
        Registry { authority, program: None }
    }

    /// `oci://` and where a repository of it is.
    pub fn repository(&self, name: &str) -> String {
        format!("oci://{}/{name}", self.authority)
    }
}

/// What the tests' own registry holds, by repository and name.
#[derive(Default)]
struct Stored {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<(String, String), Vec<u8>>,
}

/// Answer one request, after which the connection ends.
fn answer(mut stream: &TcpStream, stored: &mut Stored) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim_end().is_empty() {
            break;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            Some(_) => {}
            None => first = line,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, headers, content) = stored.answer(method, target, body);
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: application/octet-stream\r\n{headers}content-length: {}\r\n\r\n",
        content.len()
    );
    let sent = if method == "HEAD" { head.into_bytes() } else { [head.as_bytes(), &content].concat() };
    // Who asked may have gone.
    drop(stream.write_all(&sent));
}

impl Stored {
    fn answer(&mut self, method: &str, target: &str, body: Vec<u8>) -> (u16, String, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let nothing = |status: u16| (status, String::new(), Vec::new());
        let Some(place) = path.strip_prefix("/v2/") else { return nothing(404) };
        let digest = format!("sha256:{}", Sha256::digest(&body).iter().map(|b| format!("{b:02x}")).collect::<String>());
        if let Some((repository, name)) = place.split_once("/manifests/") {
            let key = |name: &str| (repository.to_owned(), name.to_owned());
            return match method {
                "PUT" if !self.has_all(&body) => nothing(400),
                "PUT" => {
                    self.manifests.insert(key(&digest), body.clone());
                    self.manifests.insert(key(name), body);
                    (201, format!("docker-content-digest: {digest}\r\n"), Vec::new())
                }
                _ => self.manifests.get(&key(name)).map_or(nothing(404), |found| (200, String::new(), found.clone())),
            };
        }
        match (method, place.split_once("/blobs/")) {
            ("POST", Some((repository, "uploads/"))) => {
                (202, format!("location: /v2/{repository}/blobs/uploads/one?of=two\r\n"), Vec::new())
            }
            ("PUT", Some(_)) if query.ends_with(&format!("digest={}", digest.replace(':', "%3A"))) => {
                self.blobs.insert(digest, body);
                nothing(201)
            }
            ("GET" | "HEAD", Some((_, digest))) => {
                self.blobs.get(digest).map_or(nothing(404), |found| (200, String::new(), found.clone()))
            }
            _ => nothing(400),
        }
    }

    /// Whether what a manifest names is here, as registries insist.
    fn has_all(&self, manifest: &[u8]) -> bool {
        let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        let named: Vec<Value> = layers.into_iter().chain([manifest["config"].clone()]).collect();
        named.iter().all(|blob| blob["digest"].as_str().is_some_and(|digest| self.blobs.contains_key(digest)))
    }
}
