//! Streams of deliveries: as items come, within the window, and again under the same name.

use std::collections::BTreeMap;

use conclave_auth::{Claims, Rights};
use conclave_proto::status::reason_of_frame;
use conclave_proto::v1::queue_settings::{Overflow, State};
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ErrorReason};

use super::*;
use crate::calls::{Stream, bodies, ids, refusal, send};
use crate::cluster::THREE_HOSTS;

fn subscribe(consumer: &str, window: u32) -> v1::Subscribe {
    let v1::ConsumeItemsRequest { parent, consumer, window, lease } = consume(consumer, window);
    v1::Subscribe { resource: parent, consumer, window, lease, ..Default::default() }
}

impl Stream {
    /// Begins to consume and returns what the consumer held before.
    async fn begin_consuming(&mut self, sequence: u64, subscription: u64, asked: v1::Subscribe) -> Vec<v1::Delivery> {
        self.ask_of(sequence, subscription, Asked::Subscribe(asked));
        let frame = self.next().await.unwrap();
        assert_eq!((frame.reply_to, frame.subscription), (sequence, subscription), "{frame:?}");
        assert!(matches!(frame.body, Some(Body::Subscribed(_))), "{frame:?}");
        self.held(subscription).await
    }

    async fn held(&mut self, subscription: u64) -> Vec<v1::Delivery> {
        let mut held = Vec::new();
        loop {
            let frame = self.next().await.unwrap();
            assert_eq!((frame.reply_to, frame.subscription, frame.revision), (0, subscription, 0), "{frame:?}");
            match frame.body {
                Some(Body::EventBatch(batch)) => held.extend(deliveries(batch.events().unwrap())),
                Some(Body::Live(_)) => return held,
                other => panic!("{other:?}"),
            }
        }
    }

    /// So many deliveries of a subscription.
    async fn delivered(&mut self, subscription: u64, count: usize) -> Vec<v1::Delivery> {
        let mut delivered = Vec::new();
        while delivered.len() < count {
            let frame = self.next().await.unwrap();
            assert_eq!((frame.reply_to, frame.subscription), (0, subscription), "{frame:?}");
            let Some(Body::EventBatch(batch)) = frame.body else { panic!("{frame:?}") };
            delivered.extend(deliveries(batch.events().unwrap()));
        }
        assert_eq!(delivered.len(), count, "more came than were to come");
        delivered
    }
}

#[tokio::test]
async fn deliveries_come_as_items_come() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("before")])).await.unwrap();
    let mut consuming = ada.consume(consume("worker", 0)).await.unwrap();
    assert!(consuming.held.is_empty());
    let first = consuming.next().await;
    assert_eq!((ids(&first), bodies(&first)), (vec![(1, 1)], vec!["before"]));
    for number in 2..=5 {
        let body = number.to_string();
        ada.send(batch(JOBS, vec![item(&body)])).await.unwrap();
        let next = consuming.next().await;
        assert_eq!((ids(&next), bodies(&next)), (vec![(number, 1)], vec![body.as_str()]));
    }
    ada.send(batch(JOBS, vec![item("one of many"); 40])).await.unwrap();
    let many = consuming.take(40).await;
    assert_eq!(ids(&many), (6..=45).map(|number| (number, 1)).collect::<Vec<_>>());
    let consumers = ada.stats(JOBS).await.unwrap().consumers;
    assert_eq!((consumers[0].consumer.as_str(), consumers[0].leased_count), ("worker", 45));
}

#[tokio::test]
async fn a_consumer_never_holds_more_than_its_window() {
    const WINDOW: usize = 4;
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work"); 40])).await.unwrap();
    let mut consuming = ada.consume(consume("worker", WINDOW as u32)).await.unwrap();
    let (mut held, mut seen) = (Vec::new(), 0);
    while seen < 40 {
        let next = consuming.next().await;
        seen += next.len();
        held.extend(next);
        let leased = ada.queue(JOBS).await.unwrap().leased_count;
        assert!(held.len() <= WINDOW && leased <= WINDOW as u64, "{} came, {leased} are leased", held.len());
        // One of two, so that the window is full again and again.
        let settled: Vec<_> = held.drain(..held.len().div_ceil(2)).collect();
        ada.ack_all(&settled).await;
    }
    assert_eq!(ada.queue(JOBS).await.unwrap().totals.unwrap().delivered, 40);
}

