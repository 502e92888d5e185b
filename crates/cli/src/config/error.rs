//! Why a configuration was refused: always the field and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Where a value, or a name, was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    File { path: PathBuf, line: usize },
    Environment { variable: String },
    Flag { flag: String },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => write!(f, "by default"),
            Source::File { path, line } => write!(f, "in {} line {line}", path.display()),
            Source::Environment { variable } => write!(f, "by the variable {variable}"),
            Source::Flag { flag } => write!(f, "by the flag {flag}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },

    #[error("{} line {line} is not TOML: {reason}", path.display())]
    Syntax { path: PathBuf, line: usize, reason: String },

    /// A name that no option has.
    #[error("there is no option {name}, set {source}; the nearest is {nearest}", source = .place)]
    UnknownName { name: String, place: Source, nearest: String },

    /// A value outside the option's range.
    #[error("{field} is {value}, set {source}, but must be {rule}", source = .place)]
    InvalidValue { field: String, value: String, place: Source, rule: String },

    #[error("{field} is not set: {remedy}")]
    Missing { field: String, remedy: String },

    /// Values that are fine alone and not together.
    #[error("{problem}: {remedy}")]
    Conflict { problem: String, remedy: String },
}
