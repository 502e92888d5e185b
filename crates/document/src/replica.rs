//! A client's copy of a document: what edits it and takes in the edits of others.
//!
//! For clients, tests and tools; the server has no document in its write path.

mod runs;

use std::collections::HashMap;

use bytes::Bytes;
use conclave_types::{Clocks, UpdateClocks, YjsClient};
use yrs::updates::decoder::Decode;
use yrs::{GetString, ReadTxn, StateVector, Text, TextRef, Update, WriteTxn};

use crate::admission::{UpdateError, survey};
use crate::guard::{self, Panicked};
use crate::load::{DocumentError, Loaded, transact};
use crate::nesting::{MAX_NESTED_TYPES, Nesting};
use crate::state_vector::encode_state_vector;
use crate::steps;
use crate::structure::Bounds;
use runs::{Runs, Writer};

/// At `at` delete so many units, then insert. Positions count UTF-16 units, as in Yjs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub at: u32,
    pub delete: u32,
    pub insert: String,
}

/// Why a replica did not change. After a panic it is in disorder and must be thrown away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    #[error("an edit at {at} reaches beyond the text's {len} units")]
    OutOfRange { at: u32, len: u32 },
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl From<UpdateError> for ReplicaError {
    fn from(error: UpdateError) -> Self {
        Self::Document(error.into())
    }
}

impl From<Panicked> for ReplicaError {
    fn from(panic: Panicked) -> Self {
        Self::Document(panic.into())
    }
}

/// A document and the client that edits it here.
pub struct Replica {
    loaded: Loaded,
    client: YjsClient,
    texts: HashMap<String, TextRef>,
    /// Its texts and its next clock, while nobody else has edited the document.
    alone: Option<Alone>,
    /// Nested types that were taken in: while they are few they cannot be nested too deep.
    types: usize,
    nesting: Option<Nesting>,
}

#[derive(Default)]
struct Alone {
    texts: HashMap<String, Runs>,
    clock: u64,
}

impl Replica {
    /// An empty document. No other replica may edit under the same client, at any time.
    pub fn new(client: YjsClient) -> Self {
        Self {
            loaded: Loaded::empty(client),
            client,
            texts: HashMap::new(),
            alone: Some(Alone::default()),
            types: 0,
            nesting: None,
        }
    }

    /// Inserts into the text under `root` and yields the update that says so.
    pub fn insert(&mut self, root: &str, index: u32, text: &str) -> Result<Bytes, ReplicaError> {
        self.edit(root, &[Edit { at: index, delete: 0, insert: text.to_owned() }])
    }

    pub fn delete(&mut self, root: &str, index: u32, len: u32) -> Result<Bytes, ReplicaError> {
        self.edit(root, &[Edit { at: index, delete: len, insert: String::new() }])
    }

    /// Several edits, one after the other, in one update. None is made if one is out of range.
    pub fn edit(&mut self, root: &str, edits: &[Edit]) -> Result<Bytes, ReplicaError> {
        if let Some(alone) = &mut self.alone {
            let update = alone.edit(self.client, root, edits)?;
            self.integrate(decode(&update)?)?;
            return Ok(Bytes::from(update));
        }
        let text = self.text_ref(root)?;
        transact(self.loaded.doc(), |txn| {
            in_range(text.len(txn), edits)?;
            for edit in edits {
                if edit.delete > 0 {
                    text.remove_range(txn, edit.at, edit.delete);
                }
                if !edit.insert.is_empty() {
                    text.insert(txn, edit.at, &edit.insert);
                }
            }
            Ok(Bytes::from(txn.encode_update_v1()))
        })?
    }

    /// Takes in an update of another replica: an edit, or all that is missing here. Its clocks are returned. What builds
    /// on something missing is kept aside until that comes ([`has_pending`](Self::has_pending)).
    pub fn apply(&mut self, update: &[u8]) -> Result<UpdateClocks, ReplicaError> {
        let survey = survey(update, Bounds::DOCUMENT)?;
        self.types += survey.types;
        self.check_nesting(update)?;
        if survey.subdocuments > 0 {
            self.loaded.has_subdocuments();
        }
        self.alone = None;
        self.integrate(steps::decode(update, &survey)?)?;
        Ok(survey.clocks)
    }

