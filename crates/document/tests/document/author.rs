//! Authors who edit with yrs itself, in every way that a client may, and the server's side of their documents.

use bytes::Bytes;
use conclave_document::admit;
use conclave_types::{Clocks, Fit, UpdateClocks, YjsClient};
use yrs::block::ClientID;
use yrs::types::Attrs;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Array, ArrayPrelim, Doc, Map, MapPrelim, OffsetKind, Options, ReadTxn, StateVector, Text, TextPrelim,
    Transact, TransactionMut, Update, WriteTxn, Xml, XmlElementPrelim, XmlFragment, XmlTextPrelim,
};

/// Choices by a seed (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 20) % u64::from(limit.max(1))) as u32
    }
}

/// How an author's yrs is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Deleted content is collected, as by default.
    Collects,
    /// Everything is kept, so that subdocuments may be deleted too: yrs frees those while it still refers to them.
    KeepsSubdocuments,
}

pub struct Author {
    pub doc: Doc,
    habit: Habit,
    /// How much of the server's log it has seen.
    pub seen: usize,
}

impl Author {
    pub fn new(client: u64, habit: Habit) -> Self {
        let mut options = Options::with_client_id(ClientID::new(client));
        options.offset_kind = OffsetKind::Utf16;
        options.skip_gc = habit == Habit::KeepsSubdocuments;
        options.cleanup_formatting = false;
        Self { doc: Doc::with_options(options), habit, seen: 0 }
    }

    /// Some edits in one update.
    pub fn edit(&self, random: &mut Random) -> Bytes {
        let mut txn = self.doc.transact_mut();
        for _ in 0..1 + random.below(3) {
            edit(&mut txn, random, self.habit);
        }
        Bytes::from(txn.encode_update_v1())
    }

    pub fn apply(&self, update: &[u8]) {
        let update = Update::decode_v1(update).expect("decodes");
        self.doc.transact_mut().apply_update(update).expect("applies");
    }

    pub fn clocks(&self) -> Clocks {
        clocks(&self.doc.transact().state_vector())
    }

    /// What this author's document holds, as one update.
    pub fn encode(&self) -> Bytes {
        Bytes::from(self.doc.transact().encode_state_as_update_v1(&StateVector::default()))
    }
}

pub fn clocks(vector: &StateVector) -> Clocks {
    let known = vector.iter().filter(|(_, clock)| **clock > 0);
    known.map(|(client, clock)| (YjsClient(client.get()), u64::from(*clock))).collect()
}

/// One edit of some kind somewhere.
fn edit(txn: &mut TransactionMut<'_>, random: &mut Random, habit: Habit) {
    match random.below(12) {
        0..=3 => edit_text(txn, random),
        4..=5 => edit_map(txn, random),
        6..=7 => edit_array(txn, random),
        8..=10 => edit_xml(txn, random),
        _ if habit == Habit::KeepsSubdocuments => {
            let docs = txn.get_or_insert_array("docs");
            if docs.len(txn) > 0 && random.below(3) == 0 {
                docs.remove(txn, 0);
            } else {
                docs.push_back(
                    txn,
                    Doc::with_options(Options::with_guid_and_client_id("sub".into(), ClientID::new(1))),
                );
            }
        }
        _ => edit_text(txn, random),
    }
}

