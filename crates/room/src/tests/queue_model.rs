//! Queues against a plain model: nothing is lost, nothing that is done is delivered again, attempts only grow, an item
//! has one lease, and nobody waits for something that is there.

mod plain;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conclave_types::Sequence;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::audit::audit;
use super::harness::*;
use crate::codec::Record;
use crate::keys::{Keys, QueueNumber};
use crate::read::{self, ItemPlace, ItemView};
use crate::{
    Effect, ItemOptions, NotBefore, Operation, Outcome, Overflow, QueueState, Receiver, SettingsPatch, TableReads,
};

use plain::{How, Plain, Receive};

/// The first takes dead letters of the others when they say so.
const QUEUES: [&str; 4] = ["graves", "jobs", "other", "jobs.dead"];
const CONSUMERS: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<ItemOptions>),
    Lease(Receive),
    /// Of deliveries that are out, or were ever issued, and perhaps one that was not.
    Settle {
        how: How,
        picks: Vec<(bool, Index)>,
        forged: Option<(u64, u32)>,
    },
    Cancel(Vec<u64>),
    Move {
        to: Option<&'static str>,
        most: u32,
    },
    Purge(u32),
    Configure {
        is_new: bool,
        patch: SettingsPatch,
    },
    Wait(u64),
    /// Until something ends, or so many milliseconds longer.
    WaitForEnd(Index, u64),
    Advance(u32),
}

/// What a history is about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum About {
    /// One queue: order, leases, delays, lives, messages, bounds.
    One,
    /// Several, with groups, deaths and moves among them.
    Many,
}

fn options(about: About) -> impl Strategy<Value = ItemOptions> {
    let not_before = prop_oneof![
        6 => Just(NotBefore::Now),
        1 => (0..400u64).prop_map(NotBefore::After),
        1 => (0..2_000u64).prop_map(|ms| NotBefore::At(conclave_types::Timestamp(START + ms))),
    ];
    let priority = prop_oneof![2 => Just(0u8), 1 => Just(4), 1 => Just(9)];
    let ttl_ms = prop::option::weighted(0.2, 1..600u64);
    let group = match about {
        About::One => Just(None).boxed(),
        About::Many => prop::option::weighted(0.7, select(vec!["g", "h", ""]).prop_map(Bytes::from)).boxed(),
    };
    let message_id = prop::option::weighted(0.2, select(vec!["m", "n", "o"]).prop_map(Bytes::from));
    (priority, not_before, ttl_ms, group, message_id).prop_map(|(priority, not_before, ttl_ms, group, message_id)| {
        ItemOptions {
            priority,
            // Of a group, the others would wait for it.
            not_before: if group.is_some() { NotBefore::Now } else { not_before },
            ttl_ms,
            group,
            message_id,
        }
    })
}

fn receive() -> impl Strategy<Value = Receive> {
    let bound = || prop_oneof![3 => Just(0u32), 1 => 1..4u32];
    let numbers = (0..6u32, 1..400u64, 1..4u64, bound());
    (numbers, select(&CONSUMERS[..]), any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |((most, lease_ms, receiver, window), consumer, again, take)| Receive {
            most,
            lease_ms,
            consumer: consumer.to_owned(),
            receiver,
            again,
            take,
            window,
        },
    )
}

fn patch() -> impl Strategy<Value = SettingsPatch> {
    let none = SettingsPatch::default;
    let state = select(vec![QueueState::Active, QueueState::Active, QueueState::Paused, QueueState::Closed]);
    let graves = select(vec![None, Some("graves"), Some("jobs"), Some("other")]);
    prop_oneof![
        state.prop_map(move |state| SettingsPatch { state: Some(state), ..none() }),
        (0..4u32).prop_map(move |most| SettingsPatch { max_attempts: Some(most), ..none() }),
        (0..80u64, 0..300u64).prop_map(move |(wait, most)| SettingsPatch {
            backoff_ms: Some(wait),
            max_backoff_ms: Some(most.max(wait)),
            ..none()
        }),
        (1..12u64, any::<bool>()).prop_map(move |(most, drops)| SettingsPatch {
            max_items: Some(most),
            overflow: Some(if drops { Overflow::DropOldest } else { Overflow::Reject }),
            ..none()
        }),
        (1..8u32, 0..4u32).prop_map(move |(all, one)| SettingsPatch {
            max_in_flight: Some(all),
            max_in_flight_per_consumer: Some(one),
            ..none()
        }),
        prop_oneof![Just(0), 1..500u64]
            .prop_map(move |window| SettingsPatch { deduplication_window_ms: Some(window), ..none() }),
        graves.prop_map(move |graves| SettingsPatch {
            dead_letter_queue: Some(graves.map(|name| name.parse().unwrap())),
            ..none()
        }),
        Just(none()),
    ]
}

