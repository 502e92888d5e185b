//! What the crash model promises; what every engine promises stands in the engine suite.

use proptest::prelude::*;

use super::*;

fn put(key: &str, value: &str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(Family::State, key, value);
    batch
}

fn delete(key: &str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.delete(Family::State, key);
    batch
}

fn get(view: &dyn EngineView, key: &str) -> Option<Bytes> {
    view.get(Family::State, key.as_bytes()).unwrap()
}

fn everything() -> KeyRange {
    KeyRange { from: Vec::new(), to: vec![0xff] }
}

#[test]
fn a_crash_keeps_what_was_synced_and_loses_the_rest() {
    let engine = MemoryEngine::new();
    engine.write(put("kept", "1")).unwrap();
    engine.write(put("deleted later", "1")).unwrap();
    engine.sync().unwrap();
    engine.write(put("kept", "2")).unwrap();
    engine.write(put("lost", "1")).unwrap();
    engine.write(delete("deleted later")).unwrap();
    engine.crash();

    assert_eq!(get(&engine, "kept").unwrap(), "1");
    assert_eq!(get(&engine, "deleted later").unwrap(), "1");
    assert_eq!(get(&engine, "lost"), None);
}

#[test]
fn a_crash_may_keep_any_prefix_of_the_unsynced_batches() {
    let steps = [put("a", "1"), put("b", "1"), delete("a"), put("b", "2")];
    let states = [[None, None], [Some("1"), None], [Some("1"), Some("1")], [None, Some("1")], [None, Some("2")]];
    for (kept, [a, b]) in states.into_iter().enumerate() {
        let engine = MemoryEngine::new();
        for step in &steps {
            engine.write(step.clone()).unwrap();
        }
        assert_eq!(engine.unsynced_batches(), steps.len());
        engine.crash_keeping(kept);
        assert_eq!(get(&engine, "a").as_deref(), a.map(str::as_bytes), "a after {kept} batches");
        assert_eq!(get(&engine, "b").as_deref(), b.map(str::as_bytes), "b after {kept} batches");
        assert_eq!(engine.unsynced_batches(), 0);
    }
}

#[test]
fn what_a_crash_left_survives_the_next_one() {
    let engine = MemoryEngine::new();
    engine.write(put("a", "1")).unwrap();
    engine.crash_keeping(usize::MAX);
    engine.write(put("a", "2")).unwrap();
    engine.crash();
    assert_eq!(get(&engine, "a").unwrap(), "1");
}

#[test]
fn a_view_from_before_a_crash_fails() {
    let engine = Arc::new(MemoryEngine::new());
    engine.write(put("a", "1")).unwrap();
    let view = engine.clone().snapshot();
    engine.crash();
    assert!(matches!(view.get(Family::State, b"a"), Err(EngineError::Io(_))));
    assert!(matches!(view.scan(Family::State, everything()).next(), Some(Err(EngineError::Io(_)))));
    drop(view);
    let view = engine.clone().snapshot();
    assert_eq!(get(&*view, "a"), None);
}

#[test]
fn old_versions_are_forgotten_once_nobody_can_ask_for_them() {
    let engine = Arc::new(MemoryEngine::new());
    for round in 0..10 {
        engine.write(put("a", &round.to_string())).unwrap();
        engine.write(put("gone", "1")).unwrap();
    }
    let view = engine.clone().snapshot();
    engine.write(delete("gone")).unwrap();
    engine.sync().unwrap();
    assert_eq!(engine.store.lock().changes.len(), 1, "the view still reads what the deletion hid");
    assert_eq!(get(&*view, "gone").unwrap(), "1");

    drop(view);
    let store = engine.store.lock();
    assert!(store.changes.is_empty() && store.pins.is_empty());
    let state = &store.families[Family::State as usize];
    assert_eq!(state.len(), 1);
    assert_eq!(state[&b"a"[..]].0.len(), 1);
}

#[test]
fn an_unfinished_scan_holds_its_moment_and_lets_go_of_it() {
    let engine = MemoryEngine::new();
    let mut batch = WriteBatch::new();
    for number in 0..3 * SCAN_CHUNK as u32 {
        batch.put(Family::State, number.to_be_bytes(), b"old");
    }
    engine.write(batch).unwrap();
    let mut scan = engine.scan(Family::State, everything());
    assert_eq!(scan.next().unwrap().unwrap().1, "old");

    let mut batch = WriteBatch::new();
    batch.delete_range(Family::State, everything());
    engine.write(batch).unwrap();
    engine.sync().unwrap();
    assert_eq!(scan.by_ref().count(), 3 * SCAN_CHUNK - 1);
    drop(scan);
    assert!(engine.store.lock().families[Family::State as usize].is_empty());
}

