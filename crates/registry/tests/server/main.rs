//! The server as a process of its own, spoken to by a small client that can also speak badly.

mod auth;
mod blobs;
mod client;
mod gc;
mod hostile;
mod process;
mod proxy;
mod push;
