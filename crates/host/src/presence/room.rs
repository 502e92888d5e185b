//! Who is attached to one room, and what its watchers must still be told. Pure: the caller passes the time and new uids.
//!
//! ```text
//!            attach                    detach, end of the session, another takes the name
//!  (absent) ────────► attached ──────────────────────────────────────────────► (absent)
//!                      │  ▲  │                       lease over
//!                      └──┘  └───────────────────────────────────────────────► (absent)
//!             attach again, renew
//! ```
//!
//! Changes are told in batches, the first at once and then at most one in [`BATCH_INTERVAL_MS`]. A batch says for each
//! name how what was last told became what is now: changes of one participant in that time become one with the newest
//! state, and who came and left within it is not told at all. Who begins to watch is shown what was told, not what is:
//! only from there do the later changes lead to who is here.
//!
//! Invariants: a name has one holder, a session one participant. Nobody is found whose lease is over. Bounds:
//! [`MAX_PARTICIPANTS`], and as many names again that are left and not yet told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use conclave_types::limits::MAX_PARTICIPANTS;
use conclave_types::{ParticipantName, SessionId, Timestamp};

use super::lease::Lease;
use crate::hub::{Holder, ParticipantUid};

/// At most ten batches a second to each watcher, however busy the room is.
pub const BATCH_INTERVAL_MS: u64 = 100;

/// A participant.
#[derive(Debug, Clone)]
pub struct Attached {
    pub name: ParticipantName,
    pub uid: ParticipantUid,
    /// The `name` of the token that attached it.
    pub identity: ParticipantName,
    /// The session that attached it, if one did.
    pub session: Option<SessionId>,
    pub role: String,
    pub attributes: BTreeMap<String, String>,
    pub created: Timestamp,
    /// When role or attributes last changed.
    pub updated: Timestamp,
    pub lease: Arc<Lease>,
}

impl Attached {
    pub fn holder(&self) -> Holder {
        Holder { uid: self.uid, session: self.session }
    }

    fn looks_like(&self, other: &Attached) -> bool {
        self.uid == other.uid && self.role == other.role && self.attributes == other.attributes
    }
}

/// Who asks to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attacher {
    Session(SessionId),
    /// A unary call, with the uid of an earlier answer if it has one.
    Call(Option<ParticipantUid>),
}

impl Attacher {
    fn session(&self) -> Option<SessionId> {
        match self {
            Attacher::Session(session) => Some(*session),
            Attacher::Call(_) => None,
        }
    }
}

/// A checked request to attach.
#[derive(Debug, Clone)]
pub struct Attaching {
    pub name: ParticipantName,
    pub identity: ParticipantName,
    pub attacher: Attacher,
    pub role: String,
    pub attributes: BTreeMap<String, String>,
    pub lease_ms: u64,
    /// Take the name over from another attaching of the same identity.
    pub replace: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    #[error("another participant holds the name")]
    NameHeld,
    #[error("the room has as many participants as it takes")]
    Limit,
    #[error("the uid is another identity's")]
    UidForeign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the participant is not attached by this caller")]
pub struct NotAttached;

/// What watchers are told.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: ChangeKind,
    /// After the change; before it for one that left.
    pub participant: Arc<Attached>,
    /// The session that did it.
    pub by: Option<SessionId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Attached,
    Updated,
    Detached,
    LeaseEnded,
}

#[derive(Debug)]
struct Entry {
    attached: Arc<Attached>,
    /// Where it stands in `checks`.
    check_at: Timestamp,
}

/// A name whose present holder watchers do not know yet.
#[derive(Debug)]
struct Untold {
    /// As it was last told.
    told: Option<Arc<Attached>>,
    /// How the one that was told left, and by whom.
    left: Option<(ChangeKind, Option<SessionId>)>,
    /// Who did the newest change.
    by: Option<SessionId>,
}

#[derive(Debug, Default)]
pub struct RoomPresence {
    by_name: BTreeMap<ParticipantName, Entry>,
    by_uid: HashMap<ParticipantUid, ParticipantName>,
    by_session: HashMap<SessionId, ParticipantName>,
    /// When each participant's lease is looked at next. A renewal does not move it: the look finds the lease renewed
    /// and sets the next, so renewals are free and a lease costs one look in its length.
    checks: BTreeSet<(Timestamp, ParticipantUid)>,
    untold: BTreeMap<ParticipantName, Untold>,
    /// No batch before.
    quiet_until: Timestamp,
    /// Sessions that lost their participant, and those that got one, since these were last taken.
    departed: Vec<SessionId>,
    arrived: Vec<(SessionId, Arc<Lease>)>,
}

