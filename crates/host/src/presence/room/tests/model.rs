//! Any acts in any order, against what watchers were told and when each participant last gave a sign of life.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Attach {
        session: u8,
        name: u8,
        color: u8,
        lease_s: u64,
        replace: bool,
    },
    Call {
        name: u8,
        uid: u8,
        color: u8,
        replace: bool,
    },
    Detach {
        session: u8,
        name: u8,
    },
    Leave {
        session: u8,
    },
    Renew {
        session: u8,
    },
    Pass {
        ms: u64,
    },
    Tell,
    /// Somebody joins the channel, and is shown who is here so many acts later.
    Watch {
        later: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let attach = (0..4_u8, 0..5_u8, 0..3_u8, 5..9_u64, any::<bool>())
        .prop_map(|(session, name, color, lease_s, replace)| Act::Attach { session, name, color, lease_s, replace });
    let call = (0..5_u8, any::<u8>(), 0..3_u8, any::<bool>()).prop_map(|(name, uid, color, replace)| Act::Call {
        name,
        uid,
        color,
        replace,
    });
    prop_oneof![
        4 => attach,
        2 => call,
        1 => (0..4_u8, 0..5_u8).prop_map(|(session, name)| Act::Detach { session, name }),
        1 => (0..4_u8).prop_map(|session| Act::Leave { session }),
        2 => (0..4_u8).prop_map(|session| Act::Renew { session }),
        2 => prop_oneof![0..150_u64, 0..9_000_u64].prop_map(|ms| Act::Pass { ms }),
        3 => Just(Act::Tell),
        1 => (0..4_usize).prop_map(|later| Act::Watch { later }),
    ]
}

/// What a watcher knows who came later: what it was shown, and what was told since it joined.
#[derive(Debug)]
struct LateWatcher {
    /// Acts until it is shown who is here.
    shown_in: usize,
    /// Told since it joined.
    heard: Vec<Change>,
    known: Option<Known>,
}

impl LateWatcher {
    fn look(&mut self, room: &RoomPresence) {
        match self.shown_in.checked_sub(1) {
            Some(left) => self.shown_in = left,
            None if self.known.is_none() => self.known = Some(known(room.told(None))),
            None => {}
        }
    }

    /// Takes the changes to what it was shown, some of which that may hold already.
    fn end(mut self, room: &RoomPresence) -> Known {
        let mut known = self.known.take().unwrap_or_else(|| known(room.told(None)));
        for Change { kind, participant, .. } in self.heard {
            let name = participant.name.to_string();
            match kind {
                ChangeKind::Attached | ChangeKind::Updated => {
                    known.insert(name, (participant.uid, participant.attributes.clone()));
                }
                ChangeKind::Detached | ChangeKind::LeaseEnded => {
                    known.remove(&name);
                }
            }
        }
        known
    }
}

fn known<'a>(participants: impl Iterator<Item = &'a Arc<Attached>>) -> Known {
    participants.map(|one| (one.name.to_string(), (one.uid, one.attributes.clone()))).collect()
}

/// Participants by name.
type Known = BTreeMap<String, (ParticipantUid, BTreeMap<String, String>)>;

/// What a watcher knows who only hears what is told.
#[derive(Debug, Default)]
struct Watcher {
    known: Known,
    last_batch: Option<Timestamp>,
}

