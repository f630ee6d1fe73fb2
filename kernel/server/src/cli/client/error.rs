//! Why a call to the server gave no answer that can be used: what the server refused and in which words, and how a connection failed; with
//! what the person at the keyboard can do about it.

use std::fmt;

use kith::error::DISK_FULL;
use serde::Deserialize;
use serde_json::Value;

/// A refusal as the server explains it (RFC 9457, with Kith's `code` and `message`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    #[serde(skip)]
    pub(crate) http_status: u16,
    /// The answer as it came, for `--json`.
    #[serde(skip)]
    pub(crate) document: Option<Value>,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) request_id: String,
    pub(crate) errors: Vec<Mistake>,
    /// For a stream that broke off: what was durably taken before.
    pub(crate) taken: Option<Value>,
    /// For a change that needs a confirmation: what it touches, and the token that confirms just that.
    #[serde(flatten)]
    pub(crate) details: serde_json::Map<String, Value>,
}

/// One mistake in a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Mistake {
    pub(crate) path: String,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (&self.detail, &self.title) {
            _ if !self.message.is_empty() => &self.message,
            (Some(detail), _) => detail,
            (None, Some(title)) => title,
            (None, None) => "the server gave no reason",
        };
        write!(f, "{text} ({}", self.http_status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        write!(f, ")")?;
        // A single mistake is the message already.
        for Mistake { path, message } in self.errors.iter().filter(|_| self.errors.len() > 1) {
            write!(f, "\n  - {path}: {message}")?;
        }
        if self.http_status >= 500 && !self.request_id.is_empty() {
            write!(f, "\n  request id: {}", self.request_id)?;
        }
        Ok(())
    }
}

/// Why a call to the server did not give an answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("no Kith server answers at {base_url}")]
    Unreachable { base_url: String, source: Box<ureq::Error> },
    /// The one that asks has an address that can be none.
    #[error("`{base_url}` is not a server's address: {problem}")]
    Address { base_url: String, problem: &'static str },
    #[error("what answers at {base_url} does not speak as a Kith server does")]
    OtherProtocol { base_url: String, source: Box<ureq::Error> },
    #[error("the connection to {base_url} broke")]
    Broken { base_url: String, source: Box<ureq::Error> },
    #[error("{0}")]
    Refused(Box<Problem>),
    #[error("{url} answered with something that is not JSON; is a Kith server there?")]
    NotJson { url: String, source: serde_json::Error },
}

impl ApiError {
    /// Why a server was not reached, or did not answer to the end.
    pub(super) fn of_connection(base_url: String, error: ureq::Error) -> ApiError {
        use ureq::Error;
        let is_unreachable = match &error {
            Error::Io(error) => is_of_no_connection(error),
            Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(ureq::Timeout::Connect) => true,
            _ => false,
        };
        let speaks_otherwise = tls_error(&error).is_some() || matches!(error, Error::Protocol(_));
        let source = Box::new(error);
        if is_unreachable {
            ApiError::Unreachable { base_url, source }
        } else if speaks_otherwise && !is_untrusted(&source) {
            ApiError::OtherProtocol { base_url, source }
        } else {
            ApiError::Broken { base_url, source }
        }
    }

    /// What the person at the keyboard can do about it, where that is known.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            ApiError::Unreachable { source, .. } | ApiError::Broken { source, .. } if is_untrusted(source) => Some(
                "where the server's certificate is not of a public authority, give the one that signed it with --ca (KITH_CA)",
            ),
            ApiError::Address { .. } => Some("write it with its scheme, e.g. --url http://127.0.0.1:7700 (KITH_URL)"),
            ApiError::OtherProtocol { .. } => Some(
                "see whether --url (KITH_URL) must begin with http:// or with https://, and whether Kith listens on that port",
            ),
            ApiError::Unreachable { .. } => {
                Some("start one with `kith serve`, or point --url (KITH_URL) at the one you mean")
            }
            ApiError::Broken { .. } => Some("what was acknowledged is kept; run the command again"),
            ApiError::Refused(problem) => match problem.http_status {
                401 => Some("give a key of this server with --key or KITH_KEY; `kith serve` printed the first one"),
                403 | 503 if problem.code == "workspace-suspended" => {
                    Some("a host key lets it go on: `kith workspace resume NAME`")
                }
                403 if problem.message.contains("workspaces:admin") => {
                    Some("this needs a host key: the first key of a server, or one of `kith key host`")
                }
                403 => Some(
                    "this key's scopes do not allow it; use one that has the scope, or make one with `kith key create`",
                ),
                503 if problem.code == DISK_FULL => {
                    Some("whoever runs the server has to make room on its disk; /readyz says when there is")
                }
                429 | 503 => Some("the server is busy or closing; try again in a moment"),
                _ => in_flags(&problem.message),
            },
            ApiError::NotJson { .. } => None,
        }
    }
}

