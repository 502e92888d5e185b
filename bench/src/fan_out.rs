//! One sender, a hundred listeners: ephemeral messages, and the durable log.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use conclave_client::{ClientError, Session, Subscription, UpdateKind};
use conclave_proto::v1::{NewMessage, PostMessageRequest, SendEphemeralRequest, Subscribe};
use futures::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::bench::{Bench, ROUNDS, Span};
use crate::load::{ITEM_BYTES, Progress, Tally};
use crate::probe::{Budget, Round, median};
use crate::report::{Row, Target};

const LISTENERS: usize = 100;

/// Which way messages go.
#[derive(Debug, Clone, Copy)]
pub enum Lane {
    Ephemeral,
    Durable,
}

impl Lane {
    fn work(self) -> &'static str {
        match self {
            Lane::Ephemeral => "ephemeral broadcast, deliveries",
            Lane::Durable => "durable log followed, deliveries",
        }
    }

    fn room(self) -> &'static str {
        match self {
            Lane::Ephemeral => "broadcast",
            Lane::Durable => "follow",
        }
    }

    fn resource(self) -> &'static str {
        match self {
            Lane::Ephemeral => "ephemeral",
            Lane::Durable => "messages",
        }
    }

    fn target(self) -> Target {
        Target::AtLeast(match self {
            Lane::Ephemeral => 400_000.0,
            Lane::Durable => 100_000.0,
        })
    }

    /// Sends under way: enough to saturate, few enough that listeners keep up with the sender.
    fn window(self) -> usize {
        match self {
            Lane::Ephemeral => 256,
            Lane::Durable => 256,
        }
    }
}

pub async fn run(bench: &Bench, lane: Lane) -> Result<Vec<Row>> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for index in 0..ROUNDS {
        rounds.push(round(bench, &format!("{}-{index}", lane.room()), lane).await?);
    }
    let (round, dropped) = {
        let dropped: u64 = rounds.iter().map(|(_, dropped)| dropped).sum();
        (median(rounds.into_iter().map(|(round, _)| round).collect()), dropped)
    };
    let config = format!("listeners={LISTENERS},window={},{ITEM_BYTES}B", lane.window());
    let sent = round.rate() / LISTENERS as f64;
    let detail = format!("{sent:.0} sent/s; {dropped} dropped; latency of a send's reply; {}", round.conditions());
    let row = Row::new(lane.work(), &config, round.rate(), "deliver/s").latency(&round.latency_us);
    let mut rows = vec![row.target(lane.target()).detail(detail)];
    rows.extend(round.costs(lane.work(), &config, &Budget::default()));
    Ok(rows)
}

async fn round(bench: &Bench, room: &str, lane: Lane) -> Result<(Round, u64)> {
    let mut sessions = bench.sessions(room, LISTENERS + 1).await?;
    let sender = sessions.pop().context("a session")?;
    let leader = bench.cluster.leader_of(room).await?;
    let resource = format!("rooms/{room}/{}", lane.resource());
    let mut tally = Tally::new(Span { from: Instant::now(), until: Instant::now() }, Progress::default());
    let mut listening: Vec<JoinHandle<Result<u64>>> = Vec::with_capacity(LISTENERS);
    for session in &sessions {
        let subscription = session.subscribe(Subscribe { resource: resource.clone(), ..Default::default() }).await?;
        listening.push(tokio::spawn(listen(subscription, tally.clone())));
    }
    tally.span = Span::after_warm_up()?;
    let sending = tokio::spawn(send(sender, format!("rooms/{room}"), lane, tally.clone()));
    let used = bench.watch(&tally, leader).await?;
    let sent = sending.await??;
    tally.add(&sent);
    // Their subscriptions end with their sessions.
    drop(sessions);
    let mut dropped = 0;
    for listener in listening {
        dropped += listener.await??;
    }
    Ok((Round { latency_us: tally.latency_us, used }, dropped))
}

/// Counts what arrives until its session is over; returns what the host says it dropped.
async fn listen(mut subscription: Subscription, tally: Tally) -> Result<u64> {
    let mut dropped = 0;
    while let Some(Ok(update)) = subscription.next().await {
        match update.kind {
            // Decoded, as a client would that does something with them.
            UpdateKind::Events(batch) => tally.count(batch.events()?.len() as u64),
            UpdateKind::Gap(gap) => dropped += gap.dropped_count,
            UpdateKind::Live(_) => {}
        }
    }
    Ok(dropped)
}

/// Keeps its window full until the round is over.
async fn send(sender: Session, room: String, lane: Lane, mut tally: Tally) -> Result<Tally> {
    let body = Bytes::from_static(&[0x5a; ITEM_BYTES]);
    let message = NewMessage { r#type: "tick".into(), body, ..Default::default() };
    let mut flying = VecDeque::with_capacity(lane.window());
    let mut now = Instant::now();
    while now < tally.span.until {
        while flying.len() < lane.window() {
            let message = Some(message.clone());
            let reply: futures::future::BoxFuture<'static, Result<(), ClientError>> = match lane {
                Lane::Ephemeral => {
                    let request = SendEphemeralRequest { parent: room.clone(), message, to: Vec::new() };
                    let reply = sender.send_ephemeral(request);
                    async move { reply.await.map(drop) }.boxed()
                }
                Lane::Durable => {
                    let request = PostMessageRequest { parent: room.clone(), message, ..Default::default() };
                    let reply = sender.post_message(request);
                    async move { reply.await.map(drop) }.boxed()
                }
            };
            flying.push_back((now, reply));
        }
        let Some((begun, oldest)) = flying.pop_front() else { bail!("nothing is under way") };
        oldest.await?;
        now = Instant::now();
        tally.latency(begun, now);
        while let Some(reply) = flying.front_mut().and_then(|(_, reply)| reply.now_or_never()) {
            reply?;
            if let Some((begun, _)) = flying.pop_front() {
                tally.latency(begun, now);
            }
        }
    }
    for (_, reply) in flying {
        reply.await?;
    }
    sender.close().await;
    Ok(tally)
}
