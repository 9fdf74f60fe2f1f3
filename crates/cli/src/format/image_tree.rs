//! `images --tree`: each image with the platforms of its name below it, laid out as Docker's.

use super::{number, short_id, text};
use crate::go::units::human_size_precision;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

const SPACING: &str = "   ";
/// A name column narrower than this costs the columns at the right their place.
const NAME_WIDTH_MIN: usize = 12;
/// A terminal is never taken for narrower.
const TERMINAL_WIDTH_MIN: usize = 20;

/// Where the tree goes.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The terminal's width; none where it is no terminal.
    pub width: Option<usize>,
    /// Whether to use colours.
    pub color: bool,
}

struct Top {
    names: Vec<String>,
    details: Details,
    children: Vec<Child>,
}

struct Child {
    platform: String,
    available: bool,
    details: Details,
}

struct Details {
    id: String,
    disk: String,
    content: String,
    in_use: bool,
}

/// A column besides the names.
struct Column {
    title: &'static str,
    width: usize,
    right: bool,
    plain: bool,
    value: fn(&Details, &Chips) -> String,
}

/// The marks at the end of a line: only those that some image has take room.
struct Chips {
    in_use: bool,
    color: bool,
}

impl Chips {
    fn show(&self, details: &Details) -> String {
        match (self.in_use, details.in_use, self.color) {
            (false, _, _) => String::new(),
            (true, true, false) => "U".to_owned(),
            (true, true, true) => chip(),
            (true, false, false) => " ".to_owned(),
            (true, false, true) => "   ".to_owned(),
        }
    }

    fn width(&self) -> usize {
        match (self.in_use, self.color) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 3,
        }
    }
}

fn chip() -> String {
    "\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m".to_owned()
}

/// Draws what `GET /images/json?manifests=1` answered.
pub fn draw(images: &[Value], look: Look) -> String {
    let mut tops: Vec<Top> = images.iter().map(top).collect();
    // Those without a name come last.
    tops.sort_by_key(|top| (top.names.is_empty(), top.names.first().cloned()));
    let used =
        |top: &Top| top.details.in_use || top.children.iter().any(|child| child.details.in_use);
    let chips = Chips {
        in_use: tops.iter().any(used),
        color: look.color,
    };
    let spaced = tops.iter().any(|top| !top.children.is_empty());
    let width = look.width.map(|width| width.max(TERMINAL_WIDTH_MIN));
    let (name_width, columns) = layout(width, columns(&chips), widest(&tops));
    let mut out = String::new();
    if let Some(width) = width {
        out += &legend(look.color, width);
    }
    out += &paint(look.color, "1;39", &pad("IMAGE", name_width, false));
    for column in &columns {
        let title = pad(column.title, column.width, column.right);
        out += &format!("{SPACING}{}", paint(look.color, "1;39", &title));
    }
    out.push('\n');
    for top in &tops {
        names(&mut out, &top.names, name_width, look.color);
        details(&mut out, &columns, &chips, &top.details, "39");
        if spaced {
            out.push('\n');
        }
        for (index, child) in top.children.iter().enumerate() {
            let branch = match index + 1 == top.children.len() {
                true => "└─ ",
                false => "├─ ",
            };
            let color = if child.available { "39" } else { "39;2" };
            let name = format!("{branch}{}", child.platform);
            out += &paint(look.color, color, &pad(&name, name_width, false));
            details(&mut out, &columns, &chips, &child.details, color);
            out.push('\n');
        }
        out.push('\n');
    }
    out
}

fn size(bytes: i64) -> String {
    human_size_precision(bytes as f64, 3)
}

fn top(image: &Value) -> Top {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = list(&image["RepoTags"])
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| *name != "<none>:<none>")
        .map(str::to_owned)
        .collect();
    names.sort();
    let mut in_use = number(image, "Containers") > 0;
    let mut content = 0;
    let mut children = Vec::new();
    for manifest in list(&image["Manifests"]) {
        content += number(&manifest["Size"], "Content");
        if text(&manifest, "Kind") != "image" {
            continue;
        }
        let data = &manifest["ImageData"];
        let used = !list(&data["Containers"]).is_empty();
        in_use |= used;
        let platform = ["os", "architecture", "variant"]
            .map(|key| text(&data["Platform"], key))
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        children.push(Child {
            platform,
            available: manifest["Available"] == true,
            details: Details {
                id: short_id(text(&manifest, "ID")).to_owned(),
                disk: size(number(&manifest["Size"], "Total")),
                content: size(number(&manifest["Size"], "Content")),
                in_use: used,
            },
        });
    }
    Top {
        names,
        details: Details {
            id: short_id(text(image, "Id")).to_owned(),
            disk: size(number(image, "Size")),
            content: size(content),
            in_use,
        },
        children,
    }
}

fn columns(chips: &Chips) -> Vec<Column> {
    let column = |title, width, right, value| Column {
        title,
        width,
        right,
        plain: false,
        value,
    };
    vec![
        column("ID", 12, false, |one, _| one.id.clone()),
        column("DISK USAGE", 10, true, |one, _| one.disk.clone()),
        column("CONTENT SIZE", 12, true, |one, _| one.content.clone()),
        Column {
            plain: true,
            ..column(
                "EXTRA",
                chips.width().max("EXTRA".len()),
                false,
                |one, chips| chips.show(one),
            )
        },
    ]
}

