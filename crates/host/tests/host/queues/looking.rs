//! Looking at a queue without taking anything.

use conclave_proto::v1::{self, ErrorReason, ItemState};

use super::*;
use crate::calls::{ids, refusal};

/// All items of a state, a page of so many at a time.
async fn pages(caller: &Caller, state: ItemState, page_size: u32) -> Vec<Vec<v1::QueueItem>> {
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            v1::ListItemsRequest { parent: JOBS.into(), state: state.into(), page_size, page_token, consistency: 0 };
        let page = caller.look(request).await.unwrap();
        assert!(page.items.iter().all(|item| item.state() == state), "{page:?}");
        pages.push(page.items);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

fn body(item: &v1::QueueItem) -> &str {
    std::str::from_utf8(&item.content.as_ref().expect("an item has content").body).expect("text")
}

#[tokio::test]
async fn items_are_listed_where_they_stand_page_by_page() {
    let (cluster, ada) = with_queue(plain()).await;
    let urgent = |body: &str| v1::NewItem { priority: 3, ..item(body) };
    let late = |ms, body: &str| v1::NewItem { delay: milliseconds(ms), ..item(body) };
    ada.send(batch(JOBS, vec![item("held 1"), item("held 2"), item("held 3")])).await.unwrap();
    let held = ada.receive(by("worker", up_to(JOBS, 3))).await.unwrap();
    ada.send(batch(JOBS, vec![item("c"), urgent("a"), item("d"), urgent("b"), item("e")])).await.unwrap();
    ada.send(batch(JOBS, vec![late(90_000, "z"), late(60_000, "x"), late(75_000, "y")])).await.unwrap();
    let grouped = ["h2", "g2", "g3", "h3"].map(|body| of_group(&body[..1], body));
    ada.send(batch(JOBS, vec![of_group("h", "h1"), of_group("g", "g1")])).await.unwrap();
    ada.send(batch(JOBS, grouped.to_vec())).await.unwrap();

    let expected = [
        (ItemState::Ready, vec!["a", "b", "c", "d", "e", "h1", "g1"]),
        (ItemState::Leased, vec!["held 1", "held 2", "held 3"]),
        (ItemState::Delayed, vec!["x", "y", "z"]),
        (ItemState::Grouped, vec!["g2", "g3", "h2", "h3"]),
    ];
    for (state, expected) in &expected {
        for page_size in [1, 2, 3, 1_000] {
            let pages = pages(&ada, *state, page_size).await;
            assert!(pages.iter().all(|page| page.len() <= page_size as usize));
            assert_eq!(pages.iter().flatten().map(body).collect::<Vec<_>>(), *expected, "{state:?} by {page_size}");
        }
    }
    let one = |state| async move { pages(&ada, state, 100).await.remove(0).remove(0) };
    let leased = one(ItemState::Leased).await;
    assert_eq!((leased.item, leased.attempts, leased.consumer.as_str()), (1, 1, "worker"));
    let end = leased.lease_end_time.unwrap();
    let from_now = |time: prost_types::Timestamp| time.seconds - cluster.clock(0).right().0 as i64 / 1_000;
    assert!((LONG_LEASE.as_secs() as i64 - 30..=LONG_LEASE.as_secs() as i64 + 2).contains(&from_now(end)));
    assert_eq!(held[0].id.unwrap().item, leased.item);
}

#[tokio::test]
async fn an_item_is_shown_with_all_that_it_asked_for() {
    let (_cluster, ada) = with_queue(plain()).await;
    let late = v1::NewItem {
        content_type: "application/json".into(),
        headers: [("traceparent".to_owned(), "00-1-2-00".to_owned())].into(),
        priority: 9,
        delay: milliseconds(60_000),
        time_to_live: milliseconds(120_000),
        message_id: "m".into(),
        ..item("{\"a\": [1, 2]}")
    };
    let sent = ada.send(batch(JOBS, vec![late.clone()])).await.unwrap();
    let shown = pages(&ada, ItemState::Delayed, 10).await.remove(0).remove(0);
    assert_eq!((shown.content.as_ref(), shown.sender.as_str(), shown.attempts), (Some(&late), "ada", 0));
    assert_eq!((shown.item, shown.revision), (sent.first_item, sent.revision));
    let ms = |time: Option<prost_types::Timestamp>| {
        let time = time.expect("a time");
        time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000
    };
    let sent_ms = ms(shown.send_time);
    assert_eq!((ms(shown.ready_time) - sent_ms, ms(shown.expire_time) - sent_ms), (60_000, 120_000));
}

#[tokio::test]
async fn a_page_holds_no_more_bytes_than_it_may() {
    let (_cluster, ada) = with_queue(plain()).await;
    for _ in 0..4 {
        ada.send(batch(JOBS, vec![item(&"x".repeat(200 << 10)); 2])).await.unwrap();
    }
    let pages = pages(&ada, ItemState::Ready, 100).await;
    assert!(pages.iter().all(|page| page.len() <= 3), "{:?}", pages.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(pages.concat().iter().map(|item| item.item).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_token_is_one_that_a_list_returned() {
    let (_cluster, ada) = with_queue(plain()).await;
    for page_token in ["yesterday", "abc", "0g", "ä0", &"00".repeat(300)] {
        let request = v1::ListItemsRequest { parent: JOBS.into(), page_token: page_token.into(), ..Default::default() };
        assert_eq!(refusal(ada.look(request).await), ErrorReason::FieldInvalid, "{page_token}");
    }
    // Any other position is a position: nobody is harmed by asking.
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    for page_token in ["00", "ff", "ffffffffffffffffff"] {
        for state in [ItemState::Ready, ItemState::Leased, ItemState::Delayed, ItemState::Grouped] {
            let (parent, state, page_token) = (JOBS.into(), state.into(), page_token.into());
            let request = v1::ListItemsRequest { parent, state, page_token, ..Default::default() };
            assert!(ada.look(request).await.unwrap().items.len() <= 1);
        }
    }
    let unknown = v1::ListItemsRequest { parent: JOBS.into(), state: 99, ..Default::default() };
    assert_eq!(refusal(ada.look(unknown).await), ErrorReason::FieldInvalid);
}

#[tokio::test]
async fn a_queue_tells_its_age_rates_and_consumers() {
    let (cluster, ada) = with_queue(plain()).await;
    let mut waiting = ada.begin("lab").await.unwrap();
    waiting.ask(1, crate::calls::receive(JOBS, LONG, LONG_LEASE));
    waiting.settle(2, JOBS).await;
    let idle = ada.stats(JOBS).await.unwrap();
    let expected = v1::QueueStats { dead_letter_queue: "jobs.dead".into(), waiting_receivers: 1, ..Default::default() };
    assert_eq!(idle, expected);

    ada.send(batch(JOBS, vec![item("work"); 10])).await.unwrap();
    let of_session = waiting.received(1).await;
    let taken = ada.receive(by("worker", up_to(JOBS, 3))).await.unwrap();
    ada.ack_all(&[of_session, taken[..1].to_vec()].concat()).await;
    ada.nack(reject(&taken[1..2], "no use")).await.unwrap();
    let stats = ada.stats(JOBS).await.unwrap();
    assert_eq!((stats.dead_count, stats.waiting_receivers), (1, 0));
    let held: Vec<_> = stats.consumers.iter().map(|held| (held.consumer.as_str(), held.leased_count)).collect();
    assert_eq!(held, [("worker", 1)]);
    assert!(stats.oldest_age.is_some() && stats.consumers[0].last_lease_time.is_some());

    let mut rates = stats;
    for _ in 0..25 {
        cluster.clock(0).advance(Duration::from_secs(1));
        let stats = ada.stats(JOBS).await.unwrap();
        // The highest of each: what happened may lie in two stretches of time.
        rates.sent_rate = rates.sent_rate.max(stats.sent_rate);
        rates.oldest_age = stats.oldest_age;
        assert!(stats.delivered_rate <= 0.4 && stats.acked_rate <= 0.2, "{stats:?}");
    }
    assert_eq!(rates.sent_rate, 1.0, "ten by one command, over ten seconds");
    assert!((25..60).contains(&rates.oldest_age.unwrap().seconds), "{rates:?}");
    assert_eq!(ada.stats(JOBS).await.unwrap().sent_rate, 0.0, "long ago");
    let totals = ada.queue(JOBS).await.unwrap().totals.unwrap();
    assert_eq!((totals.sent, totals.delivered, totals.acked, totals.failed, totals.dead), (10, 4, 2, 1, 1));
    assert_eq!(ids(&taken).len(), 3);
}
