use super::super::audit::audit;
use super::super::harness::*;
use crate::{ItemOptions, NotBefore, SettingsPatch};

fn of(name: &str, priority: u8) -> ItemOptions {
    ItemOptions { priority, ..group(name) }
}

#[test]
fn items_of_a_group_are_delivered_one_after_the_other() {
    let mut shard = Shard::with_room();
    shard.run(send_each(&[("a1", group("a")), ("a2", group("a")), ("b1", group("b")), ("x", priority(0))]));
    assert_eq!(shard.places("jobs"), (3, 0, 0, 1));
    let first = shard.lease(9);
    assert_eq!(ids(&first), [(1, 1), (3, 1), (4, 1)]);
    assert_eq!(first[0].group.as_deref(), Some(&b"a"[..]));
    assert_eq!(shard.lease(9), []);
    let applied = shard.entry(vec![ack(&[(1, 1)]).into()]);
    assert_eq!(wakes(applied.effects), ["jobs"]);
    audit(&shard.tables);
    assert_eq!(ids(&shard.lease(9)), [(2, 1)]);
    shard.run(ack(&[(2, 1), (3, 1), (4, 1)]));
    audit(&shard.tables);
    shard.run(send_with(&["a3"], || group("a")));
    assert_eq!(ids(&shard.lease(9)), [(5, 1)], "a group without items begins anew");
}

#[test]
fn priority_does_not_reorder_a_group() {
    let mut shard = Shard::with_room();
    shard.run(send_each(&[("first", of("g", 0)), ("second", of("g", 9)), ("other", priority(5))]));
    assert_eq!(ids(&shard.lease(9)), [(3, 1), (1, 1)]);
    shard.run(ack(&[(1, 1)]));
    shard.run(send_with(&["late"], || priority(5)));
    assert_eq!(ids(&shard.lease(9)), [(2, 1), (4, 1)], "at the head, it has its own priority");
    audit(&shard.tables);
}

#[test]
fn a_head_that_failed_keeps_its_turn() {
    let mut shard = Shard::with_room();
    shard.run(send_with(&["a", "b"], || group("g")));
    shard.lease(9);
    shard.run(nack(&[(1, 1)], None));
    assert_eq!(ids(&shard.lease(9)), [(1, 2)]);
    shard.run(nack(&[(1, 2)], Some(500)));
    assert_eq!((shard.lease(9), shard.places("jobs")), (vec![], (0, 0, 1, 1)));
    audit(&shard.tables);
    shard.wait(500);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(1, 3)]);
    shard.wait(30_001);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(1, 4)]);
    shard.run(ack(&[(1, 4)]));
    assert_eq!(ids(&shard.lease(9)), [(2, 1)]);
    audit(&shard.tables);
}

