//! Signatures of plugins, detached and in the form of [minisign](https://jedisct1.github.io/minisign/): its files are read and
//! made here, so that either tool takes what the other made. What a signature is worth in a workspace is
//! `signatures/trust.rs`'s part.
//!
//! A key's file and a signature's begin with a line that nobody vouches for. The signature is Ed25519 over the BLAKE2b-512 of what
//! is signed (`ED`), or over what is signed itself, as older ones are (`Ed`); a second one is over the first and a comment,
//! which is trusted for that.

pub mod trust;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest as _};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

/// A file of minisign is of no more bytes.
pub const MAX_FILE_BYTES: usize = 4_096;

/// What follows the name of the signed file in its signature's name.
pub const SUFFIX: &str = ".minisig";

const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";

/// Ed25519 over what is signed; also what keys are of.
const WHOLE: [u8; 2] = *b"Ed";
/// Ed25519 over the BLAKE2b-512 of what is signed.
const PREHASHED: [u8; 2] = *b"ED";

/// A text is no such file of minisign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("it is of more than {MAX_FILE_BYTES} bytes")]
    Long,
    #[error("it ends too early; copy it whole")]
    Short,
    #[error("a line of it is no base64, or is cut")]
    Encoding,
    #[error("it is of another algorithm than Ed25519")]
    Algorithm,
    #[error(
        "its secret key is locked with a password; make one without, as `kith plugin keygen` and `minisign -G -W` do"
    )]
    Locked,
    #[error("its check part does not fit: it is mistyped or cut")]
    Checksum,
    #[error("its third line is no `trusted comment: …`")]
    NoComment,
    #[error("its trusted comment holds characters that cannot be shown")]
    Comment,
}

/// The number of a key, by which a signature names it. Whoever makes a key chooses it, so it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyNumber([u8; 8]);

impl fmt::Display for KeyNumber {
    /// As minisign shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

/// A publisher's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    number: KeyNumber,
    bytes: [u8; 32],
}

impl PublicKey {
    /// Read a public key: its file, or the line of it that is base64.
    ///
    /// # Errors
    /// [`FormatError`], when it is none.
    pub fn parse(text: &str) -> Result<PublicKey, FormatError> {
        let mut lines = lines(text)?.filter(|line| !line.is_empty() && !line.starts_with(UNTRUSTED));
        let bytes: [u8; 42] = decoded(lines.next().ok_or(FormatError::Short)?)?;
        let (algorithm, rest) = bytes.split_at(2);
        let (number, key) = rest.split_at(8);
        if algorithm != WHOLE {
            return Err(FormatError::Algorithm);
        }
        Ok(PublicKey { number: KeyNumber(fixed(number)?), bytes: fixed(key)? })
    }

    /// The key's number.
    pub fn number(&self) -> KeyNumber {
        self.number
    }

    /// Whether it is the same key as another, under whatever number either of them goes.
    pub fn is_same_key(&self, other: &PublicKey) -> bool {
        self.bytes == other.bytes
    }

    /// The key as one line of base64.
    pub fn line(&self) -> String {
        STANDARD.encode([&WHOLE[..], &self.number.0, &self.bytes].concat())
    }

    /// The key as its file.
    pub fn file(&self) -> String {
        format!("{UNTRUSTED}minisign public key {}\n{}\n", self.number, self.line())
    }

    fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.bytes).verify(message, signature).is_ok()
    }
}

/// A publisher's secret key.
pub struct SecretKey {
    number: KeyNumber,
    pair: Ed25519KeyPair,
    /// What `pair` was made from.
    seed: Zeroizing<[u8; 32]>,
}

/// The parts of a secret key's file: algorithm, that of the password, that of the check part, salt and costs of the password.
const BEFORE_SECRET: usize = 2 + 2 + 2 + 32 + 8 + 8;
const SECRET_BYTES: usize = BEFORE_SECRET + 8 + 64 + 32;

