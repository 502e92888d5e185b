//! Connections to hosts.
//!
//! Four HTTP/2 connections a host: one connection is one lock and one core in h2. A call takes the one with the fewest
//! streams. Connections are made on first use and again after a loss; pings run while a connection is idle, because a
//! vanished peer otherwise swallows calls without a word.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conclave_network::Network;
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt;

use crate::retry::Failure;

const CONNECTIONS_PER_HOST: usize = 4;
/// Bounds what one stalled client can pin at the host's side of a stream.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Hosts come and go with restarts; past this many known addresses the ones without streams are dropped.
const MAX_HOSTS: usize = 1_024;

/// Connections to every host that was called.
#[derive(Debug, Default)]
pub struct Pool {
    network: Network,
    hosts: Mutex<HashMap<Arc<str>, Arc<HostConnections>>>,
}

#[derive(Debug)]
struct HostConnections {
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    channel: Channel,
    streams: Arc<AtomicUsize>,
}

/// One stream's place in a connection's count.
#[derive(Debug)]
pub struct StreamGuard(Arc<AtomicUsize>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The head of a response and the guard to hold while its body is read.
pub type Opened = (http::Response<Body>, StreamGuard);

impl Pool {
    pub fn new(network: Network) -> Self {
        Pool { network, hosts: Mutex::default() }
    }

    /// Sends one request to a host (`host:port`) and waits for the head of the response.
    pub async fn call(&self, address: &Arc<str>, request: http::Request<Body>) -> Result<Opened, Failure> {
        let Some(host) = self.host(address) else {
            tracing::warn!(address = %address, "host address cannot be called");
            return Err(Failure::NotSent);
        };
        let (channel, guard) = host.least_loaded();
        match channel.oneshot(request).await {
            Ok(response) => Ok((response, guard)),
            Err(error) => {
                tracing::debug!(address = %address, error = %DisplayChain(&error), "call to host failed");
                Err(failure(&error))
            }
        }
    }

    fn host(&self, address: &Arc<str>) -> Option<Arc<HostConnections>> {
        let mut hosts = self.hosts.lock();
        if let Some(host) = hosts.get(address) {
            return Some(host.clone());
        }
        if hosts.len() >= MAX_HOSTS {
            hosts.retain(|_, host| host.connections.iter().any(|one| one.streams.load(Ordering::Relaxed) > 0));
        }
        let host = Arc::new(HostConnections::new(address, &self.network)?);
        hosts.insert(address.clone(), host.clone());
        Some(host)
    }
}

impl HostConnections {
    fn new(address: &str, network: &Network) -> Option<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .ok()?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let connection = || Connection { channel: network.connect_lazy(&endpoint), streams: Arc::default() };
        Some(HostConnections { connections: (0..CONNECTIONS_PER_HOST).map(|_| connection()).collect() })
    }

    fn least_loaded(&self) -> (Channel, StreamGuard) {
        let connection = self
            .connections
            .iter()
            .min_by_key(|connection| connection.streams.load(Ordering::Relaxed))
            .expect("a host has connections");
        connection.streams.fetch_add(1, Ordering::Relaxed);
        (connection.channel.clone(), StreamGuard(connection.streams.clone()))
    }
}

/// Whether a failed call can have reached the host.
fn failure(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut next = Some(error);
    while let Some(error) = next {
        // hyper says canceled only of a request that it gave back unsent.
        let unsent = error.is::<tonic::ConnectError>()
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        if unsent {
            return Failure::NotSent;
        }
        next = error.source();
    }
    Failure::Cut
}

/// An error with what caused it, on one line.
struct DisplayChain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for DisplayChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_is_known_not_to_have_carried_the_call() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
        drop(listener);
        let request = || http::Request::post("/conclave.v1.RoomService/GetRoom").body(Body::empty()).unwrap();
        let pool = Pool::default();
        for _ in 0..2 {
            assert_eq!(pool.call(&address, request()).await.unwrap_err(), Failure::NotSent);
        }
    }

    #[tokio::test]
    async fn a_connection_that_dies_under_a_call_is_a_cut() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
        let host = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            tokio::io::AsyncWriteExt::write_all(&mut stream, &empty_settings).await.unwrap();
            // Reads until the call has come, then closes.
            let mut seen = Vec::new();
            while !holds_headers(&seen) {
                let mut part = [0; 1_024];
                let read = tokio::io::AsyncReadExt::read(&mut stream, &mut part).await.unwrap();
                assert_ne!(read, 0, "the caller stays");
                seen.extend_from_slice(&part[..read]);
            }
        });
        let request = http::Request::post("/conclave.v1.RoomService/GetRoom").body(Body::empty()).unwrap();
        assert_eq!(Pool::default().call(&address, request).await.unwrap_err(), Failure::Cut);
        host.await.unwrap();
    }

    /// Walks HTTP/2 frames behind the preface: length (24 bits), type, flags, stream.
    fn holds_headers(bytes: &[u8]) -> bool {
        const PREFACE_BYTES: usize = 24;
        const HEADERS: u8 = 1;
        let mut rest = bytes.get(PREFACE_BYTES..).unwrap_or_default();
        while let [high, middle, low, kind, ..] = *rest {
            if kind == HEADERS {
                return true;
            }
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            rest = rest.get(9 + length..).unwrap_or_default();
        }
        false
    }

    #[test]
    fn calls_spread_over_the_connections() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let host = HostConnections::new("127.0.0.1:1", &Network::System).unwrap();
        let guards: Vec<_> = (0..8).map(|_| host.least_loaded().1).collect();
        assert!(host.connections.iter().all(|connection| connection.streams.load(Ordering::Relaxed) == 2));
        drop(guards);
        assert!(host.connections.iter().all(|connection| connection.streams.load(Ordering::Relaxed) == 0));
    }
}
