//! Tables and `--format` of lists: rows of named columns through a template.

pub mod container;
pub mod image;
pub mod image_tree;

use crate::failure::Failure;
use crate::go::tabwriter;
use crate::template::{Data, Mode, Row, Template};
use serde_json::{Map, Value};

/// Help of `--format` for lists.
pub const FORMAT_HELP: &str = "Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// Help of `--format` for single objects.
pub const INSPECT_FORMAT_HELP: &str = "Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// A row from (column, value) pairs.
pub fn row<const N: usize>(type_name: &'static str, columns: [(&str, Value); N]) -> Row {
    Row {
        type_name,
        fields: columns
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        labels: None,
        header: false,
    }
}

/// The header of a table from (column, title) pairs.
pub fn header(columns: &[(&str, &str)]) -> Row {
    let fields = columns
        .iter()
        .map(|(name, title)| ((*name).to_owned(), Value::from(*title)))
        .collect();
    Row {
        type_name: "formatter.SubHeaderContext",
        fields,
        labels: Some(Map::new()),
        header: true,
    }
}

/// A parsed `--format` of a list.
#[derive(Debug)]
pub struct Format {
    table: bool,
    template: Template,
}

impl Format {
    /// Reads `source`: `table ..`, `json` or a template; `\t` and `\n` may be written out.
    pub fn parse(source: &str) -> Result<Format, Failure> {
        let table = source.strip_prefix("table");
        let text = match table {
            Some(rest) => rest,
            None if source == "json" => "{{json .}}",
            None => source,
        };
        let text = text
            .trim_matches(' ')
            .replace("\\t", "\t")
            .replace("\\n", "\n");
        let template = Template::parse("", &text)
            .map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
        Ok(Format {
            table: table.is_some(),
            template,
        })
    }

    /// All rows, beneath `header` when it is a table.
    pub fn render(&self, header: &Row, rows: &[Row]) -> Result<String, Failure> {
        let mut out = String::new();
        for row in rows {
            let line = self.template.execute(Data::Row(row), Mode::Lenient);
            out.push_str(
                &line.map_err(|error| Failure::new(format!("template parsing error: {error}")))?,
            );
            out.push('\n');
        }
        if !self.table {
            return Ok(out);
        }
        let titles = self
            .template
            .execute(Data::Row(header), Mode::Header)
            .unwrap_or_default();
        Ok(tabwriter::docker(&format!("{titles}\n{out}")))
    }
}

/// `k=v` pairs of a JSON object, sorted and joined by commas.
pub fn labels_text(labels: Option<&Map<String, Value>>) -> String {
    let mut pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// The first 12 digits of an id, without its algorithm.
pub fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.get(..12).unwrap_or(id)
}

/// Cuts text to `width` columns with `…` at its end.
pub fn ellipsis(text: &str, width: usize) -> String {
    if tabwriter::display_width(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += tabwriter::display_width(c.encode_utf8(&mut [0; 4]));
        if used > width.saturating_sub(1) {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// `text` of a JSON object's field.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// A whole number of a JSON object's field.
pub fn number(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn tables_json_and_templates() {
        let head = header(&[("ID", "CONTAINER ID"), ("Names", "NAMES")]);
        let rows = [
            row("t", [("ID", "abc".into()), ("Names", "a".into())]),
            row("t", [("ID", "d".into()), ("Names", "b".into())]),
        ];
        let show = |format: &str| {
            Format::parse(format)
                .and_then(|f| f.render(&head, &rows))
                .unwrap_or_else(|e| e.to_string())
        };
        expect![[r#"
            CONTAINER ID   NAMES
            abc            a
            d              b
        "#]]
        .assert_eq(&show("table {{.ID}}\\t{{.Names}}"));
        expect![[r#"
            NAMES     CONTAINER ID
            A         "abc"
            B         "d"
        "#]]
        .assert_eq(&show("table {{upper .Names}}\t{{json .ID}}"));
        expect![[r#"
            {"ID":"abc","Names":"a"}
            {"ID":"d","Names":"b"}
        "#]]
        .assert_eq(&show("json"));
        assert_eq!(
            show("{{.Nope}}"),
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type t"
        );
        assert_eq!(
            show("{{.ID"),
            "template parsing error: template: :1: unclosed action"
        );
    }

    #[test]
    fn cuts() {
        assert_eq!(
            ellipsis("docker-entrypoint.sh nginx", 20),
            "docker-entrypoint.s…"
        );
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
