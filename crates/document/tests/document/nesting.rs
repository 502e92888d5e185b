//! Shared types nested without end do not overflow a stack, whoever reads the document.

use bytes::Bytes;
use conclave_document::{
    CompactionError, DocumentError, MAX_NESTED_TYPES, Replica, ReplicaError, UpdateError, admit, compact, to_json,
};
use conclave_types::{Clocks, YjsClient};

const CLIENT: YjsClient = YjsClient(1);

pub fn number(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Arrays, each inside the one before, from clock `from`.
fn nested(from: u64, count: u64) -> Bytes {
    let mut update = vec![1];
    number(count, &mut update);
    update.push(1);
    number(from, &mut update);
    for clock in from..from + count {
        update.push(7);
        if clock == 0 {
            update.extend([1, 1, b't']);
        } else {
            update.extend([0, 1]);
            number(clock - 1, &mut update);
        }
        update.push(0);
    }
    update.push(0);
    Bytes::from(update)
}

fn delete_all(clocks: u64) -> Bytes {
    let mut update = vec![0, 1, 1, 1, 0];
    number(clocks, &mut update);
    Bytes::from(update)
}

const TOO_DEEP: UpdateError = UpdateError::TypeNesting { limit: MAX_NESTED_TYPES };

/// On so little stack that recursion over the depth allowed must have room to spare in a thread's 2 MiB.
#[expect(clippy::disallowed_methods, reason = "a thread with little stack is what is tested")]
pub fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(test).expect("spawns");
    thread.join().expect("no panic");
}

#[test]
fn a_hundred_thousand_nested_types_are_an_error_wherever_they_are_read() {
    on_a_small_stack(|| {
        let tail: Vec<Bytes> = (0..100_000).map(|clock| nested(clock, 1)).chain([delete_all(100_000)]).collect();
        assert_eq!(to_json(None, &tail), Err(DocumentError::Invalid(TOO_DEEP)));
        let clocks = Clocks::from([(CLIENT, 100_000)]);
        assert_eq!(compact(None, &tail, &clocks), Err(CompactionError::Document(DocumentError::Invalid(TOO_DEEP))));
        let mut replica = Replica::new(YjsClient(2));
        let refused = tail.iter().find_map(|update| replica.apply(update).err());
        assert_eq!(refused, Some(ReplicaError::Document(DocumentError::Invalid(TOO_DEEP))));
    });
}

#[test]
fn as_many_in_one_update_are_not_admitted() {
    assert_eq!(admit(&nested(0, 50_000)), Err(TOO_DEEP));
    assert!(admit(&nested(0, 256)).is_ok());
    assert_eq!(admit(&nested(0, 257)).err(), None, "the outermost is in the root type");
    assert_eq!(admit(&nested(0, 258)), Err(TOO_DEEP));
}

#[test]
fn the_depth_that_is_allowed_is_read_printed_and_deleted_on_a_small_stack() {
    on_a_small_stack(|| {
        let mut tail = vec![nested(0, 257)];
        let clocks = Clocks::from([(CLIENT, 257)]);
        let base = compact(None, &tail, &clocks).expect("compacts");
        assert!(to_json(Some(&base), &[]).expect("shows").to_string().contains(&"[".repeat(257)));
        tail.push(delete_all(257));
        let base = compact(None, &tail, &clocks).expect("compacts");
        assert_eq!(to_json(Some(&base), &[]).expect("shows").to_string(), r#"{"t":[]}"#);
    });
}

/// Depth is inherited from neighbours, and many types side by side are not deep.
#[test]
fn many_types_beside_each_other_are_not_deep() {
    let mut update = vec![1];
    number(5_000, &mut update);
    update.extend([1, 0, 7, 1, 1, b't', 0]);
    for clock in 1..5_000 {
        update.extend([0x87, 1]);
        number(clock - 1, &mut update);
        update.push(0);
    }
    update.push(0);
    assert_eq!(admit(&update).map(|clocks| clocks.added[0].to), Ok(5_000));
}
