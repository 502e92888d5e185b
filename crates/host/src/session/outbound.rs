//! The host's side of a session stream: frames in a bounded queue, and behind them the status that ends the stream.
//!
//! The status has room of its own, so a stream can end although its client does not read. Events take one of a few
//! places, each held until the stream takes its frame: a client that does not read costs [`EVENT_FRAMES`] frames of events
//! at most, and its replies still find room.

use std::sync::Arc;

use conclave_proto::v1;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::faults::Fault;

/// Replies that may wait for the connection.
const REPLIES: usize = 1_024;
/// Frames of events that may wait beside them, each of 64 KiB or of one event.
pub const EVENT_FRAMES: usize = 16;

/// A place for a frame of events.
pub type Place = OwnedSemaphorePermit;

struct Waiting {
    frame: v1::ServerFrame,
    place: Option<Place>,
}

/// Where a session puts its frames.
pub struct Outbound {
    frames: mpsc::Sender<Waiting>,
    places: Arc<Semaphore>,
    last: oneshot::Sender<Option<Status>>,
}

/// A frame that found no room.
pub enum Unsent {
    /// The client reads too slowly; the frame is given back.
    Full(Box<Unqueued>),
    /// Nobody reads any more.
    Gone,
}

/// A frame to be sent once there is room.
pub struct Unqueued(Waiting);

/// A stream's two ends.
pub fn outbound() -> (Outbound, impl Stream<Item = Result<v1::ServerFrame, Status>> + Send) {
    let (frames, waiting) = mpsc::channel(REPLIES + EVENT_FRAMES);
    let (last, last_word) = oneshot::channel();
    let end = stream::once(last_word).filter_map(|last: Result<Option<Status>, _>| async {
        match last {
            Ok(status) => status.map(Err),
            // The session was dropped in the middle of its work: that must not look like a proper end.
            Err(_) => Some(Err(Fault::no_leader().into())),
        }
    });
    let taken = ReceiverStream::new(waiting).map(|Waiting { frame, place }| {
        drop(place);
        Ok(frame)
    });
    let places = Arc::new(Semaphore::new(EVENT_FRAMES));
    (Outbound { frames, places, last }, taken.chain(end))
}

impl Outbound {
    /// Puts a reply in the queue if there is room.
    pub fn try_send(&self, frame: v1::ServerFrame) -> Result<(), Unsent> {
        self.try_queue(Waiting { frame, place: None })
    }

    /// Puts a frame of events in the queue.
    pub fn try_send_events(&self, frame: v1::ServerFrame, place: Place) -> Result<(), Unsent> {
        self.try_queue(Waiting { frame, place: Some(place) })
    }

    fn try_queue(&self, waiting: Waiting) -> Result<(), Unsent> {
        self.frames.try_send(waiting).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(waiting) => Unsent::Full(Box::new(Unqueued(waiting))),
            mpsc::error::TrySendError::Closed(_) => Unsent::Gone,
        })
    }

    /// Waits for room. Dropped at the await, it has sent nothing.
    pub async fn send(&self, Unqueued(waiting): Unqueued) -> Result<(), Unsent> {
        self.frames.send(waiting).await.map_err(|_| Unsent::Gone)
    }

    /// A place for a frame of events, if one is free.
    pub fn try_place(&self) -> Option<Place> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Waits for a place. Dropped at the await, it has taken none.
    pub async fn place(&self) -> Option<Place> {
        self.places.clone().acquire_owned().await.ok()
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
        let room = REPLIES + EVENT_FRAMES;
        for number in 0..room as u64 {
            assert!(outbound.try_send(frame(number)).is_ok());
        }
        assert!(matches!(outbound.try_send(frame(0)), Err(Unsent::Full(_))));
        outbound.end(Some(Status::aborted("over")));
        let seen = all(stream);
        assert_eq!(seen.len(), room + 1);
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

    #[test]
    fn events_have_a_few_places_that_are_free_again_once_their_frames_are_taken() {
        let (outbound, stream) = outbound();
        let mut stream = pin!(stream);
        for number in 0..EVENT_FRAMES as u64 {
            let place = outbound.try_place().expect("a place");
            assert!(outbound.try_send_events(frame(number), place).is_ok());
        }
        assert!(outbound.try_place().is_none());
        assert!(outbound.try_send(frame(99)).is_ok());
        assert!(stream.next().now_or_never().is_some());
        assert!(outbound.try_place().is_some());
    }
}
