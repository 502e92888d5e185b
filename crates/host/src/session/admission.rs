//! Checks a session's frames: each request is parsed and authorized as its unary method does it.

use std::sync::Arc;

use conclave_proto::resource::{DocumentResource, SubscribedResource};
use conclave_proto::v1;
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::server_frame::Body;
use conclave_room::{Operation, Receiver};
use conclave_types::{DocumentPath, Revision, Sequence};

use super::Session;
use super::replies::{Durable, ReadFuture};
use crate::admit::queues;
use crate::faults::Fault;
use crate::feed::{FeedPlace, Subject, Topics};
use crate::hub::Listener;
use crate::receive::Receive;
use crate::{admit, awareness, documents, ephemeral, reads, scope};

/// What a frame leads to.
#[expect(clippy::large_enum_variant, reason = "one a frame, taken apart where it is made")]
pub enum Admitted {
    Durable(Durable, Operation),
    Read(ReadFuture),
    Receive(Receive),
    Subscribe(Subject, Revision),
    /// It was done at once.
    Done(Body),
}

impl Session {
    /// Checks a frame's request. A fault is the frame's answer; the stream goes on.
    pub(super) async fn admit(&mut self, sequence: Sequence, body: Asked) -> Result<Admitted, Fault> {
        let body = match body {
            Asked::PushUpdate(request) => return self.admit_update(request).await,
            body => body,
        };
        let claims = &*self.claims;
        let (room, participant) = (self.at.room, claims.participant.clone());
        Ok(match body {
            Asked::UpdateRoom(request) => {
                scope::rooms_write(claims)?;
                self.at.same_room(&request.name)?;
                Admitted::Durable(Durable::UpdateRoom, admit::update_room(room, request)?)
            }
            Asked::SendItems(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_send(claims, &queue)?;
                let now = self.leading.time.stamp();
                Admitted::Durable(Durable::SendItems, queues::send_items(room, queue, participant, request, now)?)
            }
            Asked::AckDeliveries(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_receive(claims, &queue)?;
                Admitted::Durable(Durable::AckDeliveries, queues::ack_deliveries(room, queue, request)?)
            }
            Asked::NackDeliveries(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_receive(claims, &queue)?;
                Admitted::Durable(Durable::NackDeliveries, queues::nack_deliveries(room, queue, request)?)
            }
            Asked::ExtendLeases(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_receive(claims, &queue)?;
                Admitted::Durable(Durable::ExtendLeases, queues::extend_leases(room, queue, request)?)
            }
            Asked::CreateQueue(request) => {
                let queue = self.at.queue(&request.name)?;
                scope::queue_send(claims, &queue)?;
                let operation = queues::create_queue(room, queue.clone(), request)?;
                scope::queue_configure(claims, &operation)?;
                Admitted::Durable(Durable::CreateQueue(queue), operation)
            }
            Asked::UpdateQueue(request) => {
                let queue = self.at.queue(&request.name)?;
                scope::queue_send(claims, &queue)?;
                let operation = queues::update_queue(room, queue.clone(), request)?;
                scope::queue_configure(claims, &operation)?;
                Admitted::Durable(Durable::UpdateQueue(queue), operation)
            }
            Asked::CancelItems(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_send(claims, &queue)?;
                Admitted::Durable(Durable::CancelItems, queues::cancel_items(room, queue, request)?)
            }
            Asked::MoveItems(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_receive(claims, &queue)?;
                let to = match request.destination.as_str() {
                    "" => None,
                    destination => Some(self.at.queue(destination)?),
                };
                to.iter().try_for_each(|to| scope::queue_send(claims, to))?;
                Admitted::Durable(Durable::MoveItems, queues::move_items(room, queue, to, &request)?)
            }
            Asked::PurgeItems(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_receive(claims, &queue)?;
                Admitted::Durable(Durable::PurgeItems, queues::purge_items(room, queue, &request)?)
            }
            Asked::PostMessage(request) => {
                self.at.same_room(&request.parent)?;
                scope::messaging_broadcast(claims)?;
                Admitted::Durable(Durable::PostMessage, ephemeral::admit_post(room, participant, request)?)
            }
            Asked::RenameDocument(request) => {
                scope::document_edit(claims, &self.document(&request.name)?)?;
                scope::document_edit(claims, &self.document(&request.new_name)?)?;
                Admitted::Durable(Durable::RenameDocument, documents::admit_rename(room, &request)?)
            }
            Asked::DeleteDocument(request) => {
                scope::document_edit(claims, &self.document(&request.name)?)?;
                Admitted::Durable(Durable::DeleteDocument, documents::admit_delete(room, &request)?)
            }
            Asked::ReceiveItems(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_receive(claims, &queue)?;
                let receiver = Receiver::Session { session: self.at.session, sequence };
                let again = sequence <= self.at.sent;
                Admitted::Receive(queues::receive_items(room, queue, participant, receiver, again, request)?)
            }
            Asked::SendEphemeral(request) => {
                let (leading, from) = (&self.leading, Some(self.at.session));
                let response = ephemeral::send(leading, claims, room, &self.at.room_name, from, request)?;
                Admitted::Done(Body::SendEphemeral(response))
            }
            Asked::AttachParticipant(request) => Admitted::Done(Body::AttachParticipant(self.attach(request)?)),
            Asked::DetachParticipant(request) => {
                let (name, session) = (&self.at.room_name, Some(self.at.session));
                let response = self.leading.presence.detach(claims, room, name, session, request)?;
                Admitted::Done(Body::DetachParticipant(response))
            }
            Asked::Subscribe(request) => {
                let after = Revision(request.after_revision);
                Admitted::Subscribe(self.subject(request)?, after)
            }
            Asked::Hello(_) | Asked::Ping(_) | Asked::Unsubscribe(_) | Asked::Credit(_) => {
                return Err(Fault::field_invalid("sequence", "must be 0 on this frame"));
            }
            read => Admitted::Read(self.admit_read(read)?),
        })
    }

