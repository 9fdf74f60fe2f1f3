//! `hull manifest`: indexes ("manifest lists") put together here and pushed, without the daemon.

mod store;

use clap::Args;
use hull_image::{Auth, RegistryConfig, Remote, RemoteDocument};
use hull_oci::image::{Document, media_type};
use hull_oci::{Manifest, Platform, Reference};
use serde_json::{Value, json};

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::go::json::{indented, reindent};
use crate::registry::Run;
use store::{Member, Store};

/// `hull manifest create`: Create a local manifest list for annotating and pushing to a registry.
#[derive(Args, Debug)]
pub struct Create {
    /// Amend an existing manifest list
    #[arg(short = 'a', long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    args: Vec<String>,
}

/// `hull manifest annotate`: Add additional information to a local image manifest.
#[derive(Args, Debug)]
pub struct Annotate {
    /// Set architecture
    #[arg(
        long,
        value_name = "string",
        default_value = "",
        hide_default_value = true
    )]
    arch: String,
    /// Set operating system
    #[arg(
        long,
        value_name = "string",
        default_value = "",
        hide_default_value = true
    )]
    os: String,
    /// Set operating system feature
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(
        long,
        value_name = "string",
        default_value = "",
        hide_default_value = true
    )]
    os_version: String,
    /// Set architecture variant
    #[arg(
        long,
        value_name = "string",
        default_value = "",
        hide_default_value = true
    )]
    variant: String,
    args: Vec<String>,
}

/// `hull manifest inspect`: Display an image manifest, or manifest list.
#[derive(Args, Debug)]
pub struct Inspect {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short = 'v', long)]
    verbose: bool,
    args: Vec<String>,
}

/// `hull manifest push`: Push a manifest list to a repository.
#[derive(Args, Debug)]
pub struct Push {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short = 'p', long)]
    purge: bool,
    args: Vec<String>,
}

/// `hull manifest rm`: Delete one or more manifest lists from local storage.
#[derive(Args, Debug)]
pub struct Rm {
    args: Vec<String>,
}

fn parse(text: &str) -> Result<Reference, Failure> {
    Reference::parse_normalized(text)
        .map(Reference::with_default_tag)
        .map_err(|error| Failure::new(error.to_string()))
}

fn named(what: &str, text: &str) -> Result<Reference, Failure> {
    parse(text)
        .map_err(|error| Failure::new(format!("error parsing name for {what} {text}: {error}")))
}

fn no_such(reference: &Reference) -> Failure {
    Failure::new(format!("No such manifest: {}", reference.familiar()))
}

/// Registries by the command line's own configuration and credentials.
struct Registries<'c> {
    cli: &'c Cli,
    remote: Remote,
}

impl<'c> Registries<'c> {
    fn new(cli: &'c Cli, insecure: bool, reference: &Reference) -> Result<Self, Failure> {
        let config = RegistryConfig {
            insecure: Some(reference.domain.clone())
                .filter(|_| insecure)
                .into_iter()
                .collect(),
            certs_dir: Some("/etc/docker/certs.d".into()),
            ..RegistryConfig::default()
        };
        let remote = Remote::new(config).map_err(told)?;
        Ok(Registries { cli, remote })
    }

    fn auth(&self, reference: &Reference) -> Result<Option<Auth>, Failure> {
        let key = match reference.domain.as_str() {
            "docker.io" => crate::config::HUB,
            domain => domain,
        };
        let found = self.cli.config.auth(key)?;
        let field = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        let auth = Auth {
            username: field("username"),
            password: field("password"),
            identity_token: Some(field("identitytoken")).filter(|token| !token.is_empty()),
            registry_token: Some(field("registrytoken")).filter(|token| !token.is_empty()),
        };
        Ok(Some(auth).filter(|auth| *auth != Auth::default()))
    }

    async fn document(&self, reference: &Reference) -> Result<RemoteDocument, Failure> {
        let auth = self.auth(reference)?;
        let found = self.remote.document(reference, auth.as_ref()).await;
        found.map_err(|error| match error {
            hull_image::Error::ManifestUnknown(..) => no_such(reference),
            error => told(error),
        })
    }

    /// A manifest with the platform that its config names, under `name`.
    async fn member(
        &self,
        name: &Reference,
        found: &RemoteDocument,
        manifest: &Manifest,
        platform: Option<Platform>,
    ) -> Result<Member, Failure> {
        let platform = match platform {
            Some(platform) => platform,
            None => {
                let auth = self.auth(name)?;
                let asked = self.remote.platform(name, auth.as_ref(), manifest).await;
                asked.map_err(told)?
            }
        };
        let descriptor = json!({
            "mediaType": found.descriptor.media_type,
            "digest": found.descriptor.digest.to_string(),
            "size": found.descriptor.size,
            "platform": platform,
        });
        Member::new(name, descriptor, &found.bytes)
    }

