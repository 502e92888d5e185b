//! The smallest scenarios in which each planted bug breaks a promise; the mutation check runs them with the bug planted.
//!
//! On the product they are tests like any other. Each names the promise that it finds broken, see
//! [`conclave_tests::violation`]. Hosts are sound except where the bug is to act: a cluster that cannot even be founded
//! would prove nothing.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use conclave_auth::{CLAIMS_HEADER, Claims, OpenRooms, Rights, Role as ParticipantRole, sign_claims};
use conclave_client::Client;
use conclave_proto::v1::ack_deliveries_response::Result as Acked;
use conclave_proto::v1::{
    AckDeliveriesRequest, CreateRoomRequest, Delivery, ListRoomsRequest, ListRoomsResponse, NewItem,
    ReceiveItemsRequest, SendItemsRequest,
};
use conclave_tests::cluster::{Place, faults_binary, free_address};
use conclave_tests::faults::{on_site, with_faults};
use conclave_tests::promise;
use conclave_tests::raw::RawClient;
use conclave_tests::receipts::Receipts;
use conclave_tests::site::{Disks, IMAGE_MIB, Layout, Site};
use conclave_tests::status::{have_purged_past, log_end};
use conclave_tests::tampering::Tampering;
use conclave_types::Timestamp;
use conclave_workload::patience::eventually;
use prost::Message;
use tokio::time::{Instant, timeout};

const ROOM: &str = "targets";
/// Nothing is planted until a host is made buggy.
const SOUND: [(&str, &str); 1] = [("CONCLAVE_PLANTED_BUG", "")];

/// One shard, so that what is sent last is the last of its log.
fn plain() -> Layout {
    Layout::plain(3, 1)
}

fn on_images() -> Layout {
    Layout { disks: Disks::Images { mib: IMAGE_MIB }, ..plain() }
}

/// Stops every host, which is sound until then, and starts it with the bug.
async fn infect(site: &mut Site) -> Result<()> {
    for host in 0..site.hosts() {
        site.cluster_mut().stop_host(host).await?;
        site.make_buggy(host);
    }
    (0..site.hosts()).try_for_each(|host| site.start_host(host))
}

fn cure_and_start(site: &mut Site, hosts: &[usize]) -> Result<()> {
    for &host in hosts {
        site.make_sound(host);
        site.start_host(host)?;
    }
    Ok(())
}

fn others(site: &Site, host: usize) -> Vec<usize> {
    (0..site.hosts()).filter(|other| *other != host).collect()
}

/// Caught here: a log that is not synced.
#[test]
fn acknowledged_items_survive_a_power_cut_of_all_hosts() {
    let name = "acknowledged_items_survive_a_power_cut_of_all_hosts";
    with_faults(name, on_images(), &SOUND, async |site| {
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        infect(site).await?;
        receipts.send(30).await?;
        let all = [0, 1, 2];
        site.cut_power(&all)?;
        cure_and_start(site, &all)?;
        receipts.settle(&[]).await
    });
}

/// Caught here: an acknowledgement that counts appends which nobody took.
#[test]
fn a_leader_alone_acknowledges_nothing() {
    with_faults("a_leader_alone_acknowledges_nothing", plain(), &SOUND, async |site| {
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        infect(site).await?;
        receipts.send(5).await?;
        let leader = site.cluster().leader_of(ROOM).await?;
        let followers = others(site, leader);
        site.cluster_mut().kill_hosts(&followers)?;
        let lonely = "sent to a leader alone";
        let acknowledged = receipts.try_send(lonely.into(), Duration::from_secs(1)).await;
        site.kill_host(leader)?;
        cure_and_start(site, &followers)?;
        receipts.send(1).await?;
        eprintln!("the leader alone acknowledged: {acknowledged}");
        receipts.settle(&[lonely.into()]).await
    });
}

