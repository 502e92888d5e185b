//! A feed as a server stream: for clients that follow one thing by a plain call.

use std::sync::Arc;

use conclave_proto::v1;
use futures::Stream;
use futures::stream::{self, StreamExt};
use tokio::sync::Notify;
use tonic::Status;

use super::{Element, ElementBody, Feed};
use crate::faults;
use crate::leadership::Leading;
use crate::proposer::Unproposed;

/// Server streams of one shard that are open at once. Each costs a position in the hub and what its connection holds;
/// the bound on calls under way does not count them, because their calls have been answered.
pub const MAX_STREAMS: usize = 8_192;

/// Pulls a feed as fast as its stream is read. The stream ends with the leadership or with the feed's fault.
pub fn stream(
    feed: Feed,
    wake: Arc<Notify>,
    leading: Arc<Leading>,
) -> impl Stream<Item = Result<Element, Status>> + Send + 'static {
    let Ok(place) = leading.plain_streams.clone().try_acquire_owned() else {
        let overloaded = Status::from(faults::unproposed(Unproposed::Overloaded));
        return stream::once(async { Err(overloaded) }).left_stream();
    };
    let pulled = stream::unfold(Some((feed, place)), move |state| {
        let (wake, leading) = (wake.clone(), leading.clone());
        async move {
            let (mut feed, place) = state?;
            loop {
                if leading.ended.is_cancelled() {
                    return Some((Err(faults::Fault::not_leader(None, leading.term.term).into()), None));
                }
                match feed.next() {
                    Ok(Some(element)) => return Some((Ok(element), Some((feed, place)))),
                    Ok(None) => tokio::select! {
                        () = leading.ended.cancelled() => {}
                        () = wake.notified() => {}
                    },
                    Err(fault) => return Some((Err(fault.into()), None)),
                }
            }
        }
    });
    pulled.right_stream()
}

/// The responses of all followed methods have the same three bodies.
macro_rules! response {
    ($response:ident, $body:path) => {
        impl From<Element> for v1::$response {
            fn from(Element { revision, body }: Element) -> Self {
                use $body as Body;
                let body = match body {
                    ElementBody::Events(batch) => Body::EventBatch(batch),
                    ElementBody::Gap(gap) => Body::Gap(gap),
                    ElementBody::Live(live) => Body::Live(live),
                };
                v1::$response { revision, body: Some(body) }
            }
        }
    };
}

response!(WatchRoomResponse, v1::watch_room_response::Body);
response!(FollowMessagesResponse, v1::follow_messages_response::Body);
response!(ReceiveEphemeralResponse, v1::receive_ephemeral_response::Body);
response!(WatchParticipantsResponse, v1::watch_participants_response::Body);
response!(OpenDocumentResponse, v1::open_document_response::Body);
response!(ConsumeItemsResponse, v1::consume_items_response::Body);
