//! Makes a group's members what the table lists.
//!
//! Whoever leads a group compares; there is no record of a move that could be left half done, so whoever leads next goes
//! on from what it finds. A listed replica that is no member yet gets the log without a vote; once all of them have it,
//! one change makes exactly the listed ones voters. Writes go on during all of it.
//!
//! A leader with an old table does no harm. It would bring back replicas that a newer table has replaced, but a member is
//! only given a vote after it has answered with the log, and replaced ids answer nowhere: it waits until it hears of the
//! newer table, or of its successor. What it adds meanwhile has no vote, and the next to lead takes it out again. Raft
//! itself refuses a change by a leader that was deposed, and one that was made from members that have changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conclave_raft::{Group, GroupStatus, Leadership, MembershipError, PeerAddress};
use conclave_types::{GroupId, ReplicaId};
use tokio::time::{sleep, timeout};

use crate::TableWatch;
use crate::table::ClusterTable;

/// A new member that lacks no more entries than this is given its vote; the others commit without it meanwhile.
const CAUGHT_UP_WITHIN: u64 = 256;
/// Between two looks at how far a new member has come, which nobody is told of.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// The members of one group, with where they are reached.
pub type Members = BTreeMap<ReplicaId, PeerAddress>;

/// What brings a group closer to what the table lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do.
    Done,
    /// These have no vote and are not listed.
    Remove(BTreeSet<ReplicaId>),
    /// This one is listed and no member yet.
    Add(ReplicaId, PeerAddress),
    /// A new member does not have the log yet.
    Wait,
    /// All who are listed have the log: they become the voters, and nobody else.
    Vote(BTreeSet<ReplicaId>),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconciled {
    /// The members are those of the table; so many changes of the voters it took.
    Equal { changes: u64 },
    /// This replica does not lead the group any more; whoever does goes on.
    NotLeading,
    /// Not in this time: a new member does not answer yet, or a majority does not.
    NotYet,
    /// Not now; worth another attempt.
    Refused(MembershipError),
}

/// The members of a group as the table lists them.
pub fn listed(table: &ClusterTable, group: GroupId) -> Members {
    let members = table.members(group);
    members
        .map(|(member, node)| (member.replica, PeerAddress { node: Some(node.node), address: node.address.clone() }))
        .collect()
}

/// What to do next for a group that this replica leads. Where members are reached is not compared: peers are found by
/// their node.
pub fn next_step(status: &GroupStatus, listed: &Members) -> Step {
    // A table always lists somebody; without any the group would be given up.
    if listed.is_empty() {
        return Step::Done;
    }
    let strays: BTreeSet<_> = status.learners.keys().filter(|learner| !listed.contains_key(learner)).copied().collect();
    if !strays.is_empty() {
        return Step::Remove(strays);
    }
    let is_member = |replica: &ReplicaId| status.voters.contains_key(replica) || status.learners.contains_key(replica);
    if let Some((replica, address)) = listed.iter().find(|(replica, _)| !is_member(replica)) {
        return Step::Add(*replica, address.clone());
    }
    if !status.changing && status.voters.keys().eq(listed.keys()) {
        return Step::Done;
    }
    match status.learners.keys().all(|learner| has_log(status, *learner)) {
        true => Step::Vote(listed.keys().copied().collect()),
        false => Step::Wait,
    }
}

fn has_log(status: &GroupStatus, replica: ReplicaId) -> bool {
    let matched = status.matched.get(&replica).copied().flatten();
    matched.is_some_and(|matched| matched + CAUGHT_UP_WITHIN >= status.last.unwrap_or_default())
}

/// Takes one step after the other, as long as this replica leads and for at most `patience`. Dropping it leaves the group
/// somewhere between two steps, from where the next attempt goes on.
pub async fn reconcile(group: &Group, table: &TableWatch, patience: Duration) -> Reconciled {
    let mut leadership = group.leadership();
    let no_longer_leads = async {
        // An error means that the replica has stopped.
        let _ = leadership.wait_for(|leadership| !matches!(leadership, Leadership::Leader { .. })).await;
    };
    tokio::select! {
        biased;
        () = no_longer_leads => Reconciled::NotLeading,
        done = timeout(patience, take_steps(group, table)) => done.unwrap_or(Reconciled::NotYet),
    }
}

