//! Reads past the gateway, at one host, as a gateway that has not heard of a failover yet would ask it.

use std::time::SystemTime;

use anyhow::{Context, Result};
use conclave_auth::{CLAIMS_HEADER, Claims, OpenRooms, Rights, Role, sign_claims};
use conclave_proto::v1::{GetRoomRequest, GetRoomResponse};
use conclave_tests::cluster::Cluster;
use conclave_tests::raw::RawClient;
use conclave_types::Timestamp;
use prost::Message;
use tonic::Status;

/// A minute: longer than any fault.
const LIFETIME_MS: u64 = 60_000;

pub struct Direct {
    raw: RawClient,
    secret: [u8; 32],
    claims: Claims,
}

impl Direct {
    /// Connects while the host still answers.
    pub async fn connect(cluster: &Cluster, host: usize) -> Result<Direct> {
        let table = cluster.table().await?;
        let key = table.token_keys.values().next().context("the cluster has no token key")?;
        let claims = Claims {
            project: key.project.clone(),
            participant: "reader".parse()?,
            role: Role::User,
            rooms: OpenRooms::All,
            rights: Rights::admin(),
            expires: Timestamp(now()?.0 + LIFETIME_MS),
        };
        let secret = table.secret.bytes().try_into().context("the cluster's secret")?;
        Ok(Direct { raw: RawClient::connect(cluster.host_address(host)).await?, secret, claims })
    }

    /// The room's revision as this host tells it, if it does.
    pub async fn revision(&self, room: &str) -> Result<u64, Status> {
        let now = now().map_err(|error| Status::internal(error.to_string()))?;
        let caller = self.raw.with_binary(CLAIMS_HEADER, &sign_claims(&self.secret, &self.claims, now));
        let request = GetRoomRequest { name: format!("rooms/{room}"), ..Default::default() };
        let answer = caller.call("RoomService/GetRoom", vec![request.encode_to_vec().into()]).await?;
        let answer = GetRoomResponse::decode(answer).map_err(|error| Status::internal(error.to_string()))?;
        Ok(answer.revision)
    }
}

fn now() -> Result<Timestamp> {
    Ok(Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64))
}
