//! The logins of registries, as `docker login` and its like keep them: `config.json` in the folder that `DOCKER_CONFIG` names, or
//! in `~/.docker`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kith_model::secret::Secret;
use serde::Deserialize;

use crate::cli::Failure;

/// No file of logins is larger.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The names of the one registry that has several.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What a file of logins holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Logins {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
    /// Where it was read, or would have been.
    #[serde(skip)]
    path: PathBuf,
}

/// One login.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// `NAME:PASSWORD` in base64.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(…)")
    }
}

impl Entry {
    /// As the value of `Authorization`.
    fn basic(&self) -> Option<Secret> {
        let encoded = match (&self.auth, &self.username, &self.password) {
            (Some(auth), ..) if !auth.is_empty() => {
                let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok())?;
                // Some write a NUL behind the password.
                STANDARD.encode(decoded.trim_end_matches('\0'))
            }
            (_, Some(name), Some(password)) => STANDARD.encode(format!("{name}:{password}")),
            _ => return None,
        };
        Some(format!("Basic {encoded}").into())
    }
}

impl Logins {
    /// Those of the folder that is named, or of the person's own. Where there is no file there are none.
    pub(crate) fn read(folder: Option<&Path>) -> Result<Logins, Failure> {
        let own = || std::env::home_dir().map(|home| home.join(".docker"));
        let Some(folder) = folder.map(Path::to_path_buf).or_else(own) else { return Ok(Logins::default()) };
        let path = folder.join("config.json");
        let failed = |source| Failure::File { what: "read", path: path.clone(), source };
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Logins { path, ..Logins::default() });
            }
            Err(error) => return Err(failed(error)),
        };
        if length > MAX_FILE_BYTES {
            return Err(Failure::Usage(format!("{} is of more than {MAX_FILE_BYTES} bytes", path.display())));
        }
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        // What is wrong in it may stand beside a password, so that only the place is told.
        let read = |error: serde_json::Error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Failure::Usage(format!("{} is no file of logins: {place}", path.display()))
        };
        let logins: Logins = serde_json::from_str(&text).map_err(read)?;
        Ok(Logins { path, ..logins })
    }

    /// What to send to a registry, as the value of `Authorization`: of the logins that can be used the one whose name has most of the
    /// repository's path, as other tools choose it.
    pub(crate) fn basic(&self, host: &str, repository: &str) -> Option<Secret> {
        let usable = self.auths.iter().filter_map(|(name, entry)| {
            let nearness = nearness(name, host, repository)?;
            Some((nearness, entry.basic()?))
        });
        usable.max_by_key(|(nearness, _)| *nearness).map(|(_, login)| login)
    }

    /// What a person can do who is asked for a login.
    pub(crate) fn advice(&self, host: &str) -> String {
        let path = self.path.display();
        let helper = self.cred_helpers.iter().find(|(name, _)| is_of(name, host)).map(|(_, helper)| helper);
        match helper.or(self.creds_store.as_ref()) {
            Some(helper) => format!(
                "{path} leaves it to the program `{helper}`, which is not asked; write it into `auths` of a file of its own \
                 and name the folder with --docker-config"
            ),
            None => format!("`docker login {host}` writes one into {path}; see that it may do this"),
        }
    }
}

/// How near an entry is to a repository of a registry, by its name; `None` where it is another's. A name has the parts of a path that
/// it holds for, as in `ghcr.io/acme`; what stands behind one with a scheme, as in `https://index.docker.io/v1/`, is the API's.
fn nearness(name: &str, host: &str, repository: &str) -> Option<(usize, bool)> {
    let (named, path, is_plain) = match name.split_once("://") {
        Some((_, rest)) => (rest.split('/').next().unwrap_or_default(), "", false),
        None => {
            let (named, path) = name.split_once('/').unwrap_or((name, ""));
            (named, path.trim_end_matches('/'), true)
        }
    };
    let is_hub = DOCKER_HUB.contains(&named.to_ascii_lowercase().as_str()) && DOCKER_HUB.contains(&host);
    let is_within = |rest: &str| path.is_empty() || rest.is_empty() || rest.starts_with('/');
    let is_of = named.eq_ignore_ascii_case(host) || is_hub;
    (is_of && repository.strip_prefix(path).is_some_and(is_within)).then_some((path.len(), is_plain))
}

