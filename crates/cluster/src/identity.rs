//! What a data folder remembers about itself: which node it is, of which cluster, in which format.
//!
//! Written before anything else in the folder, and compared before anything else is read, so that a folder that was
//! mixed up is refused instead of joined to the wrong cluster. Changes replace the file as a whole: the old or the new
//! identity survives a power cut, never half of one.

mod file;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use conclave_types::{ClusterUuid, NodeUuid, ReplicaId};

use crate::token::{ClusterToken, Purpose};
use file::FolderRecord;

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
    #[error("initial hosts: {0}")]
    InitialHosts(String),
    #[error("no random bytes for a new node: {0}")]
    Random(#[from] getrandom::Error),
}

/// An opened data folder and its identity.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    record: FolderRecord,
}

impl DataFolder {
    /// Opens a folder that was started like this before, or makes an empty or missing one a new node's.
    pub fn open(path: impl Into<PathBuf>, token: &ClusterToken, origin: Origin) -> Result<DataFolder, FolderError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(|source| io_error(&path, "creating the folder", source))?;
        let file = path.join(FILE);
        match fs::read(&file) {
            Ok(bytes) => {
                let folder = DataFolder { record: FolderRecord::decode(&bytes, &file)?, path };
                folder.check(token, &origin)?;
                Ok(folder)
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
        let folder = DataFolder { record: FolderRecord::decode(&bytes, &file)?, path };
        folder.check(token, &folder.record.origin)?;
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn node(&self) -> NodeUuid {
        self.record.node
    }

    /// None until the first table was seen.
    pub fn cluster(&self) -> Option<ClusterUuid> {
        self.record.cluster
    }

    pub fn origin(&self) -> &Origin {
        &self.record.origin
    }

    /// Fixes the cluster, for ever. Does nothing when it is known already.
    pub fn learn_cluster(&mut self, cluster: ClusterUuid) -> Result<(), FolderError> {
        match self.record.cluster {
            Some(found) if found != cluster => {
                Err(FolderError::Cluster { path: self.path.clone(), found, expected: cluster })
            }
            Some(_) => Ok(()),
            None => {
                let record = FolderRecord { cluster: Some(cluster), ..self.record.clone() };
                write_record(&self.path, &record)?;
                self.record = record;
                Ok(())
            }
        }
    }

    fn create(path: PathBuf, token: &ClusterToken, origin: Origin) -> Result<DataFolder, FolderError> {
        check_empty(&path)?;
        let mut node = [0; 16];
        getrandom::fill(&mut node)?;
        let token_proof = token.proof(Purpose::Folder, &[]);
        let record = FolderRecord { node: NodeUuid(node), cluster: None, token_proof, origin };
        write_record(&path, &record)?;
        Ok(DataFolder { path, record })
    }

    fn check(&self, token: &ClusterToken, origin: &Origin) -> Result<(), FolderError> {
        let path = || self.path.clone();
        if !token.is_proof(&self.record.token_proof, Purpose::Folder, &[]) {
            return Err(FolderError::Token { path: path() });
        }
        if self.record.origin != *origin {
            let (found, expected) = (describe(&self.record.origin), describe(origin));
            return Err(FolderError::Origin { path: path(), found, expected });
        }
        Ok(())
    }
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
mod tests {
    use super::*;

    fn token() -> ClusterToken {
        "the token of the tests".parse().unwrap()
    }

    fn hosts() -> Vec<String> {
        (1..=3).map(|n| format!("host-{n}:7000")).collect()
    }

    fn founder() -> Origin {
        Origin::founder(hosts(), "host-2:7000").unwrap()
    }

    #[test]
    fn a_folder_is_the_same_node_of_the_same_cluster_for_ever() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let mut folder = DataFolder::open(&path, &token(), founder()).unwrap();
        assert_eq!((folder.cluster(), folder.origin().meta_replica()), (None, Some(ReplicaId(2))));
        folder.learn_cluster(ClusterUuid([3; 16])).unwrap();

        let mut again = DataFolder::open(&path, &token(), founder()).unwrap();
        assert_eq!(again.node(), folder.node());
        assert_eq!(again.cluster(), Some(ClusterUuid([3; 16])));
        again.learn_cluster(ClusterUuid([3; 16])).unwrap();
        let refused = again.learn_cluster(ClusterUuid([4; 16])).unwrap_err().to_string();
        assert!(refused.contains("belongs to cluster 0303") && refused.contains("not to cluster 0404"), "{refused}");

        let other = DataFolder::open(root.path().join("other"), &token(), founder()).unwrap();
        assert_ne!(other.node(), folder.node());
    }

    #[test]
    fn another_token_list_or_place_is_refused() {
        let root = tempfile::tempdir().unwrap();
        DataFolder::open(root.path(), &token(), founder()).unwrap();
        let open = |token: &str, origin| DataFolder::open(root.path(), &token.parse().unwrap(), origin).unwrap_err();

        let refused = open("some other cluster's token", founder());
        assert!(matches!(refused, FolderError::Token { .. }), "{refused}");

        let mut longer = hosts();
        longer.push("host-4:7000".into());
        let refused = open("the token of the tests", Origin::founder(longer, "host-2:7000").unwrap()).to_string();
        let reason = "was started as host 2 of the initial hosts host-1:7000,host-2:7000,host-3:7000, not as host 2 of \
                      the initial hosts host-1:7000,host-2:7000,host-3:7000,host-4:7000: start it as before";
        assert!(refused.contains(reason), "{refused}");

        let refused = open("the token of the tests", Origin::founder(hosts(), "host-1:7000").unwrap());
        assert!(matches!(refused, FolderError::Origin { .. }), "{refused}");
        let refused = open("the token of the tests", Origin::Joined).to_string();
        assert!(refused.contains("not to join a cluster"), "{refused}");
    }

    #[test]
    fn foreign_folders_are_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("photo.jpg"), "x").unwrap();
        let refused = DataFolder::open(root.path(), &token(), founder()).unwrap_err();
        assert!(matches!(&refused, FolderError::Foreign { found, .. } if found == "photo.jpg"), "{refused}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_formats_and_damaged_identities_are_refused() {
        let root = tempfile::tempdir().unwrap();
        DataFolder::open(root.path(), &token(), founder()).unwrap();
        let file = root.path().join(FILE);
        let good = fs::read_to_string(&file).unwrap();
        let open_with = |text: &str| {
            fs::write(&file, text).unwrap();
            DataFolder::open(root.path(), &token(), founder()).unwrap_err()
        };
        assert!(matches!(open_with(&good.replace("format = 1", "format = 2")), FolderError::Format { found: 2, .. }));
        for damaged in ["", "hello", &good[..good.len() / 2], &good.replace("node = ", "node = zz")] {
            let refused = open_with(damaged);
            assert!(matches!(refused, FolderError::Damaged { .. }), "{damaged:?}: {refused}");
        }
    }

    #[test]
    fn an_interrupted_first_write_is_begun_again() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(NEW_FILE), "conclave ide").unwrap();
        DataFolder::open(root.path(), &token(), founder()).unwrap();
        assert!(!root.path().join(NEW_FILE).exists());
    }

    #[test]
    fn the_first_three_or_five_hosts_hold_the_metadata_group() {
        for (hosts, meta) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (9, 5)] {
            let list: Vec<String> = (0..hosts).map(|n| format!("host-{n}:1")).collect();
            let replicas: Vec<_> =
                list.iter().filter_map(|host| Origin::founder(list.clone(), host).unwrap().meta_replica()).collect();
            assert_eq!(replicas, (1..=meta).map(ReplicaId).collect::<Vec<_>>());
        }
        assert_eq!(Origin::Joined.meta_replica(), None);
    }

    #[test]
    fn a_list_must_name_this_host_and_nobody_twice() {
        assert!(Origin::founder(hosts(), "host-9:7000").is_err());
        assert!(Origin::founder(vec!["a:1".into(), "a:1".into()], "a:1").is_err());
        assert!(Origin::founder(vec!["a".into()], "a").is_err());
    }
}
