//! *Documents converge*: in the end everybody holds the same text and the same clocks, with every token whose push was
//! acknowledged.

use std::collections::BTreeMap;

use crate::history::{Call, DocumentCopy, History, Values};

pub fn check(history: &History, room: usize) -> Vec<String> {
    let mut documents: BTreeMap<u16, Vec<&DocumentCopy>> = BTreeMap::new();
    for copy in &history.endings[room].copies {
        documents.entry(copy.document).or_default().push(copy);
    }
    let mut found = Vec::new();
    for (document, copies) in &documents {
        found.extend(differences(copies).into_iter().map(|what| format!("document {document}: {what}")));
    }
    for operation in history.of_room(room) {
        let (Call::Push { document, .. }, Some(_)) = (&operation.call, operation.revision()) else { continue };
        if !documents.contains_key(document) {
            found.push(format!("document {document} was typed into and nobody has it"));
            break;
        }
    }
    for (document, copies) in documents {
        found.extend(copies.first().into_iter().flat_map(|copy| lacks(history, room, document, copy)));
    }
    found
}

/// In what copies differ from the first one.
fn differences(copies: &[&DocumentCopy]) -> Vec<String> {
    let Some((first, others)) = copies.split_first() else { return Vec::new() };
    let mut found = Vec::new();
    for other in others {
        if other.text != first.text {
            let (a, b) = (first.text.len(), other.text.len());
            found.push(format!("{} and {} hold different texts of {a} and {b} bytes", first.reader, other.reader));
        }
    }
    let with_clocks: Vec<_> = copies.iter().filter_map(|copy| Some((&copy.reader, copy.clocks.as_ref()?))).collect();
    if let Some(pair) = with_clocks.windows(2).find(|pair| pair[0].1 != pair[1].1) {
        found.push(format!("{} and {} hold different clocks", pair[0].0, pair[1].0));
    }
    found
}

/// Tokens that were acknowledged and are not there.
fn lacks(history: &History, room: usize, document: u16, copy: &DocumentCopy) -> Vec<String> {
    let values = Values::of_text(&copy.text);
    let pushes = history.of_room(room).filter_map(|operation| match operation.call {
        Call::Push { document: of, value } if of == document => Some((operation.revision()?, value)),
        _ => None,
    });
    let lost = pushes.filter(|(_, value)| !values.contains(*value));
    lost.map(|(revision, value)| format!("document {document} lacks {value}, acknowledged at {revision}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, done, push, unknown};
    use super::*;

    #[test]
    fn equal_copies_with_all_that_was_acknowledged_are_well() {
        let story = Story::begin().then(push(1, 1), done(1)).then(push(1, 2), unknown()).then(push(2, 1), done(3));
        let story = story.copy("[w2-1][w1-1]").copy("[w2-1][w1-1]");
        assert_eq!(check(&story.end(), 0), Vec::<String>::new());
    }

    #[test]
    fn a_lost_token_and_copies_that_differ_show() {
        let typed = || Story::begin().then(push(1, 1), done(1)).then(push(2, 1), done(2));
        assert_eq!(check(&typed().copy("[w1-1]").copy("[w1-1]").end(), 0).len(), 1, "one is lost");
        assert_eq!(check(&typed().copy("[w1-1][w2-1]").copy("[w2-1][w1-1]").end(), 0).len(), 1, "they differ");
        assert_eq!(check(&typed().end(), 0).len(), 1, "nobody has it");
        let mut history = typed().copy("[w1-1][w2-1]").copy("[w1-1][w2-1]").end();
        history.endings[0].copies[1].clocks = Some(vec![(1, 4)]);
        assert_eq!(check(&history, 0).len(), 1, "their clocks differ");
    }
}
