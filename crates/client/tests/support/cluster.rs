//! A cluster as clients and gateways see it: hosts over real sockets, one shard, one replicated state.
//!
//! What replication would do is done by sharing the state; what is real is everything on the wire. A host has a runtime
//! of its own, so killing it closes its sockets in the middle of whatever it was doing.

#[path = "calls.rs"]
mod calls;

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::status::ApiError;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::queue_service_server::QueueServiceServer;
use conclave_proto::v1::room_service_server::RoomServiceServer;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::session_service_server::{SessionService, SessionServiceServer};
use conclave_proto::v1::{self, ErrorReason};
use futures::Stream;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Longest any test waits for a condition.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The replicated state and what the test decides about the hosts.
#[derive(Default)]
pub struct Cluster {
    state: Mutex<State>,
    /// Follows `State`: how many items were applied, who leads, how often streams were told to go.
    seen: watch::Sender<Seen>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    pub applied: usize,
    pub unary_writes: usize,
    pub attached: usize,
    leader: usize,
    hung: Option<usize>,
    farewells: usize,
}

#[derive(Default)]
struct State {
    sessions: HashMap<u64, SessionRecord>,
    items: Vec<Bytes>,
    addresses: Vec<String>,
    hellos: Vec<v1::Hello>,
    calls: usize,
    /// Once this many items were applied, no reply leaves until it is lifted.
    mute_after: Option<usize>,
    /// Once this many items were applied, the leader drops what comes and steps down.
    step_down_after: Option<usize>,
    /// The next unary writes are applied, and their calls cut.
    cut_writes: usize,
    request_ids: BTreeMap<String, v1::SendItemsResponse>,
    /// How consumers asked.
    consumed: Vec<v1::ConsumeItemsRequest>,
    violations: Vec<String>,
}

#[derive(Default)]
struct SessionRecord {
    attachment: u64,
    last: u64,
    outcomes: BTreeMap<u64, v1::SendItemsResponse>,
}

impl Cluster {
    pub fn new() -> Arc<Cluster> {
        Arc::default()
    }

    pub fn lead(&self, host: usize) {
        self.seen.send_modify(|seen| seen.leader = host);
    }

    /// This host goes on holding its streams and says nothing more on them.
    pub fn hang(&self, host: usize) {
        self.seen.send_modify(|seen| seen.hung = Some(host));
    }

    pub fn mute_after(&self, items: usize) {
        self.state.lock().mute_after = Some(items);
    }

    pub fn unmute(&self) {
        self.state.lock().mute_after = None;
    }

    /// The leader steps down in favour of the next host once this many items were applied.
    pub fn step_down_after(&self, items: usize) {
        self.state.lock().step_down_after = Some(items);
    }

    pub fn cut_next_write(&self) {
        self.state.lock().cut_writes += 1;
    }

    /// Sends GoAway on every stream.
    pub fn farewell(&self) {
        self.seen.send_modify(|seen| seen.farewells += 1);
    }

    /// As if every session had been attached elsewhere.
    pub fn attach_elsewhere(&self) {
        for record in self.state.lock().sessions.values_mut() {
            record.attachment += 1;
        }
    }

    /// Waits until the cluster has seen this much.
    pub async fn until(&self, done: impl Fn(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(done)).await;
        waited.unwrap_or_else(|_| panic!("still {:?}", *self.seen.borrow())).expect("the cluster lives");
    }

    /// The bodies of the items that were applied, in order.
    pub fn items(&self) -> Vec<Bytes> {
        self.state.lock().items.clone()
    }

    pub fn hellos(&self) -> Vec<v1::Hello> {
        self.state.lock().hellos.clone()
    }

    pub fn consumed(&self) -> Vec<v1::ConsumeItemsRequest> {
        self.state.lock().consumed.clone()
    }

    pub fn calls(&self) -> usize {
        self.state.lock().calls
    }

    /// Outcomes kept for clients that have not acknowledged them.
    pub fn kept_outcomes(&self) -> usize {
        self.state.lock().sessions.values().map(|record| record.outcomes.len()).sum()
    }

    /// What a client or gateway did that it must not do.
    pub fn violations(&self) -> Vec<String> {
        self.state.lock().violations.clone()
    }

    fn not_leader(&self) -> Status {
        let leader = self.seen.borrow().leader;
        let state = self.state.lock();
        ApiError::not_leader(state.addresses.get(leader).map(String::as_str), leader as u64).into()
    }
}

/// One host process.
pub struct Host {
    pub address: String,
    runtime: Option<Runtime>,
}

