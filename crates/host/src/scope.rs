//! What claims allow. Each check names the scope that is missing.

use conclave_auth::Claims;
use conclave_room::Operation;
use conclave_types::{DocumentPath, QueueName, RoomName};

use crate::faults::Fault;

pub fn in_room(claims: &Claims, room: &RoomName) -> Result<(), Fault> {
    need(claims.open_room(room), "a grant for this room")
}

pub fn rooms_read(claims: &Claims) -> Result<(), Fault> {
    need(claims.may_read_rooms(), "rooms.read")
}

pub fn rooms_write(claims: &Claims) -> Result<(), Fault> {
    need(claims.may_write_rooms(), "rooms.write")
}

pub fn rooms_list(claims: &Claims) -> Result<(), Fault> {
    need(claims.may_list_rooms(), "rooms.list")
}

pub fn queue_send(claims: &Claims, queue: &QueueName) -> Result<(), Fault> {
    need(claims.may_send(queue), "queues.send")
}

/// Who says where dead letters go sends to there.
pub fn queue_configure(claims: &Claims, operation: &Operation) -> Result<(), Fault> {
    match operation {
        Operation::ConfigureQueue { settings, .. } => {
            settings.dead_letter_queue.iter().flatten().try_for_each(|queue| queue_send(claims, queue))
        }
        _ => Ok(()),
    }
}

pub fn queue_receive(claims: &Claims, queue: &QueueName) -> Result<(), Fault> {
    need(claims.may_receive(queue), "queues.receive")
}

pub fn queue_list(claims: &Claims) -> Result<(), Fault> {
    need(claims.may_list_queues(), "queues.list")
}

pub fn messaging_broadcast(claims: &Claims) -> Result<(), Fault> {
    need(claims.may_broadcast(), "messaging.broadcast")
}

pub fn messaging_send(claims: &Claims) -> Result<(), Fault> {
    need(claims.may_send_messages(), "messaging.send")
}

pub fn messaging_read(claims: &Claims) -> Result<(), Fault> {
    need(claims.may_read_messages(), "messaging.read")
}

pub fn participants_list(claims: &Claims) -> Result<(), Fault> {
    need(claims.may_list_participants(), "messaging.list")
}

pub fn documents(claims: &Claims) -> Result<(), Fault> {
    need(claims.may_open_some(), "sync")
}

pub fn document_open(claims: &Claims, path: &DocumentPath) -> Result<(), Fault> {
    need(claims.may_open(path), "sync")
}

pub fn document_edit(claims: &Claims, path: &DocumentPath) -> Result<(), Fault> {
    need(claims.may_edit(path), "sync, not read-only")
}

fn need(allowed: bool, scope: &str) -> Result<(), Fault> {
    if allowed { Ok(()) } else { Err(Fault::scope_missing(scope)) }
}
