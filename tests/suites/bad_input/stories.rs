//! Mistakes that take more than one step.

mod never_reads;
mod poison;
mod presence;
mod room_limits;
mod subscriptions;
mod tampering;

use std::pin::Pin;

use anyhow::{Context, Result, ensure};
use conclave_auth::{OpenRooms, Rights};
use conclave_client::ClientError;
use conclave_proto::v1::ack_deliveries_response::Result as AckResult;
use conclave_proto::v1::client_frame::Body;
use conclave_proto::v1::server_frame::Body as Reply;
use conclave_proto::v1::{
    AckDeliveriesRequest, ClientFrame, DeleteRoomRequest, DeliveryId, ErrorReason as Reason, GetQueueRequest,
    GetRoomRequest, Hello, ListQueuesRequest, NewItem, ReceiveItemsRequest, SendItemsRequest, UpdateRoomRequest,
};
use conclave_tests::raw::RawSession;
use conclave_types::limits::{MAX_ITEM_BYTES, MAX_UNACKNOWLEDGED_BYTES, MAX_UNACKNOWLEDGED_FRAMES};
use prost::Message;
use prost_types::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use super::calls::{ack, receive, send};
use super::expected::{invalid, refused};
use super::place::{OTHER_ROOM, Place, ROOM, make_room};

type Story<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

pub fn all(place: &Place) -> Vec<(&'static str, Story<'_>)> {
    let mut all = of_sessions(place);
    all.extend(poison::all(place));
    all.extend(tampering::all(place));
    all.extend(presence::all(place));
    all.extend(subscriptions::all(place));
    all.extend(room_limits::all(place));
    all.extend(never_reads::all(place));
    all
}

fn of_sessions(place: &Place) -> Vec<(&'static str, Story<'_>)> {
    vec![
        ("a late acknowledgement", Box::pin(late_acknowledgement(place))),
        ("one foreign delivery among good ones", Box::pin(one_foreign_delivery(place))),
        ("a request id for two requests", Box::pin(request_id_for_two_requests(place))),
        ("two attachments of one session", Box::pin(two_attachments(place))),
        ("one token attached twice", Box::pin(attached_again_with_the_same_token(place))),
        ("a resume token of another room", Box::pin(resume_token_of_another_room(place))),
        ("a resume token of another participant", Box::pin(resume_token_of_another_participant(place))),
        ("more frames than the window", Box::pin(more_frames_than_the_window(place))),
        ("more bytes than the window", Box::pin(more_bytes_than_the_window(place))),
        ("a room deleted under its session", Box::pin(room_deleted_under_its_session(place))),
        ("frames behind one that ended the stream", Box::pin(frames_behind_a_fatal_one(place))),
        ("an update after another one", Box::pin(update_after_another(place))),
        ("a resume token of a room that was there", Box::pin(resume_token_of_a_former_room(place))),
        ("numbers at their ends", Box::pin(numbers_at_their_ends(place))),
        ("acknowledging what was never sent", Box::pin(acknowledging_what_was_never_sent(place))),
        ("deadlines at their ends", Box::pin(deadlines_at_their_ends(place))),
        ("bytes that are no HTTP", Box::pin(bytes_that_are_no_http(place))),
    ]
}

async fn late_acknowledgement(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/late";
    place.client.send_items(send(queue, 1)).await?;
    let lease = Some(Duration { seconds: 1, nanos: 0 });
    let first = place.client.receive_items(ReceiveItemsRequest { lease, ..receive(queue) }).await?;
    ensure!(first.deliveries.len() == 1, "nothing received");
    // Waits until the lease has ended.
    let wait = Some(Duration { seconds: 10, nanos: 0 });
    let second = place.client.receive_items(ReceiveItemsRequest { wait, ..receive(queue) }).await?;
    let id = second.deliveries.first().and_then(|delivery| delivery.id).context("not delivered again")?;
    ensure!(id == DeliveryId { item: 1, attempt: 2 }, "{id:?}");

    ensure!(results(place, ack(queue, &[(1, 1)])).await? == [AckResult::Stale], "the late one counted");
    let too_high = place.client.ack_deliveries(ack(queue, &[(1, 3)])).await.err().context("attempt 3 counted")?;
    refused(Code::InvalidArgument, Reason::DeliveryUnknown).with("index", 0).check(&too_high)?;
    let both = results(place, ack(queue, &[(1, 2), (1, 1)])).await?;
    ensure!(both == [AckResult::Acked, AckResult::Stale], "{both:?}");
    let again = results(place, ack(queue, &[(1, 2)])).await?;
    ensure!(again == [AckResult::AlreadyAcked], "{again:?}");
    Ok(())
}

