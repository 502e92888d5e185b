//! Updates that were tampered with: what is admitted does no harm when it is applied.

use std::panic::catch_unwind;

use bytes::Bytes;
use conclave_document::{CompactionError, DocumentError, Replica, admit, compact, to_json};
use conclave_types::{Fit, YjsClient};
use proptest::prelude::*;

use crate::author::{Habit, Random, session};

/// Changes a few bytes: another value, one more, one less, a piece twice.
fn mutate(update: &[u8], random: &mut Random) -> Bytes {
    let mut bytes = update.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() as u32) as usize;
        match random.below(6) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] = random.below(12) as u8,
            2 => bytes[at] ^= 1 << random.below(8),
            3 => bytes.insert(at, random.below(12) as u8),
            4 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
    Bytes::from(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_tampered_update_that_is_admitted_does_no_harm(seed in any::<u64>(), collects in any::<bool>()) {
        let habit = if collects { Habit::Collects } else { Habit::KeepsSubdocuments };
        let (server, authors) = session(seed, habit, 30);
        let mut random = Random::new(seed ^ 0x7a);
        let base = compact(None, &server.log, &server.clocks).expect("compacts");
        for _ in 0..60 {
            let valid = if random.below(4) == 0 {
                authors[0].encode()
            } else {
                authors[random.below(4) as usize].edit(&mut random)
            };
            let tampered = mutate(&valid, &mut random);
            let Ok(clocks) = admit(&tampered) else { continue };
            if server.fit(&clocks) != Fit::New {
                continue;
            }
            let mut known = server.clocks.clone();
            for added in &clocks.added {
                let clock = known.entry(added.client).or_default();
                *clock = added.to.max(*clock);
            }
            let tail = [tampered.clone()];
            let outcome = catch_unwind(|| compact(Some(&base), &tail, &known));
            match outcome.expect("no panic gets through") {
                Ok(compacted) => {
                    prop_assert!(to_json(Some(&compacted), &[]).is_ok());
                    let mut replica = Replica::new(YjsClient(99));
                    prop_assert!(replica.apply(&base).is_ok() && replica.apply(&tampered).is_ok());
                    prop_assert!(!replica.has_pending());
                    prop_assert_eq!(replica.clocks(), known);
                }
                // A parent that is no type, neighbours in different types: only the document tells, and nothing is
                // replaced then.
                Err(CompactionError::Document(DocumentError::Inapplicable(_) | DocumentError::Panicked(_))) => {}
                Err(CompactionError::Different) => {}
                Err(error) => prop_assert!(false, "seed {seed}: {error:?} of {tampered:?} made of {valid:?}"),
            }
        }
    }
}
