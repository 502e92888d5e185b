//! Updates and state vectors by their bytes, as no editor writes them.
//!
//! The worst of them were measured: nested deep they overflow the stack of yrs, which ends the process; a count of seven
//! bytes makes it reserve half a gigabyte; a run of seven bytes stands for 2^31 elements.

use bytes::Bytes;
use conclave_types::limits::{MAX_UPDATE_BYTES, MAX_UPDATE_CLIENTS};

/// Kinds of content, and what may stand beside one in its first byte.
const GARBAGE: u8 = 0;
const DELETED: u8 = 1;
const BINARY: u8 = 3;
const STRING: u8 = 4;
const EMBED: u8 = 5;
const FORMAT: u8 = 6;
const TYPE: u8 = 7;
const VALUES: u8 = 8;
const SKIPPED: u8 = 10;
const HAS_KEY: u8 = 0x20;
const HAS_LEFT: u8 = 0x80;

/// 2^31.
const HUGE: [u8; 5] = [0x80, 0x80, 0x80, 0x80, 0x08];

fn number(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [number(text.len() as u64), text.as_bytes().to_vec()].concat()
}

/// A client's blocks from a clock on, and what is deleted.
fn update(client: u64, clock: u64, blocks: &[Vec<u8>], deleted: &[u8]) -> Bytes {
    let section = [number(1), number(blocks.len() as u64), number(client), number(clock)].concat();
    [section, blocks.concat(), deleted.to_vec()].concat().into()
}

/// One block at clock 0 of client 1 in the root type `t`.
fn block(kind: u8, content: &[u8]) -> Bytes {
    update(1, 0, &[[&[kind, 1, 1, b't'], content].concat()], &[0])
}

/// A letter behind one that nobody has written: what it builds on is missing.
pub fn orphan(client: u64, clock: u64) -> Bytes {
    let block = [vec![STRING | HAS_LEFT], number(client), number(clock - 1), vec![1, b'a']].concat();
    update(client, clock, &[block], &[0])
}

/// A letter by a client that writes for the first time.
pub fn letter(client: u64) -> Bytes {
    update(client, 0, &[vec![STRING, 1, 1, b't', 1, b'a']], &[0])
}

/// So many bytes in one element.
pub fn binary(client: u64, bytes: usize) -> Bytes {
    let content = [number(bytes as u64), vec![0; bytes]].concat();
    update(client, 0, &[[vec![BINARY, 1, 1, b'b'], content].concat()], &[0])
}

/// Inside something that is a letter.
pub fn inside_a_letter(client: u64, letter_of: u64) -> Bytes {
    let block = [vec![VALUES, 0], number(letter_of), vec![0, 1, 126]].concat();
    update(client, 0, &[block], &[0])
}

/// A run of as many elements as there may be, collected long ago: seven bytes that stand for 2^31 - 1.
pub fn longest_run() -> Bytes {
    let most = number(0x7fff_ffff);
    update(1, 0, &[[vec![GARBAGE], most].concat()], &[0])
}