fn step(about: About) -> impl Strategy<Value = Step> {
    // What a step is likely to be, in a history of one queue and of many.
    let weight = |one, many| if about == About::One { one } else { many };
    let how = prop_oneof![
        weight(4, 3) => Just(How::Ack),
        3 => prop::option::weighted(0.4, 0..200u64).prop_map(How::Nack),
        weight(1, 4) => Just(How::Reject),
        2 => (1..400u64).prop_map(How::Extend),
    ];
    let picks = prop::collection::vec((prop::bool::weighted(0.8), any::<Index>()), 1..5);
    let forged = prop::option::weighted(0.1, (0..12u64, 0..4u32));
    let to = prop::option::weighted(0.5, select(&QUEUES[..]));
    prop_oneof![
        6 => prop::collection::vec(options(about), 1..5).prop_map(Step::Send),
        7 => receive().prop_map(Step::Lease),
        7 => (how, picks, forged).prop_map(|(how, picks, forged)| Step::Settle { how, picks, forged }),
        1 => prop::collection::vec(1..20u64, 1..4).prop_map(Step::Cancel),
        weight(1, 3) => (to, 1..5u32).prop_map(|(to, most)| Step::Move { to, most }),
        1 => (1..6u32).prop_map(Step::Purge),
        2 => (prop::bool::weighted(0.1), patch()).prop_map(|(is_new, patch)| Step::Configure { is_new, patch }),
        4 => prop_oneof![9 => 0..300u64, 1 => Just(11 * MINUTE)].prop_map(Step::Wait),
        1 => (any::<Index>(), 0..2u64).prop_map(|(index, more)| Step::WaitForEnd(index, more)),
        4 => (1..8u32).prop_map(Step::Advance),
    ]
}

fn steps(about: About) -> impl Strategy<Value = Vec<(&'static str, Step)>> {
    let queue = match about {
        About::One => Just("jobs").boxed(),
        About::Many => prop_oneof![5 => Just("jobs"), 3 => Just("other"), 3 => select(&QUEUES[..])].boxed(),
    };
    prop::collection::vec((queue, step(about)), 1..60)
}

/// A shard and its model, in step.
struct Both {
    shard: Shard,
    plain: Plain,
    /// All deliveries that were ever issued, by queue.
    issued: BTreeMap<String, Vec<(u64, u32)>>,
    /// Bodies so far, each used once, and those that became items.
    bodies: usize,
    items: usize,
}

type Seen = BTreeMap<String, BTreeMap<u64, ItemView>>;

impl Both {
    fn new() -> Self {
        let shard = Shard::with_room();
        let revision = shard.revision();
        let plain = Plain { now: shard.now, revision, ..Plain::default() };
        Both { shard, plain, issued: BTreeMap::new(), bodies: 0, items: 0 }
    }

    /// Every item of every queue, where it stands.
    fn look(&self) -> Seen {
        let tables = &self.shard.tables;
        let mut seen = Seen::new();
        for queue in read::list_queues(tables, GROUP, ROOM, None, 99).unwrap() {
            let items = seen.entry(queue.name.to_string()).or_default();
            for place in [ItemPlace::Ready, ItemPlace::InFlight, ItemPlace::Delayed, ItemPlace::Grouped] {
                for view in self.page(queue.name.as_str(), place, None, 999).0 {
                    assert!(items.insert(view.number, view).is_none());
                }
            }
        }
        seen
    }

    fn page(
        &self,
        name: &str,
        place: ItemPlace,
        after: Option<&[u8]>,
        limit: usize,
    ) -> (Vec<ItemView>, Option<Vec<u8>>) {
        let (tables, name) = (&self.shard.tables, name.parse().unwrap());
        read::items(tables, GROUP, ROOM, &name, place, after, (limit, usize::MAX)).unwrap().unwrap()
    }

    /// Ready items, read in small pages.
    fn ready(&self, name: &str) -> Vec<u64> {
        let (mut ready, mut after) = (Vec::new(), None);
        loop {
            let (some, position) = self.page(name, ItemPlace::Ready, after.as_deref(), 2);
            ready.extend(some.iter().map(|view| view.number));
            match position {
                Some(position) => after = Some(position),
                None => return ready,
            }
        }
    }

