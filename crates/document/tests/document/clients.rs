//! Documents of very many clients, each of whom builds on another.

use bytes::Bytes;
use conclave_document::{admit, compact, diff, to_json};
use conclave_types::{Clocks, YjsClient};

use crate::nesting::{number, on_a_small_stack};

/// Client `client` writes a letter behind that of the client before it.
fn section(client: u64, update: &mut Vec<u8>) {
    update.push(1);
    number(client, update);
    update.push(0);
    if client == 0 {
        update.extend([4, 1, 1, b't', 1, b'a']);
    } else {
        update.push(0x84);
        number(client - 1, update);
        update.extend([0, 1, b'b']);
    }
}

fn one(client: u64) -> Bytes {
    let mut update = vec![1];
    section(client, &mut update);
    update.push(0);
    Bytes::from(update)
}

/// yrs takes the highest client first, so all wait for the lowest; then it finds each section empty, one by one.
#[test]
fn many_clients_that_wait_for_each_other_do_not_overflow_the_stack() {
    const CLIENTS: u64 = 10_000;
    on_a_small_stack(|| {
        let mut all = Vec::new();
        number(CLIENTS, &mut all);
        (0..CLIENTS).for_each(|client| section(client, &mut all));
        all.push(0);
        assert_eq!(admit(&all).map(|clocks| clocks.added.len()), Ok(CLIENTS as usize));
        let clocks: Clocks = (0..CLIENTS).map(|client| (YjsClient(client), 1)).collect();
        let tail: Vec<Bytes> = (0..CLIENTS).map(one).collect();
        let base = compact(None, &tail, &clocks).expect("compacts");
        assert_eq!(compact(Some(&base), &[], &clocks).map(|again| again.len()), Ok(base.len()));
        assert_eq!(to_json(Some(&all), &[]), to_json(Some(&base), &[]));
        let half = clocks.range(..YjsClient(CLIENTS / 2)).map(|(client, clock)| (*client, *clock)).collect();
        assert!(diff(&base, &half).expect("diff").len() < base.len());
    });
}
