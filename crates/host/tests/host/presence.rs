//! Who is attached to a room: told to watchers, true within a lease, and never on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conclave_proto::status::metadata_of;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::participant_change::Kind as Change;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::watch_participants_response::Body as Watched;
use conclave_proto::v1::{self, ErrorReason};
use conclave_storage::{EngineView, Family, KeyRange};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::calls::{Caller, Stream, refusal};
use crate::cluster::{Cluster, ONE_HOST, PATIENCE, THREE_HOSTS};

const LAB: &str = "rooms/lab";
const LEASE: Duration = Duration::from_secs(60);
/// More than renewals may be apart without being counted.
const MOMENT: Duration = Duration::from_millis(100);

pub fn attach_request(participant: &str) -> v1::AttachParticipantRequest {
    v1::AttachParticipantRequest {
        parent: LAB.into(),
        participant: participant.into(),
        lease: Some(LEASE.try_into().expect("a lease")),
        ..Default::default()
    }
}

pub fn attach(participant: &str) -> Asked {
    Asked::AttachParticipant(attach_request(participant))
}

fn with_color(color: &str) -> v1::AttachParticipantRequest {
    let attributes = BTreeMap::from([("color".to_owned(), color.to_owned())]);
    v1::AttachParticipantRequest { attributes, ..attach_request("") }
}

/// A participant's name without its room.
fn short(participant: &v1::Participant) -> String {
    let short = participant.name.strip_prefix("rooms/lab/participants/");
    short.unwrap_or_else(|| panic!("a name of this room, not {:?}", participant.name)).to_owned()
}

impl Stream {
    pub async fn attached(&mut self, sequence: u64) -> v1::Participant {
        match self.reply(sequence).await {
            Body::AttachParticipant(response) => response.participant.expect("a participant"),
            other => panic!("frame {sequence} was answered with {other:?}"),
        }
    }

    async fn pong(&mut self) {
        self.ask(0, Asked::Ping(v1::Ping {}));
        assert!(matches!(self.reply(0).await, Body::Pong(_)));
    }
}

impl Caller {
    pub async fn attach(&self, request: v1::AttachParticipantRequest) -> Result<v1::Participant, Status> {
        let response = self.participants().attach_participant(self.request(request)).await?.into_inner();
        assert_eq!(response.lease.expect("a lease").seconds, LEASE.as_secs() as i64);
        Ok(response.participant.expect("a participant"))
    }

    async fn detach(&self, participant: &v1::Participant) -> Result<(), Status> {
        let request = v1::DetachParticipantRequest { name: participant.name.clone(), uid: participant.uid.clone() };
        self.participants().detach_participant(self.request(request)).await.map(drop)
    }

    pub async fn present(&self) -> Vec<String> {
        let request = v1::ListParticipantsRequest { parent: LAB.into(), ..Default::default() };
        let listed = self.participants().list_participants(self.request(request)).await;
        listed.expect("a list").into_inner().participants.iter().map(short).collect()
    }

    /// Watches until exactly these are there: who attached a moment ago is told of instead of shown.
    async fn watch(&self, present: &[&str]) -> Watcher {
        let request = v1::WatchParticipantsRequest { parent: LAB.into() };
        let stream = self.participants().watch_participants(self.request(request)).await.expect("a stream");
        let mut watcher = Watcher { stream: stream.into_inner(), changes: Vec::new(), known: BTreeSet::new() };
        let first = watcher.element().await;
        let Watched::EventBatch(batch) = first else { panic!("the stream began with {first:?}") };
        let Some(Kind::ParticipantSnapshot(snapshot)) = batch.events().unwrap().remove(0).kind else {
            panic!("the stream began with {batch:?}")
        };
        assert!(matches!(watcher.element().await, Watched::Live(_)));
        let uids = snapshot.participants.iter().map(|participant| participant.uid.clone());
        watcher.known = uids.collect();
        let mut seen: BTreeSet<_> = snapshot.participants.iter().map(short).collect();
        while !seen.iter().eq(present) {
            let (kind, name) = watcher.told().await;
            assert!(kind == Change::Attached && seen.insert(name), "{seen:?}");
        }
        watcher
    }
}

struct Watcher {
    stream: Streaming<v1::WatchParticipantsResponse>,
    /// Told and not looked at yet; the newest first.
    changes: Vec<v1::ParticipantChange>,
    /// The uids of whom it was shown: those may be told of once more.
    known: BTreeSet<String>,
}

