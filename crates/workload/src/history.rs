//! What a run did and what it was told: operations with their outcomes, transcripts of followers, faults, and what was
//! read when all was quiet.
//!
//! Times are microseconds of one monotonic clock since the run began. A history is JSON as serde writes these types
//! (`tests/README.md` explains it), so that others can judge it too.

mod errand;
mod queue;
pub mod value;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use errand::{Errand, ErrandCall, ErrandTold};
pub use queue::{Consumption, DeadLetter, Death, Failure, Handed, ItemOptions, QueueRules, Received, numbered};
pub use value::{Value, Values, tokens};

/// Names the format in each file.
pub const FORMAT: &str = "conclave-history/1";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub format: String,
    pub seed: u64,
    /// Names; everywhere else a room is its place in this list.
    pub rooms: Vec<String>,
    /// Of each room; everywhere else a queue is its place in this list.
    #[serde(default)]
    pub queues: Vec<QueueRules>,
    /// By invocation.
    pub operations: Vec<Operation>,
    /// By invocation.
    #[serde(default)]
    pub errands: Vec<Errand>,
    pub transcripts: Vec<Transcript>,
    #[serde(default)]
    pub consumptions: Vec<Consumption>,
    pub faults: Vec<Fault>,
    /// One a room.
    pub endings: Vec<Ending>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Who asked: one task of the workload, which asks one thing after the other unless it posts in bursts.
    pub actor: u32,
    /// The session that carried it; none for a unary call.
    pub session: Option<u32>,
    pub room: usize,
    pub invoked: u64,
    /// None as long as nobody answered.
    pub answered: Option<u64>,
    pub call: Call,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Post {
        value: Value,
        /// A repetition, with the same request id, of a call that was acknowledged.
        again: bool,
    },
    Send {
        queue: u16,
        values: Vec<Value>,
        /// One for each value; empty where nothing is asked of any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<ItemOptions>,
    },
    Receive {
        queue: u16,
        lease_ms: u64,
    },
    Ack {
        queue: u16,
        deliveries: Vec<Delivery>,
    },
    /// Its answer is that of an acknowledgement: what counted was given back.
    Nack {
        queue: u16,
        deliveries: Vec<Delivery>,
        /// None: as long as the queue makes items wait.
        delay_ms: Option<u64>,
        /// They are to be dead letters at once.
        reject: bool,
    },
    /// Its answer is that of an acknowledgement: what counted ends so long from then.
    Extend {
        queue: u16,
        deliveries: Vec<Delivery>,
        lease_ms: u64,
    },
    Push {
        document: u16,
        value: Value,
    },
    /// Linearizable, as are all reads here.
    GetRoom,
    GetQueue {
        queue: u16,
    },
    ListQueues,
    DescribeDocument {
        document: u16,
    },
    ListDocuments,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Delivery {
    pub item: u64,
    pub attempt: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Acknowledged, with the room's revision that the answer carried.
    Ok { revision: u64, answer: Answer },
    /// Certainly not done.
    Refused { reason: String },
    /// Done or not: no answer in time, a lost stream, or the cluster said that it does not know.
    Unknown { why: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The revision says it all.
    Done,
    Sent {
        first_item: u64,
        /// Places of values that were left out because their message id was known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        duplicates: Vec<u32>,
    },
    Received {
        deliveries: Vec<Received>,
    },
    Acked {
        results: Vec<AckResult>,
    },
    /// A queue's size.
    Counted {
        size: u64,
    },
    /// A document's tokens.
    Holds {
        values: Values,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckResult {
    Acked,
    AlreadyAcked,
    Stale,
    Unspecified,
}

/// What one follower of a room's log was told, over all its resumptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    pub follower: u32,
    pub room: usize,
    /// In the order in which it was told.
    pub heard: Vec<Heard>,
    /// Its cursor: everything up to here was told.
    pub complete_to: u64,
    /// How often it was taken up again after a revision.
    pub resumes: u32,
    /// Gaps that were announced, and refusals to go on.
    pub breaks: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub revision: u64,
    /// None: the body is not what anybody posted.
    pub value: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// For example `kill` or `power cut of all hosts`.
    pub kind: String,
    pub detail: String,
    pub began: u64,
    /// When it was healed; none when it was not.
    pub ended: Option<u64>,
    /// Rooms whose leader it hit.
    pub rooms: Vec<usize>,
}

/// A room when all hosts are up and nobody writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub revision: u64,
    /// The whole log, by revision.
    pub log: Vec<Heard>,
    /// By queue: what is left after everything was taken out and acknowledged.
    pub left_in_queues: Vec<u64>,
    /// Of all queues.
    #[serde(default)]
    pub dead_letters: Vec<DeadLetter>,
    pub copies: Vec<DocumentCopy>,
}

/// A document as one reader has it in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentCopy {
    pub document: u16,
    pub reader: String,
    pub text: String,
    /// Clocks by Yjs client; none of a reader who is told the text alone.
    pub clocks: Option<Vec<(u64, u64)>>,
}

