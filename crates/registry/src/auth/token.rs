//! Bearer tokens (Docker's token authentication specification; RFC 7519): checked here, given by another server.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::key::{self, Key};
use super::{Scope, quote};
use crate::error::{Error, Result};

/// Longest token looked at, in bytes.
const TOKEN_LEN_MAX: usize = 32 << 10;
/// How far the clocks of two servers may differ, in seconds.
const LEEWAY_S: u64 = 60;

/// Checks tokens.
#[derive(Debug)]
pub struct Tokens {
    realm: String,
    service: String,
    issuer: String,
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; there are none that we do.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: OneOrMany,
    exp: u64,
    nbf: Option<u64>,
    sub: Option<String>,
    #[serde(default)]
    access: Option<Vec<Access>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    actions: Vec<String>,
}

impl Tokens {
    /// Reads the keys.
    pub fn open(realm: &str, service: &str, issuer: &str, keys: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(keys)
            .with_context(|| format!("cannot read {}", keys.display()))?;
        let keys =
            key::parse_keys(&text).with_context(|| format!("cannot use {}", keys.display()))?;
        Ok(Tokens {
            realm: realm.to_owned(),
            service: service.to_owned(),
            issuer: issuer.to_owned(),
            keys,
        })
    }

    /// Where to get a token, and which.
    pub fn challenge(&self, needed: &[Scope], error: Option<&str>) -> String {
        let mut challenge = format!(
            "Bearer realm=\"{}\",service=\"{}\"",
            quote(&self.realm),
            quote(&self.service)
        );
        if !needed.is_empty() {
            let scopes: Vec<String> = needed
                .iter()
                .map(|scope| format!("{}:{}:{}", scope.kind, scope.name, scope.actions.join(",")))
                .collect();
            challenge += &format!(",scope=\"{}\"", scopes.join(" "));
        }
        if let Some(error) = error {
            challenge += &format!(",error=\"{error}\"");
        }
        challenge
    }

    /// Checks a token and that it allows what is needed; the user's name.
    pub fn check(&self, token: &str, needed: &[Scope]) -> Result<Option<String>> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let claims = self
            .verify(token, now)
            .ok_or_else(|| Error::Unauthorized(self.challenge(needed, Some("invalid_token"))))?;
        let access = claims.access.unwrap_or_default();
        if needed.iter().all(|scope| allows(&access, scope)) {
            return Ok(claims.sub.filter(|user| !user.is_empty()));
        }
        Err(Error::Unauthorized(
            self.challenge(needed, Some("insufficient_scope")),
        ))
    }

    fn verify(&self, token: &str, now: u64) -> Option<Claims> {
        if token.len() > TOKEN_LEN_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        if header.crit.is_some() {
            return None;
        }
        let signature = decode(signature)?;
        let named = self
            .keys
            .iter()
            .any(|key| key.id.is_some() && key.id == header.kid);
        let mut keys = self
            .keys
            .iter()
            .filter(|key| !named || key.id == header.kid);
        if !keys.any(|key| key.verifies(&header.alg, signed.as_bytes(), &signature)) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        let is_for_us = match &claims.aud {
            OneOrMany::One(service) => *service == self.service,
            OneOrMany::Many(services) => services.contains(&self.service),
        };
        let in_time = now < claims.exp.saturating_add(LEEWAY_S)
            && claims
                .nbf
                .is_none_or(|from| from <= now.saturating_add(LEEWAY_S));
        (claims.iss == self.issuer && is_for_us && in_time).then_some(claims)
    }
}

