//! Decodes a batch without copying payloads: items, updates, messages and request ids stay slices of the entry.
//!
//! Stricter than protobuf: an unknown field is an error, because skipping what another version wrote would make replicas
//! diverge.

mod documents;
mod queues;

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::Bytes;
use conclave_room::{Advance, Command, MessageRetention, Operation, Origin, Receiver, SessionFrame};
use conclave_types::limits::SLOTS;
use conclave_types::{
    AttachmentNumber, DeliveryId, DocumentPath, NameError, ParticipantName, ProjectId, QueueName, RoomNumber, RoomUid,
    Sequence, SessionId, Slot, Timestamp,
};

use super::{DecodeBatchError, OLDEST_SCHEMA, SCHEMA, SCHEMA_OF_DOCUMENTS, SCHEMA_OF_QUEUES};
use crate::wire::{Fields, Malformed, Value};

type Decoded<T> = Result<T, DecodeBatchError>;

pub(super) fn batch(entry: &Bytes) -> Decoded<(Timestamp, Vec<Command>)> {
    let mut decoder = Decoder { entry, schema: 0, participant: None, project: None, queue: None, document: None };
    let mut time = Timestamp(0);
    let mut commands = Vec::new();
    for field in Fields::of(entry) {
        match field? {
            (1, value) => decoder.schema = u32_of(value)?,
            (2, value) => time = Timestamp(value.uint()?),
            // The schema comes first, so that nothing of an unknown one is interpreted.
            (3, value) if decoder.knows_schema() => commands.push(decoder.command(value.bytes()?)?),
            (3, _) => break,
            (number, _) => return Err(unknown("Batch", number)),
        }
    }
    if !decoder.knows_schema() {
        return Err(DecodeBatchError::UnknownSchema { found: decoder.schema, known: SCHEMA });
    }
    Ok((time, commands))
}

/// Commands of a batch mostly repeat a few names: the last of each kind is shared instead of parsed again.
struct Decoder<'a> {
    entry: &'a Bytes,
    schema: u32,
    participant: Option<ParticipantName>,
    project: Option<ProjectId>,
    queue: Option<QueueName>,
    document: Option<DocumentPath>,
}

