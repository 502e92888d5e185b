//! Frames and how they are packed into messages.

use conclave_proto::internal::v1::{
    MuxMessage, PeerClock, PeerFrame, PeerHello, PeerRefusal, PeerRefusalReason, peer_frame::Content,
};
use conclave_raft::{PeerCall, PeerError};
use conclave_types::{GroupId, ReplicaId, Timestamp};
use tokio::sync::mpsc;

/// What a frame costs beside its body: tags and the scalar fields at their longest.
const FRAME_OVERHEAD_BYTES: usize = 64;

pub(crate) fn call_to_frame(call: PeerCall, deadline_ms: u32) -> PeerFrame {
    PeerFrame {
        group: call.group.0.into(),
        replica_to: call.to.0,
        replica_from: call.from.0,
        request_id: 0,
        kind: call.kind,
        deadline_ms,
        content: Some(Content::Body(call.body)),
    }
}

/// Reads a call; an answer where a call belongs, or a group out of range, is the sender's fault.
pub(crate) fn call_from_frame(frame: PeerFrame) -> Result<PeerCall, PeerError> {
    let group = u16::try_from(frame.group).map_err(|_| PeerError::Refused(format!("no group {}", frame.group)))?;
    let Some(Content::Body(body)) = frame.content else {
        return Err(PeerError::Refused("a call has a body".into()));
    };
    Ok(PeerCall {
        group: GroupId(group),
        to: ReplicaId(frame.replica_to),
        from: ReplicaId(frame.replica_from),
        kind: frame.kind,
        body,
    })
}

/// The answer to `request_id`.
pub(crate) fn answer_frame(request_id: u64, answer: Result<bytes::Bytes, PeerError>) -> PeerFrame {
    let content = match answer {
        Ok(body) => Content::Body(body),
        Err(error) => Content::Refusal(refusal(error)),
    };
    PeerFrame { request_id, content: Some(content), ..PeerFrame::default() }
}

pub(crate) fn answer_from_frame(frame: PeerFrame) -> Result<bytes::Bytes, PeerError> {
    match frame.content {
        Some(Content::Body(body)) => Ok(body),
        Some(Content::Refusal(refusal)) => Err(match refusal.reason() {
            PeerRefusalReason::Busy => PeerError::Busy,
            PeerRefusalReason::Unavailable => PeerError::Unreachable(refusal.message),
            PeerRefusalReason::Refused | PeerRefusalReason::Unspecified => PeerError::Refused(refusal.message),
        }),
        None => Err(PeerError::Refused("an answer without content".into())),
    }
}

fn refusal(error: PeerError) -> PeerRefusal {
    let reason = match error {
        PeerError::Refused(_) => PeerRefusalReason::Refused,
        PeerError::Busy => PeerRefusalReason::Busy,
        PeerError::Unreachable(_) | PeerError::Timeout(_) => PeerRefusalReason::Unavailable,
    };
    let message = match error {
        PeerError::Refused(message) | PeerError::Unreachable(message) => message,
        PeerError::Busy | PeerError::Timeout(_) => error.to_string(),
    };
    PeerRefusal { reason: reason.into(), message }
}

pub(crate) fn hello_message(hello: PeerHello, own: Timestamp) -> MuxMessage {
    MuxMessage { hello: Some(hello), frames: Vec::new(), clock: Some(PeerClock { wall_ms: own.0 }) }
}

pub(crate) fn clock_message(own: Timestamp) -> MuxMessage {
    MuxMessage { hello: None, frames: Vec::new(), clock: Some(PeerClock { wall_ms: own.0 }) }
}

/// Packs `first` and whatever else waits in `queue`, up to `limit` bytes. `into_frame` may drop an element.
pub(crate) fn pack<T>(
    first: T,
    queue: &mut mpsc::Receiver<T>,
    limit: usize,
    mut into_frame: impl FnMut(T) -> Option<PeerFrame>,
) -> MuxMessage {
    let mut frames = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(element) = next {
        if let Some(frame) = into_frame(element) {
            bytes += frame_bytes(&frame);
            frames.push(frame);
        }
        next = if bytes < limit { queue.try_recv().ok() } else { None };
    }
    MuxMessage { hello: None, frames, clock: None }
}

/// An upper bound of the frame's encoded size.
fn frame_bytes(frame: &PeerFrame) -> usize {
    FRAME_OVERHEAD_BYTES
        + match &frame.content {
            Some(Content::Body(body)) => body.len(),
            Some(Content::Refusal(refusal)) => refusal.message.len(),
            None => 0,
        }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_message_takes_what_waits_until_it_is_full() {
        let (tx, mut rx) = mpsc::channel(16);
        for _ in 0..9 {
            tx.try_send(Bytes::from(vec![0; 1_000])).unwrap();
        }
        let first = rx.try_recv().unwrap();
        let message = pack(first, &mut rx, 4_000, |body| Some(answer_frame(1, Ok(body))));
        assert_eq!(message.frames.len(), 4);
        assert_eq!(rx.len(), 5);
    }

    #[test]
    fn refusals_keep_their_meaning() {
        for error in
            [PeerError::Busy, PeerError::Refused("no replica".into()), PeerError::Unreachable("stopped".into())]
        {
            let back = answer_from_frame(answer_frame(1, Err(error.clone()))).unwrap_err();
            assert_eq!(back.to_string(), error.to_string());
        }
    }

    #[test]
    fn a_call_survives_the_wire_and_a_bad_group_does_not() {
        let call = PeerCall {
            group: GroupId(7),
            to: ReplicaId(2),
            from: ReplicaId(1),
            kind: 3,
            body: Bytes::from_static(b"x"),
        };
        let frame = call_to_frame(call, 250);
        let back = call_from_frame(frame.clone()).unwrap();
        assert_eq!((back.group, back.to, back.from, back.kind), (GroupId(7), ReplicaId(2), ReplicaId(1), 3));
        assert!(call_from_frame(PeerFrame { group: 70_000, ..frame.clone() }).is_err());
        assert!(call_from_frame(PeerFrame { content: None, ..frame }).is_err());
    }
}
