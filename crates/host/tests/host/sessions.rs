//! A session's durable frames take effect once and in order, over any number of streams.

use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ErrorReason, Hello};

use crate::calls::{get_queue, items, refusal, send};
use crate::cluster::{Cluster, ONE_HOST};

const JOBS: &str = "rooms/lab/queues/jobs";

#[tokio::test]
async fn a_resent_frame_gets_its_kept_outcome_and_no_second_effect() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut first = ada.begin("lab").await.unwrap();
    let mut outcomes = Vec::new();
    for sequence in 1..=3 {
        first.ask(sequence, send(JOBS, "once"));
        outcomes.push(first.sent(sequence).await);
    }

    let mut second = ada.resume("lab", first.token(), 3).await.unwrap();
    assert!(second.welcome.resumed);
    for sequence in 1..=3 {
        second.ask(sequence, send(JOBS, "once"));
    }
    for sequence in 1..=3 {
        assert_eq!(second.sent(sequence).await, outcomes[sequence as usize - 1]);
    }
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 3);
}

#[tokio::test]
async fn a_frame_that_never_reached_the_log_is_not_applied_after_a_later_one() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut first = ada.begin("lab").await.unwrap();
    first.ask(1, Asked::SendItems(v1::SendItemsRequest { items: Vec::new(), ..items(JOBS, &[]) }));
    assert_eq!(first.refused(1).await, ErrorReason::FieldInvalid);
    first.ask(2, send(JOBS, "later"));
    first.sent(2).await;

    let mut second = ada.resume("lab", first.token(), 2).await.unwrap();
    second.ask(1, send(JOBS, "earlier"));
    assert_eq!(second.refused(1).await, ErrorReason::NotApplied);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 1);
}

#[tokio::test]
async fn acknowledged_outcomes_are_forgotten_and_the_others_kept() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut first = ada.begin("lab").await.unwrap();
    for sequence in 1..=2 {
        first.ask(sequence, send(JOBS, "held"));
        first.sent(sequence).await;
    }
    first.ask_acknowledging(3, 2, send(JOBS, "kept"));
    let kept = first.sent(3).await;

    let mut second = ada.resume("lab", first.token(), 3).await.unwrap();
    for sequence in 1..=3 {
        second.ask(sequence, send(JOBS, "again"));
    }
    assert_eq!(second.refused(1).await, ErrorReason::NotApplied);
    assert_eq!(second.refused(2).await, ErrorReason::NotApplied);
    assert_eq!(second.sent(3).await, kept);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 3);
}

#[tokio::test]
async fn a_newer_attachment_ends_the_older_stream_and_fences_its_frames() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut older = ada.begin("lab").await.unwrap();
    older.ask(1, send(JOBS, "first"));
    older.sent(1).await;

    let mut newer = ada.resume("lab", older.token(), 1).await.unwrap();
    older.ask(2, send(JOBS, "from the older stream"));
    newer.ask(2, send(JOBS, "from the newer stream"));
    let sent = newer.sent(2).await;
    assert_eq!(sent.first_item, 2);
    assert_eq!(older.end().await, ErrorReason::Superseded);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 2);

    // The newer stream has been used, so the older one's token counts no more.
    assert_eq!(refusal(ada.resume("lab", older.token(), 2).await), ErrorReason::Superseded);
    newer.ask(3, send(JOBS, "still here"));
    newer.sent(3).await;
}

#[tokio::test]
async fn a_session_without_a_record_is_fenced_as_well() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut older = ada.begin("lab").await.unwrap();
    let mut newer = ada.resume("lab", older.token(), 0).await.unwrap();
    assert!(newer.welcome.resumed);
    assert_eq!(older.end().await, ErrorReason::Superseded);
    newer.ask(1, send(JOBS, "first"));
    assert_eq!(newer.sent(1).await.first_item, 1);
}

#[tokio::test]
async fn a_lost_welcome_is_asked_for_again_with_the_same_token() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut first = ada.begin("lab").await.unwrap();
    first.ask(1, send(JOBS, "once"));
    let outcome = first.sent(1).await;

    let mut lost = ada.resume("lab", first.token(), 1).await.unwrap();
    let mut third = ada.resume("lab", first.token(), 1).await.unwrap();
    assert!(third.welcome.resumed);
    assert_eq!(lost.end().await, ErrorReason::Superseded);
    third.ask(1, send(JOBS, "once"));
    assert_eq!(third.sent(1).await, outcome);
}

