use conclave_proto::time::{duration_of_ms, timestamp};
use conclave_types::Timestamp as Moment;

use super::*;

fn queue() -> v1::Queue {
    v1::Queue {
        name: "rooms/lab/queues/jobs".into(),
        create_time: Some(timestamp(Moment(1_700_000_000_000))),
        ready_count: 3,
        leased_count: 2,
        size: 11,
        delayed_count: 1,
        grouped_count: 5,
        size_bytes: 1_234,
        settings: Some(v1::QueueSettings {
            state: Some(State::Paused.into()),
            lease: Some(duration_of_ms(30_000)),
            max_attempts: Some(10),
            backoff: Some(duration_of_ms(0)),
            max_backoff: Some(duration_of_ms(60_000)),
            deduplication_window: Some(duration_of_ms(300_000)),
            max_items: Some(10_000_000),
            max_bytes: Some(0),
            overflow: Some(Overflow::DropOldest.into()),
            retention: Some(duration_of_ms(0)),
            max_in_flight: Some(1_000),
            max_in_flight_per_consumer: Some(0),
            dead_letter_queue: Some(String::new()),
        }),
        totals: Some(v1::QueueTotals {
            sent: 20,
            duplicates: 1,
            delivered: 12,
            acked: 8,
            failed: 2,
            dead: 1,
            expired: 0,
            dropped: 0,
            removed: 0,
        }),
    }
}

#[test]
fn sizes_are_a_row_for_each_queue() {
    let bare = v1::Queue { name: "rooms/lab/queues/b".into(), ..Default::default() };
    let expected = "\
NAME                   STATE    SIZE  READY  LEASED  DELAYED  GROUPED  SIZE BYTES
rooms/lab/queues/jobs  paused   11    3      2       1        5        1234
rooms/lab/queues/b     unknown  0     0      0       0        0        0
";
    assert_eq!(sizes(Output::Table, &[queue(), bare]).expect("text"), expected);
    let expected = r#"[
  {
    "delayed": 1,
    "grouped": 5,
    "leased": 2,
    "name": "rooms/lab/queues/jobs",
    "ready": 3,
    "size": 11,
    "size_bytes": 1234,
    "state": "paused"
  }
]
"#;
    assert_eq!(sizes(Output::Json, &[queue()]).expect("text"), expected);
}

#[test]
fn settings_are_as_they_can_be_typed() {
    let expected = "\
name                        rooms/lab/queues/jobs
created                     2023-11-14T22:13:20Z
state                       paused
lease                       30s
max attempts                10
backoff                     0s
max backoff                 1m
deduplication window        5m
max items                   10000000
max bytes                   no bound
overflow                    drop-oldest
retention                   for ever
max in flight               1000
max in flight per consumer  no bound
dead letter queue           jobs.dead
";
    assert_eq!(settings(Output::Table, &queue()).expect("text"), expected);
    let expected = r#"{
  "create_time": "2023-11-14T22:13:20Z",
  "delayed": 1,
  "grouped": 5,
  "leased": 2,
  "name": "rooms/lab/queues/jobs",
  "ready": 3,
  "settings": {
    "backoff_ms": 0,
    "dead_letter_queue": "",
    "deduplication_window_ms": 300000,
    "lease_ms": 30000,
    "max_attempts": 10,
    "max_backoff_ms": 60000,
    "max_bytes": 0,
    "max_in_flight": 1000,
    "max_in_flight_per_consumer": 0,
    "max_items": 10000000,
    "overflow": "drop-oldest",
    "retention_ms": 0
  },
  "size": 11,
  "size_bytes": 1234,
  "state": "paused",
  "totals": {
    "acked": 8,
    "dead": 1,
    "delivered": 12,
    "dropped": 0,
    "duplicates": 1,
    "expired": 0,
    "failed": 2,
    "removed": 0,
    "sent": 20
  }
}
"#;
    assert_eq!(settings(Output::Json, &queue()).expect("text"), expected);
}

fn response() -> v1::GetQueueStatsResponse {
    let consumer = |name: &str, leased_count| v1::QueueConsumer {
        consumer: name.into(),
        leased_count,
        last_lease_time: Some(timestamp(Moment(1_700_000_007_000))),
    };
    let stats = v1::QueueStats {
        oldest_age: Some(duration_of_ms(65_400)),
        sent_rate: 2.5,
        delivered_rate: 0.1,
        acked_rate: 0.0,
        dead_letter_queue: "jobs.dead".into(),
        dead_count: 4,
        waiting_receivers: 1,
        consumers: vec![consumer("ann", 1), consumer("worker-2", 12)],
    };
    v1::GetQueueStatsResponse { queue: Some(queue()), stats: Some(stats), revision: 99 }
}

#[test]
fn statistics_are_a_paragraph_for_people() {
    let expected = "\
name               rooms/lab/queues/jobs
state              paused
size               11
size bytes         1234
ready              3
leased             2
delayed            1
grouped            5
oldest ready       1m 05s
waiting receivers  1
dead letters       4 in jobs.dead
send rate          2.5/s
delivery rate      0.1/s
ack rate           0.0/s
sent               20
duplicates         1
delivered          12
acked              8
failed             2
dead               1
expired            0
dropped            0
removed            0

CONSUMER  LEASED  LAST LEASE TIME
ann       1       2023-11-14T22:13:27Z
worker-2  12      2023-11-14T22:13:27Z
";
    assert_eq!(stats(&response()), expected);
    let idle = v1::GetQueueStatsResponse { queue: Some(queue()), ..Default::default() };
    assert!(stats(&idle).contains("oldest ready       -\n") && stats(&idle).ends_with("removed            0\n"));
}

#[test]
fn statistics_are_an_object_for_programs() {
    let mut fields = stats_fields(&response());
    let all = fields.as_object_mut().expect("an object");
    // Those of the queue are as its own.
    for (name, value) in queue_fields(&queue()) {
        assert_eq!(all.remove(&name), Some(value), "{name}");
    }
    let expected = "{\"acked_rate\":0.0,\"consumers\":[\
                    {\"consumer\":\"ann\",\"last_lease_time\":\"2023-11-14T22:13:27Z\",\"leased\":1},\
                    {\"consumer\":\"worker-2\",\"last_lease_time\":\"2023-11-14T22:13:27Z\",\"leased\":12}],\
                    \"dead_count\":4,\"dead_letter_queue\":\"jobs.dead\",\"delivered_rate\":0.1,\
                    \"oldest_age_ms\":65400,\"revision\":99,\"sent_rate\":2.5,\"waiting_receivers\":1}";
    assert_eq!(fields.to_string(), expected);
}

#[test]
fn an_age_is_in_the_units_that_count() {
    let ages = [(0, "0ms"), (999, "999ms"), (1_999, "1s"), (59_999, "59s"), (60_000, "1m 00s"), (3_599_999, "59m 59s")];
    for (ms, text) in ages {
        assert_eq!(age(ms), text);
    }
    assert_eq!(age(5 * 3_600_000 + 7 * 60_000), "5h 07m");
    assert_eq!(age(50 * 3_600_000), "2d 02h");
}
