//! Resume tokens: what a client shows to take up its session again, on any gateway.
//!
//! Opaque to clients. A token counts only beside a valid participant token of the same participant, and only for the room
//! it was made for; both comparisons are the host's. Being old is no fault: the session record decides.

use conclave_proto::status::ApiError;
use conclave_types::{AttachmentNumber, ParticipantName, ProjectId, RoomNumber, RoomUid, SessionId, Slot, Timestamp};

use crate::seal;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    pub session: SessionId,
    /// The attachment that the token was issued to; a newer one fences it off.
    pub attachment: AttachmentNumber,
    pub room: RoomUid,
    pub project: ProjectId,
    pub participant: ParticipantName,
    /// On the shard's applied clock.
    pub issued: Timestamp,
}

/// The bytes are not a resume token of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the resume token is not one of this cluster")]
pub struct ResumeTokenError;

impl From<ResumeTokenError> for ApiError {
    fn from(_: ResumeTokenError) -> ApiError {
        ApiError::resume_token_invalid()
    }
}

const LABEL: &[u8] = b"conclave resume token 1";

impl ResumeToken {
    /// The bytes for the client.
    pub fn sign(&self, secret: &[u8; 32]) -> Vec<u8> {
        let mut body = Vec::with_capacity(128);
        body.extend_from_slice(&self.session.0);
        body.extend_from_slice(&self.attachment.0.to_be_bytes());
        body.extend_from_slice(&self.room.slot.0.to_be_bytes());
        body.extend_from_slice(&self.room.number.0.to_be_bytes());
        body.extend_from_slice(&self.issued.0.to_be_bytes());
        // A project has at most 63 characters; the participant takes the rest.
        body.push(self.project.as_bytes().len() as u8);
        body.extend_from_slice(self.project.as_bytes());
        body.extend_from_slice(self.participant.as_bytes());
        seal::seal(secret, LABEL, body)
    }

    /// The token in a client's bytes.
    pub fn verify(secret: &[u8; 32], signed: &[u8]) -> Result<ResumeToken, ResumeTokenError> {
        let body = seal::open(secret, LABEL, signed).ok_or(ResumeTokenError)?;
        read(body).ok_or(ResumeTokenError)
    }
}

fn read(mut body: &[u8]) -> Option<ResumeToken> {
    let session = SessionId(take(&mut body)?);
    let attachment = AttachmentNumber(u64::from_be_bytes(take(&mut body)?));
    let slot = Slot(u16::from_be_bytes(take(&mut body)?));
    let number = RoomNumber(u64::from_be_bytes(take(&mut body)?));
    let issued = Timestamp(u64::from_be_bytes(take(&mut body)?));
    let [project_length] = take(&mut body)?;
    let (project, participant) = body.split_at_checked(project_length.into())?;
    Some(ResumeToken {
        session,
        attachment,
        room: RoomUid { slot, number },
        project: std::str::from_utf8(project).ok()?.parse().ok()?,
        participant: std::str::from_utf8(participant).ok()?.parse().ok()?,
        issued,
    })
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(*taken)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    pub(crate) fn token() -> ResumeToken {
        ResumeToken {
            session: SessionId([3; 16]),
            attachment: AttachmentNumber(4),
            room: RoomUid { slot: Slot(16_383), number: RoomNumber(u64::MAX) },
            project: "acme".parse().expect("a project"),
            participant: "Ada Lovelace".parse().expect("a participant"),
            issued: Timestamp(1_700_000_000_000),
        }
    }

    #[test]
    fn a_signed_token_comes_back_as_it_was() {
        assert_eq!(ResumeToken::verify(&SECRET, &token().sign(&SECRET)), Ok(token()));
    }

    #[test]
    fn a_forged_changed_or_cut_token_is_refused() {
        let signed = token().sign(&SECRET);
        assert!(ResumeToken::verify(&[8; 32], &signed).is_err());
        for at in 0..signed.len() {
            assert!(ResumeToken::verify(&SECRET, &signed[..at]).is_err());
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(ResumeToken::verify(&SECRET, &changed).is_err());
        }
    }

    #[test]
    fn signed_bytes_of_another_form_are_refused() {
        for body in [vec![], vec![0; 42], vec![0xff; 60]] {
            assert!(ResumeToken::verify(&SECRET, &seal::seal(&SECRET, LABEL, body)).is_err());
        }
    }
}
