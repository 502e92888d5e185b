//! The same calls over both networks.

use std::io;
use std::sync::Arc;

use futures::StreamExt;
use tokio::io::duplex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::{Connection, Dial, Dialing, Incoming, Network};

/// Connections that wait to be accepted.
const CONNECTIONS: usize = 16;

/// Byte streams within this process; whoever dials another address is refused.
struct Pipes {
    address: &'static str,
    accepting: mpsc::Sender<io::Result<Box<dyn Connection>>>,
}

impl Dial for Pipes {
    fn dial(&self, address: &str) -> Dialing {
        if address != self.address {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        let (near, far) = duplex(1 << 10);
        let accepted = self.accepting.try_send(Ok(Box::new(far)));
        Box::pin(async move {
            accepted.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(Box::new(near) as Box<dyn Connection>)
        })
    }
}

fn pipes(address: &'static str) -> (Network, Incoming) {
    let (accepting, accepted) = mpsc::channel(CONNECTIONS);
    let network = Network::Other(Arc::new(Pipes { address, accepting }));
    (network, Incoming::Other(ReceiverStream::new(accepted).boxed()))
}

fn serve(incoming: Incoming) {
    tokio::spawn(async move {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        Server::builder().add_service(health).serve_with_incoming(incoming).await
    });
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("an address")
}

async fn is_served(channel: Channel) -> bool {
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

#[tokio::test]
async fn a_call_passes_over_the_systems_network() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    serve(Incoming::from(listener));
    let channel = Network::System.connect(&endpoint(&address)).await.expect("somebody listens");
    assert!(is_served(channel).await);
    assert!(is_served(Network::System.connect_lazy(&endpoint(&address))).await);
}

#[tokio::test]
async fn a_call_passes_over_another_network() {
    let (network, incoming) = pipes("host-0:7400");
    serve(incoming);
    let channel = network.connect(&endpoint("host-0:7400")).await.expect("somebody listens");
    assert!(is_served(channel).await);
    assert!(is_served(network.connect_lazy(&endpoint("host-0:7400"))).await);
}

#[tokio::test]
async fn who_dials_nobody_is_told() {
    let (network, _incoming) = pipes("host-0:7400");
    network.connect(&endpoint("host-1:7400")).await.expect_err("nobody listens there");
}
