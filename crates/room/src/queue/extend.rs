//! Extends leases: a consumer that needs longer says so. Participants see nothing of it.

use conclave_types::{DeliveryId, QueueName, RoomUid};

use super::ack::{Judged, judge_all};
use super::{InFlight, Queue};
use crate::codec::Record;
use crate::keys::QueueTimer;
use crate::state::State;
use crate::{Outcome, TableError};

pub(crate) fn extend(
    state: &mut State<'_>,
    room: RoomUid,
    name: &QueueName,
    deliveries: &[DeliveryId],
    lease_ms: u64,
) -> Result<Outcome, TableError> {
    let mut queue = match Queue::find(state, room, name)? {
        Ok(queue) => queue,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let Judged { results, current } = match judge_all(state, &queue, deliveries)? {
        Ok(judged) => judged,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let lease_ms = if lease_ms == 0 { queue.header.settings.lease_ms } else { lease_ms };
    let deadline = state.clock().plus_ms(lease_ms);
    for (item, in_flight) in current {
        let extended = InFlight { deadline, ..in_flight };
        state.overlay.put(state.keys.in_flight(room, queue.number, item), extended.encode());
        // A lease may also be made shorter.
        queue.watch(state, QueueTimer::Leases, extended.ends());
    }
    queue.store_unseen(state);
    let revision = state.revision(room)?;
    Ok(Outcome::Settled { results, revision })
}
