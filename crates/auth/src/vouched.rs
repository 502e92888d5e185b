//! Claims on their way from a gateway to a host.
//!
//! The gateway has verified the participant's token; the host trusts the gateway's signature and nothing else. Signed
//! claims travel with every call and open every stream, in the metadata [`CLAIMS_HEADER`], and soon run out, so a copy
//! found in a log is worth nothing.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use conclave_proto::internal::v1 as wire;
use conclave_proto::status::ApiError;
use conclave_types::{QueueName, Timestamp};
use prost::Message;

use crate::claims::{
    Claims, MessagingRights, OpenRooms, QueueRights, Queues, Rights, Role, RoomRights, SyncPath, SyncRights,
};
use crate::seal;

/// Metadata key of the signed claims. Binary metadata: gRPC libraries carry it in base64.
pub const CLAIMS_HEADER: &str = "conclave-claims-bin";
/// How far the moments of signing and of checking may lie apart, either way: travel, waiting and skew of the clocks.
pub const MAX_AGE_MS: u64 = 60_000;

const LABEL: &[u8] = b"conclave claims 1";

/// Why claims do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    #[error("the claims are not signed by a gateway of this cluster")]
    Forged,
    /// Genuine, but signed too long ago (or ahead of this clock), or the participant's token has ended.
    #[error("the claims have expired")]
    Expired,
}

impl From<ClaimsError> for ApiError {
    fn from(error: ClaimsError) -> ApiError {
        match error {
            ClaimsError::Forged => ApiError::token_invalid(),
            ClaimsError::Expired => ApiError::token_expired(),
        }
    }
}

/// The bytes of the metadata entry.
pub fn sign_claims(secret: &[u8; 32], claims: &Claims, now: Timestamp) -> Vec<u8> {
    seal::seal(secret, LABEL, to_wire(claims, now).encode_to_vec())
}

/// The same as the text of an HTTP header, for a caller that writes headers itself.
pub fn claims_header_value(secret: &[u8; 32], claims: &Claims, now: Timestamp) -> String {
    BASE64_STANDARD_NO_PAD.encode(sign_claims(secret, claims, now))
}

/// The claims in the bytes of the metadata entry.
pub fn verify_claims(secret: &[u8; 32], signed: &[u8], now: Timestamp) -> Result<Claims, ClaimsError> {
    let body = seal::open(secret, LABEL, signed).ok_or(ClaimsError::Forged)?;
    let message = wire::Claims::decode(body).map_err(|_| ClaimsError::Forged)?;
    if now.0.abs_diff(message.signed_ms) > MAX_AGE_MS || now.0 >= message.expires_ms {
        return Err(ClaimsError::Expired);
    }
    // Signed, so written by a gateway: what cannot be read was written by another version, and is not trusted either.
    from_wire(message).ok_or(ClaimsError::Forged)
}

fn to_wire(claims: &Claims, now: Timestamp) -> wire::Claims {
    let Rights { admin, rooms, queues, messaging, sync } = &claims.rights;
    wire::Claims {
        project: claims.project.to_string(),
        participant: claims.participant.to_string(),
        room: match &claims.rooms {
            OpenRooms::All => String::new(),
            OpenRooms::One(room) => room.to_string(),
        },
        rights: Some(wire::Rights {
            admin: *admin,
            rooms_read: rooms.read,
            rooms_write: rooms.write,
            rooms_list: rooms.list,
            queue_send: queues_to_wire(&queues.send),
            queue_receive: queues_to_wire(&queues.receive),
            queue_list: queues.list,
            messaging_broadcast: messaging.broadcast,
            messaging_list: messaging.list,
            messaging_send: messaging.send,
            messaging_read: messaging.read,
            sync: sync_to_wire(sync),
        }),
        expires_ms: claims.expires.0,
        signed_ms: now.0,
        role: claims.role.to_string(),
    }
}

fn queues_to_wire(queues: &Queues) -> Option<wire::QueueRights> {
    match queues {
        Queues::None => None,
        Queues::All => Some(wire::QueueRights { all: true, queues: Vec::new() }),
        Queues::Only(names) => {
            Some(wire::QueueRights { all: false, queues: names.iter().map(QueueName::to_string).collect() })
        }
    }
}

fn sync_to_wire(sync: &SyncRights) -> Option<wire::SyncRights> {
    let path = |granted: &SyncPath| wire::SyncPath { path: granted.pattern.to_string(), read_only: granted.read_only };
    match sync {
        SyncRights::None => None,
        SyncRights::All => Some(wire::SyncRights { all: true, paths: Vec::new() }),
        SyncRights::Paths(paths) => Some(wire::SyncRights { all: false, paths: paths.iter().map(path).collect() }),
    }
}

