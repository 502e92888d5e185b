//! Input that has brought yrs down, or that Yjs and yrs read differently, is refused by its reason.

use conclave_document::{UpdateError, admit, validate};
use conclave_types::{AddedClocks, RequiredClock, UpdateClocks, YjsClient};
use proptest::prelude::*;

/// One client, clock 0, one block in the root type `t`, without deletions.
fn one_block(info: u8, content: &[u8]) -> Vec<u8> {
    [&[1, 1, 1, 0, info, 1, 1, b't'], content, &[0]].concat()
}

const VALUES: u8 = 8;

#[test]
fn arrays_nested_100_000_deep_are_refused() {
    // yrs overflows the stack on these 200,011 bytes.
    let nested = [vec![1], [117, 1].repeat(100_000), vec![126]].concat();
    assert_eq!(admit(&one_block(VALUES, &nested)), Err(UpdateError::Nesting { limit: 64 }));
    for (depth, allowed) in [(64, true), (65, false)] {
        let nested = [vec![1], [117, 1].repeat(depth), vec![126]].concat();
        assert_eq!(admit(&one_block(VALUES, &nested)).is_ok(), allowed, "{depth}");
        let nested = [vec![1], [118, 1, 1, b'k'].repeat(depth), vec![126]].concat();
        assert_eq!(admit(&one_block(VALUES, &nested)).is_ok(), allowed, "{depth}");
    }
}

#[test]
fn json_nested_deep_is_refused() {
    for (depth, allowed) in [(64, true), (65, false), (10_000, false)] {
        let json = "[".repeat(depth) + &"]".repeat(depth);
        // Its length, in as few bytes of seven bits as it takes.
        let mut len = json.len();
        let mut content = Vec::new();
        while len >= 0x80 {
            content.push(len as u8 | 0x80);
            len >>= 7;
        }
        content.push(len as u8);
        content.extend(json.bytes());
        assert_eq!(validate(&one_block(5, &content)).is_ok(), allowed, "{depth}");
    }
    assert_eq!(validate(&one_block(5, b"\x04[\"[\"")), Err(UpdateError::Json));
    assert!(validate(&one_block(5, b"\x05[\"[\"]")).is_ok());
}

#[test]
fn declared_counts_are_held_against_the_bytes() {
    let huge = [0x80, 0x80, 0x80, 0x80, 0x08]; // 2^31
    let refused =
        |update: &[u8]| assert!(matches!(admit(update), Err(UpdateError::Count { .. } | UpdateError::Truncated)));
    refused(&[&huge[..], &[1, 1, 0]].concat()); // clients
    refused(&[&[1], &huge[..], &[1, 0, 0]].concat()); // blocks
    refused(&one_block(VALUES, &huge));
    refused(&one_block(VALUES, &[&[1, 117], &huge[..]].concat()));
    refused(&one_block(VALUES, &[&[1, 118], &huge[..]].concat()));
    refused(&one_block(4, &huge)); // string
    refused(&one_block(3, &huge)); // bytes
    refused(&[&[0], &huge[..]].concat()); // clients of whom something is deleted
    refused(&[&[0, 1, 1], &huge[..]].concat()); // ranges
}

#[test]
fn a_long_run_costs_no_more_than_its_bytes() {
    // Seven bytes that delete or collect 2^31 clocks and one more.
    let beyond = [0x80, 0x80, 0x80, 0x80, 0x08];
    assert_eq!(admit(&[&[1, 1, 1, 0, 0], &beyond[..], &[0]].concat()), Err(UpdateError::Clock { limit: 0x7fff_ffff }));
    let most = [0xff, 0xff, 0xff, 0xff, 0x07];
    let collected = admit(&[&[1, 1, 1, 0, 0], &most[..], &[0]].concat()).expect("as much as there may be");
    assert_eq!(collected.added, [AddedClocks { client: YjsClient(1), from: 0, to: 0x7fff_ffff }]);
}

