//! gRPC over HTTP/2 as the gateway speaks it: heads, trailers and bodies, without a codec between.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;

use crate::auth::Voucher;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Headers of the caller that go on to the host: the trace context, nothing else.
const FORWARDED_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// A status as a whole response.
pub fn refused(status: &Status) -> http::Response<Body> {
    status.clone().into_http()
}

/// The head of a response whose body and trailers follow.
pub fn response(body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A successful response of one message.
pub fn answered(framed: Bytes) -> http::Response<Body> {
    let trailers = trailers(&Status::ok(""));
    response(Body::new(Full::new(framed).with_trailers(async move { Some(Ok(trailers)) })))
}

/// A status as trailers.
pub fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(4);
    if status.add_header(&mut trailers).is_err() {
        // Only a message that is no header value fails, and messages are escaped.
        trailers.clear();
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// What a forwarded request takes over from the caller's.
#[derive(Clone)]
pub struct Onward {
    headers: HeaderMap,
    voucher: Voucher,
}

impl Onward {
    /// `voucher`: signs the claims that stand in for the caller's token.
    pub fn new(caller: &HeaderMap, voucher: Voucher) -> Self {
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, GRPC);
        for name in FORWARDED_HEADERS {
            if let Some(value) = caller.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        Onward { headers, voucher }
    }

    /// `timeout`: what is left of the caller's deadline.
    pub fn request(&self, path: &'static str, timeout: Option<Duration>, body: Body) -> http::Request<Body> {
        let mut request = http::Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = http::Uri::from_static(path);
        let mut headers = self.headers.clone();
        let (name, claims) = self.voucher.header();
        headers.insert(name, claims);
        if let Some(timeout) = timeout {
            headers.insert(GRPC_TIMEOUT, timeout_value(timeout));
        }
        *request.headers_mut() = headers;
        request
    }
}

/// A body of one message.
pub fn single(framed: Bytes) -> Body {
    Body::new(Full::new(framed))
}

/// The caller's `grpc-timeout`; none when absent or unreadable.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// At most eight digits, in milliseconds as long as they suffice.
fn timeout_value(timeout: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let text = match timeout.as_millis() {
        ms if ms <= MOST => format!("{ms}m"),
        ms => format!("{}S", (ms / 1_000).min(MOST)),
    };
    HeaderValue::try_from(text).expect("digits and a letter are a header value")
}

/// The status that a head or trailers carry; none if they carry none.
pub fn status_of(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

/// A part of a body that is being written.
#[derive(Debug)]
pub enum Part {
    Data(Bytes),
    /// The end of a response.
    Trailers(HeaderMap),
    /// The end of a request.
    End,
}

/// Parts of one body that may wait to be sent: enough that writer and connection do not take turns, few enough that
/// waiting to send is felt where it matters.
const PARTS_WAITING: usize = 8;

/// A body written part by part, to its last part. A sender that is dropped before it has sent that resets the stream:
/// whoever reads never takes what was broken off for what was ended. When the reader goes, sending fails.
pub fn written() -> (mpsc::Sender<Part>, Body) {
    let (sender, parts) = mpsc::channel(PARTS_WAITING);
    (sender, Body::new(Written { parts, ended: false }))
}

struct Written {
    parts: mpsc::Receiver<Part>,
    /// The last part was taken.
    ended: bool,
}

impl http_body::Body for Written {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.parts.poll_recv(context).map(|part| {
            self.ended = !matches!(part, Some(Part::Data(_)));
            match part {
                Some(Part::Data(bytes)) => Some(Ok(Frame::data(bytes))),
                Some(Part::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Part::End) => None,
                None => Some(Err(Status::cancelled("broken off"))),
            }
        })
    }
}

/// What is read next from a body.
#[derive(Debug)]
pub enum Read {
    Data(Bytes),
    /// The end; a response's end carries its trailers.
    End(Option<HeaderMap>),
    /// The stream broke.
    Broken,
}

/// Reads on. May be dropped at any time without losing what was not returned.
pub async fn read(body: &mut Body) -> Read {
    match body.frame().await {
        None => Read::End(None),
        Some(Err(error)) => {
            tracing::debug!(%error, "stream broke");
            Read::Broken
        }
        Some(Ok(frame)) => match frame.into_data() {
            Ok(bytes) => Read::Data(bytes),
            Err(frame) => Read::End(frame.into_trailers().ok()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_ends_with_its_last_part_and_breaks_without_one() {
        let data = || Part::Data(Bytes::from_static(b"data"));
        for (last, ends) in [(Some(Part::End), true), (Some(Part::Trailers(HeaderMap::new())), true), (None, false)] {
            let (sender, mut body) = written();
            for part in [Some(data()), last].into_iter().flatten() {
                sender.send(part).await.unwrap();
            }
            drop(sender);
            assert!(matches!(read(&mut body).await, Read::Data(_)));
            assert_eq!(matches!(read(&mut body).await, Read::End(_)), ends);
            assert!(matches!(read(&mut body).await, Read::End(None)), "nothing follows");
        }
    }

    #[test]
    fn timeouts_survive_their_text_form() {
        let read =
            |text: &'static str| timeout(&HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(text))]));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
        for bad in ["", "m", "12", "123456789m", "-1S", "1x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(timeout_value(Duration::from_millis(1_500)), "1500m");
        assert_eq!(timeout_value(Duration::from_secs(1_000_000)), "1000000S");
    }

    #[test]
    fn a_status_survives_its_trailers() {
        let status = Status::with_details(tonic::Code::NotFound, "nö room\n", Bytes::from_static(&[1, 2, 255]));
        let seen = status_of(&trailers(&status)).unwrap();
        assert_eq!((seen.code(), seen.message(), seen.details()), (status.code(), status.message(), status.details()));
    }
}
