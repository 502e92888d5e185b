//! Frames of queues with one mistake each.

use conclave_auth::Rights;
use conclave_proto::v1::client_frame::Body;
use conclave_proto::v1::{ErrorReason as Reason, Subscribe};
use tonic::Code;

use super::live::subscribe_frame;
use super::{Case, answers, ends, frame};
use crate::calls::queues::{NOTHING, carry, gated, mistakes, nack, too_long};
use crate::calls::scopes::without;
use crate::expected::{bad_name, invalid, needs, other_room, refused};
use crate::place::{Place, QUEUE};

const THERE: &str = "rooms/elsewhere/queues/jobs";

/// What is refused by call is refused by frame, in the same words.
pub fn requests(place: &Place) -> Vec<Case> {
    let mistakes = mistakes().into_iter();
    let mut all: Vec<Case> =
        mistakes.map(|(name, body, expected)| answers(place, name, frame(1, body), expected)).collect();
    let nacked = || Body::NackDeliveries(nack(THERE, &[(1, 1)]));
    all.extend([
        answers(place, "a move to another room", frame(1, carry(QUEUE, THERE)), other_room()),
        answers(place, "a move out of another room", frame(1, carry(THERE, QUEUE)), other_room()),
        answers(place, "giving back in another room", frame(1, nacked()), other_room()),
        ends(place, "giving back without a sequence", vec![frame(0, nacked())], invalid("sequence")),
    ]);
    all
}

/// Nobody is given anything that asks for it wrongly.
pub fn subscriptions(place: &Place) -> Vec<Case> {
    let case = |name, subscribe, expected| answers(place, name, subscribe_frame(1, subscribe), expected);
    let to = |resource: &str| Subscribe { resource: resource.into(), ..Default::default() };
    let missing = Subscribe { create: Some(false), ..to(NOTHING) };
    let no_queue = refused(Code::NotFound, Reason::QueueNotFound);
    let mut all = vec![
        case("a subscription to a missing queue", missing, no_queue),
        case("a subscription to a queue without a name", to("rooms/here/queues/"), bad_name("queue")),
        case("a subscription to a part of a queue", to("rooms/here/queues/jobs/items"), bad_name("queue")),
        case("a subscription to another room's queue", to(THERE), other_room()),
        case("a window of 1,001", Subscribe { window: 1_001, ..to(QUEUE) }, invalid("window")),
        case("the widest window", Subscribe { window: u32::MAX, ..to(QUEUE) }, invalid("window")),
        case("a consumer with a slash", Subscribe { consumer: "a/b".into(), ..to(QUEUE) }, bad_name("participant")),
        case("a consumer of 129 bytes", Subscribe { consumer: "c".repeat(129), ..to(QUEUE) }, bad_name("participant")),
    ];
    all.extend(
        too_long(12 * 60 * 60)
            .map(|(name, lease)| case(name, Subscribe { lease: Some(lease), ..to(QUEUE) }, invalid("lease"))),
    );
    all
}

/// With every right but the one that is needed.
pub fn scopes(place: &Place) -> Vec<Case> {
    let lacking = |scope: &'static str, name, frame| {
        let rights: Rights = without(scope);
        let client = place.with("guest", rights).expect("a token is made");
        answers(place, name, frame, needs(scope)).by(client)
    };
    let gated = gated().into_iter();
    let mut all: Vec<Case> = gated.map(|(name, scope, body)| lacking(scope, name, frame(1, body))).collect();
    let consume = subscribe_frame(1, Subscribe { resource: QUEUE.into(), ..Default::default() });
    all.extend([
        lacking("queues.receive", "consume without the scope", consume),
        lacking("queues.send", "a move to where one may not send", frame(1, carry(QUEUE, NOTHING))),
    ]);
    all
}
