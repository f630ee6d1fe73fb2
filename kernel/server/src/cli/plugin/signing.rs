//! `kith plugin keygen|sign|verify`, and the signature that an upload takes with it: on this machine and in the form of minisign,
//! whose keys and signatures are taken as well.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kith::signatures::{FormatError, Prehash, PublicKey, SUFFIX, SecretKey, Signature, Signed};
use kith_model::time::{Clock as _, SystemClock};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::args::{MOST_PLUGIN_BYTES, VerifyArgs};
use crate::cli::client::Client;
use crate::cli::output::{self, AnswerFormat, field};
use crate::cli::{Failure, print_json};

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |source| Failure::File { what, path: path.to_owned(), source }
}

fn no_such(path: &Path) -> impl FnOnce(FormatError) -> Failure {
    move |error| Failure::Failed(format!("{} cannot be used: {error}", path.display()))
}

/// Make a key. A file that is there is never written over: a lost secret key cannot be made again.
pub(super) fn keygen(out: &Path, format: AnswerFormat) -> Result<(), Failure> {
    let public_path = out.with_extension("pub");
    if public_path == out {
        return Err(Failure::Usage(
            "the public key goes to FILE with the ending `.pub`; name the secret key otherwise".into(),
        ));
    }
    let key = SecretKey::generate().map_err(|error| Failure::Failed(format!("no random bits: {error}")))?;
    write_new(&public_path, 0o644, key.public().file().as_bytes())?;
    if let Err(failure) = write_new(out, 0o600, key.file().as_bytes()) {
        // Of no use without the other.
        drop(fs::remove_file(&public_path));
        return Err(failure);
    }
    if would_be_committed(out) {
        output::warn(&format!(
            "{} is in a work tree of git and nothing there ignores it; move it, or add it to .gitignore before you commit",
            out.display()
        ));
    }
    let (number, line) = (key.public().number().to_string(), key.public().line());
    if format.is_json() {
        return print_json(&json!({
            "key_id": number, "public_key": line, "secret_key_file": out.display().to_string(),
            "public_key_file": public_path.display().to_string(),
        }));
    }
    output::say(format_args!(
        "The secret key is in {}, without a password: whoever has it signs for you.",
        out.display()
    ))?;
    output::say(format_args!("The public key {number} is in {}:\n\n    {line}\n", public_path.display()))?;
    output::say(format_args!("Make it known: kith publisher add NAME --namespace 'VENDOR/*' --public-key {line}"))
}