impl Decoder<'_> {
    fn knows_schema(&self) -> bool {
        (OLDEST_SCHEMA..=SCHEMA).contains(&self.schema)
    }

    fn last_operation(&self) -> u32 {
        match self.schema {
            SCHEMA_OF_QUEUES.. => 28,
            SCHEMA_OF_DOCUMENTS => 22,
            _ => 17,
        }
    }

    fn command(&mut self, message: &[u8]) -> Decoded<Command> {
        let (mut origin, mut operation) = (None, None);
        let operations = 10..=self.last_operation();
        for field in Fields::of(message) {
            let (number, value) = field?;
            let body = value.bytes()?;
            match number {
                1..=4 if origin.is_some() => return Err(Malformed("two origins").into()),
                1..=4 => origin = Some(self.origin(number, body)?),
                _ if operations.contains(&number) && operation.is_some() => {
                    return Err(Malformed("two operations").into());
                }
                _ if operations.contains(&number) => operation = Some(self.operation(number, body)?),
                _ => return Err(unknown("Command", number)),
            }
        }
        let origin = origin.ok_or(DecodeBatchError::Missing { message: "Command", field: "origin" })?;
        let operation = operation.ok_or(DecodeBatchError::Missing { message: "Command", field: "operation" })?;
        Ok(Command { origin, operation })
    }

    fn origin(&mut self, kind: u32, body: &[u8]) -> Decoded<Origin> {
        match kind {
            1 => match Fields::of(body).next() {
                None => Ok(Origin::Host),
                Some(field) => Err(unknown("HostOrigin", field?.0)),
            },
            2 => self.call(body),
            3 => self.request(body),
            4 => self.session_frame(body),
            _ => Err(unknown("Command", kind)),
        }
    }

    fn call(&mut self, body: &[u8]) -> Decoded<Origin> {
        let mut participant = "";
        for field in Fields::of(body) {
            match field? {
                (1, value) => participant = value.text()?,
                (number, _) => return Err(unknown("CallOrigin", number)),
            }
        }
        Ok(Origin::Call { participant: self.participant(participant)? })
    }

    fn request(&mut self, body: &[u8]) -> Decoded<Origin> {
        let (mut project, mut participant, mut request_id) = ("", "", Bytes::new());
        for field in Fields::of(body) {
            match field? {
                (1, value) => project = value.text()?,
                (2, value) => participant = value.text()?,
                (3, value) => request_id = self.shared(value)?,
                (number, _) => return Err(unknown("RequestOrigin", number)),
            }
        }
        Ok(Origin::Request { project: self.project(project)?, participant: self.participant(participant)?, request_id })
    }

    fn session_frame(&mut self, body: &[u8]) -> Decoded<Origin> {
        let (mut room, mut session, mut owner) = (RoomFields::default(), None, "");
        let (mut attachment, mut sequence, mut acknowledged) = (0, 0, 0);
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => session = Some(session_id(value)?),
                (4, value) => attachment = value.uint()?,
                (5, value) => owner = value.text()?,
                (6, value) => sequence = value.uint()?,
                (7, value) => acknowledged = value.uint()?,
                (number, _) => return Err(unknown("SessionOrigin", number)),
            }
        }
        Ok(Origin::Session(SessionFrame {
            room: room.uid()?,
            session: session.ok_or(DecodeBatchError::Missing { message: "SessionOrigin", field: "session" })?,
            attachment: AttachmentNumber(attachment),
            owner: self.participant(owner)?,
            sequence: Sequence(sequence),
            acknowledged: Sequence(acknowledged),
        }))
    }

    fn operation(&mut self, kind: u32, body: &[u8]) -> Decoded<Operation> {
        match kind {
            10 => self.create_room(body),
            11 => self.update_room(body),
            12 => delete_room(body),
            13 => self.attach_session(body),
            14 => self.send_items(body),
            15 => self.lease_items(body),
            16 => self.ack_deliveries(body),
            17 => advance(body),
            18 => self.create_document(body),
            19 => self.push_update(body),
            20 => self.rename_document(body),
            21 => self.delete_document(body),
            22 => self.post_message(body),
            23 => self.nack_deliveries(body),
            24 => self.extend_leases(body),
            25 => self.configure_queue(body),
            26 => self.cancel_items(body),
            27 => self.move_items(body),
            28 => self.purge_items(body),
            _ => Err(unknown("Command", kind)),
        }
    }

    fn create_room(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut slot_number, mut project, mut room) = (0, "", "");
        let (mut metadata, mut annotations) = (BTreeMap::new(), BTreeMap::new());
        for field in Fields::of(body) {
            match field? {
                (1, value) => slot_number = value.uint()?,
                (2, value) => project = value.text()?,
                (3, value) => room = value.text()?,
                (4, value) => metadata = labels(value)?,
                (5, value) => annotations = labels(value)?,
                (number, _) => return Err(unknown("CreateRoomOperation", number)),
            }
        }
        Ok(Operation::CreateRoom {
            slot: slot(slot_number)?,
            project: self.project(project)?,
            room: room.parse()?,
            metadata,
            annotations,
        })
    }

    fn update_room(&self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut expected_etag) = (RoomFields::default(), None);
        let (mut metadata, mut annotations, mut retention) = (None, None, None);
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => metadata = Some(labels(value)?),
                (4, value) => annotations = Some(labels(value)?),
                (5, value) => expected_etag = Some(value.uint()?),
                (6, value) if self.schema >= SCHEMA_OF_DOCUMENTS => {
                    retention = Some(message_retention(value.bytes()?)?);
                }
                (number, _) => return Err(unknown("UpdateRoomOperation", number)),
            }
        }
        Ok(Operation::UpdateRoom { room: room.uid()?, metadata, annotations, retention, expected_etag })
    }

    fn attach_session(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut session, mut owner) = (RoomFields::default(), None, "");
        let (mut presented, mut issued, mut unacknowledged) = (0, 0, false);
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => session = Some(session_id(value)?),
                (4, value) => owner = value.text()?,
                (5, value) => presented = value.uint()?,
                (6, value) => issued = value.uint()?,
                (7, value) => unacknowledged = value.flag()?,
                (number, _) => return Err(unknown("AttachSessionOperation", number)),
            }
        }
        Ok(Operation::AttachSession {
            room: room.uid()?,
            session: session
                .ok_or(DecodeBatchError::Missing { message: "AttachSessionOperation", field: "session" })?,
            owner: self.participant(owner)?,
            presented: AttachmentNumber(presented),
            issued: Timestamp(issued),
            unacknowledged,
        })
    }

    fn send_items(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut queue, mut create, mut sender) = (RoomFields::default(), "", false, "");
        let (mut items, mut options) = (Vec::with_capacity(1), Vec::new());
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => queue = value.text()?,
                (4, value) => create = value.flag()?,
                (5, value) => sender = value.text()?,
                (6, value) => items.push(self.shared(value)?),
                (7, value) if self.schema >= SCHEMA_OF_QUEUES => options.push(self.item_options(value.bytes()?)?),
                (number, _) => return Err(unknown("SendItemsOperation", number)),
            }
        }
        Ok(Operation::SendItems {
            room: room.uid()?,
            queue: self.queue(queue)?,
            create,
            sender: self.participant(sender)?,
            items,
            options,
        })
    }

    fn lease_items(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut queue, mut create, mut again) = (RoomFields::default(), "", false, false);
        let (mut max_items, mut lease_ms, mut consumer) = (0, 0, "");
        let (mut receiver, mut take, mut window) = (Receiver::Unnamed, false, 0);
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => queue = value.text()?,
                (4, value) => create = value.flag()?,
                (5, value) => max_items = u32_of(value)?,
                (6, value) => lease_ms = value.uint()?,
                (7, value) => consumer = value.text()?,
                (8, value) => receiver = session_receiver(value.bytes()?)?,
                (9, value) => receiver = self.request_receiver(value.bytes()?)?,
                (10, value) => again = value.flag()?,
                (11, value) if self.schema >= SCHEMA_OF_QUEUES => take = value.flag()?,
                (12, value) if self.schema >= SCHEMA_OF_QUEUES => window = u32_of(value)?,
                (13, value) if self.schema >= SCHEMA_OF_QUEUES => receiver = self.consumer_receiver(value.bytes()?)?,
                (number, _) => return Err(unknown("LeaseItemsOperation", number)),
            }
        }
        Ok(Operation::LeaseItems {
            room: room.uid()?,
            queue: self.queue(queue)?,
            create,
            max_items,
            lease_ms,
            consumer: consumer.to_owned(),
            receiver,
            again,
            take,
            window,
        })
    }

    fn request_receiver(&mut self, body: &[u8]) -> Decoded<Receiver> {
        let (mut participant, mut request_id) = ("", Bytes::new());
        for field in Fields::of(body) {
            match field? {
                (1, value) => participant = value.text()?,
                (2, value) => request_id = self.shared(value)?,
                (number, _) => return Err(unknown("RequestReceiver", number)),
            }
        }
        Ok(Receiver::Request { participant: self.participant(participant)?, request_id })
    }

    fn ack_deliveries(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut queue) = (RoomFields::default(), "");
        let mut deliveries = Vec::with_capacity(1);
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => queue = value.text()?,
                (4, value) => deliveries.push(acked(value.bytes()?)?),
                (number, _) => return Err(unknown("AckDeliveriesOperation", number)),
            }
        }
        Ok(Operation::AckDeliveries { room: room.uid()?, queue: self.queue(queue)?, deliveries })
    }

    /// A slice of the entry, not a copy.
    fn shared(&self, value: Value<'_>) -> Decoded<Bytes> {
        Ok(self.entry.slice_ref(value.bytes()?))
    }

    fn participant(&mut self, text: &str) -> Decoded<ParticipantName> {
        remembered(&mut self.participant, text, ParticipantName::as_str)
    }

    fn project(&mut self, text: &str) -> Decoded<ProjectId> {
        remembered(&mut self.project, text, ProjectId::as_str)
    }

    fn queue(&mut self, text: &str) -> Decoded<QueueName> {
        remembered(&mut self.queue, text, QueueName::as_str)
    }

    fn document(&mut self, text: &str) -> Decoded<DocumentPath> {
        remembered(&mut self.document, text, DocumentPath::as_str)
    }
}

