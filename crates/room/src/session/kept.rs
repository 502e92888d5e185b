//! Outcomes that are kept for repetition: how they are encoded and looked up.
//!
//! An encoded outcome is codes, ids and revisions, at most 64 bytes; never a body.

use bytes::Bytes;
use conclave_types::limits::MAX_BATCH_ITEMS;
use conclave_types::{Revision, RoomNumber, RoomUid, Sequence, SessionId, Slot};

use super::SessionRecord;
use crate::codec::{Reader, Record, Writer, damaged};
use crate::state::{State, load};
use crate::{CancelResult, DeliveryResult, Outcome, Refusal, TableError};

/// One key's kept outcomes: those of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptRange {
    pub first: Sequence,
    pub last: Sequence,
    pub count: u32,
}

/// The outcomes of one session in the entry that is being applied; becomes one key at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenOutcomes {
    outcomes: Vec<(Sequence, Bytes)>,
}

impl OpenOutcomes {
    /// Adds the outcome of a sequence above all before it.
    pub fn push(&mut self, sequence: Sequence, outcome: Bytes) {
        self.outcomes.push((sequence, outcome));
    }

    pub fn first(&self) -> Sequence {
        self.outcomes.first().map_or(Sequence(0), |(sequence, _)| *sequence)
    }

    pub fn last(&self) -> Sequence {
        self.outcomes.last().map_or(Sequence(0), |(sequence, _)| *sequence)
    }

    pub fn range(&self) -> KeptRange {
        KeptRange { first: self.first(), last: self.last(), count: self.outcomes.len() as u32 }
    }

    fn find(&self, sequence: Sequence) -> Option<Bytes> {
        let index = self.outcomes.binary_search_by_key(&sequence, |(sequence, _)| *sequence).ok()?;
        Some(self.outcomes[index].1.clone())
    }
}

impl Record for OpenOutcomes {
    const NAME: &'static str = "kept outcomes";

