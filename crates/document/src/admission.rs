//! What an update must be to be stored and relayed, and the clocks that it adds and builds on.
//!
//! [`validate`] knows nothing of the document: it reads the bytes alone, takes time linear in them, and neither recurses
//! nor reserves memory by a number that a client wrote. Together with `UpdateClocks::fit` it upholds what the rest of this
//! crate stands on: a stored history has no holes, and yrs never sets a part of it aside as pending.
//!
//! What it cannot know without the document: whether a parent is a type at all, and whether two neighbours are in the same
//! type. yrs refuses the first, and both are errors of whoever reads the document then, not of the process.

mod causality;
mod rehearsal;

use conclave_types::{AddedClocks, RequiredClock, UpdateClocks, YjsClient};
use yrs::Update;
use yrs::updates::decoder::Decode;

use crate::guard;
use crate::nesting::{MAX_NESTED_TYPES, Nesting};
use crate::structure::{self, Block, Bounds, Content, Id, Place, Visitor};
use causality::{Link, Step};

/// Why bytes are no update that may be stored: an error of the client, never to be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    #[error("update has {bytes} bytes, more than {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("update ends too early")]
    Truncated,
    #[error("update is followed by {bytes} more bytes")]
    Trailing { bytes: usize },
    #[error("update declares {declared} elements, more than its bytes can hold")]
    Count { declared: u64 },
    #[error("update has a number that is too large, not in its shortest form, or not one of its choices")]
    Number,
    #[error("update has a clock beyond {limit}")]
    Clock { limit: u64 },
    #[error("update has a string that is not UTF-8")]
    Text,
    #[error("update has an embedded value that is not JSON")]
    Json,
    #[error("update has an unknown kind of {what}")]
    Kind { what: &'static str },
    #[error("update has a {what}, which is not supported")]
    Unsupported { what: &'static str },
    #[error("update has a section, a block or a range without anything in it")]
    Empty,
    #[error("update names more than {limit} clients")]
    TooManyClients { limit: usize },
    #[error("update has two sections of client {}", client.0)]
    RepeatedClient { client: YjsClient },
    #[error("update leaves out clocks of client {}", client.0)]
    Hole { client: YjsClient },
    #[error("update has deleted ranges that overlap or are not in order")]
    Unordered,
    #[error("update nests values deeper than {limit}")]
    Nesting { limit: usize },
    #[error("update nests shared types deeper than {limit}")]
    TypeNesting { limit: usize },
    #[error("update has elements of client {} that build on what comes after them", client.0)]
    Causality { client: YjsClient },
    #[error("yrs does not read the update: {0}")]
    Unreadable(String),
    #[error("yrs does not apply the update: {0}")]
    Inapplicable(String),
}

/// Checks an update's bytes and yields the clocks that it adds and builds on. yrs takes no part in it.
pub fn validate(update: &[u8]) -> Result<UpdateClocks, UpdateError> {
    survey(update, Bounds::UPDATE).map(|survey| survey.clocks)
}

/// [`validate`], and then has yrs read the bytes, and apply them if they are few.
///
/// For a typing update of 20 bytes: 0.12 us to validate, 3 us in all.
pub fn admit(update: &[u8]) -> Result<UpdateClocks, UpdateError> {
    let survey = survey(update, Bounds::UPDATE)?;
    if survey.types > MAX_NESTED_TYPES {
        Nesting::default().add(update, Bounds::UPDATE)?;
    }
    let decoded = guard::catch(|| Update::decode_v1(update));
    let decoded = decoded.map_err(|panic| UpdateError::Unreadable(panic.to_string()))?;
    let decoded = decoded.map_err(|error| UpdateError::Unreadable(error.to_string()))?;
    rehearsal::rehearse(update, &survey, decoded)?;
    Ok(survey.clocks)
}

/// What one reading of a piece tells.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub clocks: UpdateClocks,
    /// Nested types it inserts: a bound of how deep it nests them.
    pub types: usize,
    /// What it deletes by range, client by client.
    pub deleted: Vec<AddedClocks>,
    pub subdocuments: usize,
    /// What it adds in an order in which it can be applied, if it is of several clients.
    pub steps: Vec<AddedClocks>,
    /// Elements that others are inside of.
    parents: Vec<Id>,
}

