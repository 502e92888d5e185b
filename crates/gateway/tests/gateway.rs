//! A gateway between real clients and hosts that are lost, step down or refuse.

#[path = "../../client/tests/support/cluster.rs"]
#[expect(dead_code, reason = "shared with the client's tests, which use the rest")]
mod cluster;

#[path = "gateway/ends.rs"]
mod ends;
#[path = "gateway/front.rs"]
mod front;
#[path = "gateway/scripted.rs"]
mod scripted;
#[path = "gateway/streams.rs"]
mod streams;
#[path = "gateway/subscriptions.rs"]
mod subscriptions;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, Host, PATIENCE, body, send};
use conclave_client::{Client, ClientError, Session};
use conclave_gateway::{GatewayOptions, RESUME_TOKEN_TRAILER};
use conclave_proto::status::reason_of;
use conclave_proto::v1::{
    ClientFrame, ErrorReason, GetRoomRequest, Hello, ListRoomsRequest, Ping, ReceiveItemsRequest, SendItemsRequest,
    ServerFrame, client_frame, server_frame,
};
use front::{Front, signed, token};
use tonic::{Code, Status, Streaming};

/// Three hosts of one cluster behind one gateway.
struct Edge {
    cluster: Arc<Cluster>,
    hosts: Vec<Host>,
    front: Front,
}

impl Deref for Edge {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl Edge {
    async fn start() -> Edge {
        let cluster = Cluster::new();
        let hosts: Vec<_> = (0..3).map(|_| Host::start(&cluster)).collect();
        let addresses = hosts.iter().map(|host| host.address.clone()).collect();
        let front = Front::start(addresses, GatewayOptions::default()).await;
        Edge { cluster, hosts, front }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.address, &token()).await.unwrap()
    }

    async fn session(&self) -> Session {
        in_time(Session::open(&self.client().await, "rooms/lab")).await.unwrap()
    }
}

fn hello() -> ClientFrame {
    let hello = Hello { room: "rooms/lab".to_owned(), ..Default::default() };
    ClientFrame { body: Some(client_frame::Body::Hello(hello)), ..Default::default() }
}

fn frame(sequence: u64) -> ClientFrame {
    let body = Some(client_frame::Body::SendItems(send(body(sequence as usize))));
    ClientFrame { sequence, body, ..Default::default() }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it ends in time")
}

async fn next(stream: &mut Streaming<ServerFrame>) -> ServerFrame {
    in_time(stream.message()).await.unwrap().expect("a frame")
}

