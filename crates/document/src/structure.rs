//! The grammar of a Yjs v1 update, read front to back without recursion and without memory of its own.
//!
//! An update is sections of blocks, one section a client, and ranges of deleted clocks. Everything that Yjs or yrs would
//! never write is refused, and so is what the two read differently: what is relayed must mean the same to all.

mod content;
pub mod cursor;

use conclave_types::YjsClient;
use conclave_types::limits::{MAX_DOCUMENT_BYTES, MAX_UPDATE_BYTES, MAX_UPDATE_CLIENTS};

use crate::admission::UpdateError;
use cursor::Cursor;

/// End of the clocks of one client. Yjs counts to 2^53, yrs in 32 bits of which it compares 31.
pub const MAX_CLOCK: u64 = i32::MAX as u64;

/// Fewest bytes of a section (number of blocks, client, clock, one block), a block, and a client's and one range of clocks
/// among the deleted: what declared counts are held against.
const MIN_SECTION_BYTES: u64 = 5;
const MIN_BLOCK_BYTES: u64 = 2;
const MIN_DELETED_BYTES: u64 = 4;
const MIN_RANGE_BYTES: u64 = 2;

/// How large a piece may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    bytes: usize,
    clients: usize,
}

impl Bounds {
    /// One update as a client sends it.
    pub const UPDATE: Self = Self { bytes: MAX_UPDATE_BYTES, clients: MAX_UPDATE_CLIENTS };
    /// A whole document: it grew from many updates, each with clients of its own.
    pub const DOCUMENT: Self = Self { bytes: MAX_DOCUMENT_BYTES as usize, clients: usize::MAX };

    pub fn allow_clients(self, clients: usize) -> Result<(), UpdateError> {
        if clients > self.clients {
            return Err(UpdateError::TooManyClients { limit: self.clients });
        }
        Ok(())
    }
}

/// One clock of one client: the name of one inserted element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub client: YjsClient,
    pub clock: u64,
}

/// What a block hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Collected: it has no place any more.
    Gone,
    /// In a root type.
    Root,
    /// In the nested type that the element is.
    Inside(Id),
    /// Beside other elements, in whatever they are in.
    Beside { left: Option<Id>, right: Option<Id> },
}

impl Place {
    /// The elements that must be there before the block.
    pub fn needs(&self) -> impl Iterator<Item = Id> {
        let (first, second) = match *self {
            Self::Gone | Self::Root => (None, None),
            Self::Inside(parent) => (Some(parent), None),
            Self::Beside { left, right } => (left, right),
        };
        first.into_iter().chain(second)
    }
}

/// Consecutive clocks of one client that were inserted together.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    pub client: YjsClient,
    pub clock: u64,
    pub len: u64,
    pub place: Place,
    pub content: Content,
    /// Its bytes in the update.
    pub bytes: (usize, usize),
}

/// What a block's content means to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Others may be inside it.
    Type,
    Subdocument,
    Plain,
}

/// Who is told what an update holds, in its order.
pub trait Visitor {
    fn block(&mut self, block: &Block) -> Result<(), UpdateError>;
    /// The end of one client's blocks.
    fn section(&mut self, client: YjsClient, from: u64, to: u64);
    /// All blocks are told; what is deleted is in the bytes from `at` on.
    fn deletions(&mut self, _at: usize) {}
    /// A client of whom clocks are deleted; its ranges follow.
    fn deleted_client(&mut self, _client: YjsClient) {}
    fn deleted(&mut self, _client: YjsClient, _from: u64, _to: u64) {}
}

/// Reads an update to its end.
pub fn walk(update: &[u8], bounds: Bounds, visitor: &mut impl Visitor) -> Result<(), UpdateError> {
    if update.len() > bounds.bytes {
        return Err(UpdateError::TooLarge { bytes: update.len(), limit: bounds.bytes });
    }
    let mut cursor = Cursor::new(update);
    for _ in 0..clients(&mut cursor, bounds, MIN_SECTION_BYTES)? {
        section(&mut cursor, visitor)?;
    }
    visitor.deletions(cursor.position());
    for _ in 0..clients(&mut cursor, bounds, MIN_DELETED_BYTES)? {
        deleted(&mut cursor, visitor)?;
    }
    match cursor.remaining() {
        0 => Ok(()),
        bytes => Err(UpdateError::Trailing { bytes }),
    }
}

