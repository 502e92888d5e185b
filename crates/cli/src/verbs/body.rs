//! Bodies of items and messages as they are printed: in full for programs, on one line for people.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Most characters of a body in a line that shows it only.
const EXCERPT: usize = 120;

/// JSON as JSON, text as text, other bytes as base64; and which of them it is.
pub fn value(body: &[u8], content_type: &str) -> (Value, &'static str) {
    if is_json(content_type)
        && let Ok(value) = serde_json::from_slice(body)
    {
        return (value, "json");
    }
    let (text, encoding) = text_or_base64(body);
    (json!(text), encoding)
}

/// Bytes as text where they are that, and how they were written.
pub fn text_or_base64(bytes: &[u8]) -> (String, &'static str) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), "text"),
        Err(_) => (STANDARD.encode(bytes), "base64"),
    }
}

/// All of a body on one line. Control characters would move the reader's cursor.
pub fn line(body: &[u8]) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text_or_base64(body).0.chars().map(printable).collect()
}

/// The beginning of a body on one line; of bytes that are no text only how many they are.
pub fn excerpt(body: &[u8]) -> String {
    if std::str::from_utf8(body).is_err() {
        return format!("{} bytes", body.len());
    }
    let line = line(body);
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_text_or_base64_and_says_which() {
        assert_eq!(value(b"{\"a\": 1}", "application/json; charset=utf-8"), (json!({"a": 1}), "json"));
        assert_eq!(value(b"[1]", "application/cloudevents+json"), (json!([1]), "json"));
        assert_eq!(value(b"{", "application/json"), (json!("{"), "text"));
        assert_eq!(value(b"[1]", "text/plain"), (json!("[1]"), "text"));
        assert_eq!(value(&[0xff, 0], "application/json"), (json!("/wA="), "base64"));
    }

    #[test]
    fn a_body_is_one_line_for_people() {
        assert_eq!(line(b"a\r\n\tb\x1b[2J"), "a   b [2J");
        assert_eq!(line(&[0xff, 0]), "/wA=");
        assert_eq!(excerpt(&[0xff, 0]), "2 bytes");
        assert_eq!(excerpt("ä".repeat(EXCERPT).as_bytes()), "ä".repeat(EXCERPT));
        assert_eq!(excerpt("ä".repeat(EXCERPT + 1).as_bytes()), "ä".repeat(EXCERPT) + "…");
    }
}
