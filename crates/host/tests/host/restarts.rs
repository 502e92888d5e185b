//! A host that lost its power comes back with everything it had acknowledged.

use std::time::Duration;

use conclave_proto::v1::{self, ErrorReason, Hello};

use crate::calls::{AckResult, bodies, id, ids, items, receive_request, refusal, send};
use crate::cluster::{Cluster, ONE_HOST};

const JOBS: &str = "rooms/lab/queues/jobs";
const NO_WAIT: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);

async fn cut_power(cluster: &mut Cluster) {
    let (_, term) = cluster.leader("lab").await;
    cluster.kill(0).await;
    cluster.start_host(0).await;
    cluster.next_leader("lab", term).await;
    cluster.active(0).await;
}

#[tokio::test]
async fn everything_acknowledged_outlives_a_power_cut() {
    let mut cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    let mut outcomes = Vec::new();
    for sequence in 1..=20 {
        session.ask(sequence, send(JOBS, &format!("work {sequence}")));
        outcomes.push(session.sent(sequence).await);
    }
    let lease = Duration::from_secs(3_600);
    let leased = ada.receive(receive_request(JOBS, NO_WAIT, lease)).await.unwrap();
    let done = ada.receive(receive_request(JOBS, NO_WAIT, lease)).await.unwrap();
    assert_eq!(ada.ack(JOBS, &[id(&done[0])]).await.unwrap(), [AckResult::Acked]);
    let named = v1::SendItemsRequest { request_id: "once".into(), ..items(JOBS, &["by request id"]) };
    let by_id = ada.send(named.clone()).await.unwrap();

    cut_power(&mut cluster).await;
    let ada = cluster.at_leader("lab", "ada").await;
    assert_eq!(ada.send(named).await.unwrap(), by_id);
    let queue = ada.queue(JOBS).await.unwrap();
    assert_eq!((queue.ready_count, queue.leased_count), (19, 1));
    assert_eq!(ada.ack(JOBS, &[id(&done[0])]).await.unwrap(), [AckResult::AlreadyAcked]);
    assert_eq!(ada.ack(JOBS, &[id(&leased[0])]).await.unwrap(), [AckResult::Acked]);

    let mut again = ada.resume("lab", session.token(), 20).await.unwrap();
    for sequence in 1..=20 {
        again.ask(sequence, send(JOBS, "must not count"));
        assert_eq!(again.sent(sequence).await, outcomes[sequence as usize - 1]);
    }
    again.ask(21, send(JOBS, "work 21"));
    again.sent(21).await;
    let all = v1::ReceiveItemsRequest { max_items: 128, ..receive_request(JOBS, NO_WAIT, lease) };
    let rest = ada.receive(all).await.unwrap();
    let mut expected: Vec<String> = (3..=20).map(|sequence| format!("work {sequence}")).collect();
    expected.extend(["by request id".into(), "work 21".into()]);
    assert_eq!(bodies(&rest), expected);
}

#[tokio::test]
async fn what_fell_due_while_the_host_was_down_is_done_when_it_is_back() {
    let mut cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, send(JOBS, "work"));
    session.sent(1).await;
    let lease = Duration::from_secs(60);
    let taken = ada.receive(receive_request(JOBS, NO_WAIT, lease)).await.unwrap();

    // Past the lease and past the session's ten minutes.
    cluster.clock(0).advance(Duration::from_secs(11 * 60));
    cut_power(&mut cluster).await;
    let ada = cluster.at_leader("lab", "ada").await;
    let again = ada.receive(receive_request(JOBS, LONG, lease)).await.unwrap();
    assert_eq!(ids(&again), [(1, 2)]);
    assert_eq!(ada.ack(JOBS, &[id(&taken[0])]).await.unwrap(), [AckResult::Stale]);

    // The session went with the same advance: with frames at stake that is said, without it is begun anew.
    assert_eq!(refusal(ada.resume("lab", session.token(), 1).await), ErrorReason::SessionExpired);
    let hello = Hello { room: "rooms/lab".into(), resume_token: session.token().clone(), ..Default::default() };
    let mut renewed = ada.open(Hello { sent_sequence: 1, unanswered: false, ..hello }).await.unwrap();
    assert!(!renewed.welcome.resumed);
    renewed.ask(1, send(JOBS, "of the new session"));
    assert_eq!(renewed.sent(1).await.first_item, 2);
}

#[tokio::test]
async fn a_power_cut_amid_sends_loses_none_that_was_answered() {
    let mut cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    for sequence in 1..=500 {
        session.ask(sequence, send(JOBS, &format!("work {sequence}")));
    }
    let mut answered = Vec::new();
    for sequence in 1..=100 {
        answered.push(session.sent(sequence).await);
    }

    cut_power(&mut cluster).await;
    let ada = cluster.at_leader("lab", "ada").await;
    let mut again = ada.resume("lab", session.token(), 500).await.unwrap();
    for sequence in 1..=500 {
        again.ask(sequence, send(JOBS, &format!("work {sequence}")));
    }
    for sequence in 1..=500 {
        let sent = again.sent(sequence).await;
        assert_eq!(sent.first_item, sequence);
        if let Some(before) = answered.get(sequence as usize - 1) {
            assert_eq!(sent, *before);
        }
    }
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 500);
}
