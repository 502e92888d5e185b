//! The answering side.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{BoxStream, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::{Connected, TcpIncoming};

use crate::Connection;

/// Connections that come in, for as long as the process listens.
pub enum Incoming {
    /// On a listener of the system, without Nagle's algorithm.
    System(TcpIncoming),
    Other(BoxStream<'static, io::Result<Box<dyn Connection>>>),
}

impl From<TcpListener> for Incoming {
    fn from(listener: TcpListener) -> Self {
        Incoming::System(TcpIncoming::from(listener).with_nodelay(Some(true)))
    }
}

impl Stream for Incoming {
    type Item = io::Result<Accepted>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Incoming::System(incoming) => incoming.poll_next_unpin(cx).map_ok(Accepted::System),
            Incoming::Other(incoming) => incoming.poll_next_unpin(cx).map_ok(Accepted::Other),
        }
    }
}

/// An accepted connection.
pub enum Accepted {
    System(TcpStream),
    Other(Box<dyn Connection>),
}

impl Connected for Accepted {
    /// Nothing decides by where a connection comes from.
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Accepted::System(stream) => Pin::new(stream).poll_read(cx, buffer),
            Accepted::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Accepted::System(stream) => Pin::new(stream).poll_write(cx, bytes),
            Accepted::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Accepted::System(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Accepted::Other(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Frames leave in one system call, unjoined.
    fn is_write_vectored(&self) -> bool {
        match self {
            Accepted::System(stream) => stream.is_write_vectored(),
            Accepted::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Accepted::System(stream) => Pin::new(stream).poll_flush(cx),
            Accepted::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Accepted::System(stream) => Pin::new(stream).poll_shutdown(cx),
            Accepted::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
