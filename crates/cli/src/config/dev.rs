//! What `conclave dev` runs with: flags alone, because a cluster on one's own machine has nothing to agree on.

use std::path::PathBuf;

use conclave_types::ProjectId;

use super::error::{ConfigError, Source};
use super::{Address, parse};
use crate::flags::DevFlags;

/// Where the cluster is when no folder is named.
const DEFAULT_DATA: &str = "conclave-data";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevConfig {
    /// 1 or 3.
    pub hosts: u16,
    pub data: DevData,
    /// Shards of a new cluster.
    pub shards: u16,
    /// Where the gateway listens; always loopback.
    pub listen: Address,
    pub project: ProjectId,
    /// The log filter, as `tracing` understands it.
    pub log: String,
}

/// Where a development cluster keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevData {
    Folder(PathBuf),
    /// A folder that is removed at the end.
    Ephemeral,
}

/// Reads what `conclave dev` was told.
pub fn load_dev(flags: &DevFlags) -> Result<DevConfig, ConfigError> {
    let data = match (&flags.data, flags.ephemeral) {
        (None, true) => DevData::Ephemeral,
        (Some(folder), false) => DevData::Folder(folder.clone()),
        (None, false) => DevData::Folder(PathBuf::from(DEFAULT_DATA)),
        (Some(_), true) => {
            return Err(ConfigError::Conflict {
                problem: "--data and --ephemeral are both given".to_owned(),
                remedy: "keep one of them".to_owned(),
            });
        }
    };
    Ok(DevConfig {
        hosts: value("hosts", &flags.hosts, hosts)?,
        shards: value("shards", &flags.shards, parse::shards)?,
        listen: value("listen", &flags.listen, loopback)?,
        project: value("project", &flags.project, parse::project)?,
        log: value("log", &flags.log, parse::log_filter)?,
        data,
    })
}

fn value<T>(flag: &str, text: &str, parse: fn(&str) -> Result<T, parse::Rule>) -> Result<T, ConfigError> {
    parse(text).map_err(|rule| ConfigError::InvalidValue {
        field: format!("dev.{flag}"),
        value: format!("{text:?}"),
        place: Source::Flag { flag: format!("--{flag}") },
        rule,
    })
}

fn hosts(text: &str) -> Result<u16, parse::Rule> {
    text.parse().ok().filter(|hosts| [1, 3].contains(hosts)).ok_or_else(|| "1 or 3".to_owned())
}

fn loopback(text: &str) -> Result<Address, parse::Rule> {
    let address = parse::address(text)?;
    if address.is_loopback() {
        return Ok(address);
    }
    Err("a loopback address; `conclave host` and `conclave gateway` serve other machines".to_owned())
}
