//! What a run did, as one number: two runs of a seed must agree on it.

use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

/// Bytes written on every connection, and when.
#[derive(Default)]
pub struct Trace(Mutex<Seen>);

struct Seen {
    hash: Xxh3,
    writes: u64,
    bytes: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { hash: Xxh3::new(), writes: 0, bytes: 0 }
    }
}

impl Trace {
    /// Notes bytes that a node sends now.
    pub fn note(&self, bytes: &[u8]) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let mut seen = self.0.lock();
        seen.hash.update(&now.as_nanos().to_le_bytes());
        seen.hash.update(bytes);
        seen.writes += 1;
        seen.bytes += bytes.len() as u64;
    }

    /// Of all that was noted.
    pub fn digest(&self) -> u64 {
        self.0.lock().hash.digest()
    }

    pub fn writes(&self) -> u64 {
        self.0.lock().writes
    }

    pub fn bytes(&self) -> u64 {
        self.0.lock().bytes
    }
}