pub(crate) fn survey(piece: &[u8], bounds: Bounds) -> Result<Survey, UpdateError> {
    let mut surveyor = Surveyor::default();
    structure::walk(piece, bounds, &mut surveyor)?;
    surveyor.finish(bounds)
}

#[derive(Default)]
struct Surveyor {
    survey: Survey,
    /// What it builds on of other clients.
    links: Vec<Link>,
    deleted_clients: Vec<YjsClient>,
}

impl Visitor for Surveyor {
    fn section(&mut self, client: YjsClient, from: u64, to: u64) {
        self.survey.clocks.added.push(AddedClocks { client, from, to });
    }

    fn block(&mut self, block: &Block) -> Result<(), UpdateError> {
        self.survey.types += usize::from(block.content == Content::Type);
        self.survey.subdocuments += usize::from(block.content == Content::Subdocument);
        if let Place::Inside(parent) = block.place {
            self.survey.parents.push(parent);
        }
        for on in block.place.needs() {
            if on.client != block.client {
                let section = self.survey.clocks.added.len();
                self.links.push(Link { section, at: block.clock, on });
            } else if on.clock >= block.clock {
                return Err(UpdateError::Causality { client: block.client });
            }
        }
        Ok(())
    }

    fn deleted_client(&mut self, client: YjsClient) {
        self.deleted_clients.push(client);
    }

    fn deleted(&mut self, client: YjsClient, from: u64, to: u64) {
        self.survey.deleted.push(AddedClocks { client, from, to });
    }
}

impl Surveyor {
    fn finish(self, bounds: Bounds) -> Result<Survey, UpdateError> {
        let Self { mut survey, links, mut deleted_clients } = self;
        // yrs would keep the last of a client's sections, Yjs all.
        deleted_clients.sort_unstable();
        if let Some(pair) = deleted_clients.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(UpdateError::RepeatedClient { client: pair[0] });
        }
        let clocks = &mut survey.clocks;
        let sections = clocks.added.clone();
        clocks.added.sort_unstable_by_key(|added| added.client);
        if let Some(pair) = clocks.added.windows(2).find(|pair| pair[0].client == pair[1].client) {
            return Err(UpdateError::RepeatedClient { client: pair[0].client });
        }
        // One client alone builds on what it knows already, or on itself.
        if sections.len() > 1 {
            let steps = causality::order(&sections, &links)?;
            survey.steps = steps
                .into_iter()
                .map(|Step { section, from, to }| AddedClocks { client: sections[section].client, from, to })
                .collect();
        }
        clocks.deletes = !survey.deleted.is_empty();
        clocks.required = required(&clocks.added, &links, &survey.deleted);
        bounds.allow_clients(clocks.added.len() + clocks.required.len())?;
        Ok(survey)
    }
}

/// The clocks that must be there already, one a client, by client.
fn required(added: &[AddedClocks], links: &[Link], deleted: &[AddedClocks]) -> Vec<RequiredClock> {
    let linked = links.iter().map(|link| RequiredClock { client: link.on.client, clock: link.on.clock + 1 });
    let named = deleted.iter().map(|range| RequiredClock { client: range.client, clock: range.to });
    let brought = |required: &RequiredClock| {
        let own = added.binary_search_by_key(&required.client, |added| added.client);
        own.is_ok_and(|at| required.clock <= added[at].to)
    };
    let mut required: Vec<RequiredClock> = linked.chain(named).filter(|required| !brought(required)).collect();
    required.sort_unstable_by_key(|required| (required.client, std::cmp::Reverse(required.clock)));
    required.dedup_by_key(|required| required.client);
    required
}
