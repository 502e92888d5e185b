//! What the simulation has found, by the seed that finds it again if it comes back.
//!
//! A seed is only as good as the plan that it draws: where drawing changes, a find may need another seed. Each was seen to
//! fail with the mistake put back; `tests/reports/simulation.md` tells the stories.

use std::process::Command;

/// Plays a seed; what it finds is in the panic.
fn plays(seed: u64) {
    let seed = seed.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_conclave-simulation")).args(["--seed", &seed]).output();
    let output = output.expect("the simulation is built with its tests");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "seed {seed}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("\"finding\":\"nothing\""), "seed {seed}: {said}");
}

/// A session that the cluster refused for good told its owner of a refusal where an earlier host had taken the frame;
/// and the host that refused it had heard nobody, so it took its own wall clock, two hours off, for the time.
#[test]
fn a_session_that_is_refused_leaves_what_was_sent_unknown() {
    plays(15);
}

/// A condition that was read before a room was deleted held for the next room of its name.
#[test]
fn an_etag_is_of_one_room() {
    plays(1);
}

/// Of two hosts that were up the one whose clock was two hours behind passed for the right one; it led on from seconds
/// before, and under its successor a lease ended early.
#[test]
fn a_clock_hours_behind_is_not_the_time() {
    plays(1793);
}
