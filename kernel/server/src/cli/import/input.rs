//! The file that an import reads: the one that is named, what comes on the standard input, or what a child process makes of a workbook or an archive, in a file of its
//! own that is gone when the import ends. So an import of either goes on where it was, and has its rejected rows.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::child::{self, Unpacked};
use super::unpack::{Content, is_packed};
use super::{content_type, rejected};
use crate::cli::Failure;
use crate::cli::args::ImportArgs;

/// The media type of rows in which only texts are quoted.
pub(super) const ROWS: &str = "application/vnd.kith.rows+csv";

/// The file's argument that stands for the standard input.
const STANDARD_INPUT: &str = "-";

/// A file to be read.
pub(super) struct Input {
    /// What the file is called.
    name: PathBuf,
    path: PathBuf,
    /// What came on the standard input. An import that breaks off reads it again, and rejected rows are found in it.
    spooled: Option<NamedTempFile>,
    unpacked: Option<(NamedTempFile, Unpacked)>,
}

impl Input {
    /// See what the file is, and unpack it where it is a workbook or an archive.
    pub(super) fn open(args: &ImportArgs) -> Result<Input, Failure> {
        let name = name(args)?.to_owned();
        let failed = |what: &'static str| {
            let path = name.clone();
            move |source| Failure::File { what, path, source }
        };
        let spooled = match is_standard_input(args) {
            true => Some(spool().map_err(failed("read"))?),
            false => None,
        };
        let path = spooled.as_ref().map_or(args.file.as_path(), |file| file.path()).to_owned();
        let mut file = File::open(&path).map_err(failed("open"))?;
        let mut begin = Vec::new();
        file.by_ref().take(8).read_to_end(&mut begin).map_err(failed("read"))?;
        if !is_packed(&begin) {
            return Ok(Input { name, path, spooled, unpacked: None });
        }
        file.rewind().map_err(failed("read"))?;
        let mut to = NamedTempFile::new().map_err(failed("unpack"))?;
        let unpacked = child::unpack(file, &args.unpack, to.as_file_mut())
            .map_err(|why| Failure::Failed(format!("{}: {why}", name.display())))?;
        Ok(Input { path: to.path().to_owned(), name, spooled, unpacked: Some((to, unpacked)) })
    }

    /// What the file is called.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Tell in an answer's notes what of the file is not read.
    pub(super) fn tell(&self, answer: &mut Value) {
        let note = self.unpacked.as_ref().and_then(|(_, unpacked)| unpacked.note.as_ref());
        if let (Some(note), Some(Value::Array(notes))) = (note, answer.get_mut("notes")) {
            notes.insert(0, json!({ "name": "sheets", "note": note }));
        }
    }

    /// The arguments of the import with what is read in the file's place. Rejected rows of what was unpacked go beside the file.
    pub(super) fn args(&self, args: &ImportArgs) -> ImportArgs {
        let mut args = args.clone();
        if let Some((_, Unpacked { content, .. })) = &self.unpacked {
            // Read again as people write, a number of the sheet would be another one, or none: `1.234` has two meanings.
            let ending = if *content == Content::Rows { "rejected.rows.csv" } else { "rejected.csv" };
            let beside = PathBuf::from(format!("{}.{ending}", self.name.display()));
            args.rejected.get_or_insert(beside);
            if *content == Content::Rows {
                args.content_type.get_or_insert_with(|| ROWS.to_owned());
            }
        }
        if self.spooled.is_some() {
            args.content_type.get_or_insert_with(|| content_type(&self.name).to_owned());
            args.rejected.get_or_insert_with(|| rejected::beside(&self.name));
        }
        args.file.clone_from(&self.path);
        args
    }
}

fn is_standard_input(args: &ImportArgs) -> bool {
    args.file.as_os_str() == STANDARD_INPUT
}

/// What the file is called: the standard input has no name of its own, and its ending says how it is read.
fn name(args: &ImportArgs) -> Result<&Path, Failure> {
    match (is_standard_input(args), &args.name) {
        (true, Some(name)) => Ok(name),
        (false, None) => Ok(&args.file),
        (true, None) => Err(Failure::Usage(
            "`-` reads the standard input; say with --name what the file is called, e.g. --name orders.csv: the ending says how it \
             is read, and rejected rows go beside it"
                .to_owned(),
        )),
        (false, Some(_)) => {
            Err(Failure::Usage("--name says what the standard input is called, whose FILE is written `-`".to_owned()))
        }
    }
}

/// Put the standard input into a file of its own.
fn spool() -> std::io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    std::io::copy(&mut std::io::stdin().lock(), file.as_file_mut())?;
    Ok(file)
}
