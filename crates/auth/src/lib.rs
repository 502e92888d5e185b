//! Who may do what: participants' tokens, the claims that a gateway vouches for, and tokens that resume a session.
//!
//! Every check takes the time as an argument and reads no clock. This crate must not know where keys are kept (it asks
//! through [`KeyLookup`]), what a request is, or any transport.
//!
//! Start with [`claims`] (what all checks end in), then [`token`] (from participant to gateway), [`vouched`] (from
//! gateway to host) and [`resume`].

pub mod claims;
pub mod resume;
mod scope;
mod seal;
pub mod token;
pub mod vouched;

pub use claims::{
    Claims, MessagingRights, OpenRooms, PathPattern, QueueRights, Queues, Rights, Role, RoomRights, SyncPath,
    SyncRights,
};
pub use resume::{ResumeToken, ResumeTokenError};
pub use token::{KeyLookup, TokenError, TokenKey, TokenSpec, mint, verify};
pub use vouched::{CLAIMS_HEADER, ClaimsError, claims_header_value, sign_claims, verify_claims};
