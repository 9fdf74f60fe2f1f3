//! `hull stats`.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{FORMAT_HELP, Format, header, row, short_id, text};
use crate::go::units::{bytes_size, human_size_precision};
use crate::registry::Run;
use crate::template::Row;
use clap::Args;
use futures_util::stream::{BoxStream, SelectAll, unfold};
use futures_util::{FutureExt, StreamExt};
use hull_client::{Client, Error, Query};
use serde_json::Value;
use std::time::Duration;

/// `hull stats`: Display a live stream of container(s) resource usage statistics.
#[derive(Args, Debug)]
pub struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short = 'a', long)]
    all: bool,
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    args: Vec<String>,
}

/// How often the screen is drawn.
const DRAW: Duration = Duration::from_millis(500);
const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// A container on the screen, and its last sample.
struct Line {
    container: String,
    sample: Option<Value>,
}

type Samples<'c> = SelectAll<BoxStream<'c, (String, Result<Value, Error>)>>;

impl Run for Stats {
    async fn run(self, cli: &Cli) -> Outcome {
        let source = match self.format.as_deref().unwrap_or("") {
            "" if !cli.config.text("statsFormat").is_empty() => cli.config.text("statsFormat"),
            "" | "table" => TABLE,
            source => source,
        };
        let format = Format::parse(source)?;
        let client = cli.client()?;
        // Subscribed before the list is asked for: no container slips through in between.
        let watched = self.args.is_empty() && !self.no_stream;
        let mut events = match watched {
            true => Some(
                client
                    .get_stream(Query::new("/events").set("filters", r#"{"type":["container"]}"#))
                    .await?
                    .json_stream(),
            ),
            false => None,
        };
        let names = self.names(client).await?;
        let mut lines: Vec<Line> = Vec::new();
        let mut samples: Samples<'_> = SelectAll::new();
        for name in names {
            watch(client, &mut lines, &mut samples, name, !self.no_stream);
        }
        self.first(&mut lines, &mut samples).await?;
        if self.no_stream {
            cli.out(format.render(&heads(), &self.rows(&lines))?)?;
            return Ok(0);
        }
        let mut ticks = tokio::time::interval(DRAW);
        loop {
            let event = async {
                match &mut events {
                    Some(events) => events.next::<Value>().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((name, sample)) = samples.next() => keep(&mut lines, &name, sample.ok()),
                event = event => match event? {
                    Some(event) => self.happened(client, &mut lines, &mut samples, &event),
                    None => return Ok(0),
                },
                _ = ticks.tick() => {
                    let text = format.render(&heads(), &self.rows(&lines))?;
                    let text: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
                    cli.out(format!("\x1b[H{text}\x1b[J"))?;
                    if samples.is_empty() && !watched {
                        return Ok(0);
                    }
                }
            }
        }
    }
}

impl Stats {
    async fn names(&self, client: &Client) -> Result<Vec<String>, Error> {
        if !self.args.is_empty() {
            return Ok(self.args.clone());
        }
        let list: Vec<Value> = client
            .get(Query::new("/containers/json").flag("all", self.all))
            .await?;
        Ok(list
            .iter()
            .map(|container| short_id(text(container, "Id")).to_owned())
            .collect())
    }

    /// Waits for one sample of each container; a name that does not exist fails the command.
    async fn first(&self, lines: &mut Vec<Line>, samples: &mut Samples<'_>) -> Result<(), Failure> {
        let mut errors = Vec::new();
        let deadline = tokio::time::sleep(Duration::from_secs(5));
        tokio::pin!(deadline);
        let mut missing = lines.len();
        while missing > 0 {
            tokio::select! {
                next = samples.next() => match next {
                    Some((name, Ok(sample))) => {
                        missing -= usize::from(lines.iter().any(|line| line.container == name && line.sample.is_none()));
                        keep(lines, &name, Some(sample));
                    }
                    Some((name, Err(error))) => {
                        missing -= 1;
                        if self.args.is_empty() {
                            lines.retain(|line| line.container != name);
                        } else {
                            errors.push(error.to_string());
                        }
                    }
                    None => break,
                },
                () = &mut deadline => break,
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(errors.join("\n")))
        }
    }

    fn happened<'c>(
        &self,
        client: &'c Client,
        lines: &mut Vec<Line>,
        samples: &mut Samples<'c>,
        event: &Value,
    ) {
        let id = short_id(text(&event["Actor"], "ID")).to_owned();
        match text(event, "Action") {
            "create" if self.all => watch(client, lines, samples, id, true),
            "start" => watch(client, lines, samples, id, true),
            "die" if !self.all => lines.retain(|line| line.container != id),
            _ => {}
        }
    }

    fn rows(&self, lines: &[Line]) -> Vec<Row> {
        lines
            .iter()
            .map(|line| columns(&line.container, line.sample.as_ref(), !self.no_trunc))
            .collect()
    }
}

fn keep(lines: &mut [Line], name: &str, sample: Option<Value>) {
    if let Some(line) = lines.iter_mut().find(|line| line.container == name) {
        line.sample = sample;
    }
}

fn watch<'c>(
    client: &'c Client,
    lines: &mut Vec<Line>,
    samples: &mut Samples<'c>,
    name: String,
    stream: bool,
) {
    if lines.iter().any(|line| line.container == name) {
        return;
    }
    lines.push(Line {
        container: name.clone(),
        sample: None,
    });
    let query = Query::segments(&["containers", &name, "stats"])
        .set("stream", if stream { "1" } else { "0" });
    let opened = async move {
        client
            .get_stream(query)
            .await
            .map(hull_client::Answer::json_stream)
    };
    let follow = move |opened: Result<hull_client::JsonStream, Error>| {
        let name = name.clone();
        match opened {
            Err(error) => futures_util::stream::once(async move { (name, Err(error)) }).boxed(),
            Ok(stream) => unfold(stream, move |mut stream| {
                let name = name.clone();
                async move {
                    match stream.next::<Value>().await {
                        Ok(Some(sample)) => Some(((name, Ok(sample)), stream)),
                        Ok(None) | Err(_) => None,
                    }
                }
            })
            .boxed(),
        }
    };
    samples.push(opened.map(follow).flatten_stream().boxed());
}

fn heads() -> Row {
    header(&[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ])
}

fn at<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(value, |value, key| &value[*key])
}