    /// Both are in the same state.
    fn compare(&self) {
        let seen = self.look();
        assert!(seen.keys().eq(self.plain.queues.keys()), "{:?}", seen.keys());
        for (name, queue) in &self.plain.queues {
            assert!(seen[name].keys().eq(queue.items.keys()), "{name}: {:?} and {:?}", seen[name], queue.items);
            queue.items.iter().for_each(|(number, item)| item.check(*number, &seen[name][number]));
            assert_eq!(self.ready(name), queue.order(), "{name}: the order of delivery");
            let view = self.shard.view(name);
            assert_eq!((view.totals, &view.settings), (queue.totals, &queue.settings), "{name}");
        }
        assert_eq!(self.shard.revision(), self.plain.revision);
        audit(&self.shard.tables);
    }

    /// Who may be given something.
    fn receivers(&self) -> BTreeSet<(String, String)> {
        let all = self.plain.queues.iter().flat_map(|(name, queue)| CONSUMERS.map(|consumer| (name, queue, consumer)));
        all.filter(|(_, queue, consumer)| queue.may_receive(consumer))
            .map(|(name, _, consumer)| (name.clone(), consumer.to_owned()))
            .collect()
    }

    /// Runs a step on both. Whoever can be given something that could not before is told.
    fn run(&mut self, name: &str, step: Step) {
        let before = self.receivers();
        let effects = self.run_one(name, step);
        self.compare();
        let told = freed(effects.clone());
        let woken = wakes(effects);
        for (queue, consumer) in self.receivers().difference(&before) {
            let hears = woken.contains(queue) || told.contains(&(queue.clone(), consumer.clone()));
            assert!(hears, "{consumer} waits for {queue}, which has something");
        }
    }

    fn run_one(&mut self, name: &str, step: Step) -> Vec<Effect> {
        match step {
            Step::Wait(ms) => {
                self.shard.wait(ms);
                self.plain.now = self.shard.now;
                Vec::new()
            }
            Step::WaitForEnd(index, more) => {
                let ends = self.plain.queues.get(name).map(|queue| queue.ends(self.plain.now)).unwrap_or_default();
                let wait = if ends.is_empty() { 0 } else { index.get(&ends) + more - self.plain.now };
                self.run_one(name, Step::Wait(wait))
            }
            Step::Advance(limit) => self.advance(limit).0,
            Step::Send(options) => {
                let bodies: Vec<String> = options.iter().map(|_| self.next_body()).collect();
                let items: Vec<_> = bodies.iter().map(String::as_str).zip(options).collect();
                let plain = items.iter().map(|(body, options)| (Bytes::from(body.to_string()), options.clone()));
                let expected = self.plain.send(name, &plain.collect::<Vec<_>>());
                if let Outcome::Sent { duplicates, .. } = &expected {
                    self.items += items.len() - duplicates.len();
                }
                self.expect(on(name, send_each(&items)), expected)
            }
            Step::Lease(receive) => self.lease(name, &receive),
            Step::Settle { how, picks, forged } => self.settle(name, &how, &picks, forged),
            Step::Cancel(items) => {
                let expected = self.plain.cancel(name, &items);
                self.expect(on(name, cancel(&items)), expected)
            }
            Step::Move { to, most } => {
                let expected = self.plain.carry(name, to, most);
                self.expect(on(name, move_items(to, most)), expected)
            }
            Step::Purge(most) => {
                let mut applied = self.shard.entry(vec![on(name, purge(most)).into()]);
                let seen = self.look();
                let expected = self.plain.purge(name, most, seen.get(name).unwrap_or(&BTreeMap::new()));
                assert_eq!(applied.outcomes.remove(0), expected);
                applied.effects
            }
            Step::Configure { is_new, patch } => {
                let expected = self.plain.configure(name, is_new, patch.clone());
                self.expect(on(name, if is_new { make(patch) } else { configure(patch) }), expected)
            }
        }
    }

    fn next_body(&mut self) -> String {
        self.bodies += 1;
        format!("item {}", self.bodies)
    }

    fn expect(&mut self, operation: Operation, expected: Outcome) -> Vec<Effect> {
        let mut applied = self.shard.entry(vec![operation.clone().into()]);
        assert_eq!(applied.outcomes.remove(0), expected, "{operation:?}");
        applied.effects
    }

