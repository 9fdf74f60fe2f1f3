//! `hull images`.

use super::ps::filters;
use crate::app::Cli;
use crate::failure::Outcome;
use crate::format::{FORMAT_HELP, Format, image};
use crate::registry::Run;
use crate::values;
use clap::Args;
use hull_client::Query;
use serde_json::Value;

/// `hull images`: List images.
#[derive(Args, Debug)]
pub struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short = 'a', long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short = 'f', long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short = 'q', long)]
    quiet: bool,
    args: Vec<String>,
}

/// Words that people mistake for sub-commands of `images`.
const COMMANDS: [&str; 13] = [
    "build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm",
    "save", "tag",
];

impl Run for Images {
    async fn run(self, cli: &Cli) -> Outcome {
        let mut wanted = self.filter.clone();
        wanted.extend(self.args.first().map(|name| format!("reference={name}")));
        let query = Query::new("/images/json")
            .flag("all", self.all)
            .set_some("filters", filters(&wanted))
            .flag("shared-size", false);
        let images: Vec<Value> = cli.client()?.get(query).await?;
        let source = match self.format.as_deref() {
            None | Some("") if !self.quiet && !cli.config.text("imagesFormat").is_empty() => {
                cli.config.text("imagesFormat")
            }
            None | Some("") => "table",
            Some(source) => source,
        };
        let source = image::format(source, self.quiet, self.digests);
        let need_digest = self.digests || source.contains("{{.Digest}}");
        let format = Format::parse(&source)?;
        let rows: Vec<_> = images
            .iter()
            .flat_map(|one| image::rows(one, !self.no_trunc, self.digests, need_digest))
            .collect();
        cli.out(format.render(&image::heads(), &rows)?)?;
        if let (Some(name), true, true) = (
            self.args.first(),
            images.is_empty(),
            cli.command_path.ends_with(" images"),
        ) && COMMANDS.contains(&name.as_str())
        {
            eprintln!(
                "\nNo images found matching {name:?}: did you mean \"{} image {name}\"?",
                cli.bin
            );
        }
        Ok(0)
    }
}