#[tokio::test]
async fn what_is_given_back_or_ends_makes_room_too() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work"); 2])).await.unwrap();
    let lease = Some(SHORT_LEASE.try_into().unwrap());
    let mut consuming = ada.consume(v1::ConsumeItemsRequest { lease, ..consume("worker", 1) }).await.unwrap();
    let first = consuming.next().await;
    let later = v1::NackDeliveriesRequest { delay: milliseconds(60_000), ..nack(&first) };
    ada.nack(later).await.unwrap();
    assert_eq!(ids(&consuming.next().await), [(2, 1)]);
    assert_eq!(ids(&consuming.next().await), [(2, 2)], "its lease ended");
}

#[tokio::test]
async fn credit_widens_the_window_of_a_subscription() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work"); 10])).await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    assert!(session.begin_consuming(1, 3, subscribe("worker", 1)).await.is_empty());
    assert_eq!(ids(&session.delivered(3, 1).await), [(1, 1)]);
    session.settle(2, JOBS).await;
    session.ask_of(0, 3, Asked::Credit(v1::Credit { events: 2 }));
    assert_eq!(ids(&session.delivered(3, 2).await), [(2, 1), (3, 1)]);
    session.settle(4, JOBS).await;
    // Credit of another subscription, or of none, is nothing to this one.
    session.ask_of(0, 4, Asked::Credit(v1::Credit { events: 9 }));
    session.ask_of(0, 0, Asked::Credit(v1::Credit { events: 9 }));
    session.settle(5, JOBS).await;
    session.ask_of(0, 3, Asked::Credit(v1::Credit { events: u32::MAX }));
    assert_eq!(session.delivered(3, 7).await.len(), 7);
}

#[tokio::test]
async fn credit_that_comes_right_behind_its_subscription_counts() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work"); 10])).await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    session.ask_of(1, 3, Asked::Subscribe(subscribe("worker", 1)));
    session.ask_of(0, 3, Asked::Credit(v1::Credit { events: 2 }));
    assert!(matches!(session.reply(1).await, Body::Subscribed(_)));
    assert!(session.held(3).await.is_empty());
    assert_eq!(ids(&session.delivered(3, 3).await), [(1, 1), (2, 1), (3, 1)]);
    // The same from a gateway that takes both up again.
    session.ask_of(0, 4, Asked::Subscribe(subscribe("another", 1)));
    session.ask_of(0, 4, Asked::Credit(v1::Credit { events: 1 }));
    assert!(session.held(4).await.is_empty());
    assert_eq!(ids(&session.delivered(4, 2).await), [(4, 1), (5, 1)]);
}

#[tokio::test]
async fn a_session_is_given_its_own_items_and_acks_them_on_the_way() {
    let (_cluster, ada) = with_queue(plain()).await;
    let mut session = ada.begin("lab").await.unwrap();
    session.begin_consuming(1, 1, subscribe("worker", 1)).await;
    for number in 1..=20 {
        session.ask(2 * number, send(JOBS, "its own"));
        // The reply and the delivery come in either order.
        let frames = [session.next().await.unwrap(), session.next().await.unwrap()];
        let [reply, event] = if frames[0].reply_to > 0 {
            frames
        } else {
            let [event, reply] = frames;
            [reply, event]
        };
        assert_eq!((reply.reply_to, event.subscription), (2 * number, 1));
        let Some(Body::EventBatch(batch)) = event.body else { panic!("{event:?}") };
        let delivered = deliveries(batch.events().unwrap());
        assert_eq!(ids(&delivered), [(number, 1)]);
        let ack =
            v1::AckDeliveriesRequest { parent: JOBS.into(), deliveries: vec![id(&delivered[0])], ..Default::default() };
        session.ask(2 * number + 1, Asked::AckDeliveries(ack));
        assert!(matches!(session.reply(2 * number + 1).await, Body::AckDeliveries(_)));
    }
}

