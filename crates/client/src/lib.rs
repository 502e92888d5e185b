//! The Rust client: unary calls and resumable sessions.
//!
//! [`Client`] is one connection with one token and makes unary calls. [`Session`] is an ordered stream in one room that
//! survives the loss of hosts, gateways and connections: it keeps the newest resume token and the frames that are not
//! answered, and sends them again. That is the whole contract between a client and the cluster; nothing here knows
//! shards, leaders or retries of hosts, which are the gateway's affair.
//!
//! Start with [`Session`]; what it owes and is owed stands in `session/window.rs`, its life in `session/driver.rs`.

mod client;
mod error;
mod session;

pub use client::Client;
pub use error::ClientError;
pub use session::{Reply, Session, SessionOptions};
