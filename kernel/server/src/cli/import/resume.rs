//! Sending a file so that it goes on where it was: the import is named after the file's content, and the server is asked how far
//! an import of that name has come.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::cli::client::{ApiError, Client, encode, pause};
use crate::cli::output::{self, Step};
use crate::cli::{Failure, args::ImportArgs};

/// How often an import is tried that another one holds up, or that has moved on meanwhile.
const TRIES: u32 = 40;

/// The pause between two tries. What the server still writes of an import whose client is gone takes no longer.
const PAUSE: Duration = Duration::from_millis(250);

/// How often the way to the server may break without anything having come through.
const BREAKS: u32 = 6;

/// How the way to the server fares.
#[derive(Default)]
struct Breaks {
    /// Breaks since the import last came further.
    count: u32,
    /// How far it had come then.
    bytes: u64,
}

impl Breaks {
    /// Wait after an error, longer each time, where it is one of the way and not an answer; otherwise give it back. A file is sent
    /// on by itself, because a load balancer or a network that cuts long requests would otherwise never let it through.
    fn wait(&mut self, error: ApiError, step: &Step) -> Result<(), Failure> {
        self.count += 1;
        if self.count > BREAKS || !is_passing(&error) {
            return Err(error.into());
        }
        step.note(&format!("{error}; trying again"));
        pause(PAUSE * (1 << self.count.min(5)));
        Ok(())
    }

    fn came_to(&mut self, bytes: u64) {
        if bytes > self.bytes {
            *self = Breaks { count: 0, bytes };
        }
    }
}

/// Whether an error may be gone at the next try.
fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::Broken { .. } | ApiError::Unreachable { .. } => true,
        ApiError::Refused(problem) => {
            matches!(problem.http_status, 408 | 429 | 502..=504) && problem.code != "workspace-suspended"
        }
        ApiError::Address { .. } | ApiError::OtherProtocol { .. } | ApiError::NotJson { .. } => false,
    }
}

/// Send the file, from where an import of the same file was broken off, and on where the connection breaks.
pub(super) fn send(args: &ImportArgs, client: &Client, content_type: &str, step: &Step) -> Result<Value, Failure> {
    let name = name_of(&args.file)?;
    let source = encode(args.source.as_str());
    // While the server still writes what came before, the place moves, or stays; it is said once.
    let mut said = None;
    let mut breaks = Breaks::default();
    let mut attempt = 0;
    while attempt < TRIES {
        let (bytes, records) = match left(client, &format!("/api/v1/sources/{source}/imports/{name}")) {
            Ok(left) => left,
            // Before anything is sent a person is told at once that nobody is there.
            Err(error) if breaks.count == 0 => return Err(error.into()),
            Err(error) => {
                breaks.wait(error, step)?;
                continue;
            }
        };
        breaks.came_to(bytes);
        let path = format!("{}?import={name}&from={bytes}", super::records_path(args.source.as_str()));
        let body: Box<dyn Read> = if bytes == 0 {
            step.bar().set_position(0);
            Box::new(step.bar().wrap_read(open(&args.file)?))
        } else {
            if said.replace(bytes) != Some(bytes) {
                step.note(&format!(
                    "going on at byte {} (record {}) of this file, where its import was broken off",
                    output::count(bytes),
                    output::count(records + 1)
                ));
            }
            Box::new(from(step.bar().wrap_read(open(&args.file)?), bytes).map_err(failed("read", &args.file))?)
        };
        match client.upload(&path, content_type, body) {
            Err(ApiError::Refused(problem))
                if ["import-under-way", "import-elsewhere"].contains(&problem.code.as_str()) =>
            {
                attempt += 1;
                pause(PAUSE);
            }
            Err(error @ ApiError::Broken { .. }) if bytes == 0 && breaks.count == 0 => {
                if let Some(refusal) = refusal(args, client, content_type)? {
                    return Err(refusal.into());
                }
                breaks.wait(error, step)?;
            }
            Err(error) => breaks.wait(error, step)?,
            Ok(answer) => return Ok(answer),
        }
    }
    Err(Failure::Failed("an import of this file is under way".to_owned()))
}

fn failed<'p>(what: &'static str, path: &'p Path) -> impl FnOnce(std::io::Error) -> Failure + 'p {
    move |source| Failure::File { what, path: path.to_owned(), source }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(failed("open", path))
}

/// A name that a file of the same content has, and no other.
fn name_of(path: &Path) -> Result<String, Failure> {
    let mut hash = Sha256::new();
    let mut file = open(path)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece).map_err(failed("read", path))? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    Ok(format!("sha256-{}", data_encoding::HEXLOWER.encode(&hash.finalize())))
}

/// How much of a file shows whether the server takes it. So much is read to its end whatever the answer is.
const BEGINNING_BYTES: u64 = 4 << 20;

/// Why the server refuses the file as a whole, if it does. An end of the connection while a client still writes can take the answer
/// with it, on some systems always; a beginning that is sent whole, to be stored nowhere, gets its answer.
fn refusal(args: &ImportArgs, client: &Client, content_type: &str) -> Result<Option<ApiError>, Failure> {
    // A part of a JSON text is none, and would be refused for that.
    if content_type == "application/json" {
        return Ok(None);
    }
    let path = format!("{}?dry_run=true", super::records_path(args.source.as_str()));
    let beginning = plain(open(&args.file)?).map_err(failed("read", &args.file))?.take(BEGINNING_BYTES);
    Ok(match client.upload(&path, content_type, beginning) {
        Err(error @ ApiError::Refused(_)) if !is_passing(&error) => Some(error),
        Ok(_) | Err(_) => None,
    })
}

/// How far an import was left: bytes of the unpacked file and records; nothing where none was.
fn left(client: &Client, path: &str) -> Result<(u64, u64), ApiError> {
    match client.get(path) {
        Ok(state) => Ok((output::number(&state, "bytes"), output::number(&state, "records"))),
        // Of a source that is not there the upload says so.
        Err(ApiError::Refused(problem)) if problem.http_status == 404 => Ok((0, 0)),
        Err(error) => Err(error),
    }
}

/// The unpacked bytes of a file behind the first `skip`.
fn from<'r>(file: impl Read + 'r, skip: u64) -> std::io::Result<Box<dyn Read + 'r>> {
    let mut plain = plain(file)?;
    std::io::copy(&mut plain.by_ref().take(skip), &mut std::io::sink())?;
    Ok(plain)
}

/// A file's bytes, unpacked where it is gzip.
pub(super) fn plain<'r>(file: impl Read + 'r) -> std::io::Result<Box<dyn Read + 'r>> {
    let mut file = BufReader::with_capacity(256 << 10, file);
    let is_gzip = std::io::BufRead::fill_buf(&mut file)?.starts_with(&[0x1f, 0x8b]);
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_packed_file_goes_on_at_a_byte_of_what_is_in_it() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"id\n1\n2\n").unwrap();
        let packed = packed.finish().unwrap();
        for bytes in [packed.as_slice(), b"id\n1\n2\n"] {
            let mut rest = String::new();
            from(bytes, 5).unwrap().read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "2\n");
        }
    }

    #[test]
    fn the_name_hangs_on_the_content_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("a.csv"), folder.path().join("b.csv"));
        std::fs::write(&one, "id\n1\n").unwrap();
        std::fs::write(&other, "id\n1\n").unwrap();
        assert_eq!(name_of(&one).unwrap(), name_of(&other).unwrap());
        std::fs::write(&other, "id\n2\n").unwrap();
        assert_ne!(name_of(&one).unwrap(), name_of(&other).unwrap());
    }
}
