//! A token opens what it says, and nothing that was not signed for it opens anything.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::claims::{MessagingRights, QueueRights, Queues, RoomRights, SyncPath, SyncRights};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

struct Keys(BTreeMap<String, TokenKey>);

impl KeyLookup for Keys {
    fn key(&self, kid: &str) -> Option<TokenKey> {
        self.0.get(kid).cloned()
    }
}

fn key(kid: &str, project: &str, byte: u8) -> TokenKey {
    TokenKey { kid: kid.into(), project: project.parse().expect("a project"), secret: Arc::new([byte; 32]) }
}

fn keys() -> Keys {
    let all = [key("first", "acme", 1), key("other", "umbrella", 2)];
    Keys(all.into_iter().map(|key| (key.kid.clone(), key)).collect())
}

fn spec() -> TokenSpec {
    TokenSpec {
        participant: "ada".parse().expect("a participant"),
        role: Role::User,
        rooms: OpenRooms::One("lab".parse().expect("a room")),
        rights: Rights {
            admin: false,
            rooms: RoomRights { read: true, write: true, list: false },
            queues: QueueRights { send: Queues::All, receive: Queues::None, list: true },
            messaging: MessagingRights { broadcast: false, list: true, send: true, read: false },
            sync: SyncRights::Paths(vec![SyncPath { pattern: "notes/*".into(), read_only: true }]),
        },
        lifetime: HOUR,
    }
}

/// Signs any claims with any header, as a forger or another library would.
fn sign(header: &Header, claims: &Value, secret: &[u8]) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret)).expect("it signs")
}

fn hs256(claims: &Value) -> String {
    sign(&Header::new(Algorithm::HS256), claims, &[1; 32])
}

fn plain_claims() -> Value {
    json!({"name": "ada", "sub": "acme", "kid": "first", "exp": NOW.0 / 1_000 + 60, "grants": []})
}

fn changed(key: &str, value: Value) -> Value {
    let mut claims = plain_claims();
    claims[key] = value;
    claims
}

#[test]
fn a_minted_token_says_what_was_asked_for() {
    for spec in [
        spec(),
        TokenSpec { rooms: OpenRooms::All, rights: Rights::admin(), ..spec() },
        TokenSpec { rights: Rights::default(), ..spec() },
        TokenSpec { role: Role::Agent, ..spec() },
        TokenSpec { role: Role::Tool, rights: Rights { sync: SyncRights::All, ..Rights::default() }, ..spec() },
    ] {
        let claims = verify(&mint(&key("first", "acme", 1), &spec, NOW), &keys(), NOW).expect("a valid token");
        assert_eq!((claims.participant, claims.role), (spec.participant, spec.role));
        assert_eq!((claims.rooms, claims.rights), (spec.rooms, spec.rights));
        assert_eq!((claims.project.as_str(), claims.expires), ("acme", NOW.plus_ms(3_600_000)));
    }
}

#[test]
fn a_token_of_another_library_is_read() {
    let mut claims = changed(
        "grants",
        json!([
            {"name": "room", "scope": "lab"},
            {"name": "role", "scope": "agent"},
            {"name": "api", "scope": {"queues": {"send": ["jobs"]}, "messaging": {}}},
        ]),
    );
    claims["team"] = json!("research");
    claims["aud"] = json!("anybody");
    let claims = verify(&hs256(&claims), &keys(), NOW).expect("a valid token");
    assert!(claims.may_send(&"jobs".parse().expect("a queue")) && claims.may_list_queues());
    assert!(!claims.may_send(&"more".parse().expect("a queue")) && !claims.may_read_rooms());
    assert!(claims.may_broadcast() && claims.may_list_participants());
    assert!(claims.may_send_messages() && claims.may_read_messages());
    assert!(!claims.may_open(&"notes/a".parse().expect("a path")));
    assert_eq!(claims.role, Role::Agent);
}

#[test]
fn a_token_without_grants_opens_nothing() {
    let claims = verify(&hs256(&plain_claims()), &keys(), NOW).expect("a valid token");
    assert_eq!((claims.rooms, claims.rights, claims.role), (OpenRooms::All, Rights::default(), Role::User));
}

#[test]
fn a_token_ends_at_its_exp() {
    let token = mint(&key("first", "acme", 1), &spec(), NOW);
    assert!(verify(&token, &keys(), NOW.plus_ms(3_599_999)).is_ok());
    assert_eq!(verify(&token, &keys(), NOW.plus_ms(3_600_000)), Err(TokenError::Expired));
}

#[test]
fn an_end_is_required_and_a_beginning_respected() {
    let mut endless = plain_claims();
    endless.as_object_mut().expect("an object").remove("exp");
    assert_eq!(verify(&hs256(&endless), &keys(), NOW), Err(TokenError::Invalid));
    assert_eq!(verify(&hs256(&changed("exp", json!("soon"))), &keys(), NOW), Err(TokenError::Invalid));
    let early = hs256(&changed("nbf", json!(NOW.0 / 1_000 + 1)));
    assert_eq!(verify(&early, &keys(), NOW), Err(TokenError::Invalid));
    assert!(verify(&early, &keys(), NOW.plus_ms(1_000)).is_ok());
    // An end past all representable time is no end that overflows.
    assert!(verify(&hs256(&changed("exp", json!(u64::MAX))), &keys(), NOW).is_ok());
}

