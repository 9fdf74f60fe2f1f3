//! `hull push`.

use super::inspect::platform_json;
use super::pull::{auth_header, parse};
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use crate::stream::progress::{self, Target};
use clap::Args;
use http::Method;
use hull_client::Query;

const PLATFORM_HELP: &str = "Push a platform-specific manifest as a single-platform image to the registry.
Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)";

/// `hull push`: Upload an image to a registry.
#[derive(Args, Debug)]
pub struct Push {
    /// Push all tags of an image to the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    /// Skip image signing (default true)
    #[arg(long, default_value = "true")]
    disable_content_trust: bool,
    /// Push a platform-specific manifest as a single-platform image
    #[arg(long, value_name = "string", help = PLATFORM_HELP)]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short = 'q', long)]
    quiet: bool,
    args: Vec<String>,
}

impl Run for Push {
    async fn run(self, cli: &Cli) -> Outcome {
        let platform = self.platform.as_deref().map(platform_json).transpose()?;
        let mut reference = parse(&self.args[0])?;
        if self.all_tags && !reference.is_name_only() {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        if !self.all_tags && reference.is_name_only() {
            reference = reference.with_default_tag();
            if !self.quiet {
                cli.line("Using default tag: latest")?;
            }
        }
        if reference.digest.is_some() {
            return Err(Failure::new("cannot push a digest reference"));
        }
        let tag = reference.tag.clone();
        let query = Query::segments(&["images", &reference.familiar_name(), "push"])
            .set_some("tag", tag)
            .set_some("platform", platform);
        let headers = auth_header(cli, &reference.domain)?;
        let answer = cli
            .client()?
            .request(Method::POST, &query, None, headers)
            .await?;
        let target = if self.quiet {
            Target::Quiet
        } else {
            Target::Stdout
        };
        progress::show(answer, target, |_| {}).await?;
        if self.quiet {
            cli.line(&reference)?;
        }
        Ok(0)
    }
}
