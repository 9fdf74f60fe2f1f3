//! The progress of pull, push, load and import: bars on a terminal, plain lines elsewhere.

use crate::failure::Failure;
use crate::go::time::rfc3339_nano_fixed;
use crate::go::units::human_size;
use hull_client::Answer;
use rustix::termios::tcgetwinsize;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{IsTerminal, Write};

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error: `run` keeps stdout for the container.
    Stderr,
    /// Nowhere; errors still count.
    Quiet,
}

/// Shows a stream of progress messages to its end; `aux` gets the values that are not for the eye.
pub async fn show(
    answer: Answer,
    target: Target,
    mut aux: impl FnMut(&Value),
) -> Result<(), Failure> {
    let terminal = match target {
        Target::Stdout => std::io::stdout().is_terminal(),
        Target::Stderr => std::io::stderr().is_terminal(),
        Target::Quiet => false,
    };
    let mut display = Display::new(terminal, width(target));
    let mut stream = answer.json_stream();
    while let Some(message) = stream.next::<Value>().await? {
        if let Some(value) = message.get("aux") {
            aux(value);
            continue;
        }
        let text = display.message(&message)?;
        match target {
            Target::Stdout => write(std::io::stdout().lock(), &text)?,
            Target::Stderr => write(std::io::stderr().lock(), &text)?,
            Target::Quiet => {}
        }
    }
    Ok(())
}

fn write(mut to: impl Write, text: &str) -> Result<(), Failure> {
    to.write_all(text.as_bytes())?;
    Ok(to.flush()?)
}

fn width(target: Target) -> usize {
    let size = if target == Target::Stderr {
        tcgetwinsize(rustix::stdio::stderr())
    } else {
        tcgetwinsize(rustix::stdio::stdout())
    };
    size.map_or(200, |size| usize::from(size.ws_col))
}

/// Lines by id, as Docker's `jsonmessage` keeps them.
#[derive(Debug)]
struct Display {
    terminal: bool,
    width: usize,
    lines: HashMap<String, usize>,
}

fn text<'a>(message: &'a Value, key: &str) -> &'a str {
    message.get(key).and_then(Value::as_str).unwrap_or("")
}

impl Display {
    fn new(terminal: bool, width: usize) -> Display {
        Display {
            terminal,
            width,
            lines: HashMap::new(),
        }
    }

    /// What to print for a message; an error message is a failure.
    fn message(&mut self, message: &Value) -> Result<String, Failure> {
        let error = message
            .get("errorDetail")
            .map(|detail| text(detail, "message"))
            .filter(|text| !text.is_empty());
        if let Some(error) =
            error.or_else(|| Some(text(message, "error")).filter(|text| !text.is_empty()))
        {
            return Err(Failure::new(error));
        }
        let id = text(message, "id");
        let progress = message
            .get("progressDetail")
            .filter(|detail| !detail.is_null());
        let mut out = String::new();
        let mut up = 0;
        if !id.is_empty() && (progress.is_some() || !text(message, "progress").is_empty()) {
            let count = self.lines.len();
            let line = *self.lines.entry(id.to_owned()).or_insert(count);
            if self.lines.len() > count && self.terminal {
                out.push('\n');
            }
            up = self.lines.len() - line;
            if self.terminal {
                out.push_str(&format!("\x1b[{up}A"));
            }
        } else {
            self.lines.clear();
        }
        self.body(message, id, progress, &mut out);
        if !id.is_empty() && self.terminal {
            out.push_str(&format!("\x1b[{up}B"));
        }
        Ok(out)
    }

