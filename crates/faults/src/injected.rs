//! The build that is made to be broken.

use std::process::abort;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::{Bug, PLANTED_BUG, Point};

const CRASH_POINT: &str = "CONCLAVE_CRASH_POINT";

/// The signal stops some thread of the process at once and this one a moment later. It must not go on meanwhile.
const STOPS_WITHIN: Duration = Duration::from_millis(200);

/// The point asked for, and how often it may still be passed.
struct Wanted {
    point: Option<Point>,
    left: AtomicU64,
}

static WANTED: LazyLock<Wanted> = LazyLock::new(|| {
    let text = std::env::var(CRASH_POINT).unwrap_or_default();
    let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
    let point = Point::ALL.into_iter().find(|point| point.name() == name);
    match (name, point, count.parse()) {
        ("", _, _) => Wanted { point: None, left: AtomicU64::new(0) },
        (_, Some(point), Ok(left)) => Wanted { point: Some(point), left: AtomicU64::new(left) },
        _ => refuse(CRASH_POINT, &text),
    }
});

static PLANTED: LazyLock<Option<Bug>> = LazyLock::new(|| {
    let name = std::env::var(PLANTED_BUG).unwrap_or_default();
    let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name);
    if bug.is_none() && !name.is_empty() {
        refuse(PLANTED_BUG, &name);
    }
    bug
});

/// Stops the process if the environment asks for this point.
pub fn reached(point: Point) {
    if WANTED.point != Some(point) {
        return;
    }
    let before = WANTED.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if before == Ok(1) {
        if kill_process(getpid(), Signal::STOP).is_err() {
            abort();
        }
        wait_for_the_stop();
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread that is about to be stopped may as well sleep")]
fn wait_for_the_stop() {
    std::thread::sleep(STOPS_WITHIN);
}

/// Whether the environment plants this bug.
pub fn planted(bug: Bug) -> bool {
    *PLANTED == Some(bug)
}

/// What this build injects, for the log of its start; none in the product.
pub fn announce() -> Option<String> {
    let point = WANTED.point.map(Point::name).unwrap_or("none");
    let bug = (*PLANTED).map(Bug::name).unwrap_or("none");
    Some(format!("this build injects faults: crash point {point}, planted bug {bug}"))
}

#[expect(clippy::print_stderr, reason = "whoever mistyped the name is at a terminal, and there is no log yet")]
fn refuse(variable: &str, value: &str) -> ! {
    eprintln!("{variable}={value:?} names nothing that this build can inject");
    abort()
}
