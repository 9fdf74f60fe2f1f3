//! `hull events`.

use super::logs::timestamp;
use super::ps::filters;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{INSPECT_FORMAT_HELP, number, text};
use crate::go::time::rfc3339_nano_fixed;
use crate::registry::Run;
use crate::template::{Data, Mode, Template};
use crate::values;
use clap::Args;
use hull_client::Query;
use serde_json::{Value, json};

/// `hull events`: Get real time events from the server.
#[derive(Args, Debug)]
pub struct Events {
    /// Filter output based on conditions provided
    #[arg(short = 'f', long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    until: Option<String>,
    args: Vec<String>,
}

impl Run for Events {
    async fn run(self, cli: &Cli) -> Outcome {
        let template = self.template()?;
        let since = self
            .since
            .as_deref()
            .map(|text| timestamp("", text))
            .transpose()?;
        let until = self
            .until
            .as_deref()
            .map(|text| timestamp("", text))
            .transpose()?;
        let query = Query::new("/events")
            .set_some("since", since)
            .set_some("until", until)
            .set_some("filters", filters(&self.filter));
        let mut stream = cli.client()?.get_stream(query).await?.json_stream();
        while let Some(event) = stream.next::<Value>().await? {
            match &template {
                Some(template) => cli.line(template.execute(Data::Json(&event), Mode::Lenient)?)?,
                None => cli.line(line(&event))?,
            }
        }
        Ok(0)
    }
}

impl Events {
    fn template(&self) -> Result<Option<Template>, Failure> {
        let text = match self.format.as_deref().unwrap_or("") {
            "" => return Ok(None),
            "json" => "{{json .}}",
            text => text,
        };
        let fail = |error| Failure::with_status(64, format!("Error parsing format: {error}"));
        let template = Template::parse("", text).map_err(fail)?;
        // Docker finds a field that events do not have before it waits for any.
        let empty = json!({"Type": "", "Action": "", "Actor": {"ID": "", "Attributes": {}}, "scope": "", "Scope": "", "time": 0, "Time": 0, "timeNano": 0, "TimeNano": 0,
            "status": "", "Status": "", "id": "", "ID": "", "from": "", "From": ""});
        template
            .execute(Data::Json(&empty), Mode::Strict)
            .map_err(fail)?;
        Ok(Some(template))
    }
}

/// `TIME TYPE ACTION ID (attribute=value, ..)`
fn line(event: &Value) -> String {
    let mut out = match (number(event, "timeNano"), number(event, "time")) {
        (0, 0) => String::new(),
        (0, seconds) => format!(
            "{} ",
            rfc3339_nano_fixed(i128::from(seconds) * 1_000_000_000)
        ),
        (nanos, _) => format!("{} ", rfc3339_nano_fixed(nanos.into())),
    };
    let actor = &event["Actor"];
    out.push_str(&format!(
        "{} {} {}",
        text(event, "Type"),
        text(event, "Action"),
        text(actor, "ID")
    ));
    let attributes = actor["Attributes"].as_object().into_iter().flatten();
    let mut pairs: Vec<String> = attributes
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    if !pairs.is_empty() {
        pairs.sort_unstable();
        out.push_str(&format!(" ({})", pairs.join(", ")));
    }
    out
}