    fn write(&self, writer: &mut Writer) {
        let mut before = 0;
        for (sequence, outcome) in &self.outcomes {
            writer.varint(sequence.0 - before);
            writer.bytes(outcome);
            before = sequence.0;
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let (mut outcomes, mut before) = (Vec::new(), 0u64);
        while !reader.is_at_end() {
            let step = reader.varint()?;
            before = before.checked_add(step).ok_or_else(|| reader.damaged("sequence"))?;
            outcomes.push((Sequence(before), reader.bytes()?));
        }
        Ok(OpenOutcomes { outcomes })
    }
}

/// The outcome kept for a sequence, if there is one.
pub(crate) fn find(
    state: &mut State<'_>,
    room: RoomUid,
    session: SessionId,
    record: &SessionRecord,
    sequence: Sequence,
) -> Result<Option<Outcome>, TableError> {
    let mut kept = state.open_outcomes(room, session).find(sequence);
    let range = record.kept.iter().find(|range| (range.first..=range.last).contains(&sequence));
    if let (None, Some(range)) = (&kept, range) {
        let stored: Option<OpenOutcomes> =
            load(&state.overlay, &state.keys.kept_outcomes(room, session, range.first.0))?;
        kept = stored.ok_or_else(|| damaged(OpenOutcomes::NAME, "missing"))?.find(sequence);
    }
    kept.map(decode).transpose()
}

const ROOM_CREATED: u8 = 1;
const ROOM_UPDATED: u8 = 2;
const ROOM_DELETED: u8 = 3;
const SENT: u8 = 4;
const SETTLED: u8 = 5;
const REFUSED: u8 = 6;
const DOCUMENT_READY: u8 = 7;
const PUSHED: u8 = 8;
const DOCUMENT_RENAMED: u8 = 9;
const DOCUMENT_DELETED: u8 = 10;
const POSTED: u8 = 11;
const SENT_WITH_DUPLICATES: u8 = 12;
const QUEUE_CONFIGURED: u8 = 13;
const ITEMS_CANCELLED: u8 = 14;
const ITEMS_MOVED: u8 = 15;
const ITEMS_PURGED: u8 = 16;

/// Encodes an outcome that can be kept: any but those that are made anew each time (leases, attachments, timers).
pub(crate) fn encode(outcome: &Outcome) -> Result<Bytes, TableError> {
    let mut writer = Writer::default();
    match outcome {
        Outcome::RoomCreated { room, revision } => {
            writer.u8(ROOM_CREATED);
            writer.varint(room.slot.0.into());
            writer.varint(room.number.0);
            writer.revision(*revision);
        }
        Outcome::RoomUpdated { revision } => write_revision(&mut writer, ROOM_UPDATED, *revision),
        Outcome::RoomDeleted { revision } => write_revision(&mut writer, ROOM_DELETED, *revision),
        Outcome::Pushed { revision } => write_revision(&mut writer, PUSHED, *revision),
        Outcome::DocumentRenamed { revision } => write_revision(&mut writer, DOCUMENT_RENAMED, *revision),
        Outcome::DocumentDeleted { revision } => write_revision(&mut writer, DOCUMENT_DELETED, *revision),
        Outcome::Posted { revision } => write_revision(&mut writer, POSTED, *revision),
        Outcome::DocumentReady { document, created, revision } => {
            writer.u8(DOCUMENT_READY);
            writer.varint(document.0.into());
            writer.u8((*created).into());
            writer.revision(*revision);
        }
        Outcome::Sent { first_item, revision, duplicates } => {
            writer.u8(if duplicates.is_empty() { SENT } else { SENT_WITH_DUPLICATES });
            writer.varint(*first_item);
            writer.revision(*revision);
            if !duplicates.is_empty() {
                write_indices(&mut writer, duplicates);
            }
        }
        Outcome::Settled { results, revision } => {
            writer.u8(SETTLED);
            writer.revision(*revision);
            write_codes(&mut writer, results.iter().map(|result| delivery_code(*result)).collect());
        }
        Outcome::QueueConfigured { revision } => write_revision(&mut writer, QUEUE_CONFIGURED, *revision),
        Outcome::ItemsCancelled { results, revision } => {
            writer.u8(ITEMS_CANCELLED);
            writer.revision(*revision);
            write_codes(&mut writer, results.iter().map(|result| cancel_code(*result)).collect());
        }
        Outcome::ItemsMoved { moved: count, left, revision } => {
            write_revision(&mut writer, ITEMS_MOVED, *revision);
            writer.varint(*count);
            writer.varint(*left);
        }
        Outcome::ItemsPurged { purged: count, left, revision } => {
            write_revision(&mut writer, ITEMS_PURGED, *revision);
            writer.varint(*count);
            writer.varint(*left);
        }
        Outcome::Refused(refusal) => {
            writer.u8(REFUSED);
            write_refusal(*refusal, &mut writer);
        }
        Outcome::Attached { .. } | Outcome::SessionUnknown | Outcome::Leased { .. } | Outcome::Advanced { .. } => {
            return Err(TableError(format!("an outcome of this kind is never kept: {outcome:?}")));
        }
    }
    Ok(writer.finish())
}

fn write_revision(writer: &mut Writer, kind: u8, revision: Revision) {
    writer.u8(kind);
    writer.revision(revision);
}

pub(crate) fn decode(bytes: Bytes) -> Result<Outcome, TableError> {
    let mut reader = Reader::inner(bytes, "kept outcome");
    let outcome = match reader.u8()? {
        ROOM_CREATED => {
            let slot = u16::try_from(reader.varint()?).map_err(|_| reader.damaged("slot"))?;
            let room = RoomUid { slot: Slot(slot), number: RoomNumber(reader.varint()?) };
            Outcome::RoomCreated { room, revision: reader.revision()? }
        }
        ROOM_UPDATED => Outcome::RoomUpdated { revision: reader.revision()? },
        ROOM_DELETED => Outcome::RoomDeleted { revision: reader.revision()? },
        PUSHED => Outcome::Pushed { revision: reader.revision()? },
        DOCUMENT_RENAMED => Outcome::DocumentRenamed { revision: reader.revision()? },
        DOCUMENT_DELETED => Outcome::DocumentDeleted { revision: reader.revision()? },
        POSTED => Outcome::Posted { revision: reader.revision()? },
        DOCUMENT_READY => {
            let document = reader.document_number()?;
            let created = match reader.u8()? {
                0 => false,
                1 => true,
                _ => return Err(reader.damaged("unknown flag")),
            };
            Outcome::DocumentReady { document, created, revision: reader.revision()? }
        }
        kind @ (SENT | SENT_WITH_DUPLICATES) => {
            let (first_item, revision) = (reader.varint()?, reader.revision()?);
            let duplicates = if kind == SENT { Vec::new() } else { read_indices(&mut reader)? };
            Outcome::Sent { first_item, revision, duplicates }
        }
        SETTLED => {
            let revision = reader.revision()?;
            Outcome::Settled { results: read_codes(&mut reader, delivery_of)?, revision }
        }
        QUEUE_CONFIGURED => Outcome::QueueConfigured { revision: reader.revision()? },
        ITEMS_CANCELLED => {
            let revision = reader.revision()?;
            Outcome::ItemsCancelled { results: read_codes(&mut reader, cancel_of)?, revision }
        }
        ITEMS_MOVED => {
            let revision = reader.revision()?;
            Outcome::ItemsMoved { moved: reader.varint()?, left: reader.varint()?, revision }
        }
        ITEMS_PURGED => {
            let revision = reader.revision()?;
            Outcome::ItemsPurged { purged: reader.varint()?, left: reader.varint()?, revision }
        }
        REFUSED => Outcome::Refused(read_refusal(&mut reader)?),
        _ => return Err(reader.damaged("unknown kind")),
    };
    reader.end()?;
    Ok(outcome)
}

/// Ascending indices below 128 as bits, lowest first.
fn write_indices(writer: &mut Writer, indices: &[u32]) {
    let mut bits = [0u8; MAX_BATCH_ITEMS.div_ceil(8)];
    for index in indices {
        if let Some(byte) = bits.get_mut(*index as usize / 8) {
            *byte |= 1 << (index % 8);
        }
    }
    let used = bits.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    writer.bytes(&bits[..used]);
}

fn read_indices(reader: &mut Reader) -> Result<Vec<u32>, TableError> {
    let bits = reader.bytes()?;
    let is_set = |index: &u32| bits[*index as usize / 8] & 1 << (index % 8) != 0;
    Ok((0..bits.len() as u32 * 8).filter(is_set).collect())
}

/// How many, then four in a byte.
fn write_codes(writer: &mut Writer, codes: Vec<u8>) {
    writer.varint(codes.len() as u64);
    for four in codes.chunks(4) {
        writer.u8(four.iter().rev().fold(0, |byte, code| byte << 2 | code));
    }
}

fn read_codes<T>(reader: &mut Reader, of: impl Fn(u8) -> Option<T>) -> Result<Vec<T>, TableError> {
    let count = reader.varint()?;
    let (mut results, mut byte) = (Vec::new(), 0);
    for index in 0..count {
        byte = if index % 4 == 0 { reader.u8()? } else { byte >> 2 };
        results.push(of(byte & 3).ok_or_else(|| reader.damaged("unknown result"))?);
    }
    Ok(results)
}

fn delivery_code(result: DeliveryResult) -> u8 {
    match result {
        DeliveryResult::Done => 1,
        DeliveryResult::AlreadyDone => 2,
        DeliveryResult::Stale => 3,
    }
}

fn delivery_of(code: u8) -> Option<DeliveryResult> {
    [DeliveryResult::Done, DeliveryResult::AlreadyDone, DeliveryResult::Stale]
        .into_iter()
        .find(|result| delivery_code(*result) == code)
}

fn cancel_code(result: CancelResult) -> u8 {
    match result {
        CancelResult::Cancelled => 1,
        CancelResult::Gone => 2,
        CancelResult::InFlight => 3,
    }
}

fn cancel_of(code: u8) -> Option<CancelResult> {
    [CancelResult::Cancelled, CancelResult::Gone, CancelResult::InFlight]
        .into_iter()
        .find(|result| cancel_code(*result) == code)
}

const DELIVERY_UNKNOWN: u8 = 6;

fn write_refusal(refusal: Refusal, writer: &mut Writer) {
    writer.u8(match refusal {
        Refusal::RoomNotFound => 1,
        Refusal::RoomExists => 2,
        Refusal::EtagMismatch => 3,
        Refusal::QueueNotFound => 4,
        Refusal::QueueLimit => 5,
        Refusal::DeliveryUnknown { .. } => DELIVERY_UNKNOWN,
        Refusal::Superseded => 7,
        Refusal::SessionExpired => 8,
        Refusal::SessionForeign => 9,
        Refusal::NotApplied => 10,
        Refusal::RequestIdReused => 11,
        Refusal::DocumentNotFound => 12,
        Refusal::DocumentExists => 13,
        Refusal::DocumentLimit => 14,
        Refusal::NeedSync => 15,
        Refusal::QueueExists => 16,
        Refusal::QueueClosed => 17,
        Refusal::QueueFull => 18,
        Refusal::SameQueue => 19,
    });
    if let Refusal::DeliveryUnknown { index } = refusal {
        writer.varint(index.into());
    }
}

fn read_refusal(reader: &mut Reader) -> Result<Refusal, TableError> {
    Ok(match reader.u8()? {
        1 => Refusal::RoomNotFound,
        2 => Refusal::RoomExists,
        3 => Refusal::EtagMismatch,
        4 => Refusal::QueueNotFound,
        5 => Refusal::QueueLimit,
        DELIVERY_UNKNOWN => Refusal::DeliveryUnknown { index: reader.u32()? },
        7 => Refusal::Superseded,
        8 => Refusal::SessionExpired,
        9 => Refusal::SessionForeign,
        10 => Refusal::NotApplied,
        11 => Refusal::RequestIdReused,
        12 => Refusal::DocumentNotFound,
        13 => Refusal::DocumentExists,
        14 => Refusal::DocumentLimit,
        15 => Refusal::NeedSync,
        16 => Refusal::QueueExists,
        17 => Refusal::QueueClosed,
        18 => Refusal::QueueFull,
        19 => Refusal::SameQueue,
        _ => return Err(reader.damaged("unknown refusal")),
    })
}

#[cfg(test)]
mod tests {
    use conclave_types::DocumentNumber;
    use proptest::prelude::*;

