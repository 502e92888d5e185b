//! A document with subdocuments is freed like any other: in yrs they hold the document that holds them.

use bytes::Bytes;
use conclave_document::{Replica, admit, compact, to_json};
use conclave_types::{Clocks, YjsClient};
use yrs::{Array, Doc, ReadTxn, StateVector, Text, Transact, WriteTxn};

/// Memory of the process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    resident.expect("a number") * 4_096
}

#[test]
fn a_document_that_holds_a_subdocument_is_freed() {
    let doc = Doc::new();
    {
        let mut txn = doc.transact_mut();
        txn.get_or_insert_text("text").insert(&mut txn, 0, &"x".repeat(1 << 20));
        txn.get_or_insert_array("docs").push_back(&mut txn, Doc::new());
    }
    let update = Bytes::from(doc.transact().encode_state_as_update_v1(&StateVector::default()));
    let clocks = Clocks::from([(YjsClient(doc.client_id().get()), (1 << 20) + 1)]);
    let tail = std::slice::from_ref(&update);
    let before = resident();
    for _ in 0..50 {
        to_json(None, tail).expect("shows");
        compact(None, tail, &clocks).expect("compacts");
        Replica::new(YjsClient(1)).apply(&update).expect("applies");
    }
    // Each of 200 documents has at least 1 MiB of text.
    assert!(resident() < before + (40 << 20), "{before} bytes became {}", resident());
}

#[test]
fn a_subdocument_that_is_inserted_and_deleted_does_no_harm() {
    let doc = Doc::with_options(yrs::Options { skip_gc: true, ..Default::default() });
    let docs = doc.get_or_insert_array("docs");
    let mut tail = Vec::new();
    let mut replica = Replica::new(YjsClient(1));
    for step in 0..60 {
        let mut txn = doc.transact_mut();
        if step % 3 == 2 {
            docs.remove(&mut txn, 0);
        } else {
            docs.push_back(&mut txn, Doc::new());
        }
        tail.push(Bytes::from(txn.encode_update_v1()));
    }
    for update in &tail {
        admit(update).expect("admitted");
        replica.apply(update).expect("applies");
    }
    let base = compact(None, &tail, &replica.clocks()).expect("compacts");
    assert_eq!(to_json(Some(&base), &[]).expect("shows")["docs"].as_array().map(Vec::len), Some(20));
}