/// Caught here: an acknowledgement that is accepted whatever its attempt.
#[test]
fn an_attempt_whose_lease_ended_settles_nothing() {
    with_faults("an_attempt_whose_lease_ended_settles_nothing", Layout::plain(1, 1), &[], async |site| {
        let client = site.cluster().client_with_room("consumer", ROOM).await?;
        let queue = format!("rooms/{ROOM}/queues/fenced");
        let items = vec![NewItem { body: "work".into(), ..Default::default() }];
        client.send_items(SendItemsRequest { parent: queue.clone(), items, ..Default::default() }).await?;
        let first = receive(&client, &queue, 1).await?;
        let second = receive(&client, &queue, 600).await?;
        let (first, second) = (first.id.context("an id")?, second.id.context("an id")?);
        ensure!(first.item == second.item && first.attempt < second.attempt, "{first:?}, then {second:?}");
        let late = acknowledge(&client, &queue, first).await?;
        promise!(
            late == Acked::Stale,
            "attempt {} was answered {late:?} while {} was out",
            first.attempt,
            second.attempt
        );
        let right = acknowledge(&client, &queue, second).await?;
        promise!(right == Acked::Acked, "the attempt that was out was answered {right:?}");
        Ok(())
    });
}

/// The next delivery, for which the lease before may have to end.
async fn receive(client: &Client, queue: &str, lease_seconds: i64) -> Result<Delivery> {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let (lease, wait) = (seconds(lease_seconds), seconds(30));
    let request = ReceiveItemsRequest { parent: queue.to_owned(), max_items: 1, lease, wait, ..Default::default() };
    client.receive_items(request).await?.deliveries.pop().context("nothing was delivered")
}

async fn acknowledge(client: &Client, queue: &str, delivery: conclave_proto::v1::DeliveryId) -> Result<Acked> {
    let deliveries = vec![delivery];
    let request = AckDeliveriesRequest { parent: queue.to_owned(), deliveries, ..Default::default() };
    let answered = client.ack_deliveries(request).await?;
    answered.results().next().context("no result")
}

/// Caught here: a read that is served without the proof that this replica leads.
#[test]
fn a_replica_without_a_majority_answers_no_read() {
    /// A host that has started answers at once, with a refusal.
    const ASKED_FOR: Duration = Duration::from_secs(4);
    with_faults("a_replica_without_a_majority_answers_no_read", plain(), &SOUND, async |site| {
        let receipts = Receipts::open(site.cluster(), ROOM).await?;
        let claims = claims(site).await?;
        let leader = site.cluster().leader_of(ROOM).await?;
        let behind = others(site, leader)[0];
        site.kill_host(behind)?;
        let name = "rooms/made-while-it-was-gone".to_owned();
        receipts.client().create_room(CreateRoomRequest { name: name.clone(), ..Default::default() }).await?;
        let rest = others(site, behind);
        site.cluster_mut().kill_hosts(&rest)?;
        site.make_buggy(behind);
        site.start_host(behind)?;
        let address = site.cluster().host_address(behind).to_owned();
        let connected = eventually("a connection", || RawClient::connect(&address)).await?;
        let host = connected.with_binary(CLAIMS_HEADER, &claims);
        let until = Instant::now() + ASKED_FOR;
        let mut refusals = 0;
        while Instant::now() < until {
            let asked = timeout(ASKED_FOR, host.first("RoomService/ListRooms", vec![list_rooms()])).await;
            let Ok(Ok(Some(answer))) = asked else {
                refusals += 1;
                continue;
            };
            let rooms = ListRoomsResponse::decode(answer)?.rooms;
            promise!(
                rooms.iter().any(|room| room.name == name),
                "a read missed a room that was acknowledged before it"
            );
        }
        ensure!(refusals > 0, "the host was never asked");
        Ok(())
    });
}

fn list_rooms() -> bytes::Bytes {
    ListRoomsRequest::default().encode_to_vec().into()
}

/// As a gateway signs them for an administrator.
async fn claims(site: &Site) -> Result<Vec<u8>> {
    let table = site.cluster().table().await?;
    let key = table.token_keys.values().next().context("the cluster has no token key")?;
    let now = Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64);
    let claims = Claims {
        project: key.project.clone(),
        participant: "reader".parse()?,
        role: ParticipantRole::User,
        rooms: OpenRooms::All,
        rights: Rights::admin(),
        expires: now.plus_ms(3_600_000),
    };
    let secret = table.secret.bytes().try_into().context("a secret of 32 bytes")?;
    Ok(sign_claims(&secret, &claims, now))
}