/// A little of everything that a document may hold, and a deletion.
pub fn everything(client: u64) -> Bytes {
    let inside = |clock: u64| [vec![0], number(client), number(clock)].concat();
    let behind = |clock: u64| [number(client), number(clock)].concat();
    let array_of_map = [vec![117, 2, 118, 1], text("deep"), vec![120], vec![119], text("two")].concat();
    let blocks = [
        vec![TYPE, 1, 1, b'a', 0],
        [vec![VALUES], inside(0), vec![2, 125, 7], array_of_map].concat(),
        vec![TYPE | HAS_KEY, 1, 1, b'm', 1, b'k', 1],
        [vec![VALUES | HAS_KEY], inside(3), vec![1, b'x', 1, 127]].concat(),
        [vec![STRING, 1], text("text"), text("Hallo")].concat(),
        [vec![FORMAT | HAS_LEFT], behind(9), text("bold"), text("true")].concat(),
        [vec![EMBED | HAS_LEFT], behind(10), text(r#"{"image":[1,2]}"#)].concat(),
        [vec![TYPE, 1, 1, b'x', 3], text("p")].concat(),
        [vec![TYPE], inside(12), vec![6]].concat(),
        [vec![BINARY, 1, 1, b'b'], vec![3, 1, 2, 3]].concat(),
        vec![DELETED, 1, 1, b'd', 3],
    ];
    let deleted = [vec![1], number(client), vec![1, 6, 1]].concat();
    update(client, 0, &blocks, &deleted)
}

/// What is refused by its bytes alone, whatever the document holds.
pub fn refused() -> Vec<(&'static str, Bytes)> {
    let nested = |open: &[u8]| block(VALUES, &[vec![1], open.repeat(100_000), vec![126]].concat());
    let json = "[".repeat(100_000) + &"]".repeat(100_000);
    let clients = |count: usize| -> Bytes {
        let each = (0..count as u64).map(|client| [vec![1], number(client + 1), vec![0, GARBAGE, 1]].concat());
        [number(count as u64), each.collect::<Vec<_>>().concat(), vec![0]].concat().into()
    };
    let declared = |before: &[u8], after: &[u8]| Bytes::from([before, &HUGE, after].concat());
    let beyond = number(1 << 31);
    vec![
        ("an update of arrays nested 100,000 deep", nested(&[117, 1])),
        ("an update of maps nested 100,000 deep", nested(&[118, 1, 1, b'k'])),
        ("an update of JSON nested 100,000 deep", block(EMBED, &text(&json))),
        ("an update of 2^31 clients", declared(&[], &[1, 1, 0])),
        ("an update of 2^31 blocks", declared(&[1], &[1, 0, 0])),
        ("an update of 2^31 values", block(VALUES, &HUGE)),
        ("an update of an array of 2^31", block(VALUES, &[&[1, 117][..], &HUGE].concat())),
        ("an update of a map of 2^31", block(VALUES, &[&[1, 118][..], &HUGE].concat())),
        ("an update of a string of 2^31 bytes", block(STRING, &HUGE)),
        ("an update of 2^31 bytes", block(BINARY, &HUGE)),
        ("an update that deletes of 2^31 clients", declared(&[0], &[])),
        ("an update that deletes 2^31 ranges", declared(&[0, 1, 1], &[])),
        ("an update with a run past the last clock", update(1, 0, &[[vec![GARBAGE], beyond.clone()].concat()], &[0])),
        ("an update with a deleted run past the last clock", block(DELETED, &beyond)),
        ("an update with a run of skipped clocks", update(1, 0, &[[vec![SKIPPED], number(1 << 30)].concat()], &[0])),
        ("an update of 10,001 clients", clients(MAX_UPDATE_CLIENTS + 1)),
        ("an update of no bytes", Bytes::new()),
        ("an update that ends too early", letter(1).slice(..7)),
        ("an update with bytes behind it", [&letter(1)[..], &[0]].concat().into()),
        ("an update of random bytes", vec![0xff; 40].into()),
        ("an update of zeros up to the limit", vec![0; MAX_UPDATE_BYTES].into()),
        ("an update that is no UTF-8", block(STRING, &[1, 0xff])),
        ("an update beside itself", update(1, 0, &[vec![STRING | HAS_LEFT, 1, 0, 1, b'a']], &[0])),
        ("an update in the second encoding", vec![0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0].into()),
    ]
}

/// State vectors that claim more than they hold, or are none.
pub fn refused_vectors() -> Vec<(&'static str, Bytes)> {
    let claiming = |clients: u64| Bytes::from([number(clients), vec![1, 1]].concat());
    vec![
        ("a state vector of 2^27 clients", claiming(1 << 27)),
        ("a state vector of 2^28 clients", claiming(1 << 28)),
        ("a state vector of 2^63 clients", claiming(1 << 63)),
        ("a state vector with a client twice", vec![2, 1, 1, 1, 2].into()),
        ("a state vector past the last clock", [vec![1, 1], number(1 << 31)].concat().into()),
        ("a state vector of random bytes", vec![0xff; 40].into()),
    ]
}

#[test]
fn the_nested_update_is_the_one_that_was_measured() {
    assert_eq!(refused()[0].1.len(), 200_011);
}

#[test]
fn what_is_pushed_as_valid_is_valid() {
    for update in [everything(9), letter(9), orphan(9, 3), inside_a_letter(9, 8), longest_run(), binary(9, 10_000)] {
        conclave_document::admit(&update).expect("valid");
    }
}
