//! Subscriptions of a session, and the order between events and replies.

use std::collections::BTreeSet;

use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ErrorReason};
use conclave_types::limits::MAX_SUBSCRIPTIONS;

use super::{JOBS, LAB, LOG, is_message, post, revisions, subscribe};
use crate::calls::{get_queue, send};
use crate::cluster::{Cluster, ONE_HOST, THREE_HOSTS};

#[tokio::test]
async fn the_log_is_followed_from_any_revision() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut author = ada.begin("lab").await.unwrap();
    let mut posted = author.post_many(1..=700, 1_000).await;
    let mut readers = Vec::new();
    for skipped in [0, 1, 350, 699, 700] {
        let mut reader = ada.begin("lab").await.unwrap();
        let after = if skipped == 0 { 0 } else { posted[skipped - 1] };
        let events = reader.follow(1, 7, LOG, after).await;
        assert!(events.iter().all(is_message));
        assert_eq!(revisions(&events), posted[skipped..]);
        readers.push(reader);
    }
    let more = author.post_many(701..=800, 10).await;
    for mut reader in readers {
        assert_eq!(revisions(&reader.events_until(7, *more.last().unwrap()).await), more);
    }
    posted.extend(more);
    let mut reader = ada.begin("lab").await.unwrap();
    assert_eq!(revisions(&reader.follow(1, 1, LOG, 0).await), posted);
}

#[tokio::test]
async fn own_messages_are_not_echoed_live_or_from_storage() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut own = ada.begin("lab").await.unwrap();
    let mut other = ada.begin("lab").await.unwrap();
    own.post_many(1..=300, 10).await;
    let theirs = other.post_many(1..=3, 10).await;
    assert_eq!(revisions(&own.follow(301, 1, LOG, 0).await), theirs);
    own.post_many(302..=310, 10).await;
    let theirs = other.post_many(4..=6, 10).await;
    assert_eq!(revisions(&own.events_until(1, *theirs.last().unwrap()).await), theirs);
}

#[tokio::test]
async fn every_event_comes_before_the_reply_of_its_revision() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut own = ada.begin("lab").await.unwrap();
    let mut other = ada.begin("lab").await.unwrap();
    own.follow(1, 1, LOG, 0).await;
    own.follow(2, 2, LAB, 0).await;
    const POSTS: u64 = 400;
    let others = tokio::spawn(async move { other.post_many(1..=POSTS, 3_500).await });
    for sequence in 3..3 + POSTS {
        // Reads between the posts: they see what was written a moment ago.
        own.ask(sequence, if sequence % 8 == 0 { get_room() } else { post("mine") });
    }
    let (mut seen, mut replies) = ([BTreeSet::new(), BTreeSet::new()], Vec::new());
    while replies.len() < POSTS as usize || seen.iter().any(|seen| seen.len() < POSTS as usize) {
        let frame = own.next().await.unwrap();
        match frame.body.unwrap() {
            Body::EventBatch(batch) => {
                let events = batch.events().unwrap();
                seen[frame.subscription as usize - 1]
                    .extend(events.iter().filter(|event| is_message(event)).map(|event| event.revision));
            }
            Body::PostMessage(_) | Body::GetRoom(_) => {
                let known = seen.each_ref().map(|seen| seen.range(..=frame.revision).count());
                replies.push((frame.revision, known));
            }
            other => panic!("{other:?}"),
        }
    }
    let others: BTreeSet<u64> = others.await.unwrap().into_iter().collect();
    for (revision, known) in replies {
        let due = others.range(..=revision).count();
        assert_eq!(known, [due; 2], "the reply of revision {revision} came too early");
    }
}

#[tokio::test]
async fn a_reply_waits_for_the_events_before_it_however_slowly_they_are_read() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let [mut own, mut other] = [ada.begin("lab").await.unwrap(), ada.begin("lab").await.unwrap()];
    own.follow(1, 1, LOG, 0).await;
    // More than waits for a connection, and less than a channel keeps.
    let others = other.post_many(1..=900, 3_500).await;
    own.ask(2, post("mine"));
    // Somebody else has it before the follower reads anything.
    let mut reader = ada.begin("lab").await.unwrap();
    if reader.follow(1, 1, LOG, *others.last().unwrap()).await.is_empty() {
        reader.events_until(1, others.last().unwrap() + 1).await;
    }
    assert_eq!(revisions(&own.events_until(1, *others.last().unwrap()).await), others);
    assert!(own.posted(2).await > *others.last().unwrap());
}

