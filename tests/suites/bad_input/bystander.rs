//! Somebody else, who works in another room all the while and must not notice a thing.

use anyhow::{Context, Result, ensure};
use conclave_client::{Client, Session};
use conclave_proto::v1::{AckDeliveriesRequest, GetRoomRequest, NewItem, ReceiveItemsRequest, SendItemsRequest};
use conclave_tests::cluster::Cluster;
use conclave_types::limits::MAX_BATCH_ITEMS;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const ROOM: &str = "rooms/bystander";
const QUEUE: &str = "rooms/bystander/queues/work";

pub struct Bystander {
    client: Client,
    stop: oneshot::Sender<()>,
    /// Ends with the session and the count of items that it sent.
    sending: JoinHandle<Result<(Session, u64)>>,
}

impl Bystander {
    pub async fn start(cluster: &Cluster) -> Result<Bystander> {
        let client = cluster.client_with_room("bystander", "bystander").await?;
        let session = Session::open(&client, ROOM).await?;
        let (stop, stopped) = oneshot::channel();
        Ok(Bystander { client, stop, sending: tokio::spawn(send_until(session, stopped)) })
    }

    /// Everything that was sent is there, once and in order, and the session has never lost its stream.
    pub async fn finish(self) -> Result<()> {
        let _ = self.stop.send(());
        let (session, sent) = self.sending.await??;
        ensure!(sent > 0, "the bystander never came to send");
        ensure!(session.resumes() == 0, "the bystander's session was lost {} times", session.resumes());
        let mut seen = 0;
        while seen < sent {
            let max_items = MAX_BATCH_ITEMS as u32;
            let receive = ReceiveItemsRequest { parent: QUEUE.into(), max_items, ..Default::default() };
            let deliveries = session.receive_items(receive).await?.deliveries;
            ensure!(!deliveries.is_empty(), "{} of {sent} items are lost", sent - seen);
            for delivery in &deliveries {
                seen += 1;
                ensure!(delivery.body == seen.to_string(), "item {:?} instead of {seen}", delivery.body);
            }
            let ids = deliveries.into_iter().map(|delivery| delivery.id.context("an id")).collect::<Result<_>>()?;
            let ack = AckDeliveriesRequest { parent: QUEUE.into(), deliveries: ids, ..Default::default() };
            session.ack_deliveries(ack).await?;
        }
        session.close().await;
        let room = self.client.get_room(GetRoomRequest { name: ROOM.into(), ..Default::default() }).await?;
        ensure!(room.room.is_some(), "no room");
        Ok(())
    }
}

async fn send_until(session: Session, mut stopped: oneshot::Receiver<()>) -> Result<(Session, u64)> {
    let mut sent = 0_u64;
    while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        sent += 1;
        let items = vec![NewItem { body: sent.to_string().into(), ..Default::default() }];
        let send = SendItemsRequest { parent: QUEUE.into(), items, ..Default::default() };
        let reply = session.send_items(send).await.with_context(|| format!("item {sent}"))?;
        ensure!(reply.first_item == sent, "item {} instead of {sent}", reply.first_item);
    }
    Ok((session, sent))
}
