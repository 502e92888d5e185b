//! How many tests passed and failed, read from what test executables print.

use std::fmt;
use std::ops::AddAssign;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
}

impl Tally {
    /// Something that should have run and did not counts as one failed test.
    pub const ONE_FAILED: Tally = Tally { passed: 0, failed: 1 };

    /// Reads `test result: ok. 3 passed; 0 failed; 0 ignored; …`; any other line is none.
    pub fn from_result_line(line: &str) -> Option<Tally> {
        let counts = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
        let count =
            |what: &str| counts.split(';').find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok());
        Some(Tally { passed: count("passed")?, failed: count("failed")? })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The line that CI reads: alone, nothing before or after it.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.02s";
        assert_eq!(Tally::from_result_line(line), Some(Tally { passed: 12, failed: 3 }));
        let line = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(Tally::from_result_line(line), Some(Tally { passed: 1, failed: 0 }));
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
        let mut tally = Tally { passed: 40, failed: 1 };
        tally += Tally { passed: 2, failed: 0 };
        assert_eq!(tally.to_string(), "42 passed, 1 failed");
    }
}
