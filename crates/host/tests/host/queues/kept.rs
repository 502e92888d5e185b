//! What was done once is not done again, however often it is asked for.

use conclave_proto::v1;
use conclave_proto::v1::server_frame::Body;

use super::*;
use crate::calls::{Stream, ids, receive};
use crate::cluster::THREE_HOSTS;

const MADE: &str = "rooms/lab/queues/made";

/// A frame of each kind that changes a queue, for [`JOBS`] with six items of which three are leased to the session.
fn frames(taken: &[v1::Delivery]) -> Vec<Asked> {
    let one = |at: usize| &taken[at..=at];
    let create = v1::CreateQueueRequest { name: MADE.into(), ..Default::default() };
    let settings = Some(v1::QueueSettings { max_attempts: Some(7), ..plain() });
    let update = v1::UpdateQueueRequest { name: MADE.into(), settings, ..Default::default() };
    let cancel = v1::CancelItemsRequest { parent: JOBS.into(), items: vec![4, 4, 1], ..Default::default() };
    let (parent, destination) = (JOBS.into(), OTHER.into());
    let carry = v1::MoveItemsRequest { parent, destination, max_items: 1, ..Default::default() };
    let purge = v1::PurgeItemsRequest { parent: JOBS.into(), max_items: 1, ..Default::default() };
    let later = v1::NackDeliveriesRequest { delay: milliseconds(600_000), ..nack(one(0)) };
    vec![
        Asked::NackDeliveries(later),
        Asked::NackDeliveries(reject(one(1), "no use")),
        Asked::ExtendLeases(extend(one(2), LONG)),
        Asked::CreateQueue(create),
        Asked::UpdateQueue(update),
        Asked::CancelItems(cancel),
        Asked::MoveItems(carry),
        Asked::PurgeItems(purge),
    ]
}

/// A session that holds three of six items.
async fn holding_three(ada: &Caller) -> (Stream, Vec<v1::Delivery>) {
    ada.send(batch(JOBS, vec![item("work"); 6])).await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    let Asked::ReceiveItems(request) = receive(JOBS, NO_WAIT, LONG_LEASE) else { unreachable!("it receives") };
    session.ask(1, Asked::ReceiveItems(v1::ReceiveItemsRequest { max_items: 3, ..request }));
    let taken = session.received(1).await;
    assert_eq!(taken.len(), 3);
    (session, taken)
}

async fn replies(session: &mut Stream, frames: &[Asked]) -> Vec<Body> {
    let mut replies = Vec::new();
    for (sequence, frame) in (2..).zip(frames) {
        session.ask(sequence, frame.clone());
        replies.push(session.reply(sequence).await);
    }
    replies
}

/// What a queue holds and what happened to it; a queue that is missing has nothing.
async fn sizes(ada: &Caller) -> Vec<Option<v1::Queue>> {
    let mut sizes = Vec::new();
    for queue in [JOBS, OTHER, DEAD, MADE] {
        sizes.push(ada.queue(queue).await.ok());
    }
    sizes
}

fn is_done(reply: &Body) -> bool {
    match reply {
        Body::NackDeliveries(response) => response.results().eq([AckResult::Acked]),
        Body::ExtendLeases(response) => response.results().eq([AckResult::Acked]),
        Body::CreateQueue(response) => response.queue.as_ref().is_some_and(|queue| queue.name == MADE),
        Body::UpdateQueue(response) => {
            response.queue.as_ref().is_some_and(|queue| queue.settings.as_ref().unwrap().max_attempts == Some(7))
        }
        Body::CancelItems(response) => {
            use v1::cancel_items_response::Result::{Cancelled, Gone};
            response.results().eq([Cancelled, Gone, Cancelled])
        }
        Body::MoveItems(response) => response.moved_count == 1,
        Body::PurgeItems(response) => response.purged_count == 1,
        _ => false,
    }
}

fn are_the_same(outcomes: &[Body], again: &[Body]) {
    assert_eq!(outcomes.len(), again.len());
    for (outcome, again) in outcomes.iter().zip(again) {
        match (outcome, again) {
            // The queue as it is now: it was changed since.
            (Body::CreateQueue(first), Body::CreateQueue(again)) => assert_eq!(first.revision, again.revision),
            (first, again) => assert_eq!(first, again),
        }
    }
}

#[tokio::test]
async fn a_frame_whose_reply_was_lost_is_answered_as_the_first_time_and_not_applied_again() {
    let (_cluster, ada) = with_queue(plain()).await;
    let (mut first, taken) = holding_three(&ada).await;
    let frames = frames(&taken);
    let outcomes = replies(&mut first, &frames).await;
    assert!(outcomes.iter().all(is_done), "{outcomes:?}");
    let before = sizes(&ada).await;
    let last = frames.len() as u64 + 1;
    let mut second = ada.resume("lab", first.token(), last).await.unwrap();
    let again = replies(&mut second, &frames).await;
    are_the_same(&outcomes, &again);
    assert_eq!(sizes(&ada).await, before);
}

#[tokio::test]
async fn kept_outcomes_of_queues_outlive_the_leader() {
    let mut cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, term, ada) = cluster.with_room("lab", "ada").await;
    let (mut first, taken) = holding_three(&ada).await;
    let frames = frames(&taken);
    let outcomes = replies(&mut first, &frames).await;
    assert!(outcomes.iter().all(is_done), "{outcomes:?}");
    let before = sizes(&ada).await;
    cluster.kill(leader).await;
    cluster.next_leader("lab", term).await;
    let (token, last) = (first.token().clone(), frames.len() as u64 + 1);
    let (ada, resumed) = cluster.at_any_leader("lab", "ada", async |ada| ada.resume("lab", &token, last).await).await;
    let again = replies(&mut resumed.unwrap(), &frames).await;
    are_the_same(&outcomes, &again);
    assert_eq!(sizes(&ada).await, before);
}

#[tokio::test]
async fn a_call_with_a_request_id_is_answered_as_the_first_time() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work"); 2])).await.unwrap();
    let taken = ada.receive(up_to(JOBS, 2)).await.unwrap();
    let named = |name: &str| v1::NackDeliveriesRequest { request_id: name.into(), ..nack(&taken[..1]) };
    assert_eq!(ada.nack(named("a")).await.unwrap(), [AckResult::Acked]);
    assert_eq!(ada.nack(named("a")).await.unwrap(), [AckResult::Acked]);
    assert_eq!(ada.nack(named("b")).await.unwrap(), [AckResult::Stale]);
    let longer = v1::ExtendLeasesRequest { request_id: "c".into(), ..extend(&taken[1..], LONG) };
    assert_eq!(ada.extend(longer.clone()).await.unwrap(), [AckResult::Acked]);
    ada.ack_all(&taken[1..]).await;
    assert_eq!(ada.extend(longer).await.unwrap(), [AckResult::Acked]);
    assert_eq!(ids(&ada.take_one("ada").await), [(1, 2)]);
    assert_eq!(ada.queue(JOBS).await.unwrap().totals.unwrap().failed, 1);
}
