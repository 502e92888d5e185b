//! Reads requests about participants: every field checked, named in the fault with its rule or limit.

use std::collections::BTreeMap;

use conclave_auth::Claims;
use conclave_proto::resource::ParticipantPath;
use conclave_proto::time::ms_of_duration;
use conclave_proto::v1;
use conclave_types::limits::{
    DEFAULT_PRESENCE_LEASE_MS, MAX_ATTRIBUTES_BYTES, MAX_LABEL_KEY_BYTES, MAX_LABELS, MAX_ROLE_BYTES,
    PRESENCE_LEASE_RANGE_MS,
};
use conclave_types::{ParticipantName, SessionId};

use super::room::{AttachError, Attacher, Attaching};
use crate::faults::Fault;
use crate::hub::ParticipantUid;

pub fn attaching(
    claims: &Claims,
    session: Option<SessionId>,
    request: v1::AttachParticipantRequest,
) -> Result<Attaching, Fault> {
    let identity = claims.participant.clone();
    let name = name(&identity, &request.participant)?;
    let attacher = match (session, uid("uid", &request.uid)?) {
        (None, uid) => Attacher::Call(uid),
        (Some(session), None) => Attacher::Session(session),
        (Some(_), Some(_)) => return Err(Fault::field_invalid("uid", "must be empty in a session")),
    };
    let role = match request.role.is_empty() {
        false => request.role,
        true => claims.role.to_string(),
    };
    if role.len() > MAX_ROLE_BYTES {
        return Err(Fault::too_large("role", MAX_ROLE_BYTES, role.len()));
    }
    check_attributes(&request.attributes)?;
    let lease_ms = match &request.lease {
        None => DEFAULT_PRESENCE_LEASE_MS,
        Some(lease) => ms_of_duration(lease)
            .filter(|lease_ms| PRESENCE_LEASE_RANGE_MS.contains(lease_ms))
            .ok_or_else(|| Fault::field_invalid("lease", "must be 5 seconds to 5 minutes"))?,
    };
    Ok(Attaching { name, identity, attacher, role, attributes: request.attributes, lease_ms, replace: request.replace })
}

/// The participant that a request in this room is about.
pub fn named(path: &ParticipantPath, room: &conclave_types::RoomName) -> Result<ParticipantName, Fault> {
    if path.room == *room { Ok(path.participant.clone()) } else { Err(Fault::other_room()) }
}

/// A token's holder may be in a room more than once, under names that show whose they are.
fn name(identity: &ParticipantName, asked: &str) -> Result<ParticipantName, Fault> {
    if asked.is_empty() || asked == identity.as_str() {
        return Ok(identity.clone());
    }
    let suffix = asked.strip_prefix(identity.as_str()).and_then(|rest| rest.strip_prefix('#'));
    if suffix.is_none_or(str::is_empty) {
        let rule = "must be the token's name, or that followed by # and more";
        return Err(Fault::field_invalid("participant", rule));
    }
    Ok(asked.parse::<ParticipantName>()?)
}

fn check_attributes(attributes: &BTreeMap<String, String>) -> Result<(), Fault> {
    const FIELD: &str = "attributes";
    if attributes.len() > MAX_LABELS {
        return Err(Fault::too_large(FIELD, MAX_LABELS, attributes.len()));
    }
    for key in attributes.keys() {
        if key.is_empty() {
            return Err(Fault::field_invalid(FIELD, "has an empty key"));
        }
        if key.len() > MAX_LABEL_KEY_BYTES {
            return Err(Fault::too_large(FIELD, MAX_LABEL_KEY_BYTES, key.len()));
        }
    }
    match attributes.iter().map(|(key, value)| key.len() + value.len()).sum() {
        0..=MAX_ATTRIBUTES_BYTES => Ok(()),
        bytes => Err(Fault::too_large(FIELD, MAX_ATTRIBUTES_BYTES, bytes)),
    }
}

/// A uid as clients see it: 32 hexadecimal digits; none when it is empty.
pub fn uid(field: &'static str, text: &str) -> Result<Option<ParticipantUid>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    let number = number.ok_or_else(|| Fault::field_invalid(field, "must be the uid of a participant"))?;
    Ok(Some(ParticipantUid(number.to_be_bytes())))
}

pub fn uid_text(uid: ParticipantUid) -> String {
    format!("{:032x}", u128::from_be_bytes(uid.0))
}

pub fn fault(error: AttachError, name: &ParticipantName) -> Fault {
    match error {
        AttachError::NameHeld => Fault::participant_name_held(name.as_str()),
        AttachError::Limit => Fault::participant_limit(),
        AttachError::UidForeign => Fault::field_invalid("uid", "must be of a participant that this token attached"),
    }
}

#[cfg(test)]
mod tests {
    use conclave_auth::{OpenRooms, Rights, Role};
    use conclave_proto::v1::ErrorReason;
    use conclave_types::Timestamp;

    use super::*;

