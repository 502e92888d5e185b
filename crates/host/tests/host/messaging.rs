//! Messages on both lanes: who gets them, which lane they say, and what is refused.

use std::time::Duration;

use bytes::Bytes;
use conclave_auth::{MessagingRights, Rights};
use conclave_proto::status::metadata_of;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::event::Kind;
use conclave_proto::v1::follow_messages_response::Body as Followed;
use conclave_proto::v1::receive_ephemeral_response::Body as Received;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ErrorReason, Lane};
use conclave_types::limits::{MAX_MESSAGE_BYTES, MAX_RECEIVERS};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::calls::{Caller, Stream, refusal};
use crate::cluster::{Cluster, ONE_HOST, PATIENCE};
use crate::presence::{attach, attach_request};

const LAB: &str = "rooms/lab";
const SUBSCRIPTION: u64 = 5;

fn message(body: impl Into<Bytes>) -> Option<v1::NewMessage> {
    Some(v1::NewMessage { r#type: "chat".into(), body: body.into(), ..Default::default() })
}

fn ephemeral(to: &[&str], body: &str) -> v1::SendEphemeralRequest {
    let to = to.iter().map(|name| (*name).to_owned()).collect();
    v1::SendEphemeralRequest { parent: LAB.into(), message: message(body.to_owned()), to }
}

fn post_request(body: impl Into<Bytes>) -> v1::PostMessageRequest {
    v1::PostMessageRequest { parent: LAB.into(), message: message(body), ..Default::default() }
}

/// A session that is attached and listens: frames 1 and 2.
async fn listening(caller: &Caller, cluster: &Cluster, participant: &str) -> Stream {
    let mut session = caller.claiming(cluster.claims(participant)).begin("lab").await.unwrap();
    session.ask(1, attach(""));
    session.attached(1).await;
    let resource = format!("{LAB}/ephemeral");
    session.ask_of(2, SUBSCRIPTION, Asked::Subscribe(v1::Subscribe { resource, ..Default::default() }));
    assert!(matches!(session.reply(2).await, Body::Subscribed(_)));
    assert!(matches!(session.next().await.unwrap().body, Some(Body::Live(_))));
    session
}

/// Who sent it, what, and to whom.
type Heard = (String, String, Vec<String>);

/// A message that came on the ephemeral lane and says so.
fn heard(event: v1::Event) -> Heard {
    let Some(Kind::Message(message)) = event.kind else { panic!("{event:?}") };
    assert_eq!((event.revision, message.lane()), (0, Lane::Ephemeral));
    (event.participant, String::from_utf8(message.body.to_vec()).expect("text"), message.to)
}

impl Stream {
    async fn heard(&mut self) -> Heard {
        let [heard] = self.heard_all().await;
        heard
    }

    /// So many messages, in however many frames they come.
    async fn heard_all<const COUNT: usize>(&mut self) -> [Heard; COUNT] {
        let mut all = Vec::new();
        while all.len() < COUNT {
            let frame = self.next().await.unwrap();
            assert_eq!((frame.reply_to, frame.subscription, frame.revision), (0, SUBSCRIPTION, 0));
            let Some(Body::EventBatch(batch)) = frame.body else { panic!("{frame:?}") };
            all.extend(batch.events().unwrap().into_iter().map(heard));
        }
        all.try_into().expect("no more than were sent")
    }

    async fn handed_over(&mut self, sequence: u64) -> v1::SendEphemeralResponse {
        match self.reply(sequence).await {
            Body::SendEphemeral(response) => response,
            other => panic!("frame {sequence} was answered with {other:?}"),
        }
    }
}

impl Caller {
    async fn say(&self, request: v1::SendEphemeralRequest) -> Result<v1::SendEphemeralResponse, Status> {
        Ok(self.messaging().send_ephemeral(self.request(request)).await?.into_inner())
    }

    async fn put(&self, request: v1::PostMessageRequest) -> Result<v1::PostMessageResponse, Status> {
        Ok(self.messaging().post_message(self.request(request)).await?.into_inner())
    }

    async fn listen(&self, participant_uid: &str) -> Result<Ear, Status> {
        let request = v1::ReceiveEphemeralRequest { parent: LAB.into(), participant_uid: participant_uid.into() };
        let stream = self.messaging().receive_ephemeral(self.request(request)).await?.into_inner();
        let mut ear = Ear { stream };
        assert!(matches!(ear.element().await, Received::Live(_)));
        Ok(ear)
    }
}

struct Ear {
    stream: Streaming<v1::ReceiveEphemeralResponse>,
}

impl Ear {
    async fn element(&mut self) -> Received {
        let next = timeout(PATIENCE, self.stream.message()).await.expect("nothing is heard");
        next.expect("the stream goes on").expect("the stream goes on").body.expect("an element")
    }

    /// The bodies of so many messages, in however many elements they come.
    async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            match self.element().await {
                Received::EventBatch(batch) => {
                    bodies.extend(batch.events().unwrap().into_iter().map(|event| heard(event).1));
                }
                other => panic!("{other:?}"),
            }
        }
        bodies
    }
}

