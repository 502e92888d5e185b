//! What RocksDB's errors say about the store: damage, a disk that fails, or a folder that is not for us.
//!
//! Damage condemns a store for good, so it is never guessed. A checksum that fails, a file that is too short and a file
//! that is gone are damage. A disk that answers with an error may answer better after a restart, and a full one has lost
//! nothing. RocksDB has no kind of its own for a missing file, and calls some failures of the disk corruption: these are
//! told apart by the messages that its `io_posix.cc` makes from `errno`.

use std::path::Path;

use conclave_storage::EngineError;
use rocksdb::ErrorKind;

/// `ENOENT`. A file is missing that the manifest names, or the folder is gone.
const MISSING: &str = "No such file or directory";

/// `errno` of a disk or a system that fails, as it is spelled inside an error of another kind.
const FAILURES: [&str; 6] = [
    "Input/output error",
    "No space left on device",
    "Permission denied",
    "Read-only file system",
    "Too many open files",
    "Cannot allocate memory",
];

/// What an error of an open database means.
pub fn failed(error: &rocksdb::Error) -> EngineError {
    match is_damage(error) {
        true => EngineError::Damaged(error.to_string()),
        false => EngineError::Io(error.to_string()),
    }
}

/// What an error of opening the database in `folder` means.
pub fn open_failed(folder: &Path, error: &rocksdb::Error) -> EngineError {
    let folder = folder.display();
    let message = error.as_ref();
    match error.kind() {
        _ if is_damage(error) => EngineError::Damaged(format!("{folder}: {message}")),
        ErrorKind::IOError if is_locked(message) => EngineError::Open(format!(
            "{folder} is in use by another process; stop it, or give this node a folder of its own ({message})"
        )),
        ErrorKind::InvalidArgument if message.contains("Column families not opened") => EngineError::Open(format!(
            "{folder} was written by a newer version, which keeps data that this one does not know ({message})"
        )),
        ErrorKind::IOError => EngineError::Io(format!("{folder}: {message}")),
        _ => EngineError::Open(format!("{folder}: {message}")),
    }
}

fn is_damage(error: &rocksdb::Error) -> bool {
    let message = error.as_ref();
    match error.kind() {
        ErrorKind::Corruption => !FAILURES.iter().any(|failure| message.contains(failure)),
        ErrorKind::IOError => message.contains(MISSING),
        _ => false,
    }
}

/// A lock that another holds; one that cannot even be opened is the folder's fault.
fn is_locked(message: &str) -> bool {
    message.contains("While lock file") || message.contains("lock hold by current process")
}
