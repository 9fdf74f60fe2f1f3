//! A password file as `htpasswd -B` writes it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hull_oci::Digest;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// Longest file read, in bytes.
const FILE_LEN_MAX: u64 = 16 << 20;
/// Most passwords that are remembered as right.
const REMEMBERED_MAX: usize = 1024;
/// How often the file's time is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// bcrypt is slow on purpose: most checks at once, so that wrong passwords cannot take the machine.
const CHECKS_MAX: usize = 2;
/// Checked for users that do not exist, so that they take as long as others. A hash of no known password.
const NOBODY: &str = "$2b$10$CwTycUXWue0Thq9StjUM0uJ8.wfJ8kVUJ1zFVuMz0jJp7kYgB0GLe";

/// The file, and which passwords were right before.
#[derive(Debug)]
pub struct Htpasswd {
    path: PathBuf,
    realm: String,
    state: RwLock<State>,
    /// Digests of user, hash and password: what is here was checked by bcrypt, and is forgotten when the file changes.
    remembered: Mutex<HashSet<Digest>>,
    checks: Semaphore,
}

#[derive(Debug)]
struct State {
    users: Arc<HashMap<String, String>>,
    modified: Option<SystemTime>,
    looked: Instant,
}

impl Htpasswd {
    /// Reads the file.
    pub fn open(path: &Path, realm: &str) -> anyhow::Result<Self> {
        let (users, modified) = read(path)?;
        Ok(Htpasswd {
            path: path.to_owned(),
            realm: super::quote(realm),
            state: RwLock::new(State {
                users: Arc::new(users),
                modified,
                looked: Instant::now(),
            }),
            remembered: Mutex::default(),
            checks: Semaphore::new(CHECKS_MAX),
        })
    }

    /// What is asked of who has not said who they are.
    pub fn challenge(&self) -> String {
        format!("Basic realm=\"{}\"", self.realm)
    }

    /// Checks the text after `Basic`; the user's name.
    pub async fn check(&self, text: &str) -> Result<String> {
        let refused = || Error::Unauthorized(self.challenge());
        let decoded = STANDARD.decode(text).map_err(|_| refused())?;
        let decoded = String::from_utf8(decoded).map_err(|_| refused())?;
        let (user, password) = decoded.split_once(':').ok_or_else(refused)?;
        let hash = self.users().get(user).cloned();
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        let key = Digest::sha256_of(format!("{user}\0{hash}\0{password}").as_bytes());
        if known && self.lock_remembered().contains(&key) {
            return Ok(user.to_owned());
        }
        let _permit = self.checks.acquire().await.map_err(|_| refused())?;
        let password = password.to_owned();
        let right =
            tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false))
                .await?;
        if !(right && known) {
            return Err(refused());
        }
        let mut remembered = self.lock_remembered();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(key);
        Ok(user.to_owned())
    }

    fn lock_remembered(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The users; read again when the file has changed. A file that cannot be read leaves things as they were.
    fn users(&self) -> Arc<HashMap<String, String>> {
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.looked.elapsed() < LOOK_EVERY {
                return state.users.clone();
            }
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.looked = Instant::now();
        let modified = std::fs::metadata(&self.path)
            .and_then(|metadata| metadata.modified())
            .ok();
        if modified != state.modified {
            match read(&self.path) {
                Ok((users, modified)) => {
                    state.users = Arc::new(users);
                    state.modified = modified;
                    self.lock_remembered().clear();
                }
                Err(error) => tracing::error!("the password file was not read again: {error:#}"),
            }
        }
        state.users.clone()
    }
}

fn read(path: &Path) -> anyhow::Result<(HashMap<String, String>, Option<SystemTime>)> {
    let metadata =
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        metadata.len() <= FILE_LEN_MAX,
        "{} is too long",
        path.display()
    );
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let users = parse(&text).with_context(|| format!("in {}", path.display()))?;
    Ok((users, metadata.modified().ok()))
}

fn parse(text: &str) -> anyhow::Result<HashMap<String, String>> {
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, hash) = line
            .split_once(':')
            .with_context(|| format!("line {} is not user:hash", number + 1))?;
        anyhow::ensure!(
            ["$2a$", "$2b$", "$2y$"]
                .iter()
                .any(|kind| hash.starts_with(kind)),
            "the password of {user:?} in line {} is not hashed by bcrypt; write it with htpasswd -B",
            number + 1
        );
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let users = parse("# people\n\nada:$2y$05$abc\n").expect("valid");
        assert_eq!(users.get("ada").map(String::as_str), Some("$2y$05$abc"));
        let weak = parse("eve:$apr1$x$y\n").expect_err("MD5").to_string();
        assert!(
            weak.contains("line 1") && weak.contains("htpasswd -B"),
            "{weak}"
        );
        assert!(parse("nonsense\n").is_err());
    }

    /// Otherwise whether a user exists could be told from the time that a refusal takes.
    #[test]
    fn the_hash_for_unknown_users_is_a_hash() {
        assert!(bcrypt::verify("x", NOBODY).is_ok());
    }
}
