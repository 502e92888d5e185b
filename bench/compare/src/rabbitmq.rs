//! Three nodes of RabbitMQ, as Debian packages it, and quorum queues on all three.
//!
//! Nothing of the machine's own installation is used but the program: folders, ports, cookie and the Erlang port mapper
//! are this cluster's. A queue is led by the node on which it is declared, and clients connect to that one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use conclave_bench::load::{Bodies, Payload, Sender};
use conclave_bench::probe::Round;
use conclave_bench::receive::{BATCH, CONSUMERS};
use conclave_tests::cluster::free_address;
use conclave_tests::process::Process;
use conclave_workload::patience::eventually;
use futures::future::Map;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{
    Acker, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, PublisherConfirm,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::cluster::{Cluster, Share, fill, receive_round, send_round};
use crate::servers::{BOUND_TO_US, SERVERS, all_run, listens, processes, start};

/// Where the package puts the program, in a folder that names its version.
const INSTALLED: &str = "/usr/lib/rabbitmq/lib";
const NAME: &str = "rabbitmq_server-";
/// Lets Erlang's nodes find each other; Debian's.
const PORT_MAPPER: &str = "epmd";
/// Deliveries of one client that may be unacknowledged: as many as one of ours has.
const PREFETCH: u16 = 2 * BATCH as u16;
/// The node that queues are declared on.
const LEADER: usize = 0;
const PERSISTENT: u8 = 2;

pub fn version() -> Result<String> {
    let folder = installed()?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(name.trim_start_matches(NAME).to_owned())
}

fn installed() -> Result<PathBuf> {
    let entries = fs::read_dir(INSTALLED).with_context(|| format!("RabbitMQ is not installed in {INSTALLED}"))?;
    let mut folders = entries.flatten().map(|entry| entry.path());
    let is_server = |folder: &PathBuf| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME));
    folders.find(is_server).with_context(|| format!("no {NAME}… in {INSTALLED}"))
}

pub struct RabbitMq {
    nodes: Vec<Process>,
    addresses: Vec<String>,
    surroundings: Surroundings,
    /// Goes after the nodes, which know each other by it.
    _port_mapper: Process,
    /// Goes last.
    _folder: TempDir,
}

/// What all nodes and their operator's command find in their environment.
struct Surroundings {
    programs: PathBuf,
    home: PathBuf,
    mapper_port: String,
}

impl RabbitMq {
    pub async fn start() -> Result<RabbitMq> {
        let folder = tempfile::tempdir()?;
        let addresses = (0..SERVERS).map(|_| free_address()).collect::<Result<Vec<_>>>()?;
        let mapper_address = free_address()?;
        let mapper_port = port(&mapper_address)?.to_owned();
        let mapper = [PORT_MAPPER, "-port", &mapper_port, "-address", "127.0.0.1"];
        let port_mapper = start(PORT_MAPPER, &mapper, &[], folder.path())?;
        eventually("the Erlang port mapper", || async { listens(&mapper_address) }).await?;

        let programs = installed()?.join("sbin");
        let surroundings = Surroundings { programs, home: folder.path().to_owned(), mapper_port };
        surroundings.write_cookie()?;
        let mut nodes = Vec::with_capacity(SERVERS);
        // The others join the first, so it has to be there.
        for (index, address) in addresses.iter().enumerate() {
            nodes.push(surroundings.start_node(index, address)?);
            eventually("a node of RabbitMQ", || async { listens(address) }).await?;
            all_run(&mut nodes)?;
        }
        Ok(RabbitMq { nodes, addresses, surroundings, _port_mapper: port_mapper, _folder: folder })
    }

    async fn connect(&self) -> Result<Connection> {
        let uri = format!("amqp://guest:guest@{}/%2f", self.addresses[LEADER]);
        Ok(Connection::connect(&uri, ConnectionProperties::default()).await?)
    }

    /// Makes a queue and sees that all three nodes hold it.
    async fn queue(&self, name: &str) -> Result<()> {
        let channel = self.connect().await?.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(SERVERS as i32));
        channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
        eventually("a queue on three nodes", || async { self.surroundings.check_queue(name) }).await
    }
}

fn port(address: &str) -> Result<&str> {
    Ok(address.rsplit_once(':').context("an address without a port")?.1)
}

fn node_name(index: usize) -> String {
    format!("compare-{index}@localhost")
}

impl Surroundings {
    /// What lets nodes and commands in; Erlang refuses one that others can read.
    fn write_cookie(&self) -> Result<()> {
        let cookie = self.home.join(".erlang.cookie");
        fs::write(&cookie, format!("compare{}", std::process::id()))?;
        fs::set_permissions(cookie, Permissions::from_mode(0o400))?;
        Ok(())
    }

