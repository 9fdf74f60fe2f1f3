//! The table that a bench prints.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::shell;

/// One measured thing: a value for each engine.
pub struct Row {
    name: String,
    values: BTreeMap<String, Value>,
}

#[derive(Clone, Copy)]
enum Value {
    Time(Duration),
    Bytes(u64),
    /// How many a second: more is better.
    Rate(f64),
}

impl Row {
    /// A row without values.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            values: BTreeMap::new(),
        }
    }

    /// Adds a time.
    pub fn time(mut self, engine: &str, value: Duration) -> Self {
        self.values.insert(engine.to_owned(), Value::Time(value));
        self
    }

    /// Adds a size.
    pub fn bytes(mut self, engine: &str, value: u64) -> Self {
        self.values.insert(engine.to_owned(), Value::Bytes(value));
        self
    }

    /// Adds a rate, in events a second.
    pub fn rate(mut self, engine: &str, value: f64) -> Self {
        self.values.insert(engine.to_owned(), Value::Rate(value));
        self
    }

    fn shown(&self, engine: &str) -> String {
        match self.values.get(engine) {
            None => String::new(),
            Some(Value::Time(time)) => format!("{:.1} ms", time.as_secs_f64() * 1e3),
            Some(Value::Bytes(bytes)) if *bytes < 10 << 20 => format!("{} KiB", bytes >> 10),
            Some(Value::Rate(rate)) => format!("{rate:.0}/s"),
            Some(Value::Bytes(bytes)) => format!("{:.1} MiB", *bytes as f64 / f64::from(1 << 20)),
        }
    }

    fn ratio(&self, engine: &str) -> String {
        match (self.values.get("hull"), self.values.get(engine)) {
            (Some(Value::Rate(hull)), Some(Value::Rate(other))) => format!("{:.1}", hull / other),
            (Some(hull), Some(other)) => format!("{:.1}", other.number() / hull.number()),
            _ => String::new(),
        }
    }
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Self::Time(time) => time.as_secs_f64(),
            Self::Bytes(bytes) => bytes as f64,
            Self::Rate(rate) => rate,
        }
    }
}

/// All rows, in the order in which they were measured.
pub struct Report {
    rows: Vec<Row>,
    others: &'static [&'static str],
    floor: &'static str,
}

impl Report {
    /// Nothing yet. `others` are compared with Hull, `floor` is a column without a ratio.
    pub fn new(others: &'static [&'static str], floor: &'static str) -> Self {
        Self {
            rows: Vec::new(),
            others,
            floor,
        }
    }

    /// Adds a row, and shows it at once.
    pub fn add(&mut self, row: Row) {
        eprintln!(
            "{}: {}",
            row.name,
            row.values
                .keys()
                .map(|engine| format!("{engine} {}", row.shown(engine)))
                .collect::<Vec<_>>()
                .join(", ")
        );
        self.rows.push(row);
    }

    /// The table, with the machine and the versions above it.
    pub fn markdown(&self) -> String {
        let mut text = machine();
        let ratios: Vec<String> = self
            .others
            .iter()
            .map(|other| format!("{other}/hull"))
            .collect();
        let mut heads = vec!["what", "hull"];
        heads.extend(self.others);
        heads.extend(ratios.iter().map(String::as_str));
        heads.push(self.floor);
        text.push_str(&format!("\n| {} |\n", heads.join(" | ")));
        text.push_str(&format!("|---|{}\n", "---:|".repeat(heads.len() - 1)));
        for row in &self.rows {
            let mut cells = vec![row.name.clone(), row.shown("hull")];
            cells.extend(self.others.iter().map(|other| row.shown(other)));
            cells.extend(self.others.iter().map(|other| row.ratio(other)));
            cells.push(row.shown(self.floor));
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        text
    }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let first = |program: &str, args: &[&str]| {
        shell::output(std::process::Command::new(program).args(args))
            .ok()
            .and_then(|text| text.lines().next().map(str::to_owned))
            .unwrap_or_default()
    };
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: ").map(str::to_owned))
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{}: {model}, {cores} cores, Linux {}; {}; {}; commit {}.\n",
        first("date", &["-u", "+%Y-%m-%d"]),
        read("/proc/sys/kernel/osrelease").trim(),
        first("dockerd", &["--version"]),
        first("podman", &["--version"]),
        first("git", &["rev-parse", "--short", "HEAD"]),
    )
}
