//! A document as JSON, for people and tools that do not speak Yjs.
//!
//! Updates do not say what kind a root type is, so it is told by what it holds ([`root`]). Nested types do say it. Depth is
//! bounded before anything here recurses: shared types by `MAX_NESTED_TYPES`, values by `MAX_UPDATE_NESTING`.

use std::fmt::Write;

use bytes::Bytes;
use serde_json::{Map, Number, Value};
use yrs::branch::BranchPtr;
use yrs::types::text::YChange;
use yrs::{
    Any, Array, ArrayRef, GetString, Map as _, MapRef, Out, ReadTxn, Text, TextRef, Transaction, Xml, XmlElementRef,
    XmlFragment, XmlFragmentRef, XmlOut,
};

use crate::load::{DocumentError, Pieces};

/// A document as an object with an entry a root type.
///
/// A map becomes an object, an array an array, text a string and XML a string of it; a root type with both keys and
/// elements becomes `{"attributes": …, "children": …}`. Bytes become base64, a subdocument `{"guid": …}`, and what JSON
/// does not know (`undefined`, numbers that are not finite) null.
pub fn to_json(base: Option<&[u8]>, tail: &[Bytes]) -> Result<Value, DocumentError> {
    let loaded = Pieces::read(base, tail)?.load(|_| ())?;
    let object = loaded.read(|txn| {
        let roots = txn.root_refs().filter_map(|(name, root_type)| {
            let branch = root_type.try_branch().map(BranchPtr::from)?;
            Some((name.to_owned(), root(branch, txn)))
        });
        roots.collect::<Map<String, Value>>()
    })?;
    Ok(Value::Object(object))
}

/// What a root type holds tells its kind: keys a map, strings a text, XML nodes XML, anything else an array.
fn root(branch: BranchPtr, txn: &Transaction<'_>) -> Value {
    let map = MapRef::from(branch);
    if map.len(txn) == 0 {
        return sequence(branch, txn);
    }
    let attributes = object(&map, txn);
    if ArrayRef::from(branch).iter(txn).next().is_none() {
        return attributes;
    }
    Value::Object(Map::from_iter([
        ("attributes".to_owned(), attributes),
        ("children".to_owned(), sequence(branch, txn)),
    ]))
}

fn sequence(branch: BranchPtr, txn: &Transaction<'_>) -> Value {
    let text = TextRef::from(branch);
    // Of an array's elements this sees types and embedded values alone.
    let pieces = text.diff(txn, YChange::identity);
    let string = |out: &Out| matches!(out, Out::Any(Any::String(_)));
    let node = |out: &Out| matches!(out, Out::YXmlElement(_) | Out::YXmlText(_) | Out::YXmlFragment(_));
    if pieces.iter().any(|piece| string(&piece.insert)) {
        Value::String(text.get_string(txn))
    } else if pieces.iter().any(|piece| node(&piece.insert)) {
        let mut xml = String::new();
        children(&XmlFragmentRef::from(branch), txn, &mut xml);
        Value::String(xml)
    } else {
        array(&ArrayRef::from(branch), txn)
    }
}

fn value(out: Out, txn: &Transaction<'_>) -> Value {
    match out {
        Out::Any(any) => plain(&any),
        Out::YText(text) => Value::String(text.get_string(txn)),
        Out::YArray(elements) => array(&elements, txn),
        Out::YMap(entries) => object(&entries, txn),
        Out::YXmlElement(node) => xml(XmlOut::Element(node), txn),
        Out::YXmlText(node) => xml(XmlOut::Text(node), txn),
        Out::YXmlFragment(node) => xml(XmlOut::Fragment(node), txn),
        Out::YDoc(doc) => Value::Object(Map::from_iter([("guid".to_owned(), Value::String(doc.guid().to_string()))])),
        Out::UndefinedRef(branch) => root(branch, txn),
    }
}

fn array(elements: &ArrayRef, txn: &Transaction<'_>) -> Value {
    Value::Array(elements.iter(txn).map(|element| value(element, txn)).collect())
}

fn object(entries: &MapRef, txn: &Transaction<'_>) -> Value {
    Value::Object(entries.iter(txn).map(|(key, entry)| (key.to_owned(), value(entry, txn))).collect())
}

fn plain(any: &Any) -> Value {
    match any {
        Any::Null | Any::Undefined => Value::Null,
        Any::Bool(bool) => Value::Bool(*bool),
        Any::Number(yrs::any::Number::Int(integer)) => Value::Number((*integer).into()),
        Any::Number(yrs::any::Number::Float(float)) => Number::from_f64(*float).map_or(Value::Null, Value::Number),
        Any::String(text) => Value::String(text.to_string()),
        Any::Buffer(bytes) => Value::String(base64(bytes)),
        Any::Array(elements) => Value::Array(elements.iter().map(plain).collect()),
        Any::Map(entries) => Value::Object(entries.iter().map(|(key, any)| (key.clone(), plain(any))).collect()),
    }
}

fn xml(node: XmlOut, txn: &Transaction<'_>) -> Value {
    let mut text = String::new();
    write_xml(node, txn, &mut text);
    Value::String(text)
}

/// As Yjs prints it: attributes by name, nothing escaped.
fn write_xml(node: XmlOut, txn: &Transaction<'_>, text: &mut String) {
    match node {
        XmlOut::Element(element) => write_element(&element, txn, text),
        XmlOut::Fragment(fragment) => children(&fragment, txn, text),
        XmlOut::Text(node) => text.push_str(&node.get_string(txn)),
    }
}

fn write_element(element: &XmlElementRef, txn: &Transaction<'_>, text: &mut String) {
    let tag = element.try_tag().cloned().unwrap_or_default();
    let _ = write!(text, "<{tag}");
    let mut attributes: Vec<_> = element.attributes(txn).collect();
    attributes.sort_by(|one, other| one.0.cmp(other.0));
    for (name, attribute) in attributes {
        let _ = match value(attribute, txn) {
            Value::String(string) => write!(text, " {name}=\"{string}\""),
            other => write!(text, " {name}=\"{other}\""),
        };
    }
    text.push('>');
    children(element, txn, text);
    let _ = write!(text, "</{tag}>");
}

fn children(parent: &impl XmlFragment, txn: &Transaction<'_>, text: &mut String) {
    for child in parent.children(txn) {
        write_xml(child, txn, text);
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}
