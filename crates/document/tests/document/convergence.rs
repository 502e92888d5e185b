//! Whatever authors do at the same time, all copies end up equal, however they came by the updates.

use conclave_document::{Edit, Replica, compact, covers, diff, to_json, validate};
use conclave_types::{Clocks, YjsClient};
use proptest::prelude::*;
use yrs::ReadTxn;
use yrs::Transact;

use crate::author::{Author, Habit, Random, Server, session};

fn habit() -> impl Strategy<Value = Habit> {
    prop_oneof![Just(Habit::Collects), Just(Habit::KeepsSubdocuments)]
}

/// A document as text: what two copies are compared by.
fn shown(author: &Author) -> serde_json::Value {
    to_json(Some(&author.encode()), &[]).expect("shows")
}

fn deleted(author: &Author) -> yrs::IdSet {
    author.doc.transact().snapshot().delete_set
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn all_authors_and_the_server_agree(seed in any::<u64>(), habit in habit(), edits in 1_usize..120) {
        let (server, authors) = session(seed, habit, edits);
        let json = to_json(None, &server.log).expect("shows");
        for author in &authors {
            prop_assert_eq!(author.clocks(), server.clocks.clone());
            prop_assert!(!author.doc.transact().has_missing_updates());
            prop_assert_eq!(shown(author), json.clone());
        }
    }

    #[test]
    fn a_compacted_document_is_the_same_document(seed in any::<u64>(), habit in habit(), cut in 0_usize..80) {
        let (server, authors) = session(seed, habit, 80);
        let cut = cut.min(server.log.len());
        let base = compact(None, &server.log[..cut], &clocks_of(&server, cut)).expect("compacts");
        let whole = compact(Some(&base), &server.log[cut..], &server.clocks).expect("compacts");
        prop_assert_eq!(to_json(Some(&whole), &[]), to_json(None, &server.log));
        let copy = Author::new(5, Habit::Collects);
        copy.apply(&whole);
        prop_assert_eq!(copy.clocks(), server.clocks.clone());
        prop_assert_eq!(deleted(&copy), deleted(&authors[0]));
        // Edits go on from it.
        let update = copy.edit(&mut Random::new(seed));
        authors[0].apply(&update);
        prop_assert_eq!(shown(&copy), shown(&authors[0]));
    }

    /// As a client joins that was away since `left`: part of the base, and what of the tail it lacks.
    #[test]
    fn what_a_client_lacks_brings_it_up_to_date(seed in any::<u64>(), habit in habit(), left in 0_usize..80, cut in 0_usize..80) {
        let (server, authors) = session(seed, habit, 80);
        let (left, cut) = (left.min(server.log.len()), cut.min(server.log.len()));
        let base = compact(None, &server.log[..cut], &clocks_of(&server, cut)).expect("compacts");
        let old = Author::new(5, habit);
        server.log[..left].iter().for_each(|update| old.apply(update));
        let known = old.clocks();
        old.apply(&diff(&base, &known).expect("diff"));
        for update in &server.log[cut..] {
            if !covers(&known, &validate(update).expect("valid")) {
                old.apply(update);
            }
        }
        prop_assert!(!old.doc.transact().has_missing_updates());
        prop_assert_eq!(old.clocks(), server.clocks.clone());
        prop_assert_eq!(shown(&old), shown(&authors[0]));
    }

    /// While nobody else edits it writes its updates itself: yrs must read the same from them.
    #[test]
    fn a_replica_alone_writes_what_it_means(seed in any::<u64>(), steps in 1_usize..400) {
        let mut random = Random::new(seed);
        let (mut replica, mut server) = (Replica::new(YjsClient(1 << 40)), Server::default());
        let mut text: Vec<char> = Vec::new();
        for _ in 0..steps {
            let mut edits = Vec::new();
            for _ in 0..1 + random.below(2) {
                let at = random.below(text.len() as u32 + 1);
                let delete = random.below(4).min(text.len() as u32 - at);
                let insert = ["", "x", "é日", "some words"][random.below(4) as usize].to_owned();
                text.splice(at as usize..(at + delete) as usize, insert.chars());
                edits.push(Edit { at, delete, insert });
            }
            let update = replica.edit("text", &edits).expect("in range");
            prop_assert!(server.offer(update).is_ok());
        }
        let text: String = text.into_iter().collect();
        prop_assert_eq!(&replica.text("text"), &text);
        prop_assert_eq!(replica.clocks(), server.clocks.clone());
        let mut other = Replica::new(YjsClient(2));
        for update in &server.log {
            other.apply(update).expect("applies");
        }
        prop_assert_eq!(&other.text("text"), &text);
        // It goes on the same when it is no longer alone.
        let elsewhere = other.insert("text", 0, "other ").expect("inserts");
        replica.apply(&elsewhere).expect("applies");
        other.apply(&replica.insert("text", 6, "own ").expect("inserts")).expect("applies");
        prop_assert_eq!(replica.text("text"), format!("other own {text}"));
        prop_assert_eq!(other.text("text"), replica.text("text"));
    }

    #[test]
    fn replicas_that_edit_at_once_end_with_the_same_text(seed in any::<u64>(), steps in 1_usize..200) {
        let mut random = Random::new(seed);
        let mut server = Server::default();
        let mut replicas = [2, 9, 4].map(|client| (Replica::new(YjsClient(client)), 0));
        for _ in 0..steps {
            let (replica, seen) = &mut replicas[random.below(3) as usize];
            if random.below(4) == 0 {
                follow(replica, seen, &server);
            }
            let len = replica.text("text").encode_utf16().count() as u32;
            let update = if len > 4 && random.below(3) == 0 {
                replica.delete("text", random.below(len - 3), 1 + random.below(3))
            } else {
                replica.insert("text", random.below(len + 1), ["x", "𝄞", "words"][random.below(3) as usize])
            };
            prop_assert_eq!(server.offer(update.expect("in range")), Ok(conclave_types::Fit::New));
        }
        for (replica, seen) in &mut replicas {
            follow(replica, seen, &server);
        }
        let mut late = Replica::new(YjsClient(77));
        let base = compact(None, &server.log, &server.clocks).expect("compacts");
        late.apply(&base).expect("applies");
        for (replica, _) in &replicas {
            prop_assert_eq!(replica.text("text"), late.text("text"));
            prop_assert_eq!(replica.clocks(), server.clocks.clone());
            prop_assert!(!replica.has_pending());
        }
    }
}