fn edit_text(txn: &mut TransactionMut<'_>, random: &mut Random) {
    let text = txn.get_or_insert_text("text");
    let len = text.len(txn);
    let at = random.below(len + 1);
    match random.below(8) {
        0..=1 if len > 0 => {
            let at = random.below(len);
            text.remove_range(txn, at, 1 + random.below((len - at).min(5)));
        }
        2 if len > 0 => {
            let at = random.below(len);
            let bold = Attrs::from([("bold".into(), if random.below(2) == 0 { Any::Null } else { Any::Bool(true) })]);
            text.format(txn, at, 1 + random.below(len - at), bold);
        }
        3 => drop(text.insert_embed(txn, at, Any::from_json(r#"{"image":[1,2,{"x":"y\"["}]}"#).expect("json"))),
        // No surrogate pairs: yrs splits one at any position inside it, also where the edit then says nothing of it.
        4 => text.insert(txn, at, "日本é"),
        _ => text.insert(txn, at, ["a", "bc", "hello world"][random.below(3) as usize]),
    }
}

fn any(random: &mut Random) -> Any {
    match random.below(7) {
        0 => Any::Null,
        1 => Any::from(f64::from(random.below(1_000)) / 7.0),
        2 => Any::from(i64::from(random.below(u32::MAX)) - 5),
        3 => Any::from("text"),
        4 => Any::from_json(r#"[1,{"a":[true,null]},"x"]"#).expect("json"),
        5 => Any::Undefined,
        _ => Any::from(vec![1_u8, 2, 3]),
    }
}

fn edit_map(txn: &mut TransactionMut<'_>, random: &mut Random) {
    let map = txn.get_or_insert_map("map");
    let key = ["a", "b", "c"][random.below(3) as usize];
    match random.below(6) {
        0 => drop(map.remove(txn, key)),
        1 => drop(map.insert(txn, key, MapPrelim::from([("inner", Any::from(1_i64))]))),
        2 => drop(map.insert(txn, key, TextPrelim::new("nested"))),
        3 => match map.get(txn, key) {
            Some(yrs::Out::YMap(inner)) => drop(inner.insert(txn, "more", any(random))),
            Some(yrs::Out::YText(inner)) => inner.insert(txn, 0, "!"),
            _ => drop(map.insert(txn, key, ArrayPrelim::from([1_i64, 2]))),
        },
        _ => drop(map.insert(txn, key, any(random))),
    }
}

fn edit_array(txn: &mut TransactionMut<'_>, random: &mut Random) {
    let array = txn.get_or_insert_array("array");
    let len = array.len(txn);
    match random.below(5) {
        0 if len > 0 => {
            let at = random.below(len);
            array.remove_range(txn, at, 1 + random.below((len - at).min(3)));
        }
        1 => drop(array.insert(txn, random.below(len + 1), MapPrelim::from([("k", any(random))]))),
        2 => array.insert_range(txn, random.below(len + 1), [any(random), any(random), any(random)]),
        _ => drop(array.insert(txn, random.below(len + 1), any(random))),
    }
}

fn edit_xml(txn: &mut TransactionMut<'_>, random: &mut Random) {
    let xml = txn.get_or_insert_xml_fragment("xml");
    let len = xml.len(txn);
    match random.below(6) {
        0 if len > 0 => xml.remove_range(txn, random.below(len), 1),
        1 => drop(xml.insert(txn, random.below(len + 1), XmlTextPrelim::new("words"))),
        2..=4 if len > 0 => match xml.get(txn, random.below(len)) {
            Some(yrs::XmlOut::Element(element)) => {
                element.insert_attribute(txn, "class", "wide");
                let inner = element.len(txn);
                element.insert(txn, random.below(inner + 1), XmlElementPrelim::empty("b"));
            }
            Some(yrs::XmlOut::Text(text)) => text.insert(txn, 0, "more "),
            _ => {}
        },
        _ => drop(xml.insert(txn, random.below(len + 1), XmlElementPrelim::empty("p"))),
    }
}

/// The server's side: what was admitted, and the clocks that it compares.
#[derive(Default)]
pub struct Server {
    pub log: Vec<Bytes>,
    pub clocks: Clocks,
}

impl Server {
    pub fn fit(&self, update: &UpdateClocks) -> Fit {
        let clock = |client| Ok::<_, ()>(self.clocks.get(&client).copied().unwrap_or_default());
        update.fit(clock).expect("no error")
    }

    pub fn keep(&mut self, update: Bytes, clocks: &UpdateClocks) {
        for added in &clocks.added {
            let clock = self.clocks.entry(added.client).or_default();
            *clock = added.to.max(*clock);
        }
        self.log.push(update);
    }

    /// Keeps an update if it is admitted and fits.
    pub fn offer(&mut self, update: Bytes) -> Result<Fit, conclave_document::UpdateError> {
        let clocks = admit(&update)?;
        let fit = self.fit(&clocks);
        if fit == Fit::New {
            self.keep(update, &clocks);
        }
        Ok(fit)
    }
}

/// Authors who edit at the same time and see each other late: the log that they leave, and what all of them hold.
pub fn session(seed: u64, habit: Habit, edits: usize) -> (Server, Vec<Author>) {
    let mut random = Random::new(seed);
    let mut server = Server::default();
    let mut authors: Vec<Author> = [3, 1, 1 << 52, 700_000].map(|client| Author::new(client, habit)).into();
    for _ in 0..edits {
        let author = random.below(authors.len() as u32) as usize;
        let author = &mut authors[author];
        if random.below(3) == 0 {
            catch_up(author, &server);
        }
        let before = author.clocks();
        let update = author.edit(&mut random);
        let clocks = admit(&update).unwrap_or_else(|error| panic!("seed {seed}: {error}: {update:?}"));
        assert_eq!(added(&clocks), difference(&before, &author.clocks()), "seed {seed}");
        match server.fit(&clocks) {
            Fit::New => server.keep(update, &clocks),
            Fit::Known => assert_eq!(update.as_ref(), [0, 0], "seed {seed}"),
            Fit::Gap => panic!("seed {seed}: {clocks:?} does not fit {:?}", server.clocks),
        }
    }
    for author in &mut authors {
        catch_up(author, &server);
    }
    (server, authors)
}

fn catch_up(author: &mut Author, server: &Server) {
    for update in &server.log[author.seen..] {
        author.apply(update);
    }
    author.seen = server.log.len();
}

fn added(clocks: &UpdateClocks) -> Vec<(YjsClient, u64, u64)> {
    clocks.added.iter().map(|added| (added.client, added.from, added.to)).collect()
}

fn difference(before: &Clocks, after: &Clocks) -> Vec<(YjsClient, u64, u64)> {
    let from = |client: &YjsClient| before.get(client).copied().unwrap_or_default();
    let ranges = after.iter().map(|(client, to)| (*client, from(client), *to));
    ranges.filter(|(_, from, to)| from < to).collect()
}
