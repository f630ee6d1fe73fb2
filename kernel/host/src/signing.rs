//! Responsible for keys of signatures and for comparing signatures, with secrets that no guest sees: how a key lies in a secret's
//! text, which texts can be one, and how a signature may be written. Making one for a request is `egress/webhook.rs`'s.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kith_model::plugin::{SecretForm, SecretRequest};
use ring::hmac;
use zeroize::Zeroizing;

use crate::hidden::SHORTEST_HIDDEN;

/// What stands before a secret of Standard Webhooks.
const STANDARD_PREFIX: &str = "whsec_";

/// What the standard asks of a key's length, in bytes.
const STANDARD_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What may stand before a signature, and the digest that it names.
const SIGNATURE_PREFIXES: [(&str, Option<Digest>); 6] = [
    ("sha1=", Some(Digest::Sha1)),
    ("sha256=", Some(Digest::Sha256)),
    ("sha512=", Some(Digest::Sha512)),
    ("v0=", None),
    ("v1=", None),
    ("v1,", None),
];

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Digest::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Digest::Sha256 => hmac::HMAC_SHA256,
            Digest::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn bytes(self) -> usize {
        self.algorithm().digest_algorithm().output_len()
    }
}

/// The key that a secret of Standard Webhooks holds; `None` where it is not `whsec_` and base64 of 24 to 64 bytes.
pub(crate) fn standard_key(secret: &str) -> Option<Zeroizing<Vec<u8>>> {
    base64_key(secret.strip_prefix(STANDARD_PREFIX)?)
}

fn base64_key(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let key = STANDARD.decode(text).ok().map(Zeroizing::new)?;
    STANDARD_KEY_BYTES.contains(&key.len()).then_some(key)
}

/// The bytes that are the key of a secret of a form; `None` where the secret is not of it.
pub(crate) fn key_of(secret: &str, form: SecretForm) -> Option<Zeroizing<Vec<u8>>> {
    match form {
        SecretForm::Text => (!secret.is_empty()).then(|| Zeroizing::new(secret.as_bytes().to_vec())),
        // Some providers show the base64 alone.
        SecretForm::StandardWebhooks => base64_key(secret.strip_prefix(STANDARD_PREFIX).unwrap_or(secret)),
    }
}

/// Whether a signature is the HMAC of a message, whole; compared in constant time.
pub(crate) fn verify(key: &[u8], digest: Digest, message: &[u8], signature: &str) -> bool {
    let Some(signature) = decoded(signature, digest) else { return false };
    hmac::verify(&hmac::Key::new(digest.algorithm(), key), message, &signature).is_ok()
}

/// The bytes of a signature as providers write it. Hexadecimal digits and base64 of a digest differ in their length.
fn decoded(text: &str, digest: Digest) -> Option<Vec<u8>> {
    /// The longest is SHA-512 as hexadecimal digits behind a prefix.
    const MAX_TEXT_BYTES: usize = 160;
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let text = text.trim_ascii();
    let begins = |prefix: &str| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let bare = match SIGNATURE_PREFIXES.iter().find(|(prefix, _)| begins(prefix)) {
        Some((_, Some(named))) if *named != digest => return None,
        Some((prefix, _)) => &text[prefix.len()..],
        None => text,
    };
    if bare.len() == 2 * digest.bytes() {
        return data_encoding::HEXLOWER_PERMISSIVE.decode(bare.as_bytes()).ok();
    }
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes =
        GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(bare.replace('-', "+").replace('_', "/")).ok()?;
    (bytes.len() == digest.bytes()).then_some(bytes)
}