fn clients(cursor: &mut Cursor<'_>, bounds: Bounds, min_bytes: u64) -> Result<u64, UpdateError> {
    let clients = cursor.count(min_bytes)?;
    bounds.allow_clients(usize::try_from(clients).unwrap_or(usize::MAX))?;
    Ok(clients)
}

fn section(cursor: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), UpdateError> {
    let blocks = cursor.count(MIN_BLOCK_BYTES)?;
    let client = YjsClient(cursor.number()?);
    let from = cursor.number()?;
    if blocks == 0 {
        return Err(UpdateError::Empty);
    }
    let mut clock = from;
    for _ in 0..blocks {
        let block = block(cursor, client, clock)?;
        clock = end(clock, block.len)?;
        visitor.block(&block)?;
    }
    visitor.section(client, from, clock);
    Ok(())
}

/// The info byte: which content, and what is said of its place.
const CONTENT_BITS: u8 = 0b0001_1111;
const HAS_KEY: u8 = 0b0010_0000;
const HAS_RIGHT: u8 = 0b0100_0000;
const HAS_LEFT: u8 = 0b1000_0000;
const COLLECTED: u8 = 0;
const SKIP: u8 = 10;

fn block(cursor: &mut Cursor<'_>, client: YjsClient, clock: u64) -> Result<Block, UpdateError> {
    let begin = cursor.position();
    let (place, len, content) = match cursor.byte()? {
        COLLECTED => (Place::Gone, cursor.number()?, Content::Plain),
        SKIP => return Err(UpdateError::Hole { client }),
        info => {
            let place = place(cursor, info)?;
            let (len, content) = content::read(cursor, info & CONTENT_BITS)?;
            (place, len, content)
        }
    };
    Ok(Block { client, clock, len, place, content, bytes: (begin, cursor.position()) })
}

/// An element beside others takes parent and key from them; only the first of a type says where it is.
fn place(cursor: &mut Cursor<'_>, info: u8) -> Result<Place, UpdateError> {
    if info & (HAS_LEFT | HAS_RIGHT) != 0 {
        let left = if info & HAS_LEFT != 0 { Some(id(cursor)?) } else { None };
        let right = if info & HAS_RIGHT != 0 { Some(id(cursor)?) } else { None };
        return Ok(Place::Beside { left, right });
    }
    let place = match cursor.byte()? {
        0 => Place::Inside(id(cursor)?),
        1 => {
            cursor.text()?;
            Place::Root
        }
        _ => return Err(UpdateError::Number),
    };
    if info & HAS_KEY != 0 {
        cursor.text()?;
    }
    Ok(place)
}

fn id(cursor: &mut Cursor<'_>) -> Result<Id, UpdateError> {
    let id = Id { client: YjsClient(cursor.number()?), clock: cursor.number()? };
    end(id.clock, 1)?;
    Ok(id)
}

fn deleted(cursor: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), UpdateError> {
    let client = YjsClient(cursor.number()?);
    let ranges = cursor.count(MIN_RANGE_BYTES)?;
    if ranges == 0 {
        return Err(UpdateError::Empty);
    }
    visitor.deleted_client(client);
    let mut last = 0;
    for _ in 0..ranges {
        let from = cursor.number()?;
        let to = end(from, cursor.number()?)?;
        if from < last {
            return Err(UpdateError::Unordered);
        }
        visitor.deleted(client, from, to);
        last = to;
    }
    Ok(())
}

/// Where a range of clocks ends.
fn end(clock: u64, len: u64) -> Result<u64, UpdateError> {
    match clock.checked_add(len) {
        _ if len == 0 => Err(UpdateError::Empty),
        Some(end) if end <= MAX_CLOCK => Ok(end),
        _ => Err(UpdateError::Clock { limit: MAX_CLOCK }),
    }
}