impl Watcher {
    async fn element(&mut self) -> Watched {
        let next = timeout(PATIENCE, self.stream.message()).await.expect("the watcher is told nothing");
        let response = next.expect("the stream goes on").expect("the stream goes on");
        assert_eq!(response.revision, 0);
        response.body.expect("an element")
    }

    async fn change(&mut self) -> v1::ParticipantChange {
        while self.changes.is_empty() {
            match self.element().await {
                Watched::EventBatch(batch) => {
                    let is_news = |change: &v1::ParticipantChange| {
                        let uid = &change.participant.as_ref().expect("a participant").uid;
                        change.kind() != Change::Attached || !self.known.contains(uid)
                    };
                    self.changes = batch.events().unwrap().into_iter().rev().map(change_of).filter(is_news).collect();
                }
                other => panic!("{other:?}"),
            }
        }
        self.changes.pop().expect("a change")
    }

    async fn told(&mut self) -> (Change, String) {
        let change = self.change().await;
        (change.kind(), short(change.participant.as_ref().expect("a participant")))
    }
}

fn change_of(event: v1::Event) -> v1::ParticipantChange {
    match event.kind {
        Some(Kind::ParticipantChange(change)) => change,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn watchers_get_a_snapshot_and_then_the_differences() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let (bob, eve) = (ada.claiming(cluster.claims("bob")), ada.claiming(cluster.claims("eve")));
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, attach("ada#desk"));
    session.attached(1).await;

    let mut watcher = bob.watch(&["ada#desk"]).await;
    let attached = eve.attach(attach_request("")).await.unwrap();
    assert_eq!((attached.identity.as_str(), attached.role.as_str()), ("eve", "user"));
    assert_eq!(watcher.told().await, (Change::Attached, "eve".into()));
    let renewed = v1::AttachParticipantRequest { uid: attached.uid.clone(), ..with_color("red") };
    eve.attach(renewed).await.unwrap();
    let updated = watcher.change().await;
    assert_eq!(updated.kind(), Change::Updated);
    assert_eq!(updated.participant.unwrap().attributes["color"], "red");
    eve.detach(&attached).await.unwrap();
    assert_eq!(watcher.told().await, (Change::Detached, "eve".into()));
    assert_eq!(refusal(eve.detach(&attached).await), ErrorReason::ParticipantNotFound);

    // The orderly end of a session.
    let mut rest = session.close();
    assert_eq!(rest.message().await.unwrap(), None);
    assert_eq!(watcher.told().await, (Change::Detached, "ada#desk".into()));
    assert!(bob.present().await.is_empty());
}

#[tokio::test]
async fn a_client_whose_stream_breaks_disappears_when_its_lease_ends_and_not_before() {
    // Nothing is heard of it any more; or its gateway says that it was cut off.
    disappears_with_its_lease(|session| Box::new(session.cut())).await;
    disappears_with_its_lease(|session| {
        session.reset();
        Box::new(())
    })
    .await;
}

async fn disappears_with_its_lease(cut: fn(Stream) -> Box<dyn Send>) {
    let cluster = Cluster::start(ONE_HOST).await;
    let (host, _, ada) = cluster.with_room("lab", "ada").await;
    let bob = ada.claiming(cluster.claims("bob"));
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, attach(""));
    session.attached(1).await;
    let mut watcher = bob.watch(&["ada"]).await;

    // Every frame is a sign of life.
    for _ in 0..3 {
        cluster.clock(host).advance(LEASE / 2);
        session.pong().await;
    }
    let _never_closed = cut(session);
    cluster.clock(host).advance(LEASE / 2);
    assert_eq!(bob.present().await, ["ada"]);
    cluster.clock(host).advance(LEASE / 2 + MOMENT);
    assert!(bob.present().await.is_empty());
    assert_eq!(watcher.told().await, (Change::LeaseEnded, "ada".into()));
}

