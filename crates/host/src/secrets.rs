//! What a host does with the cluster secret and with randomness: claims, resume tokens, new session ids.

use conclave_auth::{Claims, ResumeToken, verify_claims};
use conclave_types::{SessionId, Timestamp};

use crate::faults::Fault;

#[derive(Clone)]
pub struct Secrets([u8; 32]);

impl Secrets {
    pub fn new(secret: [u8; 32]) -> Self {
        Secrets(secret)
    }

    pub fn open_claims(&self, signed: &[u8], now: Timestamp) -> Result<Claims, Fault> {
        Ok(verify_claims(&self.0, signed, now)?)
    }

    pub fn seal_resume_token(&self, token: &ResumeToken) -> Vec<u8> {
        token.sign(&self.0)
    }

    pub fn open_resume_token(&self, signed: &[u8]) -> Result<ResumeToken, Fault> {
        Ok(ResumeToken::verify(&self.0, signed)?)
    }

    /// 128 random bits, so that no two sessions ever meet and none can be guessed.
    pub fn new_session(&self) -> Result<SessionId, Fault> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| Fault::internal("randomness"))?;
        Ok(SessionId(bytes))
    }
}
