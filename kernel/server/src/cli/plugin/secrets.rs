//! Secrets on the command line: the values themselves, or better the files in which they are, because others on the machine see
//! the arguments of a program.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::cli::output::cut;

/// Secrets by name, of arguments such as `NAME=VALUE`, `NAME=@FILE` and `NAME=@-`, which is what is piped in.
///
/// # Errors
/// Where one is written otherwise, is not to be read, or two are said to be piped in.
pub(super) fn texts(pairs: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    read(pairs, std::io::stdin())
}

/// The same as a part of what is sent to a server.
///
/// # Errors
/// As for [`texts`].
pub(super) fn secrets(pairs: &[String]) -> Result<Map<String, Value>, Failure> {
    Ok(texts(pairs)?.into_iter().map(|(name, value)| (name, json!(value))).collect())
}

fn read(pairs: &[String], mut input: impl Read) -> Result<BTreeMap<String, String>, Failure> {
    let mut secrets = BTreeMap::new();
    let mut piped: Option<&str> = None;
    for pair in pairs {
        let Some((name, given)) = pair.split_once('=') else {
            let message = format!("--secret `{}` must be NAME=VALUE, or NAME=@FILE", cut(pair, 8));
            return Err(Failure::Usage(message));
        };
        let value = match given.strip_prefix('@') {
            None => given.to_owned(),
            Some("-") => {
                if let Some(other) = piped.replace(name) {
                    let message = format!("--secret: `{other}` is piped in already; give `{name}` as {name}=@FILE");
                    return Err(Failure::Usage(message));
                }
                let mut text = String::new();
                let unread = |source| Failure::File { what: "read", path: "standard input".into(), source };
                input.read_to_string(&mut text).map_err(unread)?;
                without_line_end(text)
            }
            Some(path) => {
                let unread = |source| Failure::File { what: "read", path: path.into(), source };
                without_line_end(std::fs::read_to_string(path).map_err(unread)?)
            }
        };
        secrets.insert(name.to_owned(), value);
    }
    Ok(secrets)
}

/// A file of text ends with the end of a line, which is no part of a secret.
fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[&str], piped: &str) -> Result<Value, Failure> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        read(&pairs, piped.as_bytes()).map(|secrets| json!(secrets))
    }

    /// `NAME=@FILE` was the text `@FILE`, so that a secret could be given as an argument alone.
    #[test]
    fn a_secret_is_read_from_a_file_and_from_what_is_piped_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        std::fs::write(&path, "@a=b \n\r\n").unwrap();
        let file = format!("signing=@{}", path.display());
        // One that begins with @ is given by a file, of which the last line's end alone is left away.
        assert_eq!(given(&[&file, "token=x=y"], "").unwrap(), json!({ "signing": "@a=b \n", "token": "x=y" }));
        assert_eq!(given(&["token=@-"], "piped\n").unwrap(), json!({ "token": "piped" }));
        assert_eq!(given(&["token=@-"], "piped").unwrap(), json!({ "token": "piped" }));
        assert_eq!(given(&[], "piped").unwrap(), json!({}));
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_its_value() {
        let said = |pairs: &[&str]| given(pairs, "x").unwrap_err().to_string();
        assert!(said(&["whsec_0123456789"]).contains("must be NAME=VALUE, or NAME=@FILE"));
        assert!(!said(&["whsec_0123456789"]).contains("0123456789"));
        assert!(said(&["token=@/is/not/there"]).contains("/is/not/there"));
        let twice = said(&["one=@-", "two=@-"]);
        assert!(twice.contains("`one` is piped in already; give `two` as two=@FILE"), "{twice}");
    }
}
