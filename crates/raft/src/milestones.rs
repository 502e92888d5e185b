//! Where the bytes of a log lie, roughly: by this a purge finds how far to go.

use std::collections::VecDeque;

/// Bytes of log between two remembered positions.
const MILESTONE_BYTES: u64 = 1 << 20;

/// Bytes of a run of entries, and (index, bytes before it) now and then.
#[derive(Debug, Default)]
pub(crate) struct Milestones {
    bytes: u64,
    positions: VecDeque<(u64, u64)>,
}

impl Milestones {
    /// Counts the next entry.
    pub(crate) fn push(&mut self, index: u64, bytes: u64) {
        if self.positions.back().is_none_or(|(_, before)| self.bytes - before >= MILESTONE_BYTES) {
            self.positions.push_back((index, self.bytes));
        }
        self.bytes += bytes;
    }

    /// Forgets the entries from `from` on; their bytes stay counted up to a milestone.
    pub(crate) fn truncate(&mut self, from: u64) {
        while let Some((_, before)) = self.positions.pop_back_if(|(index, _)| *index >= from) {
            self.bytes = before;
        }
    }

    /// Forgets the entries before `to`; their bytes stay counted up to a milestone.
    pub(crate) fn forget_to(&mut self, to: u64) {
        while self.positions.pop_front_if(|(index, _)| *index < to).is_some() {}
    }

    /// Puts the entries of an older run before these.
    pub(crate) fn prepend(&mut self, mut older: Milestones) {
        for (_, before) in &mut self.positions {
            *before += older.bytes;
        }
        self.bytes += older.bytes;
        older.positions.append(&mut self.positions);
        self.positions = older.positions;
    }

    /// Bytes from the oldest milestone on.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes - self.positions.front().map_or(self.bytes, |(_, before)| *before)
    }

    /// The oldest index that must stay so that about `keep_bytes` stay; none while there are fewer.
    pub(crate) fn keep_from(&self, keep_bytes: u64) -> Option<u64> {
        let too_old = |(_, before): &&(u64, u64)| self.bytes - before > keep_bytes;
        self.positions.iter().take_while(too_old).last().map(|(index, _)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u64 = MILESTONE_BYTES / 2;

    fn of(indexes: std::ops::Range<u64>) -> Milestones {
        let mut milestones = Milestones::default();
        indexes.for_each(|index| milestones.push(index, HALF));
        milestones
    }

    #[test]
    fn about_the_newest_bytes_are_kept() {
        let milestones = of(0..10);
        assert_eq!(milestones.bytes(), 10 * HALF);
        assert_eq!(milestones.keep_from(4 * HALF), Some(4));
        assert_eq!(milestones.keep_from(5 * HALF), Some(4), "never less than asked for");
        assert_eq!(milestones.keep_from(10 * HALF), None);
    }

    #[test]
    fn an_older_run_counts_once_it_is_known() {
        let mut milestones = of(10..20);
        assert_eq!(milestones.keep_from(12 * HALF), None);
        milestones.prepend(of(0..10));
        assert_eq!(milestones.bytes(), 20 * HALF);
        assert_eq!(milestones.keep_from(12 * HALF), Some(6));
        assert_eq!(milestones.keep_from(4 * HALF), Some(14));
    }

    #[test]
    fn what_is_cut_off_no_longer_counts() {
        let mut milestones = of(0..10);
        milestones.truncate(6);
        assert_eq!(milestones.bytes(), 6 * HALF);
        milestones.forget_to(3);
        assert_eq!(milestones.bytes(), 2 * HALF);
        milestones.forget_to(100);
        assert_eq!(milestones.bytes(), 0);
    }
}
