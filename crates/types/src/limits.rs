//! Limits that clients meet. Each has a name, a unit and a reason; they are reported in `Welcome`.

/// Hash slots of a cluster; fixed for ever because keys carry the slot.
pub const SLOTS: u16 = 16_384;
/// Most shards a cluster may have (a power of two).
pub const MAX_SHARDS: u16 = 4_096;
/// Most bytes of one session frame.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// Most bytes of one unary request.
pub const MAX_UNARY_BYTES: usize = 4 << 20;
/// Most bytes of one queue item's body.
pub const MAX_ITEM_BYTES: usize = 256 << 10;
/// Most items of one send, deliveries of one acknowledgement, items of one receive: an outcome must stay small enough to keep.
pub const MAX_BATCH_ITEMS: usize = 128;
/// Most durable frames of a session that the client has not acknowledged.
pub const MAX_UNACKNOWLEDGED_FRAMES: usize = 1_024;
/// Most request bytes of those frames.
pub const MAX_UNACKNOWLEDGED_BYTES: usize = 1 << 20;
/// How long an idle session record is kept after its last durable frame.
pub const SESSION_EXPIRY_MS: u64 = 10 * 60 * 1_000;
/// How long a unary request's outcome is kept for its `request_id`.
pub const REQUEST_ID_EXPIRY_MS: u64 = 10 * 60 * 1_000;
/// Most bytes of a `request_id`.
pub const MAX_REQUEST_ID_BYTES: usize = 64;
/// How long an acknowledged delivery is remembered, so that a repeated acknowledgement is told apart from a stale one.
pub const ACKED_MEMORY_MS: u64 = 10 * 60 * 1_000;
/// Lease of a delivery when the receiver names none.
pub const DEFAULT_LEASE_MS: u64 = 30_000;
/// Shortest and longest lease a receiver may ask for.
pub const LEASE_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=12 * 60 * 60 * 1_000;
/// Longest wait of one receive.
pub const MAX_RECEIVE_WAIT_MS: u64 = 60_000;
/// Deliveries of one queue that may be leased at once, unless it says otherwise, and the range it may say. When leases
/// may have ended, all of them are looked through.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 1_000;
pub const MAX_IN_FLIGHT_RANGE: std::ops::RangeInclusive<u32> = 1..=10_000;
/// Deliveries of an item after which it is a dead letter, unless its queue says otherwise, and the most it may say.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 10;
pub const MAX_MAX_ATTEMPTS: u32 = 1_000;
/// Longest wait of an item whose delivery failed, unless its queue says otherwise, and the longest it may say.
pub const DEFAULT_MAX_BACKOFF_MS: u64 = 60_000;
pub const MAX_BACKOFF_MS: u64 = 12 * 60 * 60 * 1_000;
/// How long ids of messages are remembered, unless the queue says otherwise, and the longest it may say.
pub const DEFAULT_DEDUPLICATION_WINDOW_MS: u64 = 5 * 60 * 1_000;
pub const MAX_DEDUPLICATION_WINDOW_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Items of one queue, unless it says otherwise, and the most it may say.
pub const DEFAULT_MAX_ITEMS: u64 = 10_000_000;
pub const MAX_MAX_ITEMS: u64 = 100_000_000;
/// Most bytes of a queue that a limit may name.
pub const MAX_QUEUE_BYTES: u64 = 1 << 40;
/// Highest priority of an item; 0 is the lowest, and the default.
pub const MAX_PRIORITY: u32 = 9;
/// Longest delay, time to live, and retention of an item.
pub const MAX_ITEM_TIME_MS: u64 = 366 * 24 * 60 * 60 * 1_000;
/// Most bytes of an item's group, and of a message's id.
pub const MAX_GROUP_BYTES: usize = 128;
pub const MAX_MESSAGE_ID_BYTES: usize = 128;
/// Most bytes of what a consumer says about a failure.
pub const MAX_REASON_BYTES: usize = 256;
/// Most items that one call discards.
pub const MAX_PURGE_ITEMS: u32 = 1_000;
/// Rooms of one page of a list when the caller names no size, and the most it may ask for.
pub const DEFAULT_PAGE_SIZE: u32 = 100;
pub const MAX_PAGE_SIZE: u32 = 1_000;
/// Entries of a room's metadata, and of its annotations; a key's and a value's bytes.
pub const MAX_LABELS: usize = 64;
pub const MAX_LABEL_KEY_BYTES: usize = 128;
pub const MAX_LABEL_VALUE_BYTES: usize = 4 << 10;
/// Commands that share one log entry, and their encoded bytes.
pub const MAX_BATCH_COMMANDS: usize = 1_024;
pub const MAX_BATCH_BYTES: usize = 256 << 10;
/// Most bytes of one document update.
pub const MAX_UPDATE_BYTES: usize = 512 << 10;
/// Most bytes of a document's updates as they are kept: a document is sent as a whole to who opens it.
pub const MAX_DOCUMENT_BYTES: u64 = 32 << 20;
/// Most documents of a room: each costs a header.
pub const MAX_DOCUMENTS_PER_ROOM: u32 = 10_000;
/// Most clients that one update may name, and how deep values in it may be nested.
pub const MAX_UPDATE_CLIENTS: usize = 10_000;
pub const MAX_UPDATE_NESTING: usize = 64;
/// Most bytes of one awareness payload.
pub const MAX_AWARENESS_BYTES: usize = 4 << 10;
/// How long an awareness is kept for those who open the document later.
pub const AWARENESS_EXPIRY_MS: u64 = 30_000;
/// Most bytes of one message's body.
pub const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// Most bytes of a message's type.
pub const MAX_MESSAGE_TYPE_BYTES: usize = 128;
/// Most participants that one ephemeral message may name.
pub const MAX_RECEIVERS: usize = 100;
/// Messages and bytes of a room's log that are kept unless the room says otherwise, and the ranges it may say.
pub const DEFAULT_MAX_MESSAGES: u64 = 1_000_000;
pub const MAX_MESSAGES_RANGE: std::ops::RangeInclusive<u64> = 1..=10_000_000;
pub const DEFAULT_MAX_LOG_BYTES: u64 = 256 << 20;
pub const MAX_LOG_BYTES_RANGE: std::ops::RangeInclusive<u64> = 1 << 20..=16 << 30;
/// Shortest and longest age that a room may limit its log to.
pub const LOG_AGE_RANGE_MS: std::ops::RangeInclusive<u64> = 60_000..=3_650 * 24 * 60 * 60 * 1_000;
/// Changes of documents' names that a room remembers for watchers who come back.
pub const MAX_DOCUMENT_CHANGES: u64 = 10_000;
/// Most participants attached to a room at once.
pub const MAX_PARTICIPANTS: usize = 1_000;
/// Most bytes of a participant's role, and of its attributes together.
pub const MAX_ROLE_BYTES: usize = 63;
pub const MAX_ATTRIBUTES_BYTES: usize = 4 << 10;
/// A participant's lease when it names none, and the range it may ask for.
pub const DEFAULT_PRESENCE_LEASE_MS: u64 = 30_000;
pub const PRESENCE_LEASE_RANGE_MS: std::ops::RangeInclusive<u64> = 5_000..=5 * 60 * 1_000;
/// Most subscriptions of one session.
pub const MAX_SUBSCRIPTIONS: usize = 1_000;
