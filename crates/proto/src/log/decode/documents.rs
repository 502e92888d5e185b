//! Operations on documents and on the room's log.

use bytes::Bytes;
use conclave_room::Operation;
use conclave_types::{AddedClocks, RequiredClock, UpdateClocks, YjsClient};

use super::{Decoded, Decoder, RoomFields, unknown};
use crate::wire::{Fields, Malformed, Value};

impl Decoder<'_> {
    pub(super) fn create_document(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut path) = (RoomFields::default(), "");
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => path = value.text()?,
                (number, _) => return Err(unknown("CreateDocumentOperation", number)),
            }
        }
        Ok(Operation::CreateDocument { room: room.uid()?, path: self.document(path)? })
    }

    pub(super) fn push_update(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut path, mut create, mut author) = (RoomFields::default(), "", false, "");
        let (mut clocks, mut update) = (UpdateClocks::default(), Bytes::new());
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => path = value.text()?,
                (4, value) => create = value.flag()?,
                (5, value) => author = value.text()?,
                (6, value) => clocks.added = added_clocks(value)?,
                (7, value) => clocks.required = required_clocks(value)?,
                (8, value) => clocks.deletes = value.flag()?,
                (9, value) => update = self.shared(value)?,
                (number, _) => return Err(unknown("PushUpdateOperation", number)),
            }
        }
        Ok(Operation::PushUpdate {
            room: room.uid()?,
            path: self.document(path)?,
            create,
            author: self.participant(author)?,
            clocks,
            update,
        })
    }

    pub(super) fn rename_document(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut from, mut to) = (RoomFields::default(), "", "");
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => from = value.text()?,
                (4, value) => to = value.text()?,
                (number, _) => return Err(unknown("RenameDocumentOperation", number)),
            }
        }
        Ok(Operation::RenameDocument { room: room.uid()?, from: self.document(from)?, to: self.document(to)? })
    }

    pub(super) fn delete_document(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut path) = (RoomFields::default(), "");
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => path = value.text()?,
                (number, _) => return Err(unknown("DeleteDocumentOperation", number)),
            }
        }
        Ok(Operation::DeleteDocument { room: room.uid()?, path: self.document(path)? })
    }

    pub(super) fn post_message(&mut self, body: &[u8]) -> Decoded<Operation> {
        let (mut room, mut sender, mut message) = (RoomFields::default(), "", Bytes::new());
        for field in Fields::of(body) {
            match field? {
                (1, value) => room.slot = value.uint()?,
                (2, value) => room.number = value.uint()?,
                (3, value) => sender = value.text()?,
                (4, value) => message = self.shared(value)?,
                (number, _) => return Err(unknown("PostMessageOperation", number)),
            }
        }
        Ok(Operation::PostMessage { room: room.uid()?, sender: self.participant(sender)?, message })
    }
}

fn added_clocks(value: Value<'_>) -> Decoded<Vec<AddedClocks>> {
    let mut numbers = value.packed()?;
    let mut all = Vec::with_capacity(numbers.count_hint() / 3);
    while let Some(client) = numbers.next() {
        let (Some(from), Some(count)) = (numbers.next(), numbers.next()) else {
            return Err(Malformed("added clocks are not whole").into());
        };
        let from = from?;
        let to = from.checked_add(count?).ok_or(Malformed("a clock is over 64 bits"))?;
        all.push(AddedClocks { client: YjsClient(client?), from, to });
    }
    Ok(all)
}

fn required_clocks(value: Value<'_>) -> Decoded<Vec<RequiredClock>> {
    let mut numbers = value.packed()?;
    let mut all = Vec::with_capacity(numbers.count_hint() / 2);
    while let Some(client) = numbers.next() {
        let clock = numbers.next().ok_or(Malformed("required clocks are not whole"))?;
        all.push(RequiredClock { client: YjsClient(client?), clock: clock? });
    }
    Ok(all)
}
