//! Platforms: spellings, containerd's order of preference, round trips.

use expect_test::{Expect, expect};
use hull_oci::Platform;
use hull_oci::platform::best_match;
use proptest::prelude::*;

fn check(input: &str, expected: &Expect) {
    let shown = match Platform::parse(input) {
        Ok(platform) => format!("{platform} = {}", platform.clone().normalized()),
        Err(error) => format!("error: {error}"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn spellings() {
    check("linux/amd64", &expect!["linux/amd64 = linux/amd64"]);
    check("Linux/x86_64", &expect!["linux/amd64 = linux/amd64"]);
    check("linux/amd64/v1", &expect!["linux/amd64 = linux/amd64"]);
    check(
        "linux/amd64/v3",
        &expect!["linux/amd64/v3 = linux/amd64/v3"],
    );
    check("linux/arm64", &expect!["linux/arm64 = linux/arm64"]);
    check("linux/arm64/v8", &expect!["linux/arm64/v8 = linux/arm64"]);
    check("linux/aarch64", &expect!["linux/arm64 = linux/arm64"]);
    check("linux/arm", &expect!["linux/arm = linux/arm/v7"]);
    check("linux/arm/7", &expect!["linux/arm/v7 = linux/arm/v7"]);
    check("linux/armhf", &expect!["linux/arm = linux/arm/v7"]);
    check("linux/armel", &expect!["linux/arm/v6 = linux/arm/v6"]);
    check("linux/i386", &expect!["linux/386 = linux/386"]);
    check("macos/arm64", &expect!["darwin/arm64 = darwin/arm64"]);
    check(
        "windows(10.0.17763)/amd64",
        &expect!["windows(10.0.17763)/amd64 = windows(10.0.17763)/amd64"],
    );
    check(
        "windows(10.0+win32k)/amd64",
        &expect!["windows(10.0+win32k)/amd64 = windows(10.0+win32k)/amd64"],
    );
    check("linux/made-up", &expect!["linux/made-up = linux/made-up"]);
}

#[test]
fn lone_components_take_the_rest_from_the_host() {
    let host = Platform::host();
    assert_eq!(
        Platform::parse("linux").unwrap().architecture,
        host.architecture
    );
    assert_eq!(
        Platform::parse("s390x").unwrap().to_string(),
        format!("{}/s390x", host.os)
    );
    assert_eq!(
        Platform::parse("armhf").unwrap().to_string(),
        format!("{}/arm", host.os)
    );
}

#[test]
fn refusals() {
    check(
        "",
        &expect![[
            r#"error: "" is an invalid OS component of "": OSAndVersion specifier component must match "^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.-]*)((?:\\+[A-Za-z0-9_.-]+)*)\\))?$": invalid argument"#
        ]],
    );
    check(
        "plan10",
        &expect![[
            r#"error: "plan10": unknown operating system or architecture: invalid argument"#
        ]],
    );
    check(
        "linux/",
        &expect![[
            r#"error: "" is an invalid component of "linux/": platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument"#
        ]],
    );
    check(
        "linux/&",
        &expect![[
            r#"error: "&" is an invalid component of "linux/&": platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument"#
        ]],
    );
    check(
        "linux/arm/v7/x",
        &expect![[r#"error: "linux/arm/v7/x": cannot parse platform specifier: invalid argument"#]],
    );
    assert!(Platform::parse(&"a".repeat(300)).is_err());
    assert!(Platform::parse("windows(10/amd64").is_err());
    assert!(Platform::parse("windows(10)x/amd64").is_err());
}

/// All of a list that run, best first.
fn preference(wanted: &str, offered: &[&str]) -> String {
    let wanted = Platform::parse(wanted).unwrap();
    let mut left: Vec<Platform> = offered
        .iter()
        .map(|text| Platform::parse(text).unwrap())
        .collect();
    let mut order = Vec::new();
    while let Some(best) = best_match(&left, &wanted) {
        order.push(left.remove(best).to_string());
    }
    order.join(" ")
}

#[test]
fn preferences() {
    let all = [
        "linux/386",
        "linux/amd64",
        "linux/amd64/v2",
        "linux/amd64/v3",
        "linux/arm/v5",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm/v8",
        "linux/arm64",
        "linux/arm64/v8.1",
        "linux/arm64/v9",
        "linux/s390x",
        "windows/amd64",
        "darwin/arm64",
    ];
    let check = |wanted: &str, expected: Expect| expected.assert_eq(&preference(wanted, &all));
    check("linux/amd64", expect!["linux/amd64 linux/386"]);
    check(
        "linux/amd64/v3",
        expect!["linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"],
    );
    check(
        "linux/arm64",
        expect!["linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"],
    );
    check(
        "linux/arm64/v8.1",
        expect!["linux/arm64/v8.1 linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"],
    );
    check(
        "linux/arm64/v9",
        expect![
            "linux/arm64/v9 linux/arm64/v8.1 linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5"
        ],
    );
    check(
        "linux/arm",
        expect!["linux/arm/v7 linux/arm/v6 linux/arm/v5"],
    );
    check("linux/arm/v6", expect!["linux/arm/v6 linux/arm/v5"]);
    check("linux/s390x", expect!["linux/s390x"]);
    check("linux/riscv64", expect![""]);
    check("windows/amd64", expect!["windows/amd64"]);
}

#[test]
fn features_and_windows_versions_decide() {
    let matches = |image: &str, host: &str| {
        Platform::parse(image)
            .unwrap()
            .matches(&Platform::parse(host).unwrap())
    };
    assert!(matches("linux/amd64", "linux(+sev)/amd64"));
    assert!(!matches("linux(+sev)/amd64", "linux/amd64"));
    assert!(matches(
        "windows(10.0.17763.1)/amd64",
        "windows(10.0.17763.999)/amd64"
    ));
    assert!(!matches(
        "windows(10.0.20348)/amd64",
        "windows(10.0.17763)/amd64"
    ));
    assert!(matches("linux(1)/amd64", "linux(2)/amd64"));
}

#[test]
fn json() {
    let json = r#"{"architecture":"arm","os":"windows","os.version":"10.0","os.features":["win32k"],"variant":"v7"}"#;
    let platform: Platform = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&platform).unwrap(), json);
    let sparse: Platform = serde_json::from_str(
        r#"{"os":"linux","architecture":"amd64","os.features":null,"variant":""}"#,
    )
    .unwrap();
    assert_eq!(sparse, Platform::new("linux", "amd64"));
}

proptest! {
    #[test]
    fn display_is_read_back(text in "[a-z]{1,6}(\\([0-9.]{0,5}(\\+[a-z0-9]{1,3}){0,2}\\))?/[a-z0-9_]{1,6}(/v?[0-9]{1,2}(\\.[0-9])?)?") {
        if let Ok(platform) = Platform::parse(&text) {
            prop_assert_eq!(&Platform::parse(&platform.to_string()).unwrap(), &platform);
            let normal = platform.normalized();
            prop_assert_eq!(&normal.clone().normalized(), &normal);
            prop_assert_eq!(normal.rank(&normal), Some(0));
        }
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,40}", wanted in "linux/(amd64|arm|arm64)/\\PC{0,8}") {
        let parsed = Platform::parse(&text);
        if let (Ok(image), Ok(wanted)) = (parsed, Platform::parse(&wanted)) {
            let _ = image.rank(&wanted);
        }
    }
}
