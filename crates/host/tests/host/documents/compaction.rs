//! Each replica compacts and sweeps by itself; what a document says does not change by that.

use bytes::Bytes;
use conclave_document::Replica;
use conclave_proto::v1;
use conclave_room::{LocalHeader, Pairs, TableError, TableReads, read};
use conclave_storage::{EngineView, Family, KeyRange, MemoryEngine};
use conclave_types::{Clocks, DocumentNumber, GroupId, Revision, RoomUid};

use super::{NOTES, TEXT, clocks, replica};
use crate::calls::Caller;
use crate::cluster::{Cluster, THREE_HOSTS, eventually};

/// A host's tables as they are.
struct Tables<'a>(&'a MemoryEngine);

impl TableReads for Tables<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        self.0.get(Family::State, key).map_err(|error| TableError(error.to_string()))
    }

    fn scan(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        let range = KeyRange { from: from.to_vec(), to: to.to_vec() };
        Box::new(self.0.scan(Family::State, range).map(|pair| pair.map_err(|error| TableError(error.to_string()))))
    }
}

const NUMBER: DocumentNumber = DocumentNumber(1);

/// The first document of a room, as each host holds it.
struct Held<'a> {
    cluster: &'a Cluster,
    group: GroupId,
    room: RoomUid,
}

impl Held<'_> {
    fn header(&self, host: usize) -> Option<LocalHeader> {
        read::local_header(&Tables(self.cluster.engine(host)), self.group, self.room, NUMBER).expect("readable")
    }

    /// Whether anything of it is left, in the document's own form or as updates.
    fn is_held(&self, host: usize) -> bool {
        let tables = Tables(self.cluster.engine(host));
        let updates = read::document_updates(&tables, self.group, self.room, NUMBER, Revision(0), 1, usize::MAX);
        self.header(host).is_some() || !updates.expect("readable").is_empty()
    }
}

/// Pushes enough for a compaction.
async fn write_much(ada: &Caller, author: &mut Replica, letter: &str) {
    for _ in 0..5 {
        ada.push(NOTES, author.insert(TEXT, 3, &letter.repeat(20_000)).unwrap()).await.unwrap();
    }
}

async fn compacted(cluster: &Cluster) -> (Held<'_>, Caller, Replica) {
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let room = ada.get_room("lab").await.unwrap().room.unwrap().uid.parse().unwrap();
    let held = Held { cluster, group: cluster.shard_of("lab").group(), room };
    let mut author = replica(1);
    ada.push(NOTES, author.insert(TEXT, 0, "begin").unwrap()).await.unwrap();
    write_much(&ada, &mut author, "a").await;
    for host in 0..3 {
        eventually("a base on every replica", || held.header(host).is_some()).await;
    }
    (held, ada, author)
}

/// Of texts too long to print.
fn assert_same(reader: &Replica, author: &Replica, how: &str) {
    assert!(reader.text(TEXT) == author.text(TEXT), "{how}: the reader has another text");
}

fn after(after_revision: u64) -> v1::OpenDocumentRequest {
    v1::OpenDocumentRequest { name: NOTES.into(), after_revision, ..Default::default() }
}

#[tokio::test]
async fn every_replica_compacts_and_readers_of_any_age_get_the_same_text() {
    let mut cluster = Cluster::start(THREE_HOSTS).await;
    let (_, ada, mut author) = compacted(&cluster).await;
    let mut old = replica(2);
    ada.bring_up(NOTES, &mut old).await;
    ada.push(NOTES, author.delete(TEXT, 0, 3).unwrap()).await.unwrap();
    ada.push(NOTES, author.insert(TEXT, 0, "end").unwrap()).await.unwrap();

    ada.bring_up(NOTES, &mut old).await;
    assert_same(&old, &author, "by an old vector");
    assert_same(&ada.read_document(NOTES).await, &author, "by no vector");
    let mut present = replica(3);
    present.apply(&author.diff(&Clocks::new()).unwrap()).unwrap();
    ada.bring_up(NOTES, &mut present).await;
    assert_same(&present, &author, "by the newest vector");

    // The next leader has a base of its own making.
    let (leader, term) = cluster.leader("lab").await;
    cluster.kill(leader).await;
    cluster.next_leader("lab", term).await;
    let (ada, _) = cluster.at_any_leader("lab", "ada", async |caller| caller.get_room("lab").await).await;
    assert_same(&ada.read_document(NOTES).await, &author, "by no vector, at the next leader");
    let mut early = replica(4);
    early.apply(&replica(5).insert(TEXT, 0, "of its own ").unwrap()).unwrap();
    let live = ada.bring_up(NOTES, &mut early).await;
    ada.push(NOTES, early.diff(&clocks(&live.state_vector)).unwrap()).await.unwrap();
    assert_same(&ada.read_document(NOTES).await, &early, "with what was pushed onto the base");
}

#[tokio::test]
async fn a_document_that_grows_on_is_compacted_again_and_old_cursors_get_the_whole() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (held, ada, mut author) = compacted(&cluster).await;
    let first = [0, 1, 2].map(|host| held.header(host).unwrap().base_revision);
    write_much(&ada, &mut author, "b").await;
    for (host, first) in first.into_iter().enumerate() {
        eventually("another base", || held.header(host).unwrap().base_revision > first).await;
    }
    let newest = ada.push(NOTES, author.delete(TEXT, 0, 3).unwrap()).await.unwrap();
    ada.push(NOTES, author.insert(TEXT, 0, "end").unwrap()).await.unwrap();
    assert_same(&ada.read_document(NOTES).await, &author, "by no vector");

    let mut since_the_beginning = ada.open_document(after(1)).await.unwrap();
    let mut reader = replica(4);
    since_the_beginning.until_live(&mut reader).await;
    assert!(since_the_beginning.states > 0);
    assert_same(&reader, &author, "by a cursor from before what is kept");

    // Whoever has all up to the deletion is sent one push.
    let mut since_the_deletion = ada.open_document(after(newest)).await.unwrap();
    since_the_deletion.until_live(&mut replica(5)).await;
    assert_eq!((since_the_deletion.states, since_the_deletion.updates), (0, 1));
}

#[tokio::test]
async fn what_replicas_hold_of_a_deleted_document_is_swept() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (held, ada, _) = compacted(&cluster).await;
    ada.delete_document(NOTES).await.unwrap();
    for host in 0..3 {
        eventually("nothing is left of it", || !held.is_held(host)).await;
    }
}

#[tokio::test]
async fn what_replicas_hold_of_a_deleted_rooms_documents_is_swept() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (held, ada, _) = compacted(&cluster).await;
    ada.delete_room("lab").await.unwrap();
    for host in 0..3 {
        eventually("nothing is left of it", || !held.is_held(host)).await;
    }
}