/// Whether a text can be the secret that a plugin asks for.
///
/// # Errors
/// What is wrong with it and what to give, without any of it.
pub fn check_secret(request: &SecretRequest, value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("is empty; give its value, or leave the secret out");
    }
    if value.trim() != value {
        return Err("begins or ends with a blank or a line's end; give the value alone");
    }
    if value.chars().count() < SHORTEST_HIDDEN {
        return Err("is shorter than 4 characters, which somebody finds by trying; take a longer one");
    }
    if request.form == SecretForm::StandardWebhooks && standard_key(value).is_none() {
        return Err(
            "must be `whsec_` and the base64 of 24 to 64 random bytes, as Standard Webhooks has it; copy it whole",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGESTS: [Digest; 3] = [Digest::Sha1, Digest::Sha256, Digest::Sha512];

    fn signed(key: &[u8], digest: Digest, message: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(digest.algorithm(), key), message).as_ref().to_vec()
    }

    fn hex(bytes: &[u8]) -> String {
        crate::package::hex(bytes)
    }

    /// RFC 2202 and RFC 4231, case 2; GitHub's and Slack's own examples.
    #[test]
    fn published_vectors_hold() {
        let question = "what do ya want for nothing?";
        let slack = "v0:1531420618:token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                     channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A\
                     %2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.\
                     47445629121.803a0bc887a14d10d2c447fce8b6703c";
        for (key, digest, message, signature) in [
            ("Jefe", Digest::Sha1, question, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            ("Jefe", Digest::Sha256, question, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                "Jefe",
                Digest::Sha512,
                question,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
            (
                "It's a Secret to Everybody",
                Digest::Sha256,
                "Hello, World!",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            ),
            (
                "8f742231b10e8888abcd99yyyzzz85a5",
                Digest::Sha256,
                slack,
                "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            ),
        ] {
            assert!(verify(key.as_bytes(), digest, message.as_bytes(), signature), "{signature}");
            assert!(!verify(key.as_bytes(), digest, format!("{message} ").as_bytes(), signature), "{signature}");
        }
        let key = key_of("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", SecretForm::StandardWebhooks).unwrap();
        let message =
            br#"msg_27UH4WbU6Z5A5EzD8u03UvzRbpk.1649367553.{"email":"test@example.com","username":"test_user"}"#;
        assert!(verify(&key, Digest::Sha256, message, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="));
    }

    #[test]
    fn every_way_to_write_a_signature_is_read_and_every_other_one_refused() {
        let (key, message) = (b"key".as_slice(), b"message".as_slice());
        for digest in DIGESTS {
            let bytes = signed(key, digest, message);
            let base64 = STANDARD.encode(&bytes);
            let digits = hex(&bytes);
            let url = base64.replace('+', "-").replace('/', "_");
            let bare =
                [digits.clone(), digits.to_uppercase(), base64.clone(), url.trim_end_matches('=').to_owned(), url];
            for (prefix, named) in SIGNATURE_PREFIXES.into_iter().chain([("", None)]) {
                for text in bare.iter().flat_map(|bare| [format!("{prefix}{bare}"), format!(" {prefix}{bare} ")]) {
                    let holds = named.is_none_or(|named| named == digest);
                    assert_eq!(verify(key, digest, message, &text), holds, "{text}");
                }
            }
            // No part of it, none with a bit turned, none under another key or digest, no sign that is none.
            for length in 0..bytes.len() {
                assert!(!verify(key, digest, message, &hex(&bytes[..length])), "{length} bytes");
                assert!(!verify(key, digest, message, &STANDARD.encode(&bytes[..length])), "{length} bytes");
                let mut turned = bytes.clone();
                turned[length] ^= 1 << (length % 8);
                assert!(!verify(key, digest, message, &hex(&turned)), "byte {length}");
            }
            for other in DIGESTS.into_iter().filter(|other| *other != digest) {
                assert!(!verify(key, other, message, &digits));
            }
            assert!(!verify(b"other", digest, message, &digits));
            let longer = digits.clone() + "00";
            let foreign = digits.replacen(|_: char| true, "g", 1);
            let unknown = format!("v2={digits}");
            for text in [longer, foreign, unknown, "sha256=".into(), "v1,".into(), "ü".repeat(20), digits.repeat(9)] {
                assert!(!verify(key, digest, message, &text), "{text}");
            }
        }
    }

    #[test]
    fn a_secret_that_can_be_none_is_refused_without_being_shown() {
        let request = |form| SecretRequest {
            name: "signing".into(),
            hosts: Vec::new(),
            reason: String::new(),
            optional: false,
            form,
        };
        let (text, standard) = (request(SecretForm::Text), request(SecretForm::StandardWebhooks));
        let good = format!("whsec_{}", STANDARD.encode([7; 32]));
        for (secret, as_text, as_standard) in [
            (good.as_str(), true, true),
            ("hush", true, false),
            ("hus", false, false),
            // Others begin their secrets so, too.
            ("whsec_", true, false),
            ("whsec_***", true, false),
            ("whsec_AAAA", true, false),
            (&good[..good.len() - 1], true, false),
            (good.trim_start_matches("whsec_"), true, false),
            ("", false, false),
            (" hush", false, false),
            ("hush\n", false, false),
        ] {
            for (request, expected) in [(&text, as_text), (&standard, as_standard)] {
                let checked = check_secret(request, secret);
                assert_eq!(checked.is_ok(), expected, "{secret:?} {:?}", request.form);
                let shown = checked.err().unwrap_or_default();
                assert!(secret.len() < 4 || secret == "whsec_" || !shown.contains(secret.trim()), "{shown}");
            }
        }
        assert!(key_of("", SecretForm::Text).is_none());
        assert_eq!(
            key_of(&good, SecretForm::StandardWebhooks).unwrap(),
            key_of(good.trim_start_matches("whsec_"), SecretForm::StandardWebhooks).unwrap()
        );
    }
}
