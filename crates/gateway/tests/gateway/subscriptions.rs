//! Sessions whose subscriptions and participant stand up again at the next leader.

use std::collections::BTreeMap;

use bytes::Bytes;
use conclave_gateway::GatewayOptions;
use conclave_proto::events::EventBatch;
use conclave_proto::status::{ApiError, frame_status};
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::server_frame::Body as Said;
use conclave_proto::v1::{
    AttachParticipantRequest, AttachParticipantResponse, ClientFrame, Credit, DetachParticipantRequest,
    DetachParticipantResponse, ErrorReason, Event, Live, ServerFrame, Subscribe, Subscribed, Unsubscribe, Welcome,
};
use conclave_types::limits::MAX_FRAME_BYTES;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::cluster::send;
use crate::front::Front;
use crate::scripted::{Call, ScriptedHost, framed};
use crate::{hello, next};

/// A session at the first of three hosts.
struct Stage {
    hosts: [ScriptedHost; 3],
    call: Call,
    frames: mpsc::Sender<ClientFrame>,
    stream: Streaming<ServerFrame>,
    _front: Front,
}

impl Stage {
    async fn set() -> Stage {
        let mut hosts = [ScriptedHost::start().await, ScriptedHost::start().await, ScriptedHost::start().await];
        let addresses = hosts.iter().map(|host| host.address.clone()).collect();
        let front = Front::start(addresses, GatewayOptions::default()).await;
        let (frames, mut stream) = front.stream(hello()).await;
        let call = welcome(&mut hosts[0]).await;
        next(&mut stream).await;
        Stage { hosts, call, frames, stream, _front: front }
    }

    async fn ask(&mut self, sequence: u64, subscription: u64, asked: Asked) {
        let frame = asking(sequence, subscription, asked);
        self.frames.send(frame.clone()).await.unwrap();
        assert_eq!(self.read().await, frame);
    }

    /// The client asks this, and is answered.
    async fn exchange(&mut self, sequence: u64, subscription: u64, asked: Asked, answer: Said) {
        self.ask(sequence, subscription, asked).await;
        self.say(ServerFrame { reply_to: sequence, subscription, revision: 0, body: Some(answer) }).await;
    }

    async fn subscribe(&mut self, sequence: u64, subscription: u64, asked: Subscribe) {
        self.exchange(sequence, subscription, Asked::Subscribe(asked), Said::Subscribed(Subscribed {})).await;
    }

    /// The host says this, and the client hears it.
    async fn say(&mut self, frame: ServerFrame) {
        self.call.send(&frame).await;
        assert_eq!(next(&mut self.stream).await, frame);
    }

    /// The next frame that the host is sent.
    async fn read(&mut self) -> ClientFrame {
        self.call.read().await
    }

    /// The host steps down in favour of this one.
    async fn change_host(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        self.call.follow(host).await;
        self.call = welcome(host).await;
        next(&mut self.stream).await;
    }
}

pub async fn welcome(host: &mut ScriptedHost) -> Call {
    let mut call = host.call().await;
    let frame: ClientFrame = call.read().await;
    assert!(matches!(frame.body, Some(Asked::Hello(_))), "{frame:?}");
    let welcome = Welcome { resume_token: Bytes::from_static(b"token"), ..Default::default() };
    call.send(&ServerFrame { body: Some(Said::Welcome(welcome)), ..Default::default() }).await;
    call
}

fn asking(sequence: u64, subscription: u64, asked: Asked) -> ClientFrame {
    ClientFrame { sequence, subscription, acknowledged: 0, body: Some(asked) }
}

fn to_messages(after_revision: u64) -> Subscribe {
    Subscribe { resource: "rooms/lab/messages".to_owned(), after_revision, ..Default::default() }
}

fn to_document(after_revision: u64) -> Subscribe {
    Subscribe {
        resource: "rooms/lab/documents/notes".to_owned(),
        after_revision,
        state_vector: Bytes::from_static(&[1, 2, 3]),
        create: (after_revision > 0).then_some(false),
        ..Default::default()
    }
}

