//! Subscriptions of one session: their numbers and how many there may be.

use anyhow::{Context, Result};
use conclave_proto::v1::client_frame::Body;
use conclave_proto::v1::{
    AttachParticipantRequest, ClientFrame, Credit, ErrorReason as Reason, GetRoomRequest, Subscribe, Unsubscribe,
};
use conclave_tests::raw::RawSession;
use conclave_types::limits::MAX_SUBSCRIPTIONS;
use tonic::Code;

use super::{Story, hello};
use crate::expected::{Expected, bad_name, invalid, refused};
use crate::place::{Place, ROOM};

/// Little happens here.
const PARTICIPANTS: &str = "rooms/here/participants";

pub fn all(place: &Place) -> Vec<(&'static str, Story<'_>)> {
    vec![
        ("a subscription's number that is in use", Box::pin(number_in_use(place))),
        ("more subscriptions than a session may have", Box::pin(too_many(place))),
        ("subscriptions that a gateway alone may ask for so", Box::pin(without_a_sequence(place))),
    ]
}

fn to(resource: &str) -> Subscribe {
    Subscribe { resource: resource.into(), ..Default::default() }
}

async fn number_in_use(place: &Place) -> Result<()> {
    let (mut session, _) = place.admin.attach(hello(ROOM, &[])).await?;
    session.subscribe(1, 7, to(PARTICIPANTS));
    session.subscribe(2, 7, to("rooms/here/messages"));
    served(&mut session, 1).await?;
    refused_with(&mut session, 2, &invalid("subscription")).await?;
    // What cannot be opened takes no number.
    session.subscribe(3, 8, to("rooms/here/weather"));
    refused_with(&mut session, 3, &bad_name("resource")).await?;
    session.subscribe(4, 8, to(PARTICIPANTS));
    served(&mut session, 4).await?;
    unnumbered(&mut session, 7, Body::Unsubscribe(Unsubscribe {}));
    session.subscribe(5, 7, to(PARTICIPANTS));
    served(&mut session, 5).await
}

async fn too_many(place: &Place) -> Result<()> {
    let (mut session, _) = place.admin.attach(hello(ROOM, &[])).await?;
    let last = MAX_SUBSCRIPTIONS as u64;
    for number in 1..=last + 1 {
        session.subscribe(number, number, to(PARTICIPANTS));
    }
    for number in 1..=last {
        served(&mut session, number).await?;
    }
    let limit = refused(Code::ResourceExhausted, Reason::SubscriptionLimit).with("limit", MAX_SUBSCRIPTIONS);
    refused_with(&mut session, last + 1, &limit).await?;
    // One goes, one comes.
    unnumbered(&mut session, 500, Body::Unsubscribe(Unsubscribe {}));
    session.subscribe(last + 2, last + 2, to(PARTICIPANTS));
    served(&mut session, last + 2).await?;
    session.subscribe(last + 3, 500, to(PARTICIPANTS));
    refused_with(&mut session, last + 3, &limit).await
}

/// Nothing of it harms the stream: what failed is told of the subscription, what is about nothing is passed over.
async fn without_a_sequence(place: &Place) -> Result<()> {
    let (mut session, _) = place.admin.attach(hello(ROOM, &[])).await?;
    unnumbered(&mut session, 9, Body::Unsubscribe(Unsubscribe {}));
    unnumbered(&mut session, 9, Body::Credit(Credit { events: u32::MAX }));
    unnumbered(&mut session, 9, Body::Subscribe(to("rooms/here/weather")));
    unnumbered(&mut session, 0, Body::Subscribe(to(PARTICIPANTS)));
    let foreign = AttachParticipantRequest { parent: ROOM.into(), participant: "guest".into(), ..Default::default() };
    unnumbered(&mut session, 0, Body::AttachParticipant(foreign));
    let expected = [(9, bad_name("resource")), (0, invalid("subscription")), (0, invalid("participant"))];
    for (subscription, expected) in expected {
        let frame = session.next().await?.context("the stream ended")?;
        let Some(conclave_proto::v1::server_frame::Body::Status(status)) = frame.body else {
            anyhow::bail!("{frame:?}");
        };
        anyhow::ensure!((frame.reply_to, frame.subscription) == (0, subscription), "{subscription}: {status:?}");
        expected.check(&status.into())?;
    }
    session.ask(1, Body::GetRoom(GetRoomRequest { name: ROOM.into(), ..Default::default() }));
    served(&mut session, 1).await
}

fn unnumbered(session: &mut RawSession, subscription: u64, body: Body) {
    session.send(&ClientFrame { subscription, body: Some(body), ..Default::default() });
}

async fn served(session: &mut RawSession, sequence: u64) -> Result<()> {
    session.reply_among_events(sequence).await?.map(|_| ()).with_context(|| format!("frame {sequence}"))
}

async fn refused_with(session: &mut RawSession, sequence: u64, expected: &Expected) -> Result<()> {
    expected.check(&session.reply_among_events(sequence).await?.err().context("served")?)
}