impl Watcher {
    fn hear(&mut self, now: Timestamp, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        if let Some(last) = self.last_batch.replace(now) {
            assert!(now.since_ms(last) >= BATCH_INTERVAL_MS, "two batches in {} ms", now.since_ms(last));
        }
        for Change { kind, participant, .. } in changes {
            let name = participant.name.to_string();
            let state = (participant.uid, participant.attributes.clone());
            match kind {
                ChangeKind::Attached => assert!(self.known.insert(name, state).is_none(), "came twice"),
                ChangeKind::Updated => {
                    let before = self.known.insert(name, state).expect("only who is here changes");
                    assert_eq!(before.0, participant.uid);
                }
                ChangeKind::Detached | ChangeKind::LeaseEnded => {
                    let before = self.known.remove(&name).expect("only who is here leaves");
                    assert_eq!(before.0, participant.uid);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn nobody_outstays_a_lease_names_have_one_holder_and_watchers_end_up_right(
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let mut room = RoomPresence::default();
        let mut watcher = Watcher::default();
        let mut late: Vec<LateWatcher> = Vec::new();
        let mut now = START;
        let mut fresh = 0;
        // The last sign of life of each participant, and its lease.
        let mut signs: HashMap<ParticipantUid, (Timestamp, u64)> = HashMap::new();
        for act in acts {
            fresh += 1;
            match act {
                Act::Attach { session, name, color, lease_s, replace } => {
                    let attaching = by_session(&format!("ada#{name}"), SessionId([session; 16]));
                    let attaching = Attaching { lease_ms: lease_s * 1_000, replace, ..attaching };
                    let attaching = with_color(attaching, &color.to_string());
                    if let Ok(attached) = room.attach(now, attaching, uid(fresh)) {
                        signs.insert(attached.uid, (now, lease_s * 1_000));
                    }
                }
                Act::Call { name, uid: known, color, replace } => {
                    let attaching = Attaching { replace, ..by_call(&format!("ada#{name}"), Some(uid(known))) };
                    if let Ok(attached) = room.attach(now, with_color(attaching, &color.to_string()), uid(fresh)) {
                        signs.insert(attached.uid, (now, LEASE_MS));
                    }
                }
                Act::Detach { session, name: detached } => {
                    let detached = name(&format!("ada#{detached}"));
                    let done = room.detach(now, &detached, &name("ada"), None, Some(SessionId([session; 16])));
                    prop_assert!(done.is_err() || room.by_name(now, &detached).is_none());
                }
                Act::Leave { session } => room.session_left(now, SessionId([session; 16])),
                Act::Renew { session } => {
                    if let Some(name) = room.by_session.get(&SessionId([session; 16])) {
                        let attached = &room.by_name[name].attached;
                        if !attached.lease.is_over(now) {
                            signs.get_mut(&attached.uid).expect("attached once").0 = now;
                        }
                        attached.lease.renew(now);
                    }
                }
                Act::Pass { ms } => now = now.plus_ms(ms),
                Act::Tell => {
                    room.expire(now);
                    let changes = room.changes(now);
                    late.iter_mut().for_each(|late| late.heard.extend(changes.iter().cloned()));
                    watcher.hear(now, changes);
                }
                Act::Watch { later } => late.push(LateWatcher { shown_in: later, heard: Vec::new(), known: None }),
            }
            prop_assert_eq!(&watcher.known, &known(room.told(None)), "shown is what was told");
            late.iter_mut().for_each(|late| late.look(&room));
            check(&room, now, &signs)?;
        }
        now = now.plus_ms(BATCH_INTERVAL_MS);
        room.expire(now);
        let changes = room.changes(now);
        late.iter_mut().for_each(|late| late.heard.extend(changes.iter().cloned()));
        watcher.hear(now, changes);
        let present = known(room.present(now, None));
        prop_assert_eq!(&watcher.known, &present);
        for late in late {
            prop_assert_eq!(&late.end(&room), &present, "a watcher that came later");
        }
        prop_assert!(room.untold.is_empty());
    }
}

fn check(
    room: &RoomPresence,
    now: Timestamp,
    signs: &HashMap<ParticipantUid, (Timestamp, u64)>,
) -> Result<(), TestCaseError> {
    let mut sessions = HashSet::new();
    for attached in room.present(now, None) {
        let (sign, lease_ms) = signs[&attached.uid];
        prop_assert!(now < sign.plus_ms(lease_ms + RENEWAL_GRAIN_MS), "a ghost: {attached:?} at {now:?}");
        if let Some(session) = attached.session {
            prop_assert!(sessions.insert(session), "two participants of one session");
        }
    }
    for (name, entry) in &room.by_name {
        let attached = &entry.attached;
        prop_assert_eq!(room.by_uid.get(&attached.uid), Some(name));
        prop_assert!(attached.session.is_none_or(|session| room.by_session.get(&session) == Some(name)));
        prop_assert!(room.checks.contains(&(entry.check_at, attached.uid)));
        prop_assert!(entry.check_at <= attached.lease.end(now));
        // Alive is found: nobody is taken out before its lease is over.
        let (sign, lease_ms) = signs[&attached.uid];
        prop_assert!(now >= sign.plus_ms(lease_ms) || room.by_name(now, name).is_some());
    }
    let count = room.by_name.len();
    prop_assert_eq!((room.by_uid.len(), room.checks.len()), (count, count));
    let with_session = room.by_name.values().filter(|entry| entry.attached.session.is_some()).count();
    prop_assert_eq!(room.by_session.len(), with_session);
    Ok(())
}
