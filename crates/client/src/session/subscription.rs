//! What a session listens to.
//!
//! A subscription has a bounded buffer. While it is full the session does not read its stream, which stops the host:
//! its events wait there, and so do the session's replies. Whoever reads a subscription must therefore not wait for a
//! reply of the same session in between; give the two to different tasks, or to different sessions.
//!
//! Invariant: a subscription's cursor never passes an update that was not put into its buffer, so what is asked for
//! again after a loss begins where the reader's updates end.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use conclave_proto::v1::client_frame::Body as Request;
use conclave_proto::v1::{ClientFrame, Credit, ErrorReason, Subscribe, Unsubscribe};
use conclave_types::limits::MAX_SUBSCRIPTIONS;
use prost::Message;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tonic::Code;

use super::shared::Shared;
use crate::{ClientError, Update};

/// Updates that wait for the reader of one subscription. Enough to hide a pause of its task at full speed; with the
/// largest frames 64 MiB.
const BUFFERED_UPDATES: usize = 64;

/// What a session told its subscription.
pub type Told = Result<Update, ClientError>;

/// A subscription of a session. Dropping it ends it.
///
/// At most 64 updates wait for its reader; while they do, the session reads nothing, replies neither.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    number: u64,
    updates: mpsc::Receiver<Told>,
    cursor: u64,
    ended: bool,
}

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, number: u64, updates: mpsc::Receiver<Told>) -> Self {
        Subscription { shared, number, updates, cursor: 0, ended: false }
    }

    /// The next update. None after the end: the session was closed, or an error said why. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Told> {
        if self.ended {
            return None;
        }
        let told = self.updates.recv().await;
        match &told {
            Some(Ok(update)) => self.cursor = self.cursor.max(update.revision),
            Some(Err(_)) => self.ended = true,
            None => {
                self.ended = true;
                return self.shared.failure().map(Err);
            }
        }
        told
    }

    /// Lets a consumer of a queue hold so many deliveries more. Means nothing to other subscriptions.
    pub fn credit(&self, events: u32) {
        self.shared.credit(self.number, events);
    }

    /// The newest revision that an update carried: where another subscription may go on. 0 before the first.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.unsubscribe(self.number);
    }
}

/// The subscriptions of one session, by the numbers that it gave them.
#[derive(Debug, Default)]
pub struct Subscriptions {
    last_number: u64,
    live: BTreeMap<u64, Record>,
}

#[derive(Debug)]
struct Record {
    request: Subscribe,
    /// The newest revision that its updates carried.
    cursor: u64,
    state: State,
    reader: mpsc::Sender<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its Subscribe is in the window.
    Asked,
    /// As asked, but its reader has gone: it is ended once it has begun.
    Abandoned,
    Begun,
}

/// An update for which its reader has no room yet.
#[derive(Debug)]
pub struct Overflow {
    pub reader: mpsc::Sender<Told>,
    pub told: Told,
}

impl Subscriptions {
    /// Takes one up. Returns its number, and what its updates come out of.
    pub fn add(&mut self, request: Subscribe) -> Result<(u64, mpsc::Receiver<Told>), ClientError> {
        if self.live.len() >= MAX_SUBSCRIPTIONS {
            let message = format!("a session has at most {MAX_SUBSCRIPTIONS} subscriptions");
            return Err(ClientError::new(Code::ResourceExhausted, Some(ErrorReason::SubscriptionLimit), message));
        }
        self.last_number += 1;
        let (reader, updates) = mpsc::channel(BUFFERED_UPDATES);
        self.live.insert(self.last_number, Record { request, cursor: 0, state: State::Asked, reader });
        Ok((self.last_number, updates))
    }

    /// Notes that the host has begun it. Returns the frame that ends it if nobody wants it any more.
    pub fn begin(&mut self, number: u64) -> Option<Bytes> {
        let record = self.live.get_mut(&number)?;
        if record.state == State::Abandoned {
            self.live.remove(&number);
            return Some(unsubscribe(number));
        }
        record.state = State::Begun;
        None
    }

    /// The reader has gone. Returns the frame that ends the subscription if there is something to end already.
    pub fn abandon(&mut self, number: u64) -> Option<Bytes> {
        let record = self.live.get_mut(&number)?;
        if record.state == State::Begun {
            self.live.remove(&number);
            return Some(unsubscribe(number));
        }
        record.state = State::Abandoned;
        None
    }

    /// Remembers credit for the next gateway. Returns the frame that gives it to this one.
    pub fn credit(&mut self, number: u64, events: u32) -> Option<Bytes> {
        let record = self.live.get_mut(&number)?;
        record.request.credit = record.request.credit.saturating_add(events);
        Some(encoded(number, Request::Credit(Credit { events })))
    }

    pub fn remove(&mut self, number: u64) {
        self.live.remove(&number);
    }

    pub fn clear(&mut self) {
        self.live.clear();
    }

    /// Hands an update to its reader, and gives it back if there is no room. An error is a subscription's last.
    pub fn hand(&mut self, number: u64, told: Told) -> Option<Overflow> {
        let record = self.live.get_mut(&number)?;
        match &told {
            Ok(update) => record.cursor = record.cursor.max(update.revision),
            Err(_) => {
                let record = self.live.remove(&number)?;
                return overflow(&record.reader, told);
            }
        }
        overflow(&record.reader, told)
    }

