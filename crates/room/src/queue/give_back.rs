//! Takes back deliveries that led to nothing: a consumer gives them back or rejects them, or their lease has ended.

use conclave_types::{DeliveryId, QueueName, Revision, RoomUid, Timestamp};

use super::ack::{Judged, judge_all};
use super::{DeadReason, Failure, FailureKind, InFlight, Queue};
use crate::state::State;
use crate::{Outcome, TableError};

/// What a consumer says of its deliveries.
pub(crate) struct GiveBack {
    pub room: RoomUid,
    pub queue: QueueName,
    pub deliveries: Vec<DeliveryId>,
    /// How long the items wait; none for what the queue does with failures.
    pub delay_ms: Option<u64>,
    /// They are no use to anybody.
    pub reject: bool,
    pub reason: String,
}

impl GiveBack {
    pub fn apply(self, state: &mut State<'_>) -> Result<Outcome, TableError> {
        let mut queue = match Queue::find(state, self.room, &self.queue)? {
            Ok(queue) => queue,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let Judged { results, current } = match judge_all(state, &queue, &self.deliveries)? {
            Ok(judged) => judged,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        if current.is_empty() {
            let revision = state.revision(self.room)?;
            return Ok(Outcome::Settled { results, revision });
        }
        let revision = state.next_revision(self.room)?;
        let kind = if self.reject { FailureKind::Rejected } else { FailureKind::Nacked };
        for (item, in_flight) in current {
            queue.end_lease(state, item, &in_flight)?;
            let failed = Failed { kind, reason: self.reason.clone(), delay_ms: self.delay_ms };
            queue.take_back(state, item, in_flight, failed, revision)?;
        }
        queue.store_at(state, revision)?;
        Ok(Outcome::Settled { results, revision })
    }
}

/// How a delivery failed, and how long the item is to wait.
pub(crate) struct Failed {
    pub kind: FailureKind,
    pub reason: String,
    pub delay_ms: Option<u64>,
}

impl Queue {
    /// Puts an item whose delivery failed back where it waits, or among the dead letters. Its lease has been ended.
    pub fn take_back(
        &mut self,
        state: &mut State<'_>,
        number: u64,
        in_flight: InFlight,
        failed: Failed,
        revision: Revision,
    ) -> Result<(), TableError> {
        let clock = state.clock();
        let InFlight { consumer, is_special, mut past, .. } = in_flight;
        let Failed { kind, reason, delay_ms } = failed;
        past.add(Failure { attempt: past.attempts, consumer, time: clock, kind, reason });
        self.header.totals.failed += 1;

        let max_attempts = self.header.settings.max_attempts;
        let tried_enough = max_attempts > 0 && past.attempts >= max_attempts;
        let may_die = kind == FailureKind::Rejected || tried_enough;
        let mut priority = 0;
        if may_die || is_special {
            let item = self.item(state, number)?;
            if item.is_over(clock) {
                self.header.totals.expired += 1;
                return self.remove(state, number, &item);
            }
            if may_die && let Some(dead_letters) = self.dead_letters(state, &item)? {
                let reason = match kind {
                    FailureKind::Rejected => DeadReason::Rejected,
                    FailureKind::LeaseEnded | FailureKind::Nacked => DeadReason::TooManyAttempts,
                };
                return self.bury(state, number, item, past, reason, dead_letters, revision);
            }
            priority = item.priority;
        }
        match delay_ms.unwrap_or_else(|| self.header.settings.backoff(past.attempts)) {
            0 => self.make_ready(state, number, priority, &past),
            wait => self.delay(state, number, Timestamp(clock.0.saturating_add(wait)), &past),
        }
    }
}
