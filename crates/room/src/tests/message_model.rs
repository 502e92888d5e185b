//! A room's log against a plain list: what is kept is always the newest, nothing goes that may stay, and what exceeds the
//! retention goes.

use conclave_types::Revision;
use proptest::prelude::*;

use super::audit::audit;
use super::harness::*;
use crate::{MessageRetention, Outcome, read};

#[derive(Debug, Clone)]
enum Step {
    Post(usize),
    /// Something else that takes a revision.
    Other,
    Retain(MessageRetention),
    Wait(u64),
    Advance(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let retention =
        (0..6u64, 0..40u64, prop::option::of(1..5_000u64)).prop_map(|(max_messages, max_bytes, max_age_ms)| {
            Step::Retain(MessageRetention { max_messages, max_bytes, max_age_ms })
        });
    prop_oneof![
        8 => (0..12usize).prop_map(Step::Post),
        1 => Just(Step::Other),
        1 => retention,
        3 => prop_oneof![0..900u64, 1_000..3_000u64].prop_map(Step::Wait),
        3 => (1..5u32).prop_map(Step::Advance),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Posted {
    revision: u64,
    time: u64,
    text: String,
}

#[derive(Default)]
struct Model {
    /// All that were ever posted, and how many of them are gone.
    posted: Vec<Posted>,
    gone: usize,
    retention: MessageRetention,
}

impl Model {
    fn kept(&self) -> &[Posted] {
        &self.posted[self.gone..]
    }

    /// Whether the oldest has to go while these are kept.
    fn exceeds(&self, kept: &[Posted], now: u64) -> bool {
        let Some(oldest) = kept.first() else { return false };
        kept.len() as u64 > self.retention.max_messages
            || kept.iter().map(|posted| posted.text.len() as u64).sum::<u64>() > self.retention.max_bytes
            || self.retention.max_age_ms.is_some_and(|age| oldest.time + age <= now)
    }

    /// Takes over what is gone, checking that all of it had to go.
    fn follow(&mut self, shard: &Shard) {
        let gone = self.posted.len() - stored(shard, 0).len();
        assert!(gone >= self.gone, "a message came back");
        for first in self.gone..gone {
            assert!(self.exceeds(&self.posted[first..], shard.now), "{:?} could have stayed", self.posted[first]);
        }
        self.gone = gone;
    }
}

fn stored(shard: &Shard, after: u64) -> Vec<Posted> {
    let messages = read::messages(&shard.tables, GROUP, ROOM, Revision(after), 999, usize::MAX).unwrap();
    let posted = |m: read::StoredMessage| Posted {
        revision: m.revision.0,
        time: m.time.0,
        text: String::from_utf8(m.message.into()).unwrap(),
    };
    messages.into_iter().map(posted).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_log_behaves_like_its_model(steps in prop::collection::vec(step(), 1..80), cursor in 0..90u64) {
        let (mut shard, mut model) = (Shard::with_room(), Model::default());
        for step in steps {
            match step {
                Step::Post(bytes) => {
                    let text = "m".repeat(bytes);
                    let outcome = shard.run(post(&text));
                    let Outcome::Posted { revision } = outcome else { panic!("{outcome:?}") };
                    prop_assert_eq!(revision.0, shard.revision());
                    model.posted.push(Posted { revision: revision.0, time: shard.now, text });
                }
                Step::Other => {
                    shard.run(send(&["x"]));
                }
                Step::Retain(retention) => {
                    shard.run(retain(retention));
                    model.retention = retention;
                }
                Step::Wait(ms) => shard.wait(ms),
                Step::Advance(limit) => {
                    shard.run(advance(limit));
                    model.follow(&shard);
                }
            }
            audit(&shard.tables);
            prop_assert_eq!(stored(&shard, 0), model.kept());
            let after: Vec<_> = model.kept().iter().filter(|posted| posted.revision > cursor).cloned().collect();
            prop_assert_eq!(stored(&shard, cursor), after);
            let log = read::message_log(&shard.tables, GROUP, ROOM).unwrap();
            let trimmed_to = model.posted[..model.gone].last().map_or(0, |posted| posted.revision);
            let last = model.posted.last().map_or(0, |posted| posted.revision);
            prop_assert_eq!((log.trimmed_to.0, log.last.0, log.retention), (trimmed_to, last, model.retention));
            prop_assert_eq!(log.count, model.kept().len() as u64);
        }
        // A second later, nothing exceeds what is kept.
        shard.wait(1_000);
        shard.advance();
        model.follow(&shard);
        let left = model.kept();
        let mut long = model.retention;
        long.max_age_ms = long.max_age_ms.map(|age| age + 1_000);
        let patient = Model { posted: left.to_vec(), gone: 0, retention: long };
        prop_assert!(!patient.exceeds(left, shard.now), "{:?} exceeds {:?}", left, model.retention);
        audit(&shard.tables);
    }
}
