//! The load that every fault run is judged by: writers, consumers, editors, readers and followers over several rooms.
//!
//! Each actor asks one thing (or a small burst) a turn and records what became of it; what no answer came to is
//! *unknown*, never failed. No actor gives up: it opens another session and goes on, so a run ends when it is told to.
//! [`Workload::finish`] stops them, takes everything out of the cluster again, and returns the history that
//! [`crate::checks::judge`] judges.
//!
//! Bounded by [`MAX_OPERATIONS`]: a run that reaches it goes on without load.

mod actor;
mod consumer;
mod editor;
mod ending;
mod errands;
pub mod expiries;
mod fate;
mod listeners;
mod poster;
mod queues;
mod reader;
mod recorder;
mod reply;
mod rich_sender;
mod sender;
mod stream_consumer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use conclave_client::Client;
use conclave_proto::v1::{CreateRoomRequest, ErrorReason};
use conclave_types::{Clock, Timestamp};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::dice::Dice;
use crate::history::{History, QueueRules, Transcript};
use crate::patience::eventually;
use actor::Actor;
use listeners::Copy;
pub use recorder::{Begun, Faults, Recorder};

/// Operations of one run: what a history of 20 minutes needs several times over, and about 100 MiB.
pub const MAX_OPERATIONS: usize = 500_000;
/// Documents of each room.
pub const DOCUMENTS: u16 = 2;
/// Who runs errands, and the room that they begin from.
const ERRAND_RUNNERS: usize = 2;
const ERRANDS: &str = "errands";
/// How long actors may take to notice the end: one operation that waits for its time limit.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// What to load a cluster with.
#[derive(Clone)]
pub struct Load {
    /// Names; they are created. Enough that several shards have one.
    pub rooms: Vec<String>,
    pub seed: u64,
    /// Between two turns of one actor.
    pub pace: Duration,
    /// By which the history is timed.
    pub clock: Arc<dyn Clock>,
}

impl Load {
    /// What two cores and three hosts carry with room to spare: some hundred operations a second.
    pub fn new(rooms: usize, seed: u64) -> Load {
        let rooms = (0..rooms).map(|index| format!("load-{index}")).collect();
        Load { rooms, seed, pace: Duration::from_millis(100), clock: Arc::new(RuntimeClock(Instant::now())) }
    }
}

/// The runtime's monotonic clock. Nothing here asks for the wall clock.
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A running load.
pub struct Workload {
    load: Load,
    clients: Vec<Client>,
    recorder: Arc<Recorder>,
    stop: watch::Sender<bool>,
    actors: JoinSet<()>,
    followers: Vec<JoinHandle<Transcript>>,
    copies: Vec<JoinHandle<Copy>>,
}

impl Workload {
    /// Creates the rooms and starts the actors. Each client is a connection with a participant's token; actors share
    /// them in turn.
    pub async fn start(clients: Vec<Client>, load: Load) -> Result<Workload> {
        let mut workload = Workload::prepare(clients, load, queues::rules()).await?;
        let first = workload.clients.first().context("a load needs a client")?;
        create(first, ERRANDS).await?;
        for room in &workload.load.rooms {
            queues::make_rich(first, &format!("rooms/{room}")).await?;
        }
        let stopped = workload.stop.subscribe();
        for room in 0..workload.load.rooms.len() {
            workload.people(room, &stopped);
        }
        for _ in 0..ERRAND_RUNNERS {
            let actor = workload.actor(0, &stopped);
            workload.actors.spawn(errands::run(actor, ERRANDS.to_owned()));
        }
        Ok(workload)
    }

    /// Creates the rooms; nobody acts yet.
    async fn prepare(clients: Vec<Client>, load: Load, queues: Vec<QueueRules>) -> Result<Workload> {
        let first = clients.first().context("a load needs a client")?;
        for room in &load.rooms {
            create(first, room).await?;
        }
        let recorder = Arc::new(Recorder::new(load.seed, load.rooms.clone(), queues, load.clock.clone()));
        Ok(Workload {
            clients,
            recorder,
            stop: watch::channel(false).0,
            actors: JoinSet::new(),
            followers: Vec::new(),
            copies: Vec::new(),
            load,
        })
    }

