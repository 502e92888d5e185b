//! One actor: its turns, its session, and how it asks and records.

use std::sync::Arc;
use std::time::Duration;

use conclave_client::{Client, ClientError, Session, SessionOptions};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::recorder::Recorder;
use super::reply::{Told, outcome_of};
use crate::dice::Dice;
use crate::history::{Answer, Call, Outcome};

/// After this an operation is unknown. Longer than an election and a restart, shorter than most outages, so that both
/// happen: answers after a failover, and answers that nobody waits for any more.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long a session is tried to be taken up again: as long as somebody waits for its answers.
const RECONNECT_FOR: Duration = ANSWER_WITHIN;
/// An orderly end of a session; one that takes longer is dropped instead.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

pub struct Actor {
    pub number: u32,
    pub room: usize,
    /// `rooms/{room}`.
    pub name: String,
    pub client: Client,
    pub recorder: Arc<Recorder>,
    pub dice: Dice,
    pub stopped: watch::Receiver<bool>,
    pub pace: Interval,
}

/// A session and its number in the history.
pub struct Attached {
    pub session: Session,
    pub number: u32,
}

/// Turns of one actor; what it missed while it waited for an answer is not caught up.
pub fn pace(every: Duration) -> Interval {
    let mut pace = tokio::time::interval_at(Instant::now() + every, every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

impl Actor {
    /// Waits for the next turn; false when there is none.
    pub async fn turn(&mut self) -> bool {
        tokio::select! {
            _ = self.stopped.wait_for(|stopped| *stopped) => false,
            _ = self.pace.tick() => !self.recorder.is_full(),
        }
    }

    /// Waits for the end of the run.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            // A workload that is gone has stopped too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    }

    /// Opens a session, for as many turns as it takes; none when the run is over.
    pub async fn attach(&mut self) -> Option<Attached> {
        while self.turn().await {
            let options = SessionOptions { reconnect_for: RECONNECT_FOR, ..Default::default() };
            if let Ok(session) = Session::open_with(&self.client, &self.name, options).await {
                return Some(Attached { session, number: self.recorder.next_session() });
            }
        }
        None
    }

    /// Asks by a session or a call and records what became of it. `send` is run once the operation is noted.
    pub async fn ask<T, R>(
        &self,
        session: Option<u32>,
        call: Call,
        send: impl FnOnce() -> R,
        answer: impl FnOnce(&T) -> (u64, Answer),
    ) -> Told<T>
    where
        R: Future<Output = Result<T, ClientError>>,
    {
        let open = self.recorder.invoke(self.number, session, self.room, call);
        let (outcome, told) = match tokio::time::timeout(ANSWER_WITHIN, send()).await {
            Err(_late) => (Outcome::Unknown { why: "no answer in time".to_owned() }, Told::Unknown),
            Ok(Ok(response)) => {
                let (revision, answer) = answer(&response);
                (Outcome::Ok { revision, answer }, Told::Done(response))
            }
            Ok(Err(error)) => {
                let outcome = outcome_of(&error);
                let told = if matches!(outcome, Outcome::Refused { .. }) { Told::Refused } else { Told::Unknown };
                (outcome, told)
            }
        };
        self.recorder.answer(open, outcome);
        told
    }
}

impl Attached {
    /// Ends the session in order, if that does not take long.
    pub async fn close(self) {
        // One that cannot tell the cluster of its end is ended by its lease.
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.session.close()).await;
    }
}
