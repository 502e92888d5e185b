//! What ends a stream from the host's side, whatever the stream is doing: the leadership is over, a newer attachment took
//! the session, or the room is gone.

use std::sync::Arc;

use conclave_room::Refusal;
use conclave_types::RoomName;
use tokio::sync::watch;

use super::attach::Attachment;
use crate::faults::{self, Fault};
use crate::leadership::Leading;
use crate::shard::Shard;
use crate::streams::EndReason;

pub struct Life {
    shard: Arc<Shard>,
    leading: Arc<Leading>,
    room_name: RoomName,
    ended: watch::Receiver<Option<EndReason>>,
}

impl Life {
    pub fn begin(shard: &Arc<Shard>, leading: &Arc<Leading>, at: &Attachment) -> Life {
        let ended = leading.streams.join(at.session, at.room, at.attachment);
        Life { shard: shard.clone(), leading: leading.clone(), room_name: at.room_name.clone(), ended }
    }

    /// Waits for the end and says why it came.
    pub async fn over(&mut self) -> Fault {
        tokio::select! {
            biased;
            () = self.leading.ended.cancelled() => return self.shard.not_leader(),
            _ = self.ended.changed() => {}
        }
        match *self.ended.borrow() {
            Some(EndReason::RoomDeleted) => faults::room_not_found(&self.room_name),
            Some(EndReason::Superseded) | None => Refusal::Superseded.into(),
        }
    }

    /// What a future brings, unless the end comes first; the future is dropped then.
    pub async fn lasting<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            fault = self.over() => Err(fault),
            done = work => Ok(done),
        }
    }
}