    /// The session's participant; also for a gateway that takes the session up again.
    pub(super) fn attach(&self, request: v1::AttachParticipantRequest) -> Result<v1::AttachParticipantResponse, Fault> {
        self.at.same_room(&request.parent)?;
        let (name, session) = (&self.at.room_name, Some(self.at.session));
        self.leading.presence.attach(&self.claims, self.at.room, name, session, request)
    }

    /// What a subscription is about.
    pub(super) fn subject(&self, request: v1::Subscribe) -> Result<Subject, Fault> {
        let resource = request.resource.parse::<SubscribedResource>()?;
        if *resource.room() != self.at.room_name {
            return Err(Fault::other_room());
        }
        Ok(match resource {
            SubscribedResource::Room(_) => Subject::Room { topics: Topics::named(&request.topics)? },
            SubscribedResource::Messages(_) => Subject::Messages,
            SubscribedResource::Ephemeral(_) => Subject::Ephemeral,
            SubscribedResource::Participants(_) => Subject::Participants,
            SubscribedResource::Document(_, path) => Subject::Document {
                path,
                vector: documents::vector(&request.state_vector)?,
                create: request.create.unwrap_or(true),
            },
            SubscribedResource::Queue(_, queue) => {
                let (create, participant) = (request.create.unwrap_or(true), &self.claims.participant);
                let v1::Subscribe { consumer, window, credit, lease, .. } = request;
                let mut asked = queues::consume(queue, create, &consumer, window, lease, participant)?;
                asked.window = asked.window.saturating_add(credit).min(queues::MAX_WINDOW);
                Subject::Deliveries(asked)
            }
        })
    }

    /// Where this session's feeds are.
    pub(super) fn feed_place(&self) -> FeedPlace {
        FeedPlace {
            shard: self.shard.clone(),
            leading: self.leading.clone(),
            claims: self.claims.clone(),
            room: self.at.room,
            room_name: self.at.room_name.clone(),
            listener: Listener::Session(self.at.session),
        }
    }