#[test]
fn letting_go_of_a_view_does_not_make_its_successors_durable() {
    let engine = Arc::new(MemoryEngine::new());
    engine.write(put("a", "1")).unwrap();
    engine.sync().unwrap();
    let view = engine.clone().snapshot();
    engine.write(put("a", "2")).unwrap();
    drop(view);
    engine.crash();
    assert_eq!(get(&*engine, "a").unwrap(), "1");
}

fn staged(engine: &Arc<MemoryEngine>, key: &str) -> Box<dyn Staging> {
    let range = KeyRange { from: b"s".to_vec(), to: b"t".to_vec() };
    let mut staging = engine.clone().stage(Family::State, range).unwrap();
    staging.put(key.as_bytes(), b"staged").unwrap();
    staging
}

#[test]
fn an_installation_survives_a_crash_with_all_before_it() {
    let engine = Arc::new(MemoryEngine::new());
    engine.write(put("s old", "1")).unwrap();
    engine.write(put("before", "1")).unwrap();
    staged(&engine, "s new").install().unwrap();
    engine.write(put("s after", "1")).unwrap();
    engine.crash();
    assert_eq!(get(&*engine, "s new").unwrap(), "staged");
    assert_eq!(get(&*engine, "before").unwrap(), "1");
    assert_eq!((get(&*engine, "s old"), get(&*engine, "s after")), (None, None));
}

#[test]
fn what_was_staged_does_not_outlive_a_crash() {
    let engine = Arc::new(MemoryEngine::new());
    engine.write(put("s old", "1")).unwrap();
    engine.sync().unwrap();
    let staging = staged(&engine, "s new");
    engine.crash();
    assert!(matches!(staging.install(), Err(EngineError::Io(_))));
    assert_eq!((get(&*engine, "s old").as_deref(), get(&*engine, "s new")), (Some(&b"1"[..]), None));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    Sync,
    TakeView,
    DropView,
    Crash { kept: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6u8;
    prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key.clone().prop_map(Step::Delete),
        1 => (key.clone(), key).prop_map(|(from, to)| Step::DeleteRange(from, to)),
        2 => Just(Step::Sync),
        2 => Just(Step::TakeView),
        2 => Just(Step::DropView),
        1 => (0..8usize).prop_map(|kept| Step::Crash { kept }),
    ]
}

type State = BTreeMap<u8, u8>;

fn contents(view: &dyn EngineView) -> State {
    view.scan(Family::State, everything()).map(|pair| pair.map(|(key, value)| (key[0], value[0])).unwrap()).collect()
}

fn write(engine: &MemoryEngine, states: &mut Vec<State>, step: &Step) {
    let (mut batch, mut state) = (WriteBatch::new(), states.last().unwrap().clone());
    match *step {
        Step::Put(key, value) => {
            batch.put(Family::State, [key], [value]);
            state.insert(key, value);
        }
        Step::Delete(key) => {
            batch.delete(Family::State, [key]);
            state.remove(&key);
        }
        Step::DeleteRange(from, to) => {
            batch.delete_range(Family::State, KeyRange { from: vec![from], to: vec![to] });
            state.retain(|key, _| *key < from || *key >= to);
        }
        _ => return,
    }
    engine.write(batch).unwrap();
    states.push(state);
}

proptest! {
    /// What is left is a state that was there since the last sync, the one that was asked for, whatever views
    /// came and went.
    #[test]
    fn a_crash_goes_back_to_the_state_after_the_kept_batches(steps in prop::collection::vec(step(), 1..80)) {
        let engine = Arc::new(MemoryEngine::new());
        // From the synced state on, one for each batch.
        let mut states = vec![State::new()];
        let mut views: VecDeque<(Arc<dyn EngineView>, State)> = VecDeque::new();
        for step in &steps {
            match step {
                Step::Sync => {
                    engine.sync().unwrap();
                    states.drain(..states.len() - 1);
                }
                Step::TakeView => views.push_back((engine.clone().snapshot(), states.last().unwrap().clone())),
                Step::DropView => drop(views.pop_front()),
                Step::Crash { kept } => {
                    engine.crash_keeping(*kept);
                    states.truncate(kept + 1);
                    states.drain(..states.len() - 1);
                    views.clear();
                }
                written => write(&engine, &mut states, written),
            }
            prop_assert_eq!(&contents(&*engine), states.last().unwrap());
            for (view, then) in &views {
                prop_assert_eq!(&contents(&**view), then);
            }
        }
        prop_assert_eq!(engine.unsynced_batches(), states.len() - 1);
        engine.sync().unwrap();
        drop(views);
        let store = engine.store.lock();
        prop_assert!(store.changes.is_empty());
        prop_assert!(store.families.iter().flatten().all(|(_, versions)| versions.0.len() == 1));
    }
}
