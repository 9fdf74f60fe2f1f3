//! Docker's plugins of the first kind (docs.docker.com/engine/extend/plugin_api, "legacy"): a program with an HTTP server behind a
//! socket, found by name in a few directories, activated by its first use. What a volume or an authorization is, is not known here
//! but for the shapes of the calls.
#![forbid(unsafe_code)]

mod call;
mod discover;
mod error;
mod volume;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{OnceCell, Semaphore};

pub use discover::Directories;
pub use error::{Error, Result};
pub use volume::{PluginVolume, Scope, VolumeDriver};

use discover::Address;

/// How long dockerd goes on trying to reach a plugin.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long dockerd gives the slowest calls.
const CALL_MAX: Duration = Duration::from_secs(120);
/// How long a plugin that is asked for by name may take to say what it implements.
const ACTIVATE_MAX: Duration = Duration::from_secs(30);
/// The same for one that was only come across.
const ACTIVATE_FOUND_MAX: Duration = Duration::from_secs(5);
/// Calls of one plugin at the same time; others wait for their turn.
const CALLS_MAX: usize = 32;

/// Where plugins are looked for, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where plugins are looked for.
    pub directories: Directories,
    /// How long a plugin that cannot be reached is tried again.
    pub patience: Duration,
    /// The longest that any call may take; most have less.
    pub call_max: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            directories: Directories::default(),
            patience: PATIENCE,
            call_max: CALL_MAX,
        }
    }
}

/// What to do about a plugin that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// That is the answer.
    Fails,
    /// It is waited for: something of it is there, so it was, and will be again (a host that boots).
    IsAwaited,
}

/// The plugins that were used. Names that were never found leave nothing behind.
#[derive(Debug, Default)]
pub struct Plugins {
    options: Options,
    known: Mutex<BTreeMap<String, Arc<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    address: Address,
    activated: OnceCell<Arc<Plugin>>,
}

/// A plugin that said what it implements.
#[derive(Debug)]
pub struct Plugin {
    name: String,
    address: Address,
    implements: Vec<String>,
    patience: Duration,
    call_max: Duration,
    turns: Semaphore,
    /// What its volumes' scope is, once it was asked.
    scope: OnceCell<Scope>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Manifest {
    #[serde(deserialize_with = "hull_api::json::nullable")]
    implements: Vec<String>,
}

impl Plugins {
    /// None is looked for yet.
    #[must_use]
    pub fn new(options: Options) -> Plugins {
        Plugins {
            options,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Slot>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plugin of a name, activated, if it implements `interface`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotImplemented`], or why it could not be found or activated.
    pub async fn get(&self, name: &str, interface: &str, missing: Missing) -> Result<Arc<Plugin>> {
        let slot = match missing {
            Missing::Fails => self.slot(name)?,
            Missing::IsAwaited => {
                let locate = || std::future::ready(self.slot(name));
                let absent = |error: &Error| matches!(error, Error::NotFound(_));
                call::with_patience(self.options.patience, absent, locate).await?
            }
        };
        let plugin = self
            .activate(&slot, name, ACTIVATE_MAX, self.options.patience)
            .await?;
        if plugin.implements(interface) {
            return Ok(plugin);
        }
        Err(Error::NotImplemented {
            name: name.to_owned(),
            interface: interface.to_owned(),
        })
    }

    /// All plugins that can be found and implement `interface`, by name. What does not answer is left out, with a line in the log.
    pub async fn all(&self, interface: &str) -> Vec<Arc<Plugin>> {
        let mut names = self.options.directories.scan();
        names.extend(self.known().keys().cloned());
        let asked = names.iter().map(|name| self.come_across(name));
        let answers = futures_util::future::join_all(asked).await;
        let mut found = Vec::new();
        for (name, answer) in names.iter().zip(answers) {
            match answer {
                Ok(plugin) if plugin.implements(interface) => found.push(plugin),
                Ok(_) | Err(Error::NotFound(_)) => {}
                Err(error) => tracing::warn!(plugin = %name, %error, "a plugin is left out"),
            }
        }
        found
    }

    async fn come_across(&self, name: &str) -> Result<Arc<Plugin>> {
        let slot = self.slot(name)?;
        self.activate(&slot, name, ACTIVATE_FOUND_MAX, Duration::ZERO)
            .await
    }

    /// Names of the plugins that are in use and implement `interface`, sorted.
    #[must_use]
    pub fn active(&self, interface: &str) -> Vec<String> {
        self.known()
            .iter()
            .filter(|(_, slot)| {
                slot.activated
                    .get()
                    .is_some_and(|plugin| plugin.implements(interface))
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Where a plugin is, as it was found before or is found now.
    fn slot(&self, name: &str) -> Result<Arc<Slot>> {
        if let Some(slot) = self.known().get(name)
            && slot.address.may_be_there()
        {
            return Ok(slot.clone());
        }
        let located = self.options.directories.locate(name);
        let mut known = self.known();
        known.remove(name);
        let slot = Arc::new(Slot {
            address: located?,
            activated: OnceCell::new(),
        });
        known.insert(name.to_owned(), slot.clone());
        Ok(slot)
    }

    async fn activate(
        &self,
        slot: &Arc<Slot>,
        name: &str,
        limit: Duration,
        patience: Duration,
    ) -> Result<Arc<Plugin>> {
        let limit = limit.min(self.options.call_max);
        let activated = slot
            .activated
            .get_or_try_init(|| async {
                let method = "Plugin.Activate";
                let connect = || call::call(&slot.address, method, Vec::new(), limit);
                let answer =
                    call::with_patience(patience, Error::is_of_connection, connect).await?;
                let manifest: Manifest = call::decoded(method, &answer)?;
                Ok(Arc::new(Plugin {
                    name: name.to_owned(),
                    address: slot.address.clone(),
                    implements: manifest.implements,
                    patience: self.options.patience,
                    call_max: self.options.call_max,
                    turns: Semaphore::new(CALLS_MAX),
                    scope: OnceCell::new(),
                }))
            })
            .await;
        match activated {
            Ok(plugin) => Ok(plugin.clone()),
            Err(error) => {
                // It is looked for afresh, unless somebody does so already.
                let mut known = self.known();
                if known.get(name).is_some_and(|same| Arc::ptr_eq(same, slot)) {
                    known.remove(name);
                }
                Err(error)
            }
        }
    }
}

impl Plugin {
    /// What it is called: the file's name without its end.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn implements(&self, interface: &str) -> bool {
        self.implements.iter().any(|known| known == interface)
    }

    /// Calls `method` with a JSON document and returns the answer's bytes. A plugin that cannot be connected to is tried again with
    /// growing pauses; a request that has reached it is never sent twice.
    ///
    /// # Errors
    /// No answer within `limit`, an answer too long, a status other than 200.
    pub async fn call(&self, method: &str, body: Vec<u8>, limit: Duration) -> Result<bytes::Bytes> {
        let limit = limit.min(self.call_max);
        let once = || async {
            // Only a closed semaphore has no permits to give, and nobody closes this one.
            let _turn = self.turns.acquire().await;
            call::call(&self.address, method, body.clone(), limit).await
        };
        let in_time = || async {
            let answer = tokio::time::timeout(limit, once()).await;
            answer.unwrap_or_else(|_| Err(Error::late(method, limit)))
        };
        call::with_patience(self.patience, Error::is_of_connection, in_time).await
    }
}