#[tokio::test]
async fn a_resume_token_counts_only_for_its_room_participant_and_cluster() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, send(JOBS, "hers"));
    session.sent(1).await;

    let office = cluster.at_leader("office", "ada").await;
    office.create_room("office").await.unwrap();
    let invalid = ErrorReason::ResumeTokenInvalid;
    assert_eq!(refusal(office.resume("office", session.token(), 1).await), invalid);
    let bob = ada.claiming(cluster.claims("bob"));
    assert_eq!(refusal(bob.resume("lab", session.token(), 1).await), invalid);
    let mut forged = session.token().to_vec();
    forged[20] ^= 1;
    assert_eq!(refusal(ada.resume("lab", &forged.into(), 1).await), invalid);
    assert_eq!(refusal(ada.resume("lab", &vec![7; 100].into(), 1).await), invalid);

    // None of them touched the session.
    session.ask(2, send(JOBS, "hers too"));
    session.sent(2).await;
}

#[tokio::test]
async fn replies_come_in_order_and_reads_see_the_sessions_own_writes() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    let frames = 300;
    for sequence in 1..=frames {
        session.ask(
            sequence,
            match sequence % 3 {
                1 => send(JOBS, "counted"),
                2 => get_queue(JOBS),
                _ => Asked::SendItems(items(JOBS, &[])),
            },
        );
    }
    let mut sent = 0;
    for sequence in 1..=frames {
        match (sequence % 3, session.reply(sequence).await) {
            (1, Body::SendItems(response)) => {
                sent += 1;
                assert_eq!(response.first_item, sent);
            }
            (2, Body::GetQueue(response)) => assert!(response.queue.unwrap().size >= sent),
            (0, Body::Status(_)) => {}
            (_, other) => panic!("frame {sequence} was answered with {other:?}"),
        }
    }
    assert_eq!(ada.queue(JOBS).await.unwrap().size, sent);
}

#[tokio::test]
async fn a_refusal_by_the_state_is_an_outcome_that_is_kept_too() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut first = ada.begin("lab").await.unwrap();
    let to_missing = || Asked::SendItems(v1::SendItemsRequest { create: Some(false), ..items(JOBS, &["lost"]) });
    first.ask(1, to_missing());
    assert_eq!(first.refused(1).await, ErrorReason::QueueNotFound);
    ada.send(items(JOBS, &["made the queue"])).await.unwrap();

    let mut second = ada.resume("lab", first.token(), 1).await.unwrap();
    second.ask(1, to_missing());
    assert_eq!(second.refused(1).await, ErrorReason::QueueNotFound);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 1);
}

#[tokio::test]
async fn a_stream_that_breaks_the_rules_of_frames_ends_with_the_rule() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let hello = || Asked::Hello(Hello { room: "rooms/lab".into(), ..Default::default() });

    let mut twice = ada.begin("lab").await.unwrap();
    twice.ask(0, hello());
    assert_eq!(twice.end().await, ErrorReason::HelloExpected);

    let mut lost_count = ada.begin("lab").await.unwrap();
    lost_count.ask(2, send(JOBS, "second"));
    lost_count.sent(2).await;
    lost_count.ask(2, send(JOBS, "second again"));
    assert_eq!(lost_count.end().await, ErrorReason::SequenceInvalid);

    let mut elsewhere = ada.begin("lab").await.unwrap();
    elsewhere.ask(1, send("rooms/office/queues/jobs", "not here"));
    assert_eq!(elsewhere.refused(1).await, ErrorReason::OtherRoom);
    elsewhere.ask(2, send(JOBS, "here"));
    elsewhere.sent(2).await;
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 2);
}

#[tokio::test]
async fn a_closed_session_still_gets_every_reply() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let session = ada.begin("lab").await.unwrap();
    for sequence in 1..=50 {
        session.ask(sequence, send(JOBS, "said before leaving"));
    }
    let mut replies = session.close();
    for sequence in 1..=50 {
        let frame = replies.message().await.unwrap().expect("every frame is answered");
        assert_eq!(frame.reply_to, sequence);
    }
    assert_eq!(replies.message().await.unwrap(), None);
}
