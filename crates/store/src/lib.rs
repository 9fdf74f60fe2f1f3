//! Content by digest, layers (tar apply and diff), snapshots (storage drivers).
//!
//! Three nouns that stay apart: [`content`] is bytes by digest; [`layer`] turns a tar stream into files below a
//! directory and back; [`snapshot`] is something that can be mounted and has a parent. Names, registries and image
//! documents are the `image` crate's. Everything here blocks: async callers use `spawn_blocking`.
#![forbid(unsafe_code)]

pub mod content;
mod error;
mod fsutil;
pub mod layer;
pub mod snapshot;

pub use error::{Error, Result};
