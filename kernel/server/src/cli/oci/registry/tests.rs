//! Registries of one answer each: whom a login and a token reach, and what of a registry is believed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

/// A request that came.
#[derive(Debug, Clone)]
struct Asked {
    /// E.g. `GET /v2/x/manifests/1`.
    line: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

/// What answers one.
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

fn answer(status: u16, headers: &str, body: &[u8]) -> Answer {
    Answer { status, headers: headers.to_owned(), body: body.to_vec() }
}

/// A server on this machine that answers each request by itself; its authority, and what came.
struct Peer {
    authority: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Peer {
    fn start(respond: impl Fn(&Asked, &str) -> Answer + Send + 'static) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let peer = Peer { authority: authority.clone(), asked: Arc::default() };
        let asked = Arc::clone(&peer.asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read(&stream);
                let Answer { status, headers, body } = respond(&request, &authority);
                asked.lock().unwrap().push(request);
                let head = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
                    body.len()
                );
                drop(stream.write_all(&[head.as_bytes(), &body].concat()));
            }
        });
        peer
    }

    fn reference(&self, rest: &str) -> Reference {
        format!("oci://{}/{rest}", self.authority).parse().unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.line.clone()).collect()
    }
}

fn read(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut asked = Asked { line: String::new(), authorization: None, body: Vec::new() };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end();
        match line.split_once(": ") {
            _ if line.is_empty() => break,
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                asked.authorization = Some(value.to_owned());
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            Some(_) => {}
            None => asked.line = line.trim_end_matches(" HTTP/1.1").to_owned(),
        }
    }
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body).unwrap();
    asked
}

