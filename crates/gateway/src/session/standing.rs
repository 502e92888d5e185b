//! The client frames that stay in force after their reply: subscriptions, and the session's participant.
//!
//! A host keeps neither beyond the stream, so a new leader is told again: each subscription with the last revision that
//! its events carried. Invariants: what the client ended is never begun again, so a frame stands only if it succeeded
//! and no ending was sent behind it; a revision counts only once its frame is certain to reach the client, so no event
//! is passed over. A session that the client resumes at another gateway begins here with nothing: the client subscribes
//! again itself, with sequence 0 as a gateway does.
//!
//! What finds no place in the budget is remembered without its bytes; its client is told that it ended when the host
//! is lost, and may begin it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::envelope::{
    Body, ClientEnvelope, body, peek_field_1, resubscribe, with_after_revision, with_credit, without_sequence,
};
use conclave_proto::status::ApiError;
use conclave_proto::v1::{ClientFrame, Credit, ErrorReason, ServerFrame, client_frame, server_frame};
use conclave_proto::wire::Malformed;
use conclave_types::limits::MAX_SUBSCRIPTIONS;
use prost::{Message, encoding};

use crate::frames::{framed, prefixed};
use crate::methods::NO_CREATE;
use crate::retained::RetainedBudget;

/// Most bytes of standing frames of one session. A subscription is a name and perhaps a state vector, so this is room
/// for all that a session may have, unless it means ill.
const BYTES_LIMIT: usize = 1 << 20;
/// How long a client waits before it begins again what could not be kept.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// `ClientFrame.subscription`.
const SUBSCRIPTION: u32 = 3;
const READ_BEFORE: &str = "the frame was read when it was sent";

#[derive(Debug)]
pub struct Standing {
    /// By sequence: requests that stand if they succeed. Each is in the ledger too, which bounds them.
    asked: BTreeMap<u64, Asked>,
    /// By the client's number; at most [`MAX_SUBSCRIPTIONS`], because a host refuses more.
    subscriptions: BTreeMap<u64, Subscription>,
    participant: Option<Kept>,
    bytes: usize,
    budget: Arc<RetainedBudget>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Subscription(u64),
    Participant,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    subject: Subject,
    /// What the client gave a subscription before it was answered.
    credit: u32,
}

#[derive(Debug)]
struct Subscription {
    frame: Kept,
    /// The last one that its events carried; 0 before that.
    revision: u64,
}

/// A client frame with sequence 0 and without its gRPC prefix, in a buffer of its own.
#[derive(Debug)]
enum Kept {
    Frame(Bytes),
    /// There was no room for it.
    Forgotten,
}

/// What a change of hosts brings with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// For the new host before the unanswered frames, since one of them may change the participant or need it. Framed.
    pub participant: Option<Bytes>,
    /// For the new host behind that, by number, and before the unanswered frames: the reply to one of them tells the
    /// client that it has had every event before it. One that is unanswered itself is not among these. Framed.
    pub subscriptions: Vec<Bytes>,
    /// For the new host behind the unanswered frames: credit for subscriptions among these. Framed.
    pub credit: Vec<Bytes>,
    /// For the client: what ended, because it could not be kept. Framed.
    pub ended: Vec<Bytes>,
}

impl Standing {
    pub fn new(budget: Arc<RetainedBudget>) -> Self {
        Standing { asked: BTreeMap::new(), subscriptions: BTreeMap::new(), participant: None, bytes: 0, budget }
    }

    /// Notes a frame that is about to be sent. `owed`: its reply is awaited. Returns the unanswered frame that this one
    /// ends, if it must be sent again behind that one.
    pub fn sent(&mut self, envelope: &ClientEnvelope<'_>, owed: bool, frame: &[u8]) -> Option<u64> {
        let subject = match envelope.body?.field {
            body::SUBSCRIBE => Subject::Subscription(envelope.subscription),
            body::ATTACH_PARTICIPANT => Subject::Participant,
            // Already now and not at the reply, which may be lost with the host.
            body::CREDIT => {
                self.credit(envelope.subscription, envelope.body?.message);
                return None;
            }
            body::UNSUBSCRIBE => return self.ending(Subject::Subscription(envelope.subscription)).filter(|_| !owed),
            body::DETACH_PARTICIPANT => return self.ending(Subject::Participant).filter(|_| !owed),
            _ => return None,
        };
        match (owed, envelope.sequence) {
            (true, sequence) => {
                self.asked.insert(sequence, Asked { subject, credit: 0 });
            }
            // A client takes up what it had at another gateway: it stands unless the host says otherwise.
            (false, 0) => self.begin(subject, frame),
            // The host refuses it for its sequence.
            (false, _) => {}
        }
        None
    }