impl RoomPresence {
    /// Attaches, changes or renews a participant; `fresh` becomes its uid if it is new. One that the caller had under
    /// another name is detached, and is another participant from then on.
    pub fn attach(
        &mut self,
        now: Timestamp,
        attaching: Attaching,
        fresh: ParticipantUid,
    ) -> Result<Arc<Attached>, AttachError> {
        self.expire(now);
        let own = self.own(&attaching)?;
        match self.by_name.get(&attaching.name).map(|entry| entry.attached.clone()) {
            Some(present) if own.as_ref() == Some(&present.name) => return Ok(self.change(now, &present, attaching)),
            Some(present) if !attaching.replace || present.identity != attaching.identity => {
                return Err(AttachError::NameHeld);
            }
            Some(_) => {}
            None if own.is_none() && self.by_name.len() >= MAX_PARTICIPANTS => return Err(AttachError::Limit),
            None => {}
        }
        let by = attaching.attacher.session();
        for leaving in own.into_iter().chain([attaching.name.clone()]) {
            self.take_out(&leaving, ChangeKind::Detached, by);
        }
        Ok(self.put_in(now, attaching, fresh))
    }

    /// The name under which the caller is attached already.
    fn own(&self, attaching: &Attaching) -> Result<Option<ParticipantName>, AttachError> {
        let uid = match attaching.attacher {
            Attacher::Session(session) => return Ok(self.by_session.get(&session).cloned()),
            Attacher::Call(uid) => uid,
        };
        let Some(name) = uid.and_then(|uid| self.by_uid.get(&uid)) else { return Ok(None) };
        match self.by_name.get(name) {
            Some(entry) if entry.attached.identity != attaching.identity => Err(AttachError::UidForeign),
            _ => Ok(Some(name.clone())),
        }
    }

    /// Takes a participant out for its session, or for its identity with its uid.
    pub fn detach(
        &mut self,
        now: Timestamp,
        name: &ParticipantName,
        identity: &ParticipantName,
        uid: Option<ParticipantUid>,
        session: Option<SessionId>,
    ) -> Result<(), NotAttached> {
        self.expire(now);
        let attached = &self.by_name.get(name).ok_or(NotAttached)?.attached;
        let allowed = match uid {
            Some(uid) => uid == attached.uid && *identity == attached.identity,
            None => session.is_some() && session == attached.session,
        };
        if !allowed {
            return Err(NotAttached);
        }
        self.take_out(name, ChangeKind::Detached, session);
        Ok(())
    }

    /// A session ended properly.
    pub fn session_left(&mut self, now: Timestamp, session: SessionId) {
        self.expire(now);
        if let Some(name) = self.by_session.get(&session).cloned() {
            self.take_out(&name, ChangeKind::Detached, Some(session));
        }
    }

