//! Streams between the terminal and a daemon: attached containers, progress of pulls, signals.

pub mod attach;
pub mod detach;
pub mod progress;
pub mod signals;
pub mod terminal;