#[test]
fn what_yjs_and_yrs_would_never_write_is_refused() {
    let cases: &[(&str, Vec<u8>, UpdateError)] = &[
        ("no bytes", vec![], UpdateError::Truncated),
        ("no deletions", vec![0], UpdateError::Truncated),
        ("trailing byte", vec![0, 0, 0], UpdateError::Trailing { bytes: 1 }),
        ("overlong number", vec![0x80, 0, 0], UpdateError::Number),
        (
            "client of 54 bits",
            vec![1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0, 0, 1, 0],
            UpdateError::Number,
        ),
        ("section without blocks", vec![1, 0, 1, 0, 0, 0], UpdateError::Empty),
        ("collected nothing", vec![1, 1, 1, 0, 0, 0, 0], UpdateError::Empty),
        ("hole", vec![1, 1, 1, 0, 10, 3, 0], UpdateError::Hole { client: YjsClient(1) }),
        ("collected with an origin", vec![1, 1, 1, 0, 0x80, 1, 0, 1, 0], UpdateError::Kind { what: "content" }),
        ("kind of five bits", one_block(0x14, &[1, b'a']), UpdateError::Kind { what: "content" }),
        ("empty string", one_block(4, &[0]), UpdateError::Empty),
        ("deleted nothing", one_block(1, &[0]), UpdateError::Empty),
        ("no values", one_block(VALUES, &[0]), UpdateError::Empty),
        ("unknown value", one_block(VALUES, &[1, 99]), UpdateError::Kind { what: "value" }),
        ("not UTF-8", one_block(4, &[1, 0xff]), UpdateError::Text),
        (
            "JSON strings, of which yrs reads one too many",
            one_block(2, &[1, 1, b'1']),
            UpdateError::Unsupported { what: "JSON content" },
        ),
        (
            "XML hook, whose name yrs does not read",
            one_block(7, &[5, 1, b'h']),
            UpdateError::Unsupported { what: "XML hook" },
        ),
        ("weak link", one_block(7, &[7, 0]), UpdateError::Unsupported { what: "nested type" }),
        ("undefined type", one_block(7, &[15]), UpdateError::Unsupported { what: "nested type" }),
        (
            "options that are no object",
            one_block(9, &[1, b'g', 126]),
            UpdateError::Kind { what: "subdocument options" },
        ),
        ("parent neither name nor id", vec![1, 1, 1, 0, 4, 2, 1, b't', 1, b'a', 0], UpdateError::Number),
        (
            "client twice",
            vec![2, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0],
            UpdateError::RepeatedClient { client: YjsClient(1) },
        ),
        (
            "deleted of a client twice",
            vec![0, 2, 1, 1, 0, 1, 1, 1, 4, 1],
            UpdateError::RepeatedClient { client: YjsClient(1) },
        ),
        ("deleted nothing of a client", vec![0, 1, 1, 0], UpdateError::Count { declared: 1 }),
        ("deleted an empty range", vec![0, 1, 1, 1, 0, 0], UpdateError::Empty),
        ("deleted out of order", vec![0, 1, 1, 2, 4, 1, 0, 1], UpdateError::Unordered),
        ("deleted twice", vec![0, 1, 1, 2, 0, 3, 2, 1], UpdateError::Unordered),
        ("beside itself", vec![1, 1, 1, 0, 0x84, 1, 0, 1, b'a', 0], UpdateError::Causality { client: YjsClient(1) }),
    ];
    for (name, update, reason) in cases {
        assert_eq!(validate(update).as_ref(), Err(reason), "{name}");
        assert_eq!(admit(update).as_ref(), Err(reason), "{name}");
    }
}

#[test]
fn too_many_bytes_and_clients_are_refused() {
    assert_eq!(
        validate(&vec![0; (512 << 10) + 1]),
        Err(UpdateError::TooLarge { bytes: (512 << 10) + 1, limit: 512 << 10 })
    );
    let sections = |clients: u32| {
        let number = |number: u32| [number as u8 | 0x80, (number >> 7) as u8 | 0x80, (number >> 14) as u8 | 0x80, 1];
        let each = (0..clients).flat_map(|client| [&[1][..], &number(client), &[0, 0, 1]].concat());
        let count = if clients < 1 << 14 { vec![clients as u8 | 0x80, (clients >> 7) as u8] } else { vec![] };
        [count, each.collect(), vec![0]].concat()
    };
    assert_eq!(validate(&sections(10_000)).map(|clocks| clocks.added.len()), Ok(10_000));
    assert_eq!(validate(&sections(10_001)), Err(UpdateError::TooManyClients { limit: 10_000 }));
}

/// Two clients, each of whose first elements stands beside the other's.
#[test]
fn clients_that_wait_for_each_other_are_refused() {
    let update = |left_of_two: u8| {
        let two = [2, 2, 0, 0x84, 1, left_of_two, 1, b'x', 0x84, 2, 0, 1, b'y'];
        let one = [2, 1, 0, 4, 1, 1, b't', 1, b'a', 0x84, 2, 1, 1, b'b'];
        [&[2], &two[..], &one[..], &[0]].concat()
    };
    let clocks = admit(&update(0)).expect("one, two, one");
    assert_eq!(clocks.required, []);
    assert!(matches!(admit(&update(1)), Err(UpdateError::Causality { .. })));
}

#[test]
fn what_an_update_builds_on_is_told_by_client() {
    // Client 5 adds 7..9 beside 2:3 and 4:9, and deletes of 5, 6 and 4.
    let update = [&[1, 1, 5, 7, 0xc4, 2, 3, 4, 9, 2, b'h', b'i'][..], &[3, 6, 2, 0, 2, 5, 1, 5, 1, 3, 8, 4, 1, 2, 1]];
    let expected = UpdateClocks {
        added: vec![AddedClocks { client: YjsClient(5), from: 7, to: 9 }],
        required: vec![
            RequiredClock { client: YjsClient(2), clock: 4 },
            RequiredClock { client: YjsClient(4), clock: 10 },
            RequiredClock { client: YjsClient(6), clock: 6 },
        ],
        deletes: true,
    };
    let update = update.concat();
    let own_is_brought = [&update[..12], &[3, 6, 2, 0, 2, 5, 1, 5, 1, 3, 6, 4, 1, 2, 1]].concat();
    assert_eq!(admit(&own_is_brought), Ok(expected.clone()));
    let beyond_own = RequiredClock { client: YjsClient(5), clock: 11 };
    let mut expected = expected;
    expected.required.insert(2, beyond_own);
    assert_eq!(admit(&update), Ok(expected));
}

#[test]
fn a_string_takes_a_clock_for_each_utf16_unit() {
    let text = "aé日𝄞";
    let update = one_block(4, &[&[text.len() as u8], text.as_bytes()].concat());
    assert_eq!(validate(&update).map(|clocks| clocks.added[0].to), Ok(5));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = admit(&bytes);
        let _ = conclave_document::decode_state_vector(&bytes);
    }

    /// Small numbers, as updates mostly consist of, get further in.
    #[test]
    fn arbitrary_small_numbers_are_read_without_harm(
        bytes in proptest::collection::vec(prop_oneof![0_u8..12, Just(0x84), Just(0x44), Just(0x24), Just(0xc4), Just(0x87), 116_u8..128], 0..48),
    ) {
        if let (Ok(clocks), Ok(admitted)) = (validate(&bytes), admit(&bytes)) {
            prop_assert_eq!(clocks, admitted);
        }
    }
}
