//! Rules that the public API keeps, read from its descriptors.

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::source_code_info::Location;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::envelope::body;
use crate::v1::ErrorReason;

const PACKAGE: &str = "conclave.v1";
const WITH_COMMENTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public_with_comments.binpb"));

// Field numbers of descriptor.proto, of which the paths to an element consist.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_SERVICE: i32 = 6;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUM: i32 = 4;
const ENUM_VALUE: i32 = 2;
const SERVICE_METHOD: i32 = 2;

fn public_files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(WITH_COMMENTS).expect("the build wrote a descriptor set");
    set.file.into_iter().filter(|file| file.package() == PACKAGE).collect()
}

/// Every message with its path inside its file, nested ones too; the entries of maps are not written by anybody.
fn messages(file: &FileDescriptorProto) -> Vec<(String, Vec<i32>, &DescriptorProto)> {
    let mut found = Vec::new();
    let mut open: Vec<_> = children("", &[], FILE_MESSAGE, &file.message_type);
    while let Some((name, path, message)) = open.pop() {
        open.extend(children(&name, &path, MESSAGE_NESTED, &message.nested_type));
        if !message.options.as_ref().is_some_and(|options| options.map_entry()) {
            found.push((name, path, message));
        }
    }
    found
}

fn children<'a>(
    parent: &str,
    path: &[i32],
    kind: i32,
    messages: &'a [DescriptorProto],
) -> Vec<(String, Vec<i32>, &'a DescriptorProto)> {
    let child = |(index, message): (usize, &'a DescriptorProto)| {
        (format!("{parent}.{}", message.name()), [path, &[kind, index as i32]].concat(), message)
    };
    messages.iter().enumerate().map(child).collect()
}

fn enums(file: &FileDescriptorProto) -> Vec<(Vec<i32>, &EnumDescriptorProto)> {
    let mut found = Vec::new();
    for (index, item) in file.enum_type.iter().enumerate() {
        found.push((vec![FILE_ENUM, index as i32], item));
    }
    for (_, path, message) in messages(file) {
        for (index, item) in message.enum_type.iter().enumerate() {
            found.push(([&path[..], &[MESSAGE_ENUM, index as i32]].concat(), item));
        }
    }
    found
}

fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let at = |location: &&Location| location.path == path;
    let found = file.source_code_info.iter().flat_map(|info| &info.location).find(at);
    found.map(|location| location.leading_comments().trim().to_owned()).unwrap_or_default()
}

/// Every reason of `error_reason.proto`.
pub(crate) fn error_reasons() -> Vec<ErrorReason> {
    documented_reasons().into_iter().map(|(reason, _)| reason).collect()
}

/// Every reason with the comment it has in `error_reason.proto`.
pub(crate) fn documented_reasons() -> Vec<(ErrorReason, String)> {
    let mut reasons = Vec::new();
    for file in public_files() {
        for (path, item) in enums(&file).into_iter().filter(|(_, item)| item.name() == "ErrorReason") {
            for (index, value) in item.value.iter().enumerate() {
                let reason = ErrorReason::try_from(value.number()).expect("generated from the same file");
                reasons.push((reason, comment(&file, &[&path[..], &[ENUM_VALUE, index as i32]].concat())));
            }
        }
    }
    assert!(!reasons.is_empty());
    reasons
}

/// Clients in the field rely on it: a difference is meant, or it is a mistake. `CONCLAVE_REWRITE=1` accepts it.
#[test]
fn the_api_is_the_committed_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/descriptor.binpb");
    if std::env::var_os("CONCLAVE_REWRITE").is_some() {
        std::fs::write(path, crate::FILE_DESCRIPTOR_SET).expect("descriptor.binpb can be written");
    }
    let committed = std::fs::read(path).unwrap_or_default();
    let files = |bytes: &[u8]| FileDescriptorSet::decode(bytes).expect("a descriptor set").file;
    for (then, now) in files(&committed).iter().zip(&files(crate::FILE_DESCRIPTOR_SET)) {
        assert_eq!(then, now, "{} changed: `cargo xtask fix` accepts it", now.name());
    }
    assert!(committed == crate::FILE_DESCRIPTOR_SET, "files came or went: `cargo xtask fix` accepts it");
}

