//! Histories in a few lines, for the tests of the invariants. One room; operations follow each other unless a test says
//! when they were asked and answered.

use crate::history::{
    AckResult, Answer, Call, Consumption, DeadLetter, Death, Delivery, DocumentCopy, Ending, Failure, Handed, Heard,
    History, ItemOptions, Operation, Outcome, QueueRules, Received, Transcript, Value, Values,
};

pub struct Story {
    history: History,
    clock: u64,
}

pub fn value(writer: u32, serial: u32) -> Value {
    Value { writer, serial }
}

pub fn post(writer: u32, serial: u32) -> Call {
    Call::Post { value: value(writer, serial), again: false }
}

pub fn push(writer: u32, serial: u32) -> Call {
    Call::Push { document: 0, value: value(writer, serial) }
}

pub fn done(revision: u64) -> Outcome {
    Outcome::Ok { revision, answer: Answer::Done }
}

pub fn unknown() -> Outcome {
    Outcome::Unknown { why: "no answer in time".to_owned() }
}

pub fn refused(reason: &str) -> Outcome {
    Outcome::Refused { reason: reason.to_owned() }
}

pub fn delivery(item: u64, attempt: u32) -> Delivery {
    Delivery { item, attempt }
}

/// Sends one item.
pub fn send_of(options: ItemOptions, value: Value) -> Call {
    Call::Send { queue: 0, values: vec![value], options: vec![options] }
}

/// Gives one delivery back.
pub fn nack(delivery: Delivery, delay_ms: Option<u64>) -> Call {
    Call::Nack { queue: 0, deliveries: vec![delivery], delay_ms, reject: false }
}

pub fn extend(delivery: Delivery, lease_ms: u64) -> Call {
    Call::Extend { queue: 0, deliveries: vec![delivery], lease_ms }
}

/// Items of a story die after two deliveries.
pub const MAX_ATTEMPTS: u32 = 2;

impl Story {
    pub fn begin() -> Story {
        let mut history = History::new(0, vec!["room".to_owned()]);
        history.queues.push(QueueRules { name: "jobs".to_owned(), max_attempts: MAX_ATTEMPTS });
        history.endings.push(Ending::default());
        Story { history, clock: 0 }
    }

    /// Something is asked and answered after all that was told before.
    pub fn then(self, call: Call, outcome: Outcome) -> Story {
        let invoked = self.clock + 1_000;
        self.during(invoked, invoked + 1_000, None, call, outcome)
    }

    /// The same in a session.
    pub fn then_in(self, session: u32, call: Call, outcome: Outcome) -> Story {
        let invoked = self.clock + 1_000;
        self.during(invoked, invoked + 1_000, Some(session), call, outcome)
    }

    pub fn during(mut self, invoked: u64, answered: u64, session: Option<u32>, call: Call, outcome: Outcome) -> Story {
        self.clock = self.clock.max(answered);
        let answered = (!matches!(outcome, Outcome::Unknown { .. })).then_some(answered);
        let operation = Operation { actor: 0, session, room: 0, invoked, answered, call, outcome };
        self.history.operations.push(operation);
        self.history.operations.sort_by_key(|operation| operation.invoked);
        self
    }

    /// A send of one item.
    pub fn send(self, writer: u32, serial: u32, item: u64, revision: u64) -> Story {
        self.send_with(ItemOptions::default(), writer, serial, item, revision)
    }

    pub fn send_with(self, options: ItemOptions, writer: u32, serial: u32, item: u64, revision: u64) -> Story {
        self.send_answered(
            options,
            value(writer, serial),
            Answer::Sent { first_item: item, duplicates: vec![] },
            revision,
        )
    }

    /// A send of one item that is left out, because it is an item already.
    pub fn duplicate(self, options: ItemOptions, value: Value, item: u64, revision: u64) -> Story {
        self.send_answered(options, value, Answer::Sent { first_item: item, duplicates: vec![0] }, revision)
    }

    fn send_answered(self, options: ItemOptions, value: Value, answer: Answer, revision: u64) -> Story {
        self.then(send_of(options, value), Outcome::Ok { revision, answer })
    }

    /// A receive of one item whose send made `sent`.
    pub fn receive(self, of: Value, delivery: Delivery, sent: u64, revision: u64) -> Story {
        let deliveries = vec![Received { delivery, value: Some(of), sent_revision: sent }];
        let outcome = Outcome::Ok { revision, answer: Answer::Received { deliveries } };
        self.then(Call::Receive { queue: 0, lease_ms: 5_000 }, outcome)
    }

