//! Bytes under the cluster secret: readable by anybody, made only by nodes of the cluster.
//!
//! HMAC-SHA256 over a label and the body. The label keeps one kind of sealed bytes from passing as another.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const TAG_BYTES: usize = 32;

/// The body, followed by its tag.
pub(crate) fn seal(secret: &[u8; 32], label: &'static [u8], mut body: Vec<u8>) -> Vec<u8> {
    let tag = mac(secret, label, &body).finalize().into_bytes();
    body.extend_from_slice(&tag);
    body
}

/// The body, if the tag is right. Compares in constant time.
pub(crate) fn open<'a>(secret: &[u8; 32], label: &'static [u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (body, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
    mac(secret, label, body).verify_slice(tag).ok()?;
    Some(body)
}

fn mac(secret: &[u8; 32], label: &'static [u8], body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    // The length first, so that no label and body run together into another pair.
    mac.update(&(label.len() as u64).to_be_bytes());
    mac.update(label);
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens_and_nothing_else(secret: [u8; 32], body: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let mut sealed = seal(&secret, b"label", body.clone());
            prop_assert_eq!(open(&secret, b"label", &sealed), Some(&body[..]));
            prop_assert_eq!(open(&secret, b"other", &sealed), None);
            let at = at.index(sealed.len());
            prop_assert_eq!(open(&secret, b"label", &sealed[..at]), None);
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(open(&secret, b"label", &sealed), None);
        }
    }
}
