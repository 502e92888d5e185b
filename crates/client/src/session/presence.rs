//! The participant that a session attached, so that it is attached again after a loss and kept while the client lives.

use std::time::Duration;

use bytes::Bytes;
use conclave_proto::v1::server_frame::Body as Response;
use conclave_proto::v1::{AttachParticipantResponse, ErrorReason};

use crate::ClientError;

/// Signs of life in one lease: two may be lost.
const SIGNS_PER_LEASE: u32 = 3;

#[derive(Debug, Default)]
pub struct Presence {
    attached: Option<Attached>,
    /// Frames in the window that attach or detach: what they bring about is not known yet.
    changes: usize,
    /// Why the participant is not attached any more, if nobody asked for that.
    lost: Option<ClientError>,
}

#[derive(Debug)]
struct Attached {
    /// The frame that attached it, without a sequence.
    frame: Bytes,
    name: String,
    lease: Option<Duration>,
}

/// What a frame in the window does to the participant.
#[derive(Debug)]
pub enum Change {
    /// By this frame.
    Attach(Bytes),
    /// Of this name.
    Detach(String),
}

impl Presence {
    /// Notes that a frame is on its way.
    pub fn ask(&mut self) {
        self.changes += 1;
    }

    /// Takes the answer to a change. Returns a frame to send after all: the one that attached the participant as it is,
    /// because the one that was to change it has failed and may have been sent again in its place.
    pub fn answered(&mut self, change: Change, result: &Result<Response, ClientError>) -> Option<Bytes> {
        self.changes -= 1;
        match (change, result) {
            (Change::Attach(frame), Ok(Response::AttachParticipant(response))) => {
                self.attached = Some(Attached { frame, name: name(response), lease: lease(response) });
                self.lost = None;
                None
            }
            (Change::Attach(_), _) => self.attached.as_ref().map(|attached| attached.frame.clone()),
            (Change::Detach(name), result) => {
                let gone = match result {
                    Ok(_) => true,
                    Err(error) => error.reason == Some(ErrorReason::ParticipantNotFound),
                };
                self.attached.take_if(|attached| gone && attached.name == name);
                None
            }
        }
    }

    /// The participant could not be attached again.
    pub fn lose(&mut self, why: ClientError) {
        self.attached = None;
        self.lost = Some(why);
    }

    pub fn lost(&self) -> Option<&ClientError> {
        self.lost.as_ref()
    }

    /// The frame that attaches the participant at a gateway which does not know it. None while a frame that changes it
    /// is in the window, which is newer.
    pub fn renewal(&self) -> Option<Bytes> {
        self.attached.as_ref().filter(|_| self.changes == 0).map(|attached| attached.frame.clone())
    }

    /// How often the participant's lease needs a sign of life.
    pub fn pulse(&self) -> Option<Duration> {
        Some(self.attached.as_ref()?.lease? / SIGNS_PER_LEASE)
    }
}

fn name(response: &AttachParticipantResponse) -> String {
    response.participant.as_ref().map(|participant| participant.name.clone()).unwrap_or_default()
}

fn lease(response: &AttachParticipantResponse) -> Option<Duration> {
    response.lease.and_then(|lease| Duration::try_from(lease).ok())
}

#[cfg(test)]
mod tests {
    use conclave_proto::v1::{DetachParticipantResponse, Participant};
    use tonic::Code;

    use super::*;

    fn attached(lease: u64) -> Result<Response, ClientError> {
        let participant = Participant { name: "rooms/lab/participants/ann".to_owned(), ..Default::default() };
        let lease = Some(Duration::from_secs(lease).try_into().expect("a duration"));
        Ok(Response::AttachParticipant(AttachParticipantResponse { participant: Some(participant), lease }))
    }

    fn refused(reason: ErrorReason) -> Result<Response, ClientError> {
        Err(ClientError::new(Code::NotFound, Some(reason), "refused"))
    }

    fn attach(presence: &mut Presence, frame: &'static [u8], result: Result<Response, ClientError>) -> Option<Bytes> {
        presence.ask();
        presence.answered(Change::Attach(Bytes::from_static(frame)), &result)
    }

    #[test]
    fn the_newest_frame_that_was_answered_attaches_it_again() {
        let mut presence = Presence::default();
        assert_eq!(attach(&mut presence, b"first", attached(30)), None);
        assert_eq!(attach(&mut presence, b"second", attached(6)), None);
        assert_eq!(presence.renewal().as_deref(), Some(&b"second"[..]));
        assert_eq!(presence.pulse(), Some(Duration::from_secs(2)));
        let again = attach(&mut presence, b"third", refused(ErrorReason::TooLarge));
        assert_eq!(again.as_deref(), Some(&b"second"[..]));
    }

    #[test]
    fn a_change_on_its_way_is_not_undone_by_the_older_frame() {
        let mut presence = Presence::default();
        attach(&mut presence, b"first", attached(30));
        presence.ask();
        assert_eq!(presence.renewal(), None);
    }

    #[test]
    fn what_was_detached_is_not_attached_again() {
        let detached = || Ok(Response::DetachParticipant(DetachParticipantResponse {}));
        let own = || Change::Detach("rooms/lab/participants/ann".to_owned());
        for (change, result, gone) in [
            (own(), detached(), true),
            (own(), refused(ErrorReason::ParticipantNotFound), true),
            (own(), refused(ErrorReason::Overloaded), false),
            (Change::Detach("rooms/lab/participants/bob".to_owned()), detached(), false),
        ] {
            let mut presence = Presence::default();
            attach(&mut presence, b"first", attached(30));
            presence.ask();
            presence.answered(change, &result);
            assert_eq!(presence.renewal().is_none(), gone, "{result:?}");
        }
    }
}
