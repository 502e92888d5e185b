//! What the gateway knows of each public method: how it is forwarded and whether it may be sent again.
//!
//! This is all it knows: requests stay bytes, except for the two scalar fields peeked here and in `unary`. A test holds
//! the table against the descriptor set, so a method added to the API without a row here fails the build.

/// How a method is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Has no effect: may be sent again at any time.
    Read,
    /// Has an effect in a leader's memory alone, which a repetition repeats at most: a participant is attached as it
    /// was, an awareness is the newest still, a message is heard twice. May be sent again, because no request id is
    /// kept for what is not stored, and the alternative after a loss is an outcome that nobody knows.
    Ephemeral,
    /// Has an effect; may be sent again only if this field of the request, its request id, is set.
    Write { request_id_field: u32 },
    /// Asks every shard in turn.
    EveryShard,
    /// Answers one request with many elements.
    Stream(Resume),
    /// A session stream.
    Session,
}

/// How a server stream goes on after the loss of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Where it stopped: the request has `after_revision`.
    AfterRevision,
    /// The same, and what was there is not made again: the request has `create` too.
    AfterRevisionIfThere,
    /// From the beginning, and says so by what it sends first.
    Anew,
}

/// `create: false` behind a request. A document that was there and is not is one that was deleted while its host was
/// lost. Field 4 of `OpenDocumentRequest` and of `Subscribe`; of a field that comes twice the last counts.
pub const NO_CREATE: [u8; 2] = [4 << 3, 0];

/// Path of each method of `conclave.v1`.
const METHODS: [(&str, Forward); 37] = [
    ("/conclave.v1.DocumentService/OpenDocument", Forward::Stream(Resume::AfterRevisionIfThere)),
    ("/conclave.v1.DocumentService/PushUpdate", Forward::Write { request_id_field: 4 }),
    ("/conclave.v1.DocumentService/DescribeDocument", Forward::Read),
    ("/conclave.v1.DocumentService/ListDocuments", Forward::Read),
    ("/conclave.v1.DocumentService/RenameDocument", Forward::Write { request_id_field: 3 }),
    ("/conclave.v1.DocumentService/DeleteDocument", Forward::Write { request_id_field: 2 }),
    ("/conclave.v1.DocumentService/SendAwareness", Forward::Ephemeral),
    ("/conclave.v1.MessagingService/PostMessage", Forward::Write { request_id_field: 3 }),
    ("/conclave.v1.MessagingService/FollowMessages", Forward::Stream(Resume::AfterRevision)),
    ("/conclave.v1.MessagingService/SendEphemeral", Forward::Ephemeral),
    ("/conclave.v1.MessagingService/ReceiveEphemeral", Forward::Stream(Resume::Anew)),
    ("/conclave.v1.ParticipantService/AttachParticipant", Forward::Ephemeral),
    ("/conclave.v1.ParticipantService/DetachParticipant", Forward::Ephemeral),
    ("/conclave.v1.ParticipantService/ListParticipants", Forward::Read),
    ("/conclave.v1.ParticipantService/WatchParticipants", Forward::Stream(Resume::Anew)),
    ("/conclave.v1.QueueService/CreateQueue", Forward::Write { request_id_field: 3 }),
    ("/conclave.v1.QueueService/UpdateQueue", Forward::Write { request_id_field: 3 }),
    ("/conclave.v1.QueueService/SendItems", Forward::Write { request_id_field: 4 }),
    ("/conclave.v1.QueueService/ReceiveItems", Forward::Write { request_id_field: 7 }),
    ("/conclave.v1.QueueService/AckDeliveries", Forward::Write { request_id_field: 3 }),
    ("/conclave.v1.QueueService/ConsumeItems", Forward::Stream(Resume::Anew)),
    ("/conclave.v1.QueueService/NackDeliveries", Forward::Write { request_id_field: 6 }),
    ("/conclave.v1.QueueService/ExtendLeases", Forward::Write { request_id_field: 4 }),
    ("/conclave.v1.QueueService/CancelItems", Forward::Write { request_id_field: 3 }),
    ("/conclave.v1.QueueService/MoveItems", Forward::Write { request_id_field: 4 }),
    ("/conclave.v1.QueueService/PurgeItems", Forward::Write { request_id_field: 3 }),
    ("/conclave.v1.QueueService/ListItems", Forward::Read),
    ("/conclave.v1.QueueService/GetQueueStats", Forward::Read),
    ("/conclave.v1.QueueService/GetQueue", Forward::Read),
    ("/conclave.v1.QueueService/ListQueues", Forward::Read),
    ("/conclave.v1.RoomService/GetRoom", Forward::Read),
    ("/conclave.v1.RoomService/CreateRoom", Forward::Write { request_id_field: 4 }),
    ("/conclave.v1.RoomService/UpdateRoom", Forward::Write { request_id_field: 6 }),
    ("/conclave.v1.RoomService/DeleteRoom", Forward::Write { request_id_field: 3 }),
    ("/conclave.v1.RoomService/ListRooms", Forward::EveryShard),
    ("/conclave.v1.RoomService/WatchRoom", Forward::Stream(Resume::AfterRevision)),
    ("/conclave.v1.SessionService/Connect", Forward::Session),
];