impl SecretKey {
    /// Make a key.
    ///
    /// # Errors
    /// When the system gives no random bits.
    pub fn generate() -> Result<SecretKey, getrandom::Error> {
        let (mut number, mut seed) = ([0; 8], Zeroizing::new([0; 32]));
        getrandom::fill(&mut number)?;
        getrandom::fill(seed.as_mut_slice())?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| getrandom::Error::UNEXPECTED)?;
        Ok(SecretKey { number: KeyNumber(number), pair, seed })
    }

    /// Read a secret key's file that no password locks.
    ///
    /// # Errors
    /// [`FormatError`], when it is none.
    pub fn parse(text: &str) -> Result<SecretKey, FormatError> {
        let line = lines(text)?.nth(1).ok_or(FormatError::Short)?;
        let bytes = Zeroizing::new(decoded::<SECRET_BYTES>(line)?);
        let (algorithms, rest) = (&bytes[..6], &bytes[BEFORE_SECRET..]);
        match (&algorithms[..2], &algorithms[2..4], &algorithms[4..]) {
            (b"Ed", [0, 0], b"B2") => {}
            (b"Ed", b"Sc", b"B2") => return Err(FormatError::Locked),
            _ => return Err(FormatError::Algorithm),
        }
        let (number, secret, check) = (&rest[..8], &rest[8..72], &rest[72..]);
        if check != check_part(number, secret) {
            return Err(FormatError::Checksum);
        }
        let pair = Ed25519KeyPair::from_seed_and_public_key(&secret[..32], &secret[32..]);
        let pair = pair.map_err(|_| FormatError::Checksum)?;
        Ok(SecretKey { number: KeyNumber(fixed(number)?), pair, seed: Zeroizing::new(fixed(&secret[..32])?) })
    }

    /// The key as its file, which no password locks.
    pub fn file(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new([&self.seed[..], self.pair.public_key().as_ref()].concat());
        let check = check_part(&self.number.0, &secret);
        let head: &[u8] = b"Ed\0\0B2";
        let costs = [0; BEFORE_SECRET - 6];
        let bytes = Zeroizing::new([head, &costs[..], &self.number.0[..], secret.as_slice(), &check[..]].concat());
        Zeroizing::new(format!("{UNTRUSTED}minisign secret key {}\n{}\n", self.number, STANDARD.encode(&*bytes)))
    }

    /// The public key that goes with it.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey { number: self.number, bytes }
    }

    /// Sign: over the BLAKE2b-512 of what is signed, with a comment of one line.
    pub fn sign(&self, prehash: &Prehash, comment: &str) -> Signature {
        let signature = bytes_of(&self.pair.sign(&prehash.0));
        let global = bytes_of(&self.pair.sign(&[&signature[..], comment.as_bytes()].concat()));
        Signature { over: Over::Prehash, number: self.number, signature, comment: comment.to_owned(), global }
    }
}

fn bytes_of(signature: &ring::signature::Signature) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes.copy_from_slice(signature.as_ref());
    bytes
}

fn check_part(number: &[u8], secret: &[u8]) -> [u8; 32] {
    let mut hasher = Blake2b::<U32>::new();
    hasher.update(WHOLE);
    hasher.update(number);
    hasher.update(secret);
    let mut check = [0; 32];
    check.copy_from_slice(&hasher.finalize());
    check
}

/// BLAKE2b-512 of what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prehash([u8; 64]);

impl Prehash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Prehash {
        let mut hash = [0; 64];
        hash.copy_from_slice(&Blake2b512::digest(bytes));
        Prehash(hash)
    }

    /// In hexadecimal.
    pub fn hex(&self) -> String {
        crate::auth::hex(&self.0)
    }

    /// Read back what [`Prehash::hex`] wrote.
    pub fn from_hex(text: &str) -> Option<Prehash> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Prehash(bytes.try_into().ok()?))
    }
}

/// What the first signature of a file is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// BLAKE2b-512 of what is signed.
    Prehash,
    /// What is signed, as older signatures are.
    Whole,
}

/// What a signature is held against.
#[derive(Debug, Clone, Copy)]
pub enum Signed<'a> {
    /// A signature over the whole does not hold for it.
    Prehash(&'a Prehash),
    Whole(&'a [u8]),
}

/// A signature's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    over: Over,
    number: KeyNumber,
    signature: [u8; 64],
    comment: String,
    global: [u8; 64],
}

impl Signature {
    /// Read a signature's file.
    ///
    /// # Errors
    /// [`FormatError`], when it is none.
    pub fn parse(text: &str) -> Result<Signature, FormatError> {
        let mut lines = lines(text)?;
        let [_, first, comment, global] = std::array::from_fn(|_| lines.next());
        let bytes: [u8; 74] = decoded(first.ok_or(FormatError::Short)?)?;
        let over = match &bytes[..2] {
            two if two == PREHASHED => Over::Prehash,
            two if two == WHOLE => Over::Whole,
            _ => return Err(FormatError::Algorithm),
        };
        let comment = comment.ok_or(FormatError::Short)?.strip_prefix(TRUSTED).ok_or(FormatError::NoComment)?;
        if comment.chars().any(|letter| letter.is_control() && letter != '\t') {
            return Err(FormatError::Comment);
        }
        Ok(Signature {
            over,
            number: KeyNumber(fixed(&bytes[2..10])?),
            signature: fixed(&bytes[10..])?,
            comment: comment.to_owned(),
            global: decoded(global.ok_or(FormatError::Short)?)?,
        })
    }

