//! Two systems held against each other: each round gives a ratio, and the middle one counts.
//!
//! Both are measured in turn, so that what disturbs the machine for a while disturbs neighbours, and the ratio of two
//! neighbours hardly knows of it.

/// The ratios of `ours` to `theirs`, round by round.
#[derive(Debug, Clone)]
pub struct Ratios {
    rounds: Vec<f64>,
}

impl Ratios {
    pub fn of(ours: impl IntoIterator<Item = f64>, theirs: impl IntoIterator<Item = f64>) -> Ratios {
        Ratios { rounds: ours.into_iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect() }
    }

    pub fn median(&self) -> f64 {
        median(self.rounds.iter().copied())
    }

    /// All of them in the order they were measured.
    pub fn each(&self) -> String {
        let rounds: Vec<_> = self.rounds.iter().map(|ratio| format!("{ratio:.2}")).collect();
        format!("rounds {}", rounds.join(" "))
    }
}

/// The middle value; of an even number the upper of the two, of none nothing that is a number.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_within_rounds_and_not_of_medians() {
        let ratios = Ratios::of([100.0, 10.0, 90.0], [50.0, 20.0, 30.0]);
        assert_eq!(ratios.median(), 2.0);
        assert_eq!(ratios.each(), "rounds 2.00 0.50 3.00");
    }

    #[test]
    fn the_middle_of_nothing_is_not_a_number() {
        assert!(median([]).is_nan());
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
    }
}
