//! `hull ps`.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{FORMAT_HELP, Format, container};
use crate::registry::Run;
use crate::template::{Data, Mode, Template};
use crate::values;
use clap::Args;
use hull_api::filters::Filters;
use hull_client::Query;
use serde_json::Value;

/// `hull ps`: List containers.
#[derive(Args, Debug)]
pub struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short = 'a', long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short = 'f', long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Show n last created containers (includes all states) (default -1)
    #[arg(short = 'n', long, value_name = "int", value_parser = values::go_int)]
    last: Option<i64>,
    /// Show the latest created container (includes all states)
    #[arg(short = 'l', long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short = 's', long, value_name = "BOOL")]
    size: Option<bool>,
    args: Vec<String>,
}

impl Run for Ps {
    async fn run(self, cli: &Cli) -> Outcome {
        let given = self.format.as_deref().filter(|format| !format.is_empty());
        if given.is_some() && self.quiet {
            eprintln!(
                "WARNING: Ignoring custom format, because both --format and --quiet are set."
            );
        }
        let source = given.unwrap_or_else(|| cli.config.text("psFormat"));
        let mut size = self.size.unwrap_or(false);
        if !source.is_empty() {
            let template = Template::parse("", source)
                .map_err(|error| Failure::new(format!("failed to parse template: {error}")))?;
            // A column that does not exist is told before the daemon is asked, and when there is no container.
            let nothing = container::columns(&Value::Null, true);
            template
                .execute(Data::Row(&nothing), Mode::Lenient)
                .map_err(|error| Failure::new(format!("failed to execute template: {error}")))?;
            size |= !self.quiet && self.size.is_none() && template.uses_field("Size");
        }
        let format = Format::parse(&container::format(source, self.quiet, size))?;
        let last = self.last.unwrap_or(-1);
        let limit = if self.latest && last == -1 { 1 } else { last };
        let query = Query::new("/containers/json")
            .flag("all", self.all)
            .set_some("limit", (limit > 0).then(|| limit.to_string()))
            .flag("size", size)
            .set_some("filters", filters(&self.filter));
        let containers: Vec<Value> = cli.client()?.get(query).await?;
        let rows: Vec<_> = containers
            .iter()
            .map(|one| container::columns(one, !self.no_trunc))
            .collect();
        cli.out(format.render(&container::heads(), &rows)?)?;
        Ok(0)
    }
}

/// The API's `filters` parameter from `name=value` pairs; nothing without any.
pub fn filters(pairs: &[String]) -> Option<String> {
    let mut filters = Filters::default();
    for (key, value) in pairs.iter().filter_map(|pair| pair.split_once('=')) {
        filters.add(key, value);
    }
    Some(filters.encode()).filter(|text| !text.is_empty())
}