#[tokio::test]
async fn a_kept_outcome_waits_for_the_subscriptions_that_are_taken_up_again() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let [mut own, mut other] = [ada.begin("lab").await.unwrap(), ada.begin("lab").await.unwrap()];
    let others = other.post_many(1..=900, 3_500).await;
    own.ask(1, post("mine"));
    let revision = own.posted(1).await;
    let later = other.post_many(901..=910, 10).await;

    // As a gateway does that lost the reply together with the host.
    let mut resumed = ada.resume("lab", own.token(), 1).await.unwrap();
    resumed.ask_of(0, 1, subscribe(LOG, others[0]));
    resumed.ask_of(0, 2, subscribe(LAB, others[0]));
    resumed.ask_of(0, 3, subscribe(LOG, 1_000_000));
    resumed.ask(1, post("mine"));
    let mut seen = [Vec::new(), Vec::new()];
    let answered = loop {
        let frame = resumed.next().await.unwrap();
        match frame.body.unwrap() {
            Body::EventBatch(batch) => {
                let events = batch.events().unwrap();
                let messages = events.iter().filter(|event| is_message(event)).map(|event| event.revision);
                seen[frame.subscription as usize - 1].extend(messages);
            }
            Body::Live(_) => {}
            Body::Status(_) => assert_eq!((frame.reply_to, frame.subscription), (0, 3), "a failure holds nothing up"),
            Body::PostMessage(_) => break (frame.reply_to, frame.revision),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answered, (1, revision));
    for seen in seen {
        let due: Vec<_> = seen.into_iter().filter(|seen| *seen <= revision).collect();
        assert_eq!(due.len(), others.len() - 1, "the reply came too early");
        assert_eq!(due, others[1..]);
    }
    assert!(revision < later[0]);
}

#[tokio::test]
async fn a_subscription_that_cannot_be_taken_up_again_holds_no_reply_up() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut session = ada.begin("lab").await.unwrap();
    session.ask_of(0, 1, subscribe(LOG, 1_000_000));
    session.ask(1, post("mine"));
    assert_eq!(session.ended(1).await, ErrorReason::CursorAhead);
    session.posted(1).await;
}

