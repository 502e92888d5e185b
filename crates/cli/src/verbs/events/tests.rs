use std::collections::VecDeque;

use conclave_proto::events::EventBatch;

use super::*;

fn message(body: &'static [u8], lane: v1::Lane) -> v1::Event {
    let message = v1::Message { r#type: "chat".into(), body: body.into(), lane: lane.into(), ..Default::default() };
    let time = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 });
    v1::Event { revision: 7, time, participant: "ann".into(), kind: Some(Kind::Message(message)) }
}

fn json_of(event: v1::Event) -> Value {
    serde_json::from_str(&line(Output::Json, &Entry::of(event))).expect("one JSON object")
}

#[test]
fn a_message_says_its_lane_and_its_body_as_text() {
    let printed = json_of(message(b"hi\nthere", v1::Lane::Durable));
    assert_eq!(
        printed,
        json!({
            "revision": 7, "time": "2023-11-14T22:13:20.005Z", "participant": "ann", "kind": "message",
            "lane": "durable", "type": "chat", "content_type": "", "headers": {}, "to": [],
            "body": "hi\nthere", "encoding": "text",
        })
    );
    assert_eq!(
        line(Output::Table, &Entry::of(message(b"hi\nthere", v1::Lane::Ephemeral))),
        "7         2023-11-14T22:13:20.005Z  ann           message               ephemeral  chat  hi there"
    );
}

#[test]
fn a_body_that_is_no_text_is_base64_and_says_so() {
    let printed = json_of(message(&[0xff, 0], v1::Lane::Durable));
    assert_eq!((&printed["body"], &printed["encoding"]), (&json!("/wA="), &json!("base64")));
    assert!(line(Output::Table, &Entry::of(message(&[0xff, 0], v1::Lane::Durable))).ends_with("chat  2 bytes"));
}

#[test]
fn every_kind_of_event_is_one_line() {
    let participant = v1::Participant { name: "rooms/lab/participants/ann#1".into(), ..Default::default() };
    let kinds = [
        Kind::DocumentUpdate(v1::DocumentUpdate { document: "a\u{2028}b".into(), ..Default::default() }),
        Kind::DocumentChange(v1::DocumentChange { kind: 2, document: "a".into(), new_document: "b".into() }),
        Kind::DocumentAwareness(v1::DocumentAwareness::default()),
        Kind::QueueChange(v1::QueueChange { queue: "jobs".into(), ready_count: 1, leased_count: 2 }),
        Kind::Delivery(v1::Delivery {
            id: Some(v1::DeliveryId { item: 4, attempt: 2 }),
            body: "a\nb".into(),
            ..Default::default()
        }),
        Kind::ParticipantSnapshot(v1::ParticipantSnapshot { participants: vec![participant.clone()] }),
        Kind::ParticipantChange(v1::ParticipantChange { kind: 4, participant: Some(participant) }),
    ];
    let mut lines = Vec::new();
    for kind in kinds {
        let event = v1::Event { kind: Some(kind), ..Default::default() };
        assert!(json_of(event.clone()).is_object());
        lines.push(line(Output::Table, &Entry::of(event)));
    }
    assert!(lines.iter().all(|line| !line.contains('\n') && line.starts_with("-         -  ")), "{lines:#?}");
    let ends = [
        "update of 0 bytes",
        "renamed to b",
        "0 bytes",
        "1 ready, 2 leased",
        "4.2  a b",
        "ann#1",
        "ann#1  lease ended",
    ];
    for (line, end) in lines.iter().zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
}

/// How many updates are taken of three batches of two events with Live behind the first.
async fn taken(end: EndArgs) -> usize {
    let batch = || UpdateKind::Events(EventBatch::of(&[message(b"a", v1::Lane::Durable), v1::Event::default()]));
    let live = || UpdateKind::Live(v1::Live::default());
    let kinds = [batch(), live(), batch(), batch()];
    let mut updates: VecDeque<_> = kinds.into_iter().map(|kind| Update { revision: 0, kind }).collect();
    print_all(Output::Json, &end, async || updates.pop_front().map(Ok)).await.expect("printed");
    4 - updates.len()
}

#[tokio::test]
async fn a_stream_is_followed_as_far_as_is_wanted() {
    assert_eq!(taken(EndArgs { limit: None, until_live: false }).await, 4);
    assert_eq!(taken(EndArgs { limit: None, until_live: true }).await, 2);
    assert_eq!(taken(EndArgs { limit: Some(2), until_live: false }).await, 1);
    assert_eq!(taken(EndArgs { limit: Some(3), until_live: false }).await, 3);
}
