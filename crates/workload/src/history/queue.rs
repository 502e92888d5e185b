//! What queues do beyond taking and handing out: settings, what is asked of an item, streams of deliveries, dead letters.

use serde::{Deserialize, Serialize};

use super::{Delivery, Value};

/// A queue of the load as it was made, in each room. Everywhere else it is its place in the list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRules {
    /// Without the room.
    pub name: String,
    /// Deliveries after which an item is a dead letter; 0 for as many as it takes.
    pub max_attempts: u32,
}

/// What is asked of an item besides its body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ItemOptions {
    pub priority: u8,
    pub delay_ms: u64,
    pub group: Option<u16>,
    /// Its value is its message id.
    pub named: bool,
    /// It was sent before with the same message id, whatever came of that, and not long ago.
    pub again: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    pub delivery: Delivery,
    /// None: the body is not what anybody sent.
    pub value: Option<Value>,
    /// The revision that sent it, as the delivery says.
    pub sent_revision: u64,
}

/// What one consumer was handed by streams of deliveries, one after the other, under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumption {
    pub consumer: u32,
    pub room: usize,
    pub queue: u16,
    pub lease_ms: u64,
    /// In the order in which it came.
    pub handed: Vec<Handed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// When the stream was asked for that brought it.
    pub asked: u64,
    pub at: u64,
    /// Of its lease; none for what the consumer held before. That may come again on each stream.
    pub revision: Option<u64>,
    pub received: Received,
}

/// An item among the dead letters of a queue, in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Whose dead letters it was found among.
    pub of: u16,
    /// Where it says that it was: name of the queue, and its number there.
    pub queue: String,
    pub item: u64,
    /// None: the body is not what anybody sent.
    pub value: Option<Value>,
    pub reason: Death,
    /// How often it was delivered.
    pub attempts: u32,
    /// Its failed deliveries as far as they are kept, oldest first.
    pub failures: Vec<(u32, Failure)>,
    /// Of the change that found it dead.
    pub revision: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    TooManyAttempts,
    Rejected,
    Unspecified,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    LeaseEnded,
    Nacked,
    Rejected,
    Unspecified,
}

/// The values of a send that became items, with their numbers: those that were left out took none.
pub fn numbered<'a>(
    values: &'a [Value],
    first_item: u64,
    duplicates: &'a [u32],
) -> impl Iterator<Item = (Value, u64)> + 'a {
    let new = (0_u32..).zip(values).filter(|(index, _)| !duplicates.contains(index));
    new.map(|(_, value)| *value).zip(first_item..)
}
