//! `hull logs`.

use super::run::flag;
use crate::app::Cli;
use crate::failure::Outcome;
use crate::go::duration;
use crate::registry::Run;
use crate::stream::attach::Demux;
use clap::Args;
use hull_client::Query;
use jiff::Timestamp;
use serde_json::Value;

/// `hull logs`: Fetch the logs of a container.
#[derive(Args, Debug)]
pub struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short = 'f', long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs (default "all")
    #[arg(short = 'n', long, value_name = "string")]
    tail: Option<String>,
    /// Show timestamps
    #[arg(short = 't', long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
    args: Vec<String>,
}

impl Run for Logs {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        let since = self
            .since
            .as_deref()
            .map(|text| timestamp("since", text))
            .transpose()?;
        let until = self
            .until
            .as_deref()
            .map(|text| timestamp("until", text))
            .transpose()?;
        let container: Value = client
            .get(Query::segments(&["containers", &self.args[0], "json"]))
            .await?;
        let id = container["Id"].as_str().unwrap_or(&self.args[0]);
        let query = Query::segments(&["containers", id, "logs"])
            .flag("stdout", true)
            .flag("stderr", true)
            .set_some("since", since)
            .set_some("until", until)
            .flag("timestamps", self.timestamps)
            .flag("details", self.details)
            .flag("follow", self.follow)
            .set("tail", self.tail.as_deref().unwrap_or("all"));
        let mut answer = client.get_stream(query).await?;
        let mut demux = Demux::new(flag(&container, &["Config", "Tty"]));
        while let Some(chunk) = answer.chunk().await? {
            demux.write(&chunk)?;
        }
        Ok(0)
    }
}

/// A time as the API takes it, from an absolute time or a span before now. `flag` is named in the error, unless it is empty.
pub fn timestamp(flag: &str, text: &str) -> Result<String, String> {
    let invalid = || {
        let prefix = if flag.is_empty() {
            String::new()
        } else {
            format!("invalid value for \"{flag}\": ")
        };
        format!(
            "{prefix}failed to parse value as time or duration: {}",
            crate::go::strconv::quote(text)
        )
    };
    if text != "0"
        && let Ok(nanos) = duration::parse(text)
    {
        let then = Timestamp::now().as_nanosecond() - i128::from(nanos);
        return Ok(seconds(then));
    }
    if text
        .chars()
        .all(|c| c.is_ascii_digit() || c == '.' || c == '-')
        && text.parse::<f64>().is_ok()
    {
        return Ok(text.to_owned());
    }
    let full = match text.len() {
        10 => format!("{text}T00:00:00"),
        13 => format!("{text}:00:00"),
        16 => format!("{text}:00"),
        _ => text.to_owned(),
    };
    if let Ok(stamp) = full.parse::<Timestamp>() {
        return Ok(seconds(stamp.as_nanosecond()));
    }
    let civil: jiff::civil::DateTime = full.parse().map_err(|_| invalid())?;
    let zoned = civil
        .to_zoned(jiff::tz::TimeZone::system())
        .map_err(|_| invalid())?;
    Ok(seconds(zoned.timestamp().as_nanosecond()))
}

fn seconds(nanos: i128) -> String {
    format!(
        "{}.{:09}",
        nanos.div_euclid(1_000_000_000),
        nanos.rem_euclid(1_000_000_000)
    )
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn times() {
        assert_eq!(
            timestamp("since", "2013-01-02T13:23:37Z").unwrap(),
            "1357133017.000000000"
        );
        assert_eq!(timestamp("since", "1136073600.5").unwrap(), "1136073600.5");
        assert!(
            timestamp("since", "42m").is_ok()
                && timestamp("since", "2013-01-02T13:23").is_ok()
                && timestamp("since", "2013-01-02").is_ok()
        );
        assert_eq!(
            timestamp("since", "x").unwrap_err(),
            "invalid value for \"since\": failed to parse value as time or duration: \"x\""
        );
    }
}