#[tokio::test]
async fn an_ephemeral_message_reaches_one_several_or_all_but_never_its_sender() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, caller) = cluster.with_room("lab", "ada").await;
    let mut ada = listening(&caller, &cluster, "ada").await;
    let mut bob = listening(&caller, &cluster, "bob").await;
    let mut eve = listening(&caller, &cluster, "eve").await;

    ada.ask(3, Asked::SendEphemeral(ephemeral(&[], "to all")));
    let all = ada.handed_over(3).await;
    assert_eq!((all.receiver_count, all.lane(), all.missing.len()), (2, Lane::Ephemeral, 0));
    for session in [&mut bob, &mut eve] {
        assert_eq!(session.heard().await, ("ada".into(), "to all".into(), vec![]));
    }

    ada.ask(4, Asked::SendEphemeral(ephemeral(&["eve"], "to one")));
    assert_eq!(ada.handed_over(4).await.receiver_count, 1);
    ada.ask(5, Asked::SendEphemeral(ephemeral(&["eve", "bob", "dan", "eve"], "to several")));
    let several = ada.handed_over(5).await;
    assert_eq!((several.receiver_count, several.missing), (2, vec!["dan".to_owned()]));
    let to_several = ("ada".into(), "to several".into(), vec!["bob".into(), "eve".into()]);
    let to_one = ("ada".into(), "to one".into(), vec!["eve".into()]);
    assert_eq!(bob.heard().await, to_several);
    assert_eq!(eve.heard_all().await, [to_one, to_several]);

    ada.ask(6, Asked::SendEphemeral(ephemeral(&["dan"], "to nobody")));
    assert_eq!(ada.refused(6).await, ErrorReason::ParticipantNotFound);
    // What comes next is what another says: of her own nothing came.
    bob.ask(3, Asked::SendEphemeral(ephemeral(&["ada"], "hello")));
    assert_eq!(bob.handed_over(3).await.receiver_count, 1);
    assert_eq!(ada.heard().await, ("bob".into(), "hello".into(), vec!["ada".into()]));
}

#[tokio::test]
async fn a_plain_stream_hears_for_the_participant_that_its_caller_attached_and_keeps_it() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (host, _, ada) = cluster.with_room("lab", "ada").await;
    let bob = ada.claiming(cluster.claims("bob"));
    let attached = bob.attach(attach_request("bob#phone")).await.unwrap();
    let not_found = ErrorReason::ParticipantNotFound;
    assert_eq!(refusal(ada.listen(&attached.uid).await.map(drop)), not_found);
    assert_eq!(refusal(bob.listen(&"0".repeat(32)).await.map(drop)), not_found);
    assert_eq!(refusal(bob.listen("phone").await.map(drop)), ErrorReason::FieldInvalid);

    let mut anybody = ada.listen("").await.unwrap();
    let mut phone = bob.listen(&attached.uid).await.unwrap();
    cluster.clock(host).advance(Duration::from_secs(600));
    assert_eq!(ada.present().await, ["bob#phone"]);
    assert_eq!(ada.say(ephemeral(&["bob#phone"], "to you")).await.unwrap().receiver_count, 1);
    assert_eq!(ada.say(ephemeral(&[], "to all")).await.unwrap().receiver_count, 2);
    assert_eq!(phone.bodies(2).await, ["to you", "to all"]);
    assert_eq!(anybody.bodies(1).await, ["to all"]);
}

