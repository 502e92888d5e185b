//! A document in yrs, built from its bytes.
//!
//! Updates are applied a few hundred to a transaction: at its end yrs joins what was typed in a row, and until then every
//! keystroke is a block of its own in lists that each cut shifts. The whole recorded paper of 260,000 edits takes 2.1 s
//! in one transaction.
//!
//! A document with subdocuments is applied in one all the same: a subdocument that is inserted and deleted in different
//! transactions leaves a dangling reference behind when its element is collected.

use std::mem::ManuallyDrop;

use bytes::Bytes;
use conclave_types::{Clocks, UpdateClocks, YjsClient};
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Doc, OffsetKind, Options, ReadTxn, Transact, TransactionMut, Update};

use crate::admission::{Survey, UpdateError, survey};
use crate::guard::{self, Panicked};
use crate::nesting::{MAX_NESTED_TYPES, Nesting};
use crate::steps;
use crate::structure::Bounds;

/// Long enough that the end of a transaction costs little, short enough that lists of blocks stay so.
const UPDATES_OF_A_TRANSACTION: usize = 512;

/// Why stored bytes do not make a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("the document's bytes are no update: {0}")]
    Invalid(#[from] UpdateError),
    #[error("yrs does not read the document: {0}")]
    Unreadable(String),
    #[error("yrs does not apply an update of the document: {0}")]
    Inapplicable(String),
    #[error("the document's updates build on something that is not there")]
    Incomplete,
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// A document in yrs.
///
/// yrs gives each subdocument a counted reference to the document that holds it, so that such a document would never be
/// freed: they are cut when it is dropped.
pub struct Loaded {
    doc: Doc,
    subdocuments: bool,
}

impl Loaded {
    /// Nothing is cleaned up beyond what updates say, and nothing collected unless asked: what yrs does by itself would
    /// add deletions that no client made.
    pub fn empty(client: YjsClient) -> Self {
        let mut options = Options::with_guid_and_client_id("".into(), ClientID::new(client.0));
        options.offset_kind = OffsetKind::Utf16;
        options.skip_gc = true;
        options.cleanup_formatting = false;
        Self { doc: Doc::with_options(options), subdocuments: false }
    }

    pub fn doc(&self) -> &Doc {
        &self.doc
    }

    pub fn has_subdocuments(&mut self) {
        self.subdocuments = true;
    }

    /// Applies updates one by one in one transaction, then does `finish` in it.
    pub fn apply(
        &self,
        updates: impl IntoIterator<Item = Update>,
        finish: impl FnOnce(&mut TransactionMut<'_>),
    ) -> Result<(), DocumentError> {
        transact(&self.doc, |txn| {
            for update in updates {
                txn.apply_update(update).map_err(|error| DocumentError::Inapplicable(error.to_string()))?;
            }
            if txn.has_missing_updates() {
                return Err(DocumentError::Incomplete);
            }
            finish(txn);
            Ok(())
        })?
    }

    pub fn read<T>(&self, read: impl FnOnce(&yrs::Transaction<'_>) -> T) -> Result<T, Panicked> {
        guard::catch(|| read(&self.doc.transact()))
    }

    pub fn clocks(&self) -> Result<Clocks, Panicked> {
        self.read(|txn| {
            let vector = txn.state_vector();
            let known = vector.iter().filter(|(_, clock)| **clock > 0);
            known.map(|(client, clock)| (YjsClient(client.get()), u64::from(*clock))).collect()
        })
    }

    /// Deletes every element, and collects them in a transaction of its own, so that none is freed while yrs still tells
    /// the subdocuments.
    fn cut_subdocuments(&self) -> Result<(), DocumentError> {
        let clocks = self.clocks()?;
        let ranges = clocks.into_iter().map(|(client, clock)| {
            let whole = 0..u32::try_from(clock).unwrap_or(u32::MAX);
            (ClientID::new(client.0), [whole])
        });
        let everything = yrs::IdSet::from_iter(ranges);
        let mut bytes = vec![0];
        bytes.extend(yrs::updates::encoder::Encode::encode_v1(&everything));
        let update = Update::decode_v1(&bytes).map_err(|error| DocumentError::Unreadable(error.to_string()))?;
        self.apply([update], |_| ())?;
        transact(&self.doc, |txn| txn.gc(None))?;
        Ok(())
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if self.subdocuments {
            // What cannot be cut stays in memory; there is nobody to tell.
            let _ = guard::catch(|| self.cut_subdocuments());
        }
    }
}

/// Does `work` and commits it.
///
/// A transaction that is dropped commits. Were it dropped while a panic unwinds, a second panic would end the process, so
/// it is dropped apart.
pub fn transact<T>(doc: &Doc, work: impl FnOnce(&mut TransactionMut<'_>) -> T) -> Result<T, Panicked> {
    let mut txn = ManuallyDrop::new(guard::catch(|| doc.transact_mut())?);
    let done = guard::catch(|| {
        let result = work(&mut txn);
        txn.commit();
        result
    });
    let dropped = guard::catch(|| drop(ManuallyDrop::into_inner(txn)));
    let result = done?;
    dropped?;
    Ok(result)
}

/// The pieces of a document as they are stored, each read once by our own parser.
pub struct Pieces<'a> {
    bytes: Vec<&'a [u8]>,
    pub surveys: Vec<Survey>,
}

impl<'a> Pieces<'a> {
    /// Reads a document; refuses one that nests its types too deep for yrs.
    pub fn read(base: Option<&'a [u8]>, tail: &'a [Bytes]) -> Result<Self, DocumentError> {
        let bytes: Vec<&[u8]> = base.into_iter().chain(tail.iter().map(Bytes::as_ref)).collect();
        let surveys = bytes.iter().map(|piece| survey(piece, Bounds::DOCUMENT));
        let surveys = surveys.collect::<Result<Vec<Survey>, UpdateError>>()?;
        if surveys.iter().map(|survey| survey.types).sum::<usize>() > MAX_NESTED_TYPES {
            let mut nesting = Nesting::default();
            bytes.iter().try_for_each(|piece| nesting.add(piece, Bounds::DOCUMENT))?;
        }
        let pieces = Self { bytes, surveys };
        pieces.follow_each_other()?;
        Ok(pieces)
    }

    /// Every piece builds on those before it alone; yrs is only asked to apply what cannot become pending.
    fn follow_each_other(&self) -> Result<(), DocumentError> {
        let mut clocks = Clocks::new();
        for UpdateClocks { added, required, .. } in self.surveys.iter().map(|survey| &survey.clocks) {
            let known = |client: YjsClient| clocks.get(&client).copied().unwrap_or_default();
            let follows = added.iter().all(|added| added.from <= known(added.client))
                && required.iter().all(|required| required.clock <= known(required.client));
            if !follows {
                return Err(DocumentError::Incomplete);
            }
            for added in added {
                let clock = clocks.entry(added.client).or_default();
                *clock = added.to.max(*clock);
            }
        }
        Ok(())
    }

    /// Loads the document, and does `finish` before the transaction ends.
    pub fn load(&self, finish: impl FnOnce(&mut TransactionMut<'_>)) -> Result<Loaded, DocumentError> {
        let mut updates = Vec::with_capacity(self.bytes.len());
        for (piece, survey) in self.bytes.iter().zip(&self.surveys) {
            updates.extend(steps::decode(piece, survey)?);
        }
        let mut loaded = Loaded::empty(YjsClient(0));
        let mut updates = updates.into_iter();
        if self.surveys.iter().any(|survey| survey.subdocuments > 0) {
            loaded.has_subdocuments();
        } else {
            while updates.len() > UPDATES_OF_A_TRANSACTION {
                loaded.apply(updates.by_ref().take(UPDATES_OF_A_TRANSACTION), |_| ())?;
            }
        }
        loaded.apply(updates, finish)?;
        Ok(loaded)
    }
}