    use super::*;

    /// Design 5: an outcome that is kept is at most this long.
    const MAX_KEPT_BYTES: usize = 64;

    fn outcome() -> impl Strategy<Value = Outcome> {
        let revision = || any::<u64>().prop_map(Revision);
        let result =
            prop_oneof![Just(DeliveryResult::Done), Just(DeliveryResult::AlreadyDone), Just(DeliveryResult::Stale)];
        let cancelled =
            prop_oneof![Just(CancelResult::Cancelled), Just(CancelResult::Gone), Just(CancelResult::InFlight)];
        let indices = prop::collection::btree_set(0..MAX_BATCH_ITEMS as u32, 0..MAX_BATCH_ITEMS);
        let three = || (any::<u64>(), any::<u64>(), any::<u64>().prop_map(Revision));
        prop_oneof![
            (any::<u16>(), any::<u64>(), revision()).prop_map(|(slot, number, revision)| Outcome::RoomCreated {
                room: RoomUid { slot: Slot(slot), number: RoomNumber(number) },
                revision
            }),
            revision().prop_map(|revision| Outcome::RoomUpdated { revision }),
            revision().prop_map(|revision| Outcome::RoomDeleted { revision }),
            (any::<u64>(), revision(), indices).prop_map(|(first_item, revision, indices)| Outcome::Sent {
                first_item,
                revision,
                duplicates: indices.into_iter().collect()
            }),
            (prop::collection::vec(result, 0..=MAX_BATCH_ITEMS), revision())
                .prop_map(|(results, revision)| Outcome::Settled { results, revision }),
            (prop::collection::vec(cancelled, 0..=MAX_BATCH_ITEMS), revision())
                .prop_map(|(results, revision)| Outcome::ItemsCancelled { results, revision }),
            revision().prop_map(|revision| Outcome::QueueConfigured { revision }),
            three().prop_map(|(moved, left, revision)| Outcome::ItemsMoved { moved, left, revision }),
            three().prop_map(|(purged, left, revision)| Outcome::ItemsPurged { purged, left, revision }),
            revision().prop_map(|revision| Outcome::Pushed { revision }),
            revision().prop_map(|revision| Outcome::DocumentRenamed { revision }),
            revision().prop_map(|revision| Outcome::DocumentDeleted { revision }),
            revision().prop_map(|revision| Outcome::Posted { revision }),
            (any::<u32>(), any::<bool>(), revision()).prop_map(|(number, created, revision)| {
                Outcome::DocumentReady { document: DocumentNumber(number), created, revision }
            }),
            refusal().prop_map(Outcome::Refused),
        ]
    }