#[tokio::test]
async fn who_comes_back_under_its_name_gets_what_it_holds_and_no_second_lease() {
    let (cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work"); 5])).await.unwrap();
    let mut first = ada.consume(consume("worker", 3)).await.unwrap();
    let taken = first.take(3).await;
    ada.ack_all(&taken[..1]).await;
    let more = first.take(1).await;
    drop(first);

    let mut other = ada.consume(consume("another", 10)).await.unwrap();
    assert!(other.held.is_empty(), "what the first held is not others'");
    assert_eq!(ids(&other.take(1).await), [(5, 1)]);
    let again = ada.consume(consume("worker", 3)).await.unwrap();
    assert_eq!(ids(&again.held), [ids(&taken[1..]), ids(&more)].concat());
    assert_eq!(bodies(&again.held), ["work"; 3]);
    let mut session = ada.begin("lab").await.unwrap();
    let held = session.begin_consuming(1, 1, subscribe("worker", 3)).await;
    assert_eq!(ids(&held), ids(&again.held), "by a subscription as by a call");
    let queue = ada.queue(JOBS).await.unwrap();
    assert_eq!((queue.leased_count, queue.totals.unwrap().delivered), (4, 5));
    let thief = ada.claiming(cluster.claims("thief"));
    assert!(thief.consume(consume("worker", 3)).await.unwrap().held.is_empty(), "the name alone is not enough");
}

#[tokio::test]
async fn what_a_consumer_holds_comes_in_parts_when_it_is_much() {
    const ITEM_BYTES: usize = 200 << 10;
    let (_cluster, ada) = with_queue(plain()).await;
    for _ in 0..5 {
        ada.send(batch(JOBS, vec![item(&"x".repeat(ITEM_BYTES)); 2])).await.unwrap();
    }
    let mut first = ada.consume(consume("worker", 20)).await.unwrap();
    first.take(10).await;
    drop(first);
    let mut session = ada.begin("lab").await.unwrap();
    let held = session.begin_consuming(1, 1, subscribe("worker", 20)).await;
    assert_eq!(ids(&held), (1..=10).map(|number| (number, 1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_holds_what_it_held_at_the_next_leader() {
    let mut cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, term, ada) = cluster.with_room("lab", "ada").await;
    ada.send(batch(JOBS, vec![item("work"); 5])).await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    session.begin_consuming(1, 1, subscribe("of the session", 1)).await;
    session.ask_of(0, 1, Asked::Credit(v1::Credit { events: 1 }));
    let of_session = session.delivered(1, 2).await;
    let mut consuming = ada.consume(consume("of the call", 2)).await.unwrap();
    let of_call = consuming.take(2).await;
    let before = ada.queue(JOBS).await.unwrap();

    cluster.kill(leader).await;
    cluster.next_leader("lab", term).await;
    let token = session.token().clone();
    let (ada, resumed) = cluster.at_any_leader("lab", "ada", async |ada| ada.resume("lab", &token, 1).await).await;
    let mut resumed = resumed.unwrap();
    // As a gateway does that remembers the credit.
    let asked = v1::Subscribe { credit: 1, ..subscribe("of the session", 1) };
    resumed.ask_of(0, 1, Asked::Subscribe(asked));
    assert_eq!(ids(&resumed.held(1).await), ids(&of_session));
    let again = ada.consume(consume("of the call", 2)).await.unwrap();
    assert_eq!(ids(&again.held), ids(&of_call));
    assert_eq!(ada.queue(JOBS).await.unwrap(), before, "nothing was leased twice");
    ada.ack_all(&of_session).await;
    assert_eq!(ids(&resumed.delivered(1, 1).await), [(5, 1)]);
}

#[tokio::test]
async fn a_consumer_that_goes_leaves_its_leases_to_their_end() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work"); 3])).await.unwrap();
    let lease = Some(SHORT_LEASE.try_into().unwrap());
    let mut consuming = ada.consume(v1::ConsumeItemsRequest { lease, ..consume("worker", 2) }).await.unwrap();
    consuming.take(2).await;
    drop(consuming);
    assert_eq!(ids(&ada.take_one("another").await), [(3, 1)]);
    assert_eq!(ada.queue(JOBS).await.unwrap().leased_count, 3);
    let back = ada.receive(receive_request(JOBS, LONG, LONG_LEASE)).await.unwrap();
    assert_eq!(back[0].id.unwrap().attempt, 2);
}

/// What its last stream was taking when it was left, behind the work of others, is not lost on the next.
#[tokio::test]
async fn a_consumer_that_comes_and_goes_misses_nothing() {
    const ROUNDS: u64 = 20;
    const BUSY: usize = 8;
    let (_cluster, ada) = with_queue(plain()).await;
    let settings = v1::QueueSettings { max_items: Some(10), overflow: Some(Overflow::DropOldest.into()), ..plain() };
    ada.create_queue(OTHER, settings).await.unwrap();
    let heavy = item(&"x".repeat(200 << 10));
    let busy: Vec<_> = (0..BUSY)
        .map(|_| {
            let (sender, heavy) = (ada.clone(), heavy.clone());
            tokio::spawn(async move {
                loop {
                    sender.send(batch(OTHER, vec![heavy.clone()])).await.unwrap();
                }
            })
        })
        .collect();
    let mut consuming = ada.consume(consume("worker", 8)).await.unwrap();
    for round in 1..=ROUNDS {
        ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
        drop(consuming);
        // Leases outlive the test: what is lost between two streams never comes.
        consuming = ada.consume(consume("worker", 8)).await.unwrap();
        let mut taken = std::mem::take(&mut consuming.held);
        if taken.is_empty() {
            taken = consuming.next().await;
        }
        assert_eq!(ids(&taken), [(round, 1)]);
        ada.ack_all(&taken).await;
    }
    busy.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 0);
}

#[tokio::test]
async fn consumers_take_turns() {
    const ITEMS: usize = 60;
    let (_cluster, ada) = with_queue(plain()).await;
    let (taken, mut counts) = tokio::sync::mpsc::channel(ITEMS);
    for name in ["one", "two", "three"] {
        let mut consuming = ada.consume(consume(name, 100)).await.unwrap();
        let taken = taken.clone();
        tokio::spawn(async move {
            loop {
                for _ in consuming.next().await {
                    taken.send(name).await.unwrap();
                }
            }
        });
    }
    let mut by_name = BTreeMap::<_, usize>::new();
    for _ in 0..ITEMS {
        ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
        *by_name.entry(counts.recv().await.unwrap()).or_default() += 1;
    }
    let least = by_name.values().min().copied().unwrap_or_default();
    assert!(by_name.len() == 3 && least >= ITEMS / 6, "{by_name:?}");
}

#[tokio::test]
async fn a_full_consumer_does_not_swallow_what_others_can_take() {
    let (_cluster, ada) = with_queue(plain()).await;
    let mut full = ada.consume(consume("full", 1)).await.unwrap();
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    let held = full.take(1).await;
    let mut free = ada.consume(consume("free", 10)).await.unwrap();
    for number in 2..=6 {
        ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
        assert_eq!(ids(&free.next().await), [(number, 1)]);
    }
    drop(free);
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    ada.ack_all(&held).await;
    assert_eq!(ids(&full.next().await), [(7, 1)]);
}

#[tokio::test]
async fn a_paused_queue_gives_its_consumers_nothing_until_it_goes_on() {
    let (_cluster, ada) = with_queue(v1::QueueSettings { state: Some(State::Paused.into()), ..plain() }).await;
    let mut consuming = ada.consume(consume("worker", 10)).await.unwrap();
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    assert_eq!(ada.queue(JOBS).await.unwrap().leased_count, 0);
    ada.set_state(State::Active).await;
    assert_eq!(ids(&consuming.next().await), [(1, 1)]);
}

#[tokio::test]
async fn a_consumer_that_unsubscribed_takes_nothing_more() {
    let (_cluster, ada) = with_queue(plain()).await;
    let mut session = ada.begin("lab").await.unwrap();
    session.begin_consuming(1, 1, subscribe("worker", 10)).await;
    session.ask_of(0, 1, Asked::Unsubscribe(v1::Unsubscribe {}));
    session.settle(2, JOBS).await;
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    assert_eq!(ids(&ada.take_one("another").await), [(1, 1)]);
}

#[tokio::test]
async fn consumers_of_a_room_that_is_deleted_are_told() {
    let (_cluster, ada) = with_queue(plain()).await;
    let mut idle = ada.consume(consume("idle", 10)).await.unwrap();
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    idle.take(1).await;
    let mut full = ada.consume(consume("full", 1)).await.unwrap();
    ada.send(batch(JOBS, vec![item("work"); 2])).await.unwrap();
    // Either may have taken either; both wait in the end.
    ada.delete_room("lab").await.unwrap();
    for consuming in [&mut idle, &mut full] {
        let end = loop {
            if let Err(status) = consuming.element().await {
                break status;
            }
        };
        assert_eq!(crate::calls::reason(&end), ErrorReason::RoomNotFound);
    }
}

#[tokio::test]
async fn consumers_of_a_leader_that_is_deposed_are_told() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, term, ada) = cluster.with_room("lab", "ada").await;
    let mut idle = ada.consume(consume("idle", 10)).await.unwrap();
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    idle.take(1).await;
    let mut full = ada.consume(consume("full", 1)).await.unwrap();
    cluster.drain(leader).await;
    cluster.next_leader("lab", term).await;
    for consuming in [&mut idle, &mut full] {
        assert_eq!(crate::calls::reason(&consuming.element().await.unwrap_err()), ErrorReason::NotLeader);
    }
}

