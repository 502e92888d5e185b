use conclave_types::{AttachmentNumber, Revision, RoomNumber, RoomUid, SessionId};

use super::audit::audit;
use super::harness::*;
use crate::{Effect, Operation, Origin, Outcome, Refusal};

const SUPERSEDED: Outcome = Outcome::Refused(Refusal::Superseded);
const FOREIGN: Outcome = Outcome::Refused(Refusal::SessionForeign);
const NOT_APPLIED: Outcome = Outcome::Refused(Refusal::NotApplied);

fn attached(attachment: u64) -> Outcome {
    Outcome::Attached { attachment: AttachmentNumber(attachment) }
}

#[test]
fn a_frame_sent_again_gets_its_kept_outcome() {
    let mut shard = Shard::with_room();
    let first = shard.run(frame(1, 0, send(&["a"])));
    let refused = shard.run(frame(3, 0, ack(&[(9, 9)])));
    assert_eq!(refused, Outcome::Refused(Refusal::DeliveryUnknown { index: 0 }));
    let both = shard.entry(vec![frame(4, 0, send(&["b"])), frame(4, 0, send(&["b"])), frame(5, 0, send(&["c"]))]);
    assert_eq!(both.outcomes[0], both.outcomes[1]);
    for (sequence, outcome) in [(1, &first), (3, &refused), (4, &both.outcomes[0]), (5, &both.outcomes[2])] {
        assert_eq!(&shard.run(frame(sequence, 0, send(&["again"]))), outcome, "sequence {sequence}");
    }
    assert_eq!(shard.sizes(), (3, 0));
    audit(&shard.tables);
}

#[test]
fn a_lower_sequence_without_an_outcome_was_not_applied() {
    let mut shard = Shard::with_room();
    shard.run(frame(5, 0, send(&["a"])));
    assert_eq!(shard.run(frame(4, 0, send(&["b"]))), NOT_APPLIED);
    assert_eq!(shard.run(frame(0, 0, send(&["b"]))), NOT_APPLIED);
    assert_eq!(shard.sizes(), (1, 0));
}

#[test]
fn outcomes_are_forgotten_once_the_client_holds_them() {
    let mut shard = Shard::with_room();
    shard.run(frame(1, 0, send(&["a"])));
    shard.entry(vec![frame(2, 0, send(&["b"])), frame(3, 0, send(&["c"]))]);
    let kept = shard.tables.dump().len();
    shard.run(frame(4, 2, ack(&[(9, 9)])));
    assert_eq!(shard.tables.dump().len(), kept, "one key went, one came; the pair is needed for 3");
    assert_eq!(shard.run(frame(1, 0, send(&["a"]))), NOT_APPLIED);
    assert!(matches!(shard.run(frame(3, 0, send(&["c"]))), Outcome::Sent { first_item: 3, .. }));
    shard.run(frame(4, 4, ack(&[(9, 9)])));
    assert_eq!(shard.tables.dump().len(), kept - 2);
    audit(&shard.tables);
}

#[test]
fn a_client_cannot_hold_the_reply_of_a_frame_it_is_sending() {
    let mut shard = Shard::with_room();
    let first = shard.run(frame(1, 0, send(&["a"])));
    let ahead = shard.run(frame(2, 99, send(&["b"])));
    assert_eq!(shard.run(frame(2, 0, send(&["b"]))), ahead);
    assert_ne!(shard.run(frame(1, 0, send(&["a"]))), first, "it said it holds this one");
}

#[test]
fn a_client_that_never_acknowledges_is_bounded() {
    let mut shard = Shard::with_room();
    for entry in 0..20u64 {
        let frames = (1..=256).map(|index| frame(entry * 256 + index, 0, ack(&[(9, 9)])));
        shard.entry(frames.collect());
    }
    audit(&shard.tables);
    let kept: Vec<_> = [1, 20 * 256].map(|sequence| shard.run(frame(sequence, 0, ack(&[(9, 9)])))).into();
    assert_eq!(kept, [NOT_APPLIED, Outcome::Refused(Refusal::QueueNotFound)]);
}

#[test]
fn an_older_attachment_is_fenced_off() {
    let mut shard = Shard::with_room();
    shard.run(frame_of(1, 1, 0, send(&["a"])));
    let applied = shard.entry(vec![attach(1, START, true).into()]);
    assert_eq!(applied.outcomes, [attached(2)]);
    let attachment = AttachmentNumber(2);
    assert_eq!(applied.effects, [Effect::SessionAttached { room: ROOM, session: SESSION, attachment }]);
    let before = shard.tables.dump();
    assert_eq!(shard.run(frame_of(1, 2, 0, send(&["b"]))), SUPERSEDED);
    assert_eq!(shard.run(frame_of(1, 1, 0, send(&["a"]))), SUPERSEDED);
    assert_eq!(shard.tables.dump(), before);
    assert!(matches!(shard.run(frame_of(2, 2, 0, send(&["b"]))), Outcome::Sent { first_item: 2, .. }));
    assert_eq!(shard.run(attach(1, START, true)), SUPERSEDED);
    assert_eq!(shard.run(attach(2, START, false)), attached(3));
}

