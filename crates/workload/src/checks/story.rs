//! Histories in a few lines, for the tests of the invariants. One room; operations follow each other unless a test says
//! when they were asked and answered.

use crate::history::{
    AckResult, Answer, Call, Delivery, DocumentCopy, Ending, Heard, History, Operation, Outcome, Received, Transcript,
    Value, Values,
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

impl Story {
    pub fn begin() -> Story {
        let mut history = History::new(0, vec!["room".to_owned()]);
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
        let outcome = Outcome::Ok { revision, answer: Answer::Sent { first_item: item } };
        self.then(Call::Send { queue: 0, values: vec![value(writer, serial)] }, outcome)
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
