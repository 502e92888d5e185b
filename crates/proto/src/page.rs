//! Page tokens of `ListRooms`: which shard comes next, and where in it.
//!
//! Rooms are spread over shards, so a list walks them in order. Written `shard` or `shard.slot.room`; opaque to clients.

use std::fmt;
use std::str::FromStr;

use conclave_types::{RoomName, ShardId, Slot};

use crate::status::ApiError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomsPage {
    pub shard: ShardId,
    /// The last room of the page before, if it was in this shard.
    pub after: Option<(Slot, RoomName)>,
}

impl RoomsPage {
    /// Where a list begins.
    pub const FIRST: RoomsPage = RoomsPage { shard: ShardId(0), after: None };

    /// Reads a request's page token; empty is the first page.
    pub fn of_token(token: &str) -> Result<RoomsPage, ApiError> {
        match token {
            "" => Ok(RoomsPage::FIRST),
            token => {
                token.parse().map_err(|()| ApiError::field_invalid("page_token", "is not one that a list returned"))
            }
        }
    }
}

impl fmt::Display for RoomsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.after {
            None => write!(f, "{}", self.shard.0),
            Some((slot, room)) => write!(f, "{}.{}.{room}", self.shard.0, slot.0),
        }
    }
}

impl FromStr for RoomsPage {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let number = |part: Option<&str>| part.and_then(|part| part.parse().ok()).ok_or(());
        let shard = ShardId(number(parts.next())?);
        let after = match parts.next() {
            None => None,
            slot => Some((Slot(number(slot)?), parts.next().ok_or(())?.parse().map_err(|_| ())?)),
        };
        Ok(RoomsPage { shard, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_survive_their_text_form() {
        let inside = RoomsPage { shard: ShardId(7), after: Some((Slot(901), "my-room".parse().expect("valid"))) };
        for page in [RoomsPage::FIRST, inside] {
            assert_eq!(RoomsPage::of_token(&page.to_string()), Ok(page));
        }
    }

    #[test]
    fn foreign_tokens_are_refused() {
        for token in ["x", "1.2", "1.x.room", "1.2.BAD", "99999", "-1"] {
            assert!(RoomsPage::of_token(token).is_err(), "{token}");
        }
    }
}
