//! How processes of a cluster reach each other: what they dial with and what they accept on.
//!
//! The product has one network, TCP, and takes it as tonic and hyper make it. A simulation brings its own, so that it can
//! lose, delay and cut what is on its way. This crate must not know what is said over a connection.

mod accepted;
mod dial;

pub use accepted::{Accepted, Incoming};
pub use dial::{Dial, Dialing, Network};

use tokio::io::{AsyncRead, AsyncWrite};

/// One end of a byte stream that somebody else made.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

#[cfg(test)]
mod tests;
