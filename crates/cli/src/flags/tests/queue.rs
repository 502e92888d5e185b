//! `conclave room queue …`

use std::time::Duration;

use super::*;

fn queue(line: &str) -> QueueCommand {
    let parsed = parse(&format!("conclave room queue {line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
    let Command::Room { command: RoomCommand::Queue { command }, .. } = parsed.command else {
        panic!("another command")
    };
    command
}

#[test]
fn each_verb_is_understood() {
    for line in [
        "send my-room jobs hello",
        "send my-room jobs hello world --text three --json {\"hello\":\"world\"} --file a --file -",
        "send my-room jobs --json {} --content-type application/cloudevents+json --header a=b --header c=d=e",
        "send my-room jobs hello --priority 9 --ttl 8784h --delay 0s --message-id a --no-create",
        "send my-room jobs hello --at 2030-01-31T09:00:00Z",
        "send my-room jobs hello --group customer-7 --ttl 1ms",
        "receive my-room jobs",
        "receive my-room jobs --max 128 --wait 60s --lease 12h --consumer ann#2 --ack --output json",
        "receive my-room jobs --max-items 10 --take --no-create",
        "tail my-room jobs",
        "tail my-room jobs --ack --max 10 --window 1000 --lease 1s --consumer ann",
        "ack my-room jobs 1.1 2.1",
        "nack my-room jobs 1.1 2.1 --delay 5m --reason busy",
        "nack my-room jobs 1.1 --reject",
        "extend my-room jobs 1.1 2.1 --lease 1m",
        "extend my-room jobs 1.1",
        "cancel my-room jobs 1 2 3",
        "peek my-room jobs",
        "peek my-room jobs --state delayed --max 100000",
        "size my-room jobs",
        "list my-room",
        "stats my-room jobs",
        "stats my-room jobs --watch",
        "stats my-room jobs --watch --interval 1s",
        "get my-room jobs",
        "create my-room jobs",
        "create my-room jobs --state paused --lease 1s --max-attempts 0 --backoff 1s --max-backoff 12h \
         --deduplication-window 168h --max-items 100000000 --max-bytes 1099511627776 --overflow drop-oldest \
         --retention 8784h --max-in-flight 10000 --max-in-flight-per-consumer 0 --dead-letter-queue graves",
        "update my-room jobs --max-attempts 1000",
        "update my-room jobs --dead-letter-queue=",
        "open my-room jobs",
        "close my-room jobs",
        "pause my-room jobs",
        "resume my-room jobs",
        "redrive my-room jobs.dead --max 10",
        "move my-room jobs --to others",
        "move my-room jobs --to others --max 1",
        "purge my-room jobs --max 5",
        "drain my-room jobs",
    ] {
        queue(&line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

#[test]
fn each_bad_input_is_refused_with_its_rule() {
    let long = "x".repeat(129);
    for (line, rule) in [
        ("send my-room jobs", "required"),
        ("send my-room a/b x", "queue"),
        ("send my-room jobs --json {", "must be JSON"),
        ("send my-room jobs x --header novalue", "must be key=value"),
        ("send my-room jobs x --priority 10", "0..=9"),
        ("send my-room jobs x --delay 5", "with a unit"),
        ("send my-room jobs x --delay 8785h", "must be 0s to 8784h"),
        ("send my-room jobs x --ttl 0s", "must be 1ms to 8784h"),
        ("send my-room jobs x --at tomorrow", "must be a time with its zone"),
        ("send my-room jobs x --at 2030-01-31T09:00:00Z --delay 1s", "cannot be used with"),
        ("send my-room jobs x --group g --delay 1s", "cannot be used with"),
        ("send my-room jobs x --group g --at 2030-01-31T09:00:00Z", "cannot be used with"),
        (&format!("send my-room jobs x --group {long}"), "at most 128 bytes, and is 129"),
        (&format!("send my-room jobs x --message-id {long}"), "at most 128 bytes, and is 129"),
        (&format!("send my-room jobs x --content-type {long}"), "at most 128 bytes, and is 129"),
        ("send my-room jobs x --message-id=", "must not be empty"),
        ("receive my-room jobs --max 0", "1..=128"),
        ("receive my-room jobs --max-items 129", "1..=128"),
        ("receive my-room jobs --wait 5", "with a unit"),
        ("receive my-room jobs --wait 61s", "must be 0s to 1m"),
        ("receive my-room jobs --lease 999ms", "must be 1s to 12h"),
        ("receive my-room jobs --consumer a/b", "participant"),
        ("receive my-room jobs --take --ack", "cannot be used with"),
        ("receive my-room jobs --take --lease 1m", "cannot be used with"),
        ("tail my-room jobs --window 1001", "1..=1000"),
        ("tail my-room jobs --max 0", "0 is not in"),
        ("tail my-room jobs --lease 13h", "must be 1s to 12h"),
        ("ack my-room jobs", "required"),
        ("ack my-room jobs one", "item.attempt"),
        ("ack my-room jobs 1/1", "item.attempt"),
        ("nack my-room jobs 1.1 --reject --delay 1s", "cannot be used with"),
        ("nack my-room jobs 1.1 --delay 8785h", "must be 0s to 8784h"),
        (&format!("nack my-room jobs 1.1 --reason {long}{long}"), "at most 256 bytes, and is 258"),
        ("extend my-room jobs 1.1 --lease 13h", "must be 1s to 12h"),
        ("extend my-room jobs", "required"),
        ("cancel my-room jobs", "required"),
        ("cancel my-room jobs 0", "0 is not in"),
        ("cancel my-room jobs 1.1", "invalid digit"),
        ("peek my-room jobs --state gone", "ready, leased, delayed, grouped"),
        ("peek my-room jobs --max 100001", "1..=100000"),
        ("stats my-room jobs --interval 5s", "--watch"),
        ("stats my-room jobs --watch --interval 500ms", "must be 1s to 1h"),
        ("create my-room jobs --state open", "active, paused, closed"),
        ("create my-room jobs --lease 0s", "must be 1s to 12h"),
        ("create my-room jobs --max-attempts 1001", "0..=1000"),
        ("create my-room jobs --backoff 13h", "must be 0s to 12h"),
        ("create my-room jobs --max-backoff 13h", "must be 0s to 12h"),
        ("create my-room jobs --deduplication-window 169h", "must be 0s to 168h"),
        ("create my-room jobs --max-items 0", "1..=100000000"),
        ("create my-room jobs --max-bytes 1099511627777", "0..=1099511627776"),
        ("create my-room jobs --overflow drop", "reject, drop-oldest"),
        ("create my-room jobs --retention 8785h", "must be 0s to 8784h"),
        ("create my-room jobs --max-in-flight 0", "1..=10000"),
        ("create my-room jobs --max-in-flight-per-consumer 10001", "0..=10000"),
        ("create my-room jobs --dead-letter-queue a/b", "queue"),
        ("update my-room jobs", "required"),
        ("close my-room", "required"),
        ("redrive my-room jobs.dead --max 0", "0 is not in"),
        ("move my-room jobs", "--to"),
        ("move my-room jobs --to a/b", "queue"),
        ("purge my-room jobs --max 0", "0 is not in"),
    ] {
        let refused = parse(&format!("conclave room queue {line}")).map(|_| ()).expect_err(line).to_string();
        assert!(refused.contains(rule), "{line}: {refused}");
    }
}

#[test]
fn more_deliveries_or_items_than_a_call_takes_are_refused() {
    for (verb, one) in [("ack", "1.1"), ("nack", "1.1"), ("extend", "1.1"), ("cancel", "1")] {
        let line = |count| format!("conclave room queue {verb} my-room jobs {}", vec![one; count].join(" "));
        assert!(parse(&line(128)).is_ok(), "{verb}");
        assert!(parse(&line(129)).is_err(), "{verb}");
    }
}

#[test]
fn what_is_not_given_is_left_to_the_queue() {
    let QueueCommand::Receive(receive) = queue("receive my-room jobs") else { panic!("another verb") };
    assert_eq!((receive.max, receive.wait, receive.lease), (1, Duration::ZERO, None));
    let QueueCommand::Create(create) = queue("create my-room jobs") else { panic!("another verb") };
    assert_eq!(format!("{:?}", create.settings), format!("{:?}", Settings::default()));
    let QueueCommand::Stats(stats) = queue("stats my-room jobs") else { panic!("another verb") };
    assert_eq!((stats.watch, stats.interval), (false, Duration::from_secs(2)));
}

#[test]
fn a_moment_is_read_with_its_zone() {
    let QueueCommand::Send(send) = queue("send my-room jobs x --at 2030-01-31T10:00:00+01:00") else {
        panic!("another verb")
    };
    assert_eq!(send.at.map(|at| at.to_string()).as_deref(), Some("2030-01-31T09:00:00Z"));
}
