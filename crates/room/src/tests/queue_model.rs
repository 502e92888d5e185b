//! A queue against a plain model: nothing lost, nothing acked twice, attempts only grow, first in first out, one lease
//! an item.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::audit::audit;
use super::harness::*;
use crate::keys::{Keys, QueueNumber};
use crate::{DeliveryResult, Outcome, Receiver, Refusal, TableReads};

#[derive(Debug, Clone)]
enum Step {
    Send(usize),
    Lease {
        most: u32,
        lease_ms: u64,
        receiver: u64,
        again: bool,
    },
    /// Acks deliveries picked from all that were ever issued, and perhaps one that was not.
    Ack {
        picks: Vec<prop::sample::Index>,
        never_issued: bool,
    },
    Wait(u64),
    Advance(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..5usize).prop_map(Step::Send),
        4 => (0..6u32, 1..400u64, 1..4u64, any::<bool>())
            .prop_map(|(most, lease_ms, receiver, again)| Step::Lease { most, lease_ms, receiver, again }),
        4 => (prop::collection::vec(any::<prop::sample::Index>(), 1..5), prop::bool::weighted(0.1))
            .prop_map(|(picks, never_issued)| Step::Ack { picks, never_issued }),
        2 => prop_oneof![0..300u64, Just(11 * MINUTE)].prop_map(Step::Wait),
        2 => (1..8u32).prop_map(Step::Advance),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Ready { attempts: u32 },
    Leased { attempt: u32, deadline: u64, receiver: u64 },
    Acked { attempt: u32, time: u64 },
}

#[derive(Default)]
struct Model {
    items: BTreeMap<u64, Item>,
    issued: Vec<(u64, u32)>,
}

impl Model {
    fn lease(&mut self, now: u64, most: u32, lease_ms: u64, receiver: u64, again: bool) -> Vec<(u64, u32)> {
        let holds = |item: &Item| match item {
            Item::Leased { attempt, deadline, receiver: holder } if *holder == receiver && now <= *deadline => {
                Some(*attempt)
            }
            _ => None,
        };
        let held: Vec<_> = self.items.iter().filter_map(|(number, item)| Some((*number, holds(item)?))).collect();
        if again && !held.is_empty() {
            return held;
        }
        let mut taken = Vec::new();
        for (number, item) in &mut self.items {
            if let Item::Ready { attempts } = item
                && taken.len() < most as usize
            {
                let attempt = *attempts + 1;
                *item = Item::Leased { attempt, deadline: now + lease_ms, receiver };
                taken.push((*number, attempt));
            }
        }
        self.issued.extend(&taken);
        taken
    }

    /// The result of acking one delivery that was issued; several are allowed when an ack may be forgotten by now.
    fn ack(&mut self, now: u64, (number, attempt): (u64, u32)) -> Vec<DeliveryResult> {
        let item = self.items.get_mut(&number).unwrap();
        match *item {
            Item::Leased { attempt: current, deadline, .. } if current == attempt && now <= deadline => {
                *item = Item::Acked { attempt, time: now };
                vec![DeliveryResult::Acked]
            }
            Item::Acked { attempt: acked, time } if acked == attempt && now < time + 10 * MINUTE => {
                vec![DeliveryResult::AlreadyAcked]
            }
            Item::Acked { attempt: acked, .. } if acked == attempt => {
                vec![DeliveryResult::AlreadyAcked, DeliveryResult::Stale]
            }
            _ => vec![DeliveryResult::Stale],
        }
    }
}

