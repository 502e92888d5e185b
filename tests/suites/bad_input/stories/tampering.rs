//! Updates that are tampered with, build on nothing, or stand for more than they hold; and what becomes of the documents.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use conclave_client::{ClientError, Session, UpdateKind};
use conclave_document::{DocumentError, Replica, ReplicaError, decode_state_vector};
use conclave_proto::v1::{DescribeDocumentRequest, Document, ErrorReason as Reason, OpenDocumentRequest};
use conclave_types::{Clocks, YjsClient};
use conclave_workload::news::{Assembly, News, ROOT, news};
use serde_json::Value;

use super::Story;
use crate::calls::documents::{delete, push};
use crate::expected::{need_sync, no_update};
use crate::place::{Place, ROOM};
use crate::updates;

/// As many as were measured against yrs.
const ORPHANS: u64 = 8_000;
const SEEDS: [u64; 4] = [1, 2, 3, 4];
/// For each seed so many rounds, each with an author of its own.
const ROUNDS: u64 = 25;
const EDITS_OF_A_ROUND: u32 = 40;

pub fn all(place: &Place) -> Vec<(&'static str, Story<'_>)> {
    let mut all: Vec<(&'static str, Story<'_>)> = vec![
        ("8,000 updates whose parents are missing", Box::pin(missing_parents(place))),
        ("a run of 2^31 - 1 elements in seven bytes", Box::pin(longest_run(place))),
        ("an update that was known", Box::pin(known_updates(place))),
        ("an element inside a letter", Box::pin(inside_a_letter(place))),
    ];
    for seed in SEEDS {
        all.push(("updates that were tampered with", Box::pin(tampered(place, seed))));
    }
    all
}

/// None is kept for later, so none costs more than the one before.
async fn missing_parents(place: &Place) -> Result<()> {
    let document = "rooms/here/documents/orphans";
    let session = Session::open(&place.client, ROOM).await?;
    session.push_update(push(document, updates::letter(1))).await?;
    let orphans = (0..ORPHANS).map(|number| updates::orphan(number % 100 + 2, number + 1));
    let answers = push_all(&session, document, orphans).await;
    ensure!(answers.len() as u64 == ORPHANS, "{} answers", answers.len());
    for answer in answers {
        need_sync().check(&answer.err().context("an update without its parent was taken")?)?;
    }
    session.close().await;
    let (described, _) = sound(place, document).await?;
    ensure!(described.update_count == 1, "{} updates are kept", described.update_count);
    Ok(())
}

/// It is allowed: garbage collection writes such runs. It costs nobody more than its bytes.
async fn longest_run(place: &Place) -> Result<()> {
    let document = "rooms/here/documents/run";
    place.client.push_update(push(document, updates::longest_run())).await?;
    place.client.push_update(push(document, updates::letter(2))).await?;
    let (_, clocks) = sound(place, document).await?;
    ensure!(clocks == Clocks::from([(YjsClient(1), 0x7fff_ffff), (YjsClient(2), 1)]), "{clocks:?}");
    Ok(())
}

/// Only the document shows that a letter holds nothing, and a push is checked by its bytes alone: it is taken, and whoever
/// reads that document finds the error, as an error. Neither the process nor another document knows of it, and the
/// document can be deleted.
async fn inside_a_letter(place: &Place) -> Result<()> {
    let document = "rooms/here/documents/inside";
    let (letter, inside) = (updates::letter(1), updates::inside_a_letter(2, 1));
    for update in [&letter, &inside] {
        place.client.push_update(push(document, update.clone())).await?;
    }
    let mut replica = Replica::new(YjsClient(3));
    replica.apply(&letter)?;
    ensure!(matches!(replica.apply(&inside), Err(ReplicaError::Document(DocumentError::Inapplicable(_)))));
    place.client.delete_document(delete(document)).await?;
    place.client.push_update(push(document, letter)).await?;
    sound(place, document).await.map(drop)
}

/// Pushed again it changes nothing; cut short and gone on with it does not fit.
async fn known_updates(place: &Place) -> Result<()> {
    let document = "rooms/here/documents/known";
    let mut replica = Replica::new(YjsClient(5));
    let first = replica.insert(ROOT, 0, "known")?;
    let second = replica.insert(ROOT, 5, " well")?;
    let both = replica.diff(&Clocks::new())?;
    let pushed = place.client.push_update(push(document, first.clone())).await?;
    let again = place.client.push_update(push(document, first)).await?;
    ensure!(again.revision == pushed.revision, "{again:?} after {pushed:?}");
    let overlapping = place.client.push_update(push(document, both)).await.err().context("a half known update")?;
    need_sync().check(&overlapping)?;
    place.client.push_update(push(document, second)).await?;
    let (described, _) = sound(place, document).await?;
    ensure!(described.update_count == 2, "{} updates are kept", described.update_count);
    Ok(())
}

