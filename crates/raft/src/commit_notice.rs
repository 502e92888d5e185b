//! A follower need not be told at once how far is committed.
//!
//! openraft tells it with an append that has no entries, as soon as a commit advances. While entries follow one another
//! the next of them says the same a moment later, and the first doubled the calls between hosts. So such an append waits
//! a little, and goes only if nothing overtakes it.

use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use crate::types::Raft;

/// How long an append without entries waits for one that has some: longer than a group's rounds take under load, and
/// how much later an idle group's followers apply.
pub(crate) const LINGER: Duration = Duration::from_millis(5);

/// The requests of a session with a follower, without those that only say what a later one says too.
///
/// The first goes as it is: it may ask where the logs part. Any later one without entries follows requests that were
/// answered well, so the follower holds all that it names, and its answer would be that of the next.
pub(crate) fn sparing<S>(requests: S) -> BoxStream<'static, AppendEntriesRequest<Raft>>
where
    S: Stream<Item = AppendEntriesRequest<Raft>> + Send + 'static,
{
    let state = (Box::pin(requests.fuse()), true);
    Box::pin(stream::unfold(state, async |(mut requests, is_first)| {
        let mut request = requests.next().await?;
        let until = Instant::now() + LINGER;
        while !is_first && request.entries.is_empty() {
            // Nothing is lost when time ends: the request that is being made stays in the stream.
            let Ok(Some(next)) = timeout_at(until, requests.next()).await else { break };
            request = next;
        }
        Some((request, (requests, false)))
    }))
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;

    use super::*;
    use crate::types::{Entry, EntryPayload, LeaderId, LogId, Vote};

    fn at(index: u64) -> LogId {
        LogId::new(LeaderId { term: 1, node_id: 1 }, index)
    }

    /// With as many entries, and a commit to tell the requests apart.
    fn request(entries: u64, commit: u64) -> AppendEntriesRequest<Raft> {
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: (1..=entries).map(|index| Entry { log_id: at(index), payload: EntryPayload::Blank }).collect(),
            leader_commit: Some(at(commit)),
        }
    }

    fn commit_of(request: Option<AppendEntriesRequest<Raft>>) -> Option<u64> {
        request?.leader_commit.map(|commit| commit.index)
    }

    #[tokio::test(start_paused = true)]
    async fn a_notice_goes_unless_entries_overtake_it() {
        let (mut queue, requests) = mpsc::channel(8);
        let mut spared = sparing(requests);
        let mut send = |entries, commit| queue.try_send(request(entries, commit)).unwrap();

        send(0, 1);
        let begun = Instant::now();
        assert_eq!(commit_of(spared.next().await), Some(1));
        assert_eq!(begun.elapsed(), Duration::ZERO, "the first may be a question");

        send(0, 2);
        send(1, 3);
        assert_eq!(commit_of(spared.next().await), Some(3), "entries say it too");

        send(0, 4);
        let begun = Instant::now();
        assert_eq!(commit_of(spared.next().await), Some(4));
        assert!(begun.elapsed() >= LINGER && begun.elapsed() < 2 * LINGER, "{:?}", begun.elapsed());

        send(0, 5);
        send(0, 6);
        let begun = Instant::now();
        assert_eq!(commit_of(spared.next().await), Some(6));
        assert!(begun.elapsed() < 2 * LINGER, "a second notice waits no longer than the first would have");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_notice_of_a_session_is_not_lost() {
        let (mut queue, requests) = mpsc::channel(8);
        let mut spared = sparing(requests);
        [request(1, 1), request(0, 2)].into_iter().for_each(|request| queue.try_send(request).unwrap());
        drop(queue);
        assert_eq!(commit_of(spared.next().await), Some(1));
        assert_eq!(commit_of(spared.next().await), Some(2));
        assert_eq!(commit_of(spared.next().await), None);
    }
}
