//! A queue's header: its settings, and sums over its items.

use conclave_types::{QueueName, Revision, Timestamp};

use super::settings::QueueSettings;
use crate::TableError;
use crate::codec::{Reader, Record, Writer, damaged};
use crate::keys::QueueTimer;

/// Priorities of items: 0 (the default) to 9 (first).
pub const PRIORITIES: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueHeader {
    pub name: QueueName,
    pub create_time: Timestamp,
    /// The revision that made the queue.
    pub revision: Revision,
    /// The revision of the last change that participants can see.
    pub changed: Revision,
    pub settings: QueueSettings,
    /// The highest item number issued; 0 before the first send.
    pub last_item: u64,
    /// Bytes of all items as they were sent.
    pub bytes: u64,
    /// What is ready and has a key that says so, by priority.
    pub levels: [Level; PRIORITIES],
    /// What is ready and fresh: items that say so, from this number on.
    pub fresh: Level,
    pub leased: u64,
    /// Items that wait for their time.
    pub delayed: u64,
    /// Items that wait behind another of their group.
    pub grouped: u64,
    /// No item with a lower number is in flight, or remembered as acked. Scans begin there, instead of passing over
    /// everything that was deleted before.
    pub leased_from: u64,
    pub acked_from: u64,
    /// When the queue's due entry of each timer stands.
    pub timers: [Option<Timestamp>; QueueTimer::ALL.len()],
    pub totals: QueueTotals,
    pub meter: Meter,
}

/// Ready items of one priority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub count: u64,
    /// None of them has a lower number.
    pub from: u64,
}

/// What happened to a queue's items since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueTotals {
    pub sent: u64,
    /// Sends that were recognised by the id of their message.
    pub duplicates: u64,
    /// Deliveries, the repeated ones too.
    pub delivered: u64,
    pub acked: u64,
    /// Deliveries that failed: their lease ended, or the consumer gave them back.
    pub failed: u64,
    pub dead: u64,
    /// Items whose time to live ended.
    pub expired: u64,
    /// Items that went to make room.
    pub dropped: u64,
    /// Items that were cancelled, purged or moved away.
    pub removed: u64,
}

impl QueueTotals {
    fn fields(&mut self) -> [&mut u64; 9] {
        let QueueTotals { sent, duplicates, delivered, acked, failed, dead, expired, dropped, removed } = self;
        [sent, duplicates, delivered, acked, failed, dead, expired, dropped, removed]
    }
}

/// What is counted to tell rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    pub sent: u64,
    pub delivered: u64,
    pub acked: u64,
}

/// Flow of the present and of the last stretch of time, on the applied clock: two numbers instead of a history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Meter {
    stretch: u64,
    present: Flow,
    last: Flow,
}

/// Long enough to be steady, short enough to be news.
pub(crate) const METER_MS: u64 = 10_000;

impl Meter {
    pub fn at(&mut self, clock: Timestamp) -> &mut Flow {
        let stretch = clock.0 / METER_MS;
        if stretch != self.stretch {
            self.last = if stretch == self.stretch + 1 { self.present } else { Flow::default() };
            self.present = Flow::default();
            self.stretch = stretch;
        }
        &mut self.present
    }

    /// The flow of the last whole stretch.
    pub fn last_at(mut self, clock: Timestamp) -> Flow {
        self.at(clock);
        self.last
    }
}

impl QueueHeader {
    pub fn new(name: QueueName, create_time: Timestamp) -> Self {
        QueueHeader {
            name,
            create_time,
            revision: Revision(0),
            changed: Revision(0),
            settings: QueueSettings::default(),
            last_item: 0,
            bytes: 0,
            levels: [Level::default(); PRIORITIES],
            fresh: Level::default(),
            leased: 0,
            delayed: 0,
            grouped: 0,
            leased_from: 1,
            acked_from: 1,
            timers: [None; QueueTimer::ALL.len()],
            totals: QueueTotals::default(),
            meter: Meter::default(),
        }
    }

    pub fn ready(&self) -> u64 {
        self.levels.iter().map(|level| level.count).sum::<u64>() + self.fresh.count
    }

    /// Priorities that have ready items with keys, the highest first.
    pub fn used_levels(&self) -> impl DoubleEndedIterator<Item = (u8, &Level)> {
        let levels = self.levels.iter().enumerate().rev().filter(|(_, level)| level.count > 0);
        levels.map(|(priority, level)| (priority as u8, level))
    }

    /// All items, whatever their state.
    pub fn items(&self) -> u64 {
        self.ready() + self.leased + self.delayed + self.grouped
    }

    pub fn level(&mut self, priority: u8) -> Result<&mut Level, TableError> {
        let level = self.levels.get_mut(usize::from(priority));
        level.ok_or_else(|| damaged(Self::NAME, "a priority over 9"))
    }

    pub fn timer(&mut self, timer: QueueTimer) -> &mut Option<Timestamp> {
        &mut self.timers[timer as usize]
    }

    pub fn remove_leased(&mut self, count: u64) -> Result<(), TableError> {
        self.leased = less(self.leased, count, "fewer items are leased than in flight")?;
        Ok(())
    }

    pub fn remove_delayed(&mut self) -> Result<(), TableError> {
        self.delayed = less(self.delayed, 1, "fewer items are delayed than wait for their time")?;
        Ok(())
    }

    pub fn remove_grouped(&mut self) -> Result<(), TableError> {
        self.grouped = less(self.grouped, 1, "fewer items wait in groups than there are")?;
        Ok(())
    }