    /// Every manifest of an index, each under its digest.
    async fn members(
        &self,
        name: &Reference,
        found: RemoteDocument,
    ) -> Result<Vec<Member>, Failure> {
        let Document::Index(index) = found.document else {
            return Err(Failure::new(format!("{name} is not a manifest list")));
        };
        let mut members = Vec::new();
        for entry in index.manifests {
            let one = name.to_digest(entry.digest.clone());
            let document = self.document(&one).await?;
            if let Document::Manifest(manifest) = &document.document {
                members.push(
                    self.member(&one, &document, manifest, entry.platform)
                        .await?,
                );
            }
        }
        Ok(members)
    }
}

fn told(error: hull_image::Error) -> Failure {
    Failure::new(error.sentence())
}

impl Run for Create {
    async fn run(self, cli: &Cli) -> Outcome {
        let list = named("manifest list", &self.args[0])?;
        let store = Store::new(cli.config.dir());
        if store.list(&list)?.is_some() && !self.amend {
            return Err(Failure::new(
                "refusing to amend an existing manifest list with no --amend flag",
            ));
        }
        let registries = Registries::new(cli, self.insecure, &list)?;
        // First all of them, so that a list is not half made.
        let mut members = Vec::new();
        for text in &self.args[1..] {
            let name = parse(text)?;
            if let Some(known) = store.get(&list, &name)? {
                members.push((name, known));
                continue;
            }
            let found = registries.document(&name).await?;
            let Document::Manifest(manifest) = &found.document else {
                return Err(Failure::new(format!("{name} is a manifest list")));
            };
            let member = registries.member(&name, &found, manifest, None).await?;
            members.push((name, member));
        }
        for (name, member) in &members {
            store.put(&list, name, member)?;
        }
        cli.line(format!("Created manifest list {list}"))?;
        Ok(0)
    }
}

impl Run for Annotate {
    async fn run(self, cli: &Cli) -> Outcome {
        let list = parse(&self.args[0]).map_err(|error| {
            Failure::new(format!(
                "annotate: error parsing name for manifest list {}: {error}",
                self.args[0]
            ))
        })?;
        let name = parse(&self.args[1]).map_err(|error| {
            Failure::new(format!(
                "annotate: error parsing name for manifest {}: {error}",
                self.args[1]
            ))
        })?;
        let store = Store::new(cli.config.dir());
        let mut member = store.get(&list, &name)?.ok_or_else(|| {
            Failure::new(format!(
                "manifest for image {} does not exist in {}",
                self.args[1], self.args[0]
            ))
        })?;
        member.annotate("os", self.os.into());
        member.annotate("architecture", self.arch.into());
        member.annotate("os.features", self.os_features.into());
        member.annotate("variant", self.variant.into());
        member.annotate("os.version", self.os_version.into());
        let platform = &member.descriptor()["platform"];
        let (os, arch) = (
            platform["os"].as_str().unwrap_or_default(),
            platform["architecture"].as_str().unwrap_or_default(),
        );
        if !is_platform(os, arch) {
            return Err(Failure::new(format!(
                "manifest entry for image has unsupported os/arch combination: {os}/{arch}"
            )));
        }
        store.put(&list, &name, &member)?;
        Ok(0)
    }
}

/// The combinations that Go can build for, as docker's command line checks them (`cli/command/manifest/util.go`).
fn is_platform(os: &str, arch: &str) -> bool {
    let known: &[&str] = match os {
        "darwin" => &["386", "amd64", "arm", "arm64"],
        "dragonfly" | "solaris" => &["amd64"],
        "freebsd" | "netbsd" | "openbsd" => &["386", "amd64", "arm"],
        "linux" => &[
            "386", "amd64", "arm", "arm64", "ppc64le", "riscv64", "mips64", "mips64le", "s390x",
            "loong64",
        ],
        "plan9" => &["386", "amd64"],
        "windows" => &["386", "amd64", "arm", "arm64"],
        "wasip1" => &["wasm"],
        _ => &[],
    };
    known.contains(&arch)
}

impl Run for Inspect {
    async fn run(self, cli: &Cli) -> Outcome {
        let store = Store::new(cli.config.dir());
        if let [list, name] = &self.args[..] {
            let (list, name) = (parse(list)?, parse(name)?);
            let member = store.get(&list, &name)?.ok_or_else(|| no_such(&name))?;
            return self.show_one(cli, &member);
        }
        let name = parse(&self.args[0])?;
        if let Some(members) = store.list(&name)? {
            return self.show_list(cli, &members);
        }
        let registries = Registries::new(cli, self.insecure, &name)?;
        let found = registries.document(&name).await?;
        match &found.document {
            Document::Manifest(manifest) => {
                if !self.verbose {
                    return show_raw(cli, &found.bytes);
                }
                let member = registries.member(&name, &found, manifest, None).await?;
                self.show_one(cli, &member)
            }
            Document::Index(_) if !self.verbose => show_raw(cli, &found.bytes),
            Document::Index(_) => {
                let members = registries.members(&name, found).await?;
                self.show_list(cli, &members)
            }
        }
    }
}