/// Logins of `ada` at these registries.
fn logins(hosts: &[&str]) -> Logins {
    let auths = hosts.iter().map(|host| format!(r#""{host}":{{"auth":"YWRhOnNlY3JldA=="}}"#)).collect::<Vec<_>>();
    serde_json::from_str(&format!(r#"{{"auths":{{{}}}}}"#, auths.join(","))).unwrap()
}

const LOGIN: Option<&str> = Some("Basic YWRhOnNlY3JldA==");

#[test]
fn a_token_is_asked_for_and_neither_it_nor_the_login_leaves_the_registry() {
    let store = Peer::start(|_, _| answer(200, "", b"component"));
    let place = store.authority.clone();
    let registry = Peer::start(move |asked, own| {
        let challenge = format!("www-authenticate: Bearer realm=\"http://{own}/token\",service=\"it self\"\r\n");
        let has_token = asked.authorization.as_deref() == Some("Bearer abc");
        match asked.line.as_str() {
            line if line.starts_with("GET /token?") => answer(200, "", br#"{"token":"abc"}"#),
            _ if !has_token => answer(401, &challenge, b""),
            line if line.contains("/manifests/") => answer(200, "", b"manifest"),
            _ => answer(307, &format!("location: http://{place}/blob\r\n"), b""),
        }
    });
    let (reference, logins) = (registry.reference("acme/x:1"), logins(&[registry.authority.as_str()]));
    let client = Registry::new(&reference, Access::Pull, &logins, Transport::Plain).unwrap();
    let (manifest, digest) = client.manifest("1").unwrap().unwrap();
    assert_eq!((manifest.as_slice(), digest), (&b"manifest"[..], Digest::of(b"manifest")));
    assert_eq!(client.blob(&Digest::of(b"component"), 9).unwrap(), b"component");
    let blob = format!("GET /v2/acme/x/blobs/{}", Digest::of(b"component"));
    let token = "GET /token?service=it%20self&scope=repository%3Aacme%2Fx%3Apull";
    let manifest = "GET /v2/acme/x/manifests/1";
    assert_eq!(registry.lines(), [manifest, token, manifest, &blob], "one token is enough");
    let asked = registry.asked.lock().unwrap();
    assert_eq!((asked[0].authorization.as_deref(), asked[1].authorization.as_deref()), (None, LOGIN));
    assert_eq!(store.asked.lock().unwrap()[0].authorization, None, "the store of blobs is another host");
}

#[test]
fn a_login_is_sent_where_a_registry_asks_for_one_and_told_of_where_there_is_none() {
    let registry = Peer::start(|asked, _| match asked.authorization.as_deref() {
        LOGIN => answer(404, "", b""),
        _ => answer(401, "www-authenticate: Basic realm=\"x\"\r\n", b""),
    });
    let reference = registry.reference("x:1");
    let own = logins(&[registry.authority.as_str()]);
    let client = Registry::new(&reference, Access::Pull, &own, Transport::Plain).unwrap();
    assert!(client.manifest("1").unwrap().is_none());
    let none = logins(&["ghcr.io"]);
    let client = Registry::new(&reference, Access::Pull, &none, Transport::Plain).unwrap();
    let error = client.manifest("1").unwrap_err();
    assert!(error.to_string().contains(&format!("docker login {}", registry.authority)), "{error}");
}

#[test]
fn what_is_not_the_bytes_of_its_digest_is_refused() {
    let registry = Peer::start(|asked, _| match asked.line.as_str() {
        line if line.contains("/manifests/") => {
            let other = Digest::of(b"other");
            answer(200, &format!("docker-content-digest: {other}\r\n"), b"manifest")
        }
        line if line.contains(Digest::of(b"cut").as_str()) => answer(200, "", b"cu"),
        _ => answer(200, "", b"component"),
    });
    let (reference, logins) = (registry.reference("x:1"), Logins::default());
    let client = Registry::new(&reference, Access::Pull, &logins, Transport::Plain).unwrap();
    let pinned = Digest::of(b"pinned");
    for wanted in ["1", pinned.as_str()] {
        let error = client.manifest(wanted).unwrap_err();
        assert!(matches!(error, OciError::OtherBytes { .. }), "{wanted}: {error}");
    }
    for (bytes, size) in [(&b"another"[..], 9), (&b"cut"[..], 3)] {
        let error = client.blob(&Digest::of(bytes), size).unwrap_err();
        assert!(matches!(error, OciError::OtherBytes { .. }), "{error}");
    }
    let long = client.blob(&Digest::of(b"component"), 8).unwrap_err();
    assert!(matches!(long, OciError::TooLarge { most: 8, .. }), "{long}");
}

#[test]
fn nobody_is_sent_where_there_is_no_tls() {
    let others = ["http://10.0.0.1/x", "http://127.0.0.1:9@a.example/x", "//a.example/x", "ftp://a.example", "x", ""];
    for target in others {
        let registry = Peer::start(move |asked, _| match asked.line.as_str() {
            line if line.contains("/blobs/") => answer(302, &format!("location: {target}\r\n"), b""),
            _ => answer(401, &format!("www-authenticate: Bearer realm=\"{target}\"\r\n"), b""),
        });
        let reference = registry.reference("x:1");
        let logins = logins(&[registry.authority.as_str()]);
        let client = Registry::new(&reference, Access::Pull, &logins, Transport::Plain).unwrap();
        for error in [client.blob(&Digest::of(b""), 1).unwrap_err(), client.manifest("1").unwrap_err()] {
            assert!(matches!(error, OciError::Redirect { .. }), "{target}: {error}");
        }
    }
    let around = Peer::start(|asked, own| answer(307, &format!("location: http://{own}{}\r\n", &asked.line[4..]), b""));
    let reference = around.reference("x:1");
    let logins = Logins::default();
    let client = Registry::new(&reference, Access::Pull, &logins, Transport::Plain).unwrap();
    assert!(matches!(client.manifest("1"), Err(OciError::Redirect { .. })));
    assert_eq!(around.lines().len(), MAX_REDIRECTS + 1);
    let far: Reference = "oci://ghcr.io/x:1".parse().unwrap();
    let refused = Registry::new(&far, Access::Pull, &logins, Transport::Plain).err().unwrap();
    assert_eq!(refused.exit_code(), 2, "{refused}");
}

#[test]
fn what_is_put_is_put_whole_and_once() {
    let registry = Peer::start(|asked, _| match asked.line.split(' ').next().unwrap_or_default() {
        "HEAD" if asked.line.ends_with(Digest::of(b"there").as_str()) => answer(200, "", b""),
        "HEAD" => answer(404, "", b""),
        "POST" => answer(202, "location: /v2/acme/x/blobs/uploads/1?_state=a\r\n", b""),
        _ if asked.line.ends_with("/manifests/taken") => {
            answer(409, "", br#"{"errors":[{"code":"TAG_INVALID","message":"it is im\u001bmutable"}]}"#)
        }
        _ => answer(201, "", b""),
    });
    let (reference, logins) = (registry.reference("acme/x:1"), Logins::default());
    let client = Registry::new(&reference, Access::Push, &logins, Transport::Plain).unwrap();
    client.put_blob(b"there", &Digest::of(b"there")).unwrap();
    client.put_blob(b"component", &Digest::of(b"component")).unwrap();
    client.put_manifest(b"manifest", "1").unwrap();
    let [there, new] =
        [&b"there"[..], b"component"].map(|bytes| format!("HEAD /v2/acme/x/blobs/{}", Digest::of(bytes)));
    let digest = Digest::of(b"component").to_string().replace(':', "%3A");
    let put = format!("PUT /v2/acme/x/blobs/uploads/1?_state=a&digest={digest}");
    let lines = [there.as_str(), &new, "POST /v2/acme/x/blobs/uploads/", &put, "PUT /v2/acme/x/manifests/1"];
    assert_eq!(registry.lines(), lines);
    assert_eq!(registry.asked.lock().unwrap()[3].body, b"component");
    let refused = client.put_manifest(b"manifest", "taken").unwrap_err().to_string();
    assert!(refused.contains("(409): TAG_INVALID: it is im\\u{1b}mutable"), "{refused}");
}
