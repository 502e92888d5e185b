//! How many tests passed, failed and were skipped, read from what test executables print.
//!
//! The test harness knows no test that decides to skip itself: such a one passes, and says in a line of its own that it
//! did not run. It counts as skipped alone.

use std::fmt;
use std::ops::AddAssign;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Tally {
    pub const ONE_PASSED: Tally = Tally { passed: 1, failed: 0, skipped: 0 };
    /// Something that should have run and did not counts as one failed test.
    pub const ONE_FAILED: Tally = Tally { passed: 0, failed: 1, skipped: 0 };

    /// Reads `test result: ok. 3 passed; 0 failed; 0 ignored; …`; any other line is none.
    pub fn from_result_line(line: &str) -> Option<Tally> {
        let counts = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
        let count =
            |what: &str| counts.split(';').find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok());
        Some(Tally { passed: count("passed")?, failed: count("failed")?, skipped: 0 })
    }

    /// Whether a line is `skipped: <test>: <reason>`.
    pub fn is_skipped_line(line: &str) -> bool {
        line.strip_prefix("skipped: ").is_some_and(|rest| rest.contains(": "))
    }

    /// So many of the passed tests did not run.
    pub fn skip(&mut self, tests: u64) {
        let tests = tests.min(self.passed);
        self.passed -= tests;
        self.skipped += tests;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The line that CI reads: alone, nothing before or after it.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.02s";
        assert_eq!(Tally::from_result_line(line), Some(Tally { passed: 12, failed: 3, skipped: 0 }));
        let line = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(Tally::from_result_line(line), Some(Tally::ONE_PASSED));
    }

    #[test]
    fn other_lines_are_not_results() {
        for line in
            ["", "test names::tests::result ... ok", "running 3 tests", "test result: what", "3 passed, 0 failed"]
        {
            assert_eq!(Tally::from_result_line(line), None, "{line}");
        }
    }

    #[test]
    fn the_closing_line_is_plain() {
        let mut tally = Tally { passed: 40, failed: 1, skipped: 0 };
        tally += Tally { passed: 2, failed: 0, skipped: 0 };
        assert_eq!(tally.to_string(), "42 passed, 1 failed");
    }

    #[test]
    fn a_skipped_test_has_not_passed() {
        assert!(Tally::is_skipped_line("skipped: power_cuts: no right to make namespaces"));
        assert!(!Tally::is_skipped_line("test skipped: it ... ok") && !Tally::is_skipped_line("skipped:"));
        let mut tally = Tally { passed: 5, failed: 0, skipped: 0 };
        tally.skip(2);
        assert_eq!(tally.to_string(), "3 passed, 0 failed, 2 skipped");
    }
}
