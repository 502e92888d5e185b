//! Tells followers what entries changed.
//!
//! This runs on the thread that applies, so it encodes only what somebody listens to, once for all of its channels, and
//! wakes each listener once however many changes there are.
//!
//! Cost of a change: two look-ups when nobody listens in its room; else one encoding, one copy of its payload, and one
//! pointer for each channel.

use std::collections::HashMap;
use std::sync::Arc;

use conclave_proto::events::EncodedEvent;
use conclave_proto::time::timestamp;
use conclave_proto::v1;
use conclave_proto::v1::document_change::Kind as Happened;
use conclave_proto::v1::event::Kind;
use conclave_room::{Change, ChangeKind};
use conclave_types::{DocumentPath, ParticipantName, Revision, RoomUid, Timestamp};

use crate::feed::Update;
use crate::hub::{About, Audience, Channel, Hub, Published};

/// What is to be published in each channel that is heard; none for one that is not.
type Grouped = HashMap<(RoomUid, Channel), Option<Vec<Arc<Published>>>>;

/// Publishes changes; those of one room are in order of revision.
pub fn publish(hub: &Hub, changes: Vec<Change>) {
    if changes.is_empty() || hub.is_silent() {
        return;
    }
    let mut grouped = Grouped::new();
    for change in &changes {
        let mut heard = [Channel::Room, own_channel(&change.kind)].map(|channel| {
            let key = (change.room, channel);
            let group = grouped.entry(key).or_insert_with(|| hub.is_heard(key.0, key.1).then(Vec::new));
            group.is_some().then_some(key)
        });
        // What has no channel of its own is in the room's only.
        if heard[0] == heard[1] {
            heard[1] = None;
        }
        if heard == [None, None] {
            continue;
        }
        for event in published(change) {
            for key in heard.into_iter().flatten() {
                if let Some(Some(group)) = grouped.get_mut(&key) {
                    group.push(event.clone());
                }
            }
        }
    }
    for ((room, channel), group) in grouped {
        if let Some(events) = group {
            hub.publish(room, channel, events);
        }
    }
}

fn own_channel(kind: &ChangeKind) -> Channel {
    match kind {
        ChangeKind::DocumentCreated { document, .. }
        | ChangeKind::DocumentUpdated { document, .. }
        | ChangeKind::DocumentRenamed { document, .. }
        | ChangeKind::DocumentDeleted { document, .. } => Channel::Document(*document),
        ChangeKind::MessagePosted { .. } => Channel::Messages,
        ChangeKind::QueueChanged { .. } => Channel::Room,
    }
}

/// One event, or one for each part of a large update.
fn published(change: &Change) -> impl Iterator<Item = Arc<Published>> {
    let about = about(&change.kind);
    encoded(change).into_iter().map(move |event| {
        Arc::new(Published {
            revision: change.revision,
            origin: change.session,
            audience: Audience::All,
            about: about.clone(),
            ends_channel: matches!(change.kind, ChangeKind::DocumentDeleted { .. }),
            event,
        })
    })
}

/// Whom it concerns.
pub fn about(kind: &ChangeKind) -> About {
    match kind {
        ChangeKind::DocumentCreated { path, .. }
        | ChangeKind::DocumentUpdated { path, .. }
        | ChangeKind::DocumentDeleted { path, .. } => About::Document(path.clone()),
        ChangeKind::DocumentRenamed { from, to, .. } => About::Renamed { from: from.clone(), to: to.clone() },
        ChangeKind::MessagePosted { .. } => About::Messages,
        ChangeKind::QueueChanged { .. } => About::Queues,
    }
}

/// The events of a change, as followers get them.
fn encoded(change: &Change) -> Vec<EncodedEvent> {
    let Change { revision, time, participant, kind, .. } = change;
    match kind {
        ChangeKind::MessagePosted { message } => {
            let participant = participant.as_ref().map_or("", |participant| participant.as_str());
            vec![EncodedEvent::message(revision.0, *time, participant, message, v1::Lane::Durable, &[])]
        }
        ChangeKind::DocumentUpdated { path, update, .. } => Update {
            revision: *revision,
            time: *time,
            participant: participant.clone(),
            path: path.clone(),
            bytes: update.clone(),
            state: false,
        }
        .events(),
        ChangeKind::DocumentCreated { .. }
        | ChangeKind::DocumentRenamed { .. }
        | ChangeKind::DocumentDeleted { .. }
        | ChangeKind::QueueChanged { .. } => {
            small(*revision, Some(*time), participant.as_ref(), kind).into_iter().collect()
        }
    }
}

/// The event of a change that has no payload; none for others.
pub fn small(
    revision: Revision,
    time: Option<Timestamp>,
    participant: Option<&ParticipantName>,
    kind: &ChangeKind,
) -> Option<EncodedEvent> {
    let kind = match kind {
        ChangeKind::DocumentCreated { path, .. } => document_change(Happened::Created, path, None),
        ChangeKind::DocumentRenamed { from, to, .. } => document_change(Happened::Renamed, from, Some(to)),
        ChangeKind::DocumentDeleted { path, .. } => document_change(Happened::Deleted, path, None),
        ChangeKind::QueueChanged { queue, ready, leased } => {
            Kind::QueueChange(v1::QueueChange { queue: queue.to_string(), ready_count: *ready, leased_count: *leased })
        }
        ChangeKind::MessagePosted { .. } | ChangeKind::DocumentUpdated { .. } => return None,
    };
    Some(EncodedEvent::of(&v1::Event {
        revision: revision.0,
        time: time.map(timestamp),
        participant: participant.map(ParticipantName::to_string).unwrap_or_default(),
        kind: Some(kind),
    }))
}

fn document_change(kind: Happened, path: &DocumentPath, new: Option<&DocumentPath>) -> Kind {
    Kind::DocumentChange(v1::DocumentChange {
        kind: kind.into(),
        document: path.to_string(),
        new_document: new.map(DocumentPath::to_string).unwrap_or_default(),
    })
}
