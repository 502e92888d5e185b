//! What a document's stream says, in words of a replica.

use anyhow::{Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use conclave_client::{Update, UpdateKind};
use conclave_document::decode_state_vector;
use conclave_proto::v1::DocumentUpdate;
use conclave_proto::v1::event::Kind;
use conclave_types::Clocks;

/// The root type that is typed into, as text editors on Yjs name it.
pub const ROOT: &str = "text";

/// Puts the parts of large updates together.
#[derive(Debug, Default)]
pub struct Assembly {
    parts: BytesMut,
    next: u32,
}

impl Assembly {
    /// Takes an event's update; the whole one once it is there.
    pub fn take(&mut self, update: DocumentUpdate) -> Result<Option<Bytes>> {
        if update.part == 0 {
            (self.parts, self.next) = (BytesMut::new(), 0);
            if !update.more {
                return Ok(Some(update.update));
            }
        }
        ensure!(update.part == self.next, "part {} of an update follows part {}", update.part, self.next);
        self.parts.extend_from_slice(&update.update);
        self.next += 1;
        Ok((!update.more).then(|| self.parts.split().freeze()))
    }
}

/// What an element of a document's stream means to a replica.
#[derive(Debug)]
pub enum News {
    /// Updates to merge.
    Updates(Vec<Bytes>),
    /// The host holds these clocks.
    Live(Clocks),
    Nothing,
}

pub fn news(update: Update, assembly: &mut Assembly) -> Result<News> {
    match update.kind {
        UpdateKind::Events(batch) => {
            let mut updates = Vec::new();
            for event in batch.events()? {
                if let Some(Kind::DocumentUpdate(update)) = event.kind {
                    updates.extend(assembly.take(update)?);
                }
            }
            Ok(News::Updates(updates))
        }
        UpdateKind::Live(live) => Ok(News::Live(decode_state_vector(&live.state_vector)?)),
        UpdateKind::Gap(gap) => {
            ensure!(gap.from_revision == gap.to_revision, "updates are gone: {gap:?}");
            Ok(News::Nothing)
        }
    }
}

/// The text of a document's root as its JSON says it. A document that nobody has typed into has no root yet.
pub fn described_text(json: &str) -> Result<String> {
    let described: serde_json::Value = serde_json::from_str(json)?;
    match described.get(ROOT) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        None if described.as_object().is_some_and(serde_json::Map::is_empty) => Ok(String::new()),
        other => bail!("the root {ROOT:?} is described as {other:?}"),
    }
}
