use conclave_types::Revision;

use super::audit::audit;
use super::harness::*;
use crate::{MessageLogView, MessageRetention, Outcome, Refusal, read};

const SECOND: u64 = 1_000;

fn at_most(max_messages: u64) -> MessageRetention {
    MessageRetention { max_messages, ..MessageRetention::default() }
}

fn log(shard: &Shard) -> MessageLogView {
    read::message_log(&shard.tables, GROUP, ROOM).unwrap()
}

fn messages(shard: &Shard, after: u64) -> Vec<(u64, String)> {
    let messages = read::messages(&shard.tables, GROUP, ROOM, Revision(after), 1_000, usize::MAX).unwrap();
    messages.into_iter().map(|m| (m.revision.0, String::from_utf8(m.message.into()).unwrap())).collect()
}

fn named(messages: &[(u64, &str)]) -> Vec<(u64, String)> {
    messages.iter().map(|(revision, text)| (*revision, (*text).to_owned())).collect()
}

#[test]
fn messages_are_followed_from_any_revision() {
    let mut shard = Shard::with_room();
    assert_eq!(
        log(&shard),
        MessageLogView {
            count: 0,
            bytes: 0,
            trimmed_to: Revision(0),
            last: Revision(0),
            retention: MessageRetention::default(),
        }
    );
    assert_eq!(shard.run(post("one")), Outcome::Posted { revision: Revision(2) });
    shard.run(send(&["x"]));
    shard.wait(4);
    assert_eq!(shard.run(frame(1, 0, post("two"))), Outcome::Posted { revision: Revision(4) });
    assert_eq!(messages(&shard, 0), named(&[(2, "one"), (4, "two")]));
    assert_eq!(messages(&shard, 2), named(&[(4, "two")]));
    assert_eq!((messages(&shard, 4), messages(&shard, u64::MAX)), (vec![], vec![]));
    let view = log(&shard);
    assert_eq!((view.count, view.bytes, view.last), (2, 6, Revision(4)));

    let read = |limit, max_bytes| read::messages(&shard.tables, GROUP, ROOM, Revision(0), limit, max_bytes).unwrap();
    assert_eq!((read(1, 1_000).len(), read(9, 1).len(), read(9, 1_000).len()), (1, 1, 2));
    let both = read(9, 1_000);
    assert_eq!((both[0].session, both[1].session, both[1].time.0), (None, Some(SESSION), START + 4));
    assert_eq!(both[1].sender.as_str(), "ann");
    assert_eq!(shard.next_due().map(|due| due > START + MINUTE), Some(true), "nothing but the session waits for time");
    audit(&shard.tables);
}

#[test]
fn a_log_keeps_as_many_messages_as_it_may() {
    let mut shard = Shard::with_room();
    shard.run(retain(at_most(2)));
    for text in ["a", "b", "c"] {
        shard.run(post(text));
    }
    assert_eq!(shard.next_due(), Some(START + SECOND), "it may exceed for a moment");
    assert_eq!(messages(&shard, 0).len(), 3);
    shard.wait(SECOND);
    let revision = shard.revision();
    shard.advance();
    assert_eq!(messages(&shard, 0), named(&[(4, "b"), (5, "c")]));
    assert_eq!((log(&shard).trimmed_to, log(&shard).count, log(&shard).bytes), (Revision(3), 2, 2));
    assert_eq!(shard.revision(), revision, "participants see no change");
    assert_eq!(shard.next_due(), None);
    audit(&shard.tables);
}

#[test]
fn a_log_keeps_as_many_bytes_as_it_may() {
    let mut shard = Shard::with_room();
    shard.run(retain(MessageRetention { max_bytes: 5, ..MessageRetention::default() }));
    for text in ["aaa", "bb", "c"] {
        shard.run(post(text));
    }
    shard.wait(SECOND);
    shard.advance();
    assert_eq!(messages(&shard, 0), named(&[(4, "bb"), (5, "c")]));
    shard.run(post("ffffff"));
    shard.wait(SECOND);
    shard.advance();
    assert_eq!(messages(&shard, 0), [], "one that is over the limit by itself goes too");
    assert_eq!((log(&shard).trimmed_to, log(&shard).last), (Revision(6), Revision(6)));
    audit(&shard.tables);
}

