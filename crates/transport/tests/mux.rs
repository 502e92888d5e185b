//! Two nodes over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use conclave_raft::peers::PeerFuture;
use conclave_raft::{Lane, PeerAddress, PeerCall, PeerError, PeerHandler, PeerTransport};
use conclave_transport::{GrpcTransport, LocalIdentity, PeerTransportOptions, peer_service};
use conclave_types::{Clock, ClusterUuid, GroupId, NodeUuid, ReplicaId, Timestamp};
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(10);
const TOKEN: [u8; 32] = [7; 32];
const ANN: NodeUuid = NodeUuid([0xa; 16]);
const BOB: NodeUuid = NodeUuid([0xb; 16]);

struct Skewed(u64);

impl Clock for Skewed {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Echoes bodies; group 3 takes longer for earlier calls, group 9 waits for the gate, group 8 is not hosted.
struct Echo {
    gate: Semaphore,
    seen: Mutex<Vec<(GroupId, Bytes)>>,
}

struct EchoHandler(Arc<Echo>);

impl PeerHandler for EchoHandler {
    fn handle(&self, call: PeerCall) -> PeerFuture {
        let echo = self.0.clone();
        Box::pin(async move {
            if call.group == GroupId(8) {
                return Err(PeerError::Refused(format!("no replica {} of group 8", call.to.0)));
            }
            if call.group == GroupId(3) {
                for _ in call.body[0]..60 {
                    tokio::task::yield_now().await;
                }
            }
            if call.group == GroupId(9) {
                echo.gate.acquire().await.unwrap().forget();
            }
            echo.seen.lock().push((call.group, call.body.clone()));
            Ok(call.body)
        })
    }
}

struct Node {
    transport: Arc<GrpcTransport>,
    address: SocketAddr,
    wall_ms: u64,
    echo: Arc<Echo>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn start(node: NodeUuid, wall_ms: u64, options: PeerTransportOptions) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Node::start_on(listener, LocalIdentity::new(node, TOKEN, None), wall_ms, options).await
    }

    async fn start_on(
        listener: TcpListener,
        identity: Arc<LocalIdentity>,
        wall_ms: u64,
        options: PeerTransportOptions,
    ) -> Node {
        let address = listener.local_addr().unwrap();
        let transport = GrpcTransport::new(options, identity, Arc::new(Skewed(wall_ms)));
        let echo = Arc::new(Echo { gate: Semaphore::new(0), seen: Mutex::default() });
        let service = peer_service(&transport, Arc::new(EchoHandler(echo.clone())));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let served = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .tcp_nodelay(true)
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, stopped)
                .await
                .unwrap();
        });
        Node { transport, address, wall_ms, echo, stop, served }
    }

    fn at(&self, node: Option<NodeUuid>) -> PeerAddress {
        PeerAddress { node, address: self.address.to_string() }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.transport.shutdown().await;
        self.served.await.unwrap();
    }
}

fn call(group: u16, body: impl Into<Bytes>) -> PeerCall {
    PeerCall { group: GroupId(group), to: ReplicaId(2), from: ReplicaId(1), kind: 5, body: body.into() }
}

async fn pair() -> (Node, Node) {
    let options = PeerTransportOptions::default;
    (Node::start(ANN, 1_000, options()).await, Node::start(BOB, 4_000, options()).await)
}

