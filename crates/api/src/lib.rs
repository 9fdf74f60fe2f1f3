//! Docker Engine API shapes with Go's JSON rules, version adapters, error body and stream framing; pure.
//!
//! The types are our own: Docker reads keys in any case, takes null as the zero value and `"Cmd": "ls"` for a list, and
//! always writes some empty values; generated types know none of that. Read every body (request, response or stored record)
//! with [`json::from_slice`] and its siblings, which apply those rules to any of these types; write with `serde_json`.
//! Field documentation is the API description's; names are Docker's in snake case.
#![forbid(unsafe_code)]

pub mod auth;
pub mod build;
pub mod container;
pub mod events;
pub mod exec;
pub mod filters;
pub mod frames;
pub mod host;
pub mod image;
pub mod inspect;
pub mod json;
pub mod network;
pub mod plugin;
pub mod progress;
pub mod stats;
pub mod system;
pub mod time;
pub mod version;
pub mod volume;

use serde::{Deserialize, Serialize};

/// The body of every answer with status 400 and above.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Error {
    /// What happened, in Docker's words where Docker has them.
    pub message: String,
}

/// `{"Id": ".."}`: the answer of commit and of exec create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdResponse {
    /// Full identifier.
    #[serde(rename = "Id")]
    pub id: String,
}