    fn common(&self) -> Vec<(&'static str, String)> {
        let nothing = self.home.join("nothing").display().to_string();
        vec![
            ("HOME", self.home.display().to_string()),
            ("ERL_EPMD_PORT", self.mapper_port.clone()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            // Nobody starts a port mapper of its own when ours is gone: it would outlive us.
            ("ERL_FLAGS", "-start_epmd false".to_owned()),
            // The machine's own settings do not count here.
            ("RABBITMQ_CONF_ENV_FILE", nothing.clone()),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", nothing),
        ]
    }

    fn start_node(&self, index: usize, address: &str) -> Result<Process> {
        let name = format!("rabbitmq-{index}");
        let folder = self.home.join(&name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("plugins"), "[].\n")?;
        let (configuration, plugins) = (folder.join("rabbitmq.conf"), folder.join("plugins"));
        fs::write(&configuration, node_configuration(index, address))?;
        let shown = |path: &Path| path.display().to_string();
        let mut environment = self.common();
        environment.extend([
            ("RABBITMQ_NODENAME", node_name(index)),
            ("RABBITMQ_DIST_PORT", port(&free_address()?)?.to_owned()),
            ("RABBITMQ_CONFIG_FILE", shown(&configuration)),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", shown(&plugins)),
            ("RABBITMQ_MNESIA_BASE", shown(&folder)),
            ("RABBITMQ_LOG_BASE", shown(&folder)),
            ("RABBITMQ_LOGS", "-".to_owned()),
            ("RABBITMQ_PID_FILE", shown(&folder.join("pid"))),
            // With input allowed the start script becomes the node, instead of waiting beside it; there is none.
            ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput".to_owned()),
        ]);
        start(&name, &[&shown(&self.programs.join("rabbitmq-server"))], &environment, &self.home)
    }

    /// Whether all nodes are up and hold the queue, as its leader says.
    fn check_queue(&self, name: &str) -> Result<()> {
        let [program, bound @ ..] = BOUND_TO_US;
        let mut command = Command::new(program);
        command.args(bound).arg(self.programs.join("rabbitmqctl")).args([
            "--node",
            &node_name(LEADER),
            "--quiet",
            "--formatter",
            "json",
            "list_queues",
        ]);
        command.args(["name", "leader", "online"]).envs(self.common()).stdin(Stdio::null());
        let output = command.output()?;
        ensure!(output.status.success(), "rabbitmqctl: {}", String::from_utf8_lossy(&output.stderr));
        let queues: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        let queue = queues.iter().find(|queue| queue["name"] == name).context("no such queue")?;
        ensure!(queue["leader"] == node_name(LEADER).as_str(), "another node leads: {queue}");
        ensure!(queue["online"].as_array().is_some_and(|online| online.len() == SERVERS), "not everywhere: {queue}");
        Ok(())
    }
}

fn node_configuration(index: usize, address: &str) -> String {
    let peers: Vec<usize> = if index == LEADER { vec![LEADER] } else { vec![LEADER, index] };
    let mut lines = vec![
        format!("listeners.tcp.1 = {address}"),
        "cluster_formation.peer_discovery_backend = classic_config".to_owned(),
        "log.console.level = warning".to_owned(),
    ];
    for (place, peer) in peers.into_iter().enumerate() {
        lines.push(format!("cluster_formation.classic_config.nodes.{} = {}", place + 1, node_name(peer)));
    }
    lines.join("\n") + "\n"
}

impl Cluster for RabbitMq {
    async fn send(&self, queue: &str, clients: usize, window: usize) -> Result<Round> {
        self.queue(queue).await?;
        let mut publishers = Vec::with_capacity(clients);
        for _ in 0..clients {
            publishers.push(Publisher::new(self.connect().await?, queue).await?);
        }
        send_round(publishers, window, processes(&self.nodes, LEADER)?).await
    }

    async fn receive(&self, queue: &str) -> Result<Round> {
        self.queue(queue).await?;
        let items = fill(&mut Publisher::new(self.connect().await?, queue).await?).await?;
        let mut consumers = Vec::with_capacity(CONSUMERS);
        for _ in 0..CONSUMERS {
            let connection = self.connect().await?;
            let channel = connection.create_channel().await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let queue = ShortString::from(queue);
            consumers.push(move |share| consume(connection, channel, queue, share));
        }
        receive_round(consumers, items, processes(&self.nodes, LEADER)?).await
    }
}

struct Publisher {
    channel: Channel,
    queue: ShortString,
    bodies: Bodies,
    _connection: Connection,
}

impl Publisher {
    async fn new(connection: Connection, queue: &str) -> Result<Publisher> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Publisher { channel, queue: queue.into(), bodies: Bodies::of(Payload::Noise), _connection: connection })
    }
}

type Confirmed = lapin::Result<Confirmation>;

impl Sender for Publisher {
    type Sent = Map<PublisherConfirm, fn(Confirmed) -> Result<()>>;

    async fn send(&mut self) -> Result<Self::Sent> {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions::default();
        let body = self.bodies.take();
        let confirm = self.channel.basic_publish("".into(), self.queue.clone(), options, &body, properties).await?;
        Ok(confirm.map(|confirmed| {
            ensure!(confirmed?.is_ack(), "a publish was not confirmed");
            Ok(())
        }))
    }
}

/// Consumes, and acknowledges each delivery by itself, until the round is over.
async fn consume(connection: Connection, channel: Channel, queue: ShortString, mut share: Share) -> Result<Share> {
    let options = BasicConsumeOptions::default();
    let mut deliveries: Consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
    let mut acks = FuturesUnordered::new();
    let over = share.over();
    let mut over = pin!(over.cancelled());
    loop {
        tokio::select! {
            biased;
            Some(begun) = acks.next() => share.done(begun?),
            delivery = deliveries.next() => match delivery {
                Some(delivery) => acks.push(acknowledge(delivery?.acker)),
                None => bail!("the deliveries ended"),
            },
            () = &mut over => break,
        }
    }
    drop(connection);
    Ok(share)
}

/// Returns when it began, once the ack is written.
async fn acknowledge(delivery: Acker) -> Result<Instant> {
    let begun = Instant::now();
    ensure!(delivery.ack(BasicAckOptions::default()).await?, "an ack was not taken");
    Ok(begun)
}
