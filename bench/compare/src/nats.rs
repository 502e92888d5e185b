//! Three servers of NATS with JetStream: streams in files on all three, each item gone once it is acknowledged.
//!
//! Clients connect to the server that leads what they use, which spares them a hop: the best case of NATS.

use std::pin::pin;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{Context, PublishError};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{ClusterInfo, Config, RetentionPolicy, StorageType};
use async_nats::{Client, Subject, jetstream};
use bytes::Bytes;
use conclave_bench::load::{Bodies, Payload, Sender};
use conclave_bench::probe::Round;
use conclave_bench::receive::{BATCH, CONSUMERS};
use conclave_tests::cluster::free_address;
use conclave_tests::process::Process;
use conclave_workload::patience::eventually;
use futures::future::{BoxFuture, Map};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::cluster::{Cluster, Share, fill, receive_round, send_round};
use crate::servers::{SERVERS, all_run, listens, processes, start};

/// Names the server's binary; the task that starts us has built it.
const BINARY: &str = "CONCLAVE_NATS_SERVER";
/// All consumers together are one to the stream.
const CONSUMER: &str = "workers";
/// Confirmed acks of one client that may be under way: as many items as one of ours has, in its receive and its ack.
const ACKS_IN_FLIGHT: usize = 2 * BATCH;
/// More than all clients can have under way, so that the server's default of 1,000 does not hold them up.
const MAX_ACK_PENDING: i64 = 4_096;

/// When the servers sync what they write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    AsItComes,
    Always,
}

pub fn version() -> Result<String> {
    let output = Command::new(binary()?).arg("--version").output()?;
    let printed = String::from_utf8(output.stdout)?;
    Ok(printed.rsplit(' ').next().unwrap_or_default().trim().to_owned())
}

fn binary() -> Result<String> {
    std::env::var(BINARY).with_context(|| format!("{BINARY} is not set: start this with `cargo xtask bench nats`"))
}

pub struct Nats {
    servers: Vec<Process>,
    addresses: Vec<String>,
    /// Goes after the servers.
    _folder: TempDir,
}

impl Nats {
    pub async fn start(fsync: Fsync) -> Result<Nats> {
        let folder = tempfile::tempdir()?;
        let addresses = (0..SERVERS).map(|_| free_address()).collect::<Result<Vec<_>>>()?;
        let routes = (0..SERVERS).map(|_| free_address()).collect::<Result<Vec<_>>>()?;
        let binary = binary()?;
        let mut servers = Vec::with_capacity(SERVERS);
        for (index, address) in addresses.iter().enumerate() {
            let name = server_name(index);
            let file = folder.path().join(format!("{name}.conf"));
            let store = folder.path().join(&name);
            std::fs::write(&file, configuration(&name, address, index, &routes, &store.display().to_string(), fsync))?;
            let file = file.display().to_string();
            servers.push(start(&name, &[&binary, "--config", &file], &[], folder.path())?);
        }
        for address in &addresses {
            eventually("a server of NATS", || async { listens(address) }).await?;
        }
        all_run(&mut servers)?;
        Ok(Nats { servers, addresses, _folder: folder })
    }

    async fn connect(&self, server: usize) -> Result<Client> {
        Ok(async_nats::connect(&self.addresses[server]).await?)
    }

    /// Makes a stream, waits until all three have it, and returns which server leads it.
    async fn stream(&self, name: &str) -> Result<usize> {
        let context = jetstream::new(self.connect(0).await?);
        let config = || Config {
            name: name.to_owned(),
            subjects: vec![name.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: SERVERS,
            ..Config::default()
        };
        // Until the servers have elected who makes streams, this is refused.
        eventually("a stream", || async { Ok(context.create_stream(config()).await?) }).await?;
        eventually("a stream on three servers", || async {
            let mut stream = context.get_stream(name).await?;
            leader(stream.info().await?.cluster.as_ref())
        })
        .await
    }

    /// Makes the one consumer of a stream and returns which server leads it.
    async fn consumer(&self, stream: &str) -> Result<usize> {
        let context = jetstream::new(self.connect(0).await?);
        let config = || pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: MAX_ACK_PENDING,
            ..pull::Config::default()
        };
        eventually("a consumer", || async {
            let mut consumer = context.create_consumer_on_stream(config(), stream).await?;
            leader(consumer.info().await?.cluster.as_ref())
        })
        .await
    }
}

