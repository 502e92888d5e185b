//! What a verb sends: bodies from the command line and from files.

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::flags::Payload;

/// A body and its media type.
pub struct Content {
    pub body: Bytes,
    pub content_type: &'static str,
}

/// One content for each that was given: JSON first, then texts, then files.
pub fn read(payload: Payload) -> Result<Vec<Content>> {
    let of = |content_type| move |text: String| Content { body: text.into(), content_type };
    let json = payload.json.into_iter().map(of("application/json"));
    let texts = payload.text.into_iter().map(of("text/plain; charset=utf-8"));
    let mut contents: Vec<Content> = json.chain(texts).collect();
    for path in &payload.file {
        let body = std::fs::read(path).with_context(|| path.display().to_string())?.into();
        contents.push(Content { body, content_type: "application/octet-stream" });
    }
    Ok(contents)
}
