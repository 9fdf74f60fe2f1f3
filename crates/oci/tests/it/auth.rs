//! `WWW-Authenticate`: what registries send, and what a hostile one may.

use expect_test::{Expect, expect};
use hull_oci::distribution::{AuthChallenge, AuthScheme};
use proptest::prelude::*;

fn check(header: &str, expected: &Expect) {
    let lines: Vec<String> = AuthChallenge::parse_header(header)
        .into_iter()
        .map(|challenge| format!("{:?} {:?}", challenge.scheme, challenge.params))
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn docker_hub() {
    let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push",error="insufficient_scope""#;
    let challenges = AuthChallenge::parse_header(header);
    assert_eq!(challenges.len(), 1);
    let bearer = &challenges[0];
    assert_eq!(bearer.scheme, AuthScheme::Bearer);
    assert_eq!(bearer.realm(), Some("https://auth.docker.io/token"));
    assert_eq!(bearer.service(), Some("registry.docker.io"));
    assert_eq!(bearer.scope(), Some("repository:library/nginx:pull,push"));
    assert_eq!(bearer.error(), Some("insufficient_scope"));
}

#[test]
fn shapes() {
    check(
        r#"Basic realm="Registry Realm""#,
        &expect![[r#"Basic {"realm": "Registry Realm"}"#]],
    );
    check("bAsIc REALM=x", &expect![[r#"Basic {"realm": "x"}"#]]);
    check("Basic", &expect!["Basic {}"]);
    check(
        r#"Basic realm="a", Bearer realm="b" , service=c"#,
        &expect![[r#"
            Basic {"realm": "a"}
            Bearer {"realm": "b", "service": "c"}"#]],
    );
    check(
        r#"Negotiate YIIabc+/==, Basic realm="x""#,
        &expect![[r#"
            Other("negotiate") {}
            Basic {"realm": "x"}"#]],
    );
    check(
        r#"Negotiate, NTLM, Basic realm="x""#,
        &expect![[r#"
            Other("negotiate") {}
            Other("ntlm") {}
            Basic {"realm": "x"}"#]],
    );
    check(
        r#"Bearer realm = "a\"b\\c" , , scope="ü""#,
        &expect![[r#"Bearer {"realm": "a\"b\\c", "scope": "ü"}"#]],
    );
    check(
        "Bearer realm=https://auth.example.com/token,service=x",
        &expect![[r#"Bearer {"realm": "https://auth.example.com/token", "service": "x"}"#]],
    );
    check(
        r#"Bearer realm="a",realm="b""#,
        &expect![[r#"Bearer {"realm": "a"}"#]],
    );
}

#[test]
fn hostile() {
    check("", &expect![""]);
    check(",,, ,", &expect![""]);
    check(r#"realm="a""#, &expect![""]);
    check(
        r#""lone" Basic realm=a"#,
        &expect![[r#"Basic {"realm": "a"}"#]],
    );
    check(
        r#"Bearer realm="unclosed, Basic realm=x"#,
        &expect![[r#"Bearer {"realm": "unclosed, Basic realm=x"}"#]],
    );
    check(
        r#"Bearer realm="x\"#,
        &expect![[r#"Bearer {"realm": "x"}"#]],
    );
    check("Bearer =, ==(=)", &expect![""]);
    assert_eq!(
        AuthChallenge::parse_header(&"a, ".repeat(4000)).len(),
        AuthChallenge::CHALLENGES_MAX
    );
    let many: String = (0..500).map(|n| format!("k{n}=v,")).collect();
    let challenges = AuthChallenge::parse_header(&format!("Bearer {many}"));
    assert_eq!(challenges[0].params.len(), AuthChallenge::PARAMS_MAX);
    assert_eq!(AuthChallenge::parse_header(&"é".repeat(20_000)).len(), 0);
}

proptest! {
    #[test]
    fn any_header_is_answered(header in "\\PC{0,200}|[A-Za-z=\", \\\\~/]{0,200}") {
        let challenges = AuthChallenge::parse_header(&header);
        prop_assert!(challenges.len() <= AuthChallenge::CHALLENGES_MAX);
    }

    #[test]
    fn quoted_values_come_back(realm in "\\PC{0,60}", service in "\\PC{0,60}") {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let header = format!(r#"Bearer realm="{}",service="{}""#, quote(&realm), quote(&service));
        let challenges = AuthChallenge::parse_header(&header);
        prop_assert_eq!(challenges.len(), 1);
        prop_assert_eq!(challenges[0].realm(), Some(realm.as_str()));
        prop_assert_eq!(challenges[0].service(), Some(service.as_str()));
    }
}
