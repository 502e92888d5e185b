//! Whatever is resent, by old streams or new ones: each sequence takes effect at most once, and in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::audit::audit;
use super::harness::*;
use crate::{Command, Outcome, Refusal};

#[derive(Debug, Clone)]
enum Step {
    Frame { attachment: u64, sequence: u64, acknowledged: u64 },
    Attach { presented: u64 },
    EndOfEntry,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..4u64, 1..16u64, 0..4u64).prop_map(|(attachment, sequence, lag)| {
            Step::Frame { attachment, sequence, acknowledged: sequence.saturating_sub(1 + 3 * lag) }
        }),
        1 => (1..4u64).prop_map(|presented| Step::Attach { presented }),
        4 => Just(Step::EndOfEntry),
        1 => (0..8 * MINUTE).prop_map(Step::Wait),
    ]
}

fn command(step: &Step, now: u64) -> Command {
    match *step {
        Step::Attach { presented } => attach(presented, now, true).into(),
        Step::Frame { attachment, sequence, acknowledged } => {
            frame_of(attachment, sequence, acknowledged, send(&[&sequence.to_string()]))
        }
        Step::EndOfEntry | Step::Wait(_) => panic!("not a command"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn each_sequence_takes_effect_at_most_once_and_in_order(steps in prop::collection::vec(step(), 1..60)) {
        let mut shard = Shard::with_room();
        let mut expected = Vec::new();
        let (mut first, mut attachment, mut used, mut last, mut acknowledged) = (BTreeMap::new(), 0, 0, 0, 0);
        let mut entry = Vec::new();
        for step in steps.into_iter().chain([Step::EndOfEntry]) {
            match step {
                Step::Frame { .. } | Step::Attach { .. } => entry.push(step),
                Step::Wait(ms) => shard.wait(ms),
                Step::EndOfEntry => {
                    let commands = entry.iter().map(|step| command(step, shard.now)).collect();
                    let applied = shard.entry(commands);
                    audit(&shard.tables);
                    for (check, outcome) in entry.drain(..).zip(applied.outcomes) {
                        match check {
                            Step::Frame { attachment: of, .. } if of < attachment => {
                                prop_assert_eq!(outcome, Outcome::Refused(Refusal::Superseded));
                            }
                            Step::Frame { attachment: of, sequence, acknowledged: held } if sequence <= last => {
                                used = used.max(of);
                                let kept = first.get(&sequence).filter(|_| sequence > acknowledged);
                                let not_applied = Outcome::Refused(Refusal::NotApplied);
                                prop_assert_eq!(&outcome, kept.unwrap_or(&not_applied));
                                acknowledged = acknowledged.max(held.min(last));
                            }
                            Step::Frame { attachment: of, sequence, acknowledged: held } => {
                                prop_assert!(matches!(outcome, Outcome::Sent { .. }), "{:?}", outcome);
                                first.insert(sequence, outcome);
                                expected.push(sequence.to_string());
                                (attachment, used, last) = (attachment.max(of), used.max(of), sequence);
                                acknowledged = acknowledged.max(held.min(sequence - 1));
                            }
                            Step::Attach { presented } if presented < used => {
                                prop_assert_eq!(outcome, Outcome::Refused(Refusal::Superseded));
                            }
                            Step::Attach { presented } => {
                                prop_assert!(matches!(outcome, Outcome::Attached { .. }), "{:?}", outcome);
                                used = used.max(if attachment == 0 { presented } else { 0 });
                                attachment = attachment.max(presented) + 1;
                            }
                            Step::EndOfEntry | Step::Wait(_) => {}
                        }
                    }
                }
            }
        }
        let bodies: Vec<_> =
            shard.lease(128).into_iter().map(|delivery| String::from_utf8(delivery.item.into()).unwrap()).collect();
        prop_assert_eq!(bodies, expected);
    }
}