    /// Remembers credit for the next host. What is no credit is the host's to refuse.
    fn credit(&mut self, number: u64, credit: &[u8]) {
        let Some(Subscription { frame, .. }) = self.subscriptions.get_mut(&number) else {
            let mut newest = self.asked.values_mut().rev();
            let asked = newest.find(|asked| asked.subject == Subject::Subscription(number));
            if let (Some(asked), Ok(Credit { events })) = (asked, Credit::decode(credit)) {
                asked.credit = asked.credit.saturating_add(events);
            }
            return;
        };
        let Kept::Frame(before) = frame else { return };
        if let Ok(with_credit) = with_credit(before, credit) {
            let before = std::mem::replace(frame, Kept::Forgotten);
            self.give_back(&before);
            let kept = self.keep(&with_credit);
            if let Some(subscription) = self.subscriptions.get_mut(&number) {
                subscription.frame = kept;
            }
        }
    }

    /// Notes the reply to this frame.
    pub fn answered(&mut self, sequence: u64, reply: Option<Body<'_>>, frame: &[u8]) {
        // Nearly all replies are to other frames.
        if self.asked.is_empty() {
            return;
        }
        match (self.asked.remove(&sequence), reply.map(|reply| reply.field)) {
            (Some(Asked { subject: subject @ Subject::Subscription(number), credit }), Some(body::SUBSCRIBED)) => {
                self.begin(subject, frame);
                if credit > 0 {
                    self.credit(number, &Credit { events: credit }.encode_to_vec());
                }
            }
            (Some(Asked { subject: subject @ Subject::Participant, .. }), Some(body::ATTACH_PARTICIPANT)) => {
                self.begin(subject, frame);
            }
            _ => {}
        }
    }

    fn begin(&mut self, subject: Subject, frame: &[u8]) {
        self.end(subject);
        match subject {
            Subject::Subscription(number) if self.subscriptions.len() < MAX_SUBSCRIPTIONS => {
                let frame = self.keep(frame);
                self.subscriptions.insert(number, Subscription { frame, revision: 0 });
            }
            // A host refuses more.
            Subject::Subscription(_) => {}
            Subject::Participant => self.participant = Some(self.keep(frame)),
        }
    }

    /// Ends what stands and what was asked for. Returns the newest of the latter.
    fn ending(&mut self, ended: Subject) -> Option<u64> {
        self.end(ended);
        let mut newest = self.asked.iter().rev();
        let asked = newest.find(|(_, asked)| asked.subject == ended).map(|(sequence, _)| *sequence);
        self.asked.retain(|_, asked| asked.subject != ended);
        asked
    }

    fn end(&mut self, subject: Subject) {
        match subject {
            Subject::Subscription(number) => self.subscription_ended(number),
            Subject::Participant => self.participant_ended(),
        }
    }

    /// Events of a subscription up to this revision go to the client.
    pub fn reached(&mut self, number: u64, revision: u64) {
        if let Some(subscription) = self.subscriptions.get_mut(&number) {
            subscription.revision = revision;
        }
    }

    pub fn subscription_ended(&mut self, number: u64) {
        if let Some(ended) = self.subscriptions.remove(&number) {
            self.give_back(&ended.frame);
        }
    }

    pub fn participant_ended(&mut self) {
        if let Some(ended) = self.participant.take() {
            self.give_back(&ended);
        }
    }