async fn one_foreign_delivery(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/foreign";
    place.client.send_items(send(queue, 2)).await?;
    place.client.receive_items(receive(queue)).await?;
    let error = place.client.ack_deliveries(ack(queue, &[(1, 1), (2, 1), (3, 1)])).await.err().context("accepted")?;
    refused(Code::InvalidArgument, Reason::DeliveryUnknown).with("index", 2).check(&error)?;
    ensure!(leased(place, queue).await? == 2, "some were acknowledged");
    let both = results(place, ack(queue, &[(1, 1), (2, 1)])).await?;
    ensure!(both == [AckResult::Acked; 2], "{both:?}");
    Ok(())
}

async fn request_id_for_two_requests(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/repeated";
    let request = SendItemsRequest { request_id: "only-once".into(), ..send(queue, 1) };
    let first = place.client.send_items(request.clone()).await?;
    let again = place.client.send_items(request).await?;
    ensure!(first == again, "sent twice: {first:?}, {again:?}");
    let other = AckDeliveriesRequest { request_id: "only-once".into(), ..ack(queue, &[(1, 1)]) };
    let error = place.client.ack_deliveries(other).await.err().context("accepted")?;
    invalid("request_id").check(&error)
}

async fn two_attachments(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/attached";
    let (mut older, welcome) = place.admin.attach(hello(ROOM, &[])).await?;
    older.ask(1, Body::SendItems(send(queue, 1)));
    served(&mut older, 1).await?;

    let (mut newer, resumed) = place.admin.attach(hello(ROOM, &welcome.resume_token)).await?;
    ensure!(resumed.resumed, "the session was not taken up");
    // Still on the older stream: too late.
    older.ask(2, Body::SendItems(send(queue, 1)));
    let superseded = refused(Code::Aborted, Reason::Superseded);
    superseded.check(&older.refusal().await?)?;
    newer.ask(2, Body::SendItems(send(queue, 1)));
    match newer.reply(2).await?? {
        Reply::SendItems(sent) => ensure!(sent.first_item == 2, "the older stream's frame had its effect: {sent:?}"),
        other => anyhow::bail!("{other:?}"),
    }
    // The newer attachment is in use, so the older token is worth nothing now.
    let error = place.admin.attach(hello(ROOM, &welcome.resume_token)).await.err().context("attached")?;
    superseded.check(&error.into())?;
    newer.ask(3, Body::SendItems(send(queue, 1)));
    served(&mut newer, 3).await
}

/// A client whose Welcome was lost comes back with the token it had; the stream that nobody listens to ends.
async fn attached_again_with_the_same_token(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/unwelcome";
    let (mut session, welcome) = place.admin.attach(hello(ROOM, &[])).await?;
    session.ask(1, Body::SendItems(send(queue, 1)));
    served(&mut session, 1).await?;
    let (mut lost, _) = place.admin.attach(hello(ROOM, &welcome.resume_token)).await?;
    let (mut newest, welcome) = place.admin.attach(hello(ROOM, &welcome.resume_token)).await?;
    ensure!(welcome.resumed, "the session was not taken up");
    refused(Code::Aborted, Reason::Superseded).check(&lost.refusal().await?)?;
    newest.ask(2, Body::SendItems(send(queue, 1)));
    served(&mut newest, 2).await?;
    ensure!(ready(place, queue).await? == 2, "not the two items");
    Ok(())
}

async fn resume_token_of_another_room(place: &Place) -> Result<()> {
    let (mut session, welcome) = place.admin.attach(hello(ROOM, &[])).await?;
    session.ask(1, Body::SendItems(send("rooms/here/queues/other", 1)));
    served(&mut session, 1).await?;
    let error = place.admin.attach(hello(OTHER_ROOM, &welcome.resume_token)).await.err().context("attached")?;
    refused(Code::PermissionDenied, Reason::ResumeTokenInvalid).check(&error.into())?;
    still_there(&mut session).await
}

async fn resume_token_of_another_participant(place: &Place) -> Result<()> {
    let (mut session, welcome) = place.admin.attach(hello(ROOM, &[])).await?;
    session.ask(1, Body::SendItems(send("rooms/here/queues/other", 1)));
    served(&mut session, 1).await?;
    let thief = place.raw.with_token(&place.token("thief", OpenRooms::All, Rights::admin())?)?;
    let error = thief.attach(hello(ROOM, &welcome.resume_token)).await.err().context("attached")?;
    refused(Code::PermissionDenied, Reason::ResumeTokenInvalid).check(&error.into())?;
    still_there(&mut session).await
}

async fn more_frames_than_the_window(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/window";
    let (mut session, _) = place.admin.attach(hello(ROOM, &[])).await?;
    let last = MAX_UNACKNOWLEDGED_FRAMES as u64;
    for sequence in 1..=last + 1 {
        session.ask(sequence, Body::SendItems(send(queue, 1)));
    }
    for sequence in 1..=last {
        served(&mut session, sequence).await?;
    }
    exceeds(&mut session, last + 1).await?;
    // Acknowledged, the window is open again.
    acknowledging(&mut session, last + 2, last + 1, Body::SendItems(send(queue, 1)));
    served(&mut session, last + 2).await
}

