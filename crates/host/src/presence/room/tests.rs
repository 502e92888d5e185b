mod model;

use super::super::lease::RENEWAL_GRAIN_MS;
use super::*;

const START: Timestamp = Timestamp(1_000_000);
const LEASE_MS: u64 = 30_000;
const ADA: SessionId = SessionId([1; 16]);
const BOB: SessionId = SessionId([2; 16]);

fn name(text: &str) -> ParticipantName {
    text.parse().expect("a participant name")
}

fn uid(number: u8) -> ParticipantUid {
    ParticipantUid([number; 16])
}

fn by_session(participant: &str, session: SessionId) -> Attaching {
    Attaching {
        name: name(participant),
        identity: name(participant.split('#').next().expect("a name")),
        attacher: Attacher::Session(session),
        role: "user".into(),
        attributes: BTreeMap::new(),
        lease_ms: LEASE_MS,
        replace: false,
    }
}

fn by_call(participant: &str, uid: Option<ParticipantUid>) -> Attaching {
    Attaching { attacher: Attacher::Call(uid), ..by_session(participant, ADA) }
}

fn with_color(attaching: Attaching, color: &str) -> Attaching {
    Attaching { attributes: BTreeMap::from([("color".into(), color.into())]), ..attaching }
}

fn names(room: &RoomPresence, now: Timestamp) -> Vec<String> {
    room.present(now, None).map(|attached| attached.name.to_string()).collect()
}

/// What is told at `now`: kind, name, and the first byte of the uid.
fn told(room: &mut RoomPresence, now: Timestamp) -> Vec<(ChangeKind, String, u8)> {
    let changes = room.changes(now).into_iter();
    changes.map(|change| (change.kind, change.participant.name.to_string(), change.participant.uid.0[0])).collect()
}

fn over(from: Timestamp) -> Timestamp {
    from.plus_ms(LEASE_MS + RENEWAL_GRAIN_MS)
}

#[test]
fn who_attaches_is_here_until_the_lease_is_over() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    assert_eq!(told(&mut room, START), [(ChangeKind::Attached, "ada".into(), 1)]);
    assert_eq!(names(&room, over(START).plus_ms(0).min(START.plus_ms(LEASE_MS))), ["ada"]);
    assert_eq!(room.next(), Some(over(START)));

    // Nobody finds a ghost, also before it is taken out.
    let end = over(START);
    assert!(names(&room, end).is_empty());
    assert!(room.by_name(end, &name("ada")).is_none() && room.by_uid(end, uid(1)).is_none());
    room.expire(end);
    assert_eq!(told(&mut room, end), [(ChangeKind::LeaseEnded, "ada".into(), 1)]);
    assert_eq!(room.take_moved().0, [ADA]);
    assert!(room.is_forgettable(end.plus_ms(BATCH_INTERVAL_MS)));
}

#[test]
fn a_renewed_lease_runs_from_its_renewal() {
    let mut room = RoomPresence::default();
    let ada = room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    let renewed = START.plus_ms(20_000);
    ada.lease.renew(renewed);
    room.expire(over(START));
    assert_eq!(names(&room, over(START)), ["ada"]);
    assert_eq!(room.checks.first().expect("a look").0, over(renewed));
    room.expire(over(renewed));
    assert!(names(&room, over(renewed)).is_empty() && room.checks.is_empty());
}

#[test]
fn a_shorter_lease_counts_at_once() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    room.attach(START, Attaching { lease_ms: 5_000, ..by_session("ada", ADA) }, uid(2)).expect("renewed");
    assert_eq!(room.checks.iter().next(), Some(&(START.plus_ms(5_000 + RENEWAL_GRAIN_MS), uid(1))));
    assert_eq!(room.checks.len(), 1);
}

#[test]
fn attaching_again_changes_and_keeps_the_uid() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    told(&mut room, START);
    let later = START.plus_ms(1_000);
    let same = room.attach(later, by_session("ada", ADA), uid(2)).expect("renewed");
    assert_eq!((same.uid, same.updated), (uid(1), START));
    assert_eq!(told(&mut room, later), [], "a renewal is no change");
    let red = room.attach(later, with_color(by_session("ada", ADA), "red"), uid(3)).expect("changed");
    assert_eq!((red.uid, red.created, red.updated), (uid(1), START, later));
    assert_eq!(told(&mut room, later), [(ChangeKind::Updated, "ada".into(), 1)]);
}

#[test]
fn a_session_has_one_participant() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    told(&mut room, START);
    let later = START.plus_ms(1_000);
    room.attach(later, by_session("ada#phone", ADA), uid(2)).expect("attached under another name");
    assert_eq!(names(&room, later), ["ada#phone"]);
    let moved = [(ChangeKind::Detached, "ada".into(), 1), (ChangeKind::Attached, "ada#phone".into(), 2)];
    assert_eq!(told(&mut room, later), moved);
}