fn follow(replica: &mut Replica, seen: &mut usize, server: &Server) {
    for update in &server.log[*seen..] {
        replica.apply(update).expect("applies");
    }
    *seen = server.log.len();
}

/// The server's clocks after its first updates.
fn clocks_of(server: &Server, updates: usize) -> Clocks {
    let mut earlier = Server::default();
    for update in &server.log[..updates] {
        earlier.keep(update.clone(), &validate(update).expect("valid"));
    }
    earlier.clocks
}

#[test]
fn a_replica_brings_another_up_to_date_by_its_clocks() {
    let (mut one, mut other) = (Replica::new(YjsClient(1)), Replica::new(YjsClient(2)));
    other.apply(&one.insert("text", 0, "shared").expect("inserts")).expect("applies");
    one.insert("text", 6, " mine").expect("inserts");
    other.insert("text", 0, "yours ").expect("inserts");
    other.apply(&one.diff(&other.clocks()).expect("diff")).expect("applies");
    one.apply(&other.diff(&one.clocks()).expect("diff")).expect("applies");
    assert_eq!(one.text("text"), "yours shared mine");
    assert_eq!((one.text("text"), one.state_vector()), (other.text("text"), other.state_vector()));
}

#[test]
fn an_edit_beyond_the_end_changes_nothing() {
    let mut replica = Replica::new(YjsClient(1));
    assert!(replica.insert("text", 1, "x").is_err());
    assert!(replica.delete("text", 0, 1).is_err());
    assert!(replica.delete("text", u32::MAX, u32::MAX).is_err());
    assert_eq!((replica.text("text"), replica.clocks()), (String::new(), Clocks::new()));
}

#[test]
fn a_document_whose_clocks_are_not_those_counted_is_not_compacted() {
    let update = Replica::new(YjsClient(1)).insert("text", 0, "abc").expect("inserts");
    let counted = |clock| Clocks::from([(YjsClient(1), clock)]);
    assert!(compact(None, std::slice::from_ref(&update), &counted(3)).is_ok());
    for wrong in [2, 4] {
        let refused = compact(None, std::slice::from_ref(&update), &counted(wrong));
        assert_eq!(refused, Err(conclave_document::CompactionError::Clocks));
    }
}