fn to_queue(after_revision: u64, credit: u32) -> Subscribe {
    let (resource, consumer) = ("rooms/lab/queues/jobs".to_owned(), "worker".to_owned());
    Subscribe { resource, consumer, after_revision, window: 2, credit, ..Default::default() }
}

fn credit(events: u32) -> Asked {
    Asked::Credit(Credit { events })
}

fn participant(role: &str) -> AttachParticipantRequest {
    let attributes = BTreeMap::from([("colour".to_owned(), "green".to_owned())]);
    AttachParticipantRequest { parent: "rooms/lab".to_owned(), role: role.to_owned(), attributes, ..Default::default() }
}

fn events(subscription: u64, revision: u64) -> ServerFrame {
    let event = Event { revision, participant: "bob".to_owned(), ..Default::default() };
    let body = Some(Said::EventBatch(EventBatch::of(&[event])));
    ServerFrame { reply_to: 0, revision, subscription, body }
}

fn live(subscription: u64, revision: u64) -> ServerFrame {
    let live = Live { revision, ..Default::default() };
    ServerFrame { reply_to: 0, revision, subscription, body: Some(Said::Live(live)) }
}

fn failed(reply_to: u64, subscription: u64, reason: ErrorReason) -> ServerFrame {
    let status = frame_status(&Status::from(ApiError::new(reason, "no")));
    ServerFrame { reply_to, revision: 0, subscription, body: Some(Said::Status(status)) }
}

#[tokio::test]
async fn what_stands_is_told_to_the_next_leader_before_what_is_owed() {
    let mut stage = Stage::set().await;
    let attached = || Said::AttachParticipant(AttachParticipantResponse::default());
    stage.exchange(1, 0, Asked::AttachParticipant(participant("guest")), attached()).await;
    stage.subscribe(2, 1, to_messages(0)).await;
    stage.subscribe(3, 2, to_document(4)).await;
    stage.subscribe(4, 3, to_messages(5)).await;
    stage.exchange(5, 0, Asked::AttachParticipant(participant("editor")), attached()).await;
    stage.say(live(1, 6)).await;
    stage.say(events(1, 8)).await;
    stage.say(ServerFrame { revision: 0, ..events(1, 0) }).await;
    stage.ask(0, 3, Asked::Unsubscribe(Unsubscribe {})).await;
    stage.say(events(3, 9)).await;
    stage.ask(7, 0, Asked::SendItems(send("owed"))).await;
    stage.ask(8, 4, Asked::Subscribe(to_messages(2))).await;
    stage.ask(9, 0, Asked::AttachParticipant(participant("owner"))).await;
    // Events of which the end never comes were not given.
    let cut_short = framed(&events(2, 20));
    stage.call.send_bytes(cut_short.slice(..cut_short.len() - 1)).await;

    stage.change_host(1).await;
    assert_eq!(stage.read().await, asking(0, 0, Asked::AttachParticipant(participant("editor"))));
    assert_eq!(stage.read().await, asking(0, 1, Asked::Subscribe(to_messages(8))));
    assert_eq!(stage.read().await, asking(0, 2, Asked::Subscribe(to_document(4))));
    assert_eq!(stage.read().await, asking(7, 0, Asked::SendItems(send("owed"))));
    assert_eq!(stage.read().await, asking(8, 4, Asked::Subscribe(to_messages(2))));
    assert_eq!(stage.read().await, asking(9, 0, Asked::AttachParticipant(participant("owner"))), "the newest wins");
    // Nothing else: the client is read again.
    stage.frames.send(asking(10, 0, Asked::SendItems(send("next")))).await.unwrap();
    assert_eq!(stage.read().await.sequence, 10);
}

