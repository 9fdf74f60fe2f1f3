//! `hull history`.

use super::inspect::platform_json;
use crate::app::Cli;
use crate::failure::Outcome;
use crate::format::{FORMAT_HELP, Format, ellipsis, header, number, row, short_id, text};
use crate::go::time::{rfc3339_local, since};
use crate::go::units::{human_duration, human_size_precision};
use crate::registry::Run;
use crate::template::Row;
use clap::Args;
use hull_client::Query;
use serde_json::Value;

/// `hull history`: Show the history of an image.
#[derive(Args, Debug)]
pub struct History {
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(short = 'H', long, default_value = "true")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(short = 'q', long)]
    quiet: bool,
    args: Vec<String>,
}

/// Before 2000 a date says nothing: builders that want equal results write the epoch.
const EPOCH: i64 = 946_684_800;

impl Run for History {
    async fn run(self, cli: &Cli) -> Outcome {
        let platform = self.platform.as_deref().map(platform_json).transpose()?;
        let query =
            Query::segments(&["images", &self.args[0], "history"]).set_some("platform", platform);
        let history: Vec<Value> = cli.client()?.get(query).await?;
        let source = match self.format.as_deref().unwrap_or("") {
            "" | "table" if self.quiet => "{{.ID}}",
            "" | "table" if self.human => {
                "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
            }
            "" | "table" => {
                "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
            }
            source => source,
        };
        let heads = header(&[
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ]);
        let rows: Vec<Row> = history.iter().map(|step| self.columns(step)).collect();
        cli.out(Format::parse(source)?.render(&heads, &rows)?)?;
        Ok(0)
    }
}

impl History {
    fn columns(&self, step: &Value) -> Row {
        let (id, created, size) = (
            text(step, "Id"),
            number(step, "Created"),
            number(step, "Size"),
        );
        let by = text(step, "CreatedBy").replace('\t', " ");
        let at = rfc3339_local(created);
        let ago = match (self.human, created > EPOCH) {
            (false, _) => at.clone(),
            (true, true) => format!("{} ago", human_duration(since(created))),
            (true, false) => "N/A".into(),
        };
        row(
            "*image.historyContext",
            [
                ("ID", (if self.no_trunc { id } else { short_id(id) }).into()),
                ("CreatedAt", at.into()),
                ("CreatedSince", ago.into()),
                (
                    "CreatedBy",
                    (if self.no_trunc { by } else { ellipsis(&by, 45) }).into(),
                ),
                (
                    "Size",
                    (if self.human {
                        human_size_precision(size as f64, 3)
                    } else {
                        size.to_string()
                    })
                    .into(),
                ),
                ("Comment", text(step, "Comment").into()),
            ],
        )
    }
}
