//! Judges a history: pure functions, one invariant a file, each with a history that it refuses and one that it accepts.
//!
//! ```text
//! History ── each invariant ──► violations? ──► Verdict::Violations
//!                                  │ none
//!                                  └─ enough happened? ──► Verdict::Ok or Verdict::NotEnoughEvidence
//! ```
//!
//! An operation with an unknown outcome may have happened at any time since it was asked, or never: no check takes it for
//! either. The names of the invariants are those of `docs/guarantees.md`.

mod acknowledged;
mod dead_letters;
mod delays;
mod deliveries;
mod denied;
mod documents;
mod evidence;
mod followers;
mod groups;
mod leases;
mod linearizable;
mod once;
mod order;
mod phantoms;
mod queues;
mod reads;
mod rooms;
mod sessions;
#[cfg(test)]
mod story;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::history::{History, Value};
pub use evidence::{Demand, Tally};
pub use leases::{check as overlaps, soonest};

/// Violations of one invariant that are told; more of the same do not say more.
const TOLD: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub room: usize,
    pub what: String,
}

#[derive(Debug)]
pub enum Verdict {
    Ok(Tally),
    Violations(Tally, Vec<Violation>),
    /// Nothing is wrong, and too little happened to say so.
    NotEnoughEvidence(Tally, Vec<String>),
}

/// What one invariant finds in one room.
type Check = fn(&History, usize) -> Vec<String>;

/// Every invariant by its name.
pub const INVARIANTS: [(&str, Check); 17] = [
    ("revisions agree with real time", order::real_time),
    ("one revision for each change", order::unique),
    ("acknowledged messages are in the log", acknowledged::messages),
    ("nothing that nobody wrote", phantoms::check),
    ("one effect for each write", once::check),
    ("a session's writes keep their order", sessions::check),
    ("acknowledged history is not denied", denied::check),
    ("strong reads are complete", reads::check),
    ("acknowledged items are delivered, and never after their acknowledgement", queues::check),
    ("leases of an item do not overlap", leases::check),
    ("a group's items are delivered one after the other", groups::check),
    ("an item is not delivered before its time", delays::check),
    ("dead letters tell their story", dead_letters::check),
    ("followers are told the whole log", followers::check),
    ("documents converge", documents::check),
    ("documents are linearizable", linearizable::check),
    ("rooms are linearizable, with conditions", rooms::check),
];

/// Judges a run. `demand`: what must have happened for it to count.
pub fn judge(history: &History, demand: &Demand) -> Verdict {
    let tally = Tally::of(history);
    let violations = violations(history);
    if !violations.is_empty() {
        return Verdict::Violations(tally, violations);
    }
    let missing = demand.missing(history, &tally);
    if missing.is_empty() { Verdict::Ok(tally) } else { Verdict::NotEnoughEvidence(tally, missing) }
}

/// Everything that is wrong in a history, however little happened.
pub fn violations(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (invariant, check) in INVARIANTS {
        for room in 0..history.rooms.len() {
            let found = check(history, room).into_iter().take(TOLD);
            violations.extend(found.map(|what| Violation { invariant, room, what }));
        }
    }
    violations
}

impl Verdict {
    pub fn tally(&self) -> &Tally {
        match self {
            Verdict::Ok(tally) | Verdict::Violations(tally, _) | Verdict::NotEnoughEvidence(tally, _) => tally,
        }
    }

    /// The tally of a good run; of any other an error that says what is wrong and where the history lies, which is
    /// written into `folder`.
    pub fn settle(self, name: &str, history: &History, folder: &Path) -> Result<Tally> {
        let what = match self {
            Verdict::Ok(tally) => return Ok(tally),
            Verdict::Violations(_, violations) => {
                let told: Vec<String> = violations.iter().map(Violation::to_string).collect();
                format!("{} violations:\n{}", violations.len(), told.join("\n"))
            }
            Verdict::NotEnoughEvidence(_, missing) => format!("not enough evidence:\n{}", missing.join("\n")),
        };
        let path: PathBuf = folder.join(format!("{name}-{}.json", history.seed));
        history.save(&path)?;
        bail!("{name}, seed {}: {what}\nhistory: {}", history.seed, path.display())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "room {}: {}: {}", self.room, self.invariant, self.what)
    }
}

/// A value in words.
fn named(value: Option<Value>) -> String {
    value.map_or_else(|| "bytes that nobody wrote".to_owned(), |value| value.to_string())
}
