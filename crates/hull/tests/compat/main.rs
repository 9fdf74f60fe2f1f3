//! The real `docker` command line against Hull: what a user of Docker does, judged by Docker's own client.
//!
//! `HULL_COMPAT_ENGINE=docker` runs the same tests against a real dockerd (Debian's docker.io), which shows that the tests are right;
//! `HULL_COMPAT_CLI=hull` drives Hull with its own command line instead.
//! Every test has a daemon of its own, in a network namespace of its own, and fails when anything of it is left.
#![forbid(unsafe_code)]

mod bad_images;
mod bad_input;
mod basics;
mod checkpoints;
mod compose;
mod daemon_flags;
mod engine;
mod exec_and_attach;
mod flags;
mod flags_of_the_client;
mod help;
mod image_details;
mod images;
mod lifecycle;
mod limits;
mod links;
mod logs;
mod manifest;
mod networks;
mod parity;
mod plugins;
mod publishing;
mod pull;
mod reload;
mod restore;
mod robustness;
mod security;
mod soak;
mod surroundings;
mod userns;
mod volumes;
mod wire;