    fn refusal() -> impl Strategy<Value = Refusal> {
        prop_oneof![
            any::<u32>().prop_map(|index| Refusal::DeliveryUnknown { index }),
            prop::sample::select(vec![
                Refusal::RoomNotFound,
                Refusal::RoomExists,
                Refusal::EtagMismatch,
                Refusal::QueueNotFound,
                Refusal::QueueLimit,
                Refusal::Superseded,
                Refusal::SessionExpired,
                Refusal::SessionForeign,
                Refusal::NotApplied,
                Refusal::RequestIdReused,
                Refusal::DocumentNotFound,
                Refusal::DocumentExists,
                Refusal::DocumentLimit,
                Refusal::NeedSync,
                Refusal::QueueExists,
                Refusal::QueueClosed,
                Refusal::QueueFull,
                Refusal::SameQueue,
            ]),
        ]
    }

    proptest! {
        #[test]
        fn kept_outcomes_survive_and_are_short(outcome in outcome()) {
            let bytes = encode(&outcome).unwrap();
            prop_assert!(bytes.len() <= MAX_KEPT_BYTES, "{} bytes", bytes.len());
            prop_assert_eq!(decode(bytes).unwrap(), outcome);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = (decode(bytes.clone().into()), OpenOutcomes::decode(bytes.into()));
        }
    }

