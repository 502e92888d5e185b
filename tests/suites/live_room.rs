//! A room full of members who edit, post, send and leave at random while the host that leads it is killed; and what
//! becomes of a member who dies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use conclave_client::{Client, Session, UpdateKind};
use conclave_document::{Replica, decode_state_vector};
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::{
    AttachParticipantRequest, DescribeDocumentRequest, FollowMessagesRequest, ListParticipantsRequest,
    OpenDocumentRequest, WatchRoomRequest,
};
use conclave_tests::alone::with_cluster;
use conclave_tests::cluster::Cluster;
use conclave_tests::editor::holds;
use conclave_tests::member::{Complete, Member, name_of};
use conclave_types::YjsClient;
use conclave_workload::news::{Assembly, ROOT, described_text};
use conclave_workload::patience::eventually;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

const MEMBERS: usize = 20;
/// How long the members act.
const LIVELY_FOR: Duration = Duration::from_secs(60);
const SEED: u64 = 0xc0ac;
/// The shortest that a participant may ask for.
const LEASE: Duration = Duration::from_secs(5);
/// What looking for the end of a lease from outside may add to it.
const LEASE_SLACK: Duration = Duration::from_secs(2);

/// The log as it lies there.
async fn log(client: &Client, room: &str) -> Result<BTreeMap<u64, bytes::Bytes>> {
    let request = FollowMessagesRequest { parent: format!("rooms/{room}"), after_revision: 0 };
    let mut stream = client.follow_messages(request).await?;
    let mut messages = BTreeMap::new();
    while let Some(update) = stream.next().await {
        match update?.kind {
            UpdateKind::Events(batch) => {
                for event in batch.events()? {
                    if let Some(Kind::Message(message)) = event.kind {
                        messages.insert(event.revision, message.body);
                    }
                }
            }
            UpdateKind::Gap(gap) => anyhow::bail!("a gap: {gap:?}"),
            UpdateKind::Live(_) => return Ok(messages),
        }
    }
    anyhow::bail!("the log ended before it was live")
}

/// The clocks that the host holds of a document.
async fn clocks(client: &Client, document: &str) -> Result<conclave_types::Clocks> {
    let mut stream = client.open_document(OpenDocumentRequest { name: document.into(), ..Default::default() }).await?;
    while let Some(update) = stream.next().await {
        if let UpdateKind::Live(live) = update?.kind {
            return Ok(decode_state_vector(&live.state_vector)?);
        }
    }
    anyhow::bail!("the document ended before it was live")
}

async fn present(client: &Client, room: &str) -> Result<Vec<String>> {
    let request = ListParticipantsRequest { parent: format!("rooms/{room}"), page_size: 1_000, ..Default::default() };
    let listed = client.list_participants(request).await?;
    Ok(listed.participants.into_iter().map(|participant| participant.name).collect())
}

/// Watches the whole room from its beginning until it has everything; its transcript must be the room's order.
async fn watch(client: Client, room: &str, mut complete: watch::Receiver<Option<Complete>>) -> Result<Watched> {
    let request = WatchRoomRequest { name: format!("rooms/{room}"), ..Default::default() };
    let mut stream = client.watch_room(request).await?.reconnecting(LIVELY_FOR);
    let (mut replica, mut assembly) = (Replica::new(YjsClient(1)), Assembly::default());
    let (mut messages, mut last) = (BTreeMap::new(), 0);
    loop {
        let has = |complete: &Complete| last >= complete.last_message && holds(&replica.clocks(), &complete.clocks);
        if complete.borrow_and_update().as_ref().is_some_and(has) {
            return Ok(Watched { messages, text: replica.text(ROOT) });
        }
        let update = tokio::select! {
            update = stream.next() => update.context("the watch ended")??,
            changed = complete.changed() => {
                changed?;
                continue;
            }
        };
        match update.kind {
            UpdateKind::Events(batch) => {
                for event in batch.events()? {
                    ensure!(event.revision == 0 || event.revision >= last, "{} after {last}", event.revision);
                    last = last.max(event.revision);
                    match event.kind {
                        Some(Kind::Message(message)) => {
                            let again = messages.insert(event.revision, message.body);
                            ensure!(again.is_none(), "the message at {} was told twice", event.revision);
                        }
                        Some(Kind::DocumentUpdate(update)) => {
                            if let Some(update) = assembly.take(update)? {
                                replica.apply(&update)?;
                            }
                        }
                        _ => {}
                    }
                }
            }
            UpdateKind::Gap(gap) => anyhow::bail!("a gap in a room that keeps everything: {gap:?}"),
            UpdateKind::Live(_) => {}
        }
    }
}

struct Watched {
    messages: BTreeMap<u64, bytes::Bytes>,
    text: String,
}

