//! I5: what is purged was applied, and what was applied is in the log.

use super::Sight;

pub fn check(sight: &Sight<'_>) -> Option<String> {
    let replica = sight.replica;
    let (purged, applied, last) = (replica.purged, replica.applied, replica.last);
    // A committed index is learnt anew after a start; what was applied then may be ahead of it.
    let kept = purged <= applied && applied <= last;
    (!kept).then(|| {
        format!(
            "{}, group {}: purged {purged:?}, applied {applied:?}, last {last:?} are out of order",
            sight.machine, replica.group.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::progress::tests::replica;
    use super::*;

    #[test]
    fn a_purge_ahead_of_the_state_is_refused() {
        let mut replica = replica(1);
        (replica.purged, replica.applied, replica.last) = (Some(3), Some(5), Some(9));
        assert_eq!(check(&Sight { machine: "host-0", life: 1, replica: &replica }), None);
        replica.purged = Some(6);
        assert!(check(&Sight { machine: "host-0", life: 1, replica: &replica }).is_some());
        (replica.purged, replica.applied) = (None, Some(10));
        assert!(check(&Sight { machine: "host-0", life: 1, replica: &replica }).is_some());
    }
}