    fn body(&self, message: &Value, id: &str, progress: Option<&Value>, out: &mut String) {
        let stream = text(message, "stream");
        let bar = progress.map(|detail| self.bar(detail));
        let mut end = "";
        if self.terminal && stream.is_empty() && progress.is_some() {
            end = "\r";
            out.push_str("\x1b[2K\r");
        } else if bar.as_ref().is_some_and(|bar| !bar.is_empty()) {
            return;
        }
        if let Some(nanos) = message
            .get("timeNano")
            .and_then(Value::as_i64)
            .filter(|&nanos| nanos != 0)
        {
            out.push_str(&format!("{} ", rfc3339_nano_fixed(nanos.into())));
        }
        if !id.is_empty() {
            out.push_str(&format!("{id}: "));
        }
        if let from @ [_, ..] = text(message, "from").as_bytes() {
            out.push_str(&format!("(from {}) ", String::from_utf8_lossy(from)));
        }
        let status = text(message, "status");
        match (&bar, text(message, "progress")) {
            (Some(bar), _) if self.terminal => out.push_str(&format!("{status} {bar}{end}")),
            (_, old) if !old.is_empty() => out.push_str(&format!("{status} {old}{end}")),
            _ if !stream.is_empty() => out.push_str(&format!("{stream}{end}")),
            _ => out.push_str(&format!("{status}{end}\n")),
        }
    }

    /// `[=====>     ]  1.2MB/3.4MB`
    fn bar(&self, detail: &Value) -> String {
        let number = |key: &str| detail.get(key).and_then(Value::as_i64).unwrap_or(0);
        let (current, total, units) = (number("current"), number("total"), text(detail, "units"));
        if current <= 0 && total <= 0 {
            return String::new();
        }
        if total <= 0 {
            return if units.is_empty() {
                format!("{:>8}", human_size(current as f64))
            } else {
                format!("{current} {units}")
            };
        }
        let filled = ((current as f64 / total as f64 * 100.0) as usize / 2).min(50);
        let bar = if self.width > 110 {
            format!("[{}>{}] ", "=".repeat(filled), " ".repeat(50 - filled))
        } else {
            String::new()
        };
        let hide = detail
            .get("hidecounts")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let numbers = match (hide, units.is_empty(), current > total) {
            (true, ..) => String::new(),
            (_, true, true) => format!("{:>8}", human_size(current as f64)),
            (_, true, false) => format!(
                "{:>8}/{}",
                human_size(current as f64),
                human_size(total as f64)
            ),
            (_, false, true) => format!("{current} {units}"),
            (_, false, false) => format!("{current}/{total} {units}"),
        };
        format!("{bar}{numbers}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(terminal: bool, width: usize, messages: &[Value]) -> String {
        let mut display = Display::new(terminal, width);
        messages
            .iter()
            .map(|message| {
                display
                    .message(message)
                    .unwrap_or_else(|error| error.to_string())
            })
            .collect()
    }

    #[test]
    fn plain_lines_have_no_bars() {
        let messages = [
            json!({"status": "Pulling from library/nginx", "id": "latest"}),
            json!({"status": "Pulling fs layer", "progressDetail": {}, "id": "a"}),
            json!({"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "progress": "[>]", "id": "a"}),
            json!({"status": "Pull complete", "progressDetail": {}, "id": "a"}),
            json!({"status": "Digest: sha256:x"}),
            json!({"stream": "Loaded image: x\n"}),
        ];
        assert_eq!(
            all(false, 200, &messages),
            "latest: Pulling from library/nginx\na: Pulling fs layer\na: Pull complete\nDigest: sha256:x\nLoaded image: x\n"
        );
    }

    #[test]
    fn bars_on_a_terminal() {
        let messages = [
            json!({"status": "Pulling fs layer", "progressDetail": {}, "id": "a"}),
            json!({"status": "Waiting", "progressDetail": {}, "id": "b"}),
            json!({"status": "Downloading", "progressDetail": {"current": 500, "total": 1000}, "id": "a"}),
        ];
        let bar = format!("[{}>{}]     500B/1kB", "=".repeat(25), " ".repeat(25));
        assert_eq!(
            all(true, 200, &messages),
            format!(
                "\n\x1b[1A\x1b[2K\ra: Pulling fs layer \r\x1b[1B\n\x1b[1A\x1b[2K\rb: Waiting \r\x1b[1B\x1b[2A\x1b[2K\ra: Downloading {bar}\r\x1b[2B"
            )
        );
        assert!(all(true, 80, &messages).contains("a: Downloading     500B/1kB"));
    }

    #[test]
    fn errors_fail() {
        assert_eq!(
            all(
                false,
                80,
                &[json!({"errorDetail": {"message": "no"}, "error": "no"})]
            ),
            "no"
        );
    }
}
