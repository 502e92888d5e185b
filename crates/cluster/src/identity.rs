//! What a data folder remembers about itself: which node it is, of which cluster, in which format.
//!
//! Written before anything else in the folder, and compared before anything else is read, so that a folder that was
//! mixed up is refused instead of joined to the wrong cluster. Changes replace the file as a whole: the old or the new
//! identity survives a power cut, never half of one.
//!
//! It also numbers the node's stores (see [`store`]): a store that was condemned is never used again.

mod file;
pub mod store;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conclave_types::{ClusterUuid, NodeUuid, ReplicaId};
use parking_lot::Mutex;

use crate::token::{ClusterToken, Purpose};
use file::FolderRecord;
use store::FIRST_STORE;
pub use store::{StoreVerdict, Successor};

/// Format of everything in a data folder. A folder of another format is refused.
pub const DATA_FORMAT: u32 = 1;

/// Name of the identity file.
const FILE: &str = "conclave-identity";
const NEW_FILE: &str = "conclave-identity.new";

/// How the node came into its cluster; fixed by the folder's first start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// One of the hosts that a new cluster is born from.
    Founder {
        /// Internal addresses, the same list on every one of them.
        hosts: Vec<String>,
        /// This host's place in the list, from 0.
        position: usize,
    },
    /// Joined a cluster that existed.
    Joined,
}

impl Origin {
    /// A founder that is reached at `advertise`.
    pub fn founder(hosts: Vec<String>, advertise: &str) -> Result<Origin, FolderError> {
        if let Some(bad) = hosts.iter().find(|host| crate::table::check_address(host).is_err()) {
            return Err(FolderError::InitialHosts(format!("{bad:?} is not host:port")));
        }
        if (1..hosts.len()).any(|end| hosts[..end].contains(&hosts[end])) {
            return Err(FolderError::InitialHosts("a host is listed twice".into()));
        }
        match hosts.iter().position(|host| host == advertise) {
            Some(position) => Ok(Origin::Founder { hosts, position }),
            None => Err(FolderError::InitialHosts(format!("this host's address {advertise} is not in the list"))),
        }
    }

    /// The replica of the metadata group that this node was born with: the list's first three hosts hold one, its first
    /// five from five on.
    pub fn meta_replica(&self) -> Option<ReplicaId> {
        match self {
            Origin::Founder { hosts, position } if *position < meta_hosts(hosts.len()) => {
                Some(ReplicaId(*position as u64 + 1))
            }
            Origin::Founder { .. } | Origin::Joined => None,
        }
    }
}

/// How many of the initial hosts hold the metadata group.
pub(crate) fn meta_hosts(hosts: usize) -> usize {
    match hosts {
        0..=2 => hosts,
        3..=4 => 3,
        5.. => 5,
    }
}

/// Why a data folder is not opened. Each message says what was found, what was expected and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{path}: {what} failed: {source}", path = path.display())]
    Io { path: PathBuf, what: &'static str, source: io::Error },
    #[error(
        "{path} holds files but no Conclave identity (found {found:?}): give an empty folder, or the right one",
        path = path.display()
    )]
    Foreign { path: PathBuf, found: String },
    #[error("{path} is not a Conclave identity: {reason}; restore the file, or start with an empty folder as a new node", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{path} has data format {found}, this version reads {DATA_FORMAT}: start the version that wrote it, or give another folder",
        path = path.display()
    )]
    Format { path: PathBuf, found: u32 },
    #[error("{path} belongs to a cluster with another token: start with that token, or give another folder", path = path.display())]
    Token { path: PathBuf },
    #[error(
        "{path} belongs to cluster {found}, not to cluster {expected}: give the folder of this cluster, or an empty one",
        path = path.display()
    )]
    Cluster { path: PathBuf, found: ClusterUuid, expected: ClusterUuid },
    #[error("{path} was started {found}, not {expected}: start it as before, or give another folder", path = path.display())]
    Origin { path: PathBuf, found: String, expected: String },
    #[error(
        "{path} knows no cluster yet: say which hosts found one (--initial-hosts) or which to join (--join)",
        path = path.display()
    )]
    Unknown { path: PathBuf },
    /// Nobody else holds what a host that is its whole cluster has lost.
    #[error(
        "the store in {store} cannot be used ({reason}), and this host is its whole cluster, so nobody can rebuild what it \
         held: bring the whole data folder back from a copy, or start with an empty one as a new cluster",
        store = store.display()
    )]
    NoPeers { store: PathBuf, reason: String },
    #[error("initial hosts: {0}")]
    InitialHosts(String),
    #[error("no random bytes for a new node: {0}")]
    Random(#[from] getrandom::Error),
}

/// An opened data folder and its identity.
#[derive(Debug)]
pub struct DataFolder {
    identity: Arc<Identity>,
    origin: Origin,
}

/// The identity file. Whoever changes a fact holds the record until the file is replaced, so no change undoes another.
#[derive(Debug)]
struct Identity {
    path: PathBuf,
    record: Mutex<FolderRecord>,
}