/// Takes over which leases ended, checking that those and only those did that may have.
fn follow_lease_ends(shard: &Shard, model: &mut Model, all_done: bool) {
    let keys = Keys::new(GROUP);
    for (number, item) in &mut model.items {
        let Item::Leased { attempt, deadline, .. } = *item else { continue };
        let is_ready = shard.tables.get(&keys.ready(ROOM, QueueNumber(1), *number)).unwrap().is_some();
        assert!(!is_ready || deadline < shard.now, "item {number} lost its lease too early");
        assert!(is_ready || !all_done || deadline + 20 >= shard.now, "item {number} is held for ever");
        if is_ready {
            *item = Item::Ready { attempts: attempt };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_queue_behaves_like_its_model(steps in prop::collection::vec(step(), 1..60)) {
        let (mut shard, mut model) = (Shard::with_room(), Model::default());
        shard.run(lease(0));
        for step in steps {
            match step {
                Step::Send(count) => {
                    let first = model.items.len() as u64 + 1;
                    let outcome = shard.run(send(&vec!["x"; count]));
                    let sent = matches!(outcome, Outcome::Sent { first_item, .. } if first_item == first);
                    prop_assert!(sent, "{:?}", outcome);
                    (first..).take(count).for_each(|number| {
                        model.items.insert(number, Item::Ready { attempts: 0 });
                    });
                }
                Step::Lease { most, lease_ms, receiver, again } => {
                    let expected = model.lease(shard.now, most, lease_ms, receiver, again);
                    let receiver = Receiver::Session { session: SESSION, sequence: conclave_types::Sequence(receiver) };
                    let deliveries = leased(shard.run(lease_as(most, receiver, again, lease_ms)));
                    prop_assert_eq!(ids(&deliveries), expected);
                }
                Step::Ack { picks, never_issued } => {
                    if model.issued.is_empty() {
                        continue;
                    }
                    let mut deliveries: Vec<_> = picks.iter().map(|pick| *pick.get(&model.issued)).collect();
                    if never_issued {
                        let (item, attempt) = *model.issued.last().unwrap();
                        let highest = model.issued.iter().filter(|issued| issued.0 == item).count() as u32;
                        prop_assert!(attempt <= highest);
                        deliveries.push((item, highest + 1));
                    }
                    let outcome = shard.run(ack(&deliveries));
                    if never_issued {
                        // Once an acked item is forgotten, an attempt that never was can only be called stale.
                        let refused = matches!(outcome, Outcome::Refused(Refusal::DeliveryUnknown { .. }));
                        if refused {
                            continue;
                        }
                        deliveries.pop();
                    }
                    let Outcome::Acked { results, .. } = outcome else { panic!("{outcome:?}") };
                    for (delivery, result) in deliveries.iter().zip(results) {
                        let allowed = model.ack(shard.now, *delivery);
                        prop_assert!(allowed.contains(&result), "{:?} is {:?}, not {:?}", delivery, result, allowed);
                    }
                }
                Step::Wait(ms) => shard.wait(ms),
                Step::Advance(limit) => {
                    let outcome = shard.run(advance(limit));
                    follow_lease_ends(&shard, &mut model, outcome == Outcome::Advanced { more: false });
                }
            }
            audit(&shard.tables);
            let ready = model.items.values().filter(|item| matches!(item, Item::Ready { .. })).count() as u64;
            let held = model.items.values().filter(|item| matches!(item, Item::Leased { .. })).count() as u64;
            prop_assert_eq!(shard.sizes(), (ready, held));
        }
        // Nothing is lost: once all leases are over, every item that was not acked is delivered, in order.
        shard.wait(MINUTE);
        shard.advance();
        follow_lease_ends(&shard, &mut model, true);
        let left: Vec<u64> =
            model.items.iter().filter(|(_, item)| !matches!(item, Item::Acked { .. })).map(|(number, _)| *number).collect();
        let mut delivered = Vec::new();
        while delivered.len() < left.len() {
            let some = shard.lease(128);
            prop_assert!(!some.is_empty());
            delivered.extend(some.iter().map(|delivery| delivery.delivery.item));
        }
        prop_assert_eq!(delivered, left);
        // And nothing is kept for ever.
        shard.wait(11 * MINUTE);
        shard.advance();
        prop_assert!(shard.next_due().is_none_or(|due| due > shard.now));
    }
}