async fn end(stream: &mut Streaming<ServerFrame>) -> Status {
    loop {
        match in_time(stream.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => return status,
        }
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Option<ErrorReason> {
    result.unwrap_err().reason
}

#[tokio::test]
async fn a_client_does_not_notice_that_its_host_is_killed() {
    const FRAMES: usize = 2_000;
    let mut edge = Edge::start().await;
    let session = edge.session().await;
    edge.cluster.mute_after(500);
    let replies: Vec<_> = (0..FRAMES).map(|number| session.send_items(send(body(number)))).collect();
    let receive = session.receive_items(ReceiveItemsRequest::default());
    edge.cluster.until(|seen| seen.applied >= 800).await;
    edge.hosts[0].kill().await;
    edge.cluster.lead(1);
    edge.cluster.unmute();
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(in_time(reply).await.unwrap().first_item, number as u64 + 1);
    }
    in_time(receive).await.unwrap();
    assert_eq!(edge.cluster.items(), (0..FRAMES).map(body).collect::<Vec<_>>());
    assert_eq!(session.resumes(), 0, "the gateway alone took the session up again");
    assert_eq!(edge.cluster.violations(), Vec::<String>::new());
    let hello = edge.cluster.hellos().pop().unwrap();
    assert!(hello.unanswered && hello.sent_sequence >= 800 && !hello.resume_token.is_empty(), "{hello:?}");
    in_time(session.close()).await;
    assert_eq!(edge.cluster.kept_outcomes(), 0, "the client's last acknowledgement arrived");
}

#[tokio::test]
async fn frames_that_a_deposed_leader_dropped_are_sent_to_the_next_in_order() {
    const FRAMES: usize = 1_000;
    let edge = Edge::start().await;
    let session = edge.session().await;
    edge.cluster.step_down_after(300);
    let replies: Vec<_> = (0..FRAMES).map(|number| session.send_items(send(body(number)))).collect();
    for reply in replies {
        in_time(reply).await.unwrap();
    }
    assert_eq!(edge.cluster.items(), (0..FRAMES).map(body).collect::<Vec<_>>());
    assert_eq!((session.resumes(), edge.cluster.hellos().len()), (0, 2), "the hint was followed");
}

#[tokio::test]
async fn a_host_that_hangs_is_left_when_another_leads() {
    let edge = Edge::start().await;
    edge.announce(0, 1);
    let session = edge.session().await;
    in_time(session.send_items(send(body(0)))).await.unwrap();
    edge.cluster.hang(0);
    let reply = session.send_items(send(body(1)));
    edge.cluster.lead(1);
    edge.announce(1, 2);
    assert_eq!(in_time(reply).await.unwrap().first_item, 2);
    assert_eq!((session.resumes(), edge.cluster.hellos().len()), (0, 2));
    assert_eq!(edge.cluster.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_hosts_farewell_stays_between_host_and_gateway() {
    let edge = Edge::start().await;
    let (frames, mut stream) = edge.stream(hello()).await;
    let first = next(&mut stream).await;
    frames.send(frame(1)).await.unwrap();
    assert_eq!(next(&mut stream).await.reply_to, 1);
    edge.cluster.farewell();
    let second = next(&mut stream).await;
    let token = |frame: ServerFrame| match frame.body {
        Some(server_frame::Body::Welcome(welcome)) => welcome.resume_token,
        other => panic!("not a Welcome: {other:?}"),
    };
    assert_ne!(token(first), token(second), "the client is given the newest token");
    frames.send(frame(2)).await.unwrap();
    assert_eq!(next(&mut stream).await.reply_to, 2);
    drop(frames);
    assert!(in_time(stream.message()).await.unwrap().is_none(), "a session that the client closes ends well");
}

#[tokio::test]
async fn a_superseded_stream_ends_with_that_and_is_not_attached_again() {
    let mut edge = Edge::start().await;
    let (frames, mut stream) = edge.stream(hello()).await;
    next(&mut stream).await;
    frames.send(frame(1)).await.unwrap();
    next(&mut stream).await;
    edge.cluster.attach_elsewhere();
    edge.cluster.lead(1);
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason_of(&status)), (Code::Aborted, Some(ErrorReason::Superseded)));
    assert!(status.metadata().get_bin(RESUME_TOKEN_TRAILER).is_none());
    edge.hosts[0].kill().await;
}

#[tokio::test]
async fn frames_sent_behind_hello_wait_for_welcome() {
    let mut edge = Edge::start().await;
    edge.hosts[0].kill().await;
    edge.cluster.lead(2);
    let (frames, mut stream) = edge.stream(hello()).await;
    for sequence in 1..=3 {
        frames.send(frame(sequence)).await.unwrap();
    }
    assert!(matches!(next(&mut stream).await.body, Some(server_frame::Body::Welcome(_))));
    for sequence in 1..=3 {
        assert_eq!(next(&mut stream).await.reply_to, sequence);
    }
    assert_eq!(edge.cluster.items(), [body(1), body(2), body(3)]);
}

#[tokio::test]
async fn a_stopping_gateway_says_so_and_hands_out_the_token() {
    let edge = Edge::start().await;
    let (_frames, mut stream) = edge.stream(hello()).await;
    let Some(server_frame::Body::Welcome(welcome)) = next(&mut stream).await.body else { panic!("no Welcome") };
    edge.stop.cancel();
    assert!(matches!(next(&mut stream).await.body, Some(server_frame::Body::GoAway(_))));
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(ErrorReason::Draining)));
    let token = status.metadata().get_bin(RESUME_TOKEN_TRAILER).unwrap().to_bytes().unwrap();
    assert_eq!(token, welcome.resume_token);
    drop(stream);
    in_time(edge.front.served).await.unwrap();
}

#[tokio::test]
async fn bad_streams_end_with_their_reason() {
    let edge = Edge::start().await;
    let room = |room: &str| {
        let hello = Hello { room: room.to_owned(), ..Default::default() };
        ClientFrame { body: Some(client_frame::Body::Hello(hello)), ..Default::default() }
    };
    let ping = ClientFrame { body: Some(client_frame::Body::Ping(Ping {})), ..Default::default() };
    let rows = [
        (ping, ErrorReason::HelloExpected),
        (frame(1), ErrorReason::HelloExpected),
        (room("labs/x"), ErrorReason::NameInvalid),
        (room("rooms/Not A Room"), ErrorReason::NameInvalid),
        (room("rooms/none"), ErrorReason::RoomNotFound),
    ];
    for (first, expected) in rows {
        let (_frames, mut stream) = edge.stream(first.clone()).await;
        assert_eq!(reason_of(&end(&mut stream).await), Some(expected), "{first:?}");
    }
    let (frames, mut stream) = edge.stream(hello()).await;
    next(&mut stream).await;
    let mut large = frame(1);
    large.body = Some(client_frame::Body::SendItems(send(vec![0; 3 << 20])));
    frames.send(large).await.unwrap();
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason_of(&status)), (Code::ResourceExhausted, Some(ErrorReason::TooLarge)));
    assert!(status.message().contains("1048576") && status.message().contains("31457"), "{}", status.message());
}