    /// Where to note faults, so that the history says what happened when.
    pub fn faults(&self) -> Faults {
        Faults::new(self.recorder.clone())
    }

    pub fn recorder(&self) -> Arc<Recorder> {
        self.recorder.clone()
    }

    /// Asks for many posts at once, more than a shard queues: some are refused, and nobody else may suffer for it.
    pub fn flood(&mut self, room: usize, posts: u32) {
        let actor = self.actor(room, &self.stop.subscribe());
        self.actors.spawn(poster::flood(actor, posts));
    }

    /// Stops the load and reads everything back. All hosts must be up. An error means that the cluster does not serve
    /// again in time, or that the harness failed; losses are for the judge.
    pub async fn finish(mut self) -> Result<History> {
        let (transcripts, copies) = self.stop_actors().await?;
        let reader = self.clients.first().context("a load needs a client")?.clone();
        let (transcripts, endings) = ending::read(&reader, &self.recorder, transcripts, copies).await?;
        let mut history = self.recorder.take();
        (history.transcripts, history.endings) = (transcripts, endings);
        Ok(history)
    }

    /// Stops everybody; returns what followers and keepers of documents have.
    async fn stop_actors(&mut self) -> Result<(Vec<Transcript>, Vec<Copy>)> {
        self.stop.send_replace(true);
        let stopped = async {
            while let Some(ended) = self.actors.join_next().await {
                ended.context("an actor panicked")?;
            }
            let (mut transcripts, mut copies) = (Vec::new(), Vec::new());
            for follower in &mut self.followers {
                transcripts.push(follower.await?);
            }
            for copy in &mut self.copies {
                copies.push(copy.await?);
            }
            anyhow::Ok((transcripts, copies))
        };
        tokio::time::timeout(STOP_WITHIN, stopped).await.context("the load did not end")?
    }

    /// The actors of one room.
    fn people(&mut self, room: usize, stopped: &watch::Receiver<bool>) {
        let actor = |workload: &Workload| workload.actor(room, stopped);
        let people = [actor(self), actor(self), actor(self), actor(self), actor(self), actor(self), actor(self)];
        let [posting, calling, sending, consuming, idling, editing, typing] = people;
        self.actors.spawn(poster::post_in_session(posting));
        self.actors.spawn(poster::post_by_calls(calling));
        self.actors.spawn(sender::send(sending));
        self.actors.spawn(consumer::consume(consuming));
        self.actors.spawn(consumer::consume(idling));
        self.actors.spawn(rich_sender::send(actor(self)));
        self.actors.spawn(consumer::consume_rich(actor(self)));
        self.actors.spawn(stream_consumer::consume(actor(self)));
        self.actors.spawn(editor::edit(editing));
        self.actors.spawn(editor::edit(typing));
        self.actors.spawn(reader::read(actor(self)));
        self.followers.push(tokio::spawn(listeners::follow_stream(actor(self))));
        self.followers.push(tokio::spawn(listeners::follow_in_session(actor(self))));
        for document in 0..DOCUMENTS {
            self.copies.push(tokio::spawn(listeners::keep_open(actor(self), document)));
        }
    }

    fn actor(&self, room: usize, stopped: &watch::Receiver<bool>) -> Actor {
        let number = self.recorder.next_actor();
        Actor {
            number,
            room,
            name: format!("rooms/{}", self.load.rooms[room]),
            client: self.clients[number as usize % self.clients.len()].clone(),
            recorder: self.recorder.clone(),
            dice: Dice::new(self.load.seed.wrapping_add(u64::from(number))),
            stopped: stopped.clone(),
            pace: actor::pace(self.load.pace),
        }
    }
}

pub fn queue_name(room: &str, queue: u16) -> String {
    format!("{room}/queues/{}", queues::name(queue))
}

pub fn document_name(room: &str, document: u16) -> String {
    format!("{room}/documents/board-{document}")
}

async fn create(client: &Client, room: &str) -> Result<()> {
    eventually("a room for the load", || async {
        let request = CreateRoomRequest { name: format!("rooms/{room}"), ..Default::default() };
        match client.create_room(request).await {
            Err(error) if error.reason != Some(ErrorReason::RoomExists) => Err(anyhow::Error::from(error)),
            _ => Ok(()),
        }
    })
    .await
}