impl Host {
    /// Starts the next host; they are numbered from 0.
    pub fn start(cluster: &Arc<Cluster>) -> Host {
        let mut state = cluster.state.lock();
        let number = state.addresses.len();
        let host = Host::serve(cluster.clone(), number, "127.0.0.1:0");
        state.addresses.push(host.address.clone());
        host
    }

    /// Ends the process, as SIGKILL would.
    pub async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let closed = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE));
            closed.await.expect("a runtime ends");
        }
    }

    /// Starts the process again at the same address.
    pub fn restart(&mut self, cluster: &Arc<Cluster>) {
        let number = cluster.state.lock().addresses.iter().position(|address| *address == self.address);
        *self = Host::serve(cluster.clone(), number.expect("it was started"), &self.address);
    }

    fn serve(cluster: Arc<Cluster>, number: usize, address: &str) -> Host {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = std::net::TcpListener::bind(address).expect("a loopback port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("a bound socket").to_string();
        let service = Service { cluster, number };
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let sessions = SessionServiceServer::new(service.clone()).max_decoding_message_size(8 << 20);
            let rooms = RoomServiceServer::new(service.clone());
            let queues = QueueServiceServer::new(service).max_decoding_message_size(8 << 20);
            let server = Server::builder().add_service(sessions).add_service(rooms).add_service(queues);
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server.serve_with_incoming(incoming).await.expect("serving on loopback");
        });
        Host { address, runtime: Some(runtime) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
struct Service {
    cluster: Arc<Cluster>,
    number: usize,
}

impl Service {
    fn leading(&self, _metadata: &MetadataMap) -> Result<(), Status> {
        self.cluster.state.lock().calls += 1;
        if self.cluster.seen.borrow().leader == self.number { Ok(()) } else { Err(self.cluster.not_leader()) }
    }

    fn attach(&self, hello: v1::Hello) -> Result<(u64, u64, v1::Welcome), Status> {
        let mut state = self.cluster.state.lock();
        state.hellos.push(hello.clone());
        if hello.room != "rooms/lab" {
            return Err(ApiError::new(ErrorReason::RoomNotFound, "no such room").into());
        }
        let resumed = !hello.resume_token.is_empty();
        let session = if resumed {
            let token: [u8; 16] = hello.resume_token[..].try_into().expect("a token of this cluster");
            let (session, presented) = token.split_at(8);
            let session = u64::from_be_bytes(session.try_into().expect("8 bytes"));
            let record = state.sessions.get_mut(&session).expect("a known session");
            if u64::from_be_bytes(presented.try_into().expect("8 bytes")) < record.attachment {
                return Err(ApiError::new(ErrorReason::Superseded, "a newer attachment exists").into());
            }
            session
        } else {
            state.sessions.len() as u64 + 1
        };
        let record = state.sessions.entry(session).or_default();
        record.attachment += 1;
        let attachment = record.attachment;
        let token = [session.to_be_bytes(), attachment.to_be_bytes()].concat();
        let welcome =
            v1::Welcome { resume_token: token.into(), room_uid: "uid".to_owned(), resumed, ..Default::default() };
        drop(state);
        self.cluster.seen.send_modify(|seen| seen.attached += 1);
        Ok((session, attachment, welcome))
    }

    /// Applies or repeats a send.
    fn send(&self, session: u64, frame: &v1::ClientFrame, request: v1::SendItemsRequest) -> Result<Body, Status> {
        let mut state = self.cluster.state.lock();
        let State { sessions, items, violations, .. } = &mut *state;
        let record = sessions.get_mut(&session).expect("an attached session");
        record.outcomes = record.outcomes.split_off(&(frame.acknowledged + 1));
        if frame.sequence <= record.last {
            return match record.outcomes.get(&frame.sequence) {
                Some(outcome) => Ok(Body::SendItems(outcome.clone())),
                None => {
                    violations.push(format!("{} was sent again after it was acknowledged", frame.sequence));
                    Err(ApiError::new(ErrorReason::NotApplied, "no outcome is kept").into())
                }
            };
        }
        record.last = frame.sequence;
        let response = sent(items.len() as u64 + 1);
        record.outcomes.insert(frame.sequence, response.clone());
        if record.outcomes.len() > 1_024 {
            violations.push("more than 1,024 frames in flight".to_owned());
        }
        items.extend(request.items.into_iter().map(|item| item.body));
        let applied = items.len();
        drop(state);
        self.cluster.seen.send_modify(|seen| seen.applied = applied);
        Ok(Body::SendItems(response))
    }

    /// Whether the leader drops what comes from here on.
    fn steps_down(&self) -> bool {
        let mut state = self.cluster.state.lock();
        let applied = state.items.len();
        let down = state.step_down_after.take_if(|after| applied >= *after).is_some();
        drop(state);
        if down {
            self.cluster.lead(self.number + 1);
        }
        down
    }

    fn is_mute(&self) -> bool {
        let state = self.cluster.state.lock();
        state.mute_after.is_some_and(|after| state.items.len() > after)
    }

    async fn serve(
        self,
        session: u64,
        mut inbound: Streaming<v1::ClientFrame>,
        outbound: mpsc::Sender<Result<v1::ServerFrame, Status>>,
    ) {
        let mut seen = self.cluster.seen.subscribe();
        let farewells = seen.borrow_and_update().farewells;
        loop {
            let frame = tokio::select! {
                frame = inbound.message() => frame,
                changed = seen.changed() => {
                    changed.expect("the cluster lives");
                    let now = *seen.borrow_and_update();
                    if now.hung == Some(self.number) {
                        return std::future::pending().await;
                    }
                    if now.leader != self.number {
                        let _ = outbound.send(Err(self.cluster.not_leader())).await;
                        return;
                    }
                    if now.farewells != farewells {
                        let body = Some(Body::GoAway(v1::GoAway::default()));
                        let _ = outbound.send(Ok(v1::ServerFrame { body, ..Default::default() })).await;
                        return;
                    }
                    continue;
                }
            };
            let Ok(Some(frame)) = frame else { return };
            if self.steps_down() {
                let _ = outbound.send(Err(self.cluster.not_leader())).await;
                return;
            }
            let Some(reply) = self.answer(session, frame) else { continue };
            if !self.is_mute() && outbound.send(Ok(reply)).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, session: u64, mut frame: v1::ClientFrame) -> Option<v1::ServerFrame> {
        let body = match frame.body.take() {
            Some(Asked::SendItems(request)) => self.send(session, &frame, request),
            Some(Asked::ReceiveItems(_)) => Ok(Body::ReceiveItems(v1::ReceiveItemsResponse::default())),
            Some(Asked::Ping(_)) => Ok(Body::Pong(v1::Pong {})),
            None => {
                let mut state = self.cluster.state.lock();
                let record = state.sessions.get_mut(&session).expect("an attached session");
                record.outcomes = record.outcomes.split_off(&(frame.acknowledged + 1));
                return None;
            }
            _ => Err(ApiError::unimplemented("this frame").into()),
        };
        let body = body.unwrap_or_else(|status| Body::Status(conclave_proto::status::frame_status(&status)));
        Some(v1::ServerFrame { reply_to: frame.sequence, body: Some(body), ..Default::default() })
    }
}

#[tonic::async_trait]
impl SessionService for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<v1::ServerFrame, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ClientFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (metadata, _, mut inbound) = request.into_parts();
        let Some(v1::ClientFrame { body: Some(Asked::Hello(hello)), .. }) = inbound.message().await? else {
            return Err(ApiError::hello_expected().into());
        };
        self.leading(&metadata)?;
        let (session, _attachment, welcome) = self.attach(hello)?;
        let (outbound, replies) = mpsc::channel(16);
        let welcome = v1::ServerFrame { body: Some(Body::Welcome(welcome)), ..Default::default() };
        outbound.send(Ok(welcome)).await.map_err(|_| Status::internal("nobody reads"))?;
        tokio::spawn(self.clone().serve(session, inbound, outbound));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }
}

/// What a send is answered with whose item stands there.
fn sent(first_item: u64) -> v1::SendItemsResponse {
    v1::SendItemsResponse { first_item, revision: first_item, duplicates: Vec::new() }
}

fn delivery(item: u64, body: &Bytes) -> v1::Event {
    let id = Some(v1::DeliveryId { item, attempt: 1 });
    let delivery = v1::Delivery { id, body: body.clone(), ..Default::default() };
    v1::Event { revision: item, kind: Some(v1::event::Kind::Delivery(delivery)), ..Default::default() }
}

/// One item with this body.
pub fn send(body: impl Into<Bytes>) -> v1::SendItemsRequest {
    let item = v1::NewItem { body: body.into(), ..Default::default() };
    v1::SendItemsRequest { parent: "rooms/lab/queues/jobs".to_owned(), items: vec![item], ..Default::default() }
}

/// The body of item `number`.
pub fn body(number: usize) -> Bytes {
    Bytes::from(format!("item {number}"))
}
