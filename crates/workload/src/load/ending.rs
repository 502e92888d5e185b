//! The quiet phase: all hosts are up and nobody writes any more, so everything is read back.
//!
//! First the queues are emptied, which is work like any other and is recorded as such, and their dead letters are looked
//! at. Then each room is read as a whole: its log, its documents by those who kept them open and by new readers, and what followers missed. A write whose
//! answer nobody waited for may still arrive meanwhile; the room's revision shows it, and the room is read once more.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use conclave_client::Client;
use conclave_proto::v1::{DescribeDocumentRequest, GetQueueRequest, GetRoomRequest};
use tokio::sync::watch;
use tokio::time::Instant;

use super::actor::{Actor, pace};
use super::consumer::{ack, receive_request, received};
use super::listeners::Copy;
use super::queues::{QUEUES, dead_letters};
use super::recorder::Recorder;
use super::reply::Told;
use super::{DOCUMENTS, document_name, queue_name};
use crate::dice::Dice;
use crate::history::{Answer, Call, DeadLetter, Delivery, DocumentCopy, Ending, Transcript};
use crate::news::described_text;
use crate::patience::eventually;

/// After all faults are healed a queue must be empty this soon: leases that are still held end first.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// Of the leases that drain: they are acknowledged at once.
const LEASE: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(1);
const DRAIN_ITEMS: u32 = 100;
/// How often a room is read once more because something was still on its way.
const READINGS: usize = 10;

/// Reads all rooms back. An error means that the cluster does not answer.
pub async fn read(
    client: &Client,
    recorder: &Arc<Recorder>,
    mut transcripts: Vec<Transcript>,
    mut copies: Vec<Copy>,
) -> Result<(Vec<Transcript>, Vec<Ending>)> {
    let mut endings = Vec::new();
    for (room, name) in recorder.rooms().into_iter().enumerate() {
        let name = format!("rooms/{name}");
        eventually("a room that serves", || async { revision(client, &name).await }).await?;
        let left_in_queues = drain(client, recorder, room, &name, 0..QUEUES).await;
        let left_in_queues = left_in_queues.with_context(|| format!("drain {name}"))?;
        let dead_letters = all_dead_letters(client, &name).await?;
        let transcripts: Vec<_> = transcripts.iter_mut().filter(|transcript| transcript.room == room).collect();
        let copies: Vec<_> = copies.iter_mut().filter(|copy| copy.room == room).collect();
        let ending = read_room(client, room, &name, transcripts, copies).await;
        endings.push(Ending { left_in_queues, dead_letters, ..ending.with_context(|| format!("read {name} back"))? });
    }
    Ok((transcripts, endings))
}

pub async fn revision(client: &Client, room: &str) -> Result<u64> {
    let request = GetRoomRequest { name: room.to_owned(), ..Default::default() };
    Ok(client.get_room(request).await?.revision)
}

/// Takes everything out of some of a room's queues; returns what is left in each when the time is over.
pub async fn drain(
    client: &Client,
    recorder: &Arc<Recorder>,
    room: usize,
    name: &str,
    queues: Range<u16>,
) -> Result<Vec<u64>> {
    let (_running, stopped) = watch::channel(false);
    let number = recorder.next_actor();
    let actor = Actor {
        number,
        room,
        name: name.to_owned(),
        client: client.clone(),
        recorder: recorder.clone(),
        dice: Dice::new(u64::from(number)),
        stopped,
        pace: pace(WAIT),
    };
    let mut left = Vec::new();
    for queue in queues {
        let until = Instant::now() + DRAIN_WITHIN;
        let mut size = size_of(client, name, queue).await?;
        while size > 0 && Instant::now() < until {
            empty_once(&actor, queue).await;
            size = size_of(client, name, queue).await?;
        }
        left.push(size);
    }
    Ok(left)
}

async fn all_dead_letters(client: &Client, room: &str) -> Result<Vec<DeadLetter>> {
    let mut all = Vec::new();
    for queue in 0..QUEUES {
        all.extend(eventually("dead letters", || dead_letters(client, room, queue)).await?);
    }
    Ok(all)
}

async fn empty_once(actor: &Actor, queue: u16) {
    let request = receive_request(&actor.name, queue, DRAIN_ITEMS, WAIT, LEASE);
    let call = Call::Receive { queue, lease_ms: LEASE.as_millis() as u64 };
    let Told::Done(response) = actor.ask(None, call, || actor.client.receive_items(request), received).await else {
        return;
    };
    let (_, Answer::Received { deliveries }) = received(&response) else { return };
    let deliveries: Vec<Delivery> = deliveries.into_iter().map(|received| received.delivery).collect();
    if !deliveries.is_empty() {
        // What it came to is recorded; what was not acknowledged comes back.
        let _ = ack(actor, None, queue, deliveries).await;
    }
}

async fn size_of(client: &Client, room: &str, queue: u16) -> Result<u64> {
    let name = queue_name(room, queue);
    eventually("a queue's size", || async {
        let answer = client.get_queue(GetQueueRequest { name: name.clone(), ..Default::default() }).await;
        match answer {
            Ok(answer) => Ok(answer.queue.context("a queue")?.size),
            // Nobody sent anything or received from it.
            Err(error) if error.code == tonic::Code::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

async fn read_room(
    client: &Client,
    room: usize,
    name: &str,
    mut transcripts: Vec<&mut Transcript>,
    mut copies: Vec<&mut Copy>,
) -> Result<Ending> {
    for _ in 0..READINGS {
        let before = revision(client, name).await?;
        for transcript in &mut transcripts {
            transcript.complete(client, name).await.with_context(|| format!("follower {}", transcript.follower))?;
        }
        let mut read = Vec::new();
        for copy in &mut copies {
            read.push(copy.complete(client, name).await.with_context(|| copy.reader.clone())?);
        }
        for document in 0..DOCUMENTS {
            let mut copy = Copy::new(room, document, "opened in the end".to_owned(), u64::from(u32::MAX));
            read.push(copy.complete(client, name).await?);
            read.push(described(client, name, document).await?);
        }
        let mut whole =
            Transcript { follower: u32::MAX, room, heard: Vec::new(), complete_to: 0, resumes: 0, breaks: Vec::new() };
        whole.complete(client, name).await.context("the whole log")?;
        ensure!(whole.breaks.is_empty(), "the log from its beginning: {:?}", whole.breaks);
        if revision(client, name).await? == before {
            return Ok(Ending { revision: before, log: whole.heard, copies: read, ..Ending::default() });
        }
    }
    bail!("the room changed during each of {READINGS} readings although nobody writes")
}

async fn described(client: &Client, room: &str, document: u16) -> Result<DocumentCopy> {
    let request = DescribeDocumentRequest { name: document_name(room, document), ..Default::default() };
    let text = described_text(&client.describe_document(request).await?.json)?;
    Ok(DocumentCopy { document, reader: "described".to_owned(), text, clocks: None })
}