    /// Begins again at a new host.
    pub fn resume(&mut self) -> Resumed {
        let mut resumed = Resumed::default();
        match &self.participant {
            None => {}
            Some(Kept::Frame(frame)) => resumed.participant = Some(prefixed(frame)),
            Some(Kept::Forgotten) => {
                self.participant = None;
                resumed.ended.push(ended(0));
            }
        }
        self.subscriptions.retain(|number, subscription| match &subscription.frame {
            Kept::Frame(frame) => {
                resumed.subscriptions.push(prefixed(&again(frame, subscription.revision).expect(READ_BEFORE)));
                true
            }
            Kept::Forgotten => {
                resumed.ended.push(ended(*number));
                false
            }
        });
        resumed.credit.extend(self.asked.values().filter_map(Asked::credit_frame));
        resumed
    }

    fn keep(&mut self, frame: &[u8]) -> Kept {
        let frame = Bytes::from(without_sequence(frame).expect(READ_BEFORE));
        if self.bytes + frame.len() > BYTES_LIMIT || !self.budget.take_standing(frame.len()) {
            return Kept::Forgotten;
        }
        self.bytes += frame.len();
        Kept::Frame(frame)
    }

    fn give_back(&mut self, kept: &Kept) {
        if let Kept::Frame(frame) = kept {
            self.bytes -= frame.len();
            self.budget.give_back_standing(frame.len());
        }
    }
}

impl Asked {
    /// The frame that gives the credit, framed; none if there is none.
    fn credit_frame(&self) -> Option<Bytes> {
        let Subject::Subscription(subscription) = self.subject else { return None };
        let body = Some(client_frame::Body::Credit(Credit { events: self.credit }));
        let frame = ClientFrame { subscription, body, ..Default::default() };
        (self.credit > 0).then(|| prefixed(&frame.encode_to_vec()))
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.budget.give_back_standing(self.bytes);
    }
}

/// A `Subscribe` frame, to go on after this revision. A document of which something came was there: it may have been
/// deleted while its host was lost, and is not to be made again.
fn again(frame: &[u8], revision: u64) -> Result<Vec<u8>, Malformed> {
    let envelope = ClientEnvelope::peek(frame)?;
    let request = envelope.subscribe().unwrap_or_default();
    // What is no request is the host's to refuse.
    let resource = peek_field_1(request).unwrap_or_default();
    let is_document = resource.is_some_and(|resource| resource.contains("/documents/"));
    if revision == 0 || !is_document {
        return resubscribe(frame, revision);
    }
    let request = [&with_after_revision(request, revision)[..], &NO_CREATE].concat();
    let mut again = Vec::with_capacity(frame.len() + request.len());
    encoding::uint64::encode(SUBSCRIPTION, &envelope.subscription, &mut again);
    encoding::bytes::encode(body::SUBSCRIBE, &request, &mut again);
    Ok(again)
}