#[test]
fn an_empty_token_is_missing() {
    assert_eq!(verify("", &keys(), NOW), Err(TokenError::Missing));
}

#[test]
fn another_algorithm_is_refused() {
    let claims = plain_claims();
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let token = sign(&Header::new(algorithm), &claims, &[1; 32]);
        assert_eq!(verify(&token, &keys(), NOW), Err(TokenError::Invalid), "{algorithm:?}");
    }
    let [header, body, signature] = parts(&hs256(&claims));
    // {"alg":"none"} in three spellings, with and without a signature.
    for none in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIn0", "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0"] {
        for token in [format!("{none}.{body}."), format!("{none}.{body}.{signature}"), format!("{none}.{body}")] {
            assert_eq!(verify(&token, &keys(), NOW), Err(TokenError::Invalid));
        }
    }
    assert_eq!(verify(&format!("{header}.{body}."), &keys(), NOW), Err(TokenError::Invalid));
}

fn parts(token: &str) -> [String; 3] {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().expect("three parts")
}

#[test]
fn another_projects_key_does_not_sign_for_this_one() {
    let other = Header { kid: Some("other".into()), ..Header::new(Algorithm::HS256) };
    let mut claims = plain_claims();
    claims.as_object_mut().expect("an object").remove("kid");
    assert_eq!(verify(&sign(&other, &claims, &[2; 32]), &keys(), NOW), Err(TokenError::Invalid));
    // Header and claims name different keys, and the header's would be right.
    let header = Header { kid: Some("first".into()), ..Header::new(Algorithm::HS256) };
    let token = sign(&header, &changed("kid", json!("other")), &[1; 32]);
    assert_eq!(verify(&token, &keys(), NOW), Err(TokenError::Invalid));
    let unknown = changed("kid", json!("nobody"));
    assert_eq!(verify(&hs256(&unknown), &keys(), NOW), Err(TokenError::Invalid));
    assert_eq!(verify(&sign(&Header::default(), &plain_claims(), &[9; 32]), &keys(), NOW), Err(TokenError::Invalid));
}

#[test]
fn a_critical_header_is_refused() {
    let header = Header { crit: Some(vec!["exp".into()]), ..Header::new(Algorithm::HS256) };
    assert_eq!(verify(&sign(&header, &plain_claims(), &[1; 32]), &keys(), NOW), Err(TokenError::Invalid));
}

#[test]
fn grants_that_cannot_be_are_refused() {
    let room = json!({"name": "room", "scope": "lab"});
    let api = json!({"name": "api", "scope": {}});
    let role = json!({"name": "role", "scope": "tool"});
    for grants in [
        json!([room, room]),
        json!([api, api]),
        json!([role, role]),
        json!([{"name": "role", "scope": "chief"}]),
        json!([{"name": "role", "scope": 7}]),
        json!([{"name": "role"}]),
        json!([{"name": "api", "scope": {"messaging": {"send": "yes"}}}]),
        json!([{"name": "api", "scope": {"sync": {"paths": ["notes"]}}}]),
        json!([{"name": "api", "scope": {"sync": {"paths": [{"read_only": true}]}}}]),
        json!([{"name": "room", "scope": "NOT A ROOM"}]),
        json!([{"name": "room", "scope": 7}]),
        json!([{"name": "room"}]),
        json!([{"name": "api", "scope": {"queues": {"send": "jobs"}}}]),
        json!([{"name": "api", "scope": {"queues": {"send": ["a/b"]}}}]),
        json!([{"name": "api", "scope": "all"}]),
        json!("all"),
    ] {
        assert_eq!(
            verify(&hs256(&changed("grants", grants.clone())), &keys(), NOW),
            Err(TokenError::Invalid),
            "{grants}"
        );
    }
    for name in ["", "a/b", "a\nb"] {
        assert_eq!(verify(&hs256(&changed("name", json!(name))), &keys(), NOW), Err(TokenError::Invalid));
    }
}

#[test]
fn a_changed_or_cut_token_is_refused() {
    let token = mint(&key("first", "acme", 1), &spec(), NOW);
    for at in 1..token.len() {
        assert_eq!(verify(&token[..at], &keys(), NOW), Err(TokenError::Invalid), "cut at {at}");
    }
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes).expect("still ASCII");
            assert_eq!(verify(&changed, &keys(), NOW), Err(TokenError::Invalid), "bit {bit} of byte {at}");
        }
    }
    assert_eq!(verify(&"x".repeat(MAX_TOKEN_BYTES + 1), &keys(), NOW), Err(TokenError::Invalid));
}

#[test]
fn a_key_does_not_print_its_secret() {
    assert!(!format!("{:?}", key("first", "acme", 77)).contains("77"));
}
