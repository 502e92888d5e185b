//! What a queue was told to do: how long leases run, how often an item is tried, how much is held.

use conclave_types::QueueName;
use conclave_types::limits::{
    DEFAULT_DEDUPLICATION_WINDOW_MS, DEFAULT_LEASE_MS, DEFAULT_MAX_ATTEMPTS, DEFAULT_MAX_BACKOFF_MS,
    DEFAULT_MAX_IN_FLIGHT, DEFAULT_MAX_ITEMS,
};

use crate::TableError;
use crate::codec::{Reader, Writer};

/// What a queue does with sends and receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueState {
    Active,
    /// Takes sends, hands out nothing. What is leased may still be settled.
    Paused,
    /// Takes no sends and hands out nothing. What is leased may still be settled.
    Closed,
}

/// What a send does that would make the queue larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused.
    Reject,
    /// The oldest waiting items of the lowest priority go.
    DropOldest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    pub state: QueueState,
    /// Lease of a delivery when its receive names none.
    pub lease_ms: u64,
    /// Deliveries of an item after which it is a dead letter; 0 for as many as it takes.
    pub max_attempts: u32,
    /// How long an item waits after its first failed delivery; doubled with each further one, up to `max_backoff_ms`.
    pub backoff_ms: u64,
    pub max_backoff_ms: u64,
    /// How long the id of a message is remembered; 0 for not at all.
    pub deduplication_window_ms: u64,
    /// Most items, whatever their state.
    pub max_items: u64,
    /// Most bytes of all items as they were sent; 0 for no bound.
    pub max_bytes: u64,
    pub overflow: Overflow,
    /// An item lives at most so long; none for ever.
    pub retention_ms: Option<u64>,
    /// Most deliveries that are out at once: of all consumers, and of one (0 for no bound of its own).
    pub max_in_flight: u32,
    pub max_in_flight_per_consumer: u32,
    /// Where dead letters go; none for the queue's name with `.dead` behind it.
    pub dead_letter_queue: Option<QueueName>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings {
            state: QueueState::Active,
            lease_ms: DEFAULT_LEASE_MS,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            backoff_ms: 0,
            max_backoff_ms: DEFAULT_MAX_BACKOFF_MS,
            deduplication_window_ms: DEFAULT_DEDUPLICATION_WINDOW_MS,
            max_items: DEFAULT_MAX_ITEMS,
            max_bytes: 0,
            overflow: Overflow::Reject,
            retention_ms: None,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            max_in_flight_per_consumer: 0,
            dead_letter_queue: None,
        }
    }
}

impl QueueSettings {
    /// How long an item waits that failed so many times.
    pub(crate) fn backoff(&self, attempts: u32) -> u64 {
        let doublings = attempts.saturating_sub(1).min(63);
        let grown = self.backoff_ms.saturating_mul(1 << doublings);
        grown.min(self.max_backoff_ms.max(self.backoff_ms))
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.u8(match self.state {
            QueueState::Active => 1,
            QueueState::Paused => 2,
            QueueState::Closed => 3,
        });
        writer.u8(match self.overflow {
            Overflow::Reject => 1,
            Overflow::DropOldest => 2,
        });
        for number in [
            self.lease_ms,
            self.max_attempts.into(),
            self.backoff_ms,
            self.max_backoff_ms,
            self.deduplication_window_ms,
            self.max_items,
            self.max_bytes,
            self.retention_ms.map_or(0, |retention| retention.saturating_add(1)),
            self.max_in_flight.into(),
            self.max_in_flight_per_consumer.into(),
        ] {
            writer.varint(number);
        }
        writer.bytes(self.dead_letter_queue.as_ref().map_or(&[], |name| name.as_bytes()));
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let state = match reader.u8()? {
            1 => QueueState::Active,
            2 => QueueState::Paused,
            3 => QueueState::Closed,
            _ => return Err(reader.damaged("unknown state")),
        };
        let overflow = match reader.u8()? {
            1 => Overflow::Reject,
            2 => Overflow::DropOldest,
            _ => return Err(reader.damaged("unknown overflow")),
        };
        Ok(QueueSettings {
            state,
            overflow,
            lease_ms: reader.varint()?,
            max_attempts: reader.u32()?,
            backoff_ms: reader.varint()?,
            max_backoff_ms: reader.varint()?,
            deduplication_window_ms: reader.varint()?,
            max_items: reader.varint()?,
            max_bytes: reader.varint()?,
            retention_ms: reader.varint()?.checked_sub(1),
            max_in_flight: reader.u32()?,
            max_in_flight_per_consumer: reader.u32()?,
            dead_letter_queue: reader.optional_queue_name()?,
        })
    }
}

/// Changes of settings: what is none stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsPatch {
    pub state: Option<QueueState>,
    pub lease_ms: Option<u64>,
    pub max_attempts: Option<u32>,
    pub backoff_ms: Option<u64>,
    pub max_backoff_ms: Option<u64>,
    pub deduplication_window_ms: Option<u64>,
    pub max_items: Option<u64>,
    pub max_bytes: Option<u64>,
    pub overflow: Option<Overflow>,
    /// The inner none: for ever.
    pub retention_ms: Option<Option<u64>>,
    pub max_in_flight: Option<u32>,
    pub max_in_flight_per_consumer: Option<u32>,
    /// The inner none: the default name.
    pub dead_letter_queue: Option<Option<QueueName>>,
}

impl SettingsPatch {
    pub(crate) fn apply(self, settings: &mut QueueSettings) {
        fn set<T>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        set(&mut settings.state, self.state);
        set(&mut settings.lease_ms, self.lease_ms);
        set(&mut settings.max_attempts, self.max_attempts);
        set(&mut settings.backoff_ms, self.backoff_ms);
        set(&mut settings.max_backoff_ms, self.max_backoff_ms);
        set(&mut settings.deduplication_window_ms, self.deduplication_window_ms);
        set(&mut settings.max_items, self.max_items);
        set(&mut settings.max_bytes, self.max_bytes);
        set(&mut settings.overflow, self.overflow);
        set(&mut settings.retention_ms, self.retention_ms);
        set(&mut settings.max_in_flight, self.max_in_flight);
        set(&mut settings.max_in_flight_per_consumer, self.max_in_flight_per_consumer);
        set(&mut settings.dead_letter_queue, self.dead_letter_queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_its_bound() {
        let settings = QueueSettings { backoff_ms: 100, max_backoff_ms: 350, ..QueueSettings::default() };
        assert_eq!([0, 1, 2, 3, 4, 200].map(|attempts| settings.backoff(attempts)), [100, 100, 200, 350, 350, 350]);
        assert_eq!(QueueSettings::default().backoff(9), 0);
    }
}
