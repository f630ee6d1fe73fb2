//! What stands between the server and the world around it: who may read its files, who may listen in, and which private
//! networks its plugins reach.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kith_tests::{ADMIN_KEY, Client, Neighbour, Process, component, kith, settle, wait_until};
use serde_json::json;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Where the story itself sends nothing: the plugin that is compiled soonest.
fn neighbour() -> Arc<Neighbour> {
    Arc::new(Neighbour::through("hostile/connector"))
}

/// All files and folders below, and itself.
fn tree(path: &Path) -> Vec<PathBuf> {
    let inside = std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = inside.flat_map(|entry| tree(&entry)).collect();
    all.push(path.to_owned());
    all
}

/// A volume's mount point comes with 0755, and the journal in it was once 0644: all people, for every local user.
#[test]
fn nothing_in_a_used_data_directory_is_for_others() {
    for engine in ["sled", "redb"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let neighbour = Arc::default();
        for start in 0..2 {
            let server = Process::serve_beside(&neighbour, folder.path(), &["--engine", engine]);
            let admin = server.admin();
            if start == 0 {
                let segment = component("kith/segment").component.clone();
                admin.send("POST", "/api/v1/plugins", &[], segment).is(201);
                let source = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
                let write_key = source["write_key"].as_str().unwrap();
                let ada = json!({ "batch": [{ "type": "track", "userId": "ada", "event": "Seen", "messageId": "1" }] });
                Client::with_write_key(server.url(), write_key).post("/v1/batch", &ada).is(200);
            }
            settle(&admin);
            assert!(server.terminate().success());
        }
        let all = tree(folder.path());
        let open: Vec<_> = all
            .iter()
            .map(|path| (path, path.symlink_metadata().unwrap().permissions().mode() & 0o777))
            .filter(|(_, mode)| mode & 0o077 != 0)
            .collect();
        assert!(open.is_empty(), "{open:?}");
        for part in ["host.key", "artifacts", "cache", "store"] {
            assert!(all.contains(&folder.path().join(part)), "{part} was looked at, of {all:?}");
        }
    }
}

#[test]
fn other_machines_are_not_served_in_clear_text() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let refused = Command::new(kith()).args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(&data).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("--tls-certificate") && said.contains("--behind-proxy"), "{said}");
    assert!(!data.exists(), "it is refused before anything is made");
    let proxied = Process::serve_beside(&neighbour(), &data, &["--listen", "0.0.0.0:0", "--behind-proxy"]);
    assert!(proxied.terminate().success());
}

/// Write a certificate for this machine, which is its own root; an agent that trusts it alone.
fn certify(folder: &Path) -> Agent {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("server.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("server.pem"), made.cert.pem()).unwrap();
    let root = Certificate::from_der(made.cert.der()).to_owned();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root])).build();
    Agent::config_builder().tls_config(tls).max_idle_connections(0).build().into()
}

#[test]
fn a_certificate_is_renewed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let old = certify(folder.path());
    let [certificate, key] = ["server.pem", "server.key"].map(|file| folder.path().join(file).display().to_string());
    let flags = ["--tls-certificate", &certificate, "--tls-key", &key];
    let server = Process::serve_beside(&neighbour(), &folder.path().join("data"), &flags);
    assert!(server.url().starts_with("https://"), "{}", server.url());
    let alive = format!("{}/healthz", server.url());
    let answer = old.get(&alive).call().unwrap();
    assert!(answer.headers().contains_key("strict-transport-security"));
    let asks = |further: &[&str]| {
        let command = ["--url", server.url(), "--key", ADMIN_KEY, "status"];
        let asked = Command::new(kith()).args(command).args(further).output().unwrap();
        (asked.status.success(), String::from_utf8_lossy(&asked.stderr).into_owned())
    };
    assert_eq!(asks(&["--ca", &certificate]), (true, String::new()));
    let (trusts, said) = asks(&[]);
    assert!(!trusts && said.contains("--ca"), "{said}");
    let (trusts, said) = asks(&["--ca", &key]);
    assert!(!trusts && said.contains("holds no certificate"), "{said}");
    let new = certify(folder.path());
    server.hang_up();
    wait_until("the new certificate is shown", || new.get(&alive).call().is_ok());
    assert!(old.get(&alive).call().is_err());
    assert!(server.terminate().success());
}

#[test]
fn a_private_range_needs_the_server_and_the_grant() {
    let folder = tempfile::tempdir().unwrap();
    let loopback = Command::new(kith())
        .args(["serve", "--listen", "127.0.0.1:0", "--allow-network", "127.0.0.0/8", "--data"])
        .arg(folder.path().join("none"))
        .output()
        .unwrap();
    assert_eq!(loopback.status.code(), Some(2), "the machine itself is no private network");
    assert!(String::from_utf8_lossy(&loopback.stderr).contains("--allow-loopback"));

    let networks = ["--allow-network", "10.0.0.0/8", "--allow-network", "fd12::/32"];
    let server = Process::serve_beside(&neighbour(), folder.path(), &networks);
    let admin = server.admin();
    admin.send("POST", "/api/v1/plugins", &[], component("kith/webhook").component.clone()).is(201);
    let install = |name: &str, networks: &[&str]| {
        admin.post(
            "/api/v1/installations",
            &json!({
                "plugin": "kith/webhook", "name": name, "mode": "disabled",
                "config": { "url": "https://crm.example/hook" },
                "grants": { "http": ["crm.example"], "networks": networks },
            }),
        )
    };
    let granted = install("granted", &["10.1.0.0/16", "192.168.0.0/16"]).is(201);
    let policy = &granted["effective_policy"];
    assert_eq!(policy["networks"], json!(["10.1.0.0/16"]));
    let without_effect = policy["without_effect"].to_string();
    assert!(without_effect.contains("--allow-network for `192.168.0.0/16`"), "{without_effect}");
    assert_eq!(install("nothing", &[]).is(201)["effective_policy"]["networks"], json!([]));
    for range in ["127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/0", "1.1.1.0/24", "10.0.0.1/8"] {
        let refused = install("refused", &[range]).is(400);
        assert_eq!(refused["errors"][0]["path"], "grants.networks[0]", "{range}");
    }
}
