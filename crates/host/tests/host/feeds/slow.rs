//! Followers that read slowly, or not at all.

use std::time::Duration;

use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, follow_messages_response};
use tokio::time::timeout;

use super::{LAB, LOG, revisions};
use crate::cluster::{Cluster, ONE_HOST, PATIENCE};

/// More than the ring of a channel and all buffers on the way hold.
const MANY: u64 = 12_000;
const BODY_BYTES: usize = 1 << 10;

#[tokio::test]
async fn who_reads_late_gets_everything_once_and_holds_nobody_up() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    let mut author = ada.begin("lab").await.unwrap();
    let [mut slow, mut quick, mut never] =
        [ada.begin("lab").await.unwrap(), ada.begin("lab").await.unwrap(), ada.begin("lab").await.unwrap()];
    for stream in [&mut slow, &mut quick, &mut never] {
        stream.follow(1, 1, LOG, 0).await;
        stream.follow(2, 2, LAB, 0).await;
    }
    let author = tokio::spawn(async move { author.post_many(1..=MANY, BODY_BYTES).await });
    let (mut log, mut room) = (Vec::new(), Vec::new());
    take_all(&mut quick, MANY as usize, &mut log, &mut room).await;
    let posted = timeout(PATIENCE, author).await.expect("the author is held up").unwrap();
    assert!(log == posted && room == posted, "{}", differences(&log, &room, &posted));

    let (mut log, mut room) = (Vec::new(), Vec::new());
    take_all(&mut slow, MANY as usize, &mut log, &mut room).await;
    assert!(log == posted && room == posted, "{}", differences(&log, &room, &posted));
}

/// The first places where what was seen is not what was posted; all of it would be too long to print.
fn differences(log: &[u64], room: &[u64], posted: &[u64]) -> String {
    let first = |seen: &[u64]| seen.iter().zip(posted).find(|(seen, posted)| seen != posted).map(|(a, b)| (*a, *b));
    format!("(seen, posted) first differ at {:?} in the log and {:?} in the room", first(log), first(room))
}

async fn take_all(stream: &mut crate::calls::Stream, count: usize, log: &mut Vec<u64>, room: &mut Vec<u64>) {
    while log.len() < count || room.len() < count {
        let frame = stream.next().await.unwrap();
        let Some(Body::EventBatch(batch)) = frame.body else { panic!("{frame:?}") };
        let events = revisions(&batch.events().unwrap());
        assert!(events.last().is_none_or(|last| *last >= frame.revision));
        match frame.subscription {
            1 => log.extend(events),
            _ => room.extend(events),
        }
    }
}

#[tokio::test]
async fn what_retention_removed_is_told_by_a_gap() {
    let cluster = Cluster::start(ONE_HOST).await;
    let (leader, _, ada) = cluster.with_room("lab", "ada").await;
    let retention = v1::MessageRetention { max_messages: 10, ..Default::default() };
    let request = v1::UpdateRoomRequest { name: LAB.into(), message_retention: Some(retention), ..Default::default() };
    let room = ada.rooms().update_room(ada.request(request)).await.unwrap().into_inner().room.unwrap();
    assert_eq!(room.message_retention.unwrap().max_messages, 10);

    let mut author = ada.begin("lab").await.unwrap();
    let posted = author.post_many(1..=50, 10).await;
    cluster.clock(leader).advance(Duration::from_secs(5));
    let look = async {
        loop {
            let request = v1::FollowMessagesRequest { parent: LAB.into(), after_revision: posted[4] };
            let mut stream = ada.messaging().follow_messages(ada.request(request)).await.unwrap().into_inner();
            let first = stream.message().await.unwrap().unwrap();
            if let Some(follow_messages_response::Body::Gap(gap)) = first.body
                && gap.to_revision == posted[39]
            {
                assert_eq!((gap.from_revision, first.revision), (posted[4], posted[39]));
                return stream;
            }
        }
    };
    let mut stream = timeout(PATIENCE, look).await.expect("the log is never trimmed");
    let mut kept = Vec::new();
    while kept.len() < 10 {
        match stream.message().await.unwrap().unwrap().body.unwrap() {
            follow_messages_response::Body::EventBatch(batch) => kept.extend(revisions(&batch.events().unwrap())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kept, posted[40..]);

    // The room's followers are told as well.
    let mut reader = ada.begin("lab").await.unwrap();
    reader.ask_of(1, 1, super::subscribe(LAB, posted[4]));
    let frames = [reader.next().await.unwrap(), reader.next().await.unwrap()];
    assert!(matches!(frames[0].body, Some(Body::Subscribed(_))));
    let Some(Body::Gap(gap)) = &frames[1].body else { panic!("{frames:?}") };
    assert_eq!((gap.from_revision, gap.to_revision), (posted[4], posted[39]));
    let kept = reader.until_live(1).await;
    assert_eq!(revisions(&kept).into_iter().filter(|revision| *revision > 0).collect::<Vec<_>>(), posted[40..]);
}