/// The width of the names' column, and the columns that have room beside it.
fn layout(width: Option<usize>, mut columns: Vec<Column>, widest: usize) -> (usize, Vec<Column>) {
    let Some(mut left) = width else {
        return (widest, columns);
    };
    let fitting = columns
        .iter()
        .take_while(|column| {
            let taken = column.width + SPACING.len();
            let fits = left >= taken + NAME_WIDTH_MIN;
            left -= if fits { taken } else { 0 };
            fits
        })
        .count();
    columns.truncate(fitting);
    (left.min(widest), columns)
}

fn widest(tops: &[Top]) -> usize {
    let names = tops.iter().flat_map(|top| {
        let own = top.names.iter().map(|name| name.width());
        let none = top.names.is_empty().then_some(UNTAGGED.len());
        let children = top.children.iter().map(|child| child.platform.width() + 3);
        own.chain(none).chain(children)
    });
    names.max().unwrap_or(0).max("IMAGE".len())
}

const UNTAGGED: &str = "<untagged>";

/// Each name on a line of its own, but for the last where it fits.
fn names(out: &mut String, names: &[String], width: usize, color: bool) {
    if names.is_empty() {
        *out += &paint(color, "39;2", &pad(UNTAGGED, width, false));
    }
    for (index, name) in names.iter().enumerate() {
        *out += &paint(color, "34;1", &pad(name, width, false));
        let last = index + 1 == names.len();
        let too_long = name.width() > width;
        if !last || too_long {
            out.push('\n');
        }
        if last && too_long {
            *out += &" ".repeat(width);
        }
    }
}

fn details(out: &mut String, columns: &[Column], chips: &Chips, details: &Details, color: &str) {
    for column in columns {
        let value = (column.value)(details, chips);
        *out += SPACING;
        *out += &match column.plain {
            // A chip's colours are no part of its width.
            true => {
                let width = chips.width();
                format!("{value}{}", " ".repeat(column.width.saturating_sub(width)))
            }
            false => paint(chips.color, color, &pad(&value, column.width, column.right)),
        };
    }
}

fn pad(text: &str, width: usize, right: bool) -> String {
    let fill = " ".repeat(width.saturating_sub(text.width()));
    match right {
        true => format!("{fill}{text}"),
        false => format!("{text}{fill}"),
    }
}

/// The text in a colour, its padding left out of it.
fn paint(color: bool, code: &str, padded: &str) -> String {
    let text = padded.trim();
    match color && !text.is_empty() {
        true => padded.replacen(text, &format!("\x1b[{code}m{text}\x1b[0m"), 1),
        false => padded.to_owned(),
    }
}

fn legend(color: bool, width: usize) -> String {
    let (head, chip, plain) = match color {
        true => (
            "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m",
            chip(),
            "i Info →   U  In Use",
        ),
        false => (" Info -> ", "U".to_owned(), " Info ->  U In Use"),
    };
    let fill = " ".repeat(width.saturating_sub(plain.width()));
    format!("{fill}{head} {chip} In Use\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    const PLAIN: Look = Look {
        width: None,
        color: false,
    };

    fn manifest(digit: char, platform: &[&str], content: i64, total: i64, users: &[&str]) -> Value {
        let part = |index: usize| platform.get(index).copied().unwrap_or_default();
        json!({"ID": format!("sha256:{}", digit.to_string().repeat(64)), "Kind": "image", "Available": total > 0,
            "Size": {"Content": content, "Total": total},
            "ImageData": {"Platform": {"os": part(0), "architecture": part(1), "variant": part(2)}, "Containers": users}})
    }

    fn images() -> Vec<Value> {
        let attestation = json!({"ID": "sha256:ff", "Kind": "attestation", "Size": {"Content": 100, "Total": 100}});
        vec![
            json!({"Id": format!("sha256:{}", "c".repeat(64)), "RepoTags": [], "Size": 900, "Containers": 0, "Manifests": []}),
            json!({"Id": format!("sha256:{}", "a".repeat(64)), "RepoTags": ["web:2", "registry.example/team/web:1"], "Size": 25_500_000, "Containers": 1,
                "Manifests": [manifest('b', &["linux", "amd64"], 10_000_000, 25_500_000, &["one"]),
                    manifest('d', &["linux", "arm", "v7"], 0, 0, &[]), attestation]}),
        ]
    }

    #[test]
    fn into_a_file() {
        expect![[r#"
            IMAGE                         ID             DISK USAGE   CONTENT SIZE   EXTRA
            registry.example/team/web:1
            web:2                         aaaaaaaaaaaa       25.5MB           10MB   U    
            ├─ linux/amd64                bbbbbbbbbbbb       25.5MB           10MB   U    
            └─ linux/arm/v7               dddddddddddd           0B             0B        

            <untagged>                    cccccccccccc         900B             0B        

        "#]]
        .assert_eq(&draw(&images(), PLAIN).replace("web:1\u{20}", "web:1"));
    }

    #[test]
    fn a_terminal_has_a_legend_and_only_as_many_columns_as_fit() {
        let narrow = Look {
            width: Some(50),
            color: false,
        };
        let drawn = draw(&images(), narrow);
        let first: Vec<&str> = drawn.lines().take(4).collect();
        assert_eq!(
            first[0],
            format!("{}{}", " ".repeat(32), " Info ->  U In Use")
        );
        assert_eq!(
            first[1],
            "IMAGE                    ID             DISK USAGE"
        );
        assert_eq!(first[2], "registry.example/team/web:1");
        let wide = Look {
            width: Some(200),
            color: true,
        };
        let drawn = draw(&images(), wide);
        assert!(drawn.contains("\x1b[34;1mweb:2\x1b[0m"), "{drawn:?}");
        assert!(drawn.contains(&chip()), "{drawn:?}");
    }
}
