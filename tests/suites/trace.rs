//! A recorded paper is typed through the gateway into a queue of four real processes, and rebuilt on the other side,
//! while the host that leads the room is killed with SIGKILL and comes back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use conclave_tests::alone::{lose_leader, with_cluster};
use conclave_tests::progress::Progress;
use conclave_tests::trace::{self, Text, Trace};
use conclave_tests::typist::type_and_rebuild;

/// Longest time that clients may stand still while a host is lost and another takes over.
const LONGEST_GAP: Duration = Duration::from_secs(3);
fn report(what: &str, progress: &Progress) -> Result<()> {
    let (gap, at) = progress.longest_gap();
    eprintln!("{what}: {} events, longest gap {gap:.2?} from {at:.2?}", progress.events());
    ensure!(gap <= LONGEST_GAP, "{what} stood still for {gap:?}, allowed are {LONGEST_GAP:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typed_paper_survives_the_loss_of_its_host() {
    with_cluster(|cluster| async move {
        let Trace { end, transactions } = trace::load("automerge-paper", 40_000)?;
        let count = transactions.len() as u64;
        let client = cluster.lock().await.client_with_room("author", "paper").await?;
        let (sent, acked) = (Arc::new(Progress::begin()), Arc::new(Progress::begin()));
        let typing =
            type_and_rebuild(&client, "paper", "edits", Arc::new(transactions), 3, sent.clone(), acked.clone());
        // Midway through the typing; the consumers are behind it.
        let losing = lose_leader(cluster.clone(), "paper", &sent, count / 2);
        let (text, ()) = tokio::try_join!(typing, losing)?;
        report("sends", &sent)?;
        report("acknowledgements", &acked)?;
        ensure!(sent.events() == count && acked.events() == count, "every item is sent and acknowledged once");
        ensure!(text == end, "the rebuilt text differs from the trace's end");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_sessions_each_keep_their_own_order_through_the_loss_of_a_host() {
    const SESSIONS: usize = 64;
    const EDITS: usize = 1_500;
    with_cluster(|cluster| async move {
        let mut trace = trace::load("automerge-paper", EDITS)?;
        trace.transactions.truncate(EDITS);
        let mut expected = Text::default();
        for patch in trace.transactions.iter().flat_map(|transaction| &transaction.patches) {
            expected.apply(patch)?;
        }
        let transactions = Arc::new(trace.transactions);
        let client = cluster.lock().await.client_with_room("authors", "papers").await?;
        let all = Arc::new(Progress::begin());
        let typing = (0..SESSIONS).map(|index| {
            let (client, transactions, all) = (client.clone(), transactions.clone(), all.clone());
            async move {
                let (sent, acked) = (Arc::new(Progress::begin()), Arc::new(Progress::begin()));
                let queue = format!("edits-{index}");
                let typed = type_and_rebuild(&client, "papers", &queue, transactions, 1, sent, acked.clone());
                let watching = forward(&acked, &all, EDITS as u64);
                let (text, ()) = tokio::try_join!(typed, watching)?;
                Ok::<_, anyhow::Error>((index, text, acked.longest_gap()))
            }
        });
        let losing = lose_leader(cluster.clone(), "papers", &all, (SESSIONS * EDITS / 2) as u64);
        let (typed, ()) = tokio::try_join!(futures::future::try_join_all(typing), losing)?;
        let mut longest = (Duration::ZERO, Duration::ZERO);
        for (index, text, gap) in typed {
            ensure!(text == expected.as_str(), "session {index} rebuilt another text");
            longest = longest.max(gap);
        }
        let (gap, at) = longest;
        eprintln!("{SESSIONS} sessions: longest gap of one {gap:.2?} from {at:.2?}");
        ensure!(gap <= LONGEST_GAP, "a session stood still for {gap:?}, allowed are {LONGEST_GAP:?}");
        Ok(())
    })
    .await;
}

/// Adds one session's progress to the sum as it comes.
async fn forward(one: &Progress, all: &Progress, until: u64) -> Result<()> {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let mut seen = 0;
    while seen < until {
        look.tick().await;
        let events = one.events();
        all.note(events - seen);
        seen = events;
    }
    Ok(())
}
