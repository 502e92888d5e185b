//! Where the cases play: rooms, a queue, and tokens of every kind.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use conclave_auth::{OpenRooms, Rights, Role, TokenKey, TokenSpec};
use conclave_client::Client;
use conclave_proto::v1::{CreateRoomRequest, NewItem, SendItemsRequest};
use conclave_tests::cluster::Cluster;
use conclave_tests::raw::RawClient;
use conclave_types::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::calls::documents::push;
use super::updates;

/// Every case plays here unless it says otherwise.
pub const ROOM: &str = "rooms/here";
/// A queue that exists and holds one item that is never received.
pub const QUEUE: &str = "rooms/here/queues/jobs";
pub const OTHER_ROOM: &str = "rooms/elsewhere";
/// A document that exists and holds one letter; beside it there is `other`.
pub const DOCUMENT: &str = "rooms/here/documents/drafts/paper.md";
const OTHER_DOCUMENT: &str = "rooms/here/documents/other";

const HOUR: Duration = Duration::from_secs(3_600);

pub struct Place {
    /// Connected to the gateway, without a token.
    pub raw: RawClient,
    /// Connected past the gateway, to a host.
    pub host: RawClient,
    /// With every right.
    pub admin: RawClient,
    /// The proper client, with every right.
    pub client: Client,
    pub key: TokenKey,
    pub gateway_address: String,
    pub host_address: String,
    pub processes: Processes,
}

/// The cluster's processes, to see what they take.
pub struct Processes {
    gateway: u32,
    hosts: Vec<u32>,
}

impl Processes {
    /// Memory that the gateway, and all hosts together, have resident.
    pub fn resident_bytes(&self) -> Result<[u64; 2]> {
        let hosts = self.hosts.iter().map(|host| resident_bytes(*host)).sum::<Result<u64>>()?;
        Ok([resident_bytes(self.gateway)?, hosts])
    }
}

fn resident_bytes(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

impl Place {
    pub async fn prepare(cluster: &Cluster) -> Result<Place> {
        let client = cluster.client_with_room("admin", "here").await?;
        cluster.client_with_room("admin", "elsewhere").await?;
        let items = vec![NewItem { body: "kept".into(), ..Default::default() }];
        client.send_items(SendItemsRequest { parent: QUEUE.into(), items, ..Default::default() }).await?;
        for document in [DOCUMENT, OTHER_DOCUMENT] {
            client.push_update(push(document, updates::letter(8))).await?;
        }

        let table = cluster.table().await?;
        let key = table.token_keys.values().next().context("the cluster has no token key")?;
        let (kid, secret) = (key.kid.as_str().to_owned(), key.secret.bytes().into());
        let key = TokenKey { kid, project: key.project.clone(), secret };
        let raw = RawClient::connect(&cluster.address()).await?;
        let admin = raw.with_token(&token(&key, "admin", OpenRooms::All, Rights::admin())?)?;
        let host_address = cluster.host_address(0).to_owned();
        let host = RawClient::connect(&host_address).await?;
        let gateway_address = cluster.address().trim_start_matches("http://").to_owned();
        let processes = Processes {
            gateway: cluster.gateway_pid().context("no gateway")?,
            hosts: (0..cluster.hosts()).filter_map(|host| cluster.host_pid(host)).collect(),
        };
        Ok(Place { raw, host, admin, client, key, gateway_address, host_address, processes })
    }

    /// The gateway's connection with a genuine token.
    pub fn with(&self, participant: &str, rights: Rights) -> Result<RawClient> {
        self.raw.with_token(&self.token(participant, OpenRooms::All, rights)?)
    }

    /// A client on a connection of its own.
    pub async fn apart(&self, participant: &str) -> Result<RawClient> {
        let token = self.token(participant, OpenRooms::All, Rights::admin())?;
        RawClient::connect(&self.gateway_address).await?.with_token(&token)
    }

    /// A genuine token.
    pub fn token(&self, participant: &str, rooms: OpenRooms, rights: Rights) -> Result<String> {
        token(&self.key, participant, rooms, rights)
    }

    /// A genuine token that ended an hour ago.
    pub fn expired_token(&self) -> Result<String> {
        let spec = spec("admin", OpenRooms::All, Rights::admin())?;
        let long_ago = Timestamp(now()?.0 - 2 * HOUR.as_millis() as u64);
        Ok(conclave_auth::mint(&self.key, &spec, long_ago))
    }

    /// Signed by an invented key that pretends to be the cluster's.
    pub fn forged_token(&self) -> Result<String> {
        let key = TokenKey { secret: [7; 32].into(), ..self.key.clone() };
        token(&key, "admin", OpenRooms::All, Rights::admin())
    }

    /// Signed by a key that the cluster has never had.
    pub fn token_of_unknown_key(&self) -> Result<String> {
        let key = TokenKey { kid: "nobodys".into(), ..self.key.clone() };
        token(&key, "admin", OpenRooms::All, Rights::admin())
    }

    /// Signed by the key of one project, for another.
    pub fn token_of_other_project(&self) -> Result<String> {
        let key = TokenKey { project: "other".parse()?, ..self.key.clone() };
        token(&key, "admin", OpenRooms::All, Rights::admin())
    }

    /// Genuinely signed, whatever it says; `claims` replace those of a proper token.
    pub fn token_saying(&self, claims: Value) -> Result<String> {
        let mut all = json!({
            "name": "admin",
            "sub": self.key.project.as_str(),
            "kid": self.key.kid,
            "grants": [{"name": "api", "scope": {"admin": {}}}],
            "version": "1",
            "exp": now()?.0 / 1_000 + HOUR.as_secs(),
        });
        let object = all.as_object_mut().context("an object")?;
        object.extend(claims.as_object().context("claims must be an object")?.clone());
        object.retain(|_, value| !value.is_null());
        let header = Header { kid: Some(self.key.kid.clone()), ..Header::default() };
        Ok(jsonwebtoken::encode(&header, &all, &EncodingKey::from_secret(&self.key.secret))?)
    }

    /// Cut apart and put together with the header of an unsigned token.
    pub fn unsigned_token(&self) -> Result<String> {
        let genuine = self.token("admin", OpenRooms::All, Rights::admin())?;
        let claims = genuine.split('.').nth(1).context("a token has three parts")?;
        // {"alg":"none","typ":"JWT"}
        Ok(format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."))
    }
}

pub async fn make_room(client: &Client, room: &str) -> Result<()> {
    client.create_room(CreateRoomRequest { name: room.into(), ..Default::default() }).await?;
    Ok(())
}

fn token(key: &TokenKey, participant: &str, rooms: OpenRooms, rights: Rights) -> Result<String> {
    Ok(conclave_auth::mint(key, &spec(participant, rooms, rights)?, now()?))
}

fn spec(participant: &str, rooms: OpenRooms, rights: Rights) -> Result<TokenSpec> {
    Ok(TokenSpec { participant: participant.parse()?, role: Role::User, rooms, rights, lifetime: HOUR })
}

fn now() -> Result<Timestamp> {
    Ok(Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64))
}
