//! The calling side: the peer port over gRPC.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use conclave_raft::peers::PeerFuture;
use conclave_raft::{Lane, PeerAddress, PeerCall, PeerError, PeerTransport};
use conclave_types::{Clock, NodeUuid};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::clocks::PeerClocks;
use crate::frames::call_to_frame;
use crate::handshake::LocalIdentity;
use crate::link::{Link, LinkContext, LinkHandle, Outgoing, wait};
use crate::options::{MAX_BODY_BYTES, PeerTransportOptions};

/// Sends calls to peers, and owns every task of the transport, also those of the answering side.
pub struct GrpcTransport {
    lanes: Arc<Lanes>,
    context: Arc<LinkContext>,
    addresses: Mutex<HashMap<NodeUuid, String>>,
    tasks: TaskTracker,
    runtime: Handle,
    _cancel_on_drop: DropGuard,
}

type LaneKey = (String, Option<NodeUuid>, Lane);
type Lanes = Mutex<HashMap<LaneKey, LinkHandle>>;

impl GrpcTransport {
    /// Must be called within the runtime that is to carry peer traffic; it should not carry requests of clients.
    pub fn new(options: PeerTransportOptions, identity: Arc<LocalIdentity>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let cancelled = CancellationToken::new();
        Arc::new(GrpcTransport {
            lanes: Arc::default(),
            context: Arc::new(LinkContext {
                options,
                identity,
                clocks: PeerClocks::new(clock),
                cancelled: cancelled.clone(),
            }),
            addresses: Mutex::default(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            _cancel_on_drop: cancelled.drop_guard(),
        })
    }

    /// What the other nodes' clocks say.
    pub fn clocks(&self) -> Arc<PeerClocks> {
        self.context.clocks.clone()
    }

    /// Tells where nodes are now. From here on a node named by a call is looked for there, whatever address the call
    /// carries: a group's membership keeps the address a node had when it joined.
    pub fn set_addresses(&self, addresses: impl IntoIterator<Item = (NodeUuid, String)>) {
        *self.addresses.lock() = addresses.into_iter().collect();
    }

    /// Ends every lane and every stream that peers have opened, and waits for their tasks.
    pub async fn shutdown(&self) {
        self.context.cancelled.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn context(&self) -> &Arc<LinkContext> {
        &self.context
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn enqueue(&self, target: PeerAddress, lane: Lane, outgoing: Outgoing) -> Result<(), PeerError> {
        if self.context.cancelled.is_cancelled() {
            return Err(PeerError::Unreachable("the transport has stopped".into()));
        }
        let target = self.resolve(target);
        let key = (target.address.clone(), target.node, lane);
        let mut lanes = self.lanes.lock();
        let handle = lanes.entry(key.clone()).or_insert_with(|| {
            let (handle, link) = Link::new(target, lane, self.context.clone());
            let all = self.lanes.clone();
            let served = async move {
                let mut link = link;
                loop {
                    link.serve_until_unwanted().await;
                    let mut lanes = all.lock();
                    // Calls are queued under this lock, so none can slip in between the look and the removal.
                    if link.is_finished() {
                        lanes.remove(&key);
                        return;
                    }
                }
            };
            self.tasks.spawn_on(served, &self.runtime);
            handle
        });
        handle.send(outgoing)
    }

    fn resolve(&self, target: PeerAddress) -> PeerAddress {
        let known = target.node.and_then(|node| self.addresses.lock().get(&node).cloned());
        match known {
            Some(address) => PeerAddress { address, ..target },
            None => target,
        }
    }
}

impl PeerTransport for GrpcTransport {
    fn call(&self, target: PeerAddress, lane: Lane, call: PeerCall, deadline: Duration) -> PeerFuture {
        if call.body.len() > MAX_BODY_BYTES {
            let reason = format!("a body may have {MAX_BODY_BYTES} bytes, this one has {}", call.body.len());
            return Box::pin(async { Err(PeerError::Refused(reason)) });
        }
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        let (answer, waiting) = oneshot::channel();
        // Queued here, not when the future is polled: calls leave in the order in which they were made.
        let queued = self.enqueue(target, lane, Outgoing { frame: call_to_frame(call, deadline_ms), answer });
        Box::pin(async move {
            queued?;
            wait(waiting, deadline).await
        })
    }
}
