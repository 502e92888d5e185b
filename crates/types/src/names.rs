//! Names that users choose. Parsed at the edge; inside, a name is always valid.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a name was refused: which field, which rule, and what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct NameError {
    pub field: &'static str,
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if $check(text) { Ok($name(text.into())) } else { Err(NameError { field: $field, rule: $rule }) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(
    /// A project: the tenant that rooms belong to.
    ProjectId,
    "project",
    is_label,
    "must be 1 to 63 characters of a-z, 0-9 and hyphen, and begin and end with a letter or digit"
);
name!(
    /// A room's name inside its project.
    RoomName,
    "room",
    is_label,
    "must be 1 to 63 characters of a-z, 0-9 and hyphen, and begin and end with a letter or digit"
);
name!(
    /// A queue's name inside its room.
    QueueName,
    "queue",
    is_text,
    "must be 1 to 128 bytes of UTF-8 without control characters and without '/'"
);
name!(
    /// Who acts: the `name` claim of a token.
    ParticipantName,
    "participant",
    is_text,
    "must be 1 to 128 bytes of UTF-8 without control characters and without '/'"
);
name!(
    /// A document's path inside its room, in canonical form.
    DocumentPath,
    "document",
    is_path,
    "must be 1 to 512 bytes of UTF-8 without control characters: segments between single slashes, none of them . or .."
);

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_text(text: &str) -> bool {
    (1..=128).contains(&text.len()) && !text.contains(|c: char| c.is_control() || c == '/')
}

fn is_path(text: &str) -> bool {
    let segment = |segment: &str| !matches!(segment, "" | "." | "..");
    (1..=512).contains(&text.len()) && !text.contains(char::is_control) && text.split('/').all(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_lower_case_and_short() {
        for good in ["a", "my-room", "0", &"x".repeat(63)] {
            assert!(good.parse::<RoomName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "ä", "a/b", &"x".repeat(64)] {
            assert!(bad.parse::<RoomName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_allow_unicode_but_no_control_characters() {
        for good in ["jobs", "Aufträge 2", &"x".repeat(128)] {
            assert!(good.parse::<QueueName>().is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "a/b", "\u{7f}", &"x".repeat(129)] {
            assert!(bad.parse::<QueueName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_canonical() {
        for good in ["a", "notes/Ideen 2.md", ".hidden", "a/..b/c", &"x".repeat(512)] {
            assert!(good.parse::<DocumentPath>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", ".", "a/./b", "../a", "a\nb", &"x".repeat(513)] {
            assert!(bad.parse::<DocumentPath>().is_err(), "{bad}");
        }
    }
}
