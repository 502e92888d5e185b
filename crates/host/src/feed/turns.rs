//! Turns at holding a whole document: of the many feeds of one stream only a few hold one at a time, so a stream's
//! memory does not grow with the number of documents that it opens.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Documents that the feeds of one stream hold at once: one that is sent, and one that is read meanwhile.
const AT_ONCE: usize = 2;

#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

/// A turn, until dropped.
pub type Turn = OwnedSemaphorePermit;

impl Default for Turns {
    fn default() -> Self {
        Turns(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Turns {
    pub fn is_free(&self) -> bool {
        self.0.available_permits() > 0
    }

    /// A turn, if one is free. Whoever gets none asks again when it is pulled again: a turn ends with an element.
    pub fn take(&self) -> Option<Turn> {
        self.0.clone().try_acquire_owned().ok()
    }
}
