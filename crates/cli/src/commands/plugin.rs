//! `hull plugin ls`.

use super::ps::filters;
use crate::app::Cli;
use crate::failure::Outcome;
use crate::format::{FORMAT_HELP, Format, ellipsis, header, row, short_id, text};
use crate::registry::Run;
use crate::template::Row;
use crate::values;
use clap::Args;
use hull_client::Query;
use serde_json::Value;

/// `hull plugin ls`: List plugins.
#[derive(Args, Debug)]
pub struct PluginLs {
    /// Provide filter values (e.g. "enabled=true")
    #[arg(short = 'f', long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display plugin IDs
    #[arg(short = 'q', long)]
    quiet: bool,
    args: Vec<String>,
}

impl Run for PluginLs {
    async fn run(self, cli: &Cli) -> Outcome {
        let plugins: Vec<Value> = cli
            .client()?
            .get(Query::new("/plugins").set_some("filters", filters(&self.filter)))
            .await?;
        let source = match self.format.as_deref().unwrap_or("") {
            "" if !self.quiet && !cli.config.text("pluginsFormat").is_empty() => {
                cli.config.text("pluginsFormat")
            }
            "" | "table" if self.quiet => "{{.ID}}",
            "" | "table" => "table {{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}",
            source => source,
        };
        let heads = header(&[
            ("ID", "ID"),
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("Enabled", "ENABLED"),
            ("PluginReference", "IMAGE"),
        ]);
        let rows: Vec<Row> = plugins
            .iter()
            .map(|plugin| columns(plugin, !self.no_trunc))
            .collect();
        cli.out(Format::parse(source)?.render(&heads, &rows)?)?;
        Ok(0)
    }
}

fn columns(plugin: &Value, trunc: bool) -> Row {
    let id = text(plugin, "Id");
    let description = text(&plugin["Config"], "Description").replace(['\n', '\r'], "");
    row(
        "*plugin.pluginContext",
        [
            ("ID", (if trunc { short_id(id) } else { id }).into()),
            ("Name", text(plugin, "Name").into()),
            (
                "Description",
                (if trunc {
                    ellipsis(&description, 45)
                } else {
                    description
                })
                .into(),
            ),
            ("Enabled", (plugin["Enabled"] == true).into()),
            ("PluginReference", text(plugin, "PluginReference").into()),
        ],
    )
}