async fn tampered(place: &Place, seed: u64) -> Result<()> {
    let document = format!("rooms/here/documents/tampered-{seed}");
    let session = Session::open(&place.client, ROOM).await?;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut answers: BTreeMap<Option<Reason>, usize> = BTreeMap::new();
    for round in 0..ROUNDS {
        let updates = edits(&mut random, round).with_context(|| format!("seed {seed}, round {round}"))?;
        for answer in push_all(&session, &document, updates).await {
            let reason = match answer {
                Ok(_) => None,
                Err(error) => Some(typed(&error).with_context(|| format!("seed {seed}, round {round}"))?),
            };
            *answers.entry(reason).or_default() += 1;
        }
    }
    session.close().await;
    for reason in [None, Some(Reason::UpdateInvalid), Some(Reason::NeedSync)] {
        ensure!(answers.contains_key(&reason), "seed {seed}: nothing was answered with {reason:?}: {answers:?}");
    }
    sound(place, &document).await.with_context(|| format!("seed {seed}: {answers:?}"))?;
    Ok(())
}

/// What an author writes in a round: each update tampered with, then as it was.
fn edits(random: &mut Random, round: u64) -> Result<Vec<Bytes>> {
    let author = round * 10 + 100;
    let mut replica = Replica::new(YjsClient(author));
    let mut updates = Vec::new();
    for edit in 0..EDITS_OF_A_ROUND {
        let len = replica.text(ROOT).len() as u32;
        let update = match random.below(8) {
            0 => updates::everything(author + 1 + u64::from(edit % 9)),
            1 if len > 0 => replica.diff(&Clocks::new())?,
            2 | 3 if len > 0 => {
                let at = random.below(len);
                replica.delete(ROOT, at, 1 + random.below((len - at).min(5)))?
            }
            _ => replica.insert(ROOT, random.below(len + 1), ["a", "bc", "hello"][random.below(3) as usize])?,
        };
        updates.extend([mutated(&update, random), update]);
    }
    Ok(updates)
}

/// Changes a few bytes: another value, one more, one less.
fn mutated(update: &[u8], random: &mut Random) -> Bytes {
    let mut bytes = update.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() as u32) as usize;
        match random.below(6) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] = random.below(12) as u8,
            2 => bytes[at] ^= 1 << random.below(8),
            3 => bytes.insert(at, random.below(12) as u8),
            4 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
    bytes.into()
}

/// Choices by a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 20) % u64::from(limit.max(1))) as u32
    }
}

/// The two refusals that an update may meet.
fn typed(error: &ClientError) -> Result<Reason> {
    match error.reason {
        Some(Reason::NeedSync) => need_sync().check(error)?,
        _ => no_update("update").check(error)?,
    }
    error.reason.context("no reason")
}

/// Pushes one behind the other without waiting for answers in between.
async fn push_all(
    session: &Session,
    document: &str,
    updates: impl IntoIterator<Item = Bytes>,
) -> Vec<Result<(), ClientError>> {
    let mut replies = Vec::new();
    for update in updates {
        session.ready().await;
        replies.push(session.push_update(push(document, update)));
    }
    futures::future::join_all(replies).await.into_iter().map(|reply| reply.map(drop)).collect()
}

/// The document can be described and opened still, and whoever opens it holds what the host says.
async fn sound(place: &Place, name: &str) -> Result<(Document, Clocks)> {
    let describe = DescribeDocumentRequest { name: name.into(), ..Default::default() };
    let described = place.client.describe_document(describe).await.context("describe the document")?;
    let json: Value = serde_json::from_str(&described.json)?;
    ensure!(json.is_object(), "described as {json}");

    let open = OpenDocumentRequest { name: name.into(), create: Some(false), ..Default::default() };
    let mut stream = place.client.open_document(open).await.context("open the document")?;
    let (mut replica, mut assembly) = (Replica::new(YjsClient(1 << 50)), Assembly::default());
    let clocks = loop {
        let update = stream.next().await.context("the document's stream ended")??;
        if let UpdateKind::Live(live) = &update.kind {
            break decode_state_vector(&live.state_vector)?;
        }
        if let News::Updates(updates) = news(update, &mut assembly)? {
            for update in updates {
                replica.apply(&update).context("a reader cannot apply what it was sent")?;
            }
        }
    };
    ensure!(!replica.has_pending(), "something is missing");
    ensure!(replica.clocks() == clocks, "{:?} instead of {clocks:?}", replica.clocks());
    Ok((described.document.context("no document")?, clocks))
}
