//! A client without manners: any authorization, any bytes, any order of frames.
//!
//! The proper client refuses most of what this one sends before it leaves; here the cluster has to.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes};
use conclave_client::ClientError;
use conclave_proto::v1::server_frame::Body as Reply;
use conclave_proto::v1::{ClientFrame, Hello, ServerFrame, Subscribe, Welcome, client_frame};
use futures::channel::mpsc;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Most bytes of an answer that a test reads.
const MAX_ANSWER_BYTES: usize = 40 << 20;
/// Frames that may wait to be sent: more than any window, so that a test need not wait for the cluster to read.
const FRAMES_WAITING: usize = 4_096;

/// One connection; what is derived from it shares it.
#[derive(Debug, Clone)]
pub struct RawClient {
    channel: Channel,
    metadata: MetadataMap,
}

impl RawClient {
    /// Connects to `host:port` or a URL, without a token.
    pub async fn connect(address: &str) -> Result<RawClient> {
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let channel = Endpoint::from_shared(url)?.connect().await?;
        Ok(RawClient { channel, metadata: MetadataMap::new() })
    }

    /// The same connection with this `authorization`.
    pub fn with_authorization(&self, authorization: &str) -> Result<RawClient> {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", authorization.parse().context("authorization")?);
        Ok(RawClient { channel: self.channel.clone(), metadata })
    }

    /// The same connection with this token.
    pub fn with_token(&self, token: &str) -> Result<RawClient> {
        self.with_authorization(&format!("Bearer {token}"))
    }

    /// The same connection and headers with one more.
    pub fn with_text(&self, key: &'static str, value: &str) -> Result<RawClient> {
        let mut other = self.clone();
        other.metadata.insert(key, value.parse().with_context(|| format!("{key}: {value:?}"))?);
        Ok(other)
    }

    /// The same connection and headers with one more, whose key ends in `-bin`.
    pub fn with_binary(&self, key: &'static str, value: &[u8]) -> RawClient {
        let mut other = self.clone();
        other.metadata.insert_bin(key, BinaryMetadataValue::from_bytes(value));
        other
    }

    /// Calls `service/method` of the public package with these messages, of which there should be one.
    pub async fn call(&self, method: &str, messages: Vec<Bytes>) -> Result<Bytes, Status> {
        let mut grpc = self.grpc().await?;
        let request = self.request(futures::stream::iter(messages));
        Ok(grpc.client_streaming(request, path(method)?, AsBytes).await?.into_inner())
    }

    /// Calls a method that answers with a stream. What is not read of it waits at the other end.
    pub async fn stream(&self, method: &str, message: Bytes) -> Result<Streaming<Bytes>, Status> {
        let mut grpc = self.grpc().await?;
        let request = self.request(message);
        Ok(grpc.server_streaming(request, path(method)?, AsBytes).await?.into_inner())
    }

    /// The first answer of any method, which may have more of them.
    pub async fn first(&self, method: &str, messages: Vec<Bytes>) -> Result<Option<Bytes>, Status> {
        let mut grpc = self.grpc().await?;
        let request = self.request(futures::stream::iter(messages));
        grpc.streaming(request, path(method)?, AsBytes).await?.into_inner().message().await
    }

    /// Opens a session's stream and sends nothing.
    pub async fn open(&self) -> Result<RawSession, Status> {
        let mut grpc = self.grpc().await?;
        let (frames, outgoing) = mpsc::channel(FRAMES_WAITING);
        let replies = grpc.streaming(self.request(outgoing), path("SessionService/Connect")?, AsBytes).await?;
        Ok(RawSession { frames, replies: replies.into_inner() })
    }

    /// Opens a session in a room, new or resumed.
    pub async fn attach(&self, hello: Hello) -> Result<(RawSession, Welcome), Status> {
        let mut session = self.open().await?;
        session.send(&ClientFrame { body: Some(client_frame::Body::Hello(hello)), ..Default::default() });
        match session.next().await?.and_then(|frame| frame.body) {
            Some(Reply::Welcome(welcome)) => Ok((session, welcome)),
            other => Err(Status::internal(format!("the first frame is {other:?}"))),
        }
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }

