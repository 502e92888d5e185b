//! What becomes of a delivery: given back, extended, taken for good, or settled too late.

use std::time::Instant;

use conclave_proto::v1::ErrorReason;
use futures::future::join_all;

use super::*;
use crate::calls::{bodies, ids, refusal};

/// What a test's clock and the host's may differ by.
const CLOCK_SLACK: Duration = Duration::from_millis(50);

#[tokio::test]
async fn what_is_given_back_comes_again_at_once_or_after_its_delay_and_not_earlier() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    let first = ada.take_one("ada").await;
    assert_eq!(ada.nack(nack(&first)).await.unwrap(), [AckResult::Acked]);
    let second = ada.take_one("ada").await;
    assert_eq!((ids(&second), bodies(&second)), (vec![(1, 2)], vec!["work"]));

    let delay = Duration::from_millis(400);
    let began = Instant::now();
    let later = v1::NackDeliveriesRequest { delay: Some(delay.try_into().unwrap()), ..nack(&second) };
    assert_eq!(ada.nack(later).await.unwrap(), [AckResult::Acked]);
    let third = ada.receive(receive_request(JOBS, LONG, LONG_LEASE)).await.unwrap();
    assert_eq!(ids(&third), [(1, 3)]);
    assert!(began.elapsed() >= delay - CLOCK_SLACK, "it came after {:?}", began.elapsed());
    let queue = ada.queue(JOBS).await.unwrap();
    assert_eq!((queue.leased_count, queue.delayed_count, queue.totals.unwrap().failed), (1, 0, 2));
}

#[tokio::test]
async fn a_failure_waits_as_its_queue_says_and_longer_each_time() {
    let settings = v1::QueueSettings { backoff: milliseconds(200), max_backoff: milliseconds(500), ..plain() };
    let (_cluster, ada) = with_queue(settings).await;
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    let mut taken = ada.take_one("ada").await;
    for (attempt, waits_ms) in [(2, 200), (3, 400), (4, 500)] {
        let (began, waits) = (Instant::now(), Duration::from_millis(waits_ms));
        ada.nack(nack(&taken)).await.unwrap();
        taken = ada.receive(receive_request(JOBS, LONG, LONG_LEASE)).await.unwrap();
        assert_eq!(ids(&taken), [(1, attempt)]);
        assert!(began.elapsed() >= waits - CLOCK_SLACK, "attempt {attempt} came after {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_sent_delay_is_kept_to_and_nothing_waits_behind_it() {
    let (_cluster, ada) = with_queue(plain()).await;
    let (began, delay) = (Instant::now(), Duration::from_millis(600));
    let late = v1::NewItem { delay: Some(delay.try_into().unwrap()), ..item("late") };
    ada.send(batch(JOBS, vec![late, item("at once")])).await.unwrap();
    assert_eq!(bodies(&ada.receive(up_to(JOBS, 2)).await.unwrap()), ["at once"]);
    let second = ada.receive(receive_request(JOBS, LONG, LONG_LEASE)).await.unwrap();
    assert_eq!((ids(&second), bodies(&second)), (vec![(1, 1)], vec!["late"]));
    assert!(began.elapsed() >= delay - CLOCK_SLACK, "it came after {:?}", began.elapsed());
}

#[tokio::test]
async fn an_extended_lease_is_longer_and_a_shortened_one_ends_sooner() {
    let (cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("longer"), item("shorter")])).await.unwrap();
    let longer = ada.receive(receive_request(JOBS, NO_WAIT, SHORT_LEASE)).await.unwrap();
    let shorter = ada.take_one("ada").await;
    assert_eq!(ada.extend(extend(&longer, LONG)).await.unwrap(), [AckResult::Acked]);
    assert_eq!(ada.extend(extend(&shorter, SHORT_LEASE)).await.unwrap(), [AckResult::Acked]);
    let again = ada.receive(receive_request(JOBS, LONG, LONG_LEASE)).await.unwrap();
    assert_eq!((ids(&again), bodies(&again)), (vec![(2, 2)], vec!["shorter"]));
    cluster.clock(0).advance(LEASE);
    assert_eq!(ada.ack(JOBS, &[id(&longer[0])]).await.unwrap(), [AckResult::Acked]);
}