#[test]
fn a_token_whose_welcome_was_lost_attaches_again() {
    let mut shard = Shard::with_room();
    shard.run(frame_of(1, 1, 0, send(&["a"])));
    assert_eq!(shard.run(attach(1, START, true)), attached(2));
    assert_eq!(shard.run(attach(1, START, true)), attached(3));
    assert_eq!(shard.run(frame_of(2, 2, 0, send(&["b"]))), SUPERSEDED);
    assert!(matches!(shard.run(frame_of(3, 2, 0, send(&["b"]))), Outcome::Sent { first_item: 2, .. }));
    assert_eq!(shard.run(attach(2, START, true)), SUPERSEDED);
}

#[test]
fn a_session_belongs_to_one_participant_and_one_room() {
    let mut shard = Shard::with_room();
    shard.run(create_room("other"));
    shard.run(frame(1, 0, send(&["a"])));
    let mut foreign = frame(2, 0, send(&["b"]));
    let Origin::Session(session_frame) = &mut foreign.origin else { unreachable!() };
    session_frame.owner = "bob".parse().unwrap();
    assert_eq!(shard.run(foreign), FOREIGN);

    let mut elsewhere = send(&["b"]);
    super::rooms::set_room(&mut elsewhere, RoomUid { slot: SLOT, number: RoomNumber(2) });
    assert_eq!(shard.run(frame(2, 0, elsewhere)), FOREIGN);

    let mut other = attach(1, START, false);
    let Operation::AttachSession { owner, .. } = &mut other else { unreachable!() };
    *owner = "bob".parse().unwrap();
    assert_eq!(shard.run(other), FOREIGN);
}

#[test]
fn a_resumed_session_without_a_record_fences_its_old_stream() {
    let mut shard = Shard::with_room();
    shard.wait(MINUTE);
    assert_eq!(shard.run(attach(1, START, true)), attached(2));
    assert_eq!(shard.run(frame_of(1, 1, 0, send(&["a"]))), SUPERSEDED);
    assert!(matches!(shard.run(frame_of(2, 1, 0, send(&["a"]))), Outcome::Sent { first_item: 1, .. }));
    audit(&shard.tables);
}

#[test]
fn an_expired_session_is_renewed_only_if_nothing_is_lost() {
    let mut shard = Shard::with_room();
    shard.run(frame(1, 0, send(&["a"])));
    let recorded = shard.tables.dump().len();
    shard.wait(10 * MINUTE);
    shard.advance();
    assert_eq!(shard.tables.dump().len(), recorded - 3, "record, outcomes and due entry are gone");
    assert_eq!(shard.run(attach(1, START, true)), Outcome::Refused(Refusal::SessionExpired));
    assert_eq!(shard.run(attach(1, START, false)), Outcome::SessionUnknown);
}

#[test]
fn frames_and_attaching_keep_a_session_alive() {
    let mut shard = Shard::with_room();
    shard.run(frame(1, 0, send(&["a"])));
    for (step, command) in
        [frame(2, 1, send(&["b"])), frame(2, 1, send(&["b"])), attach(1, START, true).into()].into_iter().enumerate()
    {
        shard.wait(9 * MINUTE);
        shard.run(command);
        shard.advance();
        audit(&shard.tables);
        assert!(shard.next_due().is_some_and(|due| due <= shard.now + 10 * MINUTE), "step {step}");
    }
    assert!(matches!(shard.run(frame_of(2, 2, 1, send(&["b"]))), Outcome::Sent { first_item: 2, .. }));
    shard.wait(20 * MINUTE);
    shard.advance();
    shard.advance();
    assert_eq!(shard.run(attach(2, START, true)), Outcome::Refused(Refusal::SessionExpired));
}

#[test]
fn a_token_as_old_as_the_record_always_finds_it() {
    let mut shard = Shard::with_room();
    shard.run(frame(1, 0, send(&["a"])));
    shard.wait(9 * MINUTE);
    let issued = shard.now;
    assert_eq!(shard.run(attach(1, START, false)), attached(2));
    shard.wait(10 * MINUTE - 1);
    shard.advance();
    assert_eq!(shard.run(attach(2, issued, true)), attached(3), "the record is there");
    assert_eq!(shard.run(frame_of(3, 1, 0, send(&["a"]))), sent(1, 2));
}

#[test]
fn leasing_and_timers_in_a_session_are_not_kept() {
    let mut shard = Shard::with_room();
    shard.run(frame(1, 0, lease(1)));
    assert!(matches!(shard.run(frame(1, 0, send(&["a"]))), Outcome::Sent { first_item: 1, .. }));
}

#[test]
fn sessions_do_not_share_sequences() {
    let mut shard = Shard::with_room();
    let mut other = frame(1, 0, send(&["b"]));
    let Origin::Session(session_frame) = &mut other.origin else { unreachable!() };
    session_frame.session = SessionId([6; 16]);
    let applied = shard.entry(vec![frame(1, 0, send(&["a"])), other, frame(2, 0, send(&["c"]))]);
    assert_eq!(applied.outcomes.len(), 3);
    assert_eq!(shard.sizes(), (3, 0));
    audit(&shard.tables);
}

#[test]
fn a_session_that_deletes_its_room_leaves_nothing() {
    let mut shard = Shard::with_room();
    let applied = shard.entry(vec![frame(1, 0, send(&["a"])), frame(2, 0, delete_room()), advance(512).into()]);
    assert_eq!(applied.outcomes[1], Outcome::RoomDeleted { revision: Revision(3) });
    shard.advance();
    assert_eq!(shard.tables.dump().len(), 1, "the shard header alone");
}
