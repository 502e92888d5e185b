//! What is claimed of documents as a whole: attacks are refused, real updates are not, and all copies agree.

mod attacks;
mod author;
mod clients;
mod convergence;
mod mutation;
mod nesting;
mod view;
