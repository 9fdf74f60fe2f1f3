//! Templates as Docker users write them, and anything at all.

use super::{Data, Mode, Row, Template};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

fn data() -> Value {
    json!({
        "Id": "abc", "Name": "/web", "State": {"Running": true, "Pid": 42, "Health": null},
        "Config": {"Env": ["A=1", "B=2"], "Cmd": null, "Volumes": null, "Labels": {"b.c": "2", "a": "1"}},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "net": {"IPAddress": "10.0.0.1"}}},
        "Size": 1.5
    })
}

fn run(text: &str) -> String {
    let answer =
        Template::parse("", text).and_then(|t| t.execute(Data::Json(&data()), Mode::Strict));
    answer.unwrap_or_else(|message| message)
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(&run(text));
}

#[test]
fn structures_have_values_and_no_names() {
    let data = json!({
        "State": {"Status": "exited", "Running": false, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false, "Pid": 0,
            "ExitCode": 3, "Error": "", "StartedAt": "s", "FinishedAt": "f"},
        "Mounts": [{"Type": "bind", "Source": "/a", "Destination": "/b", "Mode": "", "RW": true, "Propagation": "rprivate"}],
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": null},
        "Volumes": {"/data": {}}, "Labels": {"Name": "a", "MaximumRetryCount": "b"},
    });
    let shown = |text: &str| {
        let template = Template::parse("", text).expect("a template");
        template
            .execute(Data::Json(&data), Mode::Strict)
            .expect("a text")
    };
    expect!["{exited false false false false false 0 3  s f <nil>}"]
        .assert_eq(&shown("{{.State}}"));
    expect!["[{bind  /a /b   true rprivate}]"].assert_eq(&shown("{{.Mounts}}"));
    expect!["map[80/tcp:[{0.0.0.0 8080}] 81/tcp:[]]"].assert_eq(&shown("{{.Ports}}"));
    expect!["map[/data:{}] map[MaximumRetryCount:b Name:a]"]
        .assert_eq(&shown("{{.Volumes}} {{.Labels}}"));
}

