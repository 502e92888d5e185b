//! Which keys a staging takes: ascending ones, within its range.

use crate::{EngineError, KeyRange};

/// Watches over the keys put into one staging.
#[derive(Debug)]
pub struct StagedOrder {
    range: KeyRange,
    newest: Option<Vec<u8>>,
}

impl StagedOrder {
    pub fn new(range: KeyRange) -> Self {
        StagedOrder { range, newest: None }
    }

    pub fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Takes the next key, unless it is out of place.
    pub fn take(&mut self, key: &[u8]) -> Result<(), EngineError> {
        if key < &self.range.from[..] || key >= &self.range.to[..] {
            return Err(EngineError::Misplaced("a key lies outside the range"));
        }
        if self.newest.as_deref().is_some_and(|newest| key <= newest) {
            return Err(EngineError::Misplaced("keys do not ascend"));
        }
        let newest = self.newest.get_or_insert_default();
        newest.clear();
        newest.extend_from_slice(key);
        Ok(())
    }
}
