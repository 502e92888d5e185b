//! The identity file: one fact a line, for people to read, with a checksum so that half a file is not believed.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use conclave_types::{ClusterUuid, NodeUuid};
use sha2::{Digest, Sha256};

use super::{DATA_FORMAT, FIRST_STORE, FolderError, Origin};
use crate::token::{from_hex, hex};

const HEAD: &str = "conclave data folder";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FolderRecord {
    pub node: NodeUuid,
    pub cluster: Option<ClusterUuid>,
    pub token_proof: [u8; 32],
    pub origin: Origin,
    /// Number of the store in use.
    pub store: u32,
    /// The store of this number has existed.
    pub store_begun: bool,
    /// Why the store of this number must not be used again; one line.
    pub condemned: Option<String>,
}

impl FolderRecord {
    pub fn encode(&self) -> String {
        let mut text = format!("{HEAD}\nformat = {DATA_FORMAT}\nnode = {}\n", self.node);
        if let Some(cluster) = self.cluster {
            text += &format!("cluster = {cluster}\n");
        }
        text += &format!("token_proof = {}\n", hex(&self.token_proof));
        if let Origin::Founder { hosts, position } = &self.origin {
            text += &format!("initial_hosts = {}\nposition = {position}\n", hosts.join(","));
        }
        if self.store != FIRST_STORE {
            text += &format!("store = {}\n", self.store);
        }
        if self.store_begun {
            text += "store_begun = yes\n";
        }
        if let Some(reason) = &self.condemned {
            text += &format!("condemned = {reason}\n");
        }
        let checksum = checksum(&text);
        text + &format!("checksum = {checksum}\n")
    }

    pub fn decode(bytes: &[u8], file: &Path) -> Result<Self, FolderError> {
        let damaged = |reason: &str| FolderError::Damaged { path: file.into(), reason: reason.into() };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let facts = text.strip_prefix(HEAD).ok_or_else(|| damaged("it begins otherwise"))?;
        let facts: BTreeMap<&str, &str> = facts.lines().filter_map(|line| line.split_once(" = ")).collect();
        // The format comes first: what follows may look otherwise in another one.
        let format = fact(&facts, "format").ok_or_else(|| damaged("its format is missing"))?;
        if format != DATA_FORMAT {
            return Err(FolderError::Format { path: file.into(), found: format });
        }
        let body = text.rfind("checksum = ").ok_or_else(|| damaged("its checksum is missing"))?;
        if facts.get("checksum") != Some(&checksum(&text[..body]).as_str()) {
            return Err(damaged("its checksum is wrong"));
        }
        FolderRecord::from_facts(&facts).map_err(|field| damaged(&format!("{field} is missing or malformed")))
    }

    fn from_facts(facts: &BTreeMap<&str, &str>) -> Result<Self, &'static str> {
        let cluster = match facts.get("cluster") {
            Some(text) => Some(text.parse().map_err(|_| "cluster")?),
            None => None,
        };
        let origin = match facts.get("initial_hosts") {
            Some(hosts) => Origin::Founder {
                hosts: hosts.split(',').map(ToOwned::to_owned).collect(),
                position: fact(facts, "position").ok_or("position")?,
            },
            None => Origin::Joined,
        };
        let store = match facts.get("store") {
            Some(number) => number.parse().ok().filter(|number| *number > FIRST_STORE).ok_or("store")?,
            None => FIRST_STORE,
        };
        // Folders from before this fact was written: who knew a cluster had a store.
        let store_begun = facts.contains_key("store_begun") || store == FIRST_STORE && cluster.is_some();
        Ok(FolderRecord {
            node: fact(facts, "node").ok_or("node")?,
            cluster,
            store,
            store_begun,
            condemned: facts.get("condemned").map(|reason| (*reason).to_owned()),
            token_proof: facts.get("token_proof").and_then(|text| from_hex(text)).ok_or("token_proof")?,
            origin,
        })
    }
}

fn fact<T: FromStr>(facts: &BTreeMap<&str, &str>, name: &str) -> Option<T> {
    facts.get(name).and_then(|text| text.parse().ok())
}

fn checksum(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..8])
}