/// What the server says in the words of its API, and how the command line does it.
const IN_FLAGS: [(&str, &str); 10] = [
    (
        "send a `config` with the upgrade",
        "give what is to be otherwise with --config, e.g. '{\"new\": 7, \"old\": null}'",
    ),
    ("`grants.http`", "name the host with --grant-http, or add --grants-later"),
    ("`grants.mail`", "name the relay with --grant-mail, or add --grants-later"),
    ("send `consent: true`", "--yes allows it"),
    ("set `mode` to `disabled`", "give it with --secret NAME=@FILE, or add --disabled"),
    ("`grants.sensitive`", "name each with --grant-sensitive, or add --grants-later"),
    ("without `strict`", "leave --strict out"),
    ("`GET /api/v1/dead-letters`", "`kith dead-letters list` lists them"),
    ("`GET /api/v1/identity/splits`", "`kith identity splits` lists them"),
    (
        "there is an installation `",
        "`kith plugin upgrade NAME` changes its version, `kith plugin change NAME` the rest; --name gives another one its name",
    ),
];

fn in_flags(message: &str) -> Option<&'static str> {
    IN_FLAGS.iter().find(|(words, _)| message.contains(words)).map(|(_, flags)| *flags)
}

/// Whether the server shows a certificate that nobody vouches for.
fn is_untrusted(error: &ureq::Error) -> bool {
    matches!(tls_error(error), Some(tokio_rustls::rustls::Error::InvalidCertificate(_)))
}

fn tls_error(error: &ureq::Error) -> Option<&tokio_rustls::rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|error| error.downcast_ref()),
        _ => None,
    }
}

/// Whether there never was a connection: nobody listens, no way leads there, or the name has no address.
fn is_of_no_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable)
        // A resolver's failure has no kind of its own.
        || error.to_string().contains("failed to lookup address information")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_as_one_message_with_its_mistakes() {
        let mut problem: Problem = serde_json::from_str(
            r#"{"status":400,"code":"bad-config","message":"the configuration is not valid","errors":[
                {"path":"config/columns","message":"missing"},{"path":"config/sepp","message":"unknown"}]}"#,
        )
        .unwrap();
        problem.http_status = 400;
        assert_eq!(
            problem.to_string(),
            "the configuration is not valid (400 bad-config)\n  - config/columns: missing\n  - config/sepp: unknown"
        );
    }

    /// What the server says of its API's members is said in the command line's flags too.
    #[test]
    fn words_of_the_api_are_put_into_flags() {
        let refused = |message: &str| {
            ApiError::Refused(Box::new(Problem { http_status: 400, message: message.to_owned(), ..Problem::default() }))
        };
        for (message, flag) in [
            (
                "config.url: `a.example` is not granted: name it in `grants.http`, or say `\"grants\": \"later\"`",
                "--grant-http",
            ),
            ("kith/webhook needs this secret; give it, or set `mode` to `disabled` until there is one", "--disabled"),
            ("`migrate` of a/b 0.2.0 makes {} of it: config: x; send a `config` with the upgrade", "--config"),
            ("condition: nobody has it; without `strict` it is taken", "--strict"),
            ("version 0.2.0 asks for more than the present one: x; send `consent: true` to allow it", "--yes"),
        ] {
            assert!(refused(message).advice().unwrap().contains(flag), "{message}");
        }
        assert_eq!(refused("something else").advice(), None);
    }
}