    /// A small update is admitted at once, a large one is waited for: what follows it may build on it.
    async fn admit_update(&mut self, request: v1::PushUpdateRequest) -> Result<Admitted, Fault> {
        let path = self.document(&request.name)?;
        scope::document_edit(&self.claims, &path)?;
        let (create, author) = (request.create.unwrap_or(true), self.claims.participant.clone());
        let admitting =
            self.leading.documents.admit(&self.shard, self.at.room, path, create, author, request.update).await;
        let (operation, pushing) = admitting?;
        Ok(Admitted::Durable(Durable::PushUpdate(pushing), operation))
    }

    fn admit_read(&self, body: Asked) -> Result<ReadFuture, Fault> {
        let claims = &*self.claims;
        let (shard, at) = (self.shard.clone(), self.at.in_room());
        let read: ReadFuture = match body {
            Asked::GetRoom(request) => {
                scope::rooms_read(claims)?;
                self.at.same_room(&request.name)?;
                Box::pin(reads::get_room(shard, at, request))
            }
            Asked::GetQueue(request) => {
                let queue = self.at.queue(&request.name)?;
                scope::queue_list(claims)?;
                Box::pin(reads::get_queue(shard, at, queue, request))
            }
            Asked::ListQueues(request) => {
                self.at.same_room(&request.parent)?;
                scope::queue_list(claims)?;
                Box::pin(reads::list_queues(shard, at, request))
            }
            Asked::GetQueueStats(request) => {
                let queue = self.at.queue(&request.name)?;
                scope::queue_list(claims)?;
                Box::pin(reads::get_queue_stats(shard, self.leading.clone(), at, queue, request))
            }
            Asked::ListItems(request) => {
                let queue = self.at.queue(&request.parent)?;
                scope::queue_receive(claims, &queue)?;
                Box::pin(reads::list_items(shard, at, queue, request))
            }
            Asked::DescribeDocument(request) => {
                let path = self.document(&request.name)?;
                scope::document_open(claims, &path)?;
                Box::pin(documents::describe(shard, at, path, request))
            }
            Asked::ListDocuments(request) => {
                self.at.same_room(&request.parent)?;
                Box::pin(documents::list(shard, at, self.claims.clone(), request))
            }
            Asked::ListParticipants(request) => {
                self.at.same_room(&request.parent)?;
                scope::participants_list(claims)?;
                let leading = self.leading.clone();
                Box::pin(async move { Ok(Body::ListParticipants(leading.presence.list(at.uid, &at.name, &request)?)) })
            }
            Asked::SendAwareness(request) => {
                scope::document_open(claims, &self.document(&request.name)?)?;
                let (leading, claims, session) = (self.leading.clone(), self.claims.clone(), Some(self.at.session));
                Box::pin(async move {
                    let sent = awareness::send(&shard, &leading, &claims, at.uid, &at.name, session, request).await?;
                    Ok(Body::SendAwareness(sent))
                })
            }
            _ => return Err(Fault::unimplemented("a frame of this kind")),
        };
        Ok(self.behind_events(read))
    }

    /// A read may see what followers have not been told yet: it was written a moment ago. With subscriptions its answer
    /// waits until they have been.
    pub(super) fn behind_events(&self, read: ReadFuture) -> ReadFuture {
        if self.subscriptions.is_empty() {
            return read;
        }
        let shard = Arc::clone(&self.shard);
        Box::pin(async move {
            let body = read.await?;
            shard.read_barrier().await?;
            Ok(body)
        })
    }

    fn document(&self, name: &str) -> Result<DocumentPath, Fault> {
        let DocumentResource { room, path } = name.parse::<DocumentResource>()?;
        if room == self.at.room_name { Ok(path) } else { Err(Fault::other_room()) }
    }
}
