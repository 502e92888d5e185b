//! What a verb sends: bodies from the command line, from files and from standard input.

use std::io::Read;
use std::path::Path;

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
    let json = payload.json.into_iter().map(|json| Content { body: json.into(), content_type: "application/json" });
    let mut contents: Vec<Content> = json.chain(payload.text.into_iter().map(text)).collect();
    for path in &payload.file {
        let body = read_file(path).with_context(|| path.display().to_string())?;
        contents.push(Content { body, content_type: "application/octet-stream" });
    }
    Ok(contents)
}

/// A text as it is.
pub fn text(text: String) -> Content {
    Content { body: text.into(), content_type: "text/plain; charset=utf-8" }
}

fn read_file(path: &Path) -> std::io::Result<Bytes> {
    if path != Path::new("-") {
        return Ok(std::fs::read(path)?.into());
    }
    let mut body = Vec::new();
    std::io::stdin().lock().read_to_end(&mut body)?;
    Ok(body.into())
}
