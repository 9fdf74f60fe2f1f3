//! Public keys: out of certificates (RFC 5280), PEM public keys, and JSON Web Key Sets (RFC 7517).
//!
//! The DER reader knows just the way to a certificate's key. Whether the certificate is valid is not asked: that it is in the
//! operator's file is what makes its key trusted, as with Docker's registry.

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature;
use serde::Deserialize;

/// Most keys taken from one file.
const KEYS_MAX: usize = 64;

/// A key that tokens may be signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name in a key set.
    pub id: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// PKCS #1 `RSAPublicKey`.
    RsaDer(Vec<u8>),
    /// Modulus and exponent, big-endian.
    RsaParts(Vec<u8>, Vec<u8>),
    /// Uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    /// Whether `message` is signed with this key by a JWS algorithm (RFC 7518). An algorithm that does not fit the key's kind is no
    /// (so that no key is ever used as another kind's).
    pub fn verifies(&self, algorithm: &str, message: &[u8], signature_bytes: &[u8]) -> bool {
        let check = |by: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(by, key)
                .verify(message, signature_bytes)
                .is_ok()
        };
        let rsa = match algorithm {
            "RS256" => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            _ => None,
        };
        match (&self.kind, algorithm) {
            (Kind::RsaDer(der), _) => rsa.is_some_and(|by| check(by, der)),
            (Kind::RsaParts(n, e), _) => rsa.is_some_and(|by| {
                signature::RsaPublicKeyComponents { n, e }
                    .verify(by, message, signature_bytes)
                    .is_ok()
            }),
            (Kind::P256(point), "ES256") => check(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Kind::P384(point), "ES384") => check(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Kind::Ed25519(point), "EdDSA") => check(&signature::ED25519, point),
            (Kind::P256(_) | Kind::P384(_) | Kind::Ed25519(_), _) => false,
        }
    }
}

/// Reads a file of keys, in any of the forms.
pub fn parse_keys(text: &str) -> anyhow::Result<Vec<Key>> {
    let keys = if text.trim_start().starts_with('{') {
        parse_key_set(text)?
    } else {
        parse_pem(text)?
    };
    ensure!(!keys.is_empty(), "there is no usable key");
    ensure!(
        keys.len() <= KEYS_MAX,
        "there are more than {KEYS_MAX} keys"
    );
    Ok(keys)
}

fn parse_pem(text: &str) -> anyhow::Result<Vec<Key>> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, after) = after
            .split_once("-----")
            .context("a PEM block does not begin")?;
        let end = format!("-----END {label}-----");
        let (body, after) = after.split_once(&end).context("a PEM block does not end")?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD
            .decode(body)
            .with_context(|| format!("a PEM block {label} is not base64"))?;
        let info = match label {
            "CERTIFICATE" => certificate_key(&der).context("a certificate is malformed")?,
            "PUBLIC KEY" => &der,
            other => bail!("a PEM block {other} is neither certificate nor public key"),
        };
        keys.push(Key {
            id: None,
            kind: key_info(info)?,
        });
        rest = after;
    }
    Ok(keys)
}

/// The `SubjectPublicKeyInfo` of a certificate.
fn certificate_key(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(der, 0x30)?;
    let (mut fields, _) = element(certificate, 0x30)?;
    if fields.first() == Some(&0xa0) {
        (_, fields) = element(fields, 0xa0)?; // version
    }
    // serial number, signature, issuer, validity, subject
    for tag in [0x02, 0x30, 0x30, 0x30, 0x30] {
        (_, fields) = element(fields, tag)?;
    }
    let (_, after) = element(fields, 0x30)?;
    fields.get(..fields.len() - after.len())
}

const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];

fn key_info(der: &[u8]) -> anyhow::Result<Kind> {
    let parse = || {
        let (info, _) = element(der, 0x30)?;
        let (algorithm, after) = element(info, 0x30)?;
        let (oid, parameters) = element(algorithm, 0x06)?;
        let (bits, _) = element(after, 0x03)?;
        let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else {
            return None;
        };
        Some((oid, parameters, key.to_vec()))
    };
    let (oid, parameters, key) = parse().context("a public key is malformed")?;
    let curve = element(parameters, 0x06).map(|(curve, _)| curve);
    match (oid, curve) {
        (OID_RSA, _) => Ok(Kind::RsaDer(key)),
        (OID_EC, Some(OID_P256)) => Ok(Kind::P256(key)),
        (OID_EC, Some(OID_P384)) => Ok(Kind::P384(key)),
        (OID_ED25519, _) => Ok(Kind::Ed25519(key)),
        _ => bail!("a public key is neither RSA, P-256, P-384 nor Ed25519"),
    }
}

/// The content of the DER element at the start, which must have this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, first, rest @ ..] = der else {
        return None;
    };
    if *found != tag {
        return None;
    }
    let (len, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (
                len.iter()
                    .fold(0, |len, byte| len << 8 | usize::from(*byte)),
                rest,
            )
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<WebKey>,
}

#[derive(Deserialize)]
struct WebKey {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a key set. Keys of other kinds, and for other purposes, are passed over, as RFC 7517 asks (section 5).
fn parse_key_set(text: &str) -> anyhow::Result<Vec<Key>> {
    let set: KeySet = serde_json::from_str(text).context("not a JSON Web Key Set")?;
    let mut keys = Vec::new();
    for key in set.keys {
        if key
            .purpose
            .as_deref()
            .is_some_and(|purpose| purpose != "sig")
        {
            continue;
        }
        let part = |text: &Option<String>, name: &str| {
            let text = text
                .as_deref()
                .with_context(|| format!("a key lacks {name:?}"))?;
            URL_SAFE_NO_PAD
                .decode(text)
                .with_context(|| format!("{name:?} of a key is not base64url"))
        };
        let point = || -> anyhow::Result<Vec<u8>> {
            Ok([vec![4], part(&key.x, "x")?, part(&key.y, "y")?].concat())
        };
        let kind = match (key.kty.as_str(), key.crv.as_deref()) {
            ("RSA", _) => Kind::RsaParts(part(&key.n, "n")?, part(&key.e, "e")?),
            ("EC", Some("P-256")) => Kind::P256(point()?),
            ("EC", Some("P-384")) => Kind::P384(point()?),
            ("OKP", Some("Ed25519")) => Kind::Ed25519(part(&key.x, "x")?),
            _ => continue,
        };
        keys.push(Key { id: key.kid, kind });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_panics(der in prop::collection::vec(any::<u8>(), 0..80), text in "\\PC{0,80}") {
            let _ = certificate_key(&der);
            let _ = key_info(&der);
            let _ = parse_keys(&text);
            let _ = parse_keys(&format!("-----BEGIN CERTIFICATE-----{text}-----END CERTIFICATE-----"));
        }
    }
}