fn remembered<N>(last: &mut Option<N>, text: &str, as_str: impl Fn(&N) -> &str) -> Decoded<N>
where
    N: Clone + FromStr<Err = NameError>,
{
    match last {
        Some(name) if as_str(name) == text => Ok(name.clone()),
        _ => Ok(last.insert(text.parse()?).clone()),
    }
}

fn message_retention(body: &[u8]) -> Decoded<MessageRetention> {
    let mut retention = MessageRetention { max_messages: 0, max_bytes: 0, max_age_ms: None };
    for field in Fields::of(body) {
        match field? {
            (1, value) => retention.max_messages = value.uint()?,
            (2, value) => retention.max_bytes = value.uint()?,
            (3, value) => retention.max_age_ms = Some(value.uint()?),
            (number, _) => return Err(unknown("LogRetention", number)),
        }
    }
    Ok(retention)
}

fn delete_room(body: &[u8]) -> Decoded<Operation> {
    let (mut room, mut expected_etag) = (RoomFields::default(), None);
    for field in Fields::of(body) {
        match field? {
            (1, value) => room.slot = value.uint()?,
            (2, value) => room.number = value.uint()?,
            (3, value) => expected_etag = Some(value.uint()?),
            (number, _) => return Err(unknown("DeleteRoomOperation", number)),
        }
    }
    Ok(Operation::DeleteRoom { room: room.uid()?, expected_etag })
}

