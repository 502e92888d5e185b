//! Writes in one room, a few requests in flight, and opens another session when one is lost.

use std::time::Duration;

use anyhow::Result;
use conclave_client::{Client, ClientError, Session};
use conclave_proto::v1::{ErrorReason, NewItem, NewMessage, PostMessageRequest, SendItemsRequest};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::Interval;

use super::book::Kind;
use super::{Shelf, lock};

/// Between two requests of one writer: fifty a second and room fill logs and tables, and leave two cores time.
const PACE: Duration = Duration::from_millis(20);
/// Requests in flight: a fault finds some written, some sent and some under way.
const IN_FLIGHT: usize = 16;
/// One of so many requests sends an item, the others post a message.
const ITEM_EVERY: u64 = 8;
/// Before another session is tried: the cluster may be without a majority.
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(100);

struct Answer {
    number: u64,
    told: Result<Told, ClientError>,
}

enum Told {
    Message { revision: u64 },
    Item { place: u64, revision: u64 },
}

pub async fn write(client: Client, book: Shelf, mut stop: watch::Receiver<bool>) -> Result<()> {
    let room = lock(&book).room().to_owned();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !*stop.borrow() {
        match Session::open(&client, &room).await {
            Ok(session) => {
                use_session(&session, &book, &mut pace, &mut stop).await;
                session.close().await;
            }
            Err(_) => tokio::time::sleep(OPEN_AGAIN_AFTER).await,
        }
    }
    Ok(())
}

/// Until it is lost, or it is time to stop and everything is answered.
async fn use_session(session: &Session, book: &Shelf, pace: &mut Interval, stop: &mut watch::Receiver<bool>) {
    let mut in_flight: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
    let mut is_lost = false;
    while !is_lost && !*stop.borrow() || !in_flight.is_empty() {
        tokio::select! {
            Some(answer) = in_flight.next() => is_lost |= note(book, answer),
            _ = pace.tick(), if !is_lost && !*stop.borrow() && in_flight.len() < IN_FLIGHT => {
                in_flight.push(ask(session, book));
            }
        }
    }
}

fn ask(session: &Session, book: &Shelf) -> BoxFuture<'static, Answer> {
    let mut book = lock(book);
    if (book.asked() + 1).is_multiple_of(ITEM_EVERY) {
        let (number, body) = book.ask(Kind::Item);
        let items = vec![NewItem { body, ..Default::default() }];
        let reply = session.send_items(SendItemsRequest { parent: book.queue(), items, ..Default::default() });
        let told =
            async move { reply.await.map(|sent| Told::Item { place: sent.first_item, revision: sent.revision }) };
        told.map(move |told| Answer { number, told }).boxed()
    } else {
        let (number, body) = book.ask(Kind::Message);
        let message = Some(NewMessage { r#type: "entry".into(), body, ..Default::default() });
        let request = PostMessageRequest { parent: book.room().to_owned(), message, ..Default::default() };
        let reply = session.post_message(request);
        let told = async move { reply.await.map(|posted| Told::Message { revision: posted.revision }) };
        told.map(move |told| Answer { number, told }).boxed()
    }
}

/// Whether the session is lost.
fn note(book: &Shelf, answer: Answer) -> bool {
    let mut book = lock(book);
    match answer.told {
        Ok(Told::Message { revision }) => book.note_message(answer.number, revision),
        Ok(Told::Item { place, revision }) => book.note_item(answer.number, place, revision),
        // The cluster has room for more again in a moment.
        Err(error) if error.reason == Some(ErrorReason::Overloaded) => book.refused += 1,
        Err(_) => {
            book.unknown += 1;
            return true;
        }
    }
    false
}