impl Inspect {
    fn show_one(&self, cli: &Cli, member: &Member) -> Outcome {
        match self.verbose {
            true => cli.line(indented(&member.0, "\t"))?,
            false => return show_raw(cli, &member.raw()?),
        }
        Ok(0)
    }

    fn show_list(&self, cli: &Cli, members: &[Member]) -> Outcome {
        match self.verbose {
            true => {
                let all: Vec<_> = members.iter().map(|member| &member.0).collect();
                cli.line(indented(&all, "\t"))?;
            }
            false => cli.line(String::from_utf8_lossy(&index(members)?.1))?,
        }
        Ok(0)
    }
}

/// A document as the registry has it, laid out.
fn show_raw(cli: &Cli, raw: &[u8]) -> Outcome {
    cli.line(reindent(&String::from_utf8_lossy(raw), "\t"))?;
    Ok(0)
}

/// The index of these manifests: its type and its bytes, indented by three spaces as docker's library writes them.
fn index(members: &[Member]) -> Result<(&'static str, Vec<u8>), Failure> {
    let mut manifests = Vec::new();
    for member in members {
        let descriptor = member.descriptor();
        let platform = &descriptor["platform"];
        let given = |key: &str| platform[key].as_str().is_some_and(|text| !text.is_empty());
        if !given("os") || !given("architecture") {
            return Err(Failure::new(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                member.reference()?
            )));
        }
        manifests.push(json!({
            "mediaType": descriptor["mediaType"],
            "size": descriptor["size"],
            "digest": descriptor["digest"],
            "platform": platform,
        }));
    }
    let first = manifests.first().map(|first| first["mediaType"].clone());
    let kind = match first == Some(Value::from(media_type::OCI_MANIFEST)) {
        true => media_type::OCI_INDEX,
        false => media_type::DOCKER_MANIFEST_LIST,
    };
    let list = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
    Ok((kind, indented(&list, "   ").into_bytes()))
}

impl Run for Push {
    async fn run(self, cli: &Cli) -> Outcome {
        let list = parse(&self.args[0])?;
        let store = Store::new(cli.config.dir());
        let members = store.list(&list)?.ok_or_else(|| no_such(&list))?;
        if members.is_empty() {
            return Err(Failure::new(format!("{list} not found")));
        }
        let (kind, bytes) = index(&members)?;
        let registries = Registries::new(cli, self.insecure, &list)?;
        let auth = registries.auth(&list)?;
        for member in &members {
            let source = member.reference()?;
            if source.domain != list.domain {
                return Err(Failure::new(format!(
                    "cannot use source images from a different registry than the target image: {} != {}",
                    source.domain, list.domain
                )));
            }
            if source.path == list.path {
                continue;
            }
            let raw = member.raw()?;
            let manifest: Manifest = serde_json::from_slice(&raw)
                .map_err(|error| Failure::new(format!("invalid manifest of {source}: {error}")))?;
            let mounted = registries
                .remote
                .mount(&source, &list, auth.as_ref(), &manifest);
            mounted.await.map_err(told)?;
            let digest = hull_oci::Digest::sha256_of(&raw);
            let kind = member.descriptor()["mediaType"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let target = list.to_digest(digest.clone());
            let put = registries.remote.put(&target, auth.as_ref(), &kind, raw);
            put.await.map_err(told)?;
            cli.line(format!("Pushed ref {target} with digest: {digest}"))?;
        }
        let put = registries.remote.put(&list, auth.as_ref(), kind, bytes);
        let digest = put.await.map_err(told)?;
        cli.line(digest)?;
        if self.purge {
            store.remove(&list)?;
        }
        Ok(0)
    }
}

impl Run for Rm {
    async fn run(self, cli: &Cli) -> Outcome {
        let store = Store::new(cli.config.dir());
        let mut missing = Vec::new();
        for text in &self.args {
            match parse(text) {
                Ok(list) if store.remove(&list)? => {}
                Ok(list) => missing.push(no_such(&list).to_string()),
                Err(error) => missing.push(error.to_string()),
            }
        }
        match missing.is_empty() {
            true => Ok(0),
            false => Err(Failure::new(missing.join("\n"))),
        }
    }
}