#[tokio::test]
async fn what_cannot_be_consumed_is_refused() {
    let (cluster, ada) = with_queue(plain()).await;
    let refused = async |caller: &Caller, request: v1::ConsumeItemsRequest| refusal(caller.consume(request).await);
    assert_eq!(refused(&ada, consume("worker", 1_001)).await, ErrorReason::FieldInvalid);
    assert_eq!(refused(&ada, consume("a/b", 1)).await, ErrorReason::NameInvalid);
    let short = v1::ConsumeItemsRequest { lease: milliseconds(999), ..consume("worker", 1) };
    assert_eq!(refused(&ada, short).await, ErrorReason::FieldInvalid);
    let guest = ada.claiming(Claims { rights: Rights::default(), ..cluster.claims("guest") });
    assert_eq!(refused(&guest, consume("guest", 1)).await, ErrorReason::ScopeMissing);

    let mut session = ada.begin("lab").await.unwrap();
    let missing = v1::Subscribe { create: Some(false), resource: OTHER.into(), ..subscribe("worker", 1) };
    for (sequence, asked, reason) in [
        (1, missing.clone(), ErrorReason::QueueNotFound),
        (2, subscribe("worker", 1_001), ErrorReason::FieldInvalid),
        (3, subscribe("a/b", 1), ErrorReason::NameInvalid),
    ] {
        session.ask_of(sequence, 1, Asked::Subscribe(asked));
        assert_eq!(session.refused(sequence).await, reason, "{sequence}");
    }
    // Taken up again by a gateway: only the failure is told.
    session.ask_of(0, 1, Asked::Subscribe(missing));
    let frame = session.next().await.unwrap();
    let Some(Body::Status(status)) = &frame.body else { panic!("{frame:?}") };
    assert_eq!((frame.reply_to, frame.subscription), (0, 1));
    assert_eq!(reason_of_frame(status), Some(ErrorReason::QueueNotFound));
    // A missing queue is made unless that is asked for.
    let made = v1::Subscribe { resource: OTHER.into(), ..subscribe("worker", 1) };
    assert!(session.begin_consuming(4, 1, made).await.is_empty());
    let made = async { while is_missing(&ada).await {} };
    timeout(PATIENCE, made).await.expect("the queue is never made");
}

async fn is_missing(ada: &Caller) -> bool {
    ada.queue(OTHER).await.is_err_and(|status| crate::calls::reason(&status) == ErrorReason::QueueNotFound)
}