    pub fn state_vector(&self) -> Bytes {
        encode_state_vector(&self.clocks())
    }

    pub fn clocks(&self) -> Clocks {
        self.loaded.clocks().unwrap_or_default()
    }

    /// What somebody with these clocks lacks, with all deletions.
    pub fn diff(&self, vector: &Clocks) -> Result<Bytes, ReplicaError> {
        let vector = StateVector::decode_v1(&encode_state_vector(vector));
        let vector = vector.map_err(|error| DocumentError::Unreadable(error.to_string()))?;
        Ok(Bytes::from(self.loaded.read(|txn| txn.encode_diff_v1(&vector))?))
    }

    /// The text under `root`; empty if there is none.
    pub fn text(&self, root: &str) -> String {
        let text = self.loaded.read(|txn| txn.get_text(root).map(|text| text.get_string(txn)));
        text.ok().flatten().unwrap_or_default()
    }

    /// Whether updates wait for others that they build on.
    pub fn has_pending(&self) -> bool {
        self.loaded.read(|txn| txn.has_missing_updates()).unwrap_or(true)
    }

    fn integrate(&self, updates: Vec<Update>) -> Result<(), ReplicaError> {
        let mut updates = updates.into_iter();
        let applied = transact(self.loaded.doc(), |txn| updates.try_for_each(|update| txn.apply_update(update)))?;
        Ok(applied.map_err(|error| DocumentError::Inapplicable(error.to_string()))?)
    }

    fn text_ref(&mut self, root: &str) -> Result<TextRef, Panicked> {
        if let Some(text) = self.texts.get(root) {
            return Ok(text.clone());
        }
        let text = transact(self.loaded.doc(), |txn| txn.get_or_insert_text(root))?;
        self.texts.insert(root.to_owned(), text.clone());
        Ok(text)
    }

    fn check_nesting(&mut self, update: &[u8]) -> Result<(), ReplicaError> {
        if self.types <= MAX_NESTED_TYPES {
            return Ok(());
        }
        if self.nesting.is_none() {
            let mut nesting = Nesting::default();
            nesting.add(&self.diff(&Clocks::new())?, Bounds::DOCUMENT)?;
            self.nesting = Some(nesting);
        }
        self.nesting.get_or_insert_default().add(update, Bounds::DOCUMENT)?;
        Ok(())
    }
}

impl Alone {
    fn edit(&mut self, client: YjsClient, root: &str, edits: &[Edit]) -> Result<Vec<u8>, ReplicaError> {
        let runs = self.texts.entry(root.to_owned()).or_default();
        in_range(runs.len(), edits)?;
        let mut writer = Writer::new(client.0, root, self.clock);
        for Edit { at, delete, insert } in edits {
            if *delete > 0 {
                runs.delete(*at, *delete, |from, to| writer.delete(from, to));
            }
            let len = units(insert);
            if len > 0 {
                writer.insert(runs.insert(*at, self.clock, len), insert);
                self.clock += u64::from(len);
            }
        }
        Ok(writer.finish())
    }
}

/// An update of our own making.
fn decode(update: &[u8]) -> Result<Vec<Update>, DocumentError> {
    let decoded = guard::catch(|| Update::decode_v1(update))?;
    decoded.map(|update| vec![update]).map_err(|error| DocumentError::Unreadable(error.to_string()))
}

/// A text's length as Yjs counts it.
fn units(text: &str) -> u32 {
    u32::try_from(text.encode_utf16().count()).unwrap_or(u32::MAX)
}

/// yrs panics beyond the end.
fn in_range(mut len: u32, edits: &[Edit]) -> Result<(), ReplicaError> {
    for Edit { at, delete, insert } in edits {
        if at.checked_add(*delete).is_none_or(|end| end > len) {
            return Err(ReplicaError::OutOfRange { at: *at, len });
        }
        len = len - delete + units(insert);
    }
    Ok(())
}
