//! Rooms that come and go, as registers with conditions: there is an order of all creations, updates, deletions and
//! reads of a room that explains what each was told. Like the other search for an order it does not go by revisions.

use std::collections::BTreeMap;

use crate::history::{Errand, ErrandCall, ErrandTold, History};
use crate::wgl::{self, Model, Order, Timed};

/// A room: its label, if it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Room(Option<u32>);

impl Model for Room {
    type Operation = (ErrandCall, ErrandTold);

    fn step(&self, (call, told): &Self::Operation) -> Option<Room> {
        let Room(label) = *self;
        // What it becomes, and what is then told.
        let (after, truth) = match (*call, label) {
            (ErrandCall::CreateRoom { label, .. }, None) => (Some(label), ErrandTold::Done),
            (ErrandCall::CreateRoom { .. }, Some(_)) => (label, ErrandTold::Present),
            (ErrandCall::GetRoom { .. }, Some(present)) => (label, ErrandTold::Label(present)),
            (ErrandCall::DeleteRoom { .. }, Some(_)) => (None, ErrandTold::Done),
            (ErrandCall::UpdateRoom { expected: Some(expected), .. }, Some(present)) if expected != present => {
                (label, ErrandTold::Mismatch)
            }
            (ErrandCall::UpdateRoom { label, .. }, Some(_)) => (Some(label), ErrandTold::Done),
            (_, None) => (None, ErrandTold::Absent),
            (_, Some(_)) => return None,
        };
        (matches!(told, ErrandTold::Unknown(_)) || *told == truth).then_some(Room(after))
    }
}

/// Errands belong to no room of the load: they are judged once, with the first.
pub fn check(history: &History, room: usize) -> Vec<String> {
    if room != 0 {
        return Vec::new();
    }
    let mut rooms: BTreeMap<u16, Vec<Timed<(ErrandCall, ErrandTold)>>> = BTreeMap::new();
    for errand in &history.errands {
        let Some(room) = room_of(errand) else { continue };
        let timed =
            Timed { invoked: errand.invoked, returned: errand.answered, operation: (errand.call, errand.told.clone()) };
        rooms.entry(room).or_default().push(timed);
    }
    let complaint = |(room, asked): (u16, Vec<Timed<_>>)| match wgl::order(Room(None), &asked) {
        Order::Exists | Order::TooHard => None,
        Order::None { ordered } => {
            let next = asked.get(ordered).map(|timed| format!(", for example {:?}", timed.operation));
            Some(format!(
                "errand room {room}: no order explains more than {ordered} of {} operations{}",
                asked.len(),
                next.unwrap_or_default()
            ))
        }
    };
    rooms.into_iter().filter_map(complaint).collect()
}

/// The room whose state it is about; none for what was refused before it came to that.
fn room_of(errand: &Errand) -> Option<u16> {
    if matches!(errand.told, ErrandTold::Refused(_)) {
        return None;
    }
    match errand.call {
        ErrandCall::CreateRoom { room, .. }
        | ErrandCall::GetRoom { room }
        | ErrandCall::UpdateRoom { room, .. }
        | ErrandCall::DeleteRoom { room } => Some(room),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(story: &[(ErrandCall, ErrandTold)]) -> Vec<String> {
        let mut history = History::new(0, vec!["room".to_owned()]);
        for (at, (call, told)) in story.iter().enumerate() {
            let invoked = at as u64 * 10;
            let answered = (!matches!(told, ErrandTold::Unknown(_))).then_some(invoked + 5);
            history.errands.push(Errand { actor: 0, invoked, answered, call: *call, told: told.clone() });
        }
        check(&history, 0)
    }

    const GET: ErrandCall = ErrandCall::GetRoom { room: 1 };
    const DELETE: ErrandCall = ErrandCall::DeleteRoom { room: 1 };

    fn create(label: u32) -> ErrandCall {
        ErrandCall::CreateRoom { room: 1, label }
    }

    fn update(label: u32, expected: u32) -> ErrandCall {
        ErrandCall::UpdateRoom { room: 1, label, expected: Some(expected) }
    }

    #[test]
    fn a_room_that_was_deleted_is_absent() {
        let story = [(create(1), ErrandTold::Done), (GET, ErrandTold::Label(1)), (DELETE, ErrandTold::Done)];
        assert!(told(&[&story[..], &[(GET, ErrandTold::Absent)]].concat()).is_empty());
        assert_eq!(told(&[&story[..], &[(GET, ErrandTold::Label(1))]].concat()).len(), 1);
    }

    #[test]
    fn of_two_updates_with_one_condition_one_is_done() {
        let story = [(create(1), ErrandTold::Done), (update(2, 1), ErrandTold::Done)];
        assert!(told(&[&story[..], &[(update(3, 1), ErrandTold::Mismatch)]].concat()).is_empty());
        assert_eq!(told(&[&story[..], &[(update(3, 1), ErrandTold::Done)]].concat()).len(), 1);
    }

    #[test]
    fn what_nobody_knows_of_may_have_happened() {
        let unknown = || ErrandTold::Unknown("no answer in time".to_owned());
        let story = [(create(1), ErrandTold::Done), (DELETE, unknown())];
        assert!(told(&[&story[..], &[(GET, ErrandTold::Label(1)), (GET, ErrandTold::Absent)]].concat()).is_empty());
        assert_eq!(told(&[&story[..], &[(GET, ErrandTold::Absent), (GET, ErrandTold::Label(1))]].concat()).len(), 1);
    }
}
