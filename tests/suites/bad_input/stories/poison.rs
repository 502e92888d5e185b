//! Items that no consumer can work on: they end among the dead letters, and the rest goes on.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use conclave_client::{Session, UpdateKind};
use conclave_proto::v1::dead_letter::Reason;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::failed_delivery::Kind as Failed;
use conclave_proto::v1::{
    AckDeliveriesRequest, CreateQueueRequest, Delivery, ErrorReason, GetQueueRequest, ListItemsRequest,
    NackDeliveriesRequest, NewItem, QueueSettings, SendItemsRequest, Subscribe,
};
use prost_types::Duration;
use tonic::Code;

use super::Story;
use crate::expected::refused;
use crate::place::{Place, ROOM};

pub fn all(place: &Place) -> Vec<(&'static str, Story<'_>)> {
    vec![
        ("poison among good items", Box::pin(poison_among_good_items(place))),
        ("a queue that is full", Box::pin(full_queue(place))),
        ("more leases than a consumer's window", Box::pin(one_window(place))),
    ]
}

/// Of one item every delivery is given back, another is rejected at once; both stand at the very front of the queue.
async fn poison_among_good_items(place: &Place) -> Result<()> {
    const GOOD: usize = 40;
    let queue = "rooms/here/queues/poisoned";
    let settings = QueueSettings { max_attempts: Some(3), ..Default::default() };
    make(place, queue, settings).await?;
    let urgent = |body: &str| NewItem { priority: 9, ..item(body) };
    let mut items = vec![urgent("poison"), urgent("useless")];
    items.extend((0..GOOD).map(|number| item(&number.to_string())));
    place.client.send_items(SendItemsRequest { parent: queue.into(), items, ..Default::default() }).await?;

    let session = Session::open(&place.client, ROOM).await?;
    let subscribe = Subscribe { resource: queue.into(), window: 2, consumer: "worker".into(), ..Default::default() };
    let mut deliveries = session.subscribe(subscribe).await?;
    let mut seen = BTreeMap::<String, u32>::new();
    let mut settled = 0;
    while settled < GOOD + 2 {
        let update = deliveries.next().await.context("the subscription ended")??;
        let UpdateKind::Events(batch) = update.kind else { continue };
        for event in batch.events()? {
            let Some(Kind::Delivery(delivery)) = event.kind else { bail!("no delivery: {event:?}") };
            let body = String::from_utf8(delivery.body.to_vec())?;
            let attempt = delivery.id.context("an id")?.attempt;
            let times = seen.entry(body.clone()).or_default();
            *times += 1;
            ensure!(*times == attempt, "{body:?} came {times} times by attempt {attempt}");
            settled += match body.as_str() {
                "poison" => usize::from(give_back(&session, queue, &delivery).await? == 3),
                "useless" => reject(&session, queue, &delivery).await?,
                _ => ack(&session, queue, &delivery).await?,
            };
        }
    }
    session.close().await;
    ensure!(seen["poison"] == 3 && seen["useless"] == 1, "{seen:?}");
    ensure!(size(place, queue).await? == 0, "something is left");

    let dead = format!("{queue}.dead");
    let list = ListItemsRequest { parent: dead, ..Default::default() };
    let dead = place.client.list_items(list).await?.items;
    let stories: BTreeMap<_, _> = dead
        .iter()
        .filter_map(|item| {
            let (content, letter) = (item.content.as_ref()?, item.dead_letter.as_ref()?);
            let failures = letter.failures.iter().map(|failure| (failure.kind(), failure.reason.as_str()));
            Some((String::from_utf8_lossy(&content.body), (letter.reason(), failures.collect::<Vec<_>>())))
        })
        .collect();
    let poison = (Reason::TooManyAttempts, vec![(Failed::Nacked, "it does not agree with me"); 3]);
    let useless = (Reason::Rejected, vec![(Failed::Rejected, "no use")]);
    let expected = BTreeMap::from([("poison".into(), poison), ("useless".into(), useless)]);
    ensure!(stories == expected, "{stories:?}");
    Ok(())
}

