//! The queues of each room: a plain one, which the first send makes, and one with settings and everything that may be
//! asked of items.

use anyhow::{Context, Result};
use conclave_client::Client;
use conclave_proto::v1::{
    CreateQueueRequest, DeadLetter as Letter, ErrorReason, ItemState, ListItemsRequest, QueueItem,
};
use conclave_proto::v1::{QueueSettings, dead_letter, failed_delivery};
use std::time::Duration;

use super::queue_name;
use crate::history::{DeadLetter, Death, Failure, QueueRules, Value};
use crate::patience::eventually;

/// Items without wishes; as many deliveries as the cluster's default says.
pub const PLAIN: u16 = 0;
/// Items with wishes, which die soon.
pub const RICH: u16 = 1;
pub const QUEUES: u16 = 2;

/// The default of a queue that nobody asked for anything.
const DEFAULT_ATTEMPTS: u32 = 10;
/// So few that dead letters come, so many that most items do not die.
const RICH_ATTEMPTS: u32 = 3;
const RICH_BACKOFF: Duration = Duration::from_millis(300);
/// Dead letters of one page.
const PAGE: u32 = 500;

/// What the queues of each room do.
pub fn rules() -> Vec<QueueRules> {
    let rules = |queue, max_attempts| QueueRules { name: name(queue), max_attempts };
    vec![rules(PLAIN, DEFAULT_ATTEMPTS), rules(RICH, RICH_ATTEMPTS)]
}

/// Without the room.
pub fn name(queue: u16) -> String {
    format!("jobs-{queue}")
}

/// Makes a room's queue that does more than others.
pub async fn make_rich(client: &Client, room: &str) -> Result<()> {
    let settings = QueueSettings {
        max_attempts: Some(RICH_ATTEMPTS),
        backoff: RICH_BACKOFF.try_into().ok(),
        ..QueueSettings::default()
    };
    make(client, queue_name(room, RICH), settings).await
}

pub async fn make(client: &Client, name: String, settings: QueueSettings) -> Result<()> {
    eventually("a queue for the load", || async {
        let request = CreateQueueRequest { name: name.clone(), settings: Some(settings.clone()), ..Default::default() };
        match client.create_queue(request).await {
            Err(error) if error.reason != Some(ErrorReason::QueueExists) => Err(anyhow::Error::from(error)),
            _ => Ok(()),
        }
    })
    .await
}

/// Reads all dead letters of a room's queue.
pub async fn dead_letters(client: &Client, room: &str, queue: u16) -> Result<Vec<DeadLetter>> {
    let (mut letters, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListItemsRequest {
            parent: format!("{}.dead", queue_name(room, queue)),
            state: ItemState::Ready.into(),
            page_size: PAGE,
            page_token,
            ..Default::default()
        };
        let page = match client.list_items(request).await {
            Ok(page) => page,
            // Nothing has died.
            Err(error) if error.code == tonic::Code::NotFound && letters.is_empty() => return Ok(letters),
            Err(error) => return Err(error.into()),
        };
        for item in page.items {
            letters.push(letter(queue, item).context("an item among dead letters that is none")?);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(letters);
        }
    }
}

fn letter(of: u16, item: QueueItem) -> Option<DeadLetter> {
    let (content, letter) = (item.content?, item.dead_letter?);
    let reason = match letter.reason() {
        dead_letter::Reason::TooManyAttempts => Death::TooManyAttempts,
        dead_letter::Reason::Rejected => Death::Rejected,
        dead_letter::Reason::Unspecified => Death::Unspecified,
    };
    let failures = letter.failures.iter().map(|failed| {
        let kind = match failed.kind() {
            failed_delivery::Kind::LeaseEnded => Failure::LeaseEnded,
            failed_delivery::Kind::Nacked => Failure::Nacked,
            failed_delivery::Kind::Rejected => Failure::Rejected,
            failed_delivery::Kind::Unspecified => Failure::Unspecified,
        };
        (failed.attempt, kind)
    });
    let (failures, value) = (failures.collect(), Value::of_body(&content.body));
    let Letter { queue, item: number, attempts, .. } = letter;
    Some(DeadLetter { of, queue, item: number, value, reason, attempts, failures, revision: item.revision })
}