impl History {
    pub fn new(seed: u64, rooms: Vec<String>) -> History {
        History {
            format: FORMAT.to_owned(),
            seed,
            rooms,
            queues: Vec::new(),
            operations: Vec::new(),
            errands: Vec::new(),
            transcripts: Vec::new(),
            consumptions: Vec::new(),
            faults: Vec::new(),
            endings: Vec::new(),
        }
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("history {}", path.display()))?;
        Ok(serde_json::to_writer(BufWriter::new(file), self)?)
    }

    /// Operations of a room, by invocation.
    pub fn of_room(&self, room: usize) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(move |operation| operation.room == room)
    }
}

impl Operation {
    /// The revision of an acknowledgement.
    pub fn revision(&self) -> Option<u64> {
        match &self.outcome {
            Outcome::Ok { revision, .. } => Some(*revision),
            _ => None,
        }
    }

    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok { answer, .. } => Some(answer),
            _ => None,
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown { .. })
    }

    /// Whether it certainly made a revision of its own. A receive may be a repetition of one whose answer was lost.
    pub fn made_a_revision(&self) -> bool {
        match (&self.call, self.answer()) {
            (Call::Post { again, .. }, Some(_)) => !again,
            (Call::Send { values, .. }, Some(Answer::Sent { duplicates, .. })) => duplicates.len() < values.len(),
            (Call::Push { .. }, Some(_)) => true,
            (Call::Ack { .. } | Call::Nack { .. }, Some(Answer::Acked { results })) => {
                results.contains(&AckResult::Acked)
            }
            _ => false,
        }
    }

    /// What it would have put into the room's log, a queue or a document.
    pub fn values(&self) -> &[Value] {
        match &self.call {
            Call::Post { value, .. } | Call::Push { value, .. } => std::slice::from_ref(value),
            Call::Send { values, .. } => values,
            _ => &[],
        }
    }

    /// Whether it was acknowledged and changed something that everybody can see.
    pub fn is_write(&self) -> bool {
        matches!(self.call, Call::Post { again: false, .. } | Call::Send { .. } | Call::Push { .. })
    }
}

impl Call {
    /// The queue that it is about.
    pub fn queue(&self) -> Option<u16> {
        match self {
            Call::Send { queue, .. }
            | Call::Receive { queue, .. }
            | Call::Ack { queue, .. }
            | Call::Nack { queue, .. }
            | Call::Extend { queue, .. }
            | Call::GetQueue { queue } => Some(*queue),
            _ => None,
        }
    }

    /// Its kind, in words for reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Call::Post { again: false, .. } => "post",
            Call::Post { again: true, .. } => "post again",
            Call::Send { .. } => "send",
            Call::Receive { .. } => "receive",
            Call::Ack { .. } => "ack",
            Call::Nack { reject: false, .. } => "nack",
            Call::Nack { reject: true, .. } => "reject",
            Call::Extend { .. } => "extend",
            Call::Push { .. } => "push",
            Call::GetRoom => "get room",
            Call::GetQueue { .. } => "get queue",
            Call::ListQueues => "list queues",
            Call::DescribeDocument { .. } => "describe document",
            Call::ListDocuments => "list documents",
        }
    }
}