fn session_receiver(body: &[u8]) -> Decoded<Receiver> {
    let (mut session, mut sequence) = (None, 0);
    for field in Fields::of(body) {
        match field? {
            (1, value) => session = Some(session_id(value)?),
            (2, value) => sequence = value.uint()?,
            (number, _) => return Err(unknown("SessionReceiver", number)),
        }
    }
    let session = session.ok_or(DecodeBatchError::Missing { message: "SessionReceiver", field: "session" })?;
    Ok(Receiver::Session { session, sequence: Sequence(sequence) })
}

fn acked(body: &[u8]) -> Decoded<DeliveryId> {
    let mut delivery = DeliveryId { item: 0, attempt: 0 };
    for field in Fields::of(body) {
        match field? {
            (1, value) => delivery.item = value.uint()?,
            (2, value) => delivery.attempt = u32_of(value)?,
            (number, _) => return Err(unknown("AckedDelivery", number)),
        }
    }
    Ok(delivery)
}

fn advance(body: &[u8]) -> Decoded<Operation> {
    let mut limit = 0;
    for field in Fields::of(body) {
        match field? {
            (1, value) => limit = u32_of(value)?,
            (number, _) => return Err(unknown("AdvanceOperation", number)),
        }
    }
    Ok(Operation::Advance(Advance { limit }))
}

fn labels(value: Value<'_>) -> Decoded<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    for field in Fields::of(value.bytes()?) {
        let (key, value) = match field? {
            (1, entry) => label(entry.bytes()?)?,
            (number, _) => return Err(unknown("Labels", number)),
        };
        entries.insert(key, value);
    }
    Ok(entries)
}

fn label(entry: &[u8]) -> Decoded<(String, String)> {
    let (mut key, mut text) = ("", "");
    for field in Fields::of(entry) {
        match field? {
            (1, value) => key = value.text()?,
            (2, value) => text = value.text()?,
            (number, _) => return Err(unknown("Labels.entries", number)),
        }
    }
    Ok((key.to_owned(), text.to_owned()))
}

#[derive(Default)]
struct RoomFields {
    slot: u64,
    number: u64,
}

impl RoomFields {
    fn uid(self) -> Decoded<RoomUid> {
        Ok(RoomUid { slot: slot(self.slot)?, number: RoomNumber(self.number) })
    }
}

fn slot(number: u64) -> Decoded<Slot> {
    match u16::try_from(number) {
        Ok(number) if number < SLOTS => Ok(Slot(number)),
        _ => Err(Malformed("a slot is out of range").into()),
    }
}

fn session_id(value: Value<'_>) -> Decoded<SessionId> {
    let bytes = value.bytes()?.try_into().map_err(|_| Malformed("a session id has not 16 bytes"))?;
    Ok(SessionId(bytes))
}

fn u32_of(value: Value<'_>) -> Decoded<u32> {
    Ok(u32::try_from(value.uint()?).map_err(|_| Malformed("a number is over 32 bits"))?)
}

fn unknown(message: &'static str, field: u32) -> DecodeBatchError {
    DecodeBatchError::UnknownField { message, field }
}
