//! Participants' tokens: JWT signed with HS256 by a key of the project.
//!
//! The claims are MeshAgent's: `name` (who acts), `sub` (project), `kid` (key), `grants`, `version`; `exp` is required
//! here. A `room` grant opens that one room, without one every room of the project is open. A `role` grant says what the
//! participant is, without one it is a user. The `api` grant says what may be done; without one nothing may.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use conclave_proto::status::ApiError;
use conclave_types::{ParticipantName, ProjectId, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::claims::{Claims, OpenRooms, Rights, Role};
use crate::scope::ApiScope;

/// Most bytes of a token: it comes with every call, so a header's worth.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;

const MS_PER_SECOND: u64 = 1_000;

/// A key that signs tokens of one project.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    pub kid: String,
    pub project: ProjectId,
    /// At least 32 bytes, from a random source.
    pub secret: Arc<[u8]>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).field("project", &self.project).finish_non_exhaustive()
    }
}

/// Where keys are found by their id.
pub trait KeyLookup {
    fn key(&self, kid: &str) -> Option<TokenKey>;
}

/// What a token should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSpec {
    pub participant: ParticipantName,
    pub role: Role,
    pub rooms: OpenRooms,
    pub rights: Rights,
    /// Rounded up to a whole second.
    pub lifetime: Duration,
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("no token")]
    Missing,
    /// Not a token, not signed by a key that is known, or it says what no token may say.
    #[error("the token is not one of this cluster")]
    Invalid,
    /// Genuine, but past its end.
    #[error("the token has expired")]
    Expired,
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> ApiError {
        match error {
            TokenError::Missing => ApiError::token_missing(),
            TokenError::Invalid => ApiError::token_invalid(),
            TokenError::Expired => ApiError::token_expired(),
        }
    }
}

/// Makes a token. `now` is the wall clock.
pub fn mint(key: &TokenKey, spec: &TokenSpec, now: Timestamp) -> String {
    let mut grants = Vec::new();
    if let OpenRooms::One(room) = &spec.rooms {
        grants.push(Grant { name: "room".into(), scope: Value::String(room.to_string()) });
    }
    if spec.role != Role::default() {
        grants.push(Grant { name: "role".into(), scope: Value::String(spec.role.to_string()) });
    }
    let scope = serde_json::to_value(ApiScope::of(&spec.rights)).expect("a scope is plain JSON");
    grants.push(Grant { name: "api".into(), scope });
    let lifetime_ms = u64::try_from(spec.lifetime.as_millis()).unwrap_or(u64::MAX);
    let claims = TokenClaims {
        name: spec.participant.to_string(),
        grants,
        sub: key.project.to_string(),
        kid: Some(key.kid.clone()),
        version: env!("CARGO_PKG_VERSION").into(),
        exp: now.plus_ms(lifetime_ms).0.div_ceil(MS_PER_SECOND),
        nbf: None,
    };
    let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&key.secret)).expect("HS256 signs with any secret")
}

/// Checks a token; empty counts as missing. `now` is the wall clock.
pub fn verify(token: &str, keys: &impl KeyLookup, now: Timestamp) -> Result<Claims, TokenError> {
    if token.is_empty() {
        return Err(TokenError::Missing);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Invalid);
    }
    let key = keys.key(&key_id(token)?).ok_or(TokenError::Invalid)?;
    let token = jsonwebtoken::decode::<TokenClaims>(token, &DecodingKey::from_secret(&key.secret), &validation())
        .map_err(|_| TokenError::Invalid)?;
    // A header that demands what we do not know must be refused (RFC 7515, 4.1.11).
    if token.header.crit.is_some() || token.claims.sub != key.project.as_str() {
        return Err(TokenError::Invalid);
    }
    token.claims.checked(key.project, now)
}

/// Signature and algorithm only: the library would read the wall clock for the rest.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// Which key the token names: in its header, or in its claims as MeshAgent writes it.
fn key_id(token: &str) -> Result<String, TokenError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
    if header.alg != Algorithm::HS256 {
        return Err(TokenError::Invalid);
    }
    let claimed = jsonwebtoken::dangerous::insecure_decode_claims::<NamedKey>(token);
    match (header.kid, claimed.map_err(|_| TokenError::Invalid)?.kid) {
        (Some(header), Some(claimed)) if header != claimed => Err(TokenError::Invalid),
        (Some(kid), _) | (None, Some(kid)) => Ok(kid),
        (None, None) => Err(TokenError::Invalid),
    }
}

#[derive(Deserialize)]
struct NamedKey {
    #[serde(default)]
    kid: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TokenClaims {
    name: String,
    #[serde(default)]
    grants: Vec<Grant>,
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    kid: Option<String>,
    #[serde(default)]
    version: String,
    /// Seconds since the Unix epoch.
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    nbf: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Grant {
    name: String,
    #[serde(default)]
    scope: Value,
}

impl TokenClaims {
    fn checked(self, project: ProjectId, now: Timestamp) -> Result<Claims, TokenError> {
        let expires = Timestamp(self.exp.saturating_mul(MS_PER_SECOND));
        if now >= expires {
            return Err(TokenError::Expired);
        }
        if self.nbf.is_some_and(|from| now.0 < from.saturating_mul(MS_PER_SECOND)) {
            return Err(TokenError::Invalid);
        }
        Ok(Claims {
            project,
            participant: self.name.parse().map_err(|_| TokenError::Invalid)?,
            role: role(self.only("role")?)?,
            rooms: open_rooms(self.only("room")?)?,
            rights: rights(self.only("api")?)?,
            expires,
        })
    }

    /// The one grant of this name. Two would have to be added up, and no token has that.
    fn only(&self, name: &str) -> Result<Option<&Grant>, TokenError> {
        let mut named = self.grants.iter().filter(|grant| grant.name == name);
        match (named.next(), named.next()) {
            (_, Some(_)) => Err(TokenError::Invalid),
            (grant, None) => Ok(grant),
        }
    }
}

fn open_rooms(grant: Option<&Grant>) -> Result<OpenRooms, TokenError> {
    let Some(grant) = grant else { return Ok(OpenRooms::All) };
    let room = grant.scope.as_str().and_then(|room| room.parse().ok());
    room.map(OpenRooms::One).ok_or(TokenError::Invalid)
}

fn role(grant: Option<&Grant>) -> Result<Role, TokenError> {
    let Some(grant) = grant else { return Ok(Role::default()) };
    let role = grant.scope.as_str().and_then(|role| role.parse().ok());
    role.ok_or(TokenError::Invalid)
}

fn rights(grant: Option<&Grant>) -> Result<Rights, TokenError> {
    let Some(grant) = grant else { return Ok(Rights::default()) };
    let scope = ApiScope::deserialize(&grant.scope).map_err(|_| TokenError::Invalid)?;
    scope.rights().ok_or(TokenError::Invalid)
}

#[cfg(test)]
mod tests;
