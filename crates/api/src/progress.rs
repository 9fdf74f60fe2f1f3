//! The lines that pull, push, load, import and build stream: one JSON object each, ended by CR LF.
#![expect(
    missing_docs,
    reason = "fields are the Engine API's own; its description documents them"
)]

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::is_zero;

/// One line of progress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressMessage {
    #[serde(skip_serializing_if = "is_zero")]
    pub stream: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The bar, drawn, as before API 1.42 clients show it.
    #[serde(skip_serializing_if = "is_zero")]
    pub progress: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

impl ProgressMessage {
    /// The last line of a stream that failed.
    pub fn failure(message: &str) -> Self {
        Self {
            error: message.to_owned(),
            error_detail: Some(ErrorDetail {
                code: 0,
                message: message.to_owned(),
            }),
            ..Self::default()
        }
    }
}

/// How far a step is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start: i64,
    #[serde(rename = "hidecounts", skip_serializing_if = "is_zero")]
    pub hide_counts: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub units: String,
}

/// Why a stream ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    pub message: String,
}
