//! Recorded papers are typed into documents of four real processes, edit by edit and by as many clients as wrote them,
//! while the host that leads the room is killed with SIGKILL and comes back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use conclave_client::Session;
use conclave_document::Replica;
use conclave_proto::v1::DescribeDocumentRequest;
use conclave_tests::alone::{lose_leader, with_cluster};
use conclave_tests::editor::{open, read_to, subscribe, type_as};
use conclave_tests::progress::Progress;
use conclave_tests::trace::{self, AuthoredEdit, ConcurrentTrace, Trace};
use conclave_workload::news::{ROOT, described_text};
use tokio::sync::watch;

/// Longest time that an author may stand still while a host is lost and another takes over.
const LONGEST_GAP: Duration = Duration::from_secs(3);

fn by_one_author(trace: Trace) -> ConcurrentTrace {
    let edits = trace.transactions.into_iter().enumerate();
    let author = edits.map(|(index, edit)| AuthoredEdit { after: vec![index], patches: edit.patches }).collect();
    ConcurrentTrace { end: trace.end, authors: vec![author] }
}

/// Types a trace as its authors did while two others read along, and compares every copy with the trace's end.
async fn type_and_compare(room: &'static str, trace: ConcurrentTrace) {
    with_cluster(|cluster| async move {
        let client = cluster.lock().await.client_with_room("author", room).await?;
        let document = format!("rooms/{room}/documents/drafts/paper.md");
        let count: usize = trace.authors.iter().map(Vec::len).sum();
        let progress = Arc::new(Progress::begin());
        let (clocks, known) = watch::channel(None);
        let reader = Session::open(&client, &format!("rooms/{room}")).await?;
        let reading = [subscribe(&reader, &document).await?, open(&client, &document).await?];
        let reading = reading.map(|source| tokio::spawn(read_to(source, known.clone())));
        let mut typing = Vec::new();
        for (author, edits) in trace.authors.into_iter().enumerate() {
            let session = Session::open(&client, &format!("rooms/{room}")).await?;
            let (document, progress) = (document.clone(), progress.clone());
            typing.push(tokio::spawn(async move {
                let typed = type_as(&session, &document, author, &edits, &progress).await;
                session.close().await;
                typed
            }));
        }
        lose_leader(cluster.clone(), room, &progress, count as u64 / 2).await?;
        let mut replicas: Vec<Replica> = Vec::new();
        for typed in typing {
            replicas.push(typed.await??);
        }
        // What the authors did not wait for any more: the end is everybody's clocks.
        let mut end = replicas[0].clocks();
        for (client, clock) in replicas.iter().flat_map(|replica| replica.clocks()) {
            let held = end.entry(client).or_default();
            *held = clock.max(*held);
        }
        clocks.send_replace(Some(end.clone()));
        for reader in reading {
            ensure!(reader.await?? == trace.end, "a reader's text differs from the trace's end");
        }
        let late = read_to(open(&client, &document).await?, known).await?;
        reader.close().await;
        ensure!(late == trace.end, "who opens the document at the end reads another text");
        let described =
            client.describe_document(DescribeDocumentRequest { name: document, ..Default::default() }).await?;
        ensure!(described_text(&described.json)? == trace.end, "the described text differs from the trace's end");
        for replica in replicas.iter().filter(|replica| replica.clocks() == end) {
            ensure!(replica.text(ROOT) == trace.end, "an author's text differs from the trace's end");
        }
        let (gap, at) = progress.longest_gap();
        eprintln!("{count} updates, longest gap {gap:.2?} from {at:.2?}");
        ensure!(gap <= LONGEST_GAP, "the authors stood still for {gap:?}, allowed are {LONGEST_GAP:?}");
        let panics = cluster.lock().await.panics();
        ensure!(panics.is_empty(), "{panics:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paper_typed_into_a_document_survives_the_loss_of_its_host() {
    type_and_compare("paper", by_one_author(trace::load("automerge-paper", 40_000).expect("a trace"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn source_code_typed_into_a_document_survives_the_loss_of_its_host() {
    type_and_compare("component", by_one_author(trace::load("sveltecomponent", 18_000).expect("a trace"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_authors_of_one_document_converge_through_the_loss_of_its_host() {
    type_and_compare("friends", trace::load_concurrent("friendsforever", 20_000).expect("a trace")).await;
}