#[tokio::test]
async fn calls_round_trip_on_every_lane() {
    let (ann, bob) = pair().await;
    for lane in [Lane::Control, Lane::Data, Lane::Snapshot] {
        let calls = (0..500u32).map(|n| {
            let body = Bytes::from(n.to_be_bytes().to_vec());
            ann.transport.call(bob.at(Some(BOB)), lane, call(10 + n as u16 % 50, body), DEADLINE)
        });
        for (n, answer) in join_all(calls).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap(), (n as u32).to_be_bytes().as_slice());
        }
    }
    ann.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn appends_of_a_group_keep_their_order() {
    let (ann, bob) = pair().await;
    let calls = (0..60u8).map(|n| ann.transport.call(bob.at(None), Lane::Data, call(3, vec![n]), DEADLINE));
    let answers = join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let seen: Vec<u8> = bob.echo.seen.lock().iter().map(|(_, body)| body[0]).collect();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn large_bodies_pass_and_too_large_ones_are_refused_with_the_limit() {
    let (ann, bob) = pair().await;
    let largest = Bytes::from(vec![1; 4 << 20]);
    let answers =
        join_all((0..3).map(|_| ann.transport.call(bob.at(None), Lane::Data, call(1, largest.clone()), DEADLINE)));
    assert!(answers.await.into_iter().all(|answer| answer.unwrap() == largest));
    let refused = ann.transport.call(bob.at(None), Lane::Data, call(1, vec![1; (4 << 20) + 1]), DEADLINE).await;
    assert_eq!(refused.unwrap_err().to_string(), "peer refused: a body may have 4194304 bytes, this one has 4194305");
}

#[tokio::test]
async fn a_slow_group_is_busy_and_stops_no_other() {
    let (ann, bob) = pair().await;
    let limit = PeerTransportOptions::default().group_frames;
    // One runs, `limit` wait, one is too many.
    let calls: Vec<_> = (0..limit + 2)
        .map(|_| tokio::spawn(ann.transport.call(bob.at(None), Lane::Data, call(9, "slow"), DEADLINE)))
        .collect();
    let other = ann.transport.call(bob.at(None), Lane::Data, call(1, "quick"), DEADLINE).await;
    assert_eq!(other.unwrap(), "quick");
    bob.echo.gate.add_permits(limit + 2);
    let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let busy = answers.iter().filter(|answer| matches!(answer, Err(PeerError::Busy))).count();
    assert!((1..=2).contains(&busy), "{busy} of {} were busy", answers.len());
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count() + busy, limit + 2);
}

#[tokio::test]
async fn the_senders_queue_is_bounded() {
    let connect_timeout = Duration::from_millis(200);
    let options = PeerTransportOptions { queue_frames: 64, connect_timeout, ..PeerTransportOptions::default() };
    let ann = Node::start(ANN, 0, options).await;
    // Accepts connections and never answers, so the first attempt goes on while calls queue up.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = PeerAddress { node: None, address: silent.local_addr().unwrap().to_string() };
    let calls: Vec<_> =
        (0..66).map(|_| ann.transport.call(target.clone(), Lane::Data, call(1, "x"), DEADLINE)).collect();
    let answers = join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(PeerError::Busy))).count(), 2, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(PeerError::Unreachable(_)))).count(), 64);
}

#[tokio::test]
async fn another_node_is_refused() {
    let (ann, bob) = pair().await;
    let carl = NodeUuid([0xc; 16]);
    let refused = ann.transport.call(bob.at(Some(carl)), Lane::Control, call(1, "x"), DEADLINE).await;
    assert!(matches!(&refused, Err(PeerError::Refused(reason)) if reason.contains("instead of node")), "{refused:?}");
    assert!(bob.echo.seen.lock().is_empty());
}

#[tokio::test]
async fn other_clusters_are_refused() {
    let bob = Node::start(BOB, 0, PeerTransportOptions::default()).await;
    let listen = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
    let stranger = LocalIdentity::new(ANN, [8; 32], None);
    let stranger = Node::start_on(listen().await, stranger, 0, PeerTransportOptions::default()).await;
    let refused = stranger.transport.call(bob.at(None), Lane::Control, call(1, "x"), DEADLINE).await;
    assert!(matches!(&refused, Err(PeerError::Refused(reason)) if reason.contains("tokens differ")), "{refused:?}");

    let lost = LocalIdentity::new(ANN, TOKEN, Some(ClusterUuid([1; 16])));
    let lost = Node::start_on(listen().await, lost, 0, PeerTransportOptions::default()).await;
    let late = LocalIdentity::new(BOB, TOKEN, Some(ClusterUuid([2; 16])));
    let late = Node::start_on(listen().await, late, 0, PeerTransportOptions::default()).await;
    let refused = lost.transport.call(late.at(None), Lane::Control, call(1, "x"), DEADLINE).await;
    assert!(matches!(&refused, Err(PeerError::Refused(reason)) if reason.contains("clusters differ")), "{refused:?}");
}

