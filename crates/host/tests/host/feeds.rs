//! What happens in a room reaches those who follow it: all of it, in order, and before they are told that it happened.

mod documents;
mod order;
mod rooms;
mod slow;

use bytes::Bytes;
use conclave_proto::status::reason_of_frame;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ErrorReason};

use crate::calls::Stream;

const LAB: &str = "rooms/lab";
const LOG: &str = "rooms/lab/messages";
const JOBS: &str = "rooms/lab/queues/jobs";

fn subscribe(resource: &str, after_revision: u64) -> Asked {
    Asked::Subscribe(v1::Subscribe { resource: resource.into(), after_revision, ..Default::default() })
}

fn post_request(body: impl Into<Bytes>) -> v1::PostMessageRequest {
    let message = v1::NewMessage { r#type: "chat".into(), body: body.into(), ..Default::default() };
    v1::PostMessageRequest { parent: LAB.into(), message: Some(message), ..Default::default() }
}

fn post(body: impl Into<Bytes>) -> Asked {
    Asked::PostMessage(post_request(body))
}

impl Stream {
    /// Posts so many messages, waiting for replies as a window requires, and returns their revisions.
    async fn post_many(&mut self, sequences: std::ops::RangeInclusive<u64>, body_bytes: usize) -> Vec<u64> {
        const WINDOW: u64 = 256;
        let body = Bytes::from(vec![b'm'; body_bytes]);
        let (first, last) = (*sequences.start(), *sequences.end());
        let mut revisions = Vec::new();
        for sequence in sequences {
            self.ask_acknowledging(sequence, sequence.saturating_sub(WINDOW), post(body.clone()));
            if sequence + 1 - first >= WINDOW {
                revisions.push(self.posted(sequence + 1 - WINDOW).await);
            }
        }
        for sequence in first + revisions.len() as u64..=last {
            revisions.push(self.posted(sequence).await);
        }
        revisions
    }

    async fn posted(&mut self, sequence: u64) -> u64 {
        match self.reply(sequence).await {
            Body::PostMessage(response) => response.revision,
            other => panic!("frame {sequence} was answered with {other:?}"),
        }
    }

    /// Subscribes and reads until the subscription is live; returns what came before.
    async fn follow(&mut self, sequence: u64, subscription: u64, resource: &str, after: u64) -> Vec<v1::Event> {
        self.ask_of(sequence, subscription, subscribe(resource, after));
        let frame = self.next().await.expect("the stream goes on");
        assert_eq!((frame.reply_to, frame.subscription), (sequence, subscription), "{frame:?}");
        assert!(matches!(frame.body, Some(Body::Subscribed(_))), "{frame:?}");
        self.until_live(subscription).await
    }

    async fn until_live(&mut self, subscription: u64) -> Vec<v1::Event> {
        let mut events = Vec::new();
        loop {
            let frame = self.next().await.expect("the stream goes on");
            assert_eq!((frame.reply_to, frame.subscription), (0, subscription), "{frame:?}");
            match frame.body {
                Some(Body::EventBatch(batch)) => events.extend(batch.events().unwrap()),
                Some(Body::Live(live)) => {
                    assert_eq!(frame.revision, live.revision);
                    return events;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads events of a subscription until one of this revision.
    async fn events_until(&mut self, subscription: u64, revision: u64) -> Vec<v1::Event> {
        let mut events = Vec::<v1::Event>::new();
        while events.last().is_none_or(|event| event.revision < revision) {
            let frame = self.next().await.expect("the stream goes on");
            assert_eq!((frame.reply_to, frame.subscription), (0, subscription), "{frame:?}");
            match frame.body {
                Some(Body::EventBatch(batch)) => events.extend(batch.events().unwrap()),
                other => panic!("{other:?}"),
            }
        }
        events
    }

    /// Why a subscription ended, which must be told next.
    async fn ended(&mut self, subscription: u64) -> ErrorReason {
        let frame = self.next().await.expect("the stream goes on");
        assert_eq!((frame.reply_to, frame.subscription), (0, subscription), "{frame:?}");
        match frame.body {
            Some(Body::Status(status)) => reason_of_frame(&status).expect("a reason"),
            other => panic!("{other:?}"),
        }
    }
}

fn revisions(events: &[v1::Event]) -> Vec<u64> {
    events.iter().map(|event| event.revision).collect()
}

fn is_message(event: &v1::Event) -> bool {
    matches!(event.kind, Some(Kind::Message(_)))
}
