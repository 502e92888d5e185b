//! The stateless edge: verifies tokens, finds the leader of a room's shard, forwards bytes, hides the loss of a host.
//!
//! It knows the shard map and who leads, both soft, the frames that sessions are owed, and how far subscriptions came.
//! It must not know what a request does: of requests it reads the resource, of frames the envelope, and everything else
//! passes as it came (decoding and encoding again would drop what a newer client sent). It stores nothing and decides
//! nothing about rooms.
//!
//! Three ways through: [`unary`] for calls with one answer, [`stream`] for server streams and [`session`] for sessions,
//! which both outlive their host. All ask [`course`] which host to try, which does what the table in [`retry`] says.
//! Start with [`edge`], where calls come in.

mod auth;
mod core;
mod course;
mod edge;
mod frames;
mod gateway;
mod jitter;
mod list_rooms;
mod methods;
mod options;
mod pool;
mod retained;
mod retry;
mod routing;
mod session;
mod stream;
#[cfg(test)]
mod testing;
mod unary;
mod wire;

pub use gateway::{Gateway, ServeError};
pub use options::GatewayOptions;
pub use routing::{LeaderHint, ShardHost, ShardMap};
pub use session::RESUME_TOKEN_TRAILER;
