//! Awareness reaches everybody who has the document open, also those who open it later, and nobody else.

use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ErrorReason};
use conclave_types::limits::MAX_AWARENESS_BYTES;

use crate::calls::{Caller, Stream, refusal};
use crate::cluster::{Cluster, ONE_HOST};

const NOTES: &str = "rooms/lab/documents/notes.md";
const SUBSCRIPTION: u64 = 3;

fn awareness(document: &str, payload: impl Into<Vec<u8>>) -> v1::SendAwarenessRequest {
    v1::SendAwarenessRequest { name: document.into(), payload: payload.into().into() }
}

impl Caller {
    async fn point(&self, request: v1::SendAwarenessRequest) -> Result<u32, tonic::Status> {
        Ok(self.documents().send_awareness(self.request(request)).await?.into_inner().receiver_count)
    }

    /// A session that has the document open: frame 1. What was shown already.
    async fn viewing(&self, cluster: &Cluster, participant: &str) -> (Stream, Vec<String>) {
        let mut session = self.claiming(cluster.claims(participant)).begin("lab").await.unwrap();
        let subscribe = v1::Subscribe { resource: NOTES.into(), ..Default::default() };
        session.ask_of(1, SUBSCRIPTION, Asked::Subscribe(subscribe));
        assert!(matches!(session.reply(1).await, Body::Subscribed(_)));
        let mut shown = Vec::new();
        loop {
            match session.next().await.unwrap().body {
                Some(Body::EventBatch(batch)) => shown.extend(batch.events().unwrap().into_iter().map(payload)),
                Some(Body::Live(_)) => return (session, shown),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn payload(event: v1::Event) -> String {
    match event.kind {
        Some(Kind::DocumentAwareness(shown)) => {
            assert_eq!((shown.document.as_str(), event.revision), ("notes.md", 0));
            String::from_utf8(shown.payload.to_vec()).expect("text")
        }
        other => panic!("{other:?}"),
    }
}

impl Stream {
    async fn shown(&mut self) -> String {
        let frame = self.next().await.unwrap();
        assert_eq!((frame.reply_to, frame.subscription), (0, SUBSCRIPTION), "{frame:?}");
        let Some(Body::EventBatch(batch)) = frame.body else { panic!("{frame:?}") };
        batch.events().unwrap().into_iter().map(payload).collect()
    }

    async fn pointed(&mut self, sequence: u64) -> u32 {
        match self.reply(sequence).await {
            Body::SendAwareness(response) => response.receiver_count,
            other => panic!("frame {sequence} was answered with {other:?}"),
        }
    }
}

#[tokio::test]
async fn viewers_see_where_others_are_until_those_leave() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, caller) = cluster.with_room("lab", "ada").await;
    let (mut ada, _) = caller.viewing(&cluster, "ada").await;
    let (mut bob, shown) = caller.viewing(&cluster, "bob").await;
    assert!(shown.is_empty());
    ada.ask(2, Asked::SendAwareness(awareness(NOTES, "line 1")));
    assert_eq!(ada.pointed(2).await, 1, "the sender is not told");
    assert_eq!(bob.shown().await, "line 1");
    ada.ask(3, Asked::SendAwareness(awareness(NOTES, "line 2")));
    assert_eq!(ada.pointed(3).await, 1);
    assert_eq!(bob.shown().await, "line 2");

    let (mut eve, shown) = caller.viewing(&cluster, "eve").await;
    assert_eq!(shown, ["line 2"], "who comes late sees the newest");
    assert_eq!(caller.point(awareness(NOTES, "from outside")).await.unwrap(), 3);
    for session in [&mut ada, &mut bob, &mut eve] {
        assert_eq!(session.shown().await, "from outside");
    }
    let mut rest = ada.close();
    assert_eq!(rest.message().await.unwrap(), None);
    for session in [&mut bob, &mut eve] {
        assert_eq!(session.shown().await, "", "who left has no place");
    }
}

#[tokio::test]
async fn awareness_over_its_limit_or_of_no_document_is_refused() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, caller) = cluster.with_room("lab", "ada").await;
    let (_session, _) = caller.viewing(&cluster, "ada").await;
    let refused = async |request| refusal(caller.point(request).await);
    assert_eq!(refused(awareness(NOTES, vec![0; MAX_AWARENESS_BYTES + 1])).await, ErrorReason::TooLarge);
    let missing = awareness("rooms/lab/documents/missing", "line 1");
    assert_eq!(refused(missing).await, ErrorReason::DocumentNotFound);
    assert_eq!(caller.point(awareness(NOTES, vec![b'x'; MAX_AWARENESS_BYTES])).await.unwrap(), 1);
}

#[tokio::test]
async fn what_a_slow_viewer_misses_is_counted_and_the_newest_comes_again() {
    // More than the ring of a channel and all buffers on the way hold.
    const SENT: u64 = 4_000;
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let (mut slow, _) = ada.viewing(&cluster, "eve").await;
    let (mut author, _) = ada.viewing(&cluster, "ada").await;
    let told = |sequence: u64| format!("{sequence:0>width$}", width = MAX_AWARENESS_BYTES);
    for sequence in 2..=SENT + 1 {
        author.ask(sequence, Asked::SendAwareness(awareness(NOTES, told(sequence))));
        author.pointed(sequence).await;
    }
    let mut seen = 0;
    let dropped = loop {
        match slow.next().await.unwrap().body.unwrap() {
            Body::EventBatch(batch) => seen += batch.events().unwrap().len() as u64,
            Body::Gap(gap) => break gap.dropped_count,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seen + dropped, SENT);
    assert!(slow.shown().await == told(SENT + 1), "the newest");
}
