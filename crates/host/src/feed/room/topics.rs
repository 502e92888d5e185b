//! What a follower of a room wants to know, and may.

use conclave_auth::Claims;
use conclave_proto::v1::Topic;

use crate::faults::Fault;
use crate::hub::About;
use crate::scope;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Topics {
    /// Those whose paths the claims hold.
    pub documents: bool,
    pub messages: bool,
    pub queues: bool,
    pub participants: bool,
}

impl Topics {
    /// The topics that were named, each of which needs its scope; of none, all that the claims allow.
    pub fn of(claims: &Claims, named: &[Topic]) -> Result<Topics, Fault> {
        if named.is_empty() {
            return Ok(Topics {
                documents: claims.may_open_some(),
                messages: claims.may_read_messages(),
                queues: claims.may_list_queues(),
                participants: claims.may_list_participants(),
            });
        }
        let mut topics = Topics::default();
        for topic in named {
            match topic {
                Topic::Documents => {
                    scope::documents(claims)?;
                    topics.documents = true;
                }
                Topic::Messages => {
                    scope::messaging_read(claims)?;
                    topics.messages = true;
                }
                Topic::Queues => {
                    scope::queue_list(claims)?;
                    topics.queues = true;
                }
                Topic::Participants => {
                    scope::participants_list(claims)?;
                    topics.participants = true;
                }
                Topic::Unspecified => return Err(Fault::field_invalid("topics", "holds a value that is not a Topic")),
            }
        }
        Ok(topics)
    }

    /// Parses what a request names.
    pub fn named(topics: &[i32]) -> Result<Vec<Topic>, Fault> {
        let topic = |topic: &i32| {
            Topic::try_from(*topic).map_err(|_| Fault::field_invalid("topics", "holds a value that is not a Topic"))
        };
        topics.iter().map(topic).collect()
    }

    /// Whether an event of the room's channel is for this follower. Participants have their own channel.
    pub fn want(&self, about: &About, claims: &Claims) -> bool {
        match about {
            About::Document(path) => self.documents && claims.may_open(path),
            About::Renamed { from, to } => self.documents && (claims.may_open(from) || claims.may_open(to)),
            About::Messages => self.messages,
            About::Queues => self.queues,
            About::Participants | About::Ephemeral => false,
        }
    }
}