    pub fn ack(self, delivery: Delivery, result: AckResult, revision: u64) -> Story {
        let outcome = Outcome::Ok { revision, answer: Answer::Acked { results: vec![result] } };
        self.then(Call::Ack { queue: 0, deliveries: vec![delivery] }, outcome)
    }

    pub fn nack(self, delivery: Delivery, delay_ms: Option<u64>, result: AckResult, revision: u64) -> Story {
        self.then(nack(delivery, delay_ms), Outcome::Ok { revision, answer: Answer::Acked { results: vec![result] } })
    }

    pub fn reject(self, delivery: Delivery, revision: u64) -> Story {
        let outcome = Outcome::Ok { revision, answer: Answer::Acked { results: vec![AckResult::Acked] } };
        self.then(Call::Nack { queue: 0, deliveries: vec![delivery], delay_ms: None, reject: true }, outcome)
    }

    pub fn extend(self, delivery: Delivery, lease_ms: u64, result: AckResult, revision: u64) -> Story {
        self.then(extend(delivery, lease_ms), Outcome::Ok { revision, answer: Answer::Acked { results: vec![result] } })
    }

    /// A stream that a consumer asks for hands it one delivery.
    pub fn handed(self, consumer: u32, of: Value, delivery: Delivery, sent: u64, revision: Option<u64>) -> Story {
        let asked = self.clock + 1_000;
        self.handed_since(asked, consumer, of, delivery, sent, revision)
    }

    /// The same by a stream that was asked for earlier.
    pub fn handed_since(
        mut self,
        asked: u64,
        consumer: u32,
        of: Value,
        delivery: Delivery,
        sent: u64,
        revision: Option<u64>,
    ) -> Story {
        self.clock += 2_000;
        let received = Received { delivery, value: Some(of), sent_revision: sent };
        let handed = vec![Handed { asked, at: self.clock, revision, received }];
        self.history.consumptions.push(Consumption { consumer, room: 0, queue: 0, lease_ms: 5_000, handed });
        self
    }

    /// In the end an item is found dead.
    pub fn dead(self, of: Value, delivery: Delivery, reason: Death, revision: u64) -> Story {
        let Delivery { item, attempt: attempts } = delivery;
        let last = if reason == Death::Rejected { Failure::Rejected } else { Failure::LeaseEnded };
        let kinds = |attempt| if attempt == attempts { last } else { Failure::LeaseEnded };
        let failures = (1..=attempts).map(|attempt| (attempt, kinds(attempt))).collect();
        let (of, value, queue) = (0, Some(of), "jobs".to_owned());
        self.dead_letter(DeadLetter { of, queue, item, value, reason, attempts, failures, revision })
    }

    pub fn dead_letter(mut self, letter: DeadLetter) -> Story {
        self.history.endings[0].dead_letters.push(letter);
        self
    }

    pub fn ack_unknown(self, delivery: Delivery) -> Story {
        self.then(Call::Ack { queue: 0, deliveries: vec![delivery] }, unknown())
    }

    /// Time passes.
    pub fn wait_ms(mut self, ms: u64) -> Story {
        self.clock += ms * 1_000;
        self
    }

    pub fn describe(self, text: &str, revision: u64) -> Story {
        let answer = Answer::Holds { values: Values::of_text(text) };
        self.then(Call::DescribeDocument { document: 0 }, Outcome::Ok { revision, answer })
    }

    pub fn log(mut self, log: &[(u64, Value)]) -> Story {
        self.history.endings[0].log = heard(log);
        self
    }

    pub fn left(mut self, left: u64) -> Story {
        self.history.endings[0].left_in_queues = vec![left];
        self
    }

    pub fn copy(mut self, text: &str) -> Story {
        let copies = &mut self.history.endings[0].copies;
        let reader = format!("reader {}", copies.len());
        copies.push(DocumentCopy { document: 0, reader, text: text.to_owned(), clocks: Some(vec![(1, 5)]) });
        self
    }

    pub fn follower(mut self, told: &[(u64, Value)], complete_to: u64) -> Story {
        let (follower, room, resumes) = (self.history.transcripts.len() as u32, 0, 0);
        let transcript = Transcript { follower, room, heard: heard(told), complete_to, resumes, breaks: Vec::new() };
        self.history.transcripts.push(transcript);
        self
    }

    pub fn end(self) -> History {
        self.history
    }
}

fn heard(log: &[(u64, Value)]) -> Vec<Heard> {
    log.iter().map(|(revision, value)| Heard { revision: *revision, value: Some(*value) }).collect()
}