/// Whether the name of a program's entry is a registry's.
fn is_of(name: &str, host: &str) -> bool {
    nearness(name, host, "").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(text: &str) -> Logins {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        Logins::read(Some(folder.path())).unwrap()
    }

    #[test]
    fn the_login_of_a_registry_is_found_by_its_host() {
        // `ada:secret`, and the same with the NUL that some write behind it.
        let logins = logins(
            r#"{ "auths": {
                "ghcr.io": { "auth": "YWRhOnNlY3JldA==" },
                "https://index.docker.io/v1/": { "auth": "YWRhOnNlY3JldAA=" },
                "127.0.0.1:5000": { "username": "ada", "password": "secret" },
                "empty.example": {}
            }, "HttpHeaders": { "x": "y" } }"#,
        );
        for host in ["ghcr.io", "docker.io", "registry-1.docker.io", "127.0.0.1:5000"] {
            assert_eq!(logins.basic(host, "acme/crm").unwrap().expose(), "Basic YWRhOnNlY3JldA==", "{host}");
        }
        for host in ["empty.example", "ghcr.io.example", "127.0.0.1:5001", "example"] {
            assert!(logins.basic(host, "acme/crm").is_none(), "{host}");
        }
        assert!(!format!("{logins:?}").contains("secret"), "{logins:?}");
    }

    #[test]
    fn of_several_logins_the_one_with_most_of_the_path_is_taken() {
        let login = |name: &str| format!(r#""{name}": {{ "username": "{name}", "password": "p" }}"#);
        let names = ["ghcr.io", "ghcr.io/acme", "ghcr.io/acme/crm/", "https://ghcr.io/other", "docker.io/acme"];
        let empty = r#""ghcr.io/acme/crm/inner": {}"#.to_owned();
        let all: Vec<String> = names.into_iter().map(login).chain([empty]).collect();
        let logins = logins(&format!(r#"{{ "auths": {{ {} }} }}"#, all.join(", ")));
        for (host, repository, expected) in [
            ("ghcr.io", "acme/crm", Some("ghcr.io/acme/crm/")),
            ("ghcr.io", "acme/crm/inner", Some("ghcr.io/acme/crm/")),
            ("ghcr.io", "acme/crm2", Some("ghcr.io/acme")),
            ("ghcr.io", "acme", Some("ghcr.io/acme")),
            // What stands behind a scheme and a host is no part of a repository's path.
            ("ghcr.io", "acme2/crm", Some("ghcr.io")),
            ("ghcr.io", "other", Some("ghcr.io")),
            ("registry-1.docker.io", "acme/crm", Some("docker.io/acme")),
            ("registry-1.docker.io", "other/crm", None),
        ] {
            let expected = expected.map(|name| format!("Basic {}", STANDARD.encode(format!("{name}:p"))));
            let found = logins.basic(host, repository).map(|login| login.expose().to_owned());
            assert_eq!(found, expected, "{host}/{repository}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_holds_none_and_one_that_does_not_read_is_named_without_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let none = Logins::read(Some(folder.path())).unwrap();
        assert!(none.basic("ghcr.io", "acme/crm").is_none() && none.advice("ghcr.io").contains("docker login ghcr.io"));
        std::fs::write(folder.path().join("config.json"), r#"{ "auths": { "a": { "password": hush } } }"#).unwrap();
        let failure = Logins::read(Some(folder.path())).unwrap_err();
        assert!(failure.exit_code() == 2 && !failure.to_string().contains("hush"), "{failure}");
        let helped = logins(r#"{ "credsStore": "desktop", "credHelpers": { "ghcr.io": "gh" } }"#);
        assert!(helped.advice("ghcr.io").contains("`gh`") && helped.advice("other.example").contains("`desktop`"));
    }
}