#[test]
fn what_people_write() {
    check(
        "{{.Id}} {{.ID}} {{.State.Running}} {{.Size}}",
        expect!["abc abc true 1.5"],
    );
    check(
        "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}",
        expect!["172.17.0.2 10.0.0.1 "],
    );
    check(
        "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}};{{end}}",
        expect!["bridge=172.17.0.2;net=10.0.0.1;"],
    );
    check(
        "{{json .Config}}",
        expect![[
            r#"{"Env":["A=1","B=2"],"Cmd":null,"Volumes":null,"Labels":{"b.c":"2","a":"1"}}"#
        ]],
    );
    check(
        "{{.Config.Labels}} {{.Config.Env}}",
        expect!["map[a:1 b.c:2] [A=1 B=2]"],
    );
    check(
        "{{index .Config.Labels \"b.c\"}} {{index .Config.Env 1}}",
        expect!["2 B=2"],
    );
    check(
        "{{if eq .State.Pid 42}}yes{{else}}no{{end}}",
        expect!["yes"],
    );
    check(
        "{{if .State.Health}}{{.State.Health.Status}}{{else if .Id}}none{{end}}",
        expect!["none"],
    );
    check(
        "{{with .State}}{{.Pid}}{{end}} {{$.Name}}",
        expect!["42 /web"],
    );
    check(
        "{{slice .Id 1}} {{len .Config.Env}} {{printf \"%-5s|%03d|%q\" .Id 7 .Name}}",
        expect![[r#"bc 2 abc  |007|"/web""#]],
    );
    check(
        "{{join .Config.Env \",\"}} {{upper .Id}} {{title \"a b\"}} {{split \"a:b\" \":\"}}",
        expect!["A=1,B=2 ABC A B [a b]"],
    );
    check(
        "x{{pad .Id 1 2}}| {{truncate .Id 2}}",
        expect!["x abc  | ab"],
    );
    assert_eq!(run("{{println .Id}}"), "abc\n");
    check(
        "a {{- /* note */ -}} b{{\"x\"}}{{`raw\\n`}}",
        expect!["abxraw\\n"],
    );
    check(
        "{{$x := 1}}{{range .Config.Env}}{{$x = .}}{{end}}{{$x}}",
        expect!["B=2"],
    );
    check(
        "{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Id}}",
        expect!["<abc>"],
    );
    check(
        "{{range .Config.Env}}{{if eq . \"B=2\"}}{{break}}{{end}}{{.}}{{end}}",
        expect!["A=1"],
    );
    check(
        "{{(index .Config.Env 0) | lower | printf \"%s!\"}}",
        expect!["a=1!"],
    );
    check(
        "{{and true .Id}} {{or \"\" \"d\"}} {{not .Id}} {{lt 1 2}} {{ge \"a\" \"b\"}}",
        expect!["abc d false true false"],
    );
    check(
        "{{html \"<a>\"}} {{urlquery \"a b\"}}",
        expect!["&lt;a&gt; a+b"],
    );
}

#[test]
fn mistakes_are_told_in_go_s_words() {
    check("{{.Foo", expect!["template: :1: unclosed action"]);
    check(
        "{{.Foo}}",
        expect![[r#"template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo""#]],
    );
    check(
        "x{{.State.Foo}}",
        expect![[
            r#"template: :1:9: executing "" at <.State.Foo>: map has no entry for key "Foo""#
        ]],
    );
    check(
        "{{.State.Health.Status}}",
        expect![[
            r#"template: :1:8: executing "" at <.State.Health.Status>: nil pointer evaluating interface {}.Status"#
        ]],
    );
    check(
        "{{.Id.X}}",
        expect![[
            r#"template: :1:5: executing "" at <.Id.X>: can't evaluate field X in type interface {}"#
        ]],
    );
    check(
        "{{foo}}",
        expect![[r#"template: :1: function "foo" not defined"#]],
    );
    check("{{if .Id}}", expect!["template: :1: unexpected EOF"]);
    check("{{end}}", expect!["template: :1: unexpected {{end}}"]);
    check("{{}}", expect!["template: :1: missing value for command"]);
    check(
        "{{$x}}",
        expect![[r#"template: :1: undefined variable "$x""#]],
    );
    check(
        "{{.Id | }}",
        expect!["template: :1: missing value for command"],
    );
    check(
        "{{\"a}}",
        expect!["template: :1: unterminated quoted string"],
    );
    check(
        "{{index .Config.Env 9}}",
        expect![[
            r#"template: :1:2: executing "" at <index>: error calling index: index out of range: 9"#
        ]],
    );
    check(
        "{{join .Id \",\"}}",
        expect![[
            r#"template: :1:2: executing "" at <join>: wrong type for value; expected []string; got string"#
        ]],
    );
}

#[test]
fn rows_and_headers() {
    let mut row = Row {
        type_name: "*formatter.ContainerContext",
        ..Row::default()
    };
    row.fields.insert("Tag".into(), "<none>".into());
    row.fields.insert("ID".into(), "1".into());
    row.labels = Some(serde_json::Map::new());
    let run = |text: &str, mode| {
        Template::parse("", text)
            .and_then(|t| t.execute(Data::Row(&row), mode))
            .unwrap_or_else(|e| e)
    };
    assert_eq!(
        run("{{json .}}", Mode::Lenient),
        r#"{"ID":"1","Tag":"\u003cnone\u003e"}"#
    );
    assert_eq!(
        run("{{json .Tag}} {{.Label \"x\"}}", Mode::Lenient),
        "\"<none>\" "
    );
    assert_eq!(
        run("{{.Foo}}", Mode::Lenient),
        "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
    );
    assert_eq!(run("{{upper .Tag}}", Mode::Header), "<none>");
}

#[test]
fn recursion_and_nesting_end() {
    assert!(
        run("{{define \"r\"}}{{template \"r\"}}{{end}}{{template \"r\"}}")
            .contains("exceeded maximum template depth")
    );
    assert!(run(&"{{if 1}}".repeat(5000)).contains("max expression depth exceeded"));
    assert!(
        run(&format!(
            "{{{{{}1{}}}}}",
            "(".repeat(5000),
            ")".repeat(5000)
        ))
        .contains("max expression depth exceeded")
    );
}

#[test]
fn fields_in_use() {
    let uses = |text: &str| Template::parse("", text).is_ok_and(|t| t.uses_field("Size"));
    assert!(uses("{{if .ID}}{{.Size}}{{end}}"));
    assert!(uses("{{json .}}"));
    assert!(!uses("{{.ID}}"));
}

#[test]
fn a_large_number_to_count_to_is_bounded() {
    let error = run("{{range 609551615}}-{{end}}");
    assert!(error.ends_with("more than 1000000 iterations"), "{error}");
    assert_eq!(run("{{range 609551615}}{{break}}{{end}}"), "");
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,40}") {
        let _ = run(&text);
    }

    #[test]
    fn any_action_is_answered(words in proptest::collection::vec(prop_oneof![
        Just("{{"), Just("}}"), Just("{{-"), Just("-}}"), Just("if"), Just("range"), Just("end"), Just("else"), Just(" "), Just("|"), Just("("), Just(")"),
        Just(".Id"), Just(".State"), Just("."), Just("$"), Just("$x"), Just(":="), Just("="), Just(","), Just("\"s\""), Just("1"), Just("-1"), Just("index"),
        Just("printf"), Just("slice"), Just("len"), Just("json"), Just("eq"), Just("with"), Just("template"), Just("define"), Just("block"), Just("pad"), Just("truncate"),
    ], 0..25)) {
        let _ = run(&words.concat());
        let _ = run(&words.join(" "));
    }
}