/// A gateway routes by field 1 of a request and reads nothing else of it.
#[test]
fn field_1_of_every_request_is_its_resource() {
    let files = public_files();
    let mut seen = 0;
    for method in files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method) {
        assert!(method.input_type().starts_with(".conclave.v1."), "{}", method.name());
        let input = method.input_type().trim_start_matches(".conclave.v1");
        let all = files.iter().flat_map(messages);
        let (_, _, message) = all.into_iter().find(|(name, ..)| name == input).expect("the request is in the package");
        if method.name() == "Connect" {
            continue;
        }
        assert_field_1(message, &["name", "parent"]);
        seen += 1;
    }
    assert!(seen >= 10);
    let all = files.iter().flat_map(messages);
    let (_, _, hello) = all.into_iter().find(|(name, ..)| name == ".Hello").expect("Hello is in the package");
    assert_field_1(hello, &["room"]);
}

fn assert_field_1(message: &DescriptorProto, names: &[&str]) {
    let first = message.field.iter().find(|field| field.number() == 1).expect("a request has a field 1");
    assert!(names.contains(&first.name()), "{}: field 1 is {}", message.name(), first.name());
    assert_eq!((first.r#type(), first.label()), (Type::String, Label::Optional), "{}", message.name());
}

/// A gateway takes up any server stream again without knowing it: by `after_revision` of its request and `revision` of its
/// elements, which carry what the frames of a session carry.
#[test]
fn server_streams_can_be_taken_up_again() {
    let files = public_files();
    let all: Vec<_> = files.iter().flat_map(messages).collect();
    let find = |name: &str| {
        let name = name.trim_start_matches(".conclave.v1");
        all.iter().find(|(found, ..)| found == name).expect("the message is in the package").2
    };
    let field = |message: &DescriptorProto, name: &str| {
        let found = message.field.iter().find(|field| field.name() == name);
        found.map(|field| (field.number(), field.r#type(), field.oneof_index.is_some()))
    };
    let methods = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let mut resumable = 0;
    for method in methods.filter(|method| method.server_streaming() && !method.client_streaming()) {
        let (request, response) = (find(method.input_type()), find(method.output_type()));
        assert_eq!(field(response, "revision"), Some((2, Type::Uint64, false)), "{}", response.name());
        let body = [("event_batch", 12), ("gap", 13), ("live", 14)];
        for (name, number) in body {
            assert_eq!(field(response, name), Some((number, Type::Message, true)), "{}.{name}", response.name());
        }
        assert_eq!(response.field.len(), 1 + body.len(), "{}", response.name());
        if let Some(after) = field(request, "after_revision") {
            assert_eq!(after, (2, Type::Uint64, false), "{}", request.name());
            resumable += 1;
        }
    }
    assert!(resumable >= 3);
    assert_eq!(field(find(".Subscribe"), "after_revision"), Some((2, Type::Uint64, false)));
}

/// The peek tells the numbers of an envelope from its body by the field number alone.
#[test]
fn frames_keep_their_numbers_low_and_their_body_high() {
    let files = public_files();
    for frame in [".ClientFrame", ".ServerFrame"] {
        let all = files.iter().flat_map(messages);
        let (_, _, message) = all.into_iter().find(|(name, ..)| name == frame).expect("the frame is in the package");
        for field in &message.field {
            let in_body = field.oneof_index.is_some();
            assert_eq!(in_body, field.number() >= 10, "{frame}.{}", field.name());
        }
    }
    let number = |frame: &str, name: &str| {
        let all = files.iter().flat_map(messages);
        let (_, _, message) = all.into_iter().find(|(found, ..)| found == frame).expect("the frame is in the package");
        let field = message.field.iter().find(|field| field.name() == name).expect("the body is in the frame");
        field.number() as u32
    };
    let client = [
        ("hello", body::HELLO),
        ("ping", body::PING),
        ("subscribe", body::SUBSCRIBE),
        ("unsubscribe", body::UNSUBSCRIBE),
        ("credit", body::CREDIT),
    ];
    let server = [
        ("welcome", body::WELCOME),
        ("status", body::STATUS),
        ("event_batch", body::EVENT_BATCH),
        ("gap", body::GAP),
        ("live", body::LIVE),
        ("go_away", body::GO_AWAY),
        ("pong", body::PONG),
        ("subscribed", body::SUBSCRIBED),
    ];
    let both = [
        ("update_room", body::UPDATE_ROOM),
        ("send_items", body::SEND_ITEMS),
        ("ack_deliveries", body::ACK_DELIVERIES),
        ("push_update", body::PUSH_UPDATE),
        ("post_message", body::POST_MESSAGE),
        ("rename_document", body::RENAME_DOCUMENT),
        ("delete_document", body::DELETE_DOCUMENT),
        ("nack_deliveries", body::NACK_DELIVERIES),
        ("extend_leases", body::EXTEND_LEASES),
        ("create_queue", body::CREATE_QUEUE),
        ("update_queue", body::UPDATE_QUEUE),
        ("cancel_items", body::CANCEL_ITEMS),
        ("move_items", body::MOVE_ITEMS),
        ("purge_items", body::PURGE_ITEMS),
        ("get_room", body::GET_ROOM),
        ("receive_items", body::RECEIVE_ITEMS),
        ("get_queue", body::GET_QUEUE),
        ("list_queues", body::LIST_QUEUES),
        ("describe_document", body::DESCRIBE_DOCUMENT),
        ("list_documents", body::LIST_DOCUMENTS),
        ("send_awareness", body::SEND_AWARENESS),
        ("send_ephemeral", body::SEND_EPHEMERAL),
        ("attach_participant", body::ATTACH_PARTICIPANT),
        ("detach_participant", body::DETACH_PARTICIPANT),
        ("list_participants", body::LIST_PARTICIPANTS),
        ("list_items", body::LIST_ITEMS),
        ("get_queue_stats", body::GET_QUEUE_STATS),
    ];
    for (name, expected) in client.iter().chain(&both) {
        assert_eq!(number(".ClientFrame", name), *expected, "{name}");
    }
    for (name, expected) in server.iter().chain(&both) {
        assert_eq!(number(".ServerFrame", name), *expected, "{name}");
    }
    let bodies = |frame: &str| {
        let all = files.iter().flat_map(messages);
        let (_, _, message) = all.into_iter().find(|(name, ..)| name == frame).expect("the frame is in the package");
        message.field.iter().filter(|field| field.oneof_index.is_some()).count()
    };
    assert_eq!(bodies(".ClientFrame"), client.len() + both.len(), "a body without a constant");
    assert_eq!(bodies(".ServerFrame"), server.len() + both.len(), "a body without a constant");
}

#[test]
fn every_element_has_a_comment() {
    let mut bare = Vec::new();
    for file in public_files() {
        let mut look = |what: String, path: &[i32]| {
            if comment(&file, path).is_empty() {
                bare.push(format!("{}: {what}", file.name()));
            }
        };
        for (index, service) in file.service.iter().enumerate() {
            let path = [FILE_SERVICE, index as i32];
            look(service.name().to_owned(), &path);
            for (index, method) in service.method.iter().enumerate() {
                look(method.name().to_owned(), &[&path[..], &[SERVICE_METHOD, index as i32]].concat());
            }
        }
        for (name, path, message) in messages(&file) {
            look(name.clone(), &path);
            for (index, field) in message.field.iter().enumerate() {
                look(format!("{name}.{}", field.name()), &[&path[..], &[MESSAGE_FIELD, index as i32]].concat());
            }
        }
        for (path, item) in enums(&file) {
            look(item.name().to_owned(), &path);
            for (index, value) in item.value.iter().enumerate() {
                look(value.name().to_owned(), &[&path[..], &[ENUM_VALUE, index as i32]].concat());
            }
        }
    }
    assert!(bare.is_empty(), "without a comment:\n{}", bare.join("\n"));
}

#[test]
fn enum_values_carry_the_enums_name_and_begin_unspecified() {
    for file in public_files() {
        for (_, item) in enums(&file) {
            let prefix = screaming(item.name());
            assert_eq!(item.value[0].name(), format!("{prefix}_UNSPECIFIED"));
            assert_eq!(item.value[0].number(), 0);
            for value in &item.value {
                assert!(value.name().starts_with(&format!("{prefix}_")), "{}", value.name());
            }
        }
    }
}

fn screaming(camel: &str) -> String {
    let mut text = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

#[test]
fn times_end_in_time_and_nothing_begins_with_is() {
    for file in public_files() {
        for (name, _, message) in messages(&file) {
            for field in &message.field {
                let is_time = field.type_name() == ".google.protobuf.Timestamp";
                let named_time = field.name() == "time" || field.name().ends_with("_time");
                assert_eq!(is_time, named_time, "{name}.{}", field.name());
                assert!(!field.name().starts_with("is_"), "{name}.{}", field.name());
            }
        }
    }
}
