//! What the page of metrics says of queues.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::calls::{AckResult, refusal};

const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// The page of a host, fetched as Prometheus does.
async fn page(cluster: &Cluster) -> String {
    let mut stream = TcpStream::connect(cluster.address(0)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: host\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut page)).await.expect("the host is silent").unwrap();
    page
}

/// The figures of a metric by shard.
fn figures(page: &str, name: &str) -> Vec<u64> {
    let marks = [0, 1].map(|shard| format!("conclave_queue_{name}{{shard=\"{shard}\"}} "));
    let figure = |mark: &String| page.lines().find_map(|line| line.strip_prefix(mark.as_str()));
    marks.iter().map(|mark| figure(mark).unwrap_or_else(|| panic!("no {mark}in {page}")).parse().unwrap()).collect()
}

/// Waits until the gauges of waiting receivers, full ones and streams are so, and returns the page that says it.
async fn page_where(cluster: &Cluster, shard: usize, gauges: [u64; 3]) -> String {
    let looks = async {
        loop {
            let page = page(cluster).await;
            let names = ["receivers_waiting", "receivers_full", "delivery_streams"];
            if names.map(|name| figures(&page, name)[shard]) == gauges {
                return page;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    timeout(PATIENCE, looks).await.expect("the gauges never came to this")
}

#[tokio::test]
async fn the_page_of_metrics_counts_what_happens_to_items() {
    let (cluster, ada) = with_queue(plain()).await;
    let shard = usize::from(cluster.shard_of("lab").0);
    let known = |body| v1::NewItem { message_id: "known".into(), ..item(body) };
    ada.send(batch(JOBS, vec![item("a"), item("b"), item("c"), item("d"), known("e"), known("e again")]))
        .await
        .unwrap();
    let leased = ada.receive(up_to(JOBS, 4)).await.unwrap();
    ada.ack_all(&leased[..2]).await;
    assert_eq!(ada.ack(JOBS, &[id(&leased[0])]).await.unwrap(), [AckResult::AlreadyAcked], "counts once");
    ada.nack(nack(&leased[2..3])).await.unwrap();
    ada.nack(reject(&leased[3..], "no use")).await.unwrap();
    let taken = ada.receive(v1::ReceiveItemsRequest { take: true, lease: None, ..up_to(JOBS, 1) }).await.unwrap();
    assert_eq!(taken.len(), 1);
    // Refused: nothing happened.
    refusal(ada.send(batch("rooms/lab/queues/jobs", Vec::new())).await);

    // One that is left fills the consumer; nobody sends to the other queue.
    let mut consuming = ada.consume(consume("worker", 1)).await.unwrap();
    assert_eq!(consuming.next().await.len(), 1);
    let waits = ada.clone();
    let waits = tokio::spawn(async move { waits.receive(receive_request(OTHER, LONG, LEASE)).await });
    let page = page_where(&cluster, shard, [1, 1, 1]).await;
    let counters = ["sent", "delivered", "acked", "given_back", "rejected"].map(|what| {
        let figures = figures(&page, &format!("items_{what}_total"));
        assert_eq!(figures[1 - shard], 0, "nothing happens in the other shard");
        figures[shard]
    });
    assert_eq!(counters, [5, 6, 3, 1, 1], "{page}");
    assert!(!page.contains("lab") && !page.contains("jobs"), "names of rooms and queues stay out: {page}");

    drop(consuming);
    ada.send(batch(OTHER, vec![item("at last")])).await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap().len(), 1);
    let page = page_where(&cluster, shard, [0, 0, 0]).await;
    assert_eq!(["sent", "delivered"].map(|what| figures(&page, &format!("items_{what}_total"))[shard]), [6, 7]);
}
