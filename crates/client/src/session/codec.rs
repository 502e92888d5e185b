//! Frames on the stream.
//!
//! A frame's body is encoded once, when the caller hands it over; its two numbers are written before it each time it is
//! sent, since `acknowledged` moves on. Concatenated protobuf fields are one message.

use bytes::BufMut;
use conclave_proto::v1::ServerFrame;
use prost::Message;
use prost::encoding::uint64;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::window::Outgoing;

/// Many small frames share a buffer; idle sessions are many, so it starts small.
const BUFFERS: (usize, usize) = (2 << 10, 32 << 10);

/// What is put on a stream.
#[derive(Debug)]
pub enum Sent {
    Frame(Outgoing),
    /// The session goes on with another stream: this one is broken off. To end it would say that the client leaves.
    Abandoned,
}

#[derive(Debug, Default)]
pub struct FrameCodec;

#[derive(Debug)]
pub struct FrameEncoder;

#[derive(Debug)]
pub struct FrameDecoder;

impl Codec for FrameCodec {
    type Encode = Sent;
    type Decode = ServerFrame;
    type Encoder = FrameEncoder;
    type Decoder = FrameDecoder;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> FrameDecoder {
        FrameDecoder
    }
}

impl Encoder for FrameEncoder {
    type Item = Sent;
    type Error = Status;

    fn encode(&mut self, sent: Sent, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match sent {
            Sent::Frame(frame) => write(&frame, buffer),
            // An error resets the stream.
            Sent::Abandoned => return Err(Status::cancelled("the session goes on with another stream")),
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFERS.0, BUFFERS.1)
    }
}

impl Decoder for FrameDecoder {
    type Item = ServerFrame;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<ServerFrame>, Status> {
        ServerFrame::decode(buffer).map(Some).map_err(|error| Status::internal(format!("not a frame: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFERS.0, BUFFERS.1)
    }
}

fn write(frame: &Outgoing, buffer: &mut impl BufMut) {
    if frame.sequence > 0 {
        uint64::encode(1, &frame.sequence, buffer);
    }
    if frame.acknowledged > 0 {
        uint64::encode(2, &frame.acknowledged, buffer);
    }
    buffer.put_slice(&frame.body);
}

#[cfg(test)]
mod tests {
    use conclave_proto::v1::{ClientFrame, Ping, client_frame};

    use super::*;

    #[test]
    fn numbers_before_the_body_make_one_frame() {
        let body = Some(client_frame::Body::Ping(Ping {}));
        let encoded = ClientFrame { body: body.clone(), ..Default::default() }.encode_to_vec();
        let mut bytes = Vec::new();
        write(&Outgoing { sequence: 300, acknowledged: 7, body: encoded.into() }, &mut bytes);
        let seen = ClientFrame::decode(&bytes[..]).unwrap();
        assert_eq!(seen, ClientFrame { sequence: 300, acknowledged: 7, subscription: 0, body });
    }
}
