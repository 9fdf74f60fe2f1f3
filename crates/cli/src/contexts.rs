//! Named ways to daemons (`docker context`): folders beneath the configuration, named by the SHA-256 of the context's name.

use crate::failure::Failure;
use crate::failure_text;
use hull_oci::digest::Digest;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The context that is always there.
pub const DEFAULT: &str = "default";

/// The store below a configuration folder.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// One context's record.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// `meta.json`.
    pub meta: Value,
}

impl Context {
    /// The daemon's host.
    pub fn host(&self) -> &str {
        self.meta["Endpoints"]["docker"]["Host"]
            .as_str()
            .unwrap_or("")
    }

    /// Whether the daemon's certificate goes unchecked.
    pub fn skip_tls_verify(&self) -> bool {
        self.meta["Endpoints"]["docker"]["SkipTLSVerify"]
            .as_bool()
            .unwrap_or(false)
    }

    /// What its owner says about it.
    pub fn description(&self) -> &str {
        self.meta["Metadata"]["Description"].as_str().unwrap_or("")
    }
}

/// `meta.json` of a new context.
pub fn meta(name: &str, description: &str, host: &str, skip_tls_verify: bool) -> Value {
    let metadata = if description.is_empty() {
        json!({})
    } else {
        json!({"Description": description})
    };
    json!({"Name": name, "Metadata": metadata, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": skip_tls_verify}}})
}

/// Docker's rule for names.
pub fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::new("context name cannot be empty"));
    }
    if name == DEFAULT {
        return Err(Failure::new("\"default\" is a reserved context name"));
    }
    let valid = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() > 1
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c));
    if valid {
        return Ok(());
    }
    Err(Failure::new(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

impl Store {
    /// The store in `<config>/contexts`.
    pub fn new(config: &Path) -> Store {
        Store {
            root: config.join("contexts"),
        }
    }

    fn folder(&self, name: &str) -> String {
        Digest::sha256_of(name.as_bytes()).hex().to_owned()
    }

    /// Folder of a context's record.
    pub fn meta_dir(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(self.folder(name))
    }

    /// Folder of a context's TLS files.
    pub fn tls_dir(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(self.folder(name))
    }

    /// One context.
    pub fn get(&self, name: &str) -> Result<Context, Failure> {
        let path = self.meta_dir(name).join("meta.json");
        let bytes = std::fs::read(&path).map_err(|error| {
            Failure::new(format!(
                "context {name:?}: context not found: open {}: {}",
                path.display(),
                failure_text(&error)
            ))
        })?;
        let meta = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(format!("context {name:?}: {}: {error}", path.display()))
        })?;
        Ok(Context {
            name: name.to_owned(),
            meta,
        })
    }

    /// All contexts but the default one, by name.
    pub fn list(&self) -> Vec<Context> {
        let Ok(folders) = std::fs::read_dir(self.root.join("meta")) else {
            return Vec::new();
        };
        let mut list: Vec<Context> = folders
            .flatten()
            .filter_map(|folder| {
                serde_json::from_slice::<Value>(
                    &std::fs::read(folder.path().join("meta.json")).ok()?,
                )
                .ok()
            })
            .map(|meta| Context {
                name: meta["Name"].as_str().unwrap_or("").to_owned(),
                meta,
            })
            .collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Writes a context and its TLS files (name and bytes).
    pub fn put(&self, name: &str, meta: &Value, tls: &[(String, Vec<u8>)]) -> Result<(), Failure> {
        let dir = self.meta_dir(name);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("meta.json"), meta.to_string())?;
        let _ = std::fs::remove_dir_all(self.tls_dir(name));
        if !tls.is_empty() {
            let dir = self.tls_dir(name).join("docker");
            std::fs::create_dir_all(&dir)?;
            for (file, bytes) in tls {
                std::fs::write(dir.join(file), bytes)?;
            }
        }
        Ok(())
    }

    /// Removes a context.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        self.get(name)?;
        std::fs::remove_dir_all(self.meta_dir(name))?;
        match std::fs::remove_dir_all(self.tls_dir(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A context's TLS files by name.
    pub fn tls_files(&self, name: &str) -> Vec<(String, PathBuf)> {
        let Ok(files) = std::fs::read_dir(self.tls_dir(name).join("docker")) else {
            return Vec::new();
        };
        let mut list: Vec<_> = files
            .flatten()
            .map(|file| (file.file_name().to_string_lossy().into_owned(), file.path()))
            .collect();
        list.sort();
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(store.get("nope").unwrap_err().to_string().contains("/contexts/meta/ca3704aa0b06f5954c79ee837faa152d84d6b2d42838f0637a15eda8337dbdce/meta.json: no such file or directory"));
        store
            .put(
                "a1",
                &meta("a1", "d", "tcp://x:1", true),
                &[("ca.pem".into(), b"c".to_vec())],
            )
            .unwrap();
        let context = store.get("a1").unwrap();
        assert_eq!(
            (
                context.host(),
                context.description(),
                context.skip_tls_verify()
            ),
            ("tcp://x:1", "d", true)
        );
        assert_eq!(store.list().len(), 1);
        assert_eq!(store.tls_files("a1").len(), 1);
        store.remove("a1").unwrap();
        assert!(store.list().is_empty() && store.tls_files("a1").is_empty());
        assert!(
            check_name("default").is_err()
                && check_name("-x").is_err()
                && check_name("ok.1").is_ok()
        );
    }
}
