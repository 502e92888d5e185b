use clap::Parser;

use super::*;
use crate::flags::{Cli, Command, QueueCommand, RoomCommand};

fn given(line: &str) -> SendArgs {
    let line = format!("conclave room queue send lab jobs {line}");
    let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
    match cli.command {
        Command::Room { command: RoomCommand::Queue { command: QueueCommand::Send(send) }, .. } => *send,
        _ => panic!("another command"),
    }
}

#[test]
fn each_item_has_its_body_and_what_all_have_in_common() {
    let items =
        items(given("one --text two --json [3] --priority 7 --ttl 1500ms --group g --header a=b")).expect("items");
    let bodies: Vec<_> = items.iter().map(|item| (&item.body[..], item.content_type.as_str())).collect();
    let text = "text/plain; charset=utf-8";
    assert_eq!(bodies, [(&b"one"[..], text), (b"[3]", "application/json"), (b"two", text)]);
    for item in &items {
        assert_eq!((item.priority, item.group.as_str(), &item.headers["a"]), (7, "g", &"b".to_owned()));
        assert_eq!(item.time_to_live, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
        assert_eq!((&item.delay, &item.deliver_time, item.message_id.as_str()), (&None, &None, ""));
    }
}

#[test]
fn a_content_type_that_is_given_is_that_of_all() {
    let items = items(given("one --json {} --content-type text/x --delay 0s")).expect("items");
    assert!(items.iter().all(|item| item.content_type == "text/x"));
    assert!(items.iter().all(|item| item.delay == Some(prost_types::Duration::default())));
}

#[test]
fn message_ids_are_as_many_as_items() {
    let ids = |line: &str| {
        let items = items(given(line))?;
        Result::<Vec<String>>::Ok(items.into_iter().map(|item| item.message_id).collect())
    };
    assert_eq!(ids("one two --message-id a --message-id b").expect("ids"), ["a", "b"]);
    let refused = ids("one two --message-id a").expect_err("too few");
    assert_eq!(refused.to_string(), "2 items and 1 message ids: give --message-id once for each item");
}

#[test]
fn a_call_holds_no_more_than_it_may() {
    let counts = |sizes: &[usize]| {
        let item = |size: &usize| v1::NewItem { body: vec![7; *size].into(), ..Default::default() };
        calls(sizes.iter().map(item).collect()).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(counts(&[1]), [1]);
    assert_eq!(counts(&[0; 128]), [128]);
    assert_eq!(counts(&[0; 300]), [128, 128, 44]);
    assert_eq!(counts(&[CALL_BYTES / 4; 6]), [4, 2]);
    assert_eq!(counts(&[CALL_BYTES + 1, 1, CALL_BYTES + 1]), [1, 1, 1]);
}

#[test]
fn positions_pass_over_duplicates() {
    let text = |count, first_item, duplicates: &[u32]| {
        let response = v1::SendItemsResponse { first_item, revision: 9, duplicates: duplicates.to_vec() };
        print::table(&COLUMNS, &rows(count, &response))
    };
    assert_eq!(
        text(4, 7, &[0, 2]),
        "ITEM  REVISION  RESULT\n-     9         duplicate\n7     9         sent\n-     9         duplicate\n8     9         sent\n"
    );
    assert_eq!(text(2, 3, &[0, 1]), "ITEM  REVISION  RESULT\n3     9         duplicate\n-     9         duplicate\n");
}