/// Tells the client that a subscription (0: its participant) ended with the host.
fn ended(subscription: u64) -> Bytes {
    let why = "the gateway keeps too much to go on with this at another host: begin it again";
    let status = ApiError::new(ErrorReason::Overloaded, why).retry_after(BEGIN_AGAIN_AFTER);
    let body = Some(server_frame::Body::Status(status.into()));
    framed(&ServerFrame { subscription, body, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use conclave_proto::v1::client_frame::Body as Asked;
    use conclave_proto::v1::{AttachParticipantRequest, DetachParticipantRequest, Subscribe, Unsubscribe};

    use super::*;
    use crate::frames::PREFIX_BYTES;

    const SUBSCRIBED: Option<Body<'static>> = Some(Body { field: body::SUBSCRIBED, message: &[] });
    const ATTACHED: Option<Body<'static>> = Some(Body { field: body::ATTACH_PARTICIPANT, message: &[] });
    const FAILED: Option<Body<'static>> = Some(Body { field: body::STATUS, message: &[] });

    fn standing() -> Standing {
        Standing::new(RetainedBudget::new(1 << 20))
    }

    fn subscribe(resource: &str, after_revision: u64) -> Asked {
        Asked::Subscribe(Subscribe { resource: resource.to_owned(), after_revision, ..Default::default() })
    }

    fn attach(role: &str) -> Asked {
        Asked::AttachParticipant(AttachParticipantRequest { role: role.to_owned(), ..Default::default() })
    }

    fn send(standing: &mut Standing, sequence: u64, subscription: u64, asked: Asked) -> Vec<u8> {
        let frame = ClientFrame { sequence, subscription, body: Some(asked), ..Default::default() }.encode_to_vec();
        standing.sent(&ClientEnvelope::peek(&frame).unwrap(), sequence > 0, &frame);
        frame
    }

    fn unsubscribe(standing: &mut Standing, subscription: u64) -> Option<u64> {
        let body = Some(Asked::Unsubscribe(Unsubscribe {}));
        let frame = ClientFrame { subscription, body, ..Default::default() }.encode_to_vec();
        standing.sent(&ClientEnvelope::peek(&frame).unwrap(), false, &frame)
    }

    fn begin(standing: &mut Standing, sequence: u64, subscription: u64, asked: Asked) {
        let reply = if subscription > 0 { SUBSCRIBED } else { ATTACHED };
        let frame = send(standing, sequence, subscription, asked);
        standing.answered(sequence, reply, &frame);
    }

    fn resumed(standing: &mut Standing) -> Vec<ClientFrame> {
        let Resumed { participant, subscriptions, .. } = standing.resume();
        participant
            .into_iter()
            .chain(subscriptions)
            .map(|frame| ClientFrame::decode(&frame[PREFIX_BYTES..]).unwrap())
            .collect()
    }

    fn unnumbered(subscription: u64, asked: Asked) -> ClientFrame {
        ClientFrame { subscription, body: Some(asked), ..Default::default() }
    }

    #[test]
    fn subscriptions_go_on_where_they_were() {
        let mut standing = standing();
        begin(&mut standing, 1, 9, subscribe("nine", 4));
        begin(&mut standing, 2, 3, subscribe("three", 4));
        begin(&mut standing, 3, 0, attach("guest"));
        standing.reached(3, 7);
        standing.reached(3, 8);
        standing.reached(5, 11);
        let expected =
            [unnumbered(0, attach("guest")), unnumbered(3, subscribe("three", 8)), unnumbered(9, subscribe("nine", 4))];
        assert_eq!(resumed(&mut standing), expected);
        assert_eq!(resumed(&mut standing), expected, "every time");
    }

    #[test]
    fn a_document_that_was_there_is_not_made_again() {
        let document = |after_revision, create| {
            let resource = "rooms/lab/documents/notes".to_owned();
            Asked::Subscribe(Subscribe { resource, after_revision, create, ..Default::default() })
        };
        let mut standing = standing();
        begin(&mut standing, 1, 1, document(0, None));
        assert_eq!(resumed(&mut standing), [unnumbered(1, document(0, None))], "nothing came of it");
        standing.reached(1, 300);
        assert_eq!(resumed(&mut standing), [unnumbered(1, document(300, Some(false)))]);
    }

    #[test]
    fn only_what_succeeded_stands() {
        let mut standing = standing();
        let frame = send(&mut standing, 1, 1, subscribe("one", 0));
        assert!(resumed(&mut standing).is_empty(), "the ledger has it until it is answered");
        standing.answered(1, FAILED, &frame);
        assert!(resumed(&mut standing).is_empty());
        begin(&mut standing, 2, 0, attach("first"));
        let frame = send(&mut standing, 3, 0, attach("second"));
        standing.answered(3, FAILED, &frame);
        assert_eq!(resumed(&mut standing), [unnumbered(0, attach("first"))], "the one before stands");
        begin(&mut standing, 4, 0, attach("third"));
        assert_eq!(resumed(&mut standing), [unnumbered(0, attach("third"))], "the newest stands");
        assert!(standing.asked.is_empty());
    }

    #[test]
    fn an_ending_sent_behind_a_beginning_wins_whichever_is_answered_first() {
        let mut standing = standing();
        let begun = send(&mut standing, 1, 1, subscribe("one", 0));
        assert_eq!(unsubscribe(&mut standing, 1), Some(1), "to be sent again behind it");
        standing.answered(1, SUBSCRIBED, &begun);
        let attached = send(&mut standing, 3, 0, attach("guest"));
        send(&mut standing, 4, 0, Asked::DetachParticipant(DetachParticipantRequest::default()));
        standing.answered(3, ATTACHED, &attached);
        assert!(resumed(&mut standing).is_empty());
        // And begun once more under the same number.
        begin(&mut standing, 5, 1, subscribe("one", 0));
        assert_eq!(unsubscribe(&mut standing, 1), None, "it was answered");
        let begun = send(&mut standing, 6, 1, subscribe("one", 0));
        standing.reached(1, 20);
        standing.answered(6, SUBSCRIBED, &begun);
        assert_eq!(
            resumed(&mut standing),
            [unnumbered(1, subscribe("one", 0))],
            "without the cursor of the one before"
        );
    }

    #[test]
    fn credit_is_part_of_what_stands_and_costs_no_more_each_time() {
        let budget = RetainedBudget::new(1 << 20);
        let mut standing = Standing::new(budget.clone());
        let credit = |events| Asked::Credit(Credit { events });
        let with = |credit| {
            let resource = "rooms/lab/queues/jobs".to_owned();
            Asked::Subscribe(Subscribe { resource, window: 1, credit, ..Default::default() })
        };
        begin(&mut standing, 1, 1, with(0));
        send(&mut standing, 0, 1, credit(5));
        let kept = budget.used_bytes();
        for _ in 0..20 {
            send(&mut standing, 0, 1, credit(1));
        }
        send(&mut standing, 0, 2, credit(9));
        assert_eq!(budget.used_bytes(), kept);
        assert_eq!(resumed(&mut standing), [unnumbered(1, with(25))]);
        // What was given before the answer is given behind the question, and stands with it once it is answered.
        let asked = send(&mut standing, 2, 2, with(0));
        send(&mut standing, 0, 2, credit(3));
        send(&mut standing, 0, 2, credit(4));
        let given: Vec<_> =
            standing.resume().credit.iter().map(|frame| ClientFrame::decode(&frame[PREFIX_BYTES..]).unwrap()).collect();
        assert_eq!(given, [unnumbered(2, credit(7))]);
        standing.answered(2, SUBSCRIBED, &asked);
        assert_eq!(resumed(&mut standing), [unnumbered(1, with(25)), unnumbered(2, with(7))]);
        assert_eq!(standing.resume().credit, Vec::<Bytes>::new());
        unsubscribe(&mut standing, 1);
        unsubscribe(&mut standing, 2);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn what_a_client_takes_up_itself_stands_at_once() {
        let mut standing = standing();
        send(&mut standing, 0, 1, subscribe("one", 4));
        send(&mut standing, 0, 0, attach("guest"));
        assert_eq!(resumed(&mut standing), [unnumbered(0, attach("guest")), unnumbered(1, subscribe("one", 4))]);
        standing.subscription_ended(1);
        assert_eq!(resumed(&mut standing), [unnumbered(0, attach("guest"))], "the host did not take it");
    }

    #[test]
    fn what_ended_gives_its_bytes_back() {
        let budget = RetainedBudget::new(1 << 20);
        let mut standing = Standing::new(budget.clone());
        for round in 0..3 {
            begin(&mut standing, 3 * round + 1, 1, subscribe("one", 0));
            begin(&mut standing, 3 * round + 2, 2, subscribe("two", 0));
            begin(&mut standing, 3 * round + 3, 0, attach("guest"));
        }
        let kept = budget.used_bytes();
        assert!((1..100).contains(&kept), "{kept}: the newest of each");
        standing.subscription_ended(1);
        standing.subscription_ended(1);
        standing.participant_ended();
        assert!((1..kept).contains(&budget.used_bytes()));
        drop(standing);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn what_finds_no_place_is_said_to_have_ended_once() {
        let budget = RetainedBudget::new(60);
        let mut standing = Standing::new(budget.clone());
        begin(&mut standing, 1, 1, subscribe("one", 0));
        begin(&mut standing, 2, 2, subscribe(&"two".repeat(20), 0));
        begin(&mut standing, 3, 0, attach(&"guest".repeat(20)));
        let resumed = standing.resume();
        assert_eq!(resumed.subscriptions.len(), 1);
        let told: Vec<_> =
            resumed.ended.iter().map(|frame| ServerFrame::decode(&frame[PREFIX_BYTES..]).unwrap()).collect();
        assert_eq!(told.iter().map(|frame| (frame.reply_to, frame.subscription)).collect::<Vec<_>>(), [(0, 0), (0, 2)]);
        assert!(told.iter().all(|frame| matches!(frame.body, Some(server_frame::Body::Status(_)))));
        assert_eq!(standing.resume().ended, Vec::<Bytes>::new());
    }
}