fn allows(access: &[Access], scope: &Scope) -> bool {
    scope.actions.iter().all(|action| {
        access.iter().any(|access| {
            access.kind == scope.kind
                && access.name == scope.name
                && access
                    .actions
                    .iter()
                    .any(|given| given == "*" || given == action)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    struct Issuer {
        pair: EcdsaKeyPair,
        tokens: Tokens,
    }

    /// A token server with one P-256 key in a key set.
    fn issuer() -> Issuer {
        let rng = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).expect("key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng)
            .expect("pair");
        let point = pair.public_key().as_ref();
        let set = json!({"keys": [
            {"kty": "oct", "k": "AAAA"},
            {"kty": "EC", "crv": "P-256", "kid": "a", "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])},
        ]});
        let keys = key::parse_keys(&set.to_string()).expect("key set");
        assert_eq!(keys.len(), 1);
        let tokens = Tokens {
            realm: "https://t/token".into(),
            service: "r".into(),
            issuer: "i".into(),
            keys,
        };
        Issuer { pair, tokens }
    }

    impl Issuer {
        fn sign(&self, header: serde_json::Value, claims: serde_json::Value) -> String {
            let signed = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header.to_string()),
                URL_SAFE_NO_PAD.encode(claims.to_string())
            );
            let signature = self
                .pair
                .sign(&SystemRandom::new(), signed.as_bytes())
                .expect("sign");
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }

        fn accepts(
            &self,
            header: serde_json::Value,
            change: impl FnOnce(&mut serde_json::Value),
        ) -> bool {
            let mut claims =
                json!({"iss": "i", "aud": "r", "exp": NOW + 300, "nbf": NOW, "access": []});
            change(&mut claims);
            self.tokens
                .verify(&self.sign(header, claims), NOW)
                .is_some()
        }
    }

    #[test]
    fn what_is_accepted() {
        let issuer = issuer();
        let good = || json!({"alg": "ES256", "kid": "a"});
        assert!(issuer.accepts(good(), |_| {}));
        assert!(
            issuer.accepts(json!({"alg": "ES256"}), |_| {}),
            "a key without a name"
        );
        assert!(issuer.accepts(good(), |claims| claims["aud"] = json!(["x", "r"])));
        assert!(!issuer.accepts(json!({"alg": "none"}), |_| {}));
        assert!(
            !issuer.accepts(json!({"alg": "RS256"}), |_| {}),
            "another kind of key"
        );
        assert!(
            !issuer.accepts(json!({"alg": "HS256"}), |_| {}),
            "a public key as a secret"
        );
        assert!(!issuer.accepts(json!({"alg": "ES256", "crit": ["x"]}), |_| {}));
        assert!(!issuer.accepts(good(), |claims| claims["iss"] = json!("x")));
        assert!(!issuer.accepts(good(), |claims| claims["aud"] = json!("x")));
        assert!(!issuer.accepts(good(), |claims| claims["exp"] = json!(NOW - 61)));
        assert!(
            issuer.accepts(good(), |claims| claims["exp"] = json!(NOW - 59)),
            "leeway"
        );
        assert!(!issuer.accepts(good(), |claims| claims["nbf"] = json!(NOW + 61)));
        let token = issuer.sign(good(), json!({"iss": "i", "aud": "r", "exp": NOW + 300}));
        assert!(
            issuer
                .tokens
                .verify(&token.replacen('.', ".A", 1), NOW)
                .is_none(),
            "changed claims"
        );
        for bad in ["", ".", "..", "a.b", "a.b.c", "💥.💥.💥"] {
            assert!(issuer.tokens.verify(bad, NOW).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_allowed() {
        let access = [Access {
            kind: "repository".into(),
            name: "a".into(),
            actions: vec!["pull".into()],
        }];
        let scope =
            |name: &str, actions| Scope::repository(&Name::new(name).expect("name"), actions);
        assert!(allows(&access, &scope("a", &["pull"])));
        assert!(!allows(&access, &scope("a", &["pull", "push"])));
        assert!(!allows(&access, &scope("a/b", &["pull"])));
    }

    #[test]
    fn challenges() {
        let issuer = issuer();
        let scope = Scope::repository(&Name::new("a/b").expect("name"), &["pull", "push"]);
        assert_eq!(
            issuer.tokens.challenge(&[scope], Some("invalid_token")),
            r#"Bearer realm="https://t/token",service="r",scope="repository:a/b:pull,push",error="invalid_token""#
        );
    }
}