#[tokio::test]
async fn what_is_taken_at_most_once_is_gone_with_the_reply() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("gone"), item("stays")])).await.unwrap();
    let take = v1::ReceiveItemsRequest { parent: JOBS.into(), take: true, ..Default::default() };
    let taken = ada.receive(take.clone()).await.unwrap();
    assert_eq!((ids(&taken), bodies(&taken)), (vec![(1, 1)], vec!["gone"]));
    assert_eq!(taken[0].lease_remaining, milliseconds(0));
    let queue = ada.queue(JOBS).await.unwrap();
    assert_eq!((queue.size, queue.leased_count, queue.totals.unwrap().acked), (1, 0, 1));
    assert_eq!(ada.ack(JOBS, &[id(&taken[0])]).await.unwrap(), [AckResult::Stale]);
    assert_eq!(bodies(&ada.receive(take.clone()).await.unwrap()), ["stays"]);
    assert!(ada.receive(take.clone()).await.unwrap().is_empty());
    let leased = v1::ReceiveItemsRequest { lease: milliseconds(1_000), ..take };
    assert_eq!(refusal(ada.receive(leased).await), ErrorReason::FieldInvalid);
}

#[tokio::test]
async fn what_comes_after_the_lease_is_stale_and_changes_nothing() {
    let (cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    let taken = ada.receive(receive_request(JOBS, NO_WAIT, LEASE)).await.unwrap();
    let before = ada.queue(JOBS).await.unwrap();
    cluster.clock(0).advance(LEASE + Duration::from_millis(1));
    let stale = [AckResult::Stale];
    assert_eq!(ada.extend(extend(&taken, LONG)).await.unwrap(), stale);
    assert_eq!(ada.nack(nack(&taken)).await.unwrap(), stale);
    assert_eq!(ada.nack(reject(&taken, "too late")).await.unwrap(), stale);
    assert_eq!(ada.ack(JOBS, &[id(&taken[0])]).await.unwrap(), stale);
    assert_eq!(ada.queue(JOBS).await.unwrap(), before);
    assert_eq!(refusal(ada.queue(DEAD).await), ErrorReason::QueueNotFound);
}

#[tokio::test]
async fn an_earlier_delivery_cannot_touch_the_next_one() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    let first = ada.receive(receive_request(JOBS, NO_WAIT, SHORT_LEASE)).await.unwrap();
    let second = ada.receive(receive_request(JOBS, LONG, LONG_LEASE)).await.unwrap();
    assert_eq!(ids(&second), [(1, 2)]);
    let stale = [AckResult::Stale];
    assert_eq!(ada.nack(nack(&first)).await.unwrap(), stale);
    assert_eq!(ada.nack(reject(&first, "too late")).await.unwrap(), stale);
    assert_eq!(ada.extend(extend(&first, SHORT_LEASE)).await.unwrap(), stale);
    assert_eq!(ada.ack(JOBS, &[id(&first[0])]).await.unwrap(), stale);
    assert_eq!(ada.queue(JOBS).await.unwrap().leased_count, 1);
    ada.ack_all(&second).await;
}

#[tokio::test]
async fn an_item_outlives_its_time_nowhere() {
    let (cluster, ada) = with_queue(plain()).await;
    let mortal = |body: &str| v1::NewItem { time_to_live: milliseconds(30_000), ..item(body) };
    ada.send(batch(JOBS, vec![mortal("held"), mortal("waits"), item("stays")])).await.unwrap();
    let held = ada.take_one("ada").await;
    cluster.clock(0).advance(LEASE + Duration::from_millis(1));
    assert_eq!(bodies(&ada.receive(up_to(JOBS, 10)).await.unwrap()), ["stays"]);
    // Whoever holds it may finish it; given back, it is gone.
    assert_eq!(ada.nack(nack(&held)).await.unwrap(), [AckResult::Acked]);
    assert!(ada.receive(up_to(JOBS, 10)).await.unwrap().is_empty());
    let queue = ada.queue(JOBS).await.unwrap();
    assert_eq!((queue.size, queue.totals.unwrap().expired), (1, 2));
}

#[tokio::test]
async fn of_those_who_race_for_an_item_one_gets_it() {
    let (cluster, ada) = with_queue(plain()).await;
    let workers: Vec<Caller> = (0..4).map(|worker| ada.claiming(cluster.claims(&format!("worker-{worker}")))).collect();
    for round in 1..=50 {
        ada.send(batch(JOBS, vec![item("contested")])).await.unwrap();
        let receives = workers.iter().map(|worker| worker.receive(receive_request(JOBS, NO_WAIT, LONG_LEASE)));
        let got: Vec<v1::Delivery> = join_all(receives).await.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(ids(&got), [(round, 1)], "round {round}");
        let delivery = [id(&got[0])];
        let mut acks: Vec<_> = join_all(workers.iter().map(|worker| worker.ack(JOBS, &delivery)))
            .await
            .into_iter()
            .flat_map(Result::unwrap)
            .collect();
        acks.sort_unstable();
        assert_eq!(acks[..2], [AckResult::Acked, AckResult::AlreadyAcked], "round {round}");
        assert!(acks[1..].iter().all(|ack| *ack == AckResult::AlreadyAcked), "round {round}: {acks:?}");
    }
    assert_eq!(ada.queue(JOBS).await.unwrap().totals.unwrap().acked, 50);
}
