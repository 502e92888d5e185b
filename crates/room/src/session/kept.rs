//! Outcomes that are kept for repetition: how they are encoded and looked up.
//!
//! An encoded outcome is codes, ids and revisions, at most 64 bytes; never a body.

use bytes::Bytes;
use conclave_types::{Revision, RoomNumber, RoomUid, Sequence, SessionId, Slot};

use super::SessionRecord;
use crate::codec::{Reader, Record, Writer, damaged};
use crate::state::{State, load};
use crate::{DeliveryResult, Outcome, Refusal, TableError};

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
const ACKED: u8 = 5;
const REFUSED: u8 = 6;
const DOCUMENT_READY: u8 = 7;
const PUSHED: u8 = 8;
const DOCUMENT_RENAMED: u8 = 9;
const DOCUMENT_DELETED: u8 = 10;
const POSTED: u8 = 11;

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
        Outcome::Sent { first_item, revision } => {
            writer.u8(SENT);
            writer.varint(*first_item);
            writer.revision(*revision);
        }
        Outcome::Acked { results, revision } => {
            writer.u8(ACKED);
            writer.revision(*revision);
            writer.varint(results.len() as u64);
            for four in results.chunks(4) {
                writer.u8(four.iter().rev().fold(0, |byte, result| byte << 2 | result_code(*result)));
            }
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
        SENT => Outcome::Sent { first_item: reader.varint()?, revision: reader.revision()? },
        ACKED => {
            let revision: Revision = reader.revision()?;
            let count = reader.varint()?;
            let (mut results, mut byte) = (Vec::new(), 0);
            for index in 0..count {
                byte = if index % 4 == 0 { reader.u8()? } else { byte >> 2 };
                results.push(result_of(byte & 3).ok_or_else(|| reader.damaged("unknown delivery result"))?);
            }
            Outcome::Acked { results, revision }
        }
        REFUSED => Outcome::Refused(read_refusal(&mut reader)?),
        _ => return Err(reader.damaged("unknown kind")),
    };
    reader.end()?;
    Ok(outcome)
}

fn result_code(result: DeliveryResult) -> u8 {
    match result {
        DeliveryResult::Acked => 1,
        DeliveryResult::AlreadyAcked => 2,
        DeliveryResult::Stale => 3,
    }
}

fn result_of(code: u8) -> Option<DeliveryResult> {
    [DeliveryResult::Acked, DeliveryResult::AlreadyAcked, DeliveryResult::Stale]
        .into_iter()
        .find(|result| result_code(*result) == code)
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
        _ => return Err(reader.damaged("unknown refusal")),
    })
}

#[cfg(test)]
mod tests {
    use conclave_types::DocumentNumber;
    use conclave_types::limits::MAX_BATCH_ITEMS;
    use proptest::prelude::*;

    use super::*;

    /// Design 5: an outcome that is kept is at most this long.
    const MAX_KEPT_BYTES: usize = 64;

    fn outcome() -> impl Strategy<Value = Outcome> {
        let revision = || any::<u64>().prop_map(Revision);
        let result =
            prop_oneof![Just(DeliveryResult::Acked), Just(DeliveryResult::AlreadyAcked), Just(DeliveryResult::Stale)];
        prop_oneof![
            (any::<u16>(), any::<u64>(), revision()).prop_map(|(slot, number, revision)| Outcome::RoomCreated {
                room: RoomUid { slot: Slot(slot), number: RoomNumber(number) },
                revision
            }),
            revision().prop_map(|revision| Outcome::RoomUpdated { revision }),
            revision().prop_map(|revision| Outcome::RoomDeleted { revision }),
            (any::<u64>(), revision()).prop_map(|(first_item, revision)| Outcome::Sent { first_item, revision }),
            (prop::collection::vec(result, 0..=MAX_BATCH_ITEMS), revision())
                .prop_map(|(results, revision)| Outcome::Acked { results, revision }),
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
            Outcome::Acked { results: vec![DeliveryResult::Stale; MAX_BATCH_ITEMS], revision: Revision(u64::MAX) };
        assert_eq!(encode(&acked).unwrap().len(), 45);
    }

    #[test]
    fn outcome_bytes_are_as_they_were_first_stored() {
        let acked = Outcome::Acked {
            results: [1, 2, 3, 1, 2].into_iter().filter_map(result_of).collect(),
            revision: Revision(9),
        };
        assert_eq!(&encode(&acked).unwrap()[..], [5, 9, 5, 0b01_11_10_01, 2]);
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
        ] {
            assert_eq!(&encode(&outcome).unwrap()[..], [kind, 9]);
        }
        assert_eq!(&encode(&Outcome::Refused(Refusal::NeedSync)).unwrap()[..], [6, 15]);

        let mut open = OpenOutcomes::default();
        open.push(Sequence(7), encode(&Outcome::Sent { first_item: 3, revision: Revision(8) }).unwrap());
        open.push(Sequence(9), encode(&unknown).unwrap());
        assert_eq!(&open.encode()[..], [1, 7, 3, 4, 3, 8, 2, 3, 6, 6, 4]);
        assert_eq!(OpenOutcomes::decode(open.encode()), Ok(open));
    }

    #[test]
    fn an_outcome_with_bodies_is_never_kept() {
        assert!(encode(&Outcome::Leased { deliveries: Vec::new(), revision: Revision(1) }).is_err());
    }
}
