//! `hull search`.

use super::ps::filters;
use super::pull::auth_header;
use crate::app::Cli;
use crate::failure::Outcome;
use crate::format::{Format, ellipsis, header, number, row, text};
use crate::registry::Run;
use crate::template::Row;
use crate::values;
use clap::Args;
use hull_client::Query;
use serde_json::Value;

/// `hull search`: Search Docker Hub for images.
#[derive(Args, Debug)]
pub struct Search {
    /// Filter output based on conditions provided
    #[arg(short = 'f', long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "int", value_parser = values::go_int)]
    limit: Option<i64>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    args: Vec<String>,
}

impl Run for Search {
    async fn run(self, cli: &Cli) -> Outcome {
        let term = &self.args[0];
        let registry = match term.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
            _ => "docker.io",
        };
        let limit = self
            .limit
            .filter(|&limit| limit > 0)
            .map(|limit| limit.to_string());
        let query = Query::new("/images/search")
            .set("term", term)
            .set_some("limit", limit)
            .set_some("filters", filters(&self.filter));
        let mut answer = cli
            .client()?
            .request(http::Method::GET, &query, None, auth_header(cli, registry)?)
            .await?;
        let body = answer.bytes().await?;
        let mut results: Vec<Value> =
            serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        results.sort_by_key(|result| std::cmp::Reverse(number(result, "star_count")));
        let source = match self.format.as_deref().unwrap_or("") {
            "" | "table" => "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
            source => source,
        };
        let as_json = source == "json" || source.contains("json .}}");
        let rows: Vec<Row> = results
            .iter()
            .map(|result| columns(result, !self.no_trunc, as_json))
            .collect();
        let heads = header(&[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("StarCount", "STARS"),
            ("IsOfficial", "OFFICIAL"),
        ]);
        cli.out(Format::parse(source)?.render(&heads, &rows)?)?;
        Ok(0)
    }
}

fn columns(result: &Value, trunc: bool, as_json: bool) -> Row {
    let description = text(result, "description").replace(['\n', '\r'], " ");
    let official = match (result["is_official"] == true, as_json) {
        (true, true) => "true",
        (false, true) => "false",
        (true, false) => "[OK]",
        (false, false) => "",
    };
    row(
        "*registry.searchContext",
        [
            ("Name", text(result, "name").into()),
            (
                "Description",
                (if trunc {
                    ellipsis(&description, 45)
                } else {
                    description
                })
                .into(),
            ),
            ("StarCount", number(result, "star_count").to_string().into()),
            ("IsOfficial", official.into()),
        ],
    )
}