#[test]
fn messages_go_when_they_are_too_old() {
    let mut shard = Shard::with_room();
    shard.run(post("before"));
    assert_eq!(shard.next_due(), None);
    shard.run(retain(MessageRetention { max_age_ms: Some(MINUTE), ..MessageRetention::default() }));
    assert_eq!(shard.next_due(), Some(START + MINUTE));
    shard.wait(30 * SECOND);
    shard.run(post("after"));
    assert_eq!(shard.next_due(), Some(START + MINUTE), "one due entry a room");
    shard.wait(30 * SECOND);
    shard.advance();
    assert_eq!(messages(&shard, 0), named(&[(4, "after")]));
    assert_eq!(shard.next_due(), Some(START + 90 * SECOND));
    audit(&shard.tables);
    shard.wait(30 * SECOND);
    shard.advance();
    assert_eq!((messages(&shard, 0), shard.next_due()), (vec![], None));
    shard.run(post("last"));
    assert_eq!(shard.next_due(), Some(START + 150 * SECOND));
    audit(&shard.tables);
}

#[test]
fn what_becomes_too_long_does_not_wait_for_its_age() {
    let mut shard = Shard::with_room();
    shard.run(retain(MessageRetention { max_age_ms: Some(60 * MINUTE), ..at_most(1) }));
    shard.run(post("a"));
    assert_eq!(shard.next_due(), Some(START + 60 * MINUTE));
    shard.run(post("b"));
    assert_eq!(shard.next_due(), Some(START + SECOND));
    shard.wait(SECOND);
    shard.advance();
    assert_eq!(shard.next_due(), Some(START + 60 * MINUTE));
    audit(&shard.tables);
}

#[test]
fn a_log_that_keeps_less_shrinks_in_steps() {
    let mut shard = Shard::with_room();
    for _ in 0..10 {
        shard.entry((0..120).map(|_| post("x").into()).collect());
    }
    shard.run(retain(at_most(10)));
    shard.wait(SECOND);
    assert_eq!(shard.run(advance(2_000)), Outcome::Advanced { more: true });
    assert_eq!((log(&shard).count, messages(&shard, 0).len()), (1_200 - 512, 1_200 - 512));
    audit(&shard.tables);
    shard.advance();
    assert_eq!((log(&shard).count, messages(&shard, 0).len()), (10, 10));
    assert_eq!(shard.next_due(), None);
}

#[test]
fn a_log_that_may_keep_more_is_left_alone() {
    let mut shard = Shard::with_room();
    shard.run(retain(at_most(1)));
    shard.entry(vec![post("a").into(), post("b").into()]);
    shard.run(retain(at_most(2)));
    assert_eq!(shard.next_due(), None);
    assert_eq!(read::room(&shard.tables, GROUP, ROOM).unwrap().unwrap().retention, at_most(2));
    shard.wait(SECOND);
    shard.advance();
    assert_eq!(log(&shard).count, 2);
    audit(&shard.tables);
}

#[test]
fn the_log_of_a_deleted_room_goes_with_it() {
    let mut shard = Shard::with_room();
    shard.run(retain(MessageRetention { max_age_ms: Some(MINUTE), ..at_most(1) }));
    shard.entry(vec![post("a").into(), post("b").into()]);
    shard.run(delete_room());
    assert_eq!(shard.run(post("c")), Outcome::Refused(Refusal::RoomNotFound));
    shard.wait(SECOND);
    shard.advance();
    audit(&shard.tables);
    assert_eq!(shard.next_due(), None);
    assert_eq!(shard.tables.dump().len(), 1, "only the shard's header is left");
}
