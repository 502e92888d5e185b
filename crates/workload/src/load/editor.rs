//! Types tokens into documents, building on what others typed.
//!
//! An author's replica is thrown away when it is not known whether an update of it was taken: the next one has another
//! Yjs client, so no clock is ever used for two updates. Replicas hold committed updates only, and their own that were
//! acknowledged; a document that refuses to go on from there has lost something.

use bytes::Bytes;
use conclave_client::UpdateKind;
use conclave_document::{Edit, Replica};
use conclave_proto::v1::{OpenDocumentRequest, PushUpdateRequest, PushUpdateResponse};
use conclave_types::YjsClient;

use super::actor::{ANSWER_WITHIN, Actor, Attached};
use super::reply::Told;
use super::{DOCUMENTS, document_name};
use crate::history::{Answer, Call, Value};
use crate::news::{Assembly, News, ROOT, news};

/// Turns of a hundred in which an author takes in what others typed.
const CATCHING_UP: usize = 10;
/// Turns of a hundred in which a session is ended and another one begun.
const LEAVING: usize = 2;

/// One author's hand in one document.
struct Hand {
    document: u16,
    writer: u32,
    serial: u32,
    replica: Replica,
}

pub async fn edit(mut actor: Actor) {
    let mut hands: Vec<Hand> = (0..DOCUMENTS).map(|document| Hand::new(&actor, document)).collect();
    while let Some(attached) = actor.attach().await {
        while actor.turn().await {
            let document = actor.dice.roll(hands.len());
            let hand = &mut hands[document];
            if actor.dice.roll(100) < CATCHING_UP {
                hand.catch_up(&actor).await;
            }
            let known = hand.type_one(&mut actor, &attached).await;
            if !known {
                hand.begin_again(&actor);
                break;
            }
            if actor.dice.roll(100) < LEAVING {
                break;
            }
        }
        attached.close().await;
    }
}

impl Hand {
    fn new(actor: &Actor, document: u16) -> Hand {
        let writer = actor.recorder.next_writer();
        Hand { document, writer, serial: 0, replica: Replica::new(YjsClient(u64::from(writer))) }
    }

    fn begin_again(&mut self, actor: &Actor) {
        *self = Hand::new(actor, self.document);
    }

    /// Types one token; false if it is not known whether it stands.
    async fn type_one(&mut self, actor: &mut Actor, attached: &Attached) -> bool {
        self.serial += 1;
        let value = Value { writer: self.writer, serial: self.serial };
        let Some(update) = self.edit(actor, value) else { return false };
        let name = document_name(&actor.name, self.document);
        let request = PushUpdateRequest { name, update, ..Default::default() };
        let call = Call::Push { document: self.document, value };
        let send = || attached.session.push_update(request);
        let pushed = |response: &PushUpdateResponse| (response.revision, Answer::Done);
        matches!(actor.ask(Some(attached.number), call, send, pushed).await, Told::Done(_))
    }

    /// Tokens go between tokens: at the beginning, at the end, or behind a `]`.
    fn edit(&mut self, actor: &mut Actor, value: Value) -> Option<Bytes> {
        let text = self.replica.text(ROOT);
        let at = match actor.dice.roll(4) {
            0 => 0,
            1 => text.len(),
            _ => {
                let from = actor.dice.roll(text.len() + 1);
                text[from..].find(']').map_or(text.len(), |end| from + end + 1)
            }
        };
        // Tokens are ASCII, so bytes are the units that positions count.
        self.replica.edit(ROOT, &[Edit { at: at as u32, delete: 0, insert: value.token() }]).ok()
    }

    /// Takes in what the document has beyond this replica. What cannot be had now is had another time; a replica that
    /// is in disorder is thrown away.
    async fn catch_up(&mut self, actor: &Actor) {
        let vector = self.replica.state_vector();
        let name = document_name(&actor.name, self.document);
        let missing = tokio::time::timeout(ANSWER_WITHIN, missing(&actor.client, name, vector)).await;
        if let Ok(Some(updates)) = missing
            && updates.iter().any(|update| self.replica.apply(update).is_err())
        {
            self.begin_again(actor);
        }
    }
}

/// What a document holds beyond a state vector; none if it cannot be had now.
async fn missing(client: &conclave_client::Client, name: String, state_vector: Bytes) -> Option<Vec<Bytes>> {
    let request = OpenDocumentRequest { name, state_vector, create: Some(false), ..Default::default() };
    let mut stream = client.open_document(request).await.ok()?;
    let (mut assembly, mut updates) = (Assembly::default(), Vec::new());
    loop {
        let told = stream.next().await?.ok()?;
        match &told.kind {
            UpdateKind::Live(_) => return Some(updates),
            _ => {
                if let News::Updates(more) = news(told, &mut assembly).ok()? {
                    updates.extend(more);
                }
            }
        }
    }
}
