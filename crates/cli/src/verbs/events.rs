//! Streams of events as they come: a line each for people, or a JSON object a line for programs.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use conclave_client::{ClientError, Update, UpdateKind};
use conclave_proto::v1;
use conclave_proto::v1::event::Kind;
use serde_json::{Map, Value, json};

use super::{body, print, queue};
use crate::flags::{EndArgs, Output};

/// How long a verb tries to take a lost stream up again.
pub const RECONNECT_FOR: Duration = Duration::from_secs(60);

/// Prints updates until they end, or as far as is wanted.
pub async fn print_all(
    output: Output,
    end: &EndArgs,
    mut next: impl AsyncFnMut() -> Option<Result<Update, ClientError>>,
) -> Result<()> {
    if output == Output::Table {
        print::line(&head())?;
    }
    let mut left = end.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(update) = next().await else { return Ok(()) };
        let update = update?;
        match update.kind {
            UpdateKind::Events(batch) => {
                let events = batch.events().context("the events cannot be read")?;
                for event in events.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                    print::line(&line(output, &Entry::of(event)))?;
                    left -= 1;
                }
            }
            UpdateKind::Gap(gap) => print::line(&line(output, &Entry::gap(&gap)))?,
            UpdateKind::Live(live) => {
                print::line(&line(output, &Entry::live(update.revision.max(live.revision))))?;
                if end.until_live {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// A line to print.
struct Entry {
    revision: u64,
    time: Option<String>,
    participant: String,
    kind: &'static str,
    /// For people.
    summary: String,
    /// For programs.
    fields: Map<String, Value>,
}

impl Entry {
    fn of(event: v1::Event) -> Entry {
        let (kind, summary, fields) = match event.kind {
            Some(kind) => contents(kind),
            None => ("unknown", "of a later version".to_owned(), json!({})),
        };
        Entry {
            revision: event.revision,
            time: event.time.map(|time| time.to_string()),
            participant: event.participant,
            kind,
            summary,
            fields: object(fields),
        }
    }

    fn gap(gap: &v1::Gap) -> Entry {
        let v1::Gap { from_revision: from, to_revision: to, dropped_count: dropped } = *gap;
        let summary = match dropped {
            0 => format!("what was after {from} and up to {to} is not kept any more"),
            dropped => format!("{dropped} dropped: read too slowly"),
        };
        let fields = json!({"from_revision": from, "to_revision": to, "dropped_count": dropped});
        Entry::about("gap", to, summary, fields)
    }

    fn live(revision: u64) -> Entry {
        Entry::about("live", revision, "what follows is new".to_owned(), json!({}))
    }

    fn about(kind: &'static str, revision: u64, summary: String, fields: Value) -> Entry {
        Entry { revision, time: None, participant: String::new(), kind, summary, fields: object(fields) }
    }
}

/// The kind of an event, how people read it, and its fields.
fn contents(kind: Kind) -> (&'static str, String, Value) {
    match kind {
        Kind::Message(message) => {
            let (body, encoding) = body::text_or_base64(&message.body);
            let lane = lane(message.lane());
            let summary = format!("{lane}  {}  {}", message.r#type, body::excerpt(&message.body));
            let fields = json!({
                "lane": lane, "type": message.r#type, "content_type": message.content_type,
                "headers": message.headers, "to": message.to, "body": body, "encoding": encoding,
            });
            ("message", summary, fields)
        }
        Kind::DocumentUpdate(v1::DocumentUpdate { document, update, state, part, more }) => {
            let what = if state { "state" } else { "update" };
            let summary = match (part, more) {
                (0, false) => format!("{document}  {what} of {} bytes", update.len()),
                (part, _) => format!("{document}  part {part} of {what}, {} bytes", update.len()),
            };
            let fields = json!({
                "document": document, "state": state, "part": part, "more": more,
                "update": STANDARD.encode(&update), "encoding": "base64",
            });
            ("document_update", summary, fields)
        }
        Kind::DocumentChange(change) => {
            let word = document_change(change.kind());
            let v1::DocumentChange { document, new_document, .. } = change;
            let summary = match new_document.as_str() {
                "" => format!("{document}  {word}"),
                new => format!("{document}  {word} to {new}"),
            };
            let fields = json!({"change": word, "document": document, "new_document": new_document});
            ("document_change", summary, fields)
        }
        Kind::DocumentAwareness(v1::DocumentAwareness { document, source, payload }) => {
            let (text, encoding) = body::text_or_base64(&payload);
            let summary = format!("{document}  source {source}, {} bytes", payload.len());
            let fields = json!({"document": document, "source": source, "body": text, "encoding": encoding});
            ("document_awareness", summary, fields)
        }
        Kind::QueueChange(v1::QueueChange { queue, ready_count, leased_count }) => {
            let summary = format!("{queue}  {ready_count} ready, {leased_count} leased");
            ("queue_change", summary, json!({"queue": queue, "ready": ready_count, "leased": leased_count}))
        }
        Kind::Delivery(delivery) => {
            let summary = format!("{}  {}", queue::delivery_id(&delivery), body::excerpt(&delivery.body));
            ("delivery", summary, queue::delivery_fields(&delivery))
        }
        Kind::ParticipantSnapshot(v1::ParticipantSnapshot { participants }) => {
            let names: Vec<&str> = participants.iter().map(short_name).collect();
            let summary = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            let fields = json!({"participants": participants.iter().map(participant).collect::<Vec<_>>()});
            ("participant_snapshot", summary, fields)
        }
        Kind::ParticipantChange(change) => {
            let word = participant_change(change.kind());
            let who = change.participant.unwrap_or_default();
            let summary = format!("{}  {word}", short_name(&who));
            ("participant_change", summary, json!({"change": word, "participant": participant(&who)}))
        }
    }
}

fn document_change(kind: v1::document_change::Kind) -> &'static str {
    use v1::document_change::Kind;
    match kind {
        Kind::Unspecified => "changed",
        Kind::Created => "created",
        Kind::Renamed => "renamed",
        Kind::Deleted => "deleted",
    }
}

fn participant_change(kind: v1::participant_change::Kind) -> &'static str {
    use v1::participant_change::Kind;
    match kind {
        Kind::Unspecified => "changed",
        Kind::Attached => "attached",
        Kind::Updated => "updated",
        Kind::Detached => "detached",
        Kind::LeaseEnded => "lease ended",
    }
}

pub fn lane(lane: v1::Lane) -> &'static str {
    match lane {
        v1::Lane::Unspecified => "unknown",
        v1::Lane::Durable => "durable",
        v1::Lane::Ephemeral => "ephemeral",
    }
}

pub fn participant(participant: &v1::Participant) -> Value {
    json!({
        "name": short_name(participant), "uid": participant.uid, "identity": participant.identity,
        "role": participant.role, "attributes": participant.attributes,
    })
}

/// The name without its room.
pub fn short_name(participant: &v1::Participant) -> &str {
    participant.name.rsplit('/').next().unwrap_or_default()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn head() -> String {
    columns("REVISION", "TIME", "PARTICIPANT", "KIND", "WHAT")
}

fn line(output: Output, entry: &Entry) -> String {
    let Entry { revision, time, participant, kind, summary, fields } = entry;
    match output {
        Output::Json => {
            let mut whole = object(json!({
                "revision": revision, "time": time, "participant": participant, "kind": kind,
            }));
            whole.extend(fields.clone());
            Value::Object(whole).to_string()
        }
        Output::Table => {
            let revision = if *revision == 0 { "-".to_owned() } else { revision.to_string() };
            columns(&revision, time.as_deref().unwrap_or("-"), dash(participant), kind, summary)
        }
    }
}

/// What comes is not known beforehand, so the widths are those of what usually comes.
fn columns(revision: &str, time: &str, participant: &str, kind: &str, what: &str) -> String {
    format!("{revision:<8}  {time:<24}  {participant:<12}  {kind:<20}  {what}").trim_end().to_owned()
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests;
