//! The child process in which workbooks and archives are read: it cannot open files, cannot use more memory or processor time than its
//! limits, and has no right but to read its input and write its output.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::unpack::{self, Content};
use crate::cli::args::UnpackArgs;

/// The largest file that is unpacked; it is held in memory, since archives are read from their end.
const MAX_INPUT_BYTES: u64 = 512 << 20;

/// A workbook's texts lie in memory until its last row is read.
const MAX_ADDRESS_BYTES: u64 = 3 << 30;

/// A million rows of ten columns take some ten seconds.
const MAX_CPU_SECONDS: u64 = 300;

/// What is kept of a child's complaint.
const MAX_COMPLAINT_BYTES: u64 = 4096;

/// What a child unpacked.
pub(super) struct Unpacked {
    pub(super) content: Content,
    /// What a person should know of what was left out.
    pub(super) note: Option<String>,
}

/// Let a child unpack `file` into `to`.
///
/// # Errors
/// Why it could not be unpacked, for a person.
pub(super) fn unpack(file: File, args: &UnpackArgs, to: &mut File) -> Result<Unpacked, String> {
    let failed = |error: std::io::Error| format!("the process that unpacks cannot be run: {error}");
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("unpack-child");
    for (flag, value) in [("--sheet", &args.sheet), ("--entry", &args.entry)] {
        command.args(value.as_ref().map(|value| format!("{flag}={value}")));
    }
    let mut child = command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(file))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (Some(mut output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        unreachable!("both were asked to be pipes");
    };
    let mut content = [0];
    let copied = output.read(&mut content).and_then(|_| std::io::copy(&mut output, to));
    if copied.is_err() {
        // It may have ended by itself.
        drop(child.kill());
    }
    // The child says at most one sentence, and only at its end.
    let mut said = Vec::new();
    drop(errors.take(MAX_COMPLAINT_BYTES).read_to_end(&mut said));
    let status = child.wait().map_err(failed)?;
    copied.map_err(|error| format!("what is unpacked cannot be kept: {error}"))?;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    match status.code() {
        Some(0) => {
            let content = Content::of(content[0]).ok_or("the process that unpacks said nothing")?;
            Ok(Unpacked { content, note: (!said.is_empty()).then_some(said) })
        }
        Some(1) if !said.is_empty() => Err(said),
        _ => Err(format!("unpacking ended with {status}; the file may be too large, or packed to do harm")),
    }
}

/// What the child does.
pub(crate) fn main(args: &UnpackArgs) -> ExitCode {
    match work(args) {
        Ok(note) => {
            note.iter().for_each(|note| drop(std::io::stderr().write_all(note.as_bytes())));
            ExitCode::SUCCESS
        }
        Err(message) => {
            drop(std::io::stderr().write_all(message.as_bytes()));
            ExitCode::from(1)
        }
    }
}

fn work(args: &UnpackArgs) -> Result<Option<String>, String> {
    let limits = [
        (Resource::Cpu, MAX_CPU_SECONDS),
        (Resource::As, MAX_ADDRESS_BYTES),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        // What is open stays open; nothing more can be.
        (Resource::Nofile, 0),
    ];
    for (resource, limit) in limits {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(|error| format!("the limit {resource:?} cannot be set: {error}"))?;
    }
    // From here on the file decides what happens, and a mistake of its reader's may be its to use.
    kith_host::confine()?;
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("the file cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_INPUT_BYTES {
        return Err(format!("the file has more than {} MiB; save the sheet as CSV", MAX_INPUT_BYTES >> 20));
    }
    unpack::unpack(&bytes, args, BufWriter::new(std::io::stdout().lock()))
}