    fn claims(role: Role) -> Claims {
        Claims {
            project: "acme".parse().expect("a project"),
            participant: "ada".parse().expect("a participant"),
            role,
            rooms: OpenRooms::All,
            rights: Rights::default(),
            expires: Timestamp(1),
        }
    }

    fn asked(participant: &str) -> v1::AttachParticipantRequest {
        v1::AttachParticipantRequest { participant: participant.into(), ..Default::default() }
    }

    fn refused(request: v1::AttachParticipantRequest) -> (ErrorReason, String) {
        let fault = attaching(&claims(Role::User), None, request).expect_err("a request to be refused");
        (fault.reason, fault.metadata["field"].clone())
    }

    #[test]
    fn a_name_shows_whose_it_is() {
        for (asked_for, name) in [("", "ada"), ("ada", "ada"), ("ada#phone", "ada#phone"), ("ada#a#b", "ada#a#b")] {
            let read = attaching(&claims(Role::User), None, asked(asked_for)).expect("a good name");
            assert_eq!(read.name.as_str(), name);
        }
        for bad in ["bob", "ada#", "adam", "ada phone", "#ada", "Ada"] {
            assert_eq!(refused(asked(bad)), (ErrorReason::FieldInvalid, "participant".into()), "{bad}");
        }
        for bad in ["ada#a/b", "ada#\n", &format!("ada#{}", "x".repeat(128))] {
            assert_eq!(refused(asked(bad)), (ErrorReason::NameInvalid, "participant".into()), "{bad}");
        }
    }

    #[test]
    fn a_role_comes_from_the_request_or_from_the_token() {
        let role = |token, asked: &str| {
            let request = v1::AttachParticipantRequest { role: asked.into(), ..Default::default() };
            attaching(&claims(token), None, request).expect("a good role").role
        };
        assert_eq!(role(Role::Agent, "reviewer"), "reviewer");
        assert_eq!(role(Role::Agent, ""), "agent");
    }

    #[test]
    fn what_is_over_its_limit_is_named() {
        let limits = [
            (asked("ada"), None),
            (v1::AttachParticipantRequest { role: "x".repeat(64), ..asked("") }, Some("role")),
            (v1::AttachParticipantRequest { attributes: attributes(65, 1, 1), ..asked("") }, Some("attributes")),
            (v1::AttachParticipantRequest { attributes: attributes(1, 129, 1), ..asked("") }, Some("attributes")),
            (v1::AttachParticipantRequest { attributes: attributes(1, 1, 4_096), ..asked("") }, Some("attributes")),
            (v1::AttachParticipantRequest { attributes: attributes(1, 1, 4_095), ..asked("") }, None),
        ];
        for (request, field) in limits {
            match field {
                Some(field) => assert_eq!(refused(request), (ErrorReason::TooLarge, field.into())),
                None => drop(attaching(&claims(Role::User), None, request).expect("within the limits")),
            }
        }
        let empty_key = v1::AttachParticipantRequest { attributes: attributes(1, 0, 1), ..asked("") };
        assert_eq!(refused(empty_key), (ErrorReason::FieldInvalid, "attributes".into()));
    }

    fn attributes(count: usize, key_bytes: usize, value_bytes: usize) -> BTreeMap<String, String> {
        let key = |number: usize| match key_bytes {
            0 => String::new(),
            bytes => format!("{number:0bytes$}"),
        };
        (0..count).map(|number| (key(number), "x".repeat(value_bytes))).collect()
    }

    #[test]
    fn a_lease_has_a_range_and_a_default() {
        let lease = |seconds| {
            let lease = Some(prost_types::Duration { seconds, nanos: 0 });
            attaching(&claims(Role::User), None, v1::AttachParticipantRequest { lease, ..asked("") })
        };
        assert_eq!(lease(5).expect("the shortest").lease_ms, 5_000);
        assert_eq!(lease(300).expect("the longest").lease_ms, 300_000);
        for bad in [-1, 0, 4, 301] {
            assert_eq!(lease(bad).expect_err("out of range").metadata["field"], "lease");
        }
        assert_eq!(attaching(&claims(Role::User), None, asked("")).expect("the default").lease_ms, 30_000);
    }

    #[test]
    fn uids_survive_their_text_and_belong_to_calls() {
        let one = ParticipantUid([7; 16]);
        assert_eq!(uid("uid", &uid_text(one)).expect("a uid"), Some(one));
        assert_eq!(uid("uid", "").expect("none"), None);
        for bad in ["7", "+0000000000000000000000000000007", &"x".repeat(32)] {
            assert!(uid("uid", bad).is_err(), "{bad}");
        }
        let request = v1::AttachParticipantRequest { uid: uid_text(one), ..asked("") };
        let call = attaching(&claims(Role::User), None, request.clone()).expect("a call");
        assert_eq!(call.attacher, Attacher::Call(Some(one)));
        let session = attaching(&claims(Role::User), Some(SessionId([1; 16])), request);
        assert_eq!(session.expect_err("a session").metadata["field"], "uid");
    }
}