    fn lease(&mut self, name: &str, receive: &Receive) -> Vec<Effect> {
        let Receive { most, lease_ms, receiver, again, .. } = *receive;
        let receiver = Receiver::Session { session: SESSION, sequence: Sequence(receiver) };
        let mut operation = on(name, lease_as(most, receiver, again, lease_ms));
        if let Operation::LeaseItems { consumer, take, window, .. } = &mut operation {
            (*consumer, *take, *window) = (receive.consumer.clone(), receive.take, receive.window);
        }
        let done: BTreeSet<Bytes> = self.plain.fates.keys().cloned().collect();
        let expected = self.plain.lease(name, receive);
        let applied = self.shard.entry(vec![operation.into()]);
        let deliveries = leased(applied.outcomes[0].clone());
        assert_eq!(ids(&deliveries), expected);
        for delivery in &deliveries {
            assert!(!done.contains(&delivery.item), "{delivery:?} was done with before");
        }
        self.issued.entry(name.to_owned()).or_default().extend(expected);
        applied.effects
    }

    fn settle(&mut self, name: &str, how: &How, picks: &[(bool, Index)], forged: Option<(u64, u32)>) -> Vec<Effect> {
        let out = self.plain.queues.get(name).map(|queue| queue.deliveries()).unwrap_or_default();
        let ever = self.issued.get(name).cloned().unwrap_or_default();
        let pick = |(is_out, index): &(bool, Index)| {
            let from = if *is_out { &out } else { &ever };
            (!from.is_empty()).then(|| *index.get(from))
        };
        let of: Vec<_> = picks.iter().filter_map(pick).chain(forged).collect();
        let expected = self.plain.settle(name, &deliveries(&of), how);
        let operation = match how {
            How::Ack => ack(&of),
            How::Nack(delay) => nack(&of, *delay),
            How::Reject => reject(&of),
            How::Extend(ms) => extend(&of, *ms),
        };
        self.expect(on(name, operation), expected)
    }

    /// Says whether all is done that was due.
    fn advance(&mut self, limit: u32) -> (Vec<Effect>, bool) {
        let applied = self.shard.entry(vec![advance(limit).into()]);
        let is_done = applied.outcomes == [Outcome::Advanced { more: false }];
        self.plain.follow(&self.look(), is_done);
        let (tables, keys) = (&self.shard.tables, Keys::new(GROUP));
        for name in self.plain.queues.keys().cloned().collect::<Vec<_>>() {
            let number = tables.get(&keys.queue_directory(ROOM, &name.parse().unwrap())).unwrap().unwrap();
            let number = QueueNumber::decode(number).unwrap();
            let is_remembered = |item| tables.get(&keys.acked(ROOM, number, item)).unwrap().is_some();
            self.plain.follow_acked(&name, is_remembered);
        }
        (applied.effects, is_done)
    }

    fn advance_fully(&mut self) {
        while !self.advance(512).1 {}
        self.compare();
    }

    /// Receives and acks all that is there; then nothing is left, and every item has met one end.
    fn drain(mut self) {
        // First leases end; then what waits after that is ready.
        for _ in 0..2 {
            self.run("jobs", Step::Wait(20 * MINUTE));
            self.advance_fully();
        }
        let open = SettingsPatch {
            state: Some(QueueState::Active),
            max_in_flight: Some(1_000),
            max_in_flight_per_consumer: Some(0),
            ..SettingsPatch::default()
        };
        for name in self.plain.queues.keys().cloned().collect::<Vec<_>>() {
            self.run(&name, Step::Configure { is_new: false, patch: open.clone() });
            while !self.plain.queues[&name].items.is_empty() {
                let before = self.plain.queues[&name].items.len();
                let consumer = "a".to_owned();
                let receive =
                    Receive { most: 128, lease_ms: 1_000, consumer, receiver: 9, again: false, take: false, window: 0 };
                self.run(&name, Step::Lease(receive));
                let all = self.plain.queues[&name].deliveries();
                let expected = self.plain.settle(&name, &deliveries(&all), &How::Ack);
                self.expect(on(&name, ack(&all)), expected);
                self.compare();
                assert!(self.plain.queues[&name].items.len() < before, "{name} hands out nothing");
            }
        }
        assert_eq!(self.plain.fates.len(), self.items, "an item met no end");
        // And nothing is kept for ever.
        self.run("jobs", Step::Wait(20 * MINUTE));
        self.advance_fully();
        assert_eq!(self.shard.next_due(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_queue_behaves_like_its_model(steps in steps(About::One)) {
        let mut both = Both::new();
        steps.into_iter().for_each(|(name, step)| both.run(name, step));
        both.drain();
    }

    #[test]
    fn groups_and_dead_letters_behave_like_their_model(steps in steps(About::Many)) {
        let mut both = Both::new();
        steps.into_iter().for_each(|(name, step)| both.run(name, step));
        both.drain();
    }
}
