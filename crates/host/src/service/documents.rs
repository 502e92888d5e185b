//! `DocumentService`.

use std::pin::Pin;
use std::sync::Arc;

use conclave_auth::Claims;
use conclave_proto::resource::DocumentResource;
use conclave_proto::v1;
use conclave_proto::v1::document_service_server::DocumentService;
use conclave_proto::v1::server_frame::Body;
use conclave_room::{Operation, Outcome};
use conclave_types::{DocumentPath, Revision};
use futures::{Stream, StreamExt};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use super::{Located, PublicApi, other_outcome, propose};
use crate::faults::Fault;
use crate::feed::{self, FeedPlace, Subject};
use crate::hub::Listener;
use crate::reads::InRoom;
use crate::{awareness, documents, scope};

impl PublicApi {
    async fn locate_document(&self, claims: &Claims, resource: &str) -> Result<(Located, DocumentPath), Fault> {
        let DocumentResource { room, path } = resource.parse::<DocumentResource>()?;
        Ok((self.locate(claims, room).await?, path))
    }
}

#[tonic::async_trait]
impl DocumentService for PublicApi {
    type OpenDocumentStream = Pin<Box<dyn Stream<Item = Result<v1::OpenDocumentResponse, Status>> + Send>>;

    async fn open_document(
        &self,
        request: Request<v1::OpenDocumentRequest>,
    ) -> Result<Response<Self::OpenDocumentStream>, Status> {
        let claims = Arc::new(self.serving.claims(request.metadata())?);
        let request = request.into_inner();
        let (Located { shard, leading, name, uid }, path) = self.locate_document(&claims, &request.name).await?;
        let vector = documents::vector(&request.state_vector)?;
        let subject = Subject::Document { path, vector, create: request.create.unwrap_or(true) };
        let listener = Listener::Anybody;
        let at = FeedPlace { shard, leading: leading.clone(), claims, room: uid, room_name: name, listener };
        let wake = Arc::new(Notify::new());
        let feed = feed::open(at, subject, Revision(request.after_revision), wake.clone()).await?;
        let elements = feed::stream(feed, wake, leading);
        Ok(Response::new(Box::pin(elements.map(|element| element.map(v1::OpenDocumentResponse::from)))))
    }

    async fn push_update(
        &self,
        request: Request<v1::PushUpdateRequest>,
    ) -> Result<Response<v1::PushUpdateResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, path) = self.locate_document(&claims, &request.name).await?;
        scope::document_edit(&claims, &path)?;
        let v1::PushUpdateRequest { update, create, request_id, .. } = request;
        let (create, author) = (create.unwrap_or(true), claims.participant.clone());
        let (operation, pushing) = leading.documents.admit(&shard, uid, path, create, author, update).await?;
        let outcome = propose(&shard, &leading, &claims, &request_id, operation).await?;
        pushing.settled(&outcome);
        match outcome {
            Outcome::Pushed { revision } => Ok(Response::new(v1::PushUpdateResponse { revision: revision.0 })),
            other => Ok(other_outcome("push_update", &other)?),
        }
    }

    async fn describe_document(
        &self,
        request: Request<v1::DescribeDocumentRequest>,
    ) -> Result<Response<v1::DescribeDocumentResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, name, uid, .. }, path) = self.locate_document(&claims, &request.name).await?;
        scope::document_open(&claims, &path)?;
        match documents::describe(shard, InRoom { uid, name }, path, request).await? {
            Body::DescribeDocument(response) => Ok(Response::new(response)),
            _ => Err(Fault::internal("describe_document").into()),
        }
    }

    async fn list_documents(
        &self,
        request: Request<v1::ListDocumentsRequest>,
    ) -> Result<Response<v1::ListDocumentsResponse>, Status> {
        let claims = Arc::new(self.serving.claims(request.metadata())?);
        let request = request.into_inner();
        let Located { shard, name, uid, .. } = self.locate_room(&claims, &request.parent).await?;
        match documents::list(shard, InRoom { uid, name }, claims, request).await? {
            Body::ListDocuments(response) => Ok(Response::new(response)),
            _ => Err(Fault::internal("list_documents").into()),
        }
    }

    async fn rename_document(
        &self,
        request: Request<v1::RenameDocumentRequest>,
    ) -> Result<Response<v1::RenameDocumentResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, from) = self.locate_document(&claims, &request.name).await?;
        scope::document_edit(&claims, &from)?;
        let operation = documents::admit_rename(uid, &request)?;
        if let Operation::RenameDocument { to, .. } = &operation {
            scope::document_edit(&claims, to)?;
        }
        match propose(&shard, &leading, &claims, &request.request_id, operation).await? {
            Outcome::DocumentRenamed { revision: Revision(revision) } => {
                Ok(Response::new(v1::RenameDocumentResponse { revision }))
            }
            other => Ok(other_outcome("rename_document", &other)?),
        }
    }

    async fn delete_document(
        &self,
        request: Request<v1::DeleteDocumentRequest>,
    ) -> Result<Response<v1::DeleteDocumentResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, uid, .. }, path) = self.locate_document(&claims, &request.name).await?;
        scope::document_edit(&claims, &path)?;
        let operation = documents::admit_delete(uid, &request)?;
        match propose(&shard, &leading, &claims, &request.request_id, operation).await? {
            Outcome::DocumentDeleted { revision: Revision(revision) } => {
                Ok(Response::new(v1::DeleteDocumentResponse { revision }))
            }
            other => Ok(other_outcome("delete_document", &other)?),
        }
    }

    async fn send_awareness(
        &self,
        request: Request<v1::SendAwarenessRequest>,
    ) -> Result<Response<v1::SendAwarenessResponse>, Status> {
        let claims = self.serving.claims(request.metadata())?;
        let request = request.into_inner();
        let (Located { shard, leading, name, uid }, _) = self.locate_document(&claims, &request.name).await?;
        Ok(Response::new(awareness::send(&shard, &leading, &claims, uid, &name, None, request).await?))
    }
}