    /// The frames that take up all subscriptions at a gateway which does not know them, by number.
    pub fn renewals(&self) -> impl Iterator<Item = Bytes> {
        self.live.iter().filter(|(_, record)| record.state == State::Begun).map(|(number, record)| {
            let mut request = record.request.clone();
            request.after_revision = request.after_revision.max(record.cursor);
            if request.resource.contains("/documents/") {
                // One that was deleted meanwhile is not to be made again.
                request.create = Some(false);
            }
            subscribe(*number, request)
        })
    }
}

fn overflow(reader: &mpsc::Sender<Told>, told: Told) -> Option<Overflow> {
    match reader.try_send(told) {
        Err(TrySendError::Full(told)) => Some(Overflow { reader: reader.clone(), told }),
        // A reader that has gone is about to say so.
        Ok(()) | Err(TrySendError::Closed(_)) => None,
    }
}

fn subscribe(number: u64, request: Subscribe) -> Bytes {
    encoded(number, Request::Subscribe(request))
}

fn unsubscribe(number: u64) -> Bytes {
    encoded(number, Request::Unsubscribe(Unsubscribe {}))
}

fn encoded(subscription: u64, body: Request) -> Bytes {
    ClientFrame { subscription, body: Some(body), ..Default::default() }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use conclave_proto::v1::Live;

    use super::*;
    use crate::UpdateKind;

    fn update(revision: u64) -> Told {
        Ok(Update { revision, kind: UpdateKind::Live(Live::default()) })
    }

    fn request(resource: &str) -> Subscribe {
        Subscribe { resource: resource.to_owned(), after_revision: 3, ..Default::default() }
    }

    fn renewed(subscriptions: &Subscriptions) -> Vec<(u64, Subscribe)> {
        let frames = subscriptions.renewals().map(|frame| ClientFrame::decode(frame).expect("a frame"));
        let subscribe = |frame: ClientFrame| match frame.body {
            Some(Request::Subscribe(subscribe)) => (frame.subscription, subscribe),
            other => panic!("{other:?}"),
        };
        frames.map(subscribe).collect()
    }

    #[test]
    fn what_was_begun_is_asked_for_again_after_its_cursor() {
        let mut subscriptions = Subscriptions::default();
        let (log, _updates) = subscriptions.add(request("rooms/lab/messages")).expect("room for it");
        let (document, _updates_too) = subscriptions.add(request("rooms/lab/documents/a")).expect("room for it");
        assert_eq!(renewed(&subscriptions), [], "what was not answered is sent again by the window");
        assert_eq!((subscriptions.begin(log), subscriptions.begin(document)), (None, None));
        assert!(subscriptions.hand(log, update(9)).is_none());
        assert!(subscriptions.hand(log, update(0)).is_none());
        let [(_, first), (_, second)] = &renewed(&subscriptions)[..] else { panic!("two") };
        assert_eq!((first.after_revision, first.create), (9, None));
        assert_eq!((second.after_revision, second.create), (3, Some(false)));
    }

    #[test]
    fn what_is_abandoned_before_it_began_is_ended_once_it_has() {
        let mut subscriptions = Subscriptions::default();
        let (number, _updates) = subscriptions.add(request("rooms/lab")).expect("room for it");
        assert_eq!(subscriptions.abandon(number), None);
        assert_eq!(subscriptions.begin(number), Some(unsubscribe(number)));
        assert_eq!(subscriptions.abandon(number), None, "it is gone");
    }

    #[test]
    fn a_full_buffer_gives_the_update_back_and_an_error_is_the_last() {
        let mut subscriptions = Subscriptions::default();
        let (number, mut updates) = subscriptions.add(request("rooms/lab")).expect("room for it");
        subscriptions.begin(number);
        for revision in 1..=BUFFERED_UPDATES as u64 {
            assert!(subscriptions.hand(number, update(revision)).is_none());
        }
        let overflow = subscriptions.hand(number, update(100)).expect("no room");
        assert_eq!(overflow.told, update(100));
        assert_eq!(updates.try_recv(), Ok(update(1)));
        assert!(subscriptions.hand(number, Err(ClientError::closed())).is_none());
        assert!(renewed(&subscriptions).is_empty());
        assert!(subscriptions.hand(number, update(101)).is_none(), "it has ended");
    }

    #[test]
    fn credit_is_asked_for_again() {
        let mut subscriptions = Subscriptions::default();
        let (number, _updates) = subscriptions.add(request("rooms/lab/queues/jobs")).expect("room for it");
        subscriptions.begin(number);
        let frame = subscriptions.credit(number, 7).map(|frame| ClientFrame::decode(frame).expect("a frame"));
        assert_eq!(frame.and_then(|frame| frame.body), Some(Request::Credit(Credit { events: 7 })));
        subscriptions.credit(number, 2);
        assert_eq!(renewed(&subscriptions)[0].1.credit, 9);
        assert_eq!(subscriptions.credit(number + 1, 1), None);
    }

    #[test]
    fn subscriptions_are_bounded() {
        let mut subscriptions = Subscriptions::default();
        for _ in 0..MAX_SUBSCRIPTIONS {
            subscriptions.add(Subscribe::default()).expect("room for it");
        }
        let refused = subscriptions.add(Subscribe::default()).expect_err("one too many");
        assert_eq!(refused.reason, Some(ErrorReason::SubscriptionLimit));
    }
}
