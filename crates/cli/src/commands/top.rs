//! `hull top`.

use crate::app::Cli;
use crate::failure::Outcome;
use crate::go::tabwriter;
use crate::registry::Run;
use clap::Args;
use hull_client::Query;
use serde_json::Value;

/// `hull top`: Display the running processes of a container.
#[derive(Args, Debug)]
pub struct Top {
    args: Vec<String>,
}

impl Run for Top {
    async fn run(self, cli: &Cli) -> Outcome {
        let options = self.args[1..].join(" ");
        let query = Query::segments(&["containers", &self.args[0], "top"])
            .set_some("ps_args", Some(options));
        let list: Value = cli.client()?.get(query).await?;
        let line = |cells: &Value| {
            cells
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join("\t")
                + "\n"
        };
        let mut text = line(&list["Titles"]);
        text.extend(list["Processes"].as_array().into_iter().flatten().map(line));
        cli.out(tabwriter::align(&text, 20, 3))?;
        Ok(0)
    }
}
