//! `conclave room sync …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use conclave_types::{DocumentPath, RoomName};

use super::events::FollowArgs;

#[derive(Debug, Clone, Subcommand)]
pub enum SyncCommand {
    /// List the room's documents
    List { room: RoomName },
    /// Show a document as JSON
    Show(DocumentArgs),
    /// Make an empty document, unless there is one of this path
    Create(DocumentArgs),
    /// Push Yjs updates (v1) into a document
    Push {
        #[command(flatten)]
        target: DocumentArgs,
        /// A file that holds one update; may be repeated
        #[arg(long, required = true, value_name = "FILE")]
        update_file: Vec<PathBuf>,
        /// Fail if the document does not exist
        #[arg(long)]
        no_create: bool,
    },
    /// Follow a document: its state, then its updates and who is where in it
    Follow {
        #[command(flatten)]
        target: DocumentArgs,
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// Give a document another path in its room
    Rename {
        #[command(flatten)]
        target: DocumentArgs,
        /// The new path
        new_document: DocumentPath,
    },
    /// Delete a document
    Delete(DocumentArgs),
}

#[derive(Debug, Clone, Args)]
pub struct DocumentArgs {
    /// Name of the room
    pub room: RoomName,
    /// Path of the document
    pub document: DocumentPath,
}