#[tokio::test]
async fn a_held_name_is_refused_until_it_is_taken_over() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut crashed = ada.begin("lab").await.unwrap();
    crashed.ask(1, attach(""));
    let before = crashed.attached(1).await;
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, attach(""));
    assert_eq!(session.refused(1).await, ErrorReason::ParticipantNameHeld);
    session.ask(2, attach("bob"));
    assert_eq!(session.refused(2).await, ErrorReason::FieldInvalid);
    assert_eq!(refusal(ada.attach(attach_request("")).await), ErrorReason::ParticipantNameHeld);

    let mut watcher = ada.watch(&["ada"]).await;
    let replacing = v1::AttachParticipantRequest { replace: true, ..attach_request("") };
    session.ask(3, Asked::AttachParticipant(replacing));
    let after = session.attached(3).await;
    assert_ne!(after.uid, before.uid);
    assert_eq!(watcher.told().await, (Change::Detached, "ada".into()));
    assert_eq!(watcher.told().await, (Change::Attached, "ada".into()));
    // Whoever lost the name takes nothing with it.
    let mut rest = crashed.close();
    assert_eq!(rest.message().await.unwrap(), None);
    assert_eq!(ada.present().await, ["ada"]);
}

#[tokio::test]
async fn a_unary_client_keeps_its_participant_by_renewing_it() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (host, _, ada) = cluster.with_room("lab", "ada").await;
    let first = ada.attach(attach_request("")).await.unwrap();
    let again = || v1::AttachParticipantRequest { uid: first.uid.clone(), ..attach_request("") };
    for _ in 0..3 {
        cluster.clock(host).advance(LEASE / 2);
        assert_eq!(ada.attach(again()).await.unwrap().uid, first.uid);
    }
    let eve = ada.claiming(cluster.claims("eve"));
    assert_eq!(refusal(eve.attach(again()).await), ErrorReason::FieldInvalid);
    cluster.clock(host).advance(LEASE + MOMENT);
    assert!(ada.present().await.is_empty());
    let back = ada.attach(again()).await.unwrap();
    assert_ne!(back.uid, first.uid);
    assert_eq!(ada.present().await, ["ada"]);
}

#[tokio::test]
async fn what_is_over_a_limit_is_named() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let attributes = BTreeMap::from([("bio".to_owned(), "x".repeat(4_096))]);
    let limits = [
        (v1::AttachParticipantRequest { role: "x".repeat(64), ..attach_request("") }, "role"),
        (v1::AttachParticipantRequest { attributes, ..attach_request("") }, "attributes"),
        (v1::AttachParticipantRequest { lease: Some(prost_types::Duration::default()), ..attach_request("") }, "lease"),
        (v1::AttachParticipantRequest { uid: "me".into(), ..attach_request("") }, "uid"),
    ];
    for (request, field) in limits {
        let status = ada.attach(request).await.expect_err("over a limit");
        assert_eq!(metadata_of(&status)["field"], field);
    }
    assert!(ada.present().await.is_empty());
}

#[tokio::test]
async fn a_new_leader_knows_nobody_and_sessions_attach_again_by_themselves() {
    let mut cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, term, ada) = cluster.with_room("lab", "ada").await;
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, attach(""));
    session.attached(1).await;
    cluster.kill(leader).await;
    cluster.next_leader("lab", term).await;

    let resumed = cluster.at_any_leader("lab", "ada", async |ada| ada.resume("lab", session.token(), 1).await).await;
    let (ada, stream) = resumed;
    let mut stream = stream.unwrap();
    assert!(ada.present().await.is_empty());
    // As a gateway does: nothing is answered.
    stream.ask(0, attach(""));
    stream.pong().await;
    assert_eq!(ada.present().await, ["ada"]);
}

#[tokio::test]
async fn nothing_of_presence_is_on_disk() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (host, _, ada) = cluster.with_room("lab", "ada").await;
    let stored = || {
        let all = KeyRange { from: Vec::new(), to: vec![0xff; 64] };
        let pairs = cluster.engine(host).scan(Family::State, all);
        pairs.map(|pair| pair.expect("a pair")).collect::<Vec<_>>()
    };
    let holds = |pairs: &[(bytes::Bytes, bytes::Bytes)], text: &str| {
        let found = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        pairs.iter().any(|(key, value)| found(key) || found(value))
    };
    let before = stored();
    assert!(holds(&before, "lab"), "the room itself is stored");
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, Asked::AttachParticipant(with_color("vermilion")));
    session.attached(1).await;
    assert_eq!(ada.present().await, ["ada"]);
    for family in Family::ALL {
        let all = KeyRange { from: Vec::new(), to: vec![0xff; 64] };
        let pairs: Vec<_> = cluster.engine(host).scan(family, all).map(|pair| pair.expect("a pair")).collect();
        assert!(!holds(&pairs, "vermilion"), "an attribute was stored in {}", family.name());
    }
    assert_eq!(stored().len(), before.len());
}
