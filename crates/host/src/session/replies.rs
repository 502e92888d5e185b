//! Answers that a session owes its client, in the order of the client's frames.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};

use conclave_proto::v1;
use conclave_proto::v1::server_frame::Body;
use conclave_room::{Outcome, Refusal};
use conclave_types::{QueueName, Revision, Sequence};
use futures::StreamExt;
use futures::stream::FuturesOrdered;

use super::subscriptions::Opened;
use crate::documents::Pushing;
use crate::faults::{self, Fault};
use crate::proposer::{Outcomes, Unproposed};
use crate::reads::InRoom;
use crate::shard::Shard;
use crate::{convert, reads};

/// What a durable frame asked for, to shape its reply.
#[derive(Debug)]
pub enum Durable {
    UpdateRoom,
    SendItems,
    AckDeliveries,
    NackDeliveries,
    ExtendLeases,
    CreateQueue(QueueName),
    UpdateQueue(QueueName),
    CancelItems,
    MoveItems,
    PurgeItems,
    /// The document is told the outcome, or that there will be none.
    PushUpdate(Pushing),
    PostMessage,
    RenameDocument,
    DeleteDocument,
}

pub type OpeningFuture = Pin<Box<dyn Future<Output = (Sequence, Opened)> + Send>>;
pub type ReadFuture = Pin<Box<dyn Future<Output = Result<Body, Fault>> + Send>>;

#[expect(clippy::large_enum_variant, reason = "one a frame, taken apart where it is made")]
enum Owed {
    /// Frames that were queued together.
    Proposed { outcomes: Outcomes, frames: Vec<(Sequence, Durable)> },
    /// A read; it begins when all before it are answered, so it sees the session's own writes.
    Read { sequence: Sequence, read: ReadFuture },
    /// Subscriptions that were asked for one after another; they open together, once all before them are answered.
    Openings(FuturesOrdered<OpeningFuture>),
    /// Known already.
    Known { sequence: Sequence, result: Option<Result<Body, Fault>> },
}

/// Answers to frames, ready to be sent.
pub type Answers = Vec<(Sequence, Result<Answer, Fault>)>;

/// A durable outcome stays one until it is sent, because some of its replies need a read first.
#[expect(clippy::large_enum_variant, reason = "one a frame, taken apart where it is made")]
pub enum Answer {
    Outcome(Durable, Outcome),
    Body(Body),
    Opened(Opened),
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

    pub fn opening(&mut self, opening: OpeningFuture) {
        self.frames += 1;
        match self.owed.back_mut() {
            Some(Owed::Openings(openings)) => openings.push_back(opening),
            _ => self.owed.push_back(Owed::Openings(FuturesOrdered::from_iter([opening]))),
        }
    }

    pub fn known(&mut self, sequence: Sequence, result: Result<Body, Fault>) {
        self.frames += 1;
        self.owed.push_back(Owed::Known { sequence, result: Some(result) });
    }

    /// Waits for the next answers in order; never resolves while nothing is owed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Answers, Unproposed> {
        let (answers, more) = poll_fn(|cx| {
            let Some(first) = self.owed.front_mut() else { return Poll::Pending };
            let mut more = false;
            let answers: Answers = match first {
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
                Owed::Openings(openings) => {
                    let opened = ready!(openings.poll_next_unpin(cx));
                    more = !openings.is_empty();
                    opened.map(|(sequence, opened)| (sequence, Ok(Answer::Opened(opened)))).into_iter().collect()
                }
                Owed::Known { sequence, result } => {
                    result.take().map(|result| (*sequence, result.map(Answer::Body))).into_iter().collect()
                }
            };
            Poll::Ready(Ok((answers, more)))
        })
        .await?;
        if !more {
            self.owed.pop_front();
        }
        self.frames -= answers.len();
        Ok(answers)
    }
}