    #[test]
    fn the_longest_outcome_fits() {
        let acked =
            Outcome::Settled { results: vec![DeliveryResult::Stale; MAX_BATCH_ITEMS], revision: Revision(u64::MAX) };
        assert_eq!(encode(&acked).unwrap().len(), 45);
    }

    #[test]
    fn outcome_bytes_are_as_they_were_first_stored() {
        let acked = Outcome::Settled {
            results: [1, 2, 3, 1, 2].into_iter().filter_map(delivery_of).collect(),
            revision: Revision(9),
        };
        assert_eq!(&encode(&acked).unwrap()[..], [5, 9, 5, 0b01_11_10_01, 2]);
        let sent = Outcome::Sent { first_item: 3, revision: Revision(9), duplicates: vec![1, 9] };
        assert_eq!(&encode(&sent).unwrap()[..], [12, 3, 9, 2, 0b10, 0b10]);
        let cancelled = Outcome::ItemsCancelled {
            results: [1, 2, 3].into_iter().filter_map(cancel_of).collect(),
            revision: Revision(9),
        };
        assert_eq!(&encode(&cancelled).unwrap()[..], [14, 9, 3, 0b11_10_01]);
        let moved = Outcome::ItemsMoved { moved: 1, left: 2, revision: Revision(9) };
        assert_eq!(&encode(&moved).unwrap()[..], [15, 9, 1, 2]);
        let purged = Outcome::ItemsPurged { purged: 1, left: 2, revision: Revision(9) };
        assert_eq!(&encode(&purged).unwrap()[..], [16, 9, 1, 2]);
        let unknown = Outcome::Refused(Refusal::DeliveryUnknown { index: 4 });
        assert_eq!(&encode(&unknown).unwrap()[..], [6, 6, 4]);

        let (document, revision) = (DocumentNumber(2), Revision(9));
        let ready = Outcome::DocumentReady { document, created: true, revision };
        assert_eq!(&encode(&ready).unwrap()[..], [7, 2, 1, 9]);
        for (outcome, kind) in [
            (Outcome::Pushed { revision }, 8),
            (Outcome::DocumentRenamed { revision }, 9),
            (Outcome::DocumentDeleted { revision }, 10),
            (Outcome::Posted { revision }, 11),
            (Outcome::QueueConfigured { revision }, 13),
        ] {
            assert_eq!(&encode(&outcome).unwrap()[..], [kind, 9]);
        }
        assert_eq!(&encode(&Outcome::Refused(Refusal::NeedSync)).unwrap()[..], [6, 15]);

        let mut open = OpenOutcomes::default();
        open.push(
            Sequence(7),
            encode(&Outcome::Sent { first_item: 3, revision: Revision(8), duplicates: vec![] }).unwrap(),
        );
        open.push(Sequence(9), encode(&unknown).unwrap());
        assert_eq!(&open.encode()[..], [1, 7, 3, 4, 3, 8, 2, 3, 6, 6, 4]);
        assert_eq!(OpenOutcomes::decode(open.encode()), Ok(open));
    }

    #[test]
    fn an_outcome_with_bodies_is_never_kept() {
        assert!(encode(&Outcome::Leased { deliveries: Vec::new(), revision: Revision(1) }).is_err());
    }
}
