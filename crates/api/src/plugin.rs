//! Plugins: Hull lists none, and says so in Docker's shape.
#![expect(
    missing_docs,
    reason = "fields are the Engine API's own; its description documents them"
)]

use serde::{Deserialize, Serialize};

/// One element of `GET /plugins`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Plugin {
    pub id: String,
    pub name: String,
    pub enabled: bool,
}
