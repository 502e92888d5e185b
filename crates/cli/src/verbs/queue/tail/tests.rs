use std::collections::VecDeque;

use clap::Parser;

use super::*;
use crate::flags::{Cli, Command, QueueCommand, RoomCommand};

fn given(flags: &str) -> TailArgs {
    let line = format!("conclave room queue tail lab jobs {flags}");
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
    match cli.command {
        Command::Room { command: RoomCommand::Queue { command: QueueCommand::Tail(tail) }, .. } => tail,
        _ => panic!("another command"),
    }
}

fn batch(items: std::ops::Range<u64>) -> Update {
    let event = |item| {
        let id = Some(v1::DeliveryId { item, attempt: 1 });
        let delivery = v1::Delivery { id, ..Default::default() };
        v1::Event { kind: Some(Kind::Delivery(delivery)), ..Default::default() }
    };
    let events: Vec<_> = items.map(event).collect();
    Update { revision: 1, kind: UpdateKind::Events(EventBatch::of(&events)) }
}

fn live() -> Update {
    Update { revision: 0, kind: UpdateKind::Live(v1::Live::default()) }
}

/// What is done with which items, of a stream that ends after these updates.
async fn settled(flags: &str, updates: impl IntoIterator<Item = Update>) -> (Vec<(Then, Vec<u64>)>, usize) {
    let mut updates: VecDeque<_> = updates.into_iter().collect();
    let mut settled = Vec::new();
    let settle = async |then: Then, deliveries: &[v1::Delivery]| {
        let items: Vec<u64> = deliveries.iter().filter_map(|delivery| delivery.id).map(|id| id.item).collect();
        if !items.is_empty() {
            settled.push((then, items));
        }
        Ok(())
    };
    follow(Output::Json, &given(flags), async || Ok(updates.pop_front()), settle).await.expect("followed");
    (settled, updates.len())
}

#[tokio::test]
async fn what_was_printed_is_acknowledged_if_asked_for() {
    let updates = || [batch(1..3), live(), batch(3..4)];
    assert_eq!(settled("--ack", updates()).await, (vec![(Then::Ack, vec![1, 2]), (Then::Ack, vec![3])], 0));
    assert_eq!(settled("", updates()).await, (vec![], 0));
}

#[tokio::test]
async fn it_ends_after_as_many_as_are_wanted_and_gives_the_others_back() {
    let updates = || [live(), batch(1..3), batch(3..6), batch(6..7)];
    let (all, unread) = settled("--ack --max 3", updates()).await;
    assert_eq!(all, [(Then::Ack, vec![1, 2]), (Then::Ack, vec![3]), (Then::GiveBack, vec![4, 5])]);
    assert_eq!(unread, 1);
    assert_eq!(settled("--max 2", updates()).await, (vec![], 2));
    assert_eq!(settled("--max 1", updates()).await, (vec![(Then::GiveBack, vec![2])], 2));
}

#[test]
fn no_more_are_ours_at_once_than_are_wanted() {
    for (flags, expected) in [("", 64), ("--max 3", 3), ("--max 65", 64), ("--window 9", 9), ("--max 5000000000", 64)] {
        assert_eq!(window(&given(flags)), expected, "{flags}");
    }
}