    /// The number of the key that it says it is by.
    pub fn number(&self) -> KeyNumber {
        self.number
    }

    /// What it is over.
    pub fn over(&self) -> Over {
        self.over
    }

    /// What the signer says of it. It is to be believed only where [`Signature::is_by`] holds.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// Whether a key signed this, comment included.
    pub fn is_by(&self, key: &PublicKey, signed: Signed<'_>) -> bool {
        let is_signed = match (self.over, signed) {
            (Over::Prehash, Signed::Prehash(prehash)) => key.verifies(&prehash.0, &self.signature),
            (Over::Prehash, Signed::Whole(bytes)) => key.verifies(&Prehash::of(bytes).0, &self.signature),
            (Over::Whole, Signed::Whole(bytes)) => key.verifies(bytes, &self.signature),
            (Over::Whole, Signed::Prehash(_)) => false,
        };
        self.number == key.number && is_signed && self.is_comment_by(key)
    }

    /// Whether a key vouches for the first signature and the comment.
    fn is_comment_by(&self, key: &PublicKey) -> bool {
        key.verifies(&[&self.signature[..], self.comment.as_bytes()].concat(), &self.global)
    }

    /// The signature as its file.
    pub fn file(&self) -> String {
        let algorithm = match self.over {
            Over::Prehash => PREHASHED,
            Over::Whole => WHOLE,
        };
        let first = STANDARD.encode([&algorithm[..], &self.number.0, &self.signature].concat());
        format!(
            "{UNTRUSTED}signature from kith secret key\n{first}\n{TRUSTED}{}\n{}\n",
            self.comment,
            STANDARD.encode(self.global)
        )
    }
}

/// The lines of a file that is not too long.
fn lines(text: &str) -> Result<std::str::Lines<'_>, FormatError> {
    if text.len() > MAX_FILE_BYTES { Err(FormatError::Long) } else { Ok(text.lines()) }
}

