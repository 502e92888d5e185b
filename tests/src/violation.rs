//! Broken promises, told apart from tests that could not be carried out.
//!
//! A suite that fails proves something only if it says which promise was broken. The mutation check looks for these
//! words, so a harness that stumbles over a planted bug is not taken for one that caught it.

/// A promise of the product that does not hold.
#[derive(Debug)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "violation: {}", self.0)
    }
}

impl std::error::Error for Violation {}

/// Returns a [`Violation`] from the function unless the promise is kept.
#[macro_export]
macro_rules! promise {
    ($kept:expr, $($words:tt)+) => {
        if !$kept {
            return Err($crate::violation::Violation(format!($($words)+)).into());
        }
    };
}
