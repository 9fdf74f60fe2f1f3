//! The daemon's own log: standard error, as text or as dockerd's JSON lines, and its level at run time.

use std::fmt;

use anyhow::Result;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level as Severity, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::Config;

/// Changes the level.
pub(crate) type Level = reload::Handle<LevelFilter, Registry>;

/// Starts logging.
///
/// # Errors
/// Only if logging was started before.
pub(crate) fn start(config: &Config) -> Result<Level> {
    let (filter, handle) = reload::Layer::new(level(config));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format.as_str() {
        "json" => lines.event_format(Json).boxed(),
        _ => lines
            .with_target(false)
            .with_ansi(!config.raw_logs && std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    Ok(handle)
}

/// What a configuration asks for.
pub(crate) fn level(config: &Config) -> LevelFilter {
    match config.log_level.as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "fatal" | "panic" => LevelFilter::ERROR,
        _ if config.debug => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    }
}

/// dockerd's `--log-format json`: an object a line with `level`, `msg`, `time` and the event's own fields, sorted
/// (logrus' JSONFormatter).
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Severity::TRACE => "trace",
            Severity::DEBUG => "debug",
            Severity::INFO => "info",
            Severity::WARN => "warning",
            Severity::ERROR => "error",
        };
        let now = jiff::Timestamp::now();
        writeln!(writer, "{}", fields.line(level, &format!("{now:.9}")))
    }
}

/// An event's fields, as they come.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            "message" => {
                self.message = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                return;
            }
            // As logrus: a field does not take the line's own names.
            name @ ("level" | "msg" | "time") => format!("fields.{name}"),
            name => name.to_owned(),
        };
        self.others.insert(name, value);
    }

    fn line(self, level: &str, time: &str) -> Value {
        let mut line = self.others;
        for (key, value) in [("level", level), ("msg", &self.message), ("time", time)] {
            line.insert(key.to_owned(), Value::from(value));
        }
        line.sort_keys();
        Value::Object(line)
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Where a test's lines go.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_lines_are_logrus() {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .event_format(Json);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::warn!(count = 3, level = "own", on = true, "said \"so\"\nand more");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let mut line: Value = serde_json::from_str(&text).unwrap();
        let time = line["time"].take();
        let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
        assert!((jiff::Timestamp::now().as_second() - time.as_second()).abs() < 60);
        assert_eq!(
            line.to_string(),
            r#"{"count":3,"fields.level":"own","level":"warning","msg":"said \"so\"\nand more","on":true,"time":null}"#
        );
    }
}