#[tokio::test]
async fn a_client_that_reads_late_gets_its_reply_behind_a_subscription_that_is_taken_up_again() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let [mut session, mut other] = [ada.begin("lab").await.unwrap(), ada.begin("lab").await.unwrap()];
    // More than finds places: the reply waits for a client that does not read, and other frames behind it.
    let others = other.post_many(1..=900, 3_500).await;
    session.ask_of(0, 1, subscribe(LOG, 0));
    session.ask(1, post("mine"));
    session.ask(2, get_room());
    session.ask(3, post("mine too"));
    // Somebody else has both before the session reads anything.
    let mut reader = ada.begin("lab").await.unwrap();
    let upto = others.last().unwrap() + 2;
    if reader.follow(1, 1, LOG, *others.last().unwrap()).await.len() < 2 {
        reader.events_until(1, upto).await;
    }
    let mut seen = Vec::new();
    while seen.len() < others.len() {
        match session.next().await.unwrap().body.unwrap() {
            Body::EventBatch(batch) => seen.extend(revisions(&batch.events().unwrap())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, others);
    let mut replies = Vec::new();
    while replies.len() < 3 {
        let frame = session.next().await.unwrap();
        if !matches!(frame.body, Some(Body::Live(_) | Body::EventBatch(_))) {
            replies.push(frame.reply_to);
        }
    }
    assert_eq!(replies, [1, 2, 3]);
}

fn get_room() -> Asked {
    Asked::GetRoom(v1::GetRoomRequest { name: LAB.into(), ..Default::default() })
}

#[tokio::test]
async fn a_subscription_that_cannot_begin_is_refused_and_its_number_stays_free() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut session = ada.begin("lab").await.unwrap();
    let refusals = [
        (0, subscribe(LOG, 0), ErrorReason::FieldInvalid),
        (1, subscribe("rooms/lab/everything", 0), ErrorReason::NameInvalid),
        (1, subscribe("rooms/office/messages", 0), ErrorReason::OtherRoom),
        (1, subscribe(LOG, 1_000), ErrorReason::CursorAhead),
        (1, subscribe(LAB, 1_000), ErrorReason::CursorAhead),
    ];
    for (sequence, (number, asked, reason)) in (1..).zip(refusals) {
        session.ask_of(sequence, number, asked);
        assert_eq!(session.refused(sequence).await, reason, "{sequence}");
    }
    session.follow(10, 1, LOG, 0).await;
    session.ask_of(11, 1, subscribe(LAB, 0));
    assert_eq!(session.refused(11).await, ErrorReason::FieldInvalid);

    // Taken up again by a gateway: only a failure is told.
    session.ask_of(0, 2, subscribe(LOG, 1_000));
    assert_eq!(session.ended(2).await, ErrorReason::CursorAhead);
    session.ask_of(0, 2, subscribe(LOG, 0));
    assert!(session.until_live(2).await.is_empty());

    session.ask_of(0, 1, Asked::Unsubscribe(v1::Unsubscribe {}));
    session.ask_of(0, 2, Asked::Unsubscribe(v1::Unsubscribe {}));
    session.follow(12, 1, LOG, 0).await;
    for number in 2..=MAX_SUBSCRIPTIONS as u64 {
        session.ask_of(0, number, subscribe(LOG, 0));
    }
    session.ask_of(13, MAX_SUBSCRIPTIONS as u64 + 1, subscribe(LOG, 0));
    let refused = loop {
        match session.next().await.unwrap() {
            v1::ServerFrame { reply_to: 13, body: Some(Body::Status(status)), .. } => break status,
            frame => assert!(matches!(frame.body, Some(Body::Live(_))), "{frame:?}"),
        }
    };
    assert_eq!(conclave_proto::status::reason_of_frame(&refused), Some(ErrorReason::SubscriptionLimit));
}

#[tokio::test]
async fn a_subscription_sees_the_sessions_own_writes_before_it() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, send(JOBS, "before"));
    session.ask_of(2, 1, subscribe(LAB, 0));
    session.ask(3, get_queue(JOBS));
    let sent = session.sent(1).await.revision;
    let subscribed = session.next().await.unwrap();
    assert_eq!((subscribed.reply_to, subscribed.subscription), (2, 1));
    let mut live = 0;
    let mut answered = false;
    while live == 0 || !answered {
        let frame = session.next().await.unwrap();
        match frame.body.unwrap() {
            Body::Live(at) => live = at.revision,
            Body::EventBatch(_) => {}
            Body::GetQueue(_) => answered = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(live >= sent);
}

#[tokio::test]
async fn a_new_leader_goes_on_after_the_cursor() {
    let mut cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, term, ada) = cluster.with_room("lab", "ada").await;
    let mut author = ada.begin("lab").await.unwrap();
    let mut reader = ada.begin("lab").await.unwrap();
    let mut posted = author.post_many(1..=100, 100).await;
    let mut seen = revisions(&reader.follow(1, 1, LOG, 0).await);
    posted.extend(author.post_many(101..=150, 100).await);
    seen.extend(revisions(&reader.events_until(1, posted[120]).await));

    cluster.kill(leader).await;
    cluster.next_leader("lab", term).await;
    let token = reader.token().clone();
    let (_, resumed) = cluster.at_any_leader("lab", "ada", async |ada| ada.resume("lab", &token, 1).await).await;
    let mut resumed = resumed.unwrap();
    resumed.ask_of(0, 1, subscribe(LOG, *seen.last().unwrap()));
    seen.extend(revisions(&resumed.until_live(1).await));
    assert_eq!(seen, posted);
}
