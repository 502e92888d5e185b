//! *Followers are told the whole log*: each hears, in order and once, exactly what lies in the log up to its cursor, over
//! all its resumptions.

use crate::history::{Heard, History};

pub fn check(history: &History, room: usize) -> Vec<String> {
    let log = &history.endings[room].log;
    let mut found = Vec::new();
    if let Some(pair) = log.windows(2).find(|pair| pair[0].revision >= pair[1].revision) {
        found.push(format!("the log has revision {} behind {}", pair[1].revision, pair[0].revision));
    }
    for transcript in history.transcripts.iter().filter(|transcript| transcript.room == room) {
        let who = format!("follower {}", transcript.follower);
        found.extend(transcript.breaks.iter().map(|what| format!("{who}: {what}")));
        let whole = &log[..log.partition_point(|heard| heard.revision <= transcript.complete_to)];
        if let Some(difference) = difference(&transcript.heard, whole) {
            found.push(format!("{who}, complete to {}: {difference}", transcript.complete_to));
        }
    }
    found
}

/// The first place in which two logs differ.
fn difference(heard: &[Heard], log: &[Heard]) -> Option<String> {
    let name = |heard: &Heard| format!("{} at revision {}", super::named(heard.value), heard.revision);
    let place = (0..heard.len().max(log.len())).find(|place| heard.get(*place) != log.get(*place))?;
    let shown = |log: &[Heard]| log.get(place).map_or_else(|| "nothing".to_owned(), name);
    Some(format!("message {place} is {}, in the log it is {}", shown(heard), shown(log)))
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, value};
    use super::*;

    fn log() -> [(u64, crate::history::Value); 3] {
        [(1, value(1, 1)), (4, value(1, 2)), (9, value(2, 1))]
    }

    #[test]
    fn a_follower_that_heard_the_log_up_to_its_cursor_is_well() {
        let story = Story::begin().log(&log()).follower(&log(), 9).follower(&log()[..2], 8).follower(&[], 0);
        assert_eq!(check(&story.end(), 0), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_doubled_swapped_or_invented_shows() {
        let [first, second, third] = log();
        for told in [
            vec![first, third],
            vec![first, second, second, third],
            vec![second, first, third],
            vec![first, second, third, (10, value(3, 3))],
            vec![first, (4, value(8, 8)), third],
        ] {
            let story = Story::begin().log(&log()).follower(&told, 9);
            assert_eq!(check(&story.end(), 0).len(), 1, "{told:?}");
        }
        let mut history = Story::begin().log(&log()).follower(&log(), 9).end();
        history.transcripts[0].breaks.push("a gap".to_owned());
        assert_eq!(check(&history, 0).len(), 1);
    }
}
