//! Registry credentials: the `X-Registry-Auth` headers and `POST /auth`.
#![expect(
    missing_docs,
    reason = "fields are the Engine API's own; its description documents them"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::is_zero;

/// Credentials for one registry.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "is_zero")]
    pub username: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub password: String,
    /// base64 of `user:password`, where the two are not given.
    #[serde(skip_serializing_if = "is_zero")]
    pub auth: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub email: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub serveraddress: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub identitytoken: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub registrytoken: String,
}

impl std::fmt::Debug for AuthConfig {
    /// Secrets stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish()
    }
}

/// The `X-Registry-Config` header: credentials by registry.
pub type AuthConfigs = BTreeMap<String, AuthConfig>;

/// Answer of `POST /auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    pub status: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub identity_token: String,
}