/// The method's own copy of its path, and its row; none for a path that is no public method.
pub fn forward(path: &str) -> Option<(&'static str, Forward)> {
    METHODS.iter().find(|(known, _)| *known == path).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use conclave_proto::v1::OpenDocumentRequest;
    use prost::Message;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;

    fn public_files() -> Vec<prost_types::FileDescriptorProto> {
        let set = FileDescriptorSet::decode(conclave_proto::FILE_DESCRIPTOR_SET).unwrap();
        set.file.into_iter().filter(|file| file.package() == "conclave.v1").collect()
    }

    fn message(name: &str) -> DescriptorProto {
        let name = name.rsplit('.').next().unwrap();
        public_files().into_iter().flat_map(|file| file.message_type).find(|message| message.name() == name).unwrap()
    }

    fn field_number(message: &DescriptorProto, name: &str) -> Option<u32> {
        message.field.iter().find(|field| field.name() == name).map(|field| field.number() as u32)
    }

    #[test]
    fn every_public_method_has_its_row_and_no_other_has() {
        let mut described = BTreeSet::new();
        for file in public_files() {
            for service in &file.service {
                for method in &service.method {
                    described.insert(format!("/conclave.v1.{}/{}", service.name(), method.name()));
                }
            }
        }
        let known: BTreeSet<_> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(known, described);
    }

    #[test]
    fn what_was_there_is_not_made_again() {
        let asked = OpenDocumentRequest { name: "x".to_owned(), create: Some(true), ..Default::default() };
        let again = [asked.encode_to_vec(), NO_CREATE.to_vec()].concat();
        let expected = OpenDocumentRequest { create: Some(false), ..asked };
        assert_eq!(OpenDocumentRequest::decode(&again[..]).unwrap(), expected);
    }

    #[test]
    fn rows_agree_with_the_requests_they_speak_of() {
        for file in public_files() {
            for method in file
                .service
                .iter()
                .flat_map(|service| service.method.iter().map(move |method| (service.name().to_owned(), method)))
            {
                let (service, method) = method;
                let path = format!("/conclave.v1.{service}/{}", method.name());
                let request = message(method.input_type());
                let request_id = request.field.iter().find(|field| field.name() == "request_id");
                let row = forward(&path).unwrap().1;
                match row {
                    Forward::Write { request_id_field } => {
                        assert_eq!(request_id.unwrap().number(), request_id_field as i32, "{path}");
                    }
                    Forward::Read | Forward::Ephemeral | Forward::EveryShard => assert!(request_id.is_none(), "{path}"),
                    Forward::Stream(resume) => {
                        assert!(request_id.is_none() && !method.client_streaming(), "{path}");
                        let after_revision = (resume != Resume::Anew).then_some(2);
                        let create = (resume == Resume::AfterRevisionIfThere).then_some(4);
                        assert_eq!(field_number(&request, "create"), create, "{path}");
                        assert_eq!(field_number(&request, "after_revision"), after_revision, "{path}");
                        let element = message(method.output_type());
                        assert_eq!(field_number(&element, "revision"), Some(2), "{path}: the cursor of an element");
                    }
                    Forward::Session => assert!(method.client_streaming(), "{path}"),
                }
                let streams = matches!(row, Forward::Stream(_) | Forward::Session);
                assert_eq!(method.server_streaming(), streams, "{path}");
                if !method.client_streaming() {
                    let first = request.field.iter().find(|field| field.number() == 1).unwrap();
                    assert!(matches!(first.name(), "name" | "parent"), "{path}: field 1 is the resource");
                }
            }
        }
    }
}