#[tokio::test]
async fn a_subscription_that_was_ended_before_it_began_is_ended_at_the_next_leader_too() {
    let mut stage = Stage::set().await;
    stage.ask(1, 1, Asked::Subscribe(to_messages(0))).await;
    stage.ask(0, 1, Asked::Unsubscribe(Unsubscribe {})).await;
    stage.ask(2, 1, Asked::Subscribe(to_document(0))).await;
    stage.change_host(1).await;
    assert_eq!(stage.read().await, asking(1, 1, Asked::Subscribe(to_messages(0))));
    assert_eq!(stage.read().await, asking(0, 1, Asked::Unsubscribe(Unsubscribe {})));
    assert_eq!(stage.read().await, asking(2, 1, Asked::Subscribe(to_document(0))));
    for (sequence, revision) in [(1, 5), (2, 6)] {
        let body = Some(Said::Subscribed(Subscribed {}));
        stage.say(ServerFrame { reply_to: sequence, subscription: 1, revision: 0, body }).await;
        stage.say(events(1, revision)).await;
    }
    stage.change_host(2).await;
    assert_eq!(stage.read().await, asking(0, 1, Asked::Subscribe(to_document(6))));
}

#[tokio::test]
async fn what_a_client_brings_from_another_gateway_stands_here() {
    let mut stage = Stage::set().await;
    stage.ask(0, 0, Asked::AttachParticipant(participant("guest"))).await;
    stage.ask(0, 1, Asked::Subscribe(to_document(4))).await;
    stage.say(live(1, 6)).await;
    stage.change_host(1).await;
    assert_eq!(stage.read().await, asking(0, 0, Asked::AttachParticipant(participant("guest"))));
    assert_eq!(stage.read().await, asking(0, 1, Asked::Subscribe(to_document(6))));
}

#[tokio::test]
async fn a_subscription_goes_on_through_every_change_of_hosts() {
    let mut stage = Stage::set().await;
    stage.subscribe(1, 1, to_document(0)).await;
    for (change, host) in [1, 2, 0, 1].into_iter().enumerate() {
        let revision = 10 * (change as u64 + 1);
        stage.say(events(1, revision)).await;
        stage.change_host(host).await;
        assert_eq!(stage.read().await, asking(0, 1, Asked::Subscribe(to_document(revision))));
        stage.say(live(1, revision)).await;
    }
}

#[tokio::test]
async fn credit_survives_every_change_of_hosts() {
    let mut stage = Stage::set().await;
    stage.subscribe(1, 1, to_queue(0, 0)).await;
    stage.subscribe(2, 2, to_queue(0, 4)).await;
    stage.ask(0, 1, credit(5)).await;
    stage.ask(0, 1, credit(2)).await;
    stage.ask(0, 2, credit(1)).await;
    // Of a subscription that is not there, or of none: the host's to ignore.
    stage.ask(0, 3, credit(9)).await;
    stage.ask(0, 0, credit(9)).await;
    stage.say(events(1, 8)).await;
    stage.change_host(1).await;
    assert_eq!(stage.read().await, asking(0, 1, Asked::Subscribe(to_queue(8, 7))));
    assert_eq!(stage.read().await, asking(0, 2, Asked::Subscribe(to_queue(0, 5))));
    // Given while the next host has not said a word of it.
    stage.ask(0, 1, credit(3)).await;
    stage.ask(0, 2, credit(u32::MAX)).await;
    stage.change_host(2).await;
    assert_eq!(stage.read().await, asking(0, 1, Asked::Subscribe(to_queue(8, 10))));
    assert_eq!(stage.read().await, asking(0, 2, Asked::Subscribe(to_queue(0, u32::MAX))));
    // Begun again, it has what it is given from then on.
    stage.ask(0, 1, Asked::Unsubscribe(Unsubscribe {})).await;
    stage.subscribe(3, 1, to_queue(0, 0)).await;
    stage.ask(0, 1, credit(1)).await;
    stage.change_host(0).await;
    assert_eq!(stage.read().await, asking(0, 1, Asked::Subscribe(to_queue(0, 1))));
}

