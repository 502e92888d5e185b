use conclave_proto::time::{duration_of_ms, timestamp};
use conclave_types::Timestamp as Moment;

use super::*;

/// Seconds after 2023-11-14T22:13:20Z.
fn at(seconds: u64) -> Option<Timestamp> {
    Some(timestamp(Moment((1_700_000_000 + seconds) * 1_000)))
}

fn dead() -> v1::DeadLetter {
    let failed = |attempt, kind, reason: &str| v1::FailedDelivery {
        attempt,
        consumer: "ann".into(),
        time: at(u64::from(attempt)),
        kind,
        reason: reason.into(),
    };
    v1::DeadLetter {
        queue: "jobs".into(),
        item: 3,
        time: at(2),
        reason: v1::dead_letter::Reason::Rejected.into(),
        attempts: 2,
        group: String::new(),
        failures: vec![failed(1, 1, ""), failed(2, 3, "no such\nuser")],
    }
}

fn delivery() -> v1::Delivery {
    v1::Delivery {
        id: Some(v1::DeliveryId { item: 12, attempt: 2 }),
        body: "{\"a\":\n1}".into(),
        content_type: "application/json".into(),
        headers: [("trace".to_owned(), "7".to_owned())].into(),
        send_time: at(0),
        sender: "ann".into(),
        revision: 9,
        lease_remaining: Some(duration_of_ms(29_950)),
        priority: 5,
        group: "g".into(),
        message_id: "m".into(),
        dead_letter: None,
    }
}

#[test]
fn deliveries_are_rows_for_people() {
    let bare = v1::Delivery {
        id: Some(v1::DeliveryId { item: 13, attempt: 1 }),
        body: vec![0xff, 0].into(),
        sender: "bob".into(),
        ..Default::default()
    };
    let expected = "\
DELIVERY  SEND TIME             SENDER  PRIORITY  GROUP  HEADERS        BODY
12.2      2023-11-14T22:13:20Z  ann     5         g      {\"trace\":\"7\"}  {\"a\": 1}
13.1      -                     bob     0         -      -              /wA=
";
    assert_eq!(deliveries(Output::Table, &[delivery(), bare]).expect("text"), expected);
    assert_eq!(deliveries(Output::Json, &[]).expect("text"), "[]\n");
}

#[test]
fn a_delivery_is_an_object_for_programs() {
    let expected = r#"[
  {
    "attempt": 2,
    "body": {
      "a": 1
    },
    "content_type": "application/json",
    "dead_letter": null,
    "delivery": "12.2",
    "encoding": "json",
    "group": "g",
    "headers": {
      "trace": "7"
    },
    "item": 12,
    "lease_remaining_ms": 29950,
    "message_id": "m",
    "priority": 5,
    "send_revision": 9,
    "send_time": "2023-11-14T22:13:20Z",
    "sender": "ann"
  }
]
"#;
    assert_eq!(deliveries(Output::Json, &[delivery()]).expect("text"), expected);
}

#[test]
fn a_tail_is_a_line_each() {
    assert_eq!(tail_head(), "DELIVERY    SEND TIME                 SENDER        BODY");
    assert_eq!(tail_line(Output::Table, &delivery()), "12.2        2023-11-14T22:13:20Z      ann           {\"a\": 1}");
    let text = v1::Delivery { body: "a\nb".into(), content_type: String::new(), ..delivery() };
    let expected = "{\"attempt\":2,\"body\":\"a\\nb\",\"content_type\":\"\",\"dead_letter\":null,\"delivery\":\"12.2\",\
                    \"encoding\":\"text\",\"group\":\"g\",\"headers\":{\"trace\":\"7\"},\"item\":12,\
                    \"lease_remaining_ms\":29950,\"message_id\":\"m\",\"priority\":5,\"send_revision\":9,\
                    \"send_time\":\"2023-11-14T22:13:20Z\",\"sender\":\"ann\"}";
    assert_eq!(tail_line(Output::Json, &text), expected);
}

#[test]
fn a_dead_letter_says_how_it_died() {
    let fields = delivery_fields(&v1::Delivery { dead_letter: Some(dead()), ..delivery() });
    let expected = json!({
        "queue": "jobs", "item": 3, "time": "2023-11-14T22:13:22Z", "reason": "rejected", "attempts": 2, "group": "",
        "failures": [
            {"attempt": 1, "consumer": "ann", "time": "2023-11-14T22:13:21Z", "kind": "lease ended", "reason": ""},
            {
                "attempt": 2, "consumer": "ann", "time": "2023-11-14T22:13:22Z", "kind": "rejected",
                "reason": "no such\nuser",
            },
        ],
    });
    assert_eq!(fields["dead_letter"], expected);
}

#[test]
fn items_say_how_they_stand() {
    let content = v1::NewItem { body: "hi".into(), priority: 1, group: "g".into(), ..Default::default() };
    let item = |number, state: v1::ItemState| v1::QueueItem {
        item: number,
        state: state.into(),
        content: Some(content.clone()),
        send_time: at(0),
        sender: "ann".into(),
        ..Default::default()
    };
    let ready = item(1, v1::ItemState::Ready);
    let leased =
        v1::QueueItem { attempts: 1, consumer: "bob".into(), lease_end_time: at(30), ..item(2, v1::ItemState::Leased) };
    let delayed = v1::QueueItem { ready_time: at(5), expire_time: at(60), ..item(3, v1::ItemState::Delayed) };
    let died = v1::QueueItem { dead_letter: Some(dead()), ..item(4, v1::ItemState::Ready) };
    let expected = "\
ITEM  ATTEMPTS  SEND TIME             SENDER  PRIORITY  GROUP  STANDING                                                     BODY
1     0         2023-11-14T22:13:20Z  ann     1         g      -                                                            hi
2     1         2023-11-14T22:13:20Z  ann     1         g      held by bob until 2023-11-14T22:13:50Z                       hi
3     0         2023-11-14T22:13:20Z  ann     1         g      ready at 2023-11-14T22:13:25Z; gone at 2023-11-14T22:14:20Z  hi
4     0         2023-11-14T22:13:20Z  ann     1         g      died in jobs, rejected: no such user                         hi
";
    assert_eq!(items(Output::Table, &[ready.clone(), leased.clone(), delayed, died]).expect("text"), expected);

    let expected = r#"[
  {
    "attempts": 1,
    "body": "hi",
    "consumer": "bob",
    "content_type": "",
    "dead_letter": null,
    "encoding": "text",
    "expire_time": null,
    "group": "g",
    "headers": {},
    "item": 2,
    "lease_end_time": "2023-11-14T22:13:50Z",
    "message_id": "",
    "priority": 1,
    "ready_time": null,
    "send_revision": 0,
    "send_time": "2023-11-14T22:13:20Z",
    "sender": "ann",
    "state": "leased"
  }
]
"#;
    assert_eq!(items(Output::Json, &[leased]).expect("text"), expected);
    assert_eq!(item_fields(&ready)["consumer"], Value::Null);
}
