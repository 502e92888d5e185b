//! Documents against a plain model that holds every single clock: only what follows is appended, nothing is lost or
//! appended twice, names lead where they should, whatever the replica compacts meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use conclave_types::{Clocks, DocumentNumber, Revision, UpdateClocks, YjsClient};
use proptest::prelude::*;

use super::audit::audit;
use super::harness::*;
use crate::local::{swap_base, sweep};
use crate::{ChangeKind, Operation, Outcome, Refusal, read};

#[derive(Debug, Clone)]
enum Step {
    Push {
        document: u8,
        create: bool,
        clocks: UpdateClocks,
        bytes: usize,
    },
    /// A push that follows for sure: clocks of one client from where the document's end.
    Append {
        document: u8,
        client: u64,
        count: u64,
    },
    Create(u8),
    Rename(u8, u8),
    Delete(u8),
    /// A base up to a share of the document's revision.
    Swap {
        document: u8,
        share: u64,
    },
    Sweep(usize),
    Advance(u32),
}

fn random_clocks() -> impl Strategy<Value = UpdateClocks> {
    let added = prop::collection::btree_map(1..4u64, (0..4u64, 1..3u64), 0..3);
    let required = prop::collection::btree_map(1..4u64, 0..4u64, 0..2);
    (added, required, prop::bool::weighted(0.2)).prop_map(|(added, required, deletes)| {
        let added: Vec<_> = added.into_iter().map(|(client, (from, count))| (client, from, from + count)).collect();
        clocks(&added, &required.into_iter().collect::<Vec<_>>(), deletes)
    })
}