    pub fn remove_bytes(&mut self, bytes: u64) -> Result<(), TableError> {
        self.bytes = less(self.bytes, bytes, "items hold fewer bytes than one of them")?;
        Ok(())
    }

    pub fn remove_fresh(&mut self) -> Result<(), TableError> {
        self.fresh.count = less(self.fresh.count, 1, "fewer items are fresh than there are")?;
        Ok(())
    }

    pub fn remove_ready(&mut self, priority: u8) -> Result<(), TableError> {
        let level = self.level(priority)?;
        level.count = less(level.count, 1, "fewer items are ready than there are")?;
        Ok(())
    }
}

fn less(from: u64, count: u64, why: &str) -> Result<u64, TableError> {
    from.checked_sub(count).ok_or_else(|| damaged(QueueHeader::NAME, why))
}

impl Record for QueueHeader {
    const NAME: &'static str = "queue header";
    /// 2: says when it was last changed. 3: settings, priorities, delays, groups, totals.
    const VERSION: u8 = 3;

    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.name.as_bytes());
        writer.time(self.create_time);
        writer.revision(self.revision);
        writer.revision(self.changed);
        self.settings.write(writer);
        for number in [
            self.last_item,
            self.bytes,
            self.leased,
            self.delayed,
            self.grouped,
            self.leased_from,
            self.acked_from,
            self.fresh.count,
            self.fresh.from,
        ] {
            writer.varint(number);
        }
        // Most queues have one priority.
        let used = |(_, level): &(usize, &Level)| **level != Level::default();
        writer.u8(self.levels.iter().enumerate().filter(used).count() as u8);
        for (priority, level) in self.levels.iter().enumerate().filter(used) {
            writer.u8(priority as u8);
            writer.varint(level.count);
            writer.varint(level.from);
        }
        self.timers.iter().for_each(|at| writer.optional_time(*at));
        let mut totals = self.totals;
        totals.fields().iter().for_each(|total| writer.varint(**total));
        writer.varint(self.meter.stretch);
        for flow in [self.meter.present, self.meter.last] {
            [flow.sent, flow.delivered, flow.acked].iter().for_each(|count| writer.varint(*count));
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, TableError> {
        let mut header = QueueHeader::new(reader.queue_name()?, reader.time()?);
        header.revision = reader.revision()?;
        header.changed = reader.revision()?;
        header.settings = QueueSettings::read(reader)?;
        header.last_item = reader.varint()?;
        header.bytes = reader.varint()?;
        header.leased = reader.varint()?;
        header.delayed = reader.varint()?;
        header.grouped = reader.varint()?;
        header.leased_from = reader.varint()?;
        header.acked_from = reader.varint()?;
        header.fresh = Level { count: reader.varint()?, from: reader.varint()? };
        for _ in 0..reader.u8()? {
            let priority = reader.u8()?;
            let level = Level { count: reader.varint()?, from: reader.varint()? };
            *header.level(priority)? = level;
        }
        for at in &mut header.timers {
            *at = reader.optional_time()?;
        }
        for total in header.totals.fields() {
            *total = reader.varint()?;
        }
        header.meter.stretch = reader.varint()?;
        for flow in [&mut header.meter.present, &mut header.meter.last] {
            *flow = Flow { sent: reader.varint()?, delivered: reader.varint()?, acked: reader.varint()? };
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_bytes_are_as_they_were_first_stored() {
        let mut header = QueueHeader::new("q".parse().unwrap(), Timestamp(1));
        header.revision = Revision(2);
        header.changed = Revision(11);
        header.settings = QueueSettings {
            lease_ms: 1,
            max_attempts: 2,
            backoff_ms: 3,
            max_backoff_ms: 4,
            deduplication_window_ms: 5,
            max_items: 6,
            max_bytes: 7,
            retention_ms: Some(8),
            max_in_flight: 9,
            max_in_flight_per_consumer: 10,
            dead_letter_queue: Some("d".parse().unwrap()),
            ..QueueSettings::default()
        };
        (header.last_item, header.bytes, header.leased, header.delayed, header.grouped) = (3, 4, 5, 6, 7);
        (header.leased_from, header.acked_from) = (8, 9);
        header.fresh = Level { count: 10, from: 11 };
        header.levels[9] = Level { count: 10, from: 11 };
        *header.timer(QueueTimer::Leases) = Some(Timestamp(9));
        header.totals.sent = 12;
        *header.meter.at(Timestamp(METER_MS)) = Flow { sent: 13, delivered: 14, acked: 15 };
        let expected = [
            &[3, 1, b'q', 1, 2, 11][..],
            &[1, 1, 1, 2, 3, 4, 5, 6, 7, 9, 9, 10, 1, b'd'],
            &[3, 4, 5, 6, 7, 8, 9, 10, 11],
            &[1, 9, 10, 11],
            &[10, 0, 0, 0, 0],
            &[12, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 13, 14, 15, 0, 0, 0],
        ]
        .concat();
        assert_eq!(&header.encode()[..], expected);
        assert_eq!(QueueHeader::decode(header.encode()), Ok(header));
    }

    #[test]
    fn a_rate_is_that_of_the_last_whole_stretch() {
        let mut meter = Meter::default();
        meter.at(Timestamp(METER_MS)).sent = 7;
        assert_eq!(meter.last_at(Timestamp(METER_MS + 1)).sent, 0);
        assert_eq!(meter.last_at(Timestamp(2 * METER_MS)).sent, 7);
        assert_eq!(meter.last_at(Timestamp(3 * METER_MS)).sent, 0);
    }
}
