//! The Rust client: unary calls, streams of events, and resumable sessions.
//!
//! [`Client`] is one connection with one token: it makes unary calls and opens [`EventStream`]s. [`Session`] is an
//! ordered stream in one room that survives the loss of hosts, gateways and connections: it keeps the newest resume
//! token, the frames that are not answered, its subscriptions with their cursors and its participant, and sends them
//! again. That is the whole contract between a client and the cluster; nothing here knows shards, leaders or retries of
//! hosts, which are the gateway's affair.
//!
//! Start with [`Session`]; what it owes and is owed stands in `session/window.rs`, what it listens to in
//! `session/subscription.rs`, its life in `session/driver.rs`.

mod client;
mod error;
mod event_stream;
mod reconnect;
mod session;
mod update;

pub use client::Client;
pub use error::ClientError;
pub use event_stream::{EventStream, Resumable, StreamRequest};
pub use session::{Reply, Session, SessionOptions, Subscription};
pub use update::{Update, UpdateKind};