#[tokio::test]
async fn credit_given_before_the_answer_is_given_behind_the_question_again() {
    let mut stage = Stage::set().await;
    stage.ask(1, 1, Asked::Subscribe(to_queue(0, 0))).await;
    stage.ask(0, 1, credit(5)).await;
    stage.ask(0, 1, credit(2)).await;
    stage.change_host(1).await;
    assert_eq!(stage.read().await, asking(1, 1, Asked::Subscribe(to_queue(0, 0))));
    assert_eq!(stage.read().await, asking(0, 1, credit(7)));
    let body = Some(Said::Subscribed(Subscribed {}));
    stage.say(ServerFrame { reply_to: 1, subscription: 1, revision: 0, body }).await;
    stage.change_host(2).await;
    assert_eq!(stage.read().await, asking(0, 1, Asked::Subscribe(to_queue(0, 7))));
    stage.frames.send(asking(2, 0, Asked::SendItems(send("next")))).await.unwrap();
    assert_eq!(stage.read().await.sequence, 2, "and no credit twice");
}

#[tokio::test]
async fn what_ended_or_failed_does_not_stand_up_again() {
    let mut stage = Stage::set().await;
    stage.subscribe(1, 1, to_document(0)).await;
    stage.subscribe(2, 2, to_messages(0)).await;
    stage.ask(3, 3, Asked::Subscribe(to_document(0))).await;
    stage.say(failed(3, 3, ErrorReason::DocumentNotFound)).await;
    let attached = Said::AttachParticipant(AttachParticipantResponse::default());
    stage.exchange(4, 0, Asked::AttachParticipant(participant("guest")), attached).await;
    // The document of the first is deleted.
    stage.say(failed(0, 1, ErrorReason::DocumentNotFound)).await;
    stage.ask(5, 0, Asked::DetachParticipant(DetachParticipantRequest::default())).await;
    stage.change_host(1).await;
    assert_eq!(stage.read().await, asking(0, 2, Asked::Subscribe(to_messages(0))));
    assert_eq!(stage.read().await.sequence, 5, "the reply to it did not come");
    let detached = Some(Said::DetachParticipant(DetachParticipantResponse {}));
    stage.say(ServerFrame { reply_to: 5, body: detached, ..Default::default() }).await;
    // The new host does not take the second.
    stage.say(failed(0, 2, ErrorReason::CursorAhead)).await;
    stage.change_host(2).await;
    stage.frames.send(asking(6, 0, Asked::SendItems(send("next")))).await.unwrap();
    assert_eq!(stage.read().await.sequence, 6);
}

#[tokio::test]
async fn a_participant_that_is_not_attached_again_is_told_of_and_forgotten() {
    let mut stage = Stage::set().await;
    let attached = Said::AttachParticipant(AttachParticipantResponse::default());
    stage.exchange(1, 0, Asked::AttachParticipant(participant("guest")), attached).await;
    stage.change_host(1).await;
    assert_eq!(stage.read().await, asking(0, 0, Asked::AttachParticipant(participant("guest"))));
    stage.say(failed(0, 0, ErrorReason::ParticipantNameHeld)).await;
    stage.change_host(2).await;
    stage.frames.send(asking(2, 0, Asked::SendItems(send("next")))).await.unwrap();
    assert_eq!(stage.read().await.sequence, 2);
}

#[tokio::test]
async fn a_subscription_that_was_too_large_to_keep_is_said_to_have_ended() {
    let mut stage = Stage::set().await;
    let large = |subscription: u64| {
        let state_vector = Bytes::from(vec![subscription as u8; MAX_FRAME_BYTES / 2]);
        Subscribe { state_vector, ..to_document(0) }
    };
    for number in 1..=3 {
        stage.subscribe(number, number, large(number)).await;
        stage.say(events(number, 7)).await;
    }
    stage.change_host(1).await;
    let resumed = stage.read().await;
    let expected = Subscribe { after_revision: 7, create: Some(false), ..large(1) };
    assert!(resumed == asking(0, 1, Asked::Subscribe(expected)), "the first had room");
    for number in 2..=3 {
        let frame = next(&mut stage.stream).await;
        let Some(Said::Status(status)) = &frame.body else { panic!("{frame:?}") };
        assert_eq!(
            (frame.reply_to, frame.subscription, status.code),
            (0, number, tonic::Code::ResourceExhausted as i32)
        );
    }
    stage.frames.send(asking(4, 0, Asked::SendItems(send("next")))).await.unwrap();
    assert_eq!(stage.read().await.sequence, 4);
}
