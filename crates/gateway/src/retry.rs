//! What to do after an attempt on a host: the retry table of the gateway, as one pure function.
//!
//! Invariant: a call that may have had an effect is sent again only if the cluster recognises the repetition.

use std::time::Duration;

use conclave_proto::status::{metadata_of, reason_of, retry_after_of};
use conclave_proto::v1::ErrorReason;
use tonic::{Code, Status};

/// How one attempt ended, other than by success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No byte of the call reached the host.
    NotSent,
    /// The connection was lost after the call may have been sent.
    Cut,
    /// The host answered with a status.
    Refused(Refusal),
}

/// What a host's status says, as far as routing cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// None for a status that is not Conclave's own.
    pub reason: Option<ErrorReason>,
    pub leader: Option<NamedLeader>,
    /// When the host asks to be left alone this long.
    pub retry_after: Option<Duration>,
}

/// Who leads a shard, as the host that was asked saw it; the higher term is the newer sight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLeader {
    /// Its address or its node uuid.
    pub name: String,
    pub term: u64,
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let reason = reason_of(status);
        let leader = (reason == Some(ErrorReason::NotLeader)).then(|| {
            let mut metadata = metadata_of(status);
            let term = metadata.get("term").and_then(|term| term.parse().ok()).unwrap_or_default();
            metadata.remove("leader").map(|name| NamedLeader { name, term })
        });
        Refusal { code: status.code(), reason, leader: leader.flatten(), retry_after: retry_after_of(status) }
    }
}

/// Whether sending a call again can do harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// A read, or a write that carries a request id or a session's sequence.
    Recognised,
    /// A write whose repetition would be another write.
    Blind,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask the leader that the refusal names, at once.
    Follow,
    /// Nobody leads or nobody knows: ask again after a short, jittered wait.
    WaitForLeader,
    /// The shard map is old: wait for the newer one, then ask again.
    AwaitTable,
    /// Leave this host alone for a while and ask the next replica.
    ProbeAnother,
    /// The host is overloaded: ask again no sooner than this, if the caller's deadline leaves the time.
    After(Duration),
    /// The answer is the caller's.
    Pass,
    /// Tell the caller that the outcome is not known.
    Unknown,
}

impl Failure {
    /// Whether the call may have had its effect in spite of it.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Failure::NotSent => false,
            Failure::Cut => true,
            Failure::Refused(refusal) => match refusal.reason {
                Some(reason) => reason == ErrorReason::OutcomeUnknown,
                None => refusal.code == Code::Unavailable,
            },
        }
    }
}

/// Whether a refusal may have been given before the host looked whether it knows the call: then it says nothing of what
/// became of an earlier attempt.
pub fn precedes_recognition(status: &Status) -> bool {
    let code = status.code();
    matches!(code, Code::Unauthenticated | Code::PermissionDenied | Code::NotFound | Code::ResourceExhausted)
}

/// Wait before an overloaded host is asked again when it does not say how long.
const OVERLOADED_WAIT: Duration = Duration::from_millis(100);

/// The retry table.
pub fn next(failure: &Failure, repeat: Repeat) -> Next {
    match (failure, repeat) {
        (Failure::NotSent, _) => Next::ProbeAnother,
        (Failure::Cut, Repeat::Recognised) => Next::ProbeAnother,
        (Failure::Cut, Repeat::Blind) => Next::Unknown,
        (Failure::Refused(refusal), _) => after_refusal(refusal, repeat),
    }
}

fn after_refusal(refusal: &Refusal, repeat: Repeat) -> Next {
    match refusal.reason {
        Some(ErrorReason::NotLeader) if refusal.leader.is_some() => Next::Follow,
        Some(ErrorReason::NotLeader) => Next::WaitForLeader,
        Some(ErrorReason::NoLeader | ErrorReason::Draining) => Next::WaitForLeader,
        Some(ErrorReason::StaleEpoch) => Next::AwaitTable,
        Some(ErrorReason::Overloaded) => Next::After(refusal.retry_after.unwrap_or(OVERLOADED_WAIT)),
        Some(ErrorReason::OutcomeUnknown) if repeat == Repeat::Recognised => Next::WaitForLeader,
        Some(_) => Next::Pass,
        // A status without a reason is not the host's: something between us and it spoke.
        None if refusal.code == Code::Unavailable => next(&Failure::Cut, repeat),
        None => Next::Pass,
    }
}

