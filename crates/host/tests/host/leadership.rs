//! Three hosts: what a session keeps when its shard's leader changes.

use std::time::{Duration, Instant};

use conclave_proto::v1::ErrorReason;
use conclave_proto::v1::server_frame::Body;

use crate::calls::{Caller, Stream, ids, receive, receive_request, send};
use crate::cluster::{Cluster, THREE_HOSTS};

const JOBS: &str = "rooms/lab/queues/jobs";

/// Takes a session up at whoever leads.
async fn resume_anywhere(cluster: &Cluster, session: &Stream, sent: u64) -> (Caller, Stream) {
    let resumed = cluster.at_any_leader("lab", "ada", async |ada| ada.resume("lab", session.token(), sent).await);
    let (ada, stream) = resumed.await;
    (ada, stream.expect("the session is taken up"))
}

#[tokio::test]
async fn kept_outcomes_outlive_the_leader() {
    let mut cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, term, ada) = cluster.with_room("lab", "ada").await;
    let mut session = ada.begin("lab").await.unwrap();
    let mut outcomes = Vec::new();
    for sequence in 1..=10 {
        session.ask(sequence, send(JOBS, "once"));
        outcomes.push(session.sent(sequence).await);
    }
    session.ask(11, receive(JOBS, Duration::ZERO, Duration::from_secs(600)));
    let taken = session.received(11).await;
    assert_eq!(ids(&taken), [(1, 1)]);

    cluster.kill(leader).await;
    cluster.next_leader("lab", term).await;
    let (ada, mut again) = resume_anywhere(&cluster, &session, 11).await;
    assert!(again.welcome.resumed);
    for sequence in 1..=10 {
        again.ask(sequence, send(JOBS, "once"));
    }
    again.ask(11, receive(JOBS, Duration::ZERO, Duration::from_secs(600)));
    // The receive may overtake the sends' replies: only durable frames and reads are answered in order.
    let mut sent = Vec::new();
    let mut received = None;
    while sent.len() < 10 || received.is_none() {
        let frame = again.next().await.unwrap();
        match frame.body {
            Some(Body::SendItems(response)) => sent.push(response),
            Some(Body::ReceiveItems(response)) => received = Some(ids(&response.deliveries)),
            other => panic!("frame {} was answered with {other:?}", frame.reply_to),
        }
    }
    assert_eq!(sent, outcomes);
    assert_eq!(received, Some(ids(&taken)));
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 10);
}

#[tokio::test]
async fn frames_cut_off_by_a_dying_leader_are_sent_again_without_loss_or_doubling() {
    let mut cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, term, ada) = cluster.with_room("lab", "ada").await;
    let mut session = ada.begin("lab").await.unwrap();
    let frames = 400;
    for sequence in 1..=frames {
        session.ask(sequence, send(JOBS, &sequence.to_string()));
    }
    for sequence in 1..=frames / 4 {
        session.sent(sequence).await;
    }
    cluster.kill(leader).await;
    cluster.next_leader("lab", term).await;
    let (ada, mut again) = resume_anywhere(&cluster, &session, frames).await;
    for sequence in 1..=frames {
        again.ask(sequence, send(JOBS, &sequence.to_string()));
    }
    for sequence in 1..=frames {
        assert_eq!(again.sent(sequence).await.first_item, sequence);
    }
    assert_eq!(ada.queue(JOBS).await.unwrap().size, frames);
}

#[tokio::test]
async fn draining_hands_leadership_over_within_a_second_and_sends_streams_to_the_new_leader() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, term, ada) = cluster.with_room("lab", "ada").await;
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, send(JOBS, "once"));
    let outcome = session.sent(1).await;
    let mut waiting = ada.begin("lab").await.unwrap();
    waiting.ask(1, receive("rooms/lab/queues/other", Duration::from_secs(60), Duration::from_secs(30)));
    waiting.settle(2, JOBS).await;

    let began = Instant::now();
    cluster.drain(leader).await;
    let (next, _) = cluster.next_leader("lab", term).await;
    assert!(began.elapsed() < Duration::from_secs(1), "draining took {:?}", began.elapsed());
    assert_ne!(next, leader);
    assert_eq!(session.end().await, ErrorReason::NotLeader);
    assert_eq!(waiting.end().await, ErrorReason::NotLeader);

    let (ada, mut again) = resume_anywhere(&cluster, &session, 1).await;
    again.ask(1, send(JOBS, "once"));
    assert_eq!(again.sent(1).await, outcome);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 1);
}

#[tokio::test]
async fn a_leader_that_comes_back_follows_and_has_missed_nothing() {
    let mut cluster = Cluster::start(THREE_HOSTS).await;
    let (first, term, ada) = cluster.with_room("lab", "ada").await;
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, send(JOBS, "before"));
    session.sent(1).await;
    cluster.kill(first).await;
    let (second, second_term) = cluster.next_leader("lab", term).await;
    let (_, mut again) = resume_anywhere(&cluster, &session, 1).await;
    again.ask(2, send(JOBS, "meanwhile"));
    again.sent(2).await;

    // With the other follower gone, nothing is committed without the one that came back.
    cluster.start_host(first).await;
    let third = 3 - first - second;
    cluster.kill(third).await;
    let (_, mut last) = resume_anywhere(&cluster, &again, 2).await;
    last.ask(3, send(JOBS, "after"));
    assert_eq!(last.sent(3).await.first_item, 3);
    // And it is the one that serves when the leader goes too.
    cluster.start_host(third).await;
    let (present, present_term) = cluster.leader("lab").await;
    assert!(present_term >= second_term);
    cluster.kill(present).await;
    cluster.next_leader("lab", present_term).await;
    let (ada, _stream) = resume_anywhere(&cluster, &last, 3).await;
    let taken = ada.receive(receive_request(JOBS, Duration::ZERO, Duration::from_secs(30))).await.unwrap();
    assert_eq!(ids(&taken), [(1, 1)]);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 3);
}
