//! Reads by calls, linearizable: rooms, queues, documents.

use conclave_proto::v1::{
    DescribeDocumentRequest, DescribeDocumentResponse, GetQueueRequest, GetQueueResponse, GetRoomRequest,
    GetRoomResponse, ListDocumentsRequest, ListDocumentsResponse, ListQueuesRequest, ListQueuesResponse,
};

use super::actor::Actor;
use super::queues::QUEUES;
use super::{DOCUMENTS, document_name, queue_name};
use crate::history::{Answer, Call, Values};
use crate::news::described_text;

pub async fn read(mut actor: Actor) {
    while actor.turn().await {
        let queue = actor.dice.roll(usize::from(QUEUES)) as u16;
        let document = actor.dice.roll(usize::from(DOCUMENTS)) as u16;
        let client = actor.client.clone();
        let parent = actor.name.clone();
        // What was read is recorded, and nothing here depends on it.
        match actor.dice.roll(5) {
            0 => {
                let request = GetRoomRequest { name: parent, ..Default::default() };
                let answer = |read: &GetRoomResponse| (read.revision, Answer::Done);
                let _ = actor.ask(None, Call::GetRoom, || client.get_room(request), answer).await;
            }
            1 => {
                let request = GetQueueRequest { name: queue_name(&parent, queue), ..Default::default() };
                let _ = actor.ask(None, Call::GetQueue { queue }, || client.get_queue(request), counted).await;
            }
            2 => {
                let request = ListQueuesRequest { parent, ..Default::default() };
                let answer = |read: &ListQueuesResponse| (read.revision, Answer::Done);
                let _ = actor.ask(None, Call::ListQueues, || client.list_queues(request), answer).await;
            }
            3 => {
                let request = ListDocumentsRequest { parent, ..Default::default() };
                let answer = |read: &ListDocumentsResponse| (read.revision, Answer::Done);
                let _ = actor.ask(None, Call::ListDocuments, || client.list_documents(request), answer).await;
            }
            _ => {
                let request = DescribeDocumentRequest { name: document_name(&parent, document), ..Default::default() };
                let call = Call::DescribeDocument { document };
                let _ = actor.ask(None, call, || client.describe_document(request), holds).await;
            }
        }
    }
}

/// A queue's size.
pub fn counted(read: &GetQueueResponse) -> (u64, Answer) {
    (read.revision, Answer::Counted { size: read.queue.as_ref().map_or(0, |queue| queue.size) })
}

/// A document's tokens; a document that cannot be read as text holds what it says.
fn holds(read: &DescribeDocumentResponse) -> (u64, Answer) {
    let values = match described_text(&read.json) {
        Ok(text) => Values::of_text(&text),
        Err(error) => Values::of_text(&format!("{error:#}")),
    };
    (read.revision, Answer::Holds { values })
}