    /// Takes out whose lease is over.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some(&(at, uid)) = self.checks.first()
            && at <= now
        {
            self.checks.pop_first();
            let Some(name) = self.by_uid.get(&uid).cloned() else { continue };
            let Some(entry) = self.by_name.get_mut(&name) else { continue };
            if entry.attached.lease.is_over(now) {
                self.take_out(&name, ChangeKind::LeaseEnded, None);
            } else {
                entry.check_at = entry.attached.lease.end(now);
                self.checks.insert((entry.check_at, uid));
            }
        }
    }

    /// What watchers are to be told now; nothing while the last batch is too recent.
    pub fn changes(&mut self, now: Timestamp) -> Vec<Change> {
        if self.untold.is_empty() || now < self.quiet_until {
            return Vec::new();
        }
        self.quiet_until = now.plus_ms(BATCH_INTERVAL_MS);
        let mut changes = Vec::with_capacity(self.untold.len());
        for (name, Untold { told, left, by }) in std::mem::take(&mut self.untold) {
            let present = self.by_name.get(&name).map(|entry| entry.attached.clone());
            match (told, left) {
                (Some(_), None) => {
                    changes.extend(present.map(|participant| Change { kind: ChangeKind::Updated, participant, by }));
                }
                (told, left) => {
                    let left = told.zip(left);
                    changes.extend(left.map(|(participant, (kind, by))| Change { kind, participant, by }));
                    changes.extend(present.map(|participant| Change { kind: ChangeKind::Attached, participant, by }));
                }
            }
        }
        changes
    }

    /// When [`RoomPresence::expire`] or [`RoomPresence::changes`] have something to do, or the room may be forgotten.
    pub fn next(&self) -> Option<Timestamp> {
        let telling = !self.untold.is_empty() || self.by_name.is_empty();
        let check = self.checks.first().map(|(at, _)| *at);
        telling.then_some(self.quiet_until).into_iter().chain(check).min()
    }

    /// Nobody is here, all is told, and a new beginning would not be told too soon.
    pub fn is_forgettable(&self, now: Timestamp) -> bool {
        self.by_name.is_empty() && self.untold.is_empty() && self.quiet_until <= now
    }

    /// Who is here, by name, from behind a name.
    pub fn present(&self, now: Timestamp, after: Option<&ParticipantName>) -> impl Iterator<Item = &Arc<Attached>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let entries = self.by_name.range::<ParticipantName, _>((from, Unbounded));
        entries.map(|(_, entry)| &entry.attached).filter(move |attached| !attached.lease.is_over(now))
    }

    /// Who is here as far as a listener knows who has been told everything so far, by name. What is told later goes on
    /// from here. What the listening session did itself it is never told, so that counts as known to it.
    pub fn told(&self, listener: Option<SessionId>) -> impl Iterator<Item = &Arc<Attached>> {
        let names: BTreeSet<_> = self.by_name.keys().chain(self.untold.keys()).collect();
        names.into_iter().filter_map(move |name| {
            let present = || self.by_name.get(name).map(|entry| &entry.attached);
            let is_own = |by: Option<SessionId>| by.is_some() && by == listener;
            match self.untold.get(name) {
                None => present(),
                Some(untold) if is_own(untold.by) => present(),
                Some(Untold { left: Some((_, by)), .. }) if is_own(*by) => None,
                Some(untold) => untold.told.as_ref(),
            }
        })
    }

    pub fn by_name(&self, now: Timestamp, name: &ParticipantName) -> Option<&Arc<Attached>> {
        let attached = &self.by_name.get(name)?.attached;
        (!attached.lease.is_over(now)).then_some(attached)
    }

    pub fn by_uid(&self, now: Timestamp, uid: ParticipantUid) -> Option<&Arc<Attached>> {
        self.by_name(now, self.by_uid.get(&uid)?)
    }

    /// Sessions that lost their participant since the last call, and then those that got one, with its lease.
    pub fn take_moved(&mut self) -> (Vec<SessionId>, Vec<(SessionId, Arc<Lease>)>) {
        (std::mem::take(&mut self.departed), std::mem::take(&mut self.arrived))
    }

    fn change(&mut self, now: Timestamp, present: &Attached, attaching: Attaching) -> Arc<Attached> {
        present.lease.set(attaching.lease_ms, now);
        let same = present.role == attaching.role && present.attributes == attaching.attributes;
        let changed = Arc::new(Attached {
            role: attaching.role,
            attributes: attaching.attributes,
            updated: if same { present.updated } else { now },
            ..present.clone()
        });
        if !same {
            self.begin_telling(&present.name, attaching.attacher.session());
        }
        self.place(now, changed.clone());
        self.cancel_telling(&present.name);
        changed
    }

    fn put_in(&mut self, now: Timestamp, attaching: Attaching, uid: ParticipantUid) -> Arc<Attached> {
        let session = attaching.attacher.session();
        let attached = Arc::new(Attached {
            name: attaching.name,
            uid,
            identity: attaching.identity,
            session,
            role: attaching.role,
            attributes: attaching.attributes,
            created: now,
            updated: now,
            lease: Arc::new(Lease::new(attaching.lease_ms, now)),
        });
        self.begin_telling(&attached.name, session);
        self.by_uid.insert(uid, attached.name.clone());
        if let Some(session) = session {
            self.by_session.insert(session, attached.name.clone());
            self.arrived.push((session, attached.lease.clone()));
        }
        self.place(now, attached.clone());
        attached
    }

    fn place(&mut self, now: Timestamp, attached: Arc<Attached>) {
        let check_at = attached.lease.end(now);
        let uid = attached.uid;
        if let Some(before) = self.by_name.insert(attached.name.clone(), Entry { attached, check_at }) {
            self.checks.remove(&(before.check_at, before.attached.uid));
        }
        self.checks.insert((check_at, uid));
    }

    fn take_out(&mut self, name: &ParticipantName, kind: ChangeKind, by: Option<SessionId>) {
        if !self.by_name.contains_key(name) {
            return;
        }
        self.begin_telling(name, by);
        let Some(Entry { attached, check_at }) = self.by_name.remove(name) else { return };
        attached.lease.finish();
        self.checks.remove(&(check_at, attached.uid));
        self.by_uid.remove(&attached.uid);
        if let Some(session) = attached.session {
            self.by_session.remove(&session);
            self.departed.push(session);
        }
        if let Some(untold) = self.untold.get_mut(name)
            && untold.told.as_ref().is_some_and(|told| told.uid == attached.uid)
        {
            untold.left = Some((kind, by));
        }
        self.cancel_telling(name);
    }

    /// Before a name's holder changes.
    fn begin_telling(&mut self, name: &ParticipantName, by: Option<SessionId>) {
        let told = || self.by_name.get(name).map(|entry| entry.attached.clone());
        self.untold.entry(name.clone()).or_insert_with(|| Untold { told: told(), left: None, by }).by = by;
    }

    /// After a name's holder changed: what is again as it was told needs no telling.
    fn cancel_telling(&mut self, name: &ParticipantName) {
        let Some(untold) = self.untold.get(name) else { return };
        let present = self.by_name.get(name).map(|entry| &entry.attached);
        let same = match (&untold.told, present) {
            (None, None) => true,
            (Some(told), Some(present)) => told.looks_like(present),
            _ => false,
        };
        if same {
            self.untold.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
