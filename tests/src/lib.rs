//! What the process-level suites share: clusters of real processes, recorded input, and the clients that type it.

pub mod alone;
pub mod claims;
pub mod cluster;
pub mod editor;
pub mod evidence;
pub mod faults;
pub mod ledger;
pub mod member;
pub mod process;
pub mod progress;
pub mod raw;
pub mod receipts;
pub mod site;
pub mod status;
pub mod tampering;
pub mod torture;
pub mod trace;
pub mod typist;
pub mod violation;