#[tokio::test]
async fn a_plain_client_posts_and_follows_and_both_say_that_it_is_durable() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let named = v1::PostMessageRequest { request_id: "1".into(), ..post_request("first") };
    let first = ada.put(named.clone()).await.unwrap();
    assert_eq!(first.lane(), Lane::Durable);
    assert_eq!(ada.put(named).await.unwrap(), first, "once, however often it is sent");

    let request = v1::FollowMessagesRequest { parent: LAB.into(), after_revision: 0 };
    let stream = ada.messaging().follow_messages(ada.request(request)).await.unwrap();
    let mut stream = stream.into_inner();
    let second = ada.put(post_request("second")).await.unwrap();
    let mut events = Vec::new();
    let mut live = 0;
    while events.len() < 2 {
        let next = timeout(PATIENCE, stream.message()).await.expect("nothing comes").unwrap().expect("goes on");
        match next.body {
            Some(Followed::EventBatch(batch)) => events.extend(batch.events().unwrap()),
            Some(Followed::Live(_)) => live += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(live <= 1);
    let seen: Vec<_> = events
        .into_iter()
        .map(|event| match event.kind {
            Some(Kind::Message(message)) => (event.revision, event.participant, message.lane(), message.body),
            other => panic!("{other:?}"),
        })
        .collect();
    let durable = |revision, body: &'static str| (revision, "ada".to_owned(), Lane::Durable, Bytes::from(body));
    assert_eq!(seen, [durable(first.revision, "first"), durable(second.revision, "second")]);
}

#[tokio::test]
async fn a_message_over_its_limit_is_refused_on_both_lanes_and_nothing_else_happens() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let large = || Bytes::from(vec![b'x'; MAX_MESSAGE_BYTES + 1]);
    let status = ada.put(post_request(large())).await.expect_err("over the limit");
    assert_eq!(metadata_of(&status)["limit"], MAX_MESSAGE_BYTES.to_string());
    let said = v1::SendEphemeralRequest { message: message(large()), ..ephemeral(&[], "") };
    assert_eq!(refusal(ada.say(said.clone()).await), ErrorReason::TooLarge);
    let empty = v1::SendEphemeralRequest { message: None, ..ephemeral(&[], "") };
    assert_eq!(refusal(ada.say(empty).await), ErrorReason::FieldInvalid);
    let names: Vec<_> = (0..=MAX_RECEIVERS).map(|number| format!("p{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(refusal(ada.say(ephemeral(&names, "many")).await), ErrorReason::TooLarge);

    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, Asked::PostMessage(post_request(large())));
    assert_eq!(session.refused(1).await, ErrorReason::TooLarge);
    session.ask(2, Asked::SendEphemeral(said));
    assert_eq!(session.refused(2).await, ErrorReason::TooLarge);
    let elsewhere = v1::SendEphemeralRequest { parent: "rooms/office".into(), ..ephemeral(&[], "hi") };
    session.ask(3, Asked::SendEphemeral(elsewhere));
    assert_eq!(session.refused(3).await, ErrorReason::OtherRoom);
    let largest = Bytes::from(vec![b'x'; MAX_MESSAGE_BYTES]);
    session.ask(4, Asked::PostMessage(post_request(largest)));
    match session.reply(4).await {
        Body::PostMessage(response) => assert_eq!(response.lane(), Lane::Durable),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_method_needs_its_scope() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, admin) = cluster.with_room("lab", "ada").await;
    let with = |messaging| {
        let rights = Rights { messaging, ..Rights::default() };
        admin.claiming(conclave_auth::Claims { rights, ..cluster.claims("ada") })
    };
    let nothing = with(MessagingRights::default());
    let missing = ErrorReason::ScopeMissing;
    // Anybody in the room may be there.
    let attached = nothing.attach(attach_request("")).await.unwrap();
    assert_eq!(refusal(nothing.put(post_request("x")).await), missing);
    assert_eq!(refusal(nothing.say(ephemeral(&[], "x")).await), missing);
    assert_eq!(refusal(nothing.say(ephemeral(&["ada"], "x")).await), missing);
    assert_eq!(refusal(nothing.listen(&attached.uid).await.map(drop)), missing);
    let list = v1::ListParticipantsRequest { parent: LAB.into(), ..Default::default() };
    assert_eq!(refusal(nothing.participants().list_participants(nothing.request(list)).await), missing);
    let watch = v1::WatchParticipantsRequest { parent: LAB.into() };
    assert_eq!(refusal(nothing.participants().watch_participants(nothing.request(watch)).await), missing);

    let sender = with(MessagingRights { send: true, ..MessagingRights::default() });
    sender.say(ephemeral(&["ada"], "x")).await.unwrap();
    assert_eq!(refusal(sender.say(ephemeral(&[], "x")).await), missing);
    let broadcaster = with(MessagingRights { broadcast: true, ..MessagingRights::default() });
    broadcaster.say(ephemeral(&[], "x")).await.unwrap();
    broadcaster.put(post_request("x")).await.unwrap();
    assert_eq!(refusal(broadcaster.say(ephemeral(&["ada"], "x")).await), missing);
}