/// Caught here: a leader that goes on leading after a restart. Elections take so long here that it is certainly back
/// before its lease has ended.
#[test]
fn a_restarted_leader_never_leads_its_old_term() {
    let slow = [("CONCLAVE_CLUSTER_ELECTION_MIN_MS", "3000"), ("CONCLAVE_CLUSTER_ELECTION_MAX_MS", "4000")];
    with_faults("a_restarted_leader_never_leads_its_old_term", plain(), &slow, async |site| {
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        receipts.send(5).await?;
        let leader = site.cluster().leader_of(ROOM).await?;
        let before = terms_led(&site.cluster().host_log(leader))?;
        let last = *before.last().with_context(|| format!("host {leader} leads and has not logged it"))?;
        site.kill_host(leader)?;
        let lived = site.cluster().host_log(leader).len();
        site.start_host(leader)?;
        receipts.send(5).await?;
        let after = terms_led(&site.cluster().host_log(leader)[lived..])?;
        promise!(after.iter().all(|term| *term > last), "a leader of term {last} was restarted and led {after:?}");
        receipts.settle(&[]).await
    });
}

/// The terms in which a host has led the shard, as its log says.
fn terms_led(log: &str) -> Result<Vec<u64>> {
    let lines = log.lines().filter(|line| line.contains(": leading "));
    let term = |line: &str| {
        let (_, term) = line.split_once("term=").with_context(|| format!("no term in {line}"))?;
        let digits: String = term.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("no term in {line}"))
    };
    lines.map(term).collect()
}

/// Caught here: a log whose last entry is forgotten when it is opened.
#[test]
fn the_last_entry_survives_a_power_cut_of_all_hosts() {
    with_faults("the_last_entry_survives_a_power_cut_of_all_hosts", on_images(), &SOUND, async |site| {
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        receipts.send(20).await?;
        let all = [0, 1, 2];
        // What was applied is not synced, so the last item is in the log alone.
        site.cut_power(&all)?;
        for host in all {
            site.make_buggy(host);
            site.start_host(host)?;
        }
        receipts.settle(&[]).await
    });
}

/// Caught here: a snapshot that is taken in though bytes of it changed on their way.
#[test]
fn a_snapshot_that_changed_on_its_way_is_refused() {
    const BEHIND: usize = 2;
    /// Enough for two compactions. The log that the second one keeps holds plain items only: those that are sent as entries
    /// are not tampered with.
    const GENUINE: usize = 150;
    const PLAIN: usize = 70;
    /// Fewer than one snapshot holds: the next is sent whole.
    const CHANGED: u64 = 5;
    let listen = free_address().expect("a free port");
    let furnish = |host: usize, place: Place| {
        let mut place = Place { binary: Some(faults_binary()?), ..place };
        let short_log = [("CONCLAVE_HOST_COMPACT_AFTER_ENTRIES", "100"), ("CONCLAVE_HOST_KEEP_LOG_ENTRIES", "10")];
        place.environment.extend(short_log.iter().chain(&SOUND).map(|(key, value)| ((*key).into(), (*value).into())));
        place.listen = (host == BEHIND).then(|| listen.clone());
        Ok(place)
    };
    let site = || Site::start_on(plain(), furnish);
    on_site("a_snapshot_that_changed_on_its_way_is_refused", plain(), site, async |site| {
        let tampering = Tampering::start(site.cluster().host_address(BEHIND), listen.clone())?;
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        let end = log_end(site.cluster()).await?;
        site.kill_host(BEHIND)?;
        for number in 0..GENUINE {
            receipts.send_body(format!("item {number} is genuine").into()).await?;
        }
        receipts.send(PLAIN).await?;
        // An append that is on its way to the host that is behind keeps the log until it has failed.
        while !have_purged_past(site.cluster(), &[0, 1], end).await? {
            receipts.send(1).await?;
        }
        tampering.change(CHANGED);
        site.make_buggy(BEHIND);
        site.start_host(BEHIND)?;
        let changed = || async {
            ensure!(tampering.changed() > 0, "no snapshot has passed");
            Ok(())
        };
        eventually("a snapshot on its way", changed).await?;
        site.make_leader(BEHIND, ROOM).await?;
        receipts.settle(&[]).await
    });
}
