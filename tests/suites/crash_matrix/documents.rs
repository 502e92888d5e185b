//! The swap of a compacted document.

use std::time::Duration;

use anyhow::{Result, ensure};
use conclave_client::Client;
use conclave_document::Replica;
use conclave_proto::v1::{DescribeDocumentRequest, PushUpdateRequest};
use conclave_tests::faults::with_faults;
use conclave_tests::promise;
use conclave_types::YjsClient;
use conclave_workload::news::{ROOT, described_text};
use conclave_workload::patience::eventually;
use tokio::time::timeout;

use super::{ROOM, VICTIM, on_images};

/// Pastes: enough for a compaction, which is due from 64 KiB of updates on.
const PASTES: usize = 12;
const PASTE_BYTES: usize = 8 << 10;
/// The host that leads may stand at its crash point.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Before the swap nothing has happened, and after it the document means the same.
#[test]
fn a_document_is_whole_on_either_side_of_its_compaction() {
    let name = "documents::a_document_is_whole_on_either_side_of_its_compaction";
    with_faults(name, on_images(), &[], async |site| {
        let client = site.cluster().client_with_room("author", ROOM).await?;
        for (round, point) in ["compaction-swap", "compaction-swapped"].into_iter().enumerate() {
            let document = format!("rooms/{ROOM}/documents/pasted-{round}");
            site.restart_armed(VICTIM, point)?;
            let text = paste(&client, &document).await?;
            site.stopped(VICTIM).await?;
            site.cut_power(&[VICTIM])?;
            site.start_disarmed(VICTIM)?;
            site.make_leader(VICTIM, ROOM).await?;
            let describe = DescribeDocumentRequest { name: document, ..Default::default() };
            let described = || async { Ok(client.describe_document(describe.clone()).await?) };
            let served = described_text(&eventually("a document", described).await?.json)?;
            promise!(
                served == text,
                "after a crash at {point} a document of {} bytes has {}",
                text.len(),
                served.len()
            );
        }
        Ok(())
    });
}

async fn paste(client: &Client, document: &str) -> Result<String> {
    let mut replica = Replica::new(YjsClient(1));
    for number in 0..PASTES {
        let mut pasted = format!("paste {number} ");
        pasted.push_str(&"x".repeat(PASTE_BYTES));
        let update = replica.insert(ROOT, 0, &pasted)?;
        let push = PushUpdateRequest { name: document.to_owned(), update, ..Default::default() };
        // What is pushed twice changes nothing the second time.
        let pushed = || async { Ok(timeout(ATTEMPT, client.push_update(push.clone())).await??) };
        eventually("a paste", pushed).await?;
    }
    let text = replica.text(ROOT);
    ensure!(text.len() > PASTES * PASTE_BYTES, "{} bytes were typed", text.len());
    Ok(text)
}
