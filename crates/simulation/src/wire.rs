//! The simulated network: what hosts, gateways and clients dial and accept, and the trace of what passes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use conclave_network::{Connection, Dial, Dialing, Incoming, Network};
use futures::stream::{self, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::trace::Trace;

/// Every node listens here, each at an address of its own.
pub const PORT: u16 = 7_400;

/// `host:port` of a node.
pub fn address(node: &str) -> String {
    format!("{node}:{PORT}")
}

struct Simulated {
    trace: Arc<Trace>,
}

/// The network of one run.
pub fn network(trace: Arc<Trace>) -> Network {
    Network::Other(Arc::new(Simulated { trace }))
}

impl Dial for Simulated {
    fn dial(&self, address: &str) -> Dialing {
        let trace = self.trace.clone();
        let target = address.rsplit_once(':').map(|(host, port)| (host.to_owned(), port.parse::<u16>()));
        Box::pin(async move {
            let Some((host, Ok(port))) = target else { return Err(io::ErrorKind::InvalidInput.into()) };
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            Ok(Box::new(Traced { stream, trace }) as Box<dyn Connection>)
        })
    }
}

/// Listens on the node that runs this.
pub async fn listen(trace: Arc<Trace>) -> io::Result<Incoming> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let accepted = stream::unfold((listener, trace), |(listener, trace)| async move {
        let accepted = listener.accept().await;
        let connection = accepted.map(|(stream, _)| {
            let trace = trace.clone();
            Box::new(Traced { stream, trace }) as Box<dyn Connection>
        });
        Some((connection, (listener, trace)))
    });
    Ok(Incoming::Other(accepted.boxed()))
}

/// A connection whose every write is in the trace: runs that differ anywhere differ here soon.
struct Traced {
    stream: TcpStream,
    trace: Arc<Trace>,
}

impl AsyncRead for Traced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Traced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.trace.note(&bytes[..count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
