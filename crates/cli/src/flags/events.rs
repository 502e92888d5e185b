//! How far a stream of events is followed.

use clap::Args;

#[derive(Debug, Clone, Args)]
pub struct FollowArgs {
    /// Only what comes after this revision of the room
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub after_revision: u64,
    #[command(flatten)]
    pub end: EndArgs,
}

/// Without any of these a stream is followed until it is interrupted.
#[derive(Debug, Clone, Args)]
pub struct EndArgs {
    /// End after this many events
    #[arg(long, visible_alias = "count", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// End once all that there is was printed
    #[arg(long)]
    pub until_live: bool,
}
