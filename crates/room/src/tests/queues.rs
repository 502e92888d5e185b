//! Queues, by what is done with them.

mod carrying;
mod dead_letters;
mod groups;
mod leases;
mod reads;
mod sending;
mod settings;
mod settling;
mod time;
