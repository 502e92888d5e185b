//! Calls with one mistake each: unary ones, and those that would open a stream.

pub mod documents;
mod limits;
pub mod messages;
pub mod participants;
pub mod queues;
mod rights;
pub mod scopes;
mod shape;

use anyhow::{Result, bail};
use bytes::Bytes;
use conclave_client::ClientError;
use conclave_proto::v1::{
    AckDeliveriesRequest, CreateRoomRequest, DeliveryId, GetRoomRequest, NewItem, ReceiveItemsRequest,
    SendItemsRequest, UpdateRoomRequest,
};
use conclave_tests::raw::RawClient;
use conclave_types::limits::MAX_BATCH_ITEMS;
use prost::Message;

use super::expected::Expected;
use super::place::Place;

/// Who calls.
enum As {
    /// With every right.
    Admin,
    Nobody,
    /// With this `authorization`.
    Authorization(String),
    /// Past the gateway, with these claims if any.
    ToHost(Option<Vec<u8>>),
}

pub struct Call {
    pub name: &'static str,
    caller: As,
    method: &'static str,
    messages: Vec<Bytes>,
    expected: Expected,
}

impl Call {
    pub async fn run(self, place: &Place) -> Result<()> {
        let client: RawClient = match self.caller {
            As::Admin => place.admin.clone(),
            As::Nobody => place.raw.clone(),
            As::Authorization(authorization) => place.raw.with_authorization(&authorization)?,
            As::ToHost(None) => place.host.clone(),
            As::ToHost(Some(claims)) => place.host.with_binary(conclave_auth::CLAIMS_HEADER, &claims),
        };
        match client.first(self.method, self.messages).await {
            Ok(answer) => bail!("the call succeeded with {} bytes", answer.unwrap_or_default().len()),
            Err(status) => self.expected.check(&ClientError::from(status)),
        }
    }

    fn by(self, caller: As) -> Call {
        Call { caller, ..self }
    }
}

fn call(name: &'static str, method: &'static str, request: impl Message, expected: Expected) -> Call {
    bytes(name, method, vec![request.encode_to_vec().into()], expected)
}

fn bytes(name: &'static str, method: &'static str, messages: Vec<Bytes>, expected: Expected) -> Call {
    Call { name, caller: As::Admin, method, messages, expected }
}

const CREATE: &str = "RoomService/CreateRoom";
const GET: &str = "RoomService/GetRoom";
const LIST: &str = "RoomService/ListRooms";
const UPDATE: &str = "RoomService/UpdateRoom";
const DELETE: &str = "RoomService/DeleteRoom";
const SEND: &str = "QueueService/SendItems";
const RECEIVE: &str = "QueueService/ReceiveItems";
const ACK: &str = "QueueService/AckDeliveries";
const GET_QUEUE: &str = "QueueService/GetQueue";
const LIST_QUEUES: &str = "QueueService/ListQueues";

pub fn table(place: &Place) -> Vec<Call> {
    let mut all = Vec::new();
    all.extend(shape::malformed());
    all.extend(shape::names());
    all.extend(shape::missing());
    all.extend(limits::sizes());
    all.extend(limits::fields());
    all.extend(limits::deliveries());
    all.extend(rights::tokens(place));
    all.extend(rights::scopes(place));
    all.extend(documents::attacks());
    all.extend(documents::names());
    all.extend(documents::fields());
    all.extend(documents::missing());
    all.extend(messages::limits());
    all.extend(messages::cursors());
    all.extend(messages::names());
    all.extend(messages::retention());
    all.extend(participants::attachings());
    all.extend(participants::others());
    all.extend(queues::table());
    all.extend(scopes::matrix(place));
    all.extend(scopes::queues(place));
    all.extend(scopes::edits(place));
    all.extend(scopes::paths(place));
    all.extend(scopes::strangers(place));
    all
}

fn get_room(name: &str) -> GetRoomRequest {
    GetRoomRequest { name: name.into(), ..Default::default() }
}

fn create(name: &str) -> CreateRoomRequest {
    CreateRoomRequest { name: name.into(), ..Default::default() }
}

fn update(name: &str) -> UpdateRoomRequest {
    UpdateRoomRequest { name: name.into(), ..Default::default() }
}

/// A send of so many items.
pub fn send(queue: &str, items: usize) -> SendItemsRequest {
    let item = NewItem { body: "bad".into(), ..Default::default() };
    SendItemsRequest { parent: queue.into(), items: vec![item; items], ..Default::default() }
}

pub fn ack(queue: &str, deliveries: &[(u64, u32)]) -> AckDeliveriesRequest {
    let deliveries = deliveries.iter().map(|&(item, attempt)| DeliveryId { item, attempt }).collect();
    AckDeliveriesRequest { parent: queue.into(), deliveries, ..Default::default() }
}

/// A receive of what is there.
pub fn receive(queue: &str) -> ReceiveItemsRequest {
    ReceiveItemsRequest { parent: queue.into(), max_items: MAX_BATCH_ITEMS as u32, ..Default::default() }
}
