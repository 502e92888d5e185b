//! Answers that a session owes its client, in the order of the client's frames.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};

use conclave_proto::v1;
use conclave_proto::v1::server_frame::Body;
use conclave_room::Outcome;
use conclave_types::Sequence;

use crate::faults::Fault;
use crate::proposer::{Outcomes, Unproposed};

/// What a durable frame asked for, to shape its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    UpdateRoom,
    SendItems,
    AckDeliveries,
}

pub type ReadFuture = Pin<Box<dyn Future<Output = Result<Body, Fault>> + Send>>;

enum Owed {
    /// Frames that were queued together.
    Proposed { outcomes: Outcomes, frames: Vec<(Sequence, Durable)> },
    /// A read; it begins when all before it are answered, so it sees the session's own writes.
    Read { sequence: Sequence, read: ReadFuture },
    /// Known already.
    Known { sequence: Sequence, result: Option<Result<Body, Fault>> },
}

/// Answers to frames, ready to be sent.
pub type Answers = Vec<(Sequence, Result<Answer, Fault>)>;

/// A durable outcome stays one until it is sent, because some of its replies need a read first.
pub enum Answer {
    Outcome(Durable, Outcome),
    Body(Body),
}

#[derive(Default)]
pub struct Owing {
    owed: VecDeque<Owed>,
    frames: usize,
}

impl Owing {
    /// Frames not answered yet.
    pub fn len(&self) -> usize {
        self.frames
    }

    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    pub fn proposed(&mut self, outcomes: Outcomes, frames: Vec<(Sequence, Durable)>) {
        self.frames += frames.len();
        self.owed.push_back(Owed::Proposed { outcomes, frames });
    }

    pub fn read(&mut self, sequence: Sequence, read: ReadFuture) {
        self.frames += 1;
        self.owed.push_back(Owed::Read { sequence, read });
    }

    pub fn known(&mut self, sequence: Sequence, result: Result<Body, Fault>) {
        self.frames += 1;
        self.owed.push_back(Owed::Known { sequence, result: Some(result) });
    }

    /// Waits for the next answers in order; never resolves while nothing is owed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Answers, Unproposed> {
        let answers = poll_fn(|cx| {
            let Some(first) = self.owed.front_mut() else { return Poll::Pending };
            let answers = match first {
                Owed::Proposed { outcomes, frames } => {
                    match ready!(Pin::new(outcomes).poll(cx)).unwrap_or(Err(Unproposed::NotLeader)) {
                        Ok(outcomes) => std::mem::take(frames)
                            .into_iter()
                            .zip(outcomes)
                            .map(|((sequence, kind), outcome)| (sequence, Ok(Answer::Outcome(kind, outcome))))
                            .collect(),
                        Err(unproposed) => return Poll::Ready(Err(unproposed)),
                    }
                }
                Owed::Read { sequence, read } => {
                    let result = ready!(read.as_mut().poll(cx));
                    vec![(*sequence, result.map(Answer::Body))]
                }
                Owed::Known { sequence, result } => {
                    result.take().map(|result| (*sequence, result.map(Answer::Body))).into_iter().collect()
                }
            };
            Poll::Ready(Ok(answers))
        })
        .await?;
        self.owed.pop_front();
        self.frames -= answers.len();
        Ok(answers)
    }
}

/// The frame that answers `sequence`.
pub fn frame(sequence: Sequence, revision: u64, body: Body) -> v1::ServerFrame {
    v1::ServerFrame { reply_to: sequence.0, revision, subscription: 0, body: Some(body) }
}