/// Whether git takes a file along with the next `git add .`. Where there is no git, nobody does.
fn would_be_committed(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else { return false };
    // 0 where it is ignored, 1 where it is not, and another number outside of a work tree.
    let asked = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["check-ignore", "--quiet", "--"])
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.code() == Some(1))
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed("make", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

/// The name of a component's signature.
fn signature_path(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// Sign a component, with a comment that says what it is.
pub(super) fn sign(component: &Path, secret_key: &Path, format: AnswerFormat) -> Result<(), Failure> {
    let text = Zeroizing::new(fs::read_to_string(secret_key).map_err(failed("read", secret_key))?);
    let key = SecretKey::parse(&text).map_err(no_such(secret_key))?;
    let bytes = fs::read(component).map_err(failed("read", component))?;
    let inspected = kith::declared::inspect(&bytes, MOST_PLUGIN_BYTES)
        .map_err(|error| Failure::Failed(format!("{}: {error}", component.display())))?;
    let (id, version) = (&inspected.manifest.id, &inspected.manifest.version);
    let seconds = SystemClock.now().0 / 1_000;
    let comment = format!("timestamp:{seconds}\tplugin:{id}\tversion:{version}\tsha256:{}\thashed", inspected.digest);
    let path = signature_path(component);
    fs::write(&path, key.sign(&Prehash::of(&bytes), &comment).file()).map_err(failed("write", &path))?;
    let number = key.public().number().to_string();
    if format.is_json() {
        return print_json(&json!({ "signature": path.display().to_string(), "key_id": number, "comment": comment }));
    }
    output::say(format_args!("{id} {version} is signed with key {number}: {}", path.display()))
}

/// A signature's file, which must read.
fn read_signature(path: &Path) -> Result<Signature, Failure> {
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    Signature::parse(&text).map_err(no_such(path))
}

/// What an upload takes with it: the signature that is named, or the one beside the component where there is one.
pub(super) fn for_upload(component: &Path, named: Option<&Path>) -> Result<Option<String>, Failure> {
    let beside = signature_path(component);
    let path = match named {
        Some(path) => path,
        None if beside.exists() => &beside,
        None => return Ok(None),
    };
    Ok(Some(STANDARD.encode(read_signature(path)?.file())))
}

/// A public key, of a file or as its line.
pub(in crate::cli) fn public_key(text: &str) -> Result<PublicKey, Failure> {
    let path = Path::new(text);
    if path.is_file() {
        let text = fs::read_to_string(path).map_err(failed("read", path))?;
        return PublicKey::parse(&text).map_err(no_such(path));
    }
    PublicKey::parse(text).map_err(|error| Failure::Usage(format!("this is no public key and no file of one: {error}")))
}

/// What a signature is not held against where no server is asked.
const NOT_LOOKED_AT: [&str; 4] = [
    "whose key it is",
    "whether it was revoked",
    "whether it is valid at this time",
    "whether its owner may sign this plugin",
];

/// Say whether a component's signature holds: by a key that is given, without a server, or else as the server would judge an upload.
pub(super) fn verify(args: &VerifyArgs, client: impl Fn() -> Client, format: AnswerFormat) -> Result<(), Failure> {
    let path = args.signature.clone().unwrap_or_else(|| signature_path(&args.file));
    let signature = read_signature(&path)?;
    let bytes = fs::read(&args.file).map_err(failed("read", &args.file))?;
    let number = signature.number().to_string();
    let Some(text) = &args.public_key else {
        let text = STANDARD.encode(signature.file());
        let headers = [("kith-signature", text.as_str())];
        let answer =
            client().upload_with("/api/v1/plugins?dry_run=true", "application/wasm", &headers, bytes.as_slice())?;
        let publisher = publisher_of(&answer)?;
        return say_verified(&signature, json!({ "key_id": number, "by": publisher, "state": "valid" }), "", format);
    };
    if !signature.is_by(&public_key(text)?, Signed::Whole(&bytes)) {
        let message = "the file or its signature was changed, or another key made it";
        return Err(Failure::Failed(format!("the signature {} does not hold: {message}", path.display())));
    }
    let seen = json!({ "key_id": number, "by": "the given key", "not_looked_at": NOT_LOOKED_AT });
    let rest = format!(
        "\nNot looked at: {}. Without --public-key a server says that of its publishers.",
        NOT_LOOKED_AT.join(", ")
    );
    say_verified(&signature, seen, &rest, format)
}

fn say_verified(signature: &Signature, mut seen: Value, rest: &str, format: AnswerFormat) -> Result<(), Failure> {
    if format.is_json() {
        seen["comment"] = json!(signature.comment());
        return print_json(&seen);
    }
    output::say(format_args!(
        "The signature holds: key {}, {}.\nIts signer says: {}{rest}",
        field(&seen, "key_id"),
        field(&seen, "by"),
        output::visible(&signature.comment().replace('\t', "  "))
    ))
}

/// Whose valid signature it is by a server's answer.
fn publisher_of(answer: &Value) -> Result<String, Failure> {
    let signature = &answer["signature"];
    if field(signature, "state") == "valid" {
        return Ok(field(signature, "publisher"));
    }
    let [id, version] = ["id", "version"].map(|name| field(answer, name));
    let problem = field(signature, "problem");
    Err(Failure::Failed(format!(
        "{id} {version} has no signature that is valid here: {problem}; a key that you have is tried with --public-key"
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("acme.key");
        keygen(&out, AnswerFormat::Json).unwrap();
        let (secret, public) =
            (fs::read_to_string(&out).unwrap(), fs::read_to_string(out.with_extension("pub")).unwrap());
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
        let key = SecretKey::parse(&secret).unwrap();
        assert_eq!(PublicKey::parse(&public).unwrap(), key.public());
        assert_eq!(public_key(out.with_extension("pub").to_str().unwrap()).unwrap(), key.public());
        assert_eq!(public_key(&key.public().line()).unwrap(), key.public());
        assert_eq!(public_key("nothing").unwrap_err().exit_code(), 2);
        // Neither of the two is written over, and nothing is left of a pair that could not be made.
        assert!(matches!(keygen(&out, AnswerFormat::Json), Err(Failure::File { .. })));
        assert_eq!(fs::read_to_string(&out).unwrap(), secret);
        fs::remove_file(out.with_extension("pub")).unwrap();
        assert!(matches!(keygen(&out, AnswerFormat::Json), Err(Failure::File { .. })));
        assert!(!out.with_extension("pub").exists() && fs::read_to_string(&out).unwrap() == secret);
        assert_eq!(keygen(&folder.path().join("acme.pub"), AnswerFormat::Json).unwrap_err().exit_code(), 2);
    }

    /// A work tree of git of its own, so that neither the machine's nor this repository's is asked.
    #[test]
    fn a_key_that_the_next_commit_would_take_along_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("acme.key");
        assert!(!would_be_committed(&key), "no work tree");
        let made = Command::new("git").args(["init", "--quiet"]).arg(folder.path()).status();
        if !made.is_ok_and(|status| status.success()) {
            return;
        }
        assert!(would_be_committed(&key));
        fs::write(folder.path().join(".gitignore"), "/target\n*.key\n").unwrap();
        assert!(!would_be_committed(&key));
        assert!(would_be_committed(&folder.path().join("acme.secret")));
    }

    #[test]
    fn an_upload_takes_the_signature_that_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("x.wasm");
        assert!(for_upload(&component, None).unwrap().is_none());
        assert!(for_upload(&component, Some(&folder.path().join("none"))).is_err());
        let key = SecretKey::generate().unwrap();
        let file = key.sign(&Prehash::of(b"x"), "c").file();
        fs::write(folder.path().join("x.wasm.minisig"), &file).unwrap();
        assert_eq!(for_upload(&component, None).unwrap(), Some(STANDARD.encode(&file)));
        fs::write(folder.path().join("x.wasm.minisig"), "nothing").unwrap();
        assert!(for_upload(&component, None).unwrap_err().to_string().contains("ends too early"));
    }

    #[test]
    fn a_signature_is_checked_by_a_given_key_or_by_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.wasm");
        fs::write(&file, b"x").unwrap();
        let (key, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        fs::write(signature_path(&file), key.sign(&Prehash::of(b"x"), "c").file()).unwrap();
        let client = || Client::new("http://127.0.0.1:1", None);
        let by =
            |key: &SecretKey| VerifyArgs { file: file.clone(), public_key: Some(key.public().line()), signature: None };
        verify(&by(&key), client, AnswerFormat::Json).unwrap();
        assert!(verify(&by(&other), client, AnswerFormat::Json).unwrap_err().to_string().contains("does not hold"));
        fs::write(&file, b"y").unwrap();
        assert!(verify(&by(&key), client, AnswerFormat::Json).unwrap_err().to_string().contains("does not hold"));
        // Without a key the server is asked, and none is there.
        let asked = VerifyArgs { public_key: None, ..by(&key) };
        assert!(matches!(verify(&asked, client, AnswerFormat::Json), Err(Failure::Api(_))));
        let answer = |state: &str, problem: Value| {
            let signature = json!({ "state": state, "publisher": "acme", "problem": problem });
            publisher_of(&json!({ "id": "acme/x", "version": "1.0.0", "signature": signature }))
        };
        assert_eq!(answer("valid", Value::Null).unwrap(), "acme");
        for state in ["unknown-key", "other-namespace", "expired", "not-yet-valid", "unchecked", "revoked"] {
            let said = answer(state, json!("it is so")).unwrap_err().to_string();
            assert!(said.contains("acme/x 1.0.0 has no signature that is valid here: it is so"), "{said}");
        }
    }
}
