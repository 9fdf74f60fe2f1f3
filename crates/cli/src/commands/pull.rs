//! `hull pull`, and the pull of `run` and `create`.

use crate::app::Cli;
use crate::config::encode_auth;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use crate::stream::progress::{self, Target};
use clap::Args;
use http::{HeaderMap, HeaderValue, Method};
use hull_client::Query;
use hull_oci::reference::Reference;

/// `hull pull`: Download an image from a registry.
#[derive(Args, Debug)]
pub struct Pull {
    /// Download all tagged images in the repository
    #[arg(short = 'a', long)]
    all_tags: bool,
    /// Skip image verification (default true)
    #[arg(long, default_value = "true")]
    disable_content_trust: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short = 'q', long)]
    quiet: bool,
    args: Vec<String>,
}

impl Run for Pull {
    async fn run(self, cli: &Cli) -> Outcome {
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
        let target = if self.quiet {
            Target::Quiet
        } else {
            Target::Stdout
        };
        pull(cli, &reference, self.platform.as_deref(), target).await?;
        cli.line(reference_text(&reference))?;
        Ok(0)
    }
}

/// A reference as the user typed it.
pub fn parse(text: &str) -> Result<Reference, Failure> {
    Reference::parse_normalized(text).map_err(|error| Failure::new(error.to_string()))
}

/// With the domain, as `pull` prints it at the end.
fn reference_text(reference: &Reference) -> String {
    reference.to_string()
}

/// Pulls the image of a container that is about to be created; progress goes to stderr.
pub async fn pull_for_create(
    cli: &Cli,
    image: &str,
    platform: Option<&str>,
    quiet: bool,
) -> Result<(), Failure> {
    let reference = parse(image)?.with_default_tag();
    pull(
        cli,
        &reference,
        platform,
        if quiet { Target::Quiet } else { Target::Stderr },
    )
    .await
}

/// The header with the registry's credentials.
pub fn auth_header(cli: &Cli, registry: &str) -> Result<HeaderMap, Failure> {
    let key = if registry == "docker.io" {
        crate::config::HUB
    } else {
        registry
    };
    let auth = encode_auth(&cli.config.auth(key)?);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(auth) {
        headers.insert("X-Registry-Auth", value);
    }
    Ok(headers)
}

async fn pull(
    cli: &Cli,
    reference: &Reference,
    platform: Option<&str>,
    target: Target,
) -> Result<(), Failure> {
    let tag = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => Some(digest.to_string()),
        (None, tag) => tag.clone(),
    };
    let query = Query::new("/images/create")
        .set("fromImage", reference.familiar_name())
        .set_some("tag", tag)
        .set_some("platform", platform);
    let headers = auth_header(cli, &reference.domain)?;
    let answer = cli
        .client()?
        .request(Method::POST, &query, None, headers)
        .await?;
    progress::show(answer, target, |_| {}).await
}