impl DataFolder {
    /// Opens a folder that was started like this before, or makes an empty or missing one a new node's.
    pub fn open(path: impl Into<PathBuf>, token: &ClusterToken, origin: Origin) -> Result<DataFolder, FolderError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(|source| io_error(&path, "creating the folder", source))?;
        let file = path.join(FILE);
        match fs::read(&file) {
            Ok(bytes) => {
                let record = FolderRecord::decode(&bytes, &file)?;
                check(&path, &record, token, &origin)?;
                Ok(DataFolder::new(path, record))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => DataFolder::create(path, token, origin),
            Err(source) => Err(io_error(&file, "reading", source)),
        }
    }

    /// Opens the folder of a node that was started before, the way it was started then.
    pub fn open_known(path: impl Into<PathBuf>, token: &ClusterToken) -> Result<DataFolder, FolderError> {
        let path = path.into();
        let file = path.join(FILE);
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FolderError::Unknown { path }),
            read => read.map_err(|source| io_error(&file, "reading", source))?,
        };
        let record = FolderRecord::decode(&bytes, &file)?;
        check(&path, &record, token, &record.origin)?;
        Ok(DataFolder::new(path, record))
    }

    pub fn path(&self) -> &Path {
        &self.identity.path
    }

    pub fn node(&self) -> NodeUuid {
        self.identity.record.lock().node
    }

    /// None until the first table was seen.
    pub fn cluster(&self) -> Option<ClusterUuid> {
        self.identity.record.lock().cluster
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Fixes the cluster, for ever. Does nothing when it is known already.
    pub fn learn_cluster(&self, cluster: ClusterUuid) -> Result<(), FolderError> {
        self.identity.change(|record| match record.cluster {
            Some(found) if found != cluster => {
                Err(FolderError::Cluster { path: self.path().into(), found, expected: cluster })
            }
            _ => {
                record.cluster = Some(cluster);
                Ok(())
            }
        })
    }

    fn create(path: PathBuf, token: &ClusterToken, origin: Origin) -> Result<DataFolder, FolderError> {
        check_empty(&path)?;
        let mut node = [0; 16];
        getrandom::fill(&mut node)?;
        let record = FolderRecord {
            node: NodeUuid(node),
            cluster: None,
            token_proof: token.proof(Purpose::Folder, &[]),
            origin,
            store: FIRST_STORE,
            store_begun: false,
            condemned: None,
        };
        write_record(&path, &record)?;
        Ok(DataFolder::new(path, record))
    }

    fn new(path: PathBuf, record: FolderRecord) -> DataFolder {
        let origin = record.origin.clone();
        DataFolder { identity: Arc::new(Identity { path, record: Mutex::new(record) }), origin }
    }
}

impl Identity {
    /// Changes the record, on disk first; writes nothing if it stays as it is.
    fn change(&self, change: impl FnOnce(&mut FolderRecord) -> Result<(), FolderError>) -> Result<(), FolderError> {
        let mut present = self.record.lock();
        let mut next = present.clone();
        change(&mut next)?;
        if next != *present {
            write_record(&self.path, &next)?;
            *present = next;
        }
        Ok(())
    }
}

fn check(path: &Path, record: &FolderRecord, token: &ClusterToken, origin: &Origin) -> Result<(), FolderError> {
    if !token.is_proof(&record.token_proof, Purpose::Folder, &[]) {
        return Err(FolderError::Token { path: path.into() });
    }
    if record.origin != *origin {
        let (found, expected) = (describe(&record.origin), describe(origin));
        return Err(FolderError::Origin { path: path.into(), found, expected });
    }
    Ok(())
}

fn describe(origin: &Origin) -> String {
    match origin {
        Origin::Founder { hosts, position } => {
            format!("as host {} of the initial hosts {}", position + 1, hosts.join(","))
        }
        Origin::Joined => "to join a cluster".into(),
    }
}

/// An interrupted first write may be there, and what file systems put into every new volume.
fn check_empty(path: &Path) -> Result<(), FolderError> {
    let list = |source| io_error(path, "listing", source);
    for entry in fs::read_dir(path).map_err(list)? {
        let name = entry.map_err(list)?.file_name();
        if name != NEW_FILE && name != "lost+found" {
            return Err(FolderError::Foreign { path: path.into(), found: name.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

/// The new file is on disk before it takes the old one's name, and the name is on disk before this returns.
fn write_record(folder: &Path, record: &FolderRecord) -> Result<(), FolderError> {
    let (new, file) = (folder.join(NEW_FILE), folder.join(FILE));
    let mut written = fs::File::create(&new).map_err(|source| io_error(&new, "creating", source))?;
    written
        .write_all(record.encode().as_bytes())
        .and_then(|()| written.sync_all())
        .map_err(|source| io_error(&new, "writing", source))?;
    fs::rename(&new, &file).map_err(|source| io_error(&file, "replacing", source))?;
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| io_error(folder, "syncing the folder", source))?;
    // A folder that was just made must itself survive.
    match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(|source| io_error(parent, "syncing the folder", source)),
        None => Ok(()),
    }
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> FolderError {
    FolderError::Io { path: path.into(), what, source }
}

#[cfg(test)]
pub(crate) mod tests;
