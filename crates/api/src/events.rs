//! Events of `GET /events`.
#![expect(
    missing_docs,
    reason = "fields are the Engine API's own; its description documents them"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::is_zero;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    /// Before API 1.52, for containers and images: the action.
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    /// Before API 1.52, for containers and images: the actor's id.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// Before API 1.52, for containers: the image.
    #[serde(skip_serializing_if = "is_zero")]
    pub from: String,
    /// `container`, `image`, `volume`, `network`, `daemon`, `plugin`, `builder` ...
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    #[serde(skip_serializing_if = "is_zero")]
    pub scope: String,
    /// Seconds since 1970.
    pub time: i64,
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventActor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}
