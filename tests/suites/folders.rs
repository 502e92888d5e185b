//! Data folders: a lost store comes back by itself, and a folder that does not belong is refused with what to do.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use conclave_client::Client;
use conclave_proto::v1::{GetQueueRequest, NewItem, SendItemsRequest};
use conclave_tests::claims::{says, within};
use conclave_tests::cluster::Cluster;
use conclave_workload::patience::eventually;
use serde_json::{Value, json};

const JOBS: &str = "rooms/kept/queues/jobs";

async fn send(client: &Client, count: usize) -> Result<()> {
    for _ in 0..count {
        let items = vec![NewItem { body: "work".into(), ..Default::default() }];
        let request_id = uuid();
        let request = SendItemsRequest { parent: JOBS.into(), items, request_id, ..Default::default() };
        eventually("a write", || async { client.send_items(request.clone()).await.map_err(anyhow::Error::from) })
            .await?;
    }
    Ok(())
}

async fn size(client: &Client) -> Result<u64> {
    let request = GetQueueRequest { name: JOBS.into(), ..Default::default() };
    let response =
        eventually("a read", || async { client.get_queue(request.clone()).await.map_err(anyhow::Error::from) });
    Ok(response.await?.queue.context("a queue")?.size)
}

/// Unique within this process, which is all that a fresh cluster needs.
fn uuid() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("write-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until a host runs on this store and is a voter of everything again.
async fn rebuilt(cluster: &Cluster, host: usize, store: u64) -> Result<()> {
    eventually("the host is rebuilt", || async {
        let address = cluster.host_address(host);
        let status = cluster.status()?;
        let own = status.iter().find(|status| status["host"] == json!(address)).context("not in the table")?;
        ensure!(own["store"] == json!(store) && own["state"] == json!("serving"), "{own}");
        ensure!(own["metadata"] == json!("votes") || own["metadata"] == json!("leads"), "{own}");
        let shards = cluster.shards()?;
        let whole = |shard: &Value| shard["voters"] == json!(3) && shard["learners"] == json!(0);
        ensure!(shards.iter().all(whole) && own["replicas"] == json!(shards.len()), "{shards:?}");
        Ok(())
    })
    .await
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    ensure!(Command::new("cp").arg("-r").args([from, to]).status()?.success(), "cp {}", from.display());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_store_comes_back_by_itself_and_an_older_copy_is_refused() -> Result<()> {
    within(async {
        let mut cluster = Cluster::start(3, 4).await?;
        let client = cluster.client_with_room("ada", "kept").await?;
        send(&client, 5).await?;
        cluster.stop_host(2).await?;
        let (data, copied) = (cluster.data_folder(2), cluster.data_folder(2).with_extension("copy"));
        copy(&data, &copied)?;
        fs::remove_dir_all(data.join("store"))?;
        send(&client, 5).await?;
        cluster.start_host(2)?;
        rebuilt(&cluster, 2, 2).await?;
        send(&client, 5).await?;

        // With another host gone, nothing is acknowledged without the one that was rebuilt.
        cluster.kill_host(0)?;
        send(&client, 5).await?;
        ensure!(size(&client).await? == 20, "not everything acknowledged is there");
        cluster.start_host(0)?;
        rebuilt(&cluster, 0, 1).await?;

        cluster.stop_host(2).await?;
        fs::rename(&data, data.with_extension("newest"))?;
        fs::rename(&copied, &data)?;
        cluster.start_host(2)?;
        says(
            &cluster.refused(2).await?,
            &[
                "comes with its store 1, and the cluster knows its store 2",
                "an older copy",
                "bring the newest folder back",
            ],
        )?;
        ensure!(size(&client).await? == 20, "the refused host did harm");
        ensure!(cluster.panics().is_empty(), "{:?}", cluster.panics());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_of_another_cluster_or_a_newer_format_are_refused() -> Result<()> {
    within(async {
        let mut cluster = Cluster::start(3, 4).await?;
        cluster.client_with_room("ada", "kept").await?;
        for host in 0..3 {
            let data = cluster.data_folder(host);
            knows_its_cluster(&data).await?;
            cluster.stop_host(host).await?;
            fs::rename(&data, data.with_extension("other"))?;
        }
        // Another cluster, with the same token and the same list of hosts.
        for host in 0..3 {
            cluster.start_host(host)?;
        }
        cluster.restart_gateway()?;
        let client = cluster.client_with_room("ada", "kept").await?;
        send(&client, 1).await?;

        let data = cluster.data_folder(1);
        knows_its_cluster(&data).await?;
        cluster.stop_host(1).await?;
        fs::rename(&data, data.with_extension("own"))?;
        fs::rename(data.with_extension("other"), &data)?;
        cluster.start_host(1)?;
        let found = identity(&data, "cluster")?;
        let expected = identity(&data.with_extension("own"), "cluster")?;
        let belongs = format!("belongs to cluster {found}, not to cluster {expected}");
        says(&cluster.refused(1).await?, &[&belongs, "give the folder of this cluster, or an empty one"])?;

        fs::remove_dir_all(&data)?;
        fs::rename(data.with_extension("own"), &data)?;
        let file = data.join("conclave-identity");
        let good = fs::read_to_string(&file)?;
        fs::write(&file, good.replace("format = 1", "format = 2"))?;
        cluster.start_host(1)?;
        let newer = ["has data format 2, this version reads 1", "start the version that wrote it"];
        says(&cluster.refused(1).await?, &newer)?;

        fs::write(&file, good)?;
        cluster.start_host(1)?;
        rebuilt(&cluster, 1, 1).await?;
        ensure!(size(&client).await? == 1, "what was acknowledged is gone");
        Ok(())
    })
    .await
}

/// A cluster serves as soon as a majority has the table; the last host may hear of it a little later.
async fn knows_its_cluster(folder: &Path) -> Result<()> {
    eventually("a folder that knows its cluster", || async { identity(folder, "cluster").map(drop) }).await
}

/// A fact of a folder's identity.
fn identity(folder: &Path, fact: &str) -> Result<String> {
    let text = fs::read_to_string(folder.join("conclave-identity"))?;
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{fact} = ")));
    found.map(str::to_owned).with_context(|| format!("no {fact} in {text}"))
}

#[tokio::test]
async fn a_host_that_is_its_whole_cluster_says_what_it_lost() -> Result<()> {
    within(async {
        let mut cluster = Cluster::start(1, 4).await?;
        let client = cluster.client_with_room("ada", "kept").await?;
        send(&client, 3).await?;
        cluster.stop_host(0).await?;
        let store = cluster.data_folder(0).join("store");
        let aside = cluster.data_folder(0).with_extension("aside");
        fs::rename(&store, &aside)?;
        for _ in 0..2 {
            cluster.start_host(0)?;
            let refused = cluster.refused(0).await?;
            says(&refused, &["holds no database, and it did", "this host is its whole cluster", "from a copy"])?;
        }
        // Nothing was given up: what is put back serves.
        fs::rename(&aside, &store)?;
        cluster.start_host(0)?;
        ensure!(size(&client).await? == 3, "what was acknowledged is gone");
        Ok(())
    })
    .await
}
