//! The command line: what can be asked, and how an answer or a failure is shown.
//!
//! `serve`, `demo` and `plugin new|check|schema|build|run|test|keygen|sign` work on this machine; everything else is a client of the
//! HTTP API and can do no more than any other client. Each command is a module of its own.

mod args;
mod audience;
mod audit;
mod catalog;
mod client;
mod consent;
mod consents;
mod delivery;
mod demo;
mod dictionary;
mod digits;
#[cfg(test)]
mod documents;
mod identity;
mod import;
mod key;
mod letters;
mod oci;
mod output;
mod plugin;
mod profile;
mod publisher;
mod quality;
mod rules;
mod scaffold;
mod serve;
mod status;
mod tracking;
mod workspace;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use kith::plugin_build::BuildError;
use serde_json::{Value, json};

use args::{Cli, Command};
use client::{ApiError, Client};
use output::AnswerFormat;
use ureq::tls::{PemItem, RootCerts, parse_pem};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("could not {what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    /// The request makes no sense; exit code 2, as for arguments that cannot be read.
    #[error("{0}")]
    Usage(String),
    /// A part of an import was rejected; exit code 2.
    #[error("{0}")]
    Rejected(String),
    /// Something did not come out as it must.
    #[error("{0}")]
    Failed(String),
    /// The same under a code that servers have for it.
    #[error("{message}")]
    Coded { code: String, message: String },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    /// Already said on standard error.
    #[error("failed")]
    Said,
    /// Nobody reads the answer to its end.
    #[error("the answer was not read to its end")]
    Unread,
    #[error("could not write the answer")]
    Answer(#[source] std::io::Error),
    #[error("{what}")]
    Server { what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Failure {
    /// 2 for a request that makes no sense and for records that were rejected, 0 where the reader had enough, 1 for everything else.
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Rejected(_) | Failure::Api(ApiError::Address { .. }) => 2,
            Failure::Unread => 0,
            Failure::Api(_)
            | Failure::Build(_)
            | Failure::File { .. }
            | Failure::Failed(_)
            | Failure::Coded { .. }
            | Failure::Listen { .. }
            | Failure::Said
            | Failure::Answer(_)
            | Failure::Server { .. } => 1,
        }
    }

    /// What to show: for people the message, its causes, and what to do; for programs a problem document as the server's are, or the
    /// server's own. Nothing where all was said.
    fn report(&self, format: AnswerFormat) -> Option<String> {
        if matches!(self, Failure::Said | Failure::Unread) {
            return None;
        }
        Some(if format.is_json() { digits::pretty(&self.document()) } else { self.text() })
    }

    fn text(&self) -> String {
        let mut report = self.to_string();
        // A manifest's mistakes and the compiler's come with their own heading.
        if !report.starts_with("error") {
            report.insert_str(0, "error: ");
        }
        for cause in self.causes() {
            report.push_str(&format!("\n  because: {cause}"));
        }
        if let Some(advice) = self.advice() {
            report.push_str(&format!("\n  try: {advice}"));
        }
        report
    }

    fn document(&self) -> Value {
        let own = || json!({ "code": self.code(), "message": self.to_string(), "causes": self.causes() });
        let mut document = match self {
            Failure::Api(ApiError::Refused(problem)) => problem.document.clone().unwrap_or_else(
                || json!({ "status": problem.http_status, "code": problem.code, "message": problem.message }),
            ),
            Failure::Build(error) => {
                let mut document = own();
                let findings = error.findings();
                if !findings.is_empty() {
                    document["findings"] = json!(findings);
                }
                document
            }
            _ => own(),
        };
        if let Some(advice) = self.advice() {
            document["advice"] = json!(advice);
        }
        document
    }

    /// What programs tell failures apart by that are not the server's.
    fn code(&self) -> &str {
        match self {
            Failure::Api(ApiError::Refused(_)) => "refused",
            Failure::Api(ApiError::Address { .. }) | Failure::Usage(_) => "usage",
            Failure::Api(ApiError::Unreachable { .. }) => "unreachable",
            Failure::Api(ApiError::OtherProtocol { .. } | ApiError::NotJson { .. }) => "no-kith-server",
            Failure::Api(ApiError::Broken { .. }) => "connection-broken",
            Failure::Build(_) => "build",
            Failure::File { .. } | Failure::Answer(_) => "file",
            Failure::Rejected(_) => "rejected",
            Failure::Listen { .. } => "listen",
            Failure::Server { .. } => "server",
            Failure::Coded { code, .. } => code,
            Failure::Failed(_) | Failure::Said | Failure::Unread => "failed",
        }
    }

    /// What led to it, without what was said already.
    fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(self);
        let mut said = self.to_string();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !said.contains(&text) {
                causes.push(text.clone());
                said = text;
            }
            source = cause.source();
        }
        causes
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Failure::Api(error) => error.advice(),
            Failure::Listen { .. } => Some("another address with --listen; port 0 takes a free one"),
            Failure::File { source, what, .. } => match (source.kind(), *what) {
                (ErrorKind::IsADirectory, "read" | "open") => Some("the file itself; that is a folder"),
                (ErrorKind::AlreadyExists, _) => Some("another name; what is there is not written over"),
                (ErrorKind::NotFound, "make" | "write") => Some("a folder that is there; none is made for it"),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Read the arguments, carry the command out, and say how it ended.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return say_usage(&error),
    };
    let format = if cli.json { AnswerFormat::Json } else { AnswerFormat::Text };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(report) = failure.report(format) {
                eprintln!("{report}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Say why the arguments cannot be read, or the help that they ask for; to a program as any other failure.
fn say_usage(error: &clap::Error) -> ExitCode {
    let is_for_a_program = error.use_stderr() && std::env::args_os().any(|argument| argument == "--json");
    if is_for_a_program {
        let text = error.render().to_string();
        let message = text.trim().strip_prefix("error: ").unwrap_or(&text).to_owned();
        eprintln!("{}", digits::pretty(&Failure::Usage(message).document()));
    } else {
        // Nobody may be reading it, which is no reason to panic.
        drop(error.print());
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Carry out one command.
fn run(cli: Cli) -> Result<(), Failure> {
    let roots = cli.connection.ca().as_deref().map(roots).transpose()?;
    let client = || Client::trusting(&cli.connection.url(), cli.connection.key().as_deref(), roots.clone());
    let format = if cli.json { AnswerFormat::Json } else { AnswerFormat::Text };
    match cli.command {
        Command::Serve(args) => serve::run(args, format),
        Command::Demo(args) => demo::run(args, format),
        Command::Plugin(command) => plugin::run(command, client, format),
        Command::Publisher(args) => publisher::run(&args, &client(), format),
        Command::Import(args) => import::run(&args, &client(), format),
        Command::Profile(command) => profile::run(&command, &client(), format),
        Command::Consent(command) => consents::run(&command, &client(), format),
        Command::Identity(command) => identity::run(&command, &client(), format),
        Command::Audience(command) => audience::run(&command, &client(), format),
        Command::Catalog(args) => catalog::run(&args, &client(), format),
        Command::Source(command) => quality::run(&command, &client(), format),
        Command::Tracking(command) => tracking::run(&command, &client(), format),
        Command::Dictionary(command) => dictionary::run(&command, &client(), format),
        Command::Rules(command) => rules::run(&command, &client()),
        Command::Key(command) => key::run(&command, &client(), format),
        Command::Workspace(command) => workspace::run(&command, &client(), format),
        Command::Delivery(command) => delivery::run(&command, &client(), format),
        Command::DeadLetters(command) => letters::run(&command, &client(), format),
        Command::Audit(command) => audit::run(&command, &client(), format),
        Command::Status => status::run(&client(), format),
        Command::UnpackChild(args) => import::unpack_child(&args),
        Command::CompileChild { yielding } => serve::compile_child(yielding),
    }
}

/// The certificates of a file.
fn roots(path: &Path) -> Result<RootCerts, Failure> {
    let failed = |source| Failure::File { what: "read", path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(failed)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(Failure::Usage(format!("{} is not in PEM form: {error}", path.display()))),
        }
    }
    if certificates.is_empty() {
        return Err(Failure::Usage(format!("{} holds no certificate in PEM form", path.display())));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// Print a value for programs.
fn print_json(value: &Value) -> Result<(), Failure> {
    output::say(digits::pretty(value))
}

/// The members of a list: bare, or under `items`.
fn items(answer: &Value) -> &[Value] {
    answer.get("items").unwrap_or(answer).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text from an argument as it stands, or of `@FILE`.
fn text_argument(text: &str) -> Result<String, Failure> {
    match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some(path) => {
            std::fs::read_to_string(path).map_err(|source| Failure::File { what: "read", path: path.into(), source })
        }
    }
}

/// JSON from an argument that is JSON itself or `@FILE`.
fn json_argument(name: &'static str, text: &str) -> Result<Value, Failure> {
    let text = text_argument(text)?;
    digits::read_argument(&text)
        .map_err(|error| Failure::Usage(format!("{name}: this is not JSON, {error}; write JSON, or @FILE")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Problem;

    /// What went wrong is told to a program as the server tells it, and as that where the server was never asked.
    #[test]
    fn failures_are_documents_for_programs() {
        let document = json!({ "status": 409, "code": "name-taken", "message": "taken", "token": "t" });
        let problem = Problem { http_status: 409, document: Some(document.clone()), ..Problem::default() };
        let refused = Failure::from(ApiError::Refused(Box::new(problem)));
        assert_eq!(refused.document(), document);
        let plain = Problem { http_status: 502, message: "bad gateway".to_owned(), ..Problem::default() };
        let plain = Failure::from(ApiError::Refused(Box::new(plain))).document();
        assert_eq!((&plain["status"], &plain["message"]), (&json!(502), &json!("bad gateway")));
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let file = Failure::File { what: "open", path: "x.csv".into(), source };
        let report = file.report(AnswerFormat::Json).unwrap();
        let read: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(read, json!({ "code": "file", "message": "could not open x.csv", "causes": ["entity not found"] }));
        assert_eq!(
            file.report(AnswerFormat::Text).unwrap(),
            "error: could not open x.csv\n  because: entity not found"
        );
        assert_eq!(Failure::Said.report(AnswerFormat::Json), None);
    }

    #[test]
    fn a_file_that_is_not_to_be_used_so_comes_with_a_remedy() {
        for (what, kind, remedy) in [
            ("read", ErrorKind::IsADirectory, Some("that is a folder")),
            ("make", ErrorKind::AlreadyExists, Some("is not written over")),
            ("make", ErrorKind::NotFound, Some("none is made for it")),
            ("open", ErrorKind::NotFound, None),
        ] {
            let failure = Failure::File { what, path: "x".into(), source: kind.into() };
            let advice = failure.advice();
            assert_eq!(advice.is_some(), remedy.is_some(), "{what} {kind}");
            assert!(advice.unwrap_or_default().contains(remedy.unwrap_or_default()), "{what} {kind}");
        }
    }
}