async fn more_bytes_than_the_window(place: &Place) -> Result<()> {
    let item = NewItem { body: vec![0; MAX_ITEM_BYTES].into(), ..Default::default() };
    let send = SendItemsRequest { parent: "rooms/here/queues/heavy".into(), items: vec![item], ..Default::default() };
    let (mut session, _) = place.admin.attach(hello(ROOM, &[])).await?;
    // One fewer than what bodies alone would fill: names and envelopes take room as well.
    let fit = (MAX_UNACKNOWLEDGED_BYTES / MAX_ITEM_BYTES - 1) as u64;
    for sequence in 1..=fit + 1 {
        session.ask(sequence, Body::SendItems(send.clone()));
    }
    for sequence in 1..=fit {
        served(&mut session, sequence).await?;
    }
    exceeds(&mut session, fit + 1).await?;
    acknowledging(&mut session, fit + 2, fit, Body::SendItems(send));
    served(&mut session, fit + 2).await
}

async fn room_deleted_under_its_session(place: &Place) -> Result<()> {
    let room = "rooms/short-lived";
    make_room(&place.client, room).await?;
    let (mut session, _) = place.admin.attach(hello(room, &[])).await?;
    place.client.delete_room(DeleteRoomRequest { name: room.into(), ..Default::default() }).await?;
    let gone = refused(Code::NotFound, Reason::RoomNotFound);
    gone.check(&session.refusal().await?)?;
    let error = place.admin.attach(hello(room, &[])).await.err().context("attached")?;
    gone.check(&error.into())?;
    // The name is free at once, and the new room is another one.
    make_room(&place.client, room).await
}

/// The room of that name is another one now, and the session was not in it.
async fn resume_token_of_a_former_room(place: &Place) -> Result<()> {
    let room = "rooms/rebuilt";
    make_room(&place.client, room).await?;
    let (mut session, welcome) = place.admin.attach(hello(room, &[])).await?;
    session.ask(1, Body::SendItems(send("rooms/rebuilt/queues/jobs", 1)));
    served(&mut session, 1).await?;
    place.client.delete_room(DeleteRoomRequest { name: room.into(), ..Default::default() }).await?;
    make_room(&place.client, room).await?;
    let error = place.admin.attach(hello(room, &welcome.resume_token)).await.err().context("attached")?;
    refused(Code::PermissionDenied, Reason::ResumeTokenInvalid).check(&error.into())
}

/// The largest numbers are numbers: no sum of theirs runs over, on the host or in the state machine.
async fn numbers_at_their_ends(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/ends";
    let sent_sequence = u64::MAX;
    let (mut session, welcome) = place.admin.attach(Hello { sent_sequence, ..hello(ROOM, &[]) }).await?;
    session.ask(u64::MAX - 1, Body::SendItems(send(queue, 1)));
    served(&mut session, u64::MAX - 1).await?;
    session.ask(u64::MAX, Body::ReceiveItems(receive(queue)));
    served(&mut session, u64::MAX).await?;
    session.ask(1, Body::SendItems(send(queue, 1)));
    let behind = refused(Code::InvalidArgument, Reason::SequenceInvalid).with("sequence", 1).with("last", u64::MAX);
    behind.check(&session.refusal().await?)?;

    let unanswered = Hello { sent_sequence, unanswered: true, ..hello(ROOM, &welcome.resume_token) };
    let (mut session, _) = place.admin.attach(unanswered).await?;
    acknowledging(&mut session, u64::MAX, u64::MAX, Body::SendItems(send(queue, 1)));
    let reply = session.reply(u64::MAX).await?;
    ensure!(reply.is_ok() || reply.is_err_and(|error| error.reason == Some(Reason::NotApplied)), "a strange refusal");
    let pages = ListQueuesRequest { parent: ROOM.into(), page_size: 1_000, ..Default::default() };
    place.client.list_queues(pages).await?;
    Ok(())
}

/// A client that claims to hold replies it cannot have is not believed, and harms only itself.
async fn acknowledging_what_was_never_sent(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/never";
    let (mut session, _) = place.admin.attach(hello(ROOM, &[])).await?;
    acknowledging(&mut session, 1, u64::MAX, Body::SendItems(send(queue, 1)));
    let error = session.reply(1).await?.err().context("applied")?;
    refused(Code::Aborted, Reason::NotApplied).check(&error)?;
    let error = ready(place, queue).await.err().context("the queue was made")?;
    let error = error.downcast::<ClientError>()?;
    refused(Code::NotFound, Reason::QueueNotFound).check(&error)
}