fn from_wire(message: wire::Claims) -> Option<Claims> {
    let rights = message.rights.unwrap_or_default();
    Some(Claims {
        project: message.project.parse().ok()?,
        participant: message.participant.parse().ok()?,
        role: match message.role.as_str() {
            "" => Role::User,
            role => role.parse().ok()?,
        },
        rooms: match message.room.as_str() {
            "" => OpenRooms::All,
            room => OpenRooms::One(room.parse().ok()?),
        },
        rights: Rights {
            admin: rights.admin,
            rooms: RoomRights { read: rights.rooms_read, write: rights.rooms_write, list: rights.rooms_list },
            queues: QueueRights {
                send: queues_from_wire(rights.queue_send)?,
                receive: queues_from_wire(rights.queue_receive)?,
                list: rights.queue_list,
            },
            messaging: MessagingRights {
                broadcast: rights.messaging_broadcast,
                list: rights.messaging_list,
                send: rights.messaging_send,
                read: rights.messaging_read,
            },
            sync: sync_from_wire(rights.sync),
        },
        expires: Timestamp(message.expires_ms),
    })
}

fn queues_from_wire(rights: Option<wire::QueueRights>) -> Option<Queues> {
    match rights {
        None => Some(Queues::None),
        Some(rights) if rights.all => Some(Queues::All),
        Some(rights) => {
            let names: Result<_, _> = rights.queues.iter().map(|name| name.parse()).collect();
            names.ok().map(Queues::Only)
        }
    }
}

fn sync_from_wire(sync: Option<wire::SyncRights>) -> SyncRights {
    let path = |path: wire::SyncPath| SyncPath { pattern: path.path.as_str().into(), read_only: path.read_only };
    match sync {
        None => SyncRights::None,
        Some(sync) if sync.all => SyncRights::All,
        Some(sync) => SyncRights::Paths(sync.paths.into_iter().map(path).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SECRET: [u8; 32] = [7; 32];
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn claims() -> Claims {
        let only = Queues::Only(BTreeSet::from(["jobs".parse().expect("a queue")]));
        Claims {
            project: "acme".parse().expect("a project"),
            participant: "ada".parse().expect("a participant"),
            role: Role::Agent,
            rooms: OpenRooms::One("lab".parse().expect("a room")),
            rights: Rights {
                admin: false,
                rooms: RoomRights { read: true, write: false, list: true },
                queues: QueueRights { send: only, receive: Queues::All, list: false },
                messaging: MessagingRights { broadcast: false, list: true, send: false, read: true },
                sync: SyncRights::Paths(vec![SyncPath { pattern: "notes/*".into(), read_only: true }]),
            },
            expires: NOW.plus_ms(3_600_000),
        }
    }

    #[test]
    fn signed_claims_arrive_as_they_were() {
        for claims in [
            claims(),
            Claims { rooms: OpenRooms::All, ..claims() },
            Claims { rights: Rights::admin(), ..claims() },
            Claims { rights: Rights::default(), ..claims() },
            Claims { rights: Rights { sync: SyncRights::All, ..Rights::default() }, ..claims() },
            Claims { rights: Rights { sync: SyncRights::Paths(vec![]), ..Rights::default() }, ..claims() },
            Claims { role: Role::User, ..claims() },
            Claims {
                rights: Rights {
                    messaging: MessagingRights { broadcast: true, list: false, send: true, read: false },
                    ..Rights::default()
                },
                ..claims()
            },
        ] {
            let signed = sign_claims(&SECRET, &claims, NOW);
            assert_eq!(verify_claims(&SECRET, &signed, NOW), Ok(claims.clone()));
            let header = claims_header_value(&SECRET, &claims, NOW);
            assert_eq!(BASE64_STANDARD_NO_PAD.decode(header), Ok(signed));
        }
    }

    #[test]
    fn claims_signed_with_another_secret_are_forged() {
        let signed = sign_claims(&[8; 32], &claims(), NOW);
        assert_eq!(verify_claims(&SECRET, &signed, NOW), Err(ClaimsError::Forged));
    }

    #[test]
    fn changed_or_cut_claims_are_forged() {
        let signed = sign_claims(&SECRET, &claims(), NOW);
        for at in 0..signed.len() {
            assert_eq!(verify_claims(&SECRET, &signed[..at], NOW), Err(ClaimsError::Forged));
            for bit in 0..8 {
                let mut changed = signed.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(verify_claims(&SECRET, &changed, NOW), Err(ClaimsError::Forged));
            }
        }
    }

    #[test]
    fn claims_count_for_a_minute_and_never_past_the_token() {
        let signed = sign_claims(&SECRET, &claims(), NOW);
        assert!(verify_claims(&SECRET, &signed, NOW.plus_ms(MAX_AGE_MS)).is_ok());
        assert_eq!(verify_claims(&SECRET, &signed, NOW.plus_ms(MAX_AGE_MS + 1)), Err(ClaimsError::Expired));
        assert_eq!(verify_claims(&SECRET, &signed, Timestamp(NOW.0 - MAX_AGE_MS - 1)), Err(ClaimsError::Expired));
        let short = Claims { expires: NOW.plus_ms(10), ..claims() };
        let signed = sign_claims(&SECRET, &short, NOW);
        assert!(verify_claims(&SECRET, &signed, NOW.plus_ms(9)).is_ok());
        assert_eq!(verify_claims(&SECRET, &signed, NOW.plus_ms(10)), Err(ClaimsError::Expired));
    }

    #[test]
    fn a_resume_token_is_no_claims() {
        let token = crate::resume::tests::token();
        assert_eq!(verify_claims(&SECRET, &token.sign(&SECRET), NOW), Err(ClaimsError::Forged));
    }
}