#[test]
fn the_turn_passes_whichever_way_the_head_goes() {
    type Way = (&'static str, fn(&mut Shard));
    let ways: [Way; 8] = [
        ("acked", |shard| {
            shard.lease(1);
            shard.run(ack(&[(1, 1)]));
        }),
        ("rejected", |shard| {
            shard.lease(1);
            shard.run(reject(&[(1, 1)]));
        }),
        ("taken", |shard| {
            assert_eq!(ids(&leased(shard.run(take(9)))), [(1, 1)], "one after the other also here");
        }),
        ("cancelled", |shard| {
            shard.run(cancel(&[1]));
        }),
        ("cancelled while it waited for its time", |shard| {
            shard.lease(1);
            shard.run(nack(&[(1, 1)], Some(500)));
            shard.run(cancel(&[1]));
        }),
        ("moved", |shard| {
            shard.run(move_items(Some("other"), 1));
        }),
        ("expired", |shard| {
            shard.wait(1_000);
            shard.advance();
        }),
        ("tried enough", |shard| {
            for attempt in 1..=10 {
                shard.lease(1);
                shard.run(nack(&[(1, attempt)], None));
            }
        }),
    ];
    for (way, go) in ways {
        let mut shard = Shard::with_room();
        let short = ItemOptions { ttl_ms: Some(1_000), ..group("g") };
        shard.run(send_each(&[("a", short), ("b", group("g")), ("c", group("g"))]));
        go(&mut shard);
        audit(&shard.tables);
        assert_eq!(shard.places("jobs"), (1, 0, 0, 1), "{way}");
        assert_eq!(ids(&shard.lease(9)), [(2, 1)], "{way}");
        shard.run(ack(&[(2, 1)]));
        assert_eq!(ids(&shard.lease(9)), [(3, 1)], "{way}");
    }
}

#[test]
fn an_item_that_goes_from_the_middle_moves_nobody() {
    let mut shard = Shard::with_room();
    shard.run(send_with(&["a", "b", "c"], || group("g")));
    shard.run(cancel(&[2]));
    assert_eq!(shard.places("jobs"), (1, 0, 0, 1));
    audit(&shard.tables);
    assert_eq!(ids(&shard.lease(9)), [(1, 1)]);
    shard.run(ack(&[(1, 1)]));
    assert_eq!(ids(&shard.lease(9)), [(3, 1)]);
}

#[test]
fn a_delay_holds_up_the_group_of_a_head_and_none_else() {
    let mut shard = Shard::with_room();
    let late = ItemOptions { not_before: NotBefore::After(500), ..group("g") };
    shard.run(send_each(&[("a", late), ("b", group("g")), ("c", group("h"))]));
    assert_eq!(shard.places("jobs"), (1, 0, 1, 1));
    assert_eq!(ids(&shard.lease(9)), [(3, 1)]);
    shard.wait(500);
    shard.advance();
    assert_eq!(ids(&shard.lease(9)), [(1, 1)]);
    audit(&shard.tables);
}

#[test]
fn the_next_of_a_group_whose_head_outlived_its_time_keeps_its_place() {
    let mut shard = Shard::with_room();
    let short = ItemOptions { ttl_ms: Some(10), ..group("g") };
    shard.run(send_each(&[
        ("a", short),
        ("x", priority(0)),
        ("b", group("g")),
        ("y", priority(0)),
        ("z", priority(0)),
    ]));
    shard.wait(10);
    assert_eq!(ids(&shard.lease(3)), [(2, 1), (3, 1), (4, 1)]);
    audit(&shard.tables);
    assert_eq!(ids(&shard.lease(3)), [(5, 1)]);
    audit(&shard.tables);
}

#[test]
fn the_next_of_a_group_goes_before_what_is_lower() {
    let mut shard = Shard::with_room();
    let short = |priority| ItemOptions { ttl_ms: Some(10), ..of("g", priority) };
    shard.run(send_each(&[
        ("a", short(5)),
        ("b", short(9)),
        ("c", of("g", 9)),
        ("x", priority(5)),
        ("y", priority(0)),
    ]));
    shard.wait(10);
    assert_eq!(ids(&shard.lease(2)), [(3, 1), (4, 1)]);
    audit(&shard.tables);
    assert_eq!(ids(&shard.lease(3)), [(5, 1)]);
    assert_eq!(shard.view("jobs").totals.expired, 2);
}

#[test]
fn groups_are_told_apart_by_every_byte() {
    let mut shard = Shard::with_room();
    let names = ["", "g", "g\0", "g\0\0", "\0", "h", "gh"];
    let items: Vec<_> = names.iter().chain(&names).map(|name| ("x", group(name))).collect();
    shard.run(send_each(&items));
    assert_eq!(shard.places("jobs"), (7, 0, 0, 7));
    audit(&shard.tables);
    shard.lease(9);
    shard.run(ack(&(1..=7).map(|item| (item, 1)).collect::<Vec<_>>()));
    assert_eq!(ids(&shard.lease(9)), (8..=14).map(|item| (item, 1)).collect::<Vec<_>>());
    audit(&shard.tables);
}

#[test]
fn a_dropped_head_passes_its_turn() {
    let mut shard = Shard::with_room();
    shard.run(make(SettingsPatch {
        max_items: Some(3),
        overflow: Some(crate::Overflow::DropOldest),
        ..SettingsPatch::default()
    }));
    shard.run(send_with(&["a", "b", "c"], || group("g")));
    shard.run(send(&["x", "y"]));
    assert_eq!(ids(&shard.lease(9)), [(3, 1), (4, 1), (5, 1)]);
    assert_eq!(shard.view("jobs").totals.dropped, 2);
    audit(&shard.tables);
}
