//! Damage: a store that returned what was never written says so once, to whoever owns the process.
//!
//! A damaged store must not vote, lead or serve, and it cannot tell which of its other bytes are right. So there is one
//! verdict for the whole store, and its owner replaces it. What reads it has no say: it reports, and gets an error.
//! Only physical damage belongs here (a checksum that fails, a file that is gone). State that is whole but makes no
//! sense was written like that on every replica: it stops its replica alone, or one bug would cost all copies at once.

use std::sync::{Arc, OnceLock};

use crate::EngineError;

/// Where damage of one store is reported.
pub struct Damage {
    first: OnceLock<String>,
    on_first: Box<dyn Fn(&str) + Send + Sync>,
}

impl Damage {
    /// `on_first` is called with the first report, on the thread that makes it, which may be any: a process is best
    /// ended there and then, after what was found is written down.
    pub fn new(on_first: impl Fn(&str) + Send + Sync + 'static) -> Arc<Damage> {
        Arc::new(Damage { first: OnceLock::new(), on_first: Box::new(on_first) })
    }

    /// Keeps the report and does nothing more: for stores whose owner asks.
    pub fn unattended() -> Arc<Damage> {
        Damage::new(|_| {})
    }

    pub fn report(&self, reason: &str) {
        let mut is_first = false;
        self.first.get_or_init(|| {
            is_first = true;
            reason.to_owned()
        });
        if is_first {
            (self.on_first)(reason);
        }
    }

    /// Reports a result that is damage, and passes every result on.
    pub fn reporting<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if let Err(EngineError::Damaged(reason)) = &result {
            self.report(reason);
        }
        result
    }

    /// The first report, if there was one.
    pub fn reported(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_owner_hears_of_the_first_report_alone() {
        let heard = Arc::new(AtomicU64::new(0));
        let count = heard.clone();
        let damage = Damage::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(damage.reported(), None);
        damage.report("block 7");
        damage.report("block 9");
        assert_eq!((damage.reported(), heard.load(Ordering::Relaxed)), (Some("block 7"), 1));
    }

    #[test]
    fn only_damage_is_reported() {
        let damage = Damage::unattended();
        assert!(damage.reporting(Ok(())).is_ok());
        for error in [
            EngineError::Io("disk full".into()),
            EngineError::Open("in use".into()),
            EngineError::Foreign("kind 9".into()),
            EngineError::Misplaced("keys ascend"),
        ] {
            assert!(damage.reporting(Err::<(), _>(error)).is_err());
        }
        assert_eq!(damage.reported(), None);
        assert!(damage.reporting(Err::<(), _>(EngineError::Damaged("block 7".into()))).is_err());
        assert_eq!(damage.reported(), Some("block 7"));
    }
}
