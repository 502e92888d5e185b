//! Puts a session's replies and events on its stream.

use conclave_proto::v1;
use conclave_proto::v1::server_frame::Body;
use conclave_types::Sequence;
use futures::StreamExt;

use super::outbound::{Place, Unsent};
use super::replies::{frame, revision_of};
use super::{End, Session, subscriptions};
use crate::faults::{self, Fault};
use crate::feed::Element;

impl Session {
    /// Sends the next element of the subscription whose turn it is, if there is a place for it.
    pub(super) async fn send_next_event(&mut self) -> Result<bool, End> {
        if !self.subscriptions.is_pending() {
            return Ok(false);
        }
        let Some(place) = self.outbound.try_place() else { return Ok(false) };
        let Some((number, next)) = self.subscriptions.next() else { return Ok(false) };
        self.send_event(number, next, place).await?;
        Ok(true)
    }

    /// Sends every event up to this revision of the subscriptions that are live, or were before the session changed hosts.
    ///
    /// What this waits for needs nothing that the session does meanwhile. A feed opens and reads by the shard and by its
    /// storage, and a reply's revision is in storage already; a turn at a large document is held by another feed of this
    /// session, which is pulled here as well. Only a client that does not read holds its own replies up, and that ends
    /// with its stream.
    pub(super) async fn send_events_upto(&mut self, revision: u64) -> Result<(), End> {
        if self.subscriptions.is_empty() || revision == 0 {
            return Ok(());
        }
        loop {
            while let Some((number, next)) = self.subscriptions.next_due(revision) {
                let place = self.place().await?;
                self.send_event(number, next, place).await?;
            }
            if !self.subscriptions.is_behind(revision) {
                return Ok(());
            }
            // One is being opened; or a document is read, or waits until another has been sent.
            match self.subscriptions.next() {
                Some((number, next)) => {
                    let place = self.place().await?;
                    self.send_event(number, next, place).await?;
                }
                None => self.until_fed().await?,
            }
        }
    }

    /// Waits until a feed may have something, or one that is taken up again was opened or could not be.
    async fn until_fed(&mut self) -> Result<(), End> {
        let (reopening, wake, outbound) = (&mut self.reopening, &self.subscriptions.wake, &self.outbound);
        let fed = async {
            tokio::select! {
                biased;
                () = outbound.closed() => Err(End::Client),
                Some(opened) = reopening.next() => Ok(Some(opened)),
                () = wake.notified() => Ok(None),
            }
        };
        match self.life.lasting(fed).await?? {
            Some(opened) => self.reopened(opened).await,
            None => {
                // It may have been another that is not waited for here.
                self.subscriptions.woken();
                Ok(())
            }
        }
    }

    async fn send_event(&mut self, number: u64, next: Result<Element, Fault>, place: Place) -> Result<(), End> {
        match next {
            Ok(Element { revision, body }) => {
                let body = Some(subscriptions::body(body));
                let events = v1::ServerFrame { reply_to: 0, revision, subscription: number, body };
                let sent = self.outbound.try_send_events(events, place);
                self.sent(sent).await
            }
            Err(fault) => self.send_end_of(number, fault).await,
        }
    }

    /// Says that a subscription has ended, or, for number 0, that the participant could not be attached again.
    pub(super) async fn send_end_of(&mut self, number: u64, fault: Fault) -> Result<(), End> {
        if faults::ends_stream(&fault) {
            return Err(fault.into());
        }
        let status = frame(Sequence(0), 0, Body::Status(fault.into()));
        self.send(v1::ServerFrame { subscription: number, ..status }).await
    }

    pub(super) async fn send_reply(&mut self, sequence: Sequence, reply: Result<Body, Fault>) -> Result<(), End> {
        match reply {
            Ok(body) => {
                let revision = revision_of(&body);
                self.send(frame(sequence, revision, body)).await
            }
            Err(fault) if faults::ends_stream(&fault) => Err(fault.into()),
            Err(fault) => self.send(frame(sequence, 0, Body::Status(fault.into()))).await,
        }
    }

    pub(super) async fn send(&mut self, frame: v1::ServerFrame) -> Result<(), End> {
        let sent = self.outbound.try_send(frame);
        self.sent(sent).await
    }

    /// Sees to it that a frame finds room. A client that does not read holds its session up, but not the end of the
    /// stream.
    async fn sent(&mut self, sent: Result<(), Unsent>) -> Result<(), End> {
        match sent {
            Ok(()) => Ok(()),
            Err(Unsent::Gone) => Err(End::Client),
            Err(Unsent::Full(unqueued)) => {
                self.life.lasting(self.outbound.send(*unqueued)).await?.map_err(|_| End::Client)
            }
        }
    }

    async fn place(&mut self) -> Result<Place, End> {
        let outbound = &self.outbound;
        let place = async {
            tokio::select! {
                biased;
                // What waits is not taken by anybody any more.
                () = outbound.closed() => None,
                place = outbound.place() => place,
            }
        };
        self.life.lasting(place).await?.ok_or(End::Client)
    }
}