#[test]
fn a_held_name_is_refused_and_the_holder_stays() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    let refused = [
        by_session("ada", BOB),
        by_call("ada", None),
        by_call("ada", Some(uid(9))),
        // Another identity whose name allows it: `a` may be `a#x`, and so may a token named `a#x`.
        Attaching { identity: name("eve"), replace: true, ..by_session("ada", BOB) },
    ];
    for attaching in refused {
        assert_eq!(room.attach(START, attaching, uid(2)).err(), Some(AttachError::NameHeld));
    }
    assert_eq!(room.by_name(START, &name("ada")).expect("still here").uid, uid(1));
}

#[test]
fn a_refused_attaching_leaves_the_own_participant_where_it_was() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada#1", ADA), uid(1)).expect("attached");
    room.attach(START, by_session("ada#2", BOB), uid(2)).expect("attached");
    assert_eq!(room.attach(START, by_session("ada#2", ADA), uid(3)).err(), Some(AttachError::NameHeld));
    assert_eq!(names(&room, START), ["ada#1", "ada#2"]);
}

#[test]
fn the_same_identity_may_take_a_name_over() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    told(&mut room, START);
    room.take_moved();
    let later = START.plus_ms(1_000);
    room.attach(later, Attaching { replace: true, ..by_session("ada", BOB) }, uid(2)).expect("taken over");
    let (departed, arrived) = room.take_moved();
    assert_eq!((departed, arrived[0].0), (vec![ADA], BOB));
    let changes = room.changes(later);
    assert!(changes.iter().all(|change| change.by == Some(BOB)), "the one who lost the name is told");
    let kinds: Vec<_> = changes.iter().map(|change| (change.kind, change.participant.uid)).collect();
    assert_eq!(kinds, [(ChangeKind::Detached, uid(1)), (ChangeKind::Attached, uid(2))]);
    // The one who lost it has none, and takes nothing away when it leaves.
    room.session_left(later, ADA);
    assert_eq!(names(&room, later), ["ada"]);
}

#[test]
fn a_call_renews_by_uid_and_comes_back_when_it_was_taken_out() {
    let mut room = RoomPresence::default();
    room.attach(START, by_call("ada", None), uid(1)).expect("attached");
    let later = START.plus_ms(20_000);
    let renewed = room.attach(later, by_call("ada", Some(uid(1))), uid(2)).expect("renewed");
    assert_eq!(renewed.uid, uid(1));
    assert_eq!(names(&room, over(START)), ["ada"]);
    let back = room.attach(over(later), by_call("ada", Some(uid(1))), uid(3)).expect("attached anew");
    assert_eq!((back.uid, back.created), (uid(3), over(later)));
}

#[test]
fn a_uid_is_good_for_its_identity_only() {
    let mut room = RoomPresence::default();
    room.attach(START, by_call("ada", None), uid(1)).expect("attached");
    assert_eq!(room.attach(START, by_call("bob", Some(uid(1))), uid(2)).err(), Some(AttachError::UidForeign));
    assert_eq!(room.detach(START, &name("ada"), &name("bob"), Some(uid(1)), None), Err(NotAttached));
    assert_eq!(names(&room, START), ["ada"]);
}

#[test]
fn detaching_needs_the_session_or_the_uid() {
    let mut room = RoomPresence::default();
    let ada = name("ada");
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    assert_eq!(room.detach(START, &ada, &ada, None, None), Err(NotAttached));
    assert_eq!(room.detach(START, &ada, &ada, None, Some(BOB)), Err(NotAttached));
    assert_eq!(room.detach(START, &ada, &ada, Some(uid(2)), Some(ADA)), Err(NotAttached));
    assert_eq!(room.detach(START, &name("bob"), &ada, None, Some(ADA)), Err(NotAttached));
    assert_eq!(room.detach(START, &ada, &ada, None, Some(ADA)), Ok(()));
    assert_eq!(room.detach(START, &ada, &ada, None, Some(ADA)), Err(NotAttached));
    room.attach(START, by_session("ada", ADA), uid(3)).expect("attached again");
    assert_eq!(room.detach(START, &ada, &ada, Some(uid(3)), None), Ok(()));
}

#[test]
fn a_room_is_full_at_its_limit_for_newcomers_only() {
    let mut room = RoomPresence::default();
    let attach = |room: &mut RoomPresence, number: usize, at| {
        let session = SessionId((number as u128).to_be_bytes());
        let fresh = ParticipantUid((number as u128).to_be_bytes());
        room.attach(at, by_session(&format!("p{number}"), session), fresh)
    };
    for number in 0..MAX_PARTICIPANTS {
        attach(&mut room, number, START).expect("room for one more");
    }
    assert_eq!(attach(&mut room, MAX_PARTICIPANTS, START).err(), Some(AttachError::Limit));
    attach(&mut room, 0, START).expect("renewed");
    let renamed = by_session("other", SessionId(0_u128.to_be_bytes()));
    room.attach(START, renamed, uid(255)).expect("under another name");
    let replacing = Attaching { replace: true, ..by_session("p1", ADA) };
    room.attach(START, replacing, uid(254)).expect("in another's place");
    assert_eq!(room.present(START, None).count(), MAX_PARTICIPANTS);
    // Those who are gone take no room, whether anybody looked or not.
    attach(&mut room, MAX_PARTICIPANTS, over(START)).expect("room again");
}