async fn take_steps(group: &Group, table: &TableWatch) -> Reconciled {
    let mut changes = 0;
    loop {
        let listed = table.borrow().as_deref().map(|table| listed(table, group.id())).unwrap_or_default();
        let step = next_step(&group.status(), &listed);
        let taken = match step {
            Step::Done => return Reconciled::Equal { changes },
            Step::Wait => {
                sleep(LOOK_PAUSE).await;
                Ok(())
            }
            Step::Remove(strays) => {
                tracing::info!(group = group.id().0, ?strays, "members that the table does not list leave");
                group.remove_learners(strays).await
            }
            Step::Add(replica, address) => {
                tracing::info!(group = group.id().0, replica = replica.0, address = address.address, "a new member");
                group.add_learner(replica, address).await
            }
            Step::Vote(voters) => {
                let voted = group.change_members(voters.clone()).await;
                if voted.is_ok() {
                    changes += 1;
                    tracing::info!(group = group.id().0, ?voters, "the voters are those that the table lists");
                }
                voted
            }
        };
        if let Err(refused) = taken {
            return Reconciled::Refused(refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use conclave_raft::LeaderTerm;

    use super::*;

    fn members(ids: &[u64]) -> Members {
        ids.iter().map(|id| (ReplicaId(*id), PeerAddress { node: None, address: format!("host-{id}:1") })).collect()
    }

    fn status(voters: &[u64], learners: &[u64], matched: &[(u64, Option<u64>)]) -> GroupStatus {
        GroupStatus {
            group: GroupId(3),
            replica: ReplicaId(1),
            leadership: Leadership::Leader { term: LeaderTerm { term: 4, leader: ReplicaId(1) } },
            term: 4,
            last: Some(1_000),
            committed: Some(1_000),
            applied: Some(1_000),
            purged: None,
            changing: false,
            voters: members(voters),
            learners: members(learners),
            matched: matched.iter().map(|(id, index)| (ReplicaId(*id), *index)).collect(),
            fatal: None,
        }
    }

    fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().copied().map(ReplicaId).collect()
    }

    #[test]
    fn a_replaced_member_is_added_waited_for_and_given_the_vote() {
        let listed = members(&[1, 2, 9]);
        let added = Step::Add(ReplicaId(9), listed[&ReplicaId(9)].clone());
        assert_eq!(next_step(&status(&[1, 2, 3], &[], &[]), &listed), added);
        for behind in [&[][..], &[(9, None)], &[(9, Some(743))]] {
            assert_eq!(next_step(&status(&[1, 2, 3], &[9], behind), &listed), Step::Wait, "{behind:?}");
        }
        let vote = Step::Vote(ids(&[1, 2, 9]));
        assert_eq!(next_step(&status(&[1, 2, 3], &[9], &[(9, Some(744))]), &listed), vote);
        assert_eq!(next_step(&status(&[1, 2, 9], &[], &[]), &listed), Step::Done);
    }

    #[test]
    fn a_change_that_stopped_between_its_two_steps_is_completed() {
        let listed = members(&[1, 2, 9]);
        let between = GroupStatus { changing: true, ..status(&[1, 2, 3, 9], &[], &[]) };
        assert_eq!(next_step(&between, &listed), Step::Vote(ids(&[1, 2, 9])));
        // The union looks complete where the new voters are a part of the old ones.
        let between = GroupStatus { changing: true, ..status(&[1, 2, 9], &[], &[]) };
        assert_eq!(next_step(&between, &listed), Step::Vote(ids(&[1, 2, 9])));
    }

    #[test]
    fn who_is_not_listed_leaves_first() {
        let listed = members(&[1, 2, 9]);
        assert_eq!(next_step(&status(&[1, 2, 3], &[7, 8, 9], &[]), &listed), Step::Remove(ids(&[7, 8])));
        assert_eq!(next_step(&status(&[1, 2, 3], &[], &[]), &members(&[])), Step::Done);
    }
}
