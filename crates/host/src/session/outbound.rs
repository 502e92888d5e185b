//! The host's side of a session stream: frames in a bounded queue, and behind them the status that ends the stream.
//!
//! The status has room of its own, so a stream can end although its client does not read.

use conclave_proto::v1;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::faults::Fault;

/// Frames that may wait for the connection.
const FRAMES: usize = 1_024;

/// Where a session puts its frames.
pub struct Outbound {
    frames: mpsc::Sender<v1::ServerFrame>,
    last: oneshot::Sender<Option<Status>>,
}

/// A frame that found no place.
pub enum Unsent {
    /// The client reads too slowly; the frame is given back.
    Full(Box<v1::ServerFrame>),
    /// Nobody reads any more.
    Gone,
}

/// A stream's two ends.
pub fn outbound() -> (Outbound, impl Stream<Item = Result<v1::ServerFrame, Status>> + Send) {
    let (frames, waiting) = mpsc::channel(FRAMES);
    let (last, last_word) = oneshot::channel();
    let end = stream::once(last_word).filter_map(|last: Result<Option<Status>, _>| async {
        match last {
            Ok(status) => status.map(Err),
            // The session was dropped in the middle of its work: that must not look like a proper end.
            Err(_) => Some(Err(Fault::no_leader().into())),
        }
    });
    (Outbound { frames, last }, ReceiverStream::new(waiting).map(Ok).chain(end))
}

impl Outbound {
    /// Puts a frame in the queue if there is room.
    pub fn try_send(&self, frame: v1::ServerFrame) -> Result<(), Unsent> {
        self.frames.try_send(frame).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(frame) => Unsent::Full(Box::new(frame)),
            mpsc::error::TrySendError::Closed(_) => Unsent::Gone,
        })
    }

    /// Waits for room. Dropped at the await, it has sent nothing.
    pub async fn send(&self, frame: v1::ServerFrame) -> Result<(), Unsent> {
        self.frames.send(frame).await.map_err(|_| Unsent::Gone)
    }

    /// Returns once nobody reads any more.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }

    /// Ends the stream behind the frames that wait: with this status, or properly without one.
    pub fn end(self, status: Option<Status>) {
        // Nobody may be reading any more.
        let _ = self.last.send(status);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;
    use tonic::Code;

    use super::*;

    fn all(stream: impl Stream<Item = Result<v1::ServerFrame, Status>>) -> Vec<Result<u64, Code>> {
        let all = stream.map(|next| next.map(|frame| frame.reply_to).map_err(|status| status.code())).collect();
        pin!(all).now_or_never().expect("the stream has ended")
    }

    fn frame(reply_to: u64) -> v1::ServerFrame {
        v1::ServerFrame { reply_to, ..Default::default() }
    }

    #[test]
    fn the_last_word_needs_no_room_and_comes_behind_the_frames() {
        let (outbound, stream) = outbound();
        for number in 0..FRAMES as u64 {
            assert!(outbound.try_send(frame(number)).is_ok());
        }
        assert!(matches!(outbound.try_send(frame(0)), Err(Unsent::Full(_))));
        outbound.end(Some(Status::aborted("over")));
        let seen = all(stream);
        assert_eq!(seen.len(), FRAMES + 1);
        assert_eq!(seen.last(), Some(&Err(Code::Aborted)));
    }

    #[test]
    fn a_session_that_is_dropped_does_not_end_properly() {
        let (outbound, stream) = outbound();
        drop(outbound);
        assert_eq!(all(stream), [Err(Code::Unavailable)]);
    }

    #[test]
    fn a_proper_end_has_no_status() {
        let (outbound, stream) = outbound();
        assert!(outbound.try_send(frame(7)).is_ok());
        outbound.end(None);
        assert_eq!(all(stream), [Ok(7)]);
    }
}
