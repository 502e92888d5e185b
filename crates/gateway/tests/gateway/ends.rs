//! How a session's end looks to its host: only a client that says so leaves. Of one that is cut off, and of a gateway or a
//! host that goes away under it, the host sees a broken stream, and keeps the participant for its lease.

use conclave_gateway::GatewayOptions;
use conclave_proto::v1::{ClientFrame, ServerFrame};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{CancellationHandle, Streaming};

use crate::front::{Front, channel_to, stream_over};
use crate::scripted::{Call, ScriptedHost};
use crate::subscriptions::welcome;
use crate::{frame, hello, in_time, next};

/// A session whose client's connection can be cut, at the first of two hosts.
struct Stage {
    hosts: [ScriptedHost; 2],
    front: Front,
    connection: JoinHandle<()>,
    frames: mpsc::Sender<ClientFrame>,
    stream: Streaming<ServerFrame>,
    cancel: CancellationHandle,
    call: Call,
}

impl Stage {
    async fn set() -> Stage {
        let mut hosts = [ScriptedHost::start().await, ScriptedHost::start().await];
        let addresses = hosts.iter().map(|host| host.address.clone()).collect();
        let front = Front::start(addresses, GatewayOptions::default()).await;
        let (address, connection) = cuttable(front.address.clone()).await;
        let (frames, mut stream, cancel) = stream_over(channel_to(&address).await, hello()).await;
        let mut call = welcome(&mut hosts[0]).await;
        next(&mut stream).await;
        frames.send(frame(1)).await.unwrap();
        assert_eq!(call.read::<ClientFrame>().await, frame(1));
        Stage { hosts, front, connection, frames, stream, cancel, call }
    }
}

/// Carries one connection to this address until it is aborted.
async fn cuttable(to: String) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let carrying = tokio::spawn(async move {
        let (mut from, _) = listener.accept().await.unwrap();
        let mut to = TcpStream::connect(to).await.unwrap();
        // Ends with either side.
        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
    });
    (address, carrying)
}

#[tokio::test]
async fn a_client_that_closes_its_half_leaves() {
    let mut stage = Stage::set().await;
    drop(stage.frames);
    assert!(stage.call.ended().await);
    stage.call.end(tonic::Status::ok("")).await;
    assert!(in_time(stage.stream.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_closes_its_half_leaves_the_host_that_its_session_comes_to_too() {
    let mut stage = Stage::set().await;
    drop(stage.frames);
    assert!(stage.call.ended().await);
    stage.call.follow(&stage.hosts[1]).await;
    let mut call = welcome(&mut stage.hosts[1]).await;
    assert_eq!(call.read::<ClientFrame>().await, frame(1), "it is still owed a reply");
    assert!(call.ended().await);
}

#[tokio::test]
async fn a_client_whose_connection_breaks_is_cut_off() {
    let mut stage = Stage::set().await;
    stage.connection.abort();
    assert!(!stage.call.ended().await);
}

#[tokio::test]
async fn a_client_that_cancels_is_cut_off() {
    let mut stage = Stage::set().await;
    stage.cancel.cancel();
    assert!(!stage.call.ended().await);
}

#[tokio::test]
async fn a_session_is_cut_off_by_its_gateways_end() {
    let mut stage = Stage::set().await;
    stage.front.stop.cancel();
    assert!(!stage.call.ended().await);
}

#[tokio::test]
async fn a_session_that_goes_on_elsewhere_does_not_leave_where_it_was() {
    let mut stage = Stage::set().await;
    stage.call.follow(&stage.hosts[1]).await;
    welcome(&mut stage.hosts[1]).await;
    assert!(!stage.call.ended().await);
}
