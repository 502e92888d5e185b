//! Is this folder of the cluster that stands at these addresses?
//!
//! A founder's folder from another cluster with the same list and token opens well: its own replica of the metadata
//! group holds the other cluster's table, and its peers refuse it without a word to whoever started it. So it asks the
//! other hosts which cluster they are of. One host with a wrong folder must not drive away those with the right ones:
//! only when all others, and at least two, are of one other cluster, is it this folder that is wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use conclave_types::{ClusterUuid, NodeUuid};
use futures::future::join_all;
use tokio::time::sleep;

use crate::client::MetaClient;

/// Before those who did not answer are asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// With fewer it cannot be told who is wrong.
const MIN_OTHERS: usize = 2;

/// Returns once another host is of `ours`, or the other cluster that all others are of.
pub(crate) async fn other_cluster(
    client: &MetaClient,
    others: &[String],
    asking: NodeUuid,
    ours: ClusterUuid,
) -> Option<ClusterUuid> {
    if others.len() < MIN_OTHERS {
        return None;
    }
    loop {
        let answers = join_all(others.iter().map(|address| client.probe(address, asking))).await;
        let clusters = answers.into_iter().map(|answer| answer.ok().and_then(|answer| answer.cluster));
        match judge(&clusters.collect::<Vec<_>>(), ours) {
            Verdict::Ours => return None,
            Verdict::Theirs(theirs) => return Some(theirs),
            Verdict::Unknown => sleep(AGAIN).await,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ours,
    Theirs(ClusterUuid),
    Unknown,
}

fn judge(clusters: &[Option<ClusterUuid>], ours: ClusterUuid) -> Verdict {
    if clusters.contains(&Some(ours)) {
        return Verdict::Ours;
    }
    let distinct: BTreeSet<_> = clusters.iter().copied().collect();
    match distinct.into_iter().collect::<Vec<_>>()[..] {
        [Some(theirs)] => Verdict::Theirs(theirs),
        _ => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_wrong_only_if_all_others_are_of_one_other_cluster() {
        let [a, b, c] = [1, 2, 3].map(|byte| ClusterUuid([byte; 16]));
        assert_eq!(judge(&[Some(b), Some(b)], a), Verdict::Theirs(b));
        assert_eq!(judge(&[Some(b), Some(a)], a), Verdict::Ours);
        for unclear in [[None, None], [Some(b), None], [Some(b), Some(c)]] {
            assert_eq!(judge(&unclear, a), Verdict::Unknown, "{unclear:?}");
        }
    }
}