#[cfg(test)]
mod tests {
    use conclave_proto::status::ApiError;

    use super::*;

    fn refused(code: Code, reason: Option<ErrorReason>) -> Failure {
        Failure::Refused(Refusal { code, reason, leader: None, retry_after: None })
    }

    #[test]
    fn the_table_is_as_written() {
        use ErrorReason as Reason;
        let wait = Duration::from_millis(100);
        // Failure, what a recognised repetition does, what a blind one does.
        let rows = [
            (Failure::NotSent, Next::ProbeAnother, Next::ProbeAnother),
            (Failure::Cut, Next::ProbeAnother, Next::Unknown),
            (refused(Code::Unavailable, None), Next::ProbeAnother, Next::Unknown),
            (refused(Code::Unavailable, Some(Reason::NotLeader)), Next::WaitForLeader, Next::WaitForLeader),
            (refused(Code::Unavailable, Some(Reason::NoLeader)), Next::WaitForLeader, Next::WaitForLeader),
            (refused(Code::Unavailable, Some(Reason::Draining)), Next::WaitForLeader, Next::WaitForLeader),
            (refused(Code::Unavailable, Some(Reason::OutcomeUnknown)), Next::WaitForLeader, Next::Pass),
            (refused(Code::Aborted, Some(Reason::StaleEpoch)), Next::AwaitTable, Next::AwaitTable),
            (refused(Code::ResourceExhausted, Some(Reason::Overloaded)), Next::After(wait), Next::After(wait)),
            (refused(Code::ResourceExhausted, Some(Reason::TooLarge)), Next::Pass, Next::Pass),
            (refused(Code::NotFound, Some(Reason::RoomNotFound)), Next::Pass, Next::Pass),
            (refused(Code::InvalidArgument, Some(Reason::Malformed)), Next::Pass, Next::Pass),
            (refused(Code::Aborted, Some(Reason::Superseded)), Next::Pass, Next::Pass),
            (refused(Code::Aborted, Some(Reason::EtagMismatch)), Next::Pass, Next::Pass),
            (refused(Code::Internal, Some(Reason::Internal)), Next::Pass, Next::Pass),
            (refused(Code::Unimplemented, None), Next::Pass, Next::Pass),
        ];
        for (failure, recognised, blind) in rows {
            assert_eq!(next(&failure, Repeat::Recognised), recognised, "{failure:?}, recognised");
            assert_eq!(next(&failure, Repeat::Blind), blind, "{failure:?}, blind");
        }
    }

    #[test]
    fn what_was_lost_after_it_was_sent_leaves_doubt() {
        assert!(Failure::Cut.leaves_doubt());
        assert!(refused(Code::Unavailable, None).leaves_doubt());
        assert!(refused(Code::Unavailable, Some(ErrorReason::OutcomeUnknown)).leaves_doubt());
        assert!(!Failure::NotSent.leaves_doubt());
        assert!(!refused(Code::Unavailable, Some(ErrorReason::NotLeader)).leaves_doubt());
        assert!(!refused(Code::ResourceExhausted, Some(ErrorReason::Overloaded)).leaves_doubt());
    }

    #[test]
    fn an_expired_token_says_nothing_of_an_earlier_attempt() {
        assert!(precedes_recognition(&ApiError::token_expired().into()));
        assert!(precedes_recognition(&ApiError::overloaded(Duration::ZERO).into()));
        assert!(!precedes_recognition(&ApiError::new(ErrorReason::EtagMismatch, "").into()));
    }

    #[test]
    fn a_named_leader_is_followed() {
        let status = Status::from(ApiError::not_leader(Some("127.0.0.1:7000"), 4));
        let refusal = Refusal::from(&status);
        assert_eq!(refusal.leader, Some(NamedLeader { name: "127.0.0.1:7000".to_owned(), term: 4 }));
        assert_eq!(next(&Failure::Refused(refusal), Repeat::Blind), Next::Follow);
        let nameless = Refusal::from(&Status::from(ApiError::not_leader(None, 4)));
        assert_eq!(next(&Failure::Refused(nameless), Repeat::Blind), Next::WaitForLeader);
    }

    #[test]
    fn the_hosts_own_delay_is_respected() {
        let refusal = Refusal::from(&Status::from(ApiError::overloaded(Duration::from_secs(2))));
        assert_eq!(next(&Failure::Refused(refusal), Repeat::Recognised), Next::After(Duration::from_secs(2)));
    }
}