/// Kills the host that leads the room a third of the way, and brings it back halfway.
async fn lose_host(cluster: Arc<Mutex<Cluster>>, room: &str, until: Instant) -> Result<()> {
    tokio::time::sleep_until(until - LIVELY_FOR * 2 / 3).await;
    let leader = cluster.lock().await.leader_of(room).await?;
    cluster.lock().await.kill_host(leader)?;
    eprintln!("host {leader} killed");
    tokio::time::sleep_until(until - LIVELY_FOR / 2).await;
    cluster.lock().await.start_host(leader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_lively_members_agree_on_everything_after_the_loss_of_their_host() {
    with_cluster(|cluster| async move {
        let observer = cluster.lock().await.client_with_room("observer", "lively").await?;
        let mut members = Vec::new();
        for index in 0..MEMBERS {
            let token = cluster.lock().await.token(&name_of(index)).await?;
            let client = Client::connect(&cluster.lock().await.address(), &token).await?;
            members.push(Member::new(index, MEMBERS, "lively", client, SEED));
        }
        let until = Instant::now() + LIVELY_FOR;
        let (stopped, mut stops) = mpsc::channel(MEMBERS);
        let (complete, completed) = watch::channel(None);
        let living: Vec<_> = members
            .into_iter()
            .map(|member| tokio::spawn(member.live(until, stopped.clone(), completed.clone())))
            .collect();
        drop(stopped);
        let watching = tokio::spawn(watch(observer.clone(), "lively", completed));
        lose_host(cluster.clone(), "lively", until).await?;
        let mut stopped = 0;
        while stopped < MEMBERS && stops.recv().await.is_some() {
            stopped += 1;
        }
        if stopped < MEMBERS {
            for member in living {
                member.await??;
            }
            anyhow::bail!("a member ended early");
        }
        let everyone: Vec<String> =
            (0..MEMBERS).map(|index| format!("rooms/lively/participants/{}", name_of(index))).collect();
        eventually("everybody present", || async {
            let mut names = present(&observer, "lively").await?;
            names.sort_by_key(|name| everyone.iter().position(|member| member == name));
            ensure!(names == everyone, "{names:?}");
            Ok(())
        })
        .await?;
        let log = log(&observer, "lively").await?;
        let document = "rooms/lively/documents/board";
        let clocks = clocks(&observer, document).await?;
        let last_message = *log.keys().next_back().context("nobody posted anything")?;
        complete.send_replace(Some(Complete { last_message, clocks: clocks.clone() }));
        let describe = DescribeDocumentRequest { name: document.into(), ..Default::default() };
        let text = described_text(&observer.describe_document(describe).await?.json)?;
        let (mut ephemeral, mut comings) = (0, 0);
        for (index, member) in living.into_iter().enumerate() {
            let memory = member.await?.with_context(|| name_of(index))?;
            ensure!(memory.messages == log, "{}'s transcript differs from the log", name_of(index));
            ensure!(memory.clocks == clocks, "{}'s document has other clocks", name_of(index));
            ensure!(memory.text == text, "{}'s text differs", name_of(index));
            ephemeral += memory.ephemeral_heard;
            comings += memory.left_and_came_back;
        }
        let watched = watching.await?.context("the watcher")?;
        ensure!(watched.messages == log, "the watcher's transcript differs from the log");
        ensure!(watched.text == text, "the watcher's text differs");
        ensure!(ephemeral > 0 && comings > 0, "{ephemeral} ephemeral messages heard, {comings} comings back");
        eprintln!(
            "{} messages, {} characters, {ephemeral} ephemeral messages heard, {comings} comings back",
            log.len(),
            text.len()
        );
        eventually("nobody present", || async {
            let names = present(&observer, "lively").await?;
            ensure!(names.is_empty(), "{names:?}");
            Ok(())
        })
        .await?;
        let panics = cluster.lock().await.panics();
        ensure!(panics.is_empty(), "{panics:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_dies_disappears_within_its_lease() {
    with_cluster(|cluster| async move {
        let client = cluster.lock().await.client_with_room("mortal", "leases").await?;
        let session = Session::open(&client, "rooms/leases").await?;
        let request = AttachParticipantRequest {
            parent: "rooms/leases".into(),
            lease: Some(LEASE.try_into()?),
            ..Default::default()
        };
        session.attach_participant(request).await?;
        ensure!(present(&client, "leases").await? == ["rooms/leases/participants/mortal"]);
        // Without a word: the stream breaks off.
        drop(session);
        let died = Instant::now();
        eventually("the end of the lease", || async {
            let names = present(&client, "leases").await?;
            ensure!(names.is_empty(), "{names:?}");
            Ok(())
        })
        .await?;
        let lingered = died.elapsed();
        eprintln!("gone {lingered:.2?} after its death, lease {LEASE:?}");
        ensure!(lingered <= LEASE + LEASE_SLACK, "a ghost stayed for {lingered:?}");
        // It might have come back: a lost connection is not a farewell. The last sign of life was a while before.
        ensure!(lingered >= LEASE / 3, "it was gone after {lingered:?}, before its lease ended");
        Ok(())
    })
    .await;
}