    fn request<M>(&self, message: M) -> Request<M> {
        Request::from_parts(self.metadata.clone(), Default::default(), message)
    }
}

fn path(method: &str) -> Result<PathAndQuery, Status> {
    format!("/conclave.v1.{method}").parse().map_err(|_| Status::invalid_argument("not a path"))
}

/// A session's stream, frame by frame.
#[derive(Debug)]
pub struct RawSession {
    frames: mpsc::Sender<Bytes>,
    replies: Streaming<Bytes>,
}

impl RawSession {
    pub fn send(&mut self, frame: &ClientFrame) {
        self.send_bytes(frame.encode_to_vec());
    }

    /// Into a stream that has ended it goes nowhere.
    pub fn send_bytes(&mut self, frame: impl Into<Bytes>) {
        let sent = self.frames.try_send(frame.into());
        assert!(sent.is_ok() || self.frames.is_closed(), "more than {FRAMES_WAITING} frames wait");
    }

    /// Asks for a subscription under a number.
    pub fn subscribe(&mut self, sequence: u64, subscription: u64, subscribe: Subscribe) {
        let body = Some(client_frame::Body::Subscribe(subscribe));
        self.send(&ClientFrame { sequence, subscription, body, ..Default::default() });
    }

    /// Sends a request with its sequence.
    pub fn ask(&mut self, sequence: u64, body: client_frame::Body) {
        self.send(&ClientFrame { sequence, body: Some(body), ..Default::default() });
    }

    /// Says that there will be no more frames.
    pub fn finish(&mut self) {
        self.frames.close_channel();
    }

    /// The next frame; none when the stream ended well.
    pub async fn next(&mut self) -> Result<Option<ServerFrame>, Status> {
        match self.replies.message().await? {
            Some(frame) => Ok(Some(ServerFrame::decode(frame).map_err(|error| Status::internal(error.to_string()))?)),
            None => Ok(None),
        }
    }

    /// The reply to a frame, which must be the next one.
    pub async fn reply(&mut self, sequence: u64) -> Result<Result<Reply, ClientError>> {
        let frame = self.next().await?.context("the stream ended instead of a reply")?;
        reply_of(frame, sequence)
    }

    /// The reply to a frame, which must be the next one but for events of subscriptions.
    pub async fn reply_among_events(&mut self, sequence: u64) -> Result<Result<Reply, ClientError>> {
        loop {
            let frame = self.next().await?.context("the stream ended instead of a reply")?;
            if frame.subscription > 0 && frame.reply_to == 0 {
                continue;
            }
            return reply_of(frame, sequence);
        }
    }

    /// Reads to the stream's end and returns its status, which must be a refusal.
    pub async fn refusal(&mut self) -> Result<ClientError> {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => bail!("the stream ended well"),
                Err(status) => return Ok(status.into()),
            }
        }
    }
}

fn reply_of(frame: ServerFrame, sequence: u64) -> Result<Result<Reply, ClientError>> {
    ensure!(frame.reply_to == sequence, "reply to {} instead of {sequence}: {frame:?}", frame.reply_to);
    match frame.body.context("a reply without a body")? {
        Reply::Status(status) => Ok(Err(status.into())),
        body => Ok(Ok(body)),
    }
}

/// Messages as the bytes they are.
#[derive(Debug, Clone, Copy, Default)]
struct AsBytes;

impl Codec for AsBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = AsBytes;
    type Decoder = AsBytes;

    fn encoder(&mut self) -> AsBytes {
        AsBytes
    }

    fn decoder(&mut self) -> AsBytes {
        AsBytes
    }
}

impl Encoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.reserve(message.len());
        into.put(message);
        Ok(())
    }
}

impl Decoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
