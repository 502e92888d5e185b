//! The calling side.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Error};
use tower::{Service, service_fn};

use crate::Connection;

/// A connection that is being made.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send>>;

/// A network that is not the system's.
pub trait Dial: Send + Sync + 'static {
    /// Connects to `host:port`.
    fn dial(&self, address: &str) -> Dialing;
}

/// What a process dials with.
#[derive(Clone, Default)]
pub enum Network {
    /// Names, addresses and TCP as the system has them.
    #[default]
    System,
    /// Whatever this is; of the endpoint's settings those that concern TCP do nothing.
    Other(Arc<dyn Dial>),
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::System => "System",
            Network::Other(_) => "Other",
        })
    }
}

impl Network {
    /// Connects now. The endpoint's limit on connecting applies to every network.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        match self {
            Network::System => endpoint.connect().await,
            Network::Other(dial) => endpoint.connect_with_connector(connector(dial.clone())).await,
        }
    }

    /// Connects at the first call, and again after each loss.
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        match self {
            Network::System => endpoint.connect_lazy(),
            Network::Other(dial) => endpoint.connect_with_connector_lazy(connector(dial.clone())),
        }
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<Box<dyn Connection>>>> + Send>>;

fn connector(
    dial: Arc<dyn Dial>,
) -> impl Service<Uri, Response = TokioIo<Box<dyn Connection>>, Error = io::Error, Future = Connecting> + Send + 'static
{
    service_fn(move |uri: Uri| -> Connecting {
        let Some(authority) = uri.authority() else {
            let refused = io::Error::new(io::ErrorKind::InvalidInput, "an address is host:port");
            return Box::pin(async { Err(refused) });
        };
        let dialing = dial.dial(authority.as_str());
        Box::pin(async { Ok(TokioIo::new(dialing.await?)) })
    })
}
