//! The manifest lists that are being put together, in `<config>/manifests/LIST/MANIFEST`, as docker's command line keeps
//! them: either program goes on with what the other began.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hull_oci::Reference;
use hull_oci::image::media_type;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::go::json::indented;

/// Longest file read, in bytes: a manifest in base64 and its parsed form.
const FILE_LEN_MAX: u64 = 32 << 20;

/// One manifest of a list, as it is written.
#[derive(Debug, Clone)]
pub struct Member(pub Map<String, Value>);

impl Member {
    /// A manifest that a registry has.
    pub fn new(reference: &Reference, descriptor: Value, raw: &[u8]) -> Result<Member, Failure> {
        let parsed: Value = serde_json::from_slice(raw)
            .map_err(|error| Failure::new(format!("invalid manifest: {error}")))?;
        let oci = descriptor["mediaType"] == media_type::OCI_MANIFEST;
        let mut fields = Map::new();
        fields.insert("Ref".to_owned(), reference.to_string().into());
        fields.insert("Descriptor".to_owned(), descriptor);
        fields.insert("Raw".to_owned(), STANDARD.encode(raw).into());
        let key = match oci {
            true => "OCIManifest",
            false => "SchemaV2Manifest",
        };
        fields.insert(key.to_owned(), parsed);
        Ok(Member(fields))
    }

    /// The name that it was added by.
    pub fn reference(&self) -> Result<Reference, Failure> {
        let text = self
            .0
            .get("Ref")
            .and_then(Value::as_str)
            .unwrap_or_default();
        super::parse(text)
    }

    /// The manifest's bytes.
    pub fn raw(&self) -> Result<Vec<u8>, Failure> {
        let text = self
            .0
            .get("Raw")
            .and_then(Value::as_str)
            .unwrap_or_default();
        STANDARD
            .decode(text)
            .map_err(|error| Failure::new(format!("the stored manifest is damaged: {error}")))
    }

    /// Its descriptor, with the platform.
    pub fn descriptor(&self) -> &Value {
        self.0.get("Descriptor").unwrap_or(&Value::Null)
    }

    /// Sets a field of the platform; empty values leave it.
    pub fn annotate(&mut self, key: &str, value: Value) {
        let empty = value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
        if empty {
            return;
        }
        let descriptor = self.0.entry("Descriptor").or_insert_with(|| json!({}));
        if !descriptor["platform"].is_object() {
            descriptor["platform"] = json!({"architecture": "", "os": ""});
        }
        descriptor["platform"][key] = value;
    }
}

/// The directory of all lists.
pub struct Store(PathBuf);

impl Store {
    /// Below the configuration's directory.
    pub fn new(config_dir: &Path) -> Store {
        Store(config_dir.join("manifests"))
    }

    fn list_dir(&self, list: &Reference) -> PathBuf {
        self.0.join(file_name(list))
    }

    /// The manifests of a list, by file name.
    pub fn list(&self, list: &Reference) -> Result<Option<Vec<Member>>, Failure> {
        let entries = match fs::read_dir(self.list_dir(list)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry?.path());
        }
        paths.sort();
        paths
            .iter()
            .map(|path| read(path))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// One manifest of a list.
    pub fn get(&self, list: &Reference, member: &Reference) -> Result<Option<Member>, Failure> {
        let path = self.list_dir(list).join(file_name(member));
        match path.try_exists()? {
            true => read(&path).map(Some),
            false => Ok(None),
        }
    }

    /// Adds or replaces a manifest of a list.
    pub fn put(&self, list: &Reference, name: &Reference, member: &Member) -> Result<(), Failure> {
        let dir = self.list_dir(list);
        fs::create_dir_all(&dir)?;
        let temporary = self.0.join(format!(".tmp-{}", rand::random::<u64>()));
        fs::write(&temporary, indented(&member.0, "\t"))?;
        if let Err(error) = fs::rename(&temporary, dir.join(file_name(name))) {
            let _ = fs::remove_file(&temporary);
            return Err(error.into());
        }
        Ok(())
    }

    /// Forgets a list; false when there was none.
    pub fn remove(&self, list: &Reference) -> Result<bool, Failure> {
        match fs::remove_dir_all(self.list_dir(list)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn read(path: &Path) -> Result<Member, Failure> {
    let damaged = |why: String| Failure::new(format!("{}: {why}", path.display()));
    if fs::metadata(path)?.len() > FILE_LEN_MAX {
        return Err(damaged("it is longer than a manifest can be".to_owned()));
    }
    let fields = serde_json::from_slice(&fs::read(path)?).map_err(|e| damaged(e.to_string()))?;
    Ok(Member(fields))
}

/// Docker's `makeFilesafeName`.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_dockers() {
        let name = |text: &str| file_name(&super::super::parse(text).unwrap());
        assert_eq!(name("x:1"), "docker.io_library_x-1");
        assert_eq!(name("127.0.0.1:5000/a/b:2"), "127.0.0.1-5000_a_b-2");
    }
}