fn float(value: &Value, path: &[&str]) -> f64 {
    at(value, path).as_f64().unwrap_or(0.0)
}

/// Share of all CPUs' time between two samples, in percent of one CPU.
fn cpu_percent(sample: &Value) -> f64 {
    let used = float(sample, &["cpu_stats", "cpu_usage", "total_usage"])
        - float(sample, &["precpu_stats", "cpu_usage", "total_usage"]);
    let system = float(sample, &["cpu_stats", "system_cpu_usage"])
        - float(sample, &["precpu_stats", "system_cpu_usage"]);
    let mut cpus = float(sample, &["cpu_stats", "online_cpus"]);
    if cpus == 0.0 {
        cpus = at(sample, &["cpu_stats", "cpu_usage", "percpu_usage"])
            .as_array()
            .map_or(0, Vec::len) as f64;
    }
    if system > 0.0 && used > 0.0 {
        used / system * cpus * 100.0
    } else {
        0.0
    }
}

/// Memory in use without the page cache that the kernel would give up first.
fn memory(sample: &Value) -> f64 {
    let usage = float(sample, &["memory_stats", "usage"]);
    let stats = at(sample, &["memory_stats", "stats"]);
    let cache = stats["total_inactive_file"]
        .as_f64()
        .filter(|&cache| cache < usage)
        .or_else(|| stats["inactive_file"].as_f64());
    usage - cache.filter(|&cache| cache < usage).unwrap_or(0.0)
}

fn block_io(sample: &Value) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for entry in at(sample, &["blkio_stats", "io_service_bytes_recursive"])
        .as_array()
        .into_iter()
        .flatten()
    {
        let value = entry["value"].as_f64().unwrap_or(0.0);
        match text(entry, "op").as_bytes().first() {
            Some(b'r' | b'R') => sums.0 += value,
            Some(b'w' | b'W') => sums.1 += value,
            _ => {}
        }
    }
    sums
}

fn columns(container: &str, sample: Option<&Value>, trunc: bool) -> Row {
    const NONE: &str = "--";
    // A container that does not run has an empty sample: Docker shows its zeros.
    let empty = Value::Null;
    let shown = sample.unwrap_or(&empty);
    let valid = sample.is_some();
    let or_none = |text: String| -> Value { if valid { text.into() } else { NONE.into() } };
    let name = text(shown, "name").trim_start_matches('/');
    let id = text(shown, "id");
    let (used, limit) = (memory(shown), float(shown, &["memory_stats", "limit"]));
    let networks: Vec<&Value> = shown["networks"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, network)| network)
        .collect();
    let sum = |key: &str| {
        networks
            .iter()
            .filter_map(|network| network[key].as_f64())
            .fold(0.0, |sum, value| sum + value)
    };
    let (read, written) = block_io(shown);
    let pair = |a: f64, b: f64| {
        format!(
            "{} / {}",
            human_size_precision(a, 3),
            human_size_precision(b, 3)
        )
    };
    let memory_percent = if limit == 0.0 {
        0.0
    } else {
        used / limit * 100.0
    };
    row(
        "*container.statsContext",
        [
            ("Container", container.into()),
            ("Name", (if name.is_empty() { NONE } else { name }).into()),
            ("ID", (if trunc { short_id(id) } else { id }).into()),
            ("CPUPerc", or_none(format!("{:.2}%", cpu_percent(shown)))),
            (
                "MemUsage",
                (if valid {
                    format!("{} / {}", bytes_size(used), bytes_size(limit))
                } else {
                    "-- / --".into()
                })
                .into(),
            ),
            ("MemPerc", or_none(format!("{memory_percent:.2}%"))),
            ("NetIO", or_none(pair(sum("rx_bytes"), sum("tx_bytes")))),
            ("BlockIO", or_none(pair(read, written))),
            (
                "PIDs",
                or_none(float(shown, &["pids_stats", "current"]).to_string()),
            ),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sample() {
        let sample = json!({
            "name": "/web", "id": "0123456789abcdef",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 2 << 20, "limit": 4 << 20, "stats": {"total_inactive_file": 1 << 20}},
            "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 2000}}, "pids_stats": {"current": 3},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 5000}, {"op": "write", "value": 6000}]},
        });
        let shown = columns("web", Some(&sample), true);
        let line: Vec<&str> = [
            "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs",
        ]
        .iter()
        .map(|key| shown.fields[*key].as_str().unwrap())
        .collect();
        assert_eq!(
            line,
            [
                "0123456789ab",
                "web",
                "40.00%",
                "1MiB / 4MiB",
                "25.00%",
                "1kB / 2kB",
                "5kB / 6kB",
                "3"
            ]
        );
        assert_eq!(columns("x", None, true).fields["MemUsage"], "-- / --");
    }
}
