//! The effects of an entry.
//!
//! Effects of the running command wait until it is kept; those of a refused one are never seen. What a queue says of
//! itself is said once an entry, however many commands changed it.

use std::collections::{BTreeMap, BTreeSet};

use conclave_types::{ParticipantName, QueueName, RoomUid, SessionId};

use crate::keys::QueueNumber;
use crate::{Effect, Origin};

/// Who runs a command, as watchers are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Actor {
    pub participant: Option<ParticipantName>,
    pub session: Option<SessionId>,
}

impl Actor {
    pub fn of(origin: &Origin) -> Self {
        match origin {
            Origin::Host => Actor::default(),
            Origin::Call { participant } | Origin::Request { participant, .. } => {
                Actor { participant: Some(participant.clone()), session: None }
            }
            Origin::Session(frame) => Actor { participant: Some(frame.owner.clone()), session: Some(frame.session) },
        }
    }

    /// Who did two things together: only what holds for both.
    fn and(&mut self, other: &Actor) {
        if self.participant != other.participant {
            self.participant = None;
        }
        if self.session != other.session {
            self.session = None;
        }
    }
}

type QueueId = (RoomUid, QueueNumber);

#[derive(Default)]
pub(super) struct Effects {
    kept: Vec<Effect>,
    queues_woken: BTreeSet<(RoomUid, QueueName)>,
    consumers_freed: BTreeSet<(RoomUid, QueueName, String)>,
    queues_changed: BTreeMap<QueueId, Actor>,
    of_command: Vec<Effect>,
    changed_by_command: Vec<QueueId>,
}

impl Effects {
    pub fn emit(&mut self, effect: Effect) {
        self.of_command.push(effect);
    }

    pub fn queue_changed(&mut self, room: RoomUid, queue: QueueNumber) {
        self.changed_by_command.push((room, queue));
    }

    /// Forgets what the running command did.
    pub fn drop_command(&mut self) {
        self.of_command.clear();
        self.changed_by_command.clear();
    }

    /// The running command counts: its effects become the entry's, each queue and
    /// consumer woken once.
    pub fn keep_command(&mut self, actor: &Actor) {
        for effect in self.of_command.drain(..) {
            let is_new = match &effect {
                Effect::QueueReady { room, queue } => self.queues_woken.insert((*room, queue.clone())),
                Effect::ConsumerFreed { room, queue, consumer } => {
                    self.consumers_freed.insert((*room, queue.clone(), consumer.clone()))
                }
                _ => true,
            };
            if is_new {
                self.kept.push(effect);
            }
        }
        for queue in self.changed_by_command.drain(..) {
            self.queues_changed.entry(queue).and_modify(|others| others.and(actor)).or_insert_with(|| actor.clone());
        }
    }

    /// The queues that the entry changed, and who did.
    pub fn take_queues_changed(&mut self) -> BTreeMap<QueueId, Actor> {
        std::mem::take(&mut self.queues_changed)
    }

    /// Hands out the entry's effects with `changes` of queues: first what watchers are told, in order of revision.
    pub fn take(&mut self, changes: Vec<Effect>) -> Vec<Effect> {
        self.queues_woken.clear();
        self.consumers_freed.clear();
        let mut effects = std::mem::take(&mut self.kept);
        effects.extend(changes);
        effects.sort_by_key(|effect| match effect {
            Effect::Changed(change) => (false, change.revision),
            _ => (true, conclave_types::Revision(0)),
        });
        effects
    }
}
