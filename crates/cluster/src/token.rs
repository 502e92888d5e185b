//! The cluster token: the one secret that the nodes of a cluster are given.
//!
//! It never travels and is never stored. What does are proofs made from it, each for one purpose, so that a proof seen
//! in one place is worth nothing in another.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Shortest and longest token, in bytes: not guessable, yet fits a flag.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=1_024;

#[derive(Clone, PartialEq, Eq)]
pub struct ClusterToken(Vec<u8>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cluster token must have {min} to {max} bytes, this one has {length}", min = LENGTH.start(), max = LENGTH.end())]
pub struct TokenError {
    length: usize,
}

/// What a proof is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Peer handshakes.
    Peer,
    /// Calls of the metadata service.
    Meta,
    /// Answers to probes; covers a nonce.
    Probe,
    /// What a data folder keeps, to know the token again.
    Folder,
}

impl ClusterToken {
    /// A new random token.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(ClusterToken(hex(&bytes).into_bytes()))
    }

    /// The proof that peers show each other, for the transport's identity.
    pub fn peer_proof(&self) -> [u8; 32] {
        self.proof(Purpose::Peer, &[])
    }

    pub(crate) fn proof(&self, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
        self.mac(purpose, parts).finalize().into_bytes().into()
    }

    /// Compares without telling by its duration where the difference is.
    pub(crate) fn is_proof(&self, proof: &[u8], purpose: Purpose, parts: &[&[u8]]) -> bool {
        self.mac(purpose, parts).verify_slice(proof).is_ok()
    }

    fn mac(&self, purpose: Purpose, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(match purpose {
            Purpose::Peer => b"conclave peer 1".as_slice(),
            Purpose::Meta => b"conclave meta 1",
            Purpose::Probe => b"conclave probe 1",
            Purpose::Folder => b"conclave folder 1",
        });
        for part in parts {
            // Lengths keep ("ab", "c") apart from ("a", "bc").
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

impl FromStr for ClusterToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if LENGTH.contains(&text.len()) {
            Ok(ClusterToken(text.into()))
        } else {
            Err(TokenError { length: text.len() })
        }
    }
}

impl fmt::Debug for ClusterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterToken(…)")
    }
}

/// What hosts compare instead of the whole list of initial hosts. Order counts: it gives out the first replica ids.
pub(crate) fn hosts_hash(hosts: &[String]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for host in hosts {
        hash.update((host.len() as u64).to_be_bytes());
        hash.update(host);
    }
    hash.finalize().into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_counts_for_its_token_purpose_and_parts_alone() {
        let token: ClusterToken = "sixteen bytes ok".parse().unwrap();
        let proof = token.proof(Purpose::Probe, &[b"ab", b"c"]);
        assert!(token.is_proof(&proof, Purpose::Probe, &[b"ab", b"c"]));
        assert!(!token.is_proof(&proof, Purpose::Probe, &[b"a", b"bc"]));
        assert!(!token.is_proof(&proof, Purpose::Meta, &[b"ab", b"c"]));
        assert!(!token.is_proof(&proof[..31], Purpose::Probe, &[b"ab", b"c"]));
        let other: ClusterToken = "another token 16".parse().unwrap();
        assert!(!other.is_proof(&proof, Purpose::Probe, &[b"ab", b"c"]));
    }

    #[test]
    fn short_tokens_are_refused_and_tokens_are_not_printed() {
        let refused = "short".parse::<ClusterToken>().unwrap_err();
        assert_eq!(refused.to_string(), "the cluster token must have 16 to 1024 bytes, this one has 5");
        assert!(!format!("{:?}", ClusterToken::random().unwrap()).contains('0'));
    }

    #[test]
    fn the_order_of_hosts_counts() {
        let list = |hosts: &[&str]| hosts.iter().map(|host| host.to_string()).collect::<Vec<_>>();
        assert_ne!(hosts_hash(&list(&["a:1", "b:1"])), hosts_hash(&list(&["b:1", "a:1"])));
        assert_eq!(from_hex(&hex(&[9; 32])), Some([9; 32]));
        assert_eq!(from_hex("zz"), None);
    }
}