#[tokio::test]
async fn calls_find_the_leader_wherever_it_is() {
    let mut edge = Edge::start().await;
    let client = edge.client().await;
    let get = || client.get_room(GetRoomRequest { name: "rooms/lab".to_owned(), ..Default::default() });
    assert_eq!(in_time(get()).await.unwrap().revision, 7);
    edge.cluster.lead(2);
    assert_eq!(in_time(get()).await.unwrap().revision, 7);
    let calls = edge.cluster.calls();
    assert_eq!(in_time(get()).await.unwrap().revision, 7);
    assert_eq!(edge.cluster.calls(), calls + 1, "the leader is remembered");
    edge.hosts[2].kill().await;
    edge.cluster.lead(1);
    assert_eq!(in_time(get()).await.unwrap().revision, 7);
}

#[tokio::test]
async fn a_write_that_was_cut_is_repeated_only_under_its_request_id() {
    let edge = Edge::start().await;
    let client = edge.client().await;
    edge.cluster.cut_next_write();
    let blind = in_time(client.send_items(send("blind"))).await;
    assert_eq!(reason(blind), Some(ErrorReason::OutcomeUnknown));
    edge.cluster.cut_next_write();
    let named = SendItemsRequest { request_id: "once".to_owned(), ..send("named") };
    edge.cluster.lead(0);
    assert_eq!(in_time(client.send_items(named)).await.unwrap().first_item, 2);
    assert_eq!(edge.cluster.items(), ["blind", "named"]);
}

#[tokio::test]
async fn rooms_of_all_shards_are_listed_page_by_page() {
    let edge = Edge::start().await;
    let client = edge.client().await;
    let expected: Vec<_> = (0..4).flat_map(|shard| (0..2).map(move |room| format!("rooms/{shard}-{room}"))).collect();
    for page_size in [1, 3, 8, 100] {
        let (mut listed, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListRoomsRequest { page_size, page_token, ..Default::default() };
            let page = in_time(client.list_rooms(request)).await.unwrap();
            assert!(page.rooms.len() <= page_size as usize);
            listed.extend(page.rooms.into_iter().map(|room| room.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, expected, "pages of {page_size}");
    }
    let foreign = ListRoomsRequest { page_token: "who knows".to_owned(), ..Default::default() };
    assert_eq!(reason(client.list_rooms(foreign).await), Some(ErrorReason::FieldInvalid));
}

#[tokio::test]
async fn tokens_are_checked_before_anything_else() {
    let edge = Edge::start().await;
    let get = |token: String| {
        let address = edge.address.clone();
        async move {
            let client = Client::connect(&address, &token).await.unwrap();
            client.get_room(GetRoomRequest { name: "rooms/lab".to_owned(), ..Default::default() }).await
        }
    };
    assert!(get(token()).await.is_ok());
    let before = edge.cluster.calls();
    assert_eq!(reason(get(String::new()).await), Some(ErrorReason::TokenMissing));
    assert_eq!(reason(get("x".to_owned()).await), Some(ErrorReason::TokenInvalid));
    assert_eq!(reason(get(signed(7, Duration::from_secs(3_600))).await), Some(ErrorReason::TokenInvalid));
    assert_eq!(reason(get(signed(6, Duration::from_secs(1))).await), Some(ErrorReason::TokenExpired));
    assert_eq!(edge.cluster.calls(), before, "no host saw any of it");
}

#[tokio::test]
async fn bad_calls_are_refused_with_their_reason() {
    let edge = Edge::start().await;
    let client = edge.client().await;
    let room = |name: &str| client.get_room(GetRoomRequest { name: name.to_owned(), ..Default::default() });
    assert_eq!(reason(room("").await), Some(ErrorReason::NameInvalid));
    assert_eq!(reason(room("rooms/Lab").await), Some(ErrorReason::NameInvalid));
    let large = client.send_items(send(vec![0; 5 << 20])).await.unwrap_err();
    assert_eq!((large.code, large.reason), (Code::ResourceExhausted, Some(ErrorReason::TooLarge)));
    assert!(large.message.contains("4194304") && large.message.contains("52429"), "{}", large.message);
}
