//! Bodies of the registry protocol.

use hull_oci::distribution::{Catalog, ErrorBody, TagList, TokenResponse, code};

#[test]
fn error_bodies() {
    let body = ErrorBody::new(code::MANIFEST_UNKNOWN, "manifest unknown");
    let json = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    assert_eq!(serde_json::to_string(&body).unwrap(), json);
    assert_eq!(serde_json::from_str::<ErrorBody>(json).unwrap(), body);
    let detailed: ErrorBody = serde_json::from_str(
        r#"{"errors":[{"code":"DENIED","message":null,"detail":{"Tag":"x"}}]}"#,
    )
    .unwrap();
    assert_eq!(detailed.errors[0].detail.as_ref().unwrap()["Tag"], "x");
    assert!(
        serde_json::from_str::<ErrorBody>(r#"{"errors":null}"#)
            .unwrap()
            .errors
            .is_empty()
    );
}

#[test]
fn lists_that_go_leaves_null() {
    let tags: TagList = serde_json::from_str(r#"{"name":"a/b","tags":null}"#).unwrap();
    assert_eq!(
        tags,
        TagList {
            name: "a/b".into(),
            tags: vec![]
        }
    );
    assert_eq!(
        serde_json::to_string(&tags).unwrap(),
        r#"{"name":"a/b","tags":[]}"#
    );
    assert!(
        serde_json::from_str::<Catalog>("{}")
            .unwrap()
            .repositories
            .is_empty()
    );
}

#[test]
fn tokens_have_two_names_and_stay_out_of_logs() {
    let hub: TokenResponse = serde_json::from_str(
        r#"{"token":"s3cret","access_token":"s3cret","expires_in":300,"issued_at":"x"}"#,
    )
    .unwrap();
    assert_eq!(hub.bearer(), Some("s3cret"));
    assert!(!format!("{hub:?}").contains("s3cret"));
    let oauth: TokenResponse = serde_json::from_str(r#"{"token":"","access_token":"t"}"#).unwrap();
    assert_eq!(oauth.bearer(), Some("t"));
    assert_eq!(
        serde_json::from_str::<TokenResponse>("{}")
            .unwrap()
            .bearer(),
        None
    );
}
