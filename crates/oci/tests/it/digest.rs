//! Digests: known answers, refusals, round trip.

use hull_oci::digest::DigestError;
use hull_oci::{Algorithm, Digest, Hasher};
use proptest::prelude::*;

#[test]
fn known_answers() {
    assert_eq!(
        Digest::sha256_of(b"").to_string(),
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(
        Digest::of(Algorithm::Sha512, b"abc").hex(),
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    );
    assert_eq!(Digest::sha256_of(b"").short(), "e3b0c44298fc");
    assert!(Digest::sha256_of(b"x").verifies(b"x"));
    assert!(!Digest::sha256_of(b"x").verifies(b"y"));
}

#[test]
fn hashing_in_pieces_is_hashing_at_once() {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(b"ab");
    hasher.update(b"");
    hasher.update(b"c");
    assert_eq!(hasher.finish(), Digest::sha256_of(b"abc"));
}

#[test]
fn refusals() {
    let a64 = "a".repeat(64);
    let cases = [
        ("".to_owned(), DigestError::Format),
        ("sha256".to_owned(), DigestError::Format),
        ("sha256:".to_owned(), DigestError::Format),
        (format!(":{a64}"), DigestError::Format),
        (format!("sha256:{}", "A".repeat(64)), DigestError::Format),
        (format!("sha256:{}", "g".repeat(64)), DigestError::Format),
        (format!("SHA256:{a64}"), DigestError::Format),
        (
            format!("sha256:../../{}", "a".repeat(58)),
            DigestError::Format,
        ),
        (format!("sha256:{a64}a"), DigestError::Length),
        (format!("sha512:{a64}"), DigestError::Length),
        (format!("md5:{}", "a".repeat(32)), DigestError::Unsupported),
        (format!("sha256+b64:{a64}"), DigestError::Unsupported),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
    }
}

#[test]
fn json_error_shows_the_value() {
    let error = serde_json::from_str::<Digest>("\"sha256:abc\"")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("invalid checksum digest length: \"sha256:abc\""),
        "{error}"
    );
}

proptest! {
    #[test]
    fn round_trip(bytes: Vec<u8>, wide: bool) {
        let digest = Digest::of(if wide { Algorithm::Sha512 } else { Algorithm::Sha256 }, &bytes);
        prop_assert_eq!(&digest.to_string().parse::<Digest>().unwrap(), &digest);
        let json = serde_json::to_string(&digest).unwrap();
        prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn whatever_parses_prints_the_same(text in "(sha256|sha512|md5)?:?[0-9a-fA-F]{0,130}|\\PC*") {
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert_eq!(digest.to_string(), text);
        }
    }
}
