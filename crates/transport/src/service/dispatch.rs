//! Hands received calls to the handler, within bounds.
//!
//! Control calls run side by side. Appends and snapshot parts of one group run one after the other in the order they
//! came, so a group that is slow fills its own queue and no other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use conclave_proto::internal::v1::{PeerFrame, peer_frame::Content};
use conclave_raft::{Lane, PeerCall, PeerError, PeerHandler};
use conclave_types::GroupId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::frames::{answer_frame, call_from_frame};
use crate::link::LinkContext;

/// The calls of one stream.
pub(super) struct Dispatcher {
    worker: Worker,
    lane: Lane,
    frames: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    groups: Groups,
    tasks: TaskTracker,
    context: Arc<LinkContext>,
}

/// Waiting calls of the groups that have a task running for them; a group without waiting calls has no entry.
type Groups = Arc<Mutex<HashMap<GroupId, VecDeque<Incoming>>>>;

/// A received call with its share of the stream's bounds.
struct Incoming {
    request_id: u64,
    call: PeerCall,
    deadline: Instant,
    _frame: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Dispatcher {
    pub fn new(
        handler: Arc<dyn PeerHandler>,
        lane: Lane,
        answers: mpsc::Sender<PeerFrame>,
        tasks: TaskTracker,
        context: Arc<LinkContext>,
    ) -> Self {
        Dispatcher {
            worker: Worker { handler, answers },
            lane,
            frames: Arc::new(Semaphore::new(context.options.stream_frames)),
            bytes: Arc::new(Semaphore::new(context.options.stream_bytes)),
            groups: Groups::default(),
            tasks,
            context,
        }
    }

    /// Starts or queues a call. Waits only while the peer does not read its answers.
    pub async fn accept(&self, frame: PeerFrame) {
        let request_id = frame.request_id;
        let refused = match self.admit(frame) {
            Ok(incoming) => match self.lane {
                Lane::Control => self.run_at_once(incoming),
                Lane::Data | Lane::Snapshot => self.run_in_order(incoming),
            },
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = refused {
            self.worker.answer(request_id, Err(refusal)).await;
        }
    }

    fn admit(&self, frame: PeerFrame) -> Result<Incoming, PeerError> {
        let body_bytes = match &frame.content {
            Some(Content::Body(body)) => u32::try_from(body.len()).unwrap_or(u32::MAX),
            Some(Content::Refusal(_)) | None => 0,
        };
        let request_id = frame.request_id;
        let deadline = Instant::now() + Duration::from_millis(frame.deadline_ms.into());
        let call = call_from_frame(frame)?;
        let busy = |_| PeerError::Busy;
        Ok(Incoming {
            request_id,
            call,
            deadline,
            _frame: self.frames.clone().try_acquire_owned().map_err(busy)?,
            _bytes: self.bytes.clone().try_acquire_many_owned(body_bytes).map_err(busy)?,
        })
    }

    fn run_at_once(&self, incoming: Incoming) -> Result<(), PeerError> {
        let worker = self.worker.clone();
        self.spawn(async move { worker.run(incoming).await });
        Ok(())
    }

    fn run_in_order(&self, incoming: Incoming) -> Result<(), PeerError> {
        let group = incoming.call.group;
        let mut groups = self.groups.lock();
        if let Some(waiting) = groups.get_mut(&group) {
            if waiting.len() >= self.context.options.group_frames {
                return Err(PeerError::Busy);
            }
            waiting.push_back(incoming);
            return Ok(());
        }
        groups.insert(group, VecDeque::from([incoming]));
        let (worker, groups) = (self.worker.clone(), self.groups.clone());
        self.spawn(async move {
            while let Some(incoming) = next_of(&groups, group) {
                worker.run(incoming).await;
            }
        });
        Ok(())
    }

    /// Calls outlive their stream, since a handler should not be cut in the middle, but not the transport.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancelled = self.context.cancelled.clone();
        self.tasks.spawn(async move {
            cancelled.run_until_cancelled(work).await;
        });
    }
}

/// The next waiting call of a group; without one its entry goes, and with it the claim that a task is running.
fn next_of(groups: &Groups, group: GroupId) -> Option<Incoming> {
    let mut groups = groups.lock();
    let next = groups.get_mut(&group).and_then(VecDeque::pop_front);
    if next.is_none() {
        groups.remove(&group);
    }
    next
}

/// Runs one call and sends its answer.
#[derive(Clone)]
struct Worker {
    handler: Arc<dyn PeerHandler>,
    answers: mpsc::Sender<PeerFrame>,
}

impl Worker {
    /// A call whose caller no longer waits is dropped without a word.
    async fn run(&self, incoming: Incoming) {
        if incoming.deadline <= Instant::now() {
            return;
        }
        if let Ok(answer) = timeout_at(incoming.deadline, self.handler.handle(incoming.call)).await {
            self.answer(incoming.request_id, answer).await;
        }
    }

    async fn answer(&self, request_id: u64, answer: Result<bytes::Bytes, PeerError>) {
        // Nobody to answer when the stream has ended meanwhile.
        let _ = self.answers.send(answer_frame(request_id, answer)).await;
    }
}