fn server_name(index: usize) -> String {
    format!("nats-{index}")
}

fn configuration(name: &str, address: &str, index: usize, routes: &[String], store: &str, fsync: Fsync) -> String {
    let route = &routes[index];
    let all: Vec<_> = routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
    let sync = match fsync {
        Fsync::AsItComes => "",
        Fsync::Always => ", sync_interval: always",
    };
    format!(
        "server_name: \"{name}\"\nlisten: \"{address}\"\njetstream {{ store_dir: \"{store}\"{sync} }}\n\
         cluster {{ name: compare, listen: \"{route}\", routes: [{}] }}\n",
        all.join(", ")
    )
}

/// Who leads, once the two others have all that the leader has.
fn leader(group: Option<&ClusterInfo>) -> Result<usize> {
    let group = group.context("not replicated")?;
    let current = group.replicas.iter().filter(|replica| replica.current && !replica.offline).count();
    ensure!(current == SERVERS - 1, "{current} of {} followers are current", SERVERS - 1);
    let leader = group.leader.as_deref().context("no leader")?;
    (0..SERVERS).find(|index| server_name(*index) == leader).with_context(|| format!("{leader} is none of ours"))
}

impl Cluster for Nats {
    async fn send(&self, queue: &str, clients: usize, window: usize) -> Result<Round> {
        let leader = self.stream(queue).await?;
        let mut publishers = Vec::with_capacity(clients);
        for _ in 0..clients {
            publishers.push(Publisher::new(self.connect(leader).await?, queue));
        }
        send_round(publishers, window, processes(&self.servers, leader)?).await
    }

    async fn receive(&self, queue: &str) -> Result<Round> {
        let leader = self.stream(queue).await?;
        let items = fill(&mut Publisher::new(self.connect(leader).await?, queue)).await?;
        let leader = self.consumer(queue).await?;
        let mut consumers = Vec::with_capacity(CONSUMERS);
        for _ in 0..CONSUMERS {
            let client = self.connect(leader).await?;
            let consumer = jetstream::new(client.clone()).get_consumer_from_stream(CONSUMER, queue).await?;
            consumers.push(move |share| consume(client, consumer, share));
        }
        receive_round(consumers, items, processes(&self.servers, leader)?).await
    }
}

struct Publisher {
    context: Context,
    subject: Subject,
    bodies: Bodies,
}

impl Publisher {
    fn new(client: Client, subject: &str) -> Publisher {
        Publisher { context: jetstream::new(client), subject: subject.into(), bodies: Bodies::of(Payload::Noise) }
    }
}

type Published = Result<PublishAck, PublishError>;

impl Sender for Publisher {
    type Sent = Map<BoxFuture<'static, Published>, fn(Published) -> Result<()>>;

    async fn send(&mut self) -> Result<Self::Sent> {
        let acknowledged = self.context.publish(self.subject.clone(), self.bodies.take()).await?;
        Ok(acknowledged.into_future().map(|published| Ok(published.map(drop)?)))
    }
}

/// Pulls and acknowledges until the round is over.
///
/// The ack is a request: the server's answer confirms it. The client's own `double_ack` is the same on the wire, and
/// subscribes anew for every answer, which costs both sides more.
async fn consume(client: Client, consumer: PullConsumer, mut share: Share) -> Result<Share> {
    let mut messages = consumer.stream().max_messages_per_batch(BATCH).messages().await?;
    let mut acks = FuturesUnordered::new();
    let over = share.over();
    let mut over = pin!(over.cancelled());
    loop {
        tokio::select! {
            biased;
            Some(begun) = acks.next() => share.done(begun?),
            message = messages.next(), if acks.len() < ACKS_IN_FLIGHT => match message {
                Some(message) => acks.push(acknowledge(&client, message?.message.reply)),
                None => bail!("the stream of messages ended"),
            },
            () = &mut over => return Ok(share),
        }
    }
}

/// Returns when it began.
async fn acknowledge(client: &Client, delivery: Option<Subject>) -> Result<Instant> {
    let begun = Instant::now();
    let delivery = delivery.context("a message that is no delivery")?;
    client.request(delivery, Bytes::from_static(b"+ACK")).await?;
    Ok(begun)
}
