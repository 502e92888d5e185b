//! A load on a cluster that writes down what it asked and was told, and the judge of what was written down.
//!
//! [`load`] runs it through the public client, whatever the cluster is made of: processes under torture, or hosts in one
//! process under simulated time. [`checks`] are pure. This crate must not know how a fault is made.

pub mod checks;
pub mod dice;
pub mod history;
pub mod load;
pub mod news;
pub mod patience;
mod wgl;
