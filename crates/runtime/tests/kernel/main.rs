//! Containers on the real kernel, through runc's command line. Needs root; each test cleans up after itself.

mod common;
mod criu;
mod engines;
mod escapes;
mod fields;
mod lifecycle;
mod userns;