fn step() -> impl Strategy<Value = Step> {
    let document = || 0..3u8;
    prop_oneof![
        6 => (document(), any::<bool>(), random_clocks(), 0..9usize)
            .prop_map(|(document, create, clocks, bytes)| Step::Push { document, create, clocks, bytes }),
        6 => (document(), 1..4u64, 1..3u64).prop_map(|(document, client, count)| Step::Append { document, client, count }),
        1 => document().prop_map(Step::Create),
        1 => (document(), document()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => document().prop_map(Step::Delete),
        2 => (document(), 0..=4u64).prop_map(|(document, share)| Step::Swap { document, share }),
        1 => (1..9usize).prop_map(Step::Sweep),
        1 => (1..9u32).prop_map(Step::Advance),
    ]
}

#[derive(Debug, Default, Clone)]
struct Document {
    number: u32,
    /// Every (client, clock) that it holds.
    held: BTreeSet<(u64, u64)>,
    updates: Vec<(u64, UpdateClocks, usize)>,
    revision: u64,
}

impl Document {
    fn holds_below(&self, client: u64, clock: u64) -> bool {
        (0..clock).all(|clock| self.held.contains(&(client, clock)))
    }

    fn end(&self, client: u64) -> u64 {
        (0..).find(|clock| !self.held.contains(&(client, *clock))).unwrap()
    }

    /// None when the update does not follow; whether it is new otherwise.
    fn fits(&self, clocks: &UpdateClocks) -> Option<bool> {
        let mut is_new = clocks.deletes;
        for added in &clocks.added {
            let held =
                (added.from..added.to).filter(|clock| self.held.contains(&(added.client.0, *clock))).count() as u64;
            if !self.holds_below(added.client.0, added.from) || (held > 0 && held < added.to - added.from) {
                return None;
            }
            is_new |= held == 0;
        }
        let has_required = clocks.required.iter().all(|required| self.holds_below(required.client.0, required.clock));
        has_required.then_some(is_new)
    }

    fn clocks(&self) -> Clocks {
        let clients: BTreeSet<u64> = self.held.iter().map(|(client, _)| *client).collect();
        clients.into_iter().map(|client| (YjsClient(client), self.end(client))).collect()
    }
}

struct Model {
    documents: BTreeMap<String, Document>,
    made: u32,
    revision: u64,
    changes: Vec<(u64, ChangeKind)>,
}

impl Model {
    fn next(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn make(&mut self, name: &str, revision: u64) {
        self.made += 1;
        let document = Document { number: self.made, revision, ..Document::default() };
        self.documents.insert(name.to_owned(), document);
        let kind = ChangeKind::DocumentCreated { document: DocumentNumber(self.made), path: path(name) };
        self.changes.push((revision, kind));
    }

    fn push(&mut self, name: &str, create: bool, clocks: &UpdateClocks, bytes: usize) -> Outcome {
        let is_missing = !self.documents.contains_key(name);
        if is_missing && !create {
            return Outcome::Refused(Refusal::DocumentNotFound);
        }
        let document = self.documents.get(name).cloned().unwrap_or_default();
        let Some(is_new) = document.fits(clocks) else { return Outcome::Refused(Refusal::NeedSync) };
        if !is_new && !is_missing {
            return Outcome::Pushed { revision: Revision(document.revision) };
        }
        let revision = self.next();
        if is_missing {
            self.make(name, revision);
        }
        let document = self.documents.get_mut(name).unwrap();
        document.revision = revision;
        if is_new {
            for added in &clocks.added {
                document.held.extend((added.from..added.to).map(|clock| (added.client.0, clock)));
            }
            document.updates.push((revision, clocks.clone(), bytes));
        }
        Outcome::Pushed { revision: Revision(revision) }
    }

    fn create(&mut self, name: &str) -> Outcome {
        let created = !self.documents.contains_key(name);
        if created {
            let revision = self.next();
            self.make(name, revision);
        }
        let document = &self.documents[name];
        let (number, revision) = (DocumentNumber(document.number), Revision(document.revision));
        Outcome::DocumentReady { document: number, created, revision }
    }

    fn rename(&mut self, from: &str, to: &str) -> Outcome {
        let Some(document) = self.documents.get(from) else { return Outcome::Refused(Refusal::DocumentNotFound) };
        if from == to {
            return Outcome::DocumentRenamed { revision: Revision(document.revision) };
        }
        if self.documents.contains_key(to) {
            return Outcome::Refused(Refusal::DocumentExists);
        }
        let revision = self.next();
        let mut document = self.documents.remove(from).unwrap();
        document.revision = revision;
        let number = DocumentNumber(document.number);
        self.changes.push((revision, ChangeKind::DocumentRenamed { document: number, from: path(from), to: path(to) }));
        self.documents.insert(to.to_owned(), document);
        Outcome::DocumentRenamed { revision: Revision(revision) }
    }

    fn delete(&mut self, name: &str) -> Outcome {
        let Some(document) = self.documents.remove(name) else { return Outcome::Refused(Refusal::DocumentNotFound) };
        let revision = self.next();
        let number = DocumentNumber(document.number);
        self.changes.push((revision, ChangeKind::DocumentDeleted { document: number, path: path(name) }));
        Outcome::DocumentDeleted { revision: Revision(revision) }
    }
}

fn name(document: u8) -> &'static str {
    ["a", "a/b", "c"][usize::from(document)]
}

fn push_operation(document: u8, create: bool, clocks: UpdateClocks, bytes: usize) -> Operation {
    match push_with(name(document), clocks, &"u".repeat(bytes)) {
        Operation::PushUpdate { room, path, author, clocks, update, .. } => {
            Operation::PushUpdate { room, path, create, author, clocks, update }
        }
        other => other,
    }
}

fn swap(shard: &mut Shard, document: u8, share: u64) {
    let Some(view) = shard.document(name(document)) else { return };
    let before = read::local_header(&shard.tables, GROUP, ROOM, view.number).unwrap();
    let from = before.map_or(0, |header| header.base_revision.0);
    let upto = from + (view.revision.0 - from) * share / 4;
    let base = vec![7; (upto * 9_000) as usize];
    let writes = swap_base(&shard.tables, GROUP, ROOM, view.number, before.as_ref(), &base, Revision(upto)).unwrap();
    shard.write_local(writes.expect("the guard holds"));
    let base_read = read::document_base(&shard.tables, GROUP, ROOM, view.number).unwrap();
    assert_eq!(base_read.unwrap(), base);
}

fn sweep_all(shard: &mut Shard, limit: usize) {
    let mut after = None;
    loop {
        let (writes, next) = sweep(&shard.tables, GROUP, after, limit).unwrap();
        shard.write_local(writes);
        after = next;
        if after.is_none() {
            return;
        }
    }
}

/// What is read is what the model holds.
fn check(shard: &Shard, model: &Model) {
    let list = read::list_documents(&shard.tables, GROUP, ROOM, None, 99).unwrap();
    assert_eq!(
        list.iter().map(|view| view.path.as_str()).collect::<Vec<_>>(),
        model.documents.keys().collect::<Vec<_>>()
    );
    for (view, document) in list.iter().zip(model.documents.values()) {
        assert_eq!((view.number.0, view.revision.0), (document.number, document.revision));
        let bytes: usize = document.updates.iter().map(|(_, _, bytes)| bytes).sum();
        assert_eq!((view.updates, view.bytes), (document.updates.len() as u64, bytes as u64));
        let clocks = read::document_clocks(&shard.tables, GROUP, ROOM, view.number).unwrap();
        assert_eq!(clocks, document.clocks());

        // All that is not in the base alone is kept, and the local header counts the rest.
        let header = read::local_header(&shard.tables, GROUP, ROOM, view.number).unwrap();
        let kept_from = header.map_or(0, |header| header.kept_from.0);
        let updates = read::document_updates(&shard.tables, GROUP, ROOM, view.number, Revision(0), 999, usize::MAX);
        let updates =
            updates.unwrap().into_iter().map(|stored| (stored.revision.0, stored.clocks, stored.update.len()));
        let expected = document.updates.iter().filter(|(revision, ..)| *revision > kept_from).cloned();
        assert_eq!(updates.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        if let Some(header) = header {
            let in_base = document.updates.iter().filter(|(revision, ..)| *revision <= header.base_revision.0);
            let (updates, bytes) = in_base.fold((0, 0), |(n, sum), (_, _, bytes)| (n + 1, sum + *bytes as u64));
            assert_eq!((header.updates, header.bytes), (updates, bytes));
        }
    }
    let changes = read::document_changes(&shard.tables, GROUP, ROOM, Revision(0), 999).unwrap();
    let changes: Vec<_> = changes.into_iter().map(|change| (change.revision.0, change.kind)).collect();
    assert_eq!(changes, model.changes);
    assert_eq!(shard.revision(), model.revision);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn documents_behave_like_their_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut shard = Shard::with_room();
        let mut model = Model { documents: BTreeMap::new(), made: 0, revision: 1, changes: Vec::new() };
        for step in steps {
            let (operation, expected) = match step {
                Step::Push { document, create, clocks, bytes } => {
                    let expected = model.push(name(document), create, &clocks, bytes);
                    (push_operation(document, create, clocks, bytes), expected)
                }
                Step::Append { document, client, count } => {
                    let from = model.documents.get(name(document)).map_or(0, |document| document.end(client));
                    let clocks = clocks(&[(client, from, from + count)], &[], false);
                    let expected = model.push(name(document), true, &clocks, 1);
                    assert!(matches!(expected, Outcome::Pushed { .. }), "{expected:?}");
                    (push_operation(document, true, clocks, 1), expected)
                }
                Step::Create(document) => (create_document(name(document)), model.create(name(document))),
                Step::Rename(from, to) => (rename_document(name(from), name(to)), model.rename(name(from), name(to))),
                Step::Delete(document) => (delete_document(name(document)), model.delete(name(document))),
                Step::Swap { document, share } => {
                    swap(&mut shard, document, share);
                    continue;
                }
                Step::Sweep(limit) => {
                    sweep_all(&mut shard, limit);
                    continue;
                }
                Step::Advance(limit) => {
                    shard.run(advance(limit));
                    continue;
                }
            };
            prop_assert_eq!(shard.run(operation), expected);
            check(&shard, &model);
            audit(&shard.tables);
        }
        check(&shard, &model);
        // What deleted documents left goes, and nothing else does.
        shard.advance();
        sweep_all(&mut shard, 7);
        check(&shard, &model);
        prop_assert_eq!(shard.next_due(), None);
        let keys = crate::keys::Keys::new(GROUP);
        let live: BTreeSet<u32> = model.documents.values().map(|document| document.number).collect();
        for key in shard.tables.dump().keys().filter(|key| keys.local_all().contains(*key)) {
            prop_assert!(live.contains(&keys.parse_local(key).unwrap().1.0));
        }
    }
}