#[tokio::test]
async fn the_handlers_refusal_reaches_the_caller() {
    let (ann, bob) = pair().await;
    let refused = ann.transport.call(bob.at(Some(BOB)), Lane::Data, call(8, "x"), DEADLINE).await;
    assert_eq!(refused.unwrap_err().to_string(), "peer refused: no replica 2 of group 8");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let (ann, bob) = pair().await;
    let deadline = Duration::from_millis(50);
    let answer = ann.transport.call(bob.at(None), Lane::Control, call(9, "x"), deadline).await;
    assert!(matches!(answer, Err(PeerError::Timeout(limit)) if limit == deadline), "{answer:?}");
}

#[tokio::test]
async fn a_peer_that_went_is_unreachable_at_once_and_found_again_when_it_returns() {
    let (ann, bob) = pair().await;
    let target = bob.at(Some(BOB));
    let again = bob.address;
    ann.transport.call(target.clone(), Lane::Control, call(1, "x"), DEADLINE).await.unwrap();
    let waiting = tokio::spawn(ann.transport.call(target.clone(), Lane::Control, call(9, "x"), DEADLINE));
    until(|| bob.echo.gate.available_permits() == 0 && !waiting.is_finished()).await;

    let started = Instant::now();
    bob.stop().await;
    let lost = waiting.await.unwrap();
    assert!(matches!(lost, Err(PeerError::Unreachable(_))), "{lost:?}");
    let refused = ann.transport.call(target.clone(), Lane::Control, call(1, "x"), DEADLINE).await;
    assert!(matches!(refused, Err(PeerError::Unreachable(_))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());

    let listener = TcpListener::bind(again).await.unwrap();
    let bob = Node::start_on(listener, LocalIdentity::new(BOB, TOKEN, None), 0, PeerTransportOptions::default()).await;
    let mut answer = Err(PeerError::Busy);
    while answer.is_err() && started.elapsed() < DEADLINE {
        answer = ann.transport.call(target.clone(), Lane::Control, call(1, "back"), DEADLINE).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(answer.unwrap(), "back");
    bob.stop().await;
}

#[tokio::test]
async fn a_moved_node_is_found_by_its_uuid() {
    let (ann, bob) = pair().await;
    ann.transport.set_addresses([(BOB, bob.address.to_string())]);
    let old = PeerAddress { node: Some(BOB), address: "127.0.0.1:1".into() };
    assert_eq!(ann.transport.call(old, Lane::Data, call(1, "x"), DEADLINE).await.unwrap(), "x");
}

#[tokio::test]
async fn both_sides_of_a_control_lane_hear_the_others_clock() {
    let (ann, bob) = pair().await;
    ann.transport.call(bob.at(Some(BOB)), Lane::Control, call(1, "x"), DEADLINE).await.unwrap();
    assert_eq!(ann.transport.clocks().reading(BOB).map(|reading| reading.wall), Some(Timestamp(bob.wall_ms)));
    assert_eq!(bob.transport.clocks().reading(ANN).map(|reading| reading.wall), Some(Timestamp(ann.wall_ms)));
}

#[tokio::test]
async fn a_stopped_transport_calls_nobody() {
    let (ann, bob) = pair().await;
    ann.transport.shutdown().await;
    let refused = ann.transport.call(bob.at(None), Lane::Data, call(1, "x"), DEADLINE).await;
    assert!(matches!(refused, Err(PeerError::Unreachable(_))), "{refused:?}");
}

async fn until(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "the condition never held");
        tokio::task::yield_now().await;
    }
}
