//! The file that an import reads: the one that is named, or what a child process makes of a workbook or an archive, in a file of its
//! own that is gone when the import ends. So an import of either goes on where it was, and has its rejected rows.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::child::{self, Unpacked};
use super::unpack::{Content, is_packed};
use crate::cli::Failure;
use crate::cli::args::ImportArgs;

/// The media type of rows in which only texts are quoted.
pub(super) const ROWS: &str = "application/vnd.kith.rows+csv";

/// A file to be read.
pub(super) struct Input {
    path: PathBuf,
    unpacked: Option<(NamedTempFile, Unpacked)>,
}

impl Input {
    /// See what the file is, and unpack it where it is a workbook or an archive.
    pub(super) fn open(args: &ImportArgs) -> Result<Input, Failure> {
        let failed = |what: &'static str| {
            let path = args.file.clone();
            move |source| Failure::File { what, path, source }
        };
        let mut file = File::open(&args.file).map_err(failed("open"))?;
        let mut begin = Vec::new();
        file.by_ref().take(8).read_to_end(&mut begin).map_err(failed("read"))?;
        if !is_packed(&begin) {
            return Ok(Input { path: args.file.clone(), unpacked: None });
        }
        file.rewind().map_err(failed("read"))?;
        let mut to = NamedTempFile::new().map_err(failed("unpack"))?;
        let unpacked = child::unpack(file, &args.unpack, to.as_file_mut())
            .map_err(|why| Failure::Failed(format!("{}: {why}", args.file.display())))?;
        Ok(Input { path: to.path().to_owned(), unpacked: Some((to, unpacked)) })
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
            let beside = PathBuf::from(format!("{}.{ending}", args.file.display()));
            args.rejected.get_or_insert(beside);
            if *content == Content::Rows {
                args.content_type.get_or_insert_with(|| ROWS.to_owned());
            }
        }
        args.file.clone_from(&self.path);
        args
    }
}