/// Shapes an outcome into the reply its request has. A refusal of the session itself is an error: it ends the stream.
pub fn reply(shard: &Shard, at: &InRoom, kind: Durable, outcome: Outcome) -> Result<Result<Body, Fault>, Fault> {
    if let Durable::PushUpdate(pushing) = kind {
        pushing.settled(&outcome);
        return match outcome {
            Outcome::Pushed { revision } => Ok(Ok(Body::PushUpdate(v1::PushUpdateResponse { revision: revision.0 }))),
            other => not_done(other),
        };
    }
    Ok(Ok(match (kind, outcome) {
        (Durable::UpdateRoom, Outcome::RoomUpdated { revision }) => {
            let room = shard.room(at.uid)?.as_ref().map(reads::room);
            Body::UpdateRoom(v1::UpdateRoomResponse { room, revision: revision.0 })
        }
        (Durable::SendItems, Outcome::Sent { first_item, revision, duplicates }) => {
            Body::SendItems(v1::SendItemsResponse { first_item, revision: revision.0, duplicates })
        }
        (Durable::AckDeliveries, Outcome::Settled { results, revision }) => {
            let results = convert::delivery_results(results);
            Body::AckDeliveries(v1::AckDeliveriesResponse { results, revision: revision.0 })
        }
        (Durable::NackDeliveries, Outcome::Settled { results, revision }) => {
            let results = convert::delivery_results(results);
            Body::NackDeliveries(v1::NackDeliveriesResponse { results, revision: revision.0 })
        }
        (Durable::ExtendLeases, Outcome::Settled { results, revision }) => {
            let results = convert::delivery_results(results);
            Body::ExtendLeases(v1::ExtendLeasesResponse { results, revision: revision.0 })
        }
        (Durable::CreateQueue(name), Outcome::QueueConfigured { revision }) => {
            let queue = reads::queue_now(shard, at, &name)?;
            Body::CreateQueue(v1::CreateQueueResponse { queue, revision: revision.0 })
        }
        (Durable::UpdateQueue(name), Outcome::QueueConfigured { revision }) => {
            let queue = reads::queue_now(shard, at, &name)?;
            Body::UpdateQueue(v1::UpdateQueueResponse { queue, revision: revision.0 })
        }
        (Durable::CancelItems, Outcome::ItemsCancelled { results, revision }) => {
            let results = convert::cancel_results(results);
            Body::CancelItems(v1::CancelItemsResponse { results, revision: revision.0 })
        }
        (Durable::MoveItems, Outcome::ItemsMoved { moved, left, revision }) => {
            Body::MoveItems(convert::moved(moved, left, revision))
        }
        (Durable::PurgeItems, Outcome::ItemsPurged { purged, left, revision }) => {
            Body::PurgeItems(convert::purged(purged, left, revision))
        }
        (Durable::PostMessage, Outcome::Posted { revision: Revision(revision) }) => {
            Body::PostMessage(v1::PostMessageResponse { revision, lane: v1::Lane::Durable.into() })
        }
        (Durable::RenameDocument, Outcome::DocumentRenamed { revision: Revision(revision) }) => {
            Body::RenameDocument(v1::RenameDocumentResponse { revision })
        }
        (Durable::DeleteDocument, Outcome::DocumentDeleted { revision: Revision(revision) }) => {
            Body::DeleteDocument(v1::DeleteDocumentResponse { revision })
        }
        (_, other) => return not_done(other),
    }))
}

fn not_done(outcome: Outcome) -> Result<Result<Body, Fault>, Fault> {
    match outcome {
        Outcome::Refused(refusal @ (Refusal::Superseded | Refusal::SessionForeign | Refusal::SessionExpired)) => {
            Err(refusal.into())
        }
        Outcome::Refused(refusal) => Ok(Err(refusal.into())),
        other => Err(faults::other_outcome("session", &other)),
    }
}

/// The revision that a reply belongs to; 0 for none.
pub fn revision_of(body: &Body) -> u64 {
    match body {
        Body::UpdateRoom(response) => response.revision,
        Body::SendItems(response) => response.revision,
        Body::AckDeliveries(response) => response.revision,
        Body::NackDeliveries(response) => response.revision,
        Body::ExtendLeases(response) => response.revision,
        Body::CreateQueue(response) => response.revision,
        Body::UpdateQueue(response) => response.revision,
        Body::CancelItems(response) => response.revision,
        Body::MoveItems(response) => response.revision,
        Body::PurgeItems(response) => response.revision,
        Body::PushUpdate(response) => response.revision,
        Body::PostMessage(response) => response.revision,
        Body::RenameDocument(response) => response.revision,
        Body::DeleteDocument(response) => response.revision,
        Body::GetRoom(response) => response.revision,
        Body::ReceiveItems(response) => response.revision,
        Body::GetQueue(response) => response.revision,
        Body::ListQueues(response) => response.revision,
        Body::GetQueueStats(response) => response.revision,
        Body::ListItems(response) => response.revision,
        Body::DescribeDocument(response) => response.revision,
        Body::ListDocuments(response) => response.revision,
        Body::SendAwareness(_)
        | Body::SendEphemeral(_)
        | Body::AttachParticipant(_)
        | Body::DetachParticipant(_)
        | Body::ListParticipants(_)
        | Body::Subscribed(_)
        | Body::Welcome(_)
        | Body::Status(_)
        | Body::EventBatch(_)
        | Body::Gap(_)
        | Body::Live(_)
        | Body::GoAway(_)
        | Body::Pong(_) => 0,
    }
}

/// The frame that answers `sequence`.
pub fn frame(sequence: Sequence, revision: u64, body: Body) -> v1::ServerFrame {
    v1::ServerFrame { reply_to: sequence.0, revision, subscription: 0, body: Some(body) }
}
