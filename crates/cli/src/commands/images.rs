//! `hull images`.

use super::ps::filters;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{FORMAT_HELP, Format, image, image_tree};
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
    /// List multi-platform images as a tree (EXPERIMENTAL)
    #[arg(long)]
    tree: bool,
    args: Vec<String>,
}

/// Words that people mistake for sub-commands of `images`.
const COMMANDS: [&str; 13] = [
    "build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm",
    "save", "tag",
];

impl Images {
    /// The flag that a tree cannot do, in Docker's words.
    fn not_with_tree(&self) -> Option<&'static str> {
        match self {
            Images { quiet: true, .. } => Some("quiet"),
            Images { no_trunc: true, .. } => Some("no-trunc"),
            // Docker's own spelling of --digests.
            Images { digests: true, .. } => Some("show-digest"),
            Images {
                format: Some(text), ..
            } if !text.is_empty() => Some("format"),
            Images { .. } => None,
        }
    }

    async fn draw_tree(&self, cli: &Cli, query: Query) -> Outcome {
        let query = query.flag("manifests", true);
        let mut images: Vec<Value> = cli.client()?.get(query).await?;
        let wants_dangling = self.filter.iter().any(|one| one == "dangling=true");
        if !self.all && !wants_dangling {
            images.retain(|one| {
                one["RepoTags"]
                    .as_array()
                    .is_some_and(|tags| !tags.is_empty())
            });
        }
        let terminal = crate::app::stdout_is_terminal();
        cli.out(image_tree::draw(
            &images,
            image_tree::Look {
                width: terminal.then(crate::help::width),
                color: terminal
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            },
        ))?;
        Ok(0)
    }
}

impl Run for Images {
    async fn run(self, cli: &Cli) -> Outcome {
        if let Some(flag) = self.not_with_tree().filter(|_| self.tree) {
            return Err(Failure::new(format!(
                "--{flag} is not yet supported with --tree"
            )));
        }
        let mut wanted = self.filter.clone();
        wanted.extend(self.args.first().map(|name| format!("reference={name}")));
        let query = Query::new("/images/json")
            .flag("all", self.all)
            .set_some("filters", filters(&wanted))
            .flag("shared-size", false);
        if self.tree {
            return self.draw_tree(cli, query).await;
        }
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
