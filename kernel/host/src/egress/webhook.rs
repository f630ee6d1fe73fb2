//! Responsible for signatures after Standard Webhooks 1.0, made by the host with a secret that the guest never sees.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::signing::standard_key;

/// The value of `webhook-signature` for a message.
///
/// # Errors
/// When the secret is not `whsec_` and base64 of 24 to 64 bytes. The message does not hold it.
pub(super) fn sign(secret: &str, id: &str, timestamp_seconds: i64, body: &[u8]) -> Result<String, String> {
    let key =
        standard_key(secret).ok_or("the signing secret must be `whsec_` and the base64 of 24 to 64 random bytes")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp_seconds}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vector_holds() {
        let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signature = sign(secret, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
        assert_eq!(signature.as_deref(), Ok("v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="));
        for bad in ["C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_", "whsec_AAAA", "whsec_***"] {
            assert!(sign(bad, "id", 0, body).is_err(), "{bad}");
        }
    }
}
