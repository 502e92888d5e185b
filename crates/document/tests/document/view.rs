//! What a document shows as JSON.

use bytes::Bytes;
use conclave_document::to_json;
use serde_json::json;
use yrs::types::Attrs;
use yrs::{
    Any, Array, ArrayPrelim, Doc, Map, MapPrelim, ReadTxn, StateVector, Text, TextPrelim, Transact, TransactionMut,
    WriteTxn, Xml, XmlElementPrelim, XmlFragment, XmlTextPrelim,
};

fn shown(edit: impl FnOnce(&mut TransactionMut<'_>)) -> serde_json::Value {
    let doc = Doc::new();
    edit(&mut doc.transact_mut());
    let update = doc.transact().encode_state_as_update_v1(&StateVector::default());
    to_json(None, &[Bytes::from(update)]).expect("shows")
}

#[test]
fn a_root_type_is_known_by_what_it_holds() {
    let json = shown(|txn| {
        let text = txn.get_or_insert_text("text");
        text.insert(txn, 0, "bold words");
        text.format(txn, 0, 4, Attrs::from([("bold".into(), Any::Bool(true))]));
        let map = txn.get_or_insert_map("map");
        map.insert(txn, "int", 7_i64);
        map.insert(txn, "float", 0.5);
        map.insert(txn, "nested", MapPrelim::from([("list", ArrayPrelim::from([1_i64, 2]))]));
        map.insert(txn, "text", TextPrelim::new("inner"));
        let array = txn.get_or_insert_array("array");
        array.push_back(txn, "x");
        array.push_back(txn, Any::Undefined);
        array.push_back(txn, vec![1_u8, 2, 3, 4]);
        let xml = txn.get_or_insert_xml_fragment("xml");
        let element = xml.push_back(txn, XmlElementPrelim::empty("p"));
        element.insert_attribute(txn, "b", "2");
        element.insert_attribute(txn, "a", "1");
        element.push_back(txn, XmlTextPrelim::new("hi"));
    });
    let expected = json!({
        "text": "bold words",
        "map": {"int": 7, "float": 0.5, "nested": {"list": [1, 2]}, "text": "inner"},
        "array": ["x", null, "AQIDBA=="],
        "xml": r#"<p a="1" b="2">hi</p>"#,
    });
    assert_eq!(json, expected);
}

#[test]
fn a_root_element_shows_its_attributes_beside_its_children() {
    let json = shown(|txn| {
        txn.get_or_insert_map("root").insert(txn, "class", "wide");
        txn.get_or_insert_xml_fragment("root").push_back(txn, XmlElementPrelim::empty("p"));
    });
    assert_eq!(json, json!({"root": {"attributes": {"class": "wide"}, "children": "<p></p>"}}));
}

#[test]
fn an_empty_document_shows_nothing() {
    assert_eq!(to_json(None, &[]), Ok(json!({})));
}