fn decoded<const N: usize>(line: &str) -> Result<[u8; N], FormatError> {
    let bytes = Zeroizing::new(STANDARD.decode(line.trim_end()).map_err(|_| FormatError::Encoding)?);
    fixed(&bytes)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], FormatError> {
    bytes.try_into().map_err(|_| FormatError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of the real minisign and what it signed with it, both over the four bytes `test`: the first two from the tests of the
    /// crates `minisign` 0.9.1 and `minisign-verify` 0.3.0, the third from the documentation of the latter.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const LEGACY: &str = "untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==";
    const HASHED: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==";
    const OTHER_COMMENT: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==";

    #[test]
    fn what_the_real_tool_signed_holds_and_nothing_else() {
        let key = PublicKey::parse(KEY).unwrap();
        assert_eq!((key.number().to_string().as_str(), key.line().as_str()), ("E7620F1842B4E81F", KEY));
        assert_eq!(PublicKey::parse(&key.file()).unwrap(), key);
        for (text, over) in [(LEGACY, Over::Whole), (HASHED, Over::Prehash), (OTHER_COMMENT, Over::Prehash)] {
            let signature = Signature::parse(text).unwrap();
            assert_eq!((signature.number(), signature.over()), (key.number(), over));
            assert!(signature.is_by(&key, Signed::Whole(b"test")), "{text}");
            assert!(!signature.is_by(&key, Signed::Whole(b"Test")), "{text}");
            let prehash = Prehash::from_hex(&Prehash::of(b"test").hex()).unwrap();
            assert_eq!(signature.is_by(&key, Signed::Prehash(&prehash)), over == Over::Prehash);
            // Windows' line ends, and no other comment, algorithm or number.
            let crossed = text.replace('\n', "\r\n");
            assert_eq!(Signature::parse(&crossed).unwrap(), signature);
            let other = text.replacen("file:test", "file:best", 1);
            assert!(!Signature::parse(&other).unwrap().is_by(&key, Signed::Whole(b"test")), "{other}");
            let other = if over == Over::Whole { text.replace("RWQf", "RUQf") } else { text.replace("RUQf", "RWQf") };
            assert!(!Signature::parse(&other).unwrap().is_by(&key, Signed::Whole(b"test")), "{other}");
            let other = text.replacen("Qf6", "Qf7", 1);
            assert!(!Signature::parse(&other).unwrap().is_by(&key, Signed::Whole(b"test")), "{other}");
        }
    }

    #[test]
    fn every_bit_counts() {
        let key = PublicKey::parse(KEY).unwrap();
        let signature = Signature::parse(HASHED).unwrap();
        for place in 0..64 {
            let mut turned = signature.clone();
            turned.signature[place] ^= 1 << (place % 8);
            assert!(!turned.is_by(&key, Signed::Whole(b"test")), "bit of byte {place}");
            let mut turned = signature.clone();
            turned.global[place] ^= 1 << (place % 8);
            assert!(!turned.is_by(&key, Signed::Whole(b"test")), "bit of byte {place} of the comment's");
        }
        for place in 0..32 {
            let mut turned = key;
            turned.bytes[place] ^= 1 << (place % 8);
            assert!(!signature.is_by(&turned, Signed::Whole(b"test")), "bit of byte {place} of the key");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_what_is_wrong() {
        let cut = |text: &str, lines: usize| text.lines().take(lines).collect::<Vec<_>>().join("\n");
        for (text, error) in [
            (String::new(), FormatError::Short),
            (cut(HASHED, 1), FormatError::Short),
            (cut(HASHED, 2), FormatError::Short),
            (cut(HASHED, 3), FormatError::Short),
            (HASHED.replace("trusted comment: timestamp", "comment: timestamp"), FormatError::NoComment),
            (HASHED.replace("file:test", "file:\u{1b}[2J"), FormatError::Comment),
            (HASHED.replace("RUQf6", "RUQ f6"), FormatError::Encoding),
            (HASHED.replace("RUQf6", "AAQf6"), FormatError::Algorithm),
            (HASHED[..HASHED.len() - 4].to_owned(), FormatError::Encoding),
            (format!("{HASHED}{}", "\n".repeat(MAX_FILE_BYTES)), FormatError::Long),
        ] {
            assert_eq!(Signature::parse(&text).unwrap_err(), error, "{text:?}");
        }
        assert_eq!(PublicKey::parse("").unwrap_err(), FormatError::Short);
        assert_eq!(PublicKey::parse(&KEY[..52]).unwrap_err(), FormatError::Encoding);
        assert_eq!(PublicKey::parse(&KEY.replace("RWQ", "AWQ")).unwrap_err(), FormatError::Algorithm);
    }

    #[test]
    fn a_key_signs_what_its_public_key_verifies_and_its_file_reads_back() {
        let key = SecretKey::generate().unwrap();
        let read = SecretKey::parse(&key.file()).unwrap();
        assert_eq!(read.public(), key.public());
        let signature = read.sign(&Prehash::of(b"component"), "plugin:acme/loyalty\tversion:1.0.0");
        let read = Signature::parse(&signature.file()).unwrap();
        assert_eq!(read, signature);
        assert!(read.is_by(&key.public(), Signed::Whole(b"component")));
        assert!(!read.is_by(&SecretKey::generate().unwrap().public(), Signed::Whole(b"component")));
        // A key that is mistyped, cut, or locked.
        let bytes = STANDARD.decode(key.file().lines().nth(1).unwrap()).unwrap();
        for (place, value, error) in [
            (3, b'c', FormatError::Algorithm),
            (60, bytes[60] ^ 1, FormatError::Checksum),
            (157, bytes[157] ^ 1, FormatError::Checksum),
            (0, b'X', FormatError::Algorithm),
        ] {
            let mut other = bytes.clone();
            other[place] = value;
            let text = format!("untrusted comment: x\n{}\n", STANDARD.encode(&other));
            assert_eq!(SecretKey::parse(&text).err(), Some(error), "byte {place}");
        }
        let mut locked = bytes.clone();
        locked[2..4].copy_from_slice(b"Sc");
        let text = format!("untrusted comment: x\n{}\n", STANDARD.encode(&locked));
        assert_eq!(SecretKey::parse(&text).err(), Some(FormatError::Locked));
        assert_eq!(SecretKey::parse("untrusted comment: x\n").err(), Some(FormatError::Short));
    }
}