async fn full_queue(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/full";
    make(place, queue, QueueSettings { max_items: Some(3), max_bytes: Some(100), ..Default::default() }).await?;
    let send = |bodies: &[&str]| SendItemsRequest {
        parent: queue.into(),
        items: bodies.iter().map(|body| item(body)).collect(),
        ..Default::default()
    };
    let full = refused(Code::ResourceExhausted, ErrorReason::QueueFull);
    for bodies in [&["1", "2", "3", "4"][..], &["x".repeat(100).as_str()]] {
        let error = place.client.send_items(send(bodies)).await.err().context("it has no end")?;
        full.check(&error)?;
        ensure!(size(place, queue).await? == 0, "a part was sent");
    }
    place.client.send_items(send(&["1", "2", "3"])).await?;
    full.check(&place.client.send_items(send(&["4"])).await.err().context("it has no end")?)?;
    ensure!(size(place, queue).await? == 3, "not the three items");
    Ok(())
}

/// A consumer that never settles anything holds its window and no more, whatever credit it claims to have.
async fn one_window(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/hoarded";
    let items = vec![item("work"); 50];
    place.client.send_items(SendItemsRequest { parent: queue.into(), items, ..Default::default() }).await?;
    let session = Session::open(&place.client, ROOM).await?;
    let subscribe = Subscribe { resource: queue.into(), window: 3, ..Default::default() };
    let mut deliveries = session.subscribe(subscribe).await?;
    let mut held = 0;
    while held < 3 {
        let update = deliveries.next().await.context("the subscription ended")??;
        if let UpdateKind::Events(batch) = update.kind {
            held += batch.events()?.len();
        }
    }
    let leased = leased(place, queue).await?;
    ensure!(held == 3 && leased == 3, "{held} came and {leased} are leased");
    drop(deliveries);
    session.close().await;
    Ok(())
}

async fn make(place: &Place, queue: &str, settings: QueueSettings) -> Result<()> {
    let request = CreateQueueRequest { name: queue.into(), settings: Some(settings), ..Default::default() };
    place.client.create_queue(request).await?;
    Ok(())
}

/// Returns the attempt that was given back.
async fn give_back(session: &Session, queue: &str, delivery: &Delivery) -> Result<u32> {
    let reason = "it does not agree with me".to_owned();
    let delay = Some(Duration { seconds: 0, nanos: 50_000_000 });
    let nack = NackDeliveriesRequest { reason, delay, ..nacked(queue, delivery) };
    session.nack_deliveries(nack).await?;
    Ok(delivery.id.context("an id")?.attempt)
}

async fn reject(session: &Session, queue: &str, delivery: &Delivery) -> Result<usize> {
    let nack = NackDeliveriesRequest { reject: true, reason: "no use".into(), ..nacked(queue, delivery) };
    session.nack_deliveries(nack).await?;
    Ok(1)
}

async fn ack(session: &Session, queue: &str, delivery: &Delivery) -> Result<usize> {
    let deliveries = delivery.id.into_iter().collect();
    session.ack_deliveries(AckDeliveriesRequest { parent: queue.into(), deliveries, ..Default::default() }).await?;
    Ok(1)
}

fn nacked(queue: &str, delivery: &Delivery) -> NackDeliveriesRequest {
    NackDeliveriesRequest { parent: queue.into(), deliveries: delivery.id.into_iter().collect(), ..Default::default() }
}

fn item(body: &str) -> NewItem {
    NewItem { body: body.to_owned().into(), ..Default::default() }
}

async fn size(place: &Place, queue: &str) -> Result<u64> {
    let request = GetQueueRequest { name: queue.into(), ..Default::default() };
    Ok(place.client.get_queue(request).await?.queue.context("no queue")?.size)
}

async fn leased(place: &Place, queue: &str) -> Result<u64> {
    let request = GetQueueRequest { name: queue.into(), ..Default::default() };
    Ok(place.client.get_queue(request).await?.queue.context("no queue")?.leased_count)
}
