//! A wire that changes what it carries: a proxy in front of a host, which flips bits in bodies that it recognises.
//!
//! The checksum of TCP misses about one damaged segment in 65,536; a switch or a card with bad memory damages many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What bodies hold that may be tampered with.
pub const MARK: &[u8] = b"genuine";
/// Read at once.
const PIECE_BYTES: usize = 64 << 10;

/// The proxy. It ends when it is dropped.
pub struct Tampering {
    /// Bodies that are still to be changed, and those that were.
    left: Arc<AtomicU64>,
    changed: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

impl Tampering {
    /// Listens at `at` for connections to the host at `host`; changes nothing yet.
    pub fn start(at: &str, host: String) -> Result<Tampering> {
        let listener = std::net::TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (left, changed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, host, left.clone(), changed.clone()));
        Ok(Tampering { left, changed, _accepting: accepting })
    }

    /// Changes the next so many bodies on their way to the host.
    pub fn change(&self, bodies: u64) {
        self.left.store(bodies, Ordering::SeqCst);
    }

    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, host: String, left: Arc<AtomicU64>, changed: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((peer, _)) = listener.accept().await {
        let (host, left, changed) = (host.clone(), left.clone(), changed.clone());
        connections.spawn(async move {
            // A host that is down refuses; so does the proxy then, by closing.
            let Ok(host) = TcpStream::connect(host).await else { return };
            // Without a pause between a small frame and the next, as the hosts have it among themselves.
            let _ = (peer.set_nodelay(true), host.set_nodelay(true));
            let (from_peer, to_peer) = peer.into_split();
            let (from_host, to_host) = host.into_split();
            tokio::select! {
                () = carry(from_peer, to_host, |piece| tamper(piece, &left, &changed)) => {}
                () = carry(from_host, to_peer, |_| {}) => {}
            }
        });
    }
}

/// Carries bytes until either side has had enough.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, change: impl Fn(&mut [u8])) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        change(&mut piece[..length]);
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

/// Flips a bit in each mark while there are bodies left to change. A mark that two pieces share is missed.
fn tamper(piece: &mut [u8], left: &AtomicU64, changed: &AtomicU64) {
    let mut at = 0;
    while let Some(found) = piece[at..].windows(MARK.len()).position(|window| window == MARK) {
        let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if taken.is_err() {
            return;
        }
        at += found;
        piece[at] ^= 1;
        changed.fetch_add(1, Ordering::SeqCst);
        at += MARK.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_changed_one_bit_each_while_any_are_left() {
        let (left, changed) = (AtomicU64::new(2), AtomicU64::new(0));
        let mut piece = b"a genuine, genuine and genuine body".to_vec();
        tamper(&mut piece, &left, &changed);
        assert_eq!(piece, b"a fenuine, fenuine and genuine body");
        assert_eq!((left.into_inner(), changed.into_inner()), (0, 2));
    }
}
