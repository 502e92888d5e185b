//! Recorded editing traces: what real people typed, edit by edit.
//!
//! Found through `CONCLAVE_TRACES`. Where that is not set a seeded generator stands in, and says so: it keeps every
//! property of the test but that the input is real.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

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

/// A trace of several authors who typed at the same time.
#[derive(Debug, Clone)]
pub struct ConcurrentTrace {
    pub end: String,
    /// The edits of each author, in the author's order.
    pub authors: Vec<Vec<AuthoredEdit>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoredEdit {
    /// The edits of each author that the text holds when this one is made: positions mean that text and no other.
    pub after: Vec<usize>,
    pub patches: Vec<Patch>,
}

/// As it is recorded: a graph in which each edit names the edits that it follows.
#[derive(Deserialize)]
struct Recorded {
    #[serde(rename = "endContent")]
    end: String,
    #[serde(rename = "numAgents")]
    authors: usize,
    #[serde(rename = "txns")]
    transactions: Vec<RecordedEdit>,
}

#[derive(Deserialize)]
struct RecordedEdit {
    parents: Vec<usize>,
    agent: usize,
    patches: Vec<Patch>,
}

/// Loads a trace of several authors by name, or stands in for it with one whose two authors take turns.
pub fn load_concurrent(name: &str, stand_in_edits: usize) -> Result<ConcurrentTrace> {
    let Some(path) = path_of(name) else {
        eprintln!("CONCLAVE_TRACES is not set: two generated authors who take turns stand in for {name}");
        return Ok(take_turns(generate(0x5eed, stand_in_edits)));
    };
    let recorded: Recorded = serde_json::from_str(&read(&path)?)?;
    ensure!(recorded.end.is_ascii(), "positions count characters; this test takes ASCII traces only");
    let mut authors: Vec<Vec<AuthoredEdit>> = vec![Vec::new(); recorded.authors];
    // How many edits of each author every edit has behind it, itself included.
    let mut behind: Vec<Vec<usize>> = Vec::with_capacity(recorded.transactions.len());
    for RecordedEdit { parents, agent, patches } in recorded.transactions {
        let mut after = vec![0; authors.len()];
        for parent in parents {
            let parent = behind.get(parent).context("an edit follows a later one")?;
            after.iter_mut().zip(parent).for_each(|(seen, more)| *seen = (*seen).max(*more));
        }
        ensure!(after[agent] == authors[agent].len(), "an author did not see an own edit");
        authors[agent].push(AuthoredEdit { after: after.clone(), patches });
        after[agent] += 1;
        behind.push(after);
    }
    Ok(ConcurrentTrace { end: recorded.end, authors })
}

/// Deals a sequential trace out to two authors, some edits at a time.
fn take_turns(trace: Trace) -> ConcurrentTrace {
    const TURN: usize = 20;
    let mut authors = vec![Vec::new(), Vec::new()];
    for (index, transaction) in trace.transactions.into_iter().enumerate() {
        let after = authors.iter().map(Vec::len).collect();
        authors[index / TURN % 2].push(AuthoredEdit { after, patches: transaction.patches });
    }
    ConcurrentTrace { end: trace.end, authors }
}

/// Loads a trace by name, or stands in for it with a generated one of about as many edits.
pub fn load(name: &str, stand_in_edits: usize) -> Result<Trace> {
    let Some(path) = path_of(name) else {
        eprintln!("CONCLAVE_TRACES is not set: a generated trace of {stand_in_edits} edits stands in for {name}");
        return Ok(generate(0x5eed, stand_in_edits));
    };
    let trace: Trace = serde_json::from_str(&read(&path)?)?;
    ensure!(trace.end.is_ascii(), "positions count characters; this test takes ASCII traces only");
    Ok(trace)
}

fn path_of(name: &str) -> Option<PathBuf> {
    env::var_os("CONCLAVE_TRACES").map(|folder| PathBuf::from(folder).join(format!("{name}.json.gz")))
}

fn read(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("trace {}", path.display()))?;
    let mut json = String::new();
    GzDecoder::new(file).read_to_string(&mut json)?;
    Ok(json)
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