async fn deadlines_at_their_ends(place: &Place) -> Result<()> {
    let get = || {
        let request = GetRoomRequest { name: ROOM.into(), ..Default::default() };
        vec![bytes::Bytes::from(request.encode_to_vec())]
    };
    for timeout in ["99999999H", "99999999S", "10S", "an hour", "", "-1S", "999999999999S"] {
        let call = place.admin.with_text("grpc-timeout", timeout)?.call("RoomService/GetRoom", get()).await;
        ensure!(call.is_ok(), "with a timeout of {timeout:?}: {call:?}");
    }
    // No time at all is rarely enough; which of the processes on the way notices first is open.
    let late = place.admin.with_text("grpc-timeout", "0n")?.call("RoomService/GetRoom", get()).await;
    let code = late.map_or_else(|status| status.code(), |_| Code::Ok);
    let allowed = [Code::Ok, Code::DeadlineExceeded, Code::Cancelled, Code::Unavailable];
    ensure!(allowed.contains(&code), "{code:?}");
    Ok(())
}

async fn frames_behind_a_fatal_one(place: &Place) -> Result<()> {
    let queue = "rooms/here/queues/behind";
    let (mut session, _) = place.admin.attach(hello(ROOM, &[])).await?;
    session.ask(1, Body::SendItems(send(queue, 1)));
    served(&mut session, 1).await?;
    session.send_bytes(vec![0xff; 40]);
    session.ask(2, Body::SendItems(send(queue, 1)));
    refused(Code::InvalidArgument, Reason::Malformed).check(&session.refusal().await?)?;
    ensure!(ready(place, queue).await? == 1, "a frame behind the malformed one had its effect");
    Ok(())
}

async fn update_after_another(place: &Place) -> Result<()> {
    let room = "rooms/contested";
    make_room(&place.client, room).await?;
    let get = GetRoomRequest { name: room.into(), ..Default::default() };
    let etag = place.client.get_room(get.clone()).await?.room.context("no room")?.etag;
    let update = |author: &str| UpdateRoomRequest {
        name: room.into(),
        metadata: [("author".to_owned(), author.to_owned())].into(),
        etag: etag.clone(),
        ..Default::default()
    };
    place.client.update_room(update("first")).await?;
    let error = place.client.update_room(update("second")).await.err().context("overwritten")?;
    refused(Code::Aborted, Reason::EtagMismatch).check(&error)?;
    let metadata = place.client.get_room(get).await?.room.context("no room")?.metadata;
    ensure!(metadata["author"] == "first", "{metadata:?}");
    Ok(())
}

/// Neither listener minds; it hangs up.
async fn bytes_that_are_no_http(place: &Place) -> Result<()> {
    for address in [&place.gateway_address, &place.host_address] {
        let noise: Vec<u8> = (0..4_096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for bytes in
            [noise.as_slice(), b"GET / HTTP/1.1\r\nhost: here\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"]
        {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(bytes).await?;
            stream.shutdown().await?;
            // Whatever it answers, it comes to an end. It may also reset the connection, having unread bytes.
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
    }
    Ok(())
}

fn hello(room: &str, resume_token: &[u8]) -> Hello {
    Hello { room: room.into(), resume_token: resume_token.to_vec().into(), ..Default::default() }
}

async fn served(session: &mut RawSession, sequence: u64) -> Result<()> {
    session.reply(sequence).await?.map(|_| ()).with_context(|| format!("frame {sequence}"))
}

async fn still_there(session: &mut RawSession) -> Result<()> {
    session.ask(2, Body::GetRoom(GetRoomRequest { name: ROOM.into(), ..Default::default() }));
    served(session, 2).await.context("the owner's session was harmed")
}

async fn exceeds(session: &mut RawSession, sequence: u64) -> Result<()> {
    let error: ClientError = session.reply(sequence).await?.err().context("the window has no end")?;
    refused(Code::ResourceExhausted, Reason::WindowExceeded).check(&error)
}

/// Acknowledges in a frame of its own and asks on.
fn acknowledging(session: &mut RawSession, sequence: u64, acknowledged: u64, body: Body) {
    session.send(&ClientFrame { acknowledged, ..Default::default() });
    session.ask(sequence, body);
}

async fn results(place: &Place, request: AckDeliveriesRequest) -> Result<Vec<AckResult>> {
    Ok(place.client.ack_deliveries(request).await?.results().collect())
}

async fn ready(place: &Place, queue: &str) -> Result<u64> {
    let request = GetQueueRequest { name: queue.into(), ..Default::default() };
    Ok(place.client.get_queue(request).await?.queue.context("no queue")?.ready_count)
}

async fn leased(place: &Place, queue: &str) -> Result<u64> {
    let request = GetQueueRequest { name: queue.into(), ..Default::default() };
    Ok(place.client.get_queue(request).await?.queue.context("no queue")?.leased_count)
}
