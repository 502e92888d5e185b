//! Reads a whole store once, so that damage to what nobody asks for is found while its peers are still well.
//!
//! An engine checks what it reads; data that lies cold for months is read by nobody. The owner of the store takes a step
//! now and then. An error ends the reading: damage has been reported to the store by whoever found it.

use crate::{EngineError, EngineView, Family, KeyRange};

/// Above all keys: none begins with this byte.
const END: [u8; 1] = [0xff];

/// How far one reading has come.
#[derive(Debug)]
pub struct Scrub {
    /// Not begun yet, in order.
    families: std::vec::IntoIter<Family>,
    present: Option<(Family, Vec<u8>)>,
    bytes: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        let mut families = Family::ALL.to_vec().into_iter();
        let present = families.next().map(|family| (family, Vec::new()));
        Scrub { families, present, bytes: 0 }
    }
}

impl Scrub {
    pub fn new() -> Self {
        Scrub::default()
    }

    /// Reads about `max_bytes` more; says whether anything is left. Blocks in the engine.
    pub fn step(&mut self, engine: &dyn EngineView, max_bytes: usize) -> Result<bool, EngineError> {
        let Some((family, from)) = self.present.take() else { return Ok(false) };
        let mut read = 0;
        for pair in engine.scan_once(family, KeyRange { from, to: END.to_vec() }) {
            let (key, value) = pair?;
            if read >= max_bytes {
                self.present = Some((family, key.to_vec()));
                return Ok(true);
            }
            read += key.len() + value.len();
            self.bytes += (key.len() + value.len()) as u64;
        }
        self.present = self.families.next().map(|family| (family, Vec::new()));
        Ok(self.present.is_some())
    }

    /// Bytes of keys and values read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, MemoryEngine, WriteBatch};

    #[test]
    fn every_pair_is_read_once_in_steps() {
        let engine = MemoryEngine::new();
        let mut batch = WriteBatch::new();
        for family in Family::ALL {
            (0..100u32).for_each(|number| batch.put(family, number.to_be_bytes(), [7; 96]));
        }
        engine.write(batch).unwrap();
        let mut scrub = Scrub::new();
        let mut steps = 1;
        while scrub.step(&engine, 1_000).unwrap() {
            steps += 1;
        }
        assert_eq!((scrub.bytes(), steps), (3 * 100 * 100, 3 * 10));
        assert!(!scrub.step(&engine, 1_000).unwrap(), "it stays finished");
    }
}