#[test]
fn a_storm_of_changes_is_told_ten_times_a_second_with_the_newest_state() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    assert_eq!(told(&mut room, START).len(), 1);
    let mut batches = Vec::new();
    for ms in 1..=1_000 {
        let now = START.plus_ms(ms);
        room.attach(now, with_color(by_session("ada", ADA), &ms.to_string()), uid(2)).expect("changed");
        let changes = room.changes(now);
        if let [change] = &changes[..] {
            assert_eq!(change.participant.attributes["color"], ms.to_string());
            batches.push(ms);
        }
    }
    assert_eq!(batches, (1..=10).map(|batch| batch * BATCH_INTERVAL_MS).collect::<Vec<_>>());
}

#[test]
fn what_was_undone_before_it_was_told_is_not_told() {
    let mut room = RoomPresence::default();
    let (ada, bob) = (name("ada"), name("bob"));
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    told(&mut room, START);
    // Came and left.
    room.attach(START, by_session("bob", BOB), uid(2)).expect("attached");
    room.detach(START, &bob, &bob, None, Some(BOB)).expect("detached");
    // Changed and changed back.
    room.attach(START, with_color(by_session("ada", ADA), "red"), uid(3)).expect("changed");
    room.attach(START, by_session("ada", ADA), uid(3)).expect("changed back");
    assert!(room.untold.is_empty());
    // Left and came back is another attaching: both are told.
    room.detach(START, &ada, &ada, None, Some(ADA)).expect("detached");
    room.attach(START, by_session("ada", ADA), uid(4)).expect("attached again");
    let now = START.plus_ms(BATCH_INTERVAL_MS);
    assert_eq!(
        told(&mut room, now),
        [(ChangeKind::Detached, "ada".into(), 1), (ChangeKind::Attached, "ada".into(), 4)]
    );
}

#[test]
fn a_lease_that_ended_within_a_batch_is_told_as_such() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    told(&mut room, START);
    let end = over(START);
    // The session is back a moment later, before anybody was told.
    room.attach(end, by_session("ada", ADA), uid(2)).expect("attached anew");
    assert_eq!(
        told(&mut room, end),
        [(ChangeKind::LeaseEnded, "ada".into(), 1), (ChangeKind::Attached, "ada".into(), 2)]
    );
}

fn shown(room: &RoomPresence, listener: Option<SessionId>) -> Vec<(String, u8)> {
    room.told(listener).map(|attached| (attached.name.to_string(), attached.uid.0[0])).collect()
}

#[test]
fn who_begins_to_watch_is_shown_what_was_told() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    told(&mut room, START);
    // Not told yet: one came, one changed, and so nothing is to be taken back if they undo it.
    room.attach(START, by_session("bob", BOB), uid(2)).expect("attached");
    room.attach(START, with_color(by_session("ada", ADA), "red"), uid(3)).expect("changed");
    assert_eq!(shown(&room, None), [("ada".into(), 1)]);
    assert!(room.told(None).all(|attached| attached.attributes.is_empty()));
    // Not told yet either: one left.
    room.session_left(START, ADA);
    assert_eq!(shown(&room, None), [("ada".into(), 1)]);
    let now = START.plus_ms(BATCH_INTERVAL_MS);
    assert_eq!(
        told(&mut room, now),
        [(ChangeKind::Detached, "ada".into(), 1), (ChangeKind::Attached, "bob".into(), 2)]
    );
    assert_eq!(shown(&room, None), [("bob".into(), 2)]);
}

#[test]
fn who_begins_to_watch_is_shown_what_its_own_session_did() {
    let mut room = RoomPresence::default();
    room.attach(START, by_session("ada", ADA), uid(1)).expect("attached");
    assert_eq!(shown(&room, Some(ADA)), [("ada".into(), 1)]);
    told(&mut room, START);
    room.attach(START, with_color(by_session("ada", ADA), "red"), uid(2)).expect("changed");
    assert!(room.told(Some(ADA)).all(|attached| attached.attributes["color"] == "red"));
    room.session_left(START, ADA);
    assert_eq!((shown(&room, Some(ADA)), shown(&room, Some(BOB))), (vec![], vec![("ada".into(), 1)]));
    // Another takes the name: ada is told of that, and still not that she left.
    let bob = Attaching { name: name("ada"), ..by_session("bob", BOB) };
    room.attach(START, bob, uid(3)).expect("the name is free");
    assert_eq!(shown(&room, Some(ADA)), []);
    assert_eq!(shown(&room, Some(BOB)), [("ada".into(), 3)]);
    assert_eq!(shown(&room, None), [("ada".into(), 1)]);
}
