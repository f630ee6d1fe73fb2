//! The command line: what can be asked, and how an answer or a failure is shown.
//!
//! `serve`, `demo` and `plugin new|check|build` work on this machine; everything else is a client of the HTTP API and
//! can do no more than any other client. Each command is a module of its own.

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
mod output;
mod plugin;
mod profile;
mod quality;
mod rules;
mod scaffold;
mod serve;
mod status;
mod tracking;
mod workspace;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kith::plugin_build::BuildError;

pub(crate) use args::Cli;
use args::Command;
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
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Rejected(_) => 2,
            Failure::Unread => 0,
            Failure::Api(_)
            | Failure::Build(_)
            | Failure::File { .. }
            | Failure::Failed(_)
            | Failure::Listen { .. }
            | Failure::Said
            | Failure::Answer(_)
            | Failure::Server { .. } => 1,
        }
    }

    /// The message, its causes, and what to do; nothing where all was said.
    pub(crate) fn report(&self) -> Option<String> {
        if matches!(self, Failure::Said | Failure::Unread) {
            return None;
        }
        let mut report = self.to_string();
        // A manifest's mistakes and the compiler's come with their own heading.
        if !report.starts_with("error") {
            report.insert_str(0, "error: ");
        }
        let mut source = std::error::Error::source(self);
        let mut said = self.to_string();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !said.contains(&text) {
                report.push_str(&format!("\n  because: {text}"));
                said = text;
            }
            source = cause.source();
        }
        if let Failure::Api(error) = self
            && let Some(advice) = error.advice()
        {
            report.push_str(&format!("\n  try: {advice}"));
        }
        if let Failure::Listen { .. } = self {
            report.push_str("\n  try: another address with --listen; port 0 takes a free one");
        }
        Some(report)
    }
}

/// Carry out one command.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let roots = cli.connection.ca.as_deref().map(roots).transpose()?;
    let client = || Client::trusting(&cli.connection.url, cli.connection.key.as_deref(), roots.clone());
    let format = if cli.json { AnswerFormat::Json } else { AnswerFormat::Text };
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args, format),
        Command::Plugin(command) => plugin::run(command, client, format),
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
        Command::CompileChild => serve::compile_child(),
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
fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    output::say(digits::pretty(value))
}

/// The members of a list: bare, or under `items`.
fn items(answer: &serde_json::Value) -> &[serde_json::Value] {
    answer.get("items").unwrap_or(answer).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// JSON from an argument that is JSON itself or `@FILE`.
fn json_argument(name: &'static str, text: &str) -> Result<serde_json::Value, Failure> {
    let text = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(path) => std::fs::read_to_string(path).map_err(|source| Failure::File {
            what: "read",
            path: PathBuf::from(path),
            source,
        })?,
    };
    digits::read_argument(&text).map_err(|error| Failure::Usage(format!("{name} is not JSON: {error}")))
}
