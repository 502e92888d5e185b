//! Recorded editing traces: what real people typed, edit by edit.
//!
//! Found through `CONCLAVE_TRACES`. Where that is not set a seeded generator stands in, and says so: it keeps every
//! property of the test but that the input is real.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

/// One edit: at `position` delete so many characters, then insert. Positions count characters; traces are ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch(pub usize, pub usize, pub String);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Transaction {
    pub patches: Vec<Patch>,
}

/// A sequential trace: applied in order to an empty text it gives `end`.
#[derive(Debug, Clone, Deserialize)]
pub struct Trace {
    #[serde(rename = "endContent")]
    pub end: String,
    #[serde(rename = "txns")]
    pub transactions: Vec<Transaction>,
}

/// Loads a trace by name, or stands in for it with a generated one of about as many edits.
pub fn load(name: &str, stand_in_edits: usize) -> Result<Trace> {
    let Some(folder) = env::var_os("CONCLAVE_TRACES").map(PathBuf::from) else {
        eprintln!("CONCLAVE_TRACES is not set: a generated trace of {stand_in_edits} edits stands in for {name}");
        return Ok(generate(0x5eed, stand_in_edits));
    };
    let path = folder.join(format!("{name}.json.gz"));
    let file = File::open(&path).with_context(|| format!("trace {}", path.display()))?;
    let mut json = String::new();
    GzDecoder::new(file).read_to_string(&mut json)?;
    let trace: Trace = serde_json::from_str(&json)?;
    ensure!(trace.end.is_ascii(), "positions count characters; this test takes ASCII traces only");
    Ok(trace)
}

/// A text that edits are applied to.
#[derive(Debug, Default)]
pub struct Text(Vec<u8>);

impl Text {
    pub fn apply(&mut self, patch: &Patch) -> Result<()> {
        let Patch(position, deleted, inserted) = patch;
        ensure!(position + deleted <= self.0.len(), "an edit reaches past the end: edits are lost or out of order");
        self.0.splice(*position..position + deleted, inserted.bytes());
        Ok(())
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("not UTF-8")
    }
}

/// Mostly typing, some deleting, by a fixed seed (xorshift).
fn generate(mut seed: u64, edits: usize) -> Trace {
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below.max(1) as u64) as usize
    };
    let mut text = Text::default();
    let mut transactions = Vec::with_capacity(edits);
    for _ in 0..edits {
        let length = text.0.len();
        let patch = match random(10) {
            0 if length > 8 => Patch(random(length - 4), 1 + random(3), String::new()),
            _ => Patch(random(length + 1), 0, char::from(b'a' + random(26) as u8).to_string()),
        };
        text.apply(&patch).expect("generated edits fit the text");
        transactions.push(Transaction { patches: vec![patch] });
    }
    Trace { end: text.as_str().to_owned(), transactions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_trace_rebuilds_its_own_end() {
        let trace = generate(7, 2_000);
        let mut text = Text::default();
        for patch in trace.transactions.iter().flat_map(|transaction| &transaction.patches) {
            text.apply(patch).expect("applies");
        }
        assert_eq!(text.as_str(), trace.end);
    }

    #[test]
    fn a_lost_edit_is_noticed() {
        let trace = generate(7, 2_000);
        let mut text = Text::default();
        let mut failed = false;
        for patch in trace.transactions.iter().skip(1).flat_map(|transaction| &transaction.patches) {
            failed |= text.apply(patch).is_err();
        }
        assert!(failed || text.as_str() != trace.end);
    }
}
