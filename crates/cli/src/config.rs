//! `~/.docker/config.json`: read and written as Docker's client does, keys that we do not know kept.

use crate::failure::Failure;
use crate::go::json;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value, json};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Key of Docker Hub's credentials.
pub const HUB: &str = "https://index.docker.io/v1/";

/// The client's configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    dir: PathBuf,
    fields: Map<String, Value>,
}

impl Config {
    /// Reads `<dir>/config.json`; a missing file is an empty configuration, a broken one a warning.
    pub fn load(dir: PathBuf) -> Config {
        let path = dir.join("config.json");
        let fields = match std::fs::read(&path) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Map::new(),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(fields) => fields,
                Err(error) => {
                    eprintln!(
                        "WARNING: Error loading config file: {}: {error}",
                        path.display()
                    );
                    Map::new()
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => {
                eprintln!(
                    "WARNING: Error loading config file: open {}: {}",
                    path.display(),
                    crate::failure_text(&error)
                );
                Map::new()
            }
        };
        Config { dir, fields }
    }

    /// The folder: contexts, certificates and plugins lie there too.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A text setting (`psFormat`, `detachKeys`, `currentContext`), empty when unset.
    pub fn text(&self, key: &str) -> &str {
        self.fields.get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// Sets a text setting; empty removes it.
    pub fn set_text(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            self.fields.shift_remove(key);
        } else {
            self.fields.insert(key.into(), value.into());
        }
    }

    /// `HttpHeaders`.
    pub fn headers(&self) -> Vec<(String, String)> {
        let headers = self.fields.get("HttpHeaders").and_then(Value::as_object);
        headers
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// Environment that `proxies` gives every new container, but for names in `given`.
    pub fn proxy_env(&self, host: &str, given: &[String]) -> Vec<String> {
        let Some(proxies) = self.fields.get("proxies").and_then(Value::as_object) else {
            return Vec::new();
        };
        let Some(proxy) = proxies.get(host).or_else(|| proxies.get("default")) else {
            return Vec::new();
        };
        let mut env = Vec::new();
        for (key, name) in [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ] {
            let Some(value) = proxy
                .get(key)
                .and_then(Value::as_str)
                .filter(|value| !value.is_empty())
            else {
                continue;
            };
            for name in [name.to_owned(), name.to_lowercase()] {
                if !given
                    .iter()
                    .any(|known| known.split('=').next() == Some(&name))
                {
                    env.push(format!("{name}={value}"));
                }
            }
        }
        env
    }

    /// Writes the file: mode 0600, replaced at once.
    pub fn save(&self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.dir)?;
        let _ = std::fs::set_permissions(&self.dir, std::fs::Permissions::from_mode(0o700));
        let path = self.dir.join("config.json");
        let temporary = self
            .dir
            .join(format!("config.json{}", rand::random::<u32>()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        let written = file
            .write_all(json::indented(&self.fields, "\t").as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&temporary, &path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&temporary);
            return Err(error.into());
        }
        Ok(())
    }

    fn helper(&self, registry: &str) -> Option<&str> {
        let own = self
            .fields
            .get("credHelpers")
            .and_then(|helpers| helpers.get(registry))
            .and_then(Value::as_str);
        own.or_else(|| Some(self.text("credsStore")))
            .filter(|name| !name.is_empty())
    }

    /// Credentials of `registry` as an `AuthConfig`, or an empty one.
    pub fn auth(&self, registry: &str) -> Result<Value, Failure> {
        if let Some(helper) = self.helper(registry) {
            return helper_get(helper, registry);
        }
        let auths = self.fields.get("auths").and_then(Value::as_object);
        let found = auths.and_then(|auths| {
            auths.get(registry).or_else(|| {
                auths
                    .iter()
                    .find(|(key, _)| host_of(key) == registry)
                    .map(|(_, value)| value)
            })
        });
        Ok(found.map_or_else(
            || json!({"serveraddress": registry}),
            |entry| decode_auth(registry, entry),
        ))
    }

    /// All credentials by registry, for builds and `search`.
    pub fn all_auths(&self) -> Map<String, Value> {
        let auths = self.fields.get("auths").and_then(Value::as_object);
        auths
            .into_iter()
            .flatten()
            .map(|(registry, entry)| (registry.clone(), decode_auth(registry, entry)))
            .collect()
    }

    /// Keeps credentials; the answer says whether they lie in the file in the clear.
    pub fn store_auth(
        &mut self,
        registry: &str,
        user: &str,
        password: &str,
        identity_token: &str,
    ) -> Result<bool, Failure> {
        if let Some(helper) = self.helper(registry).map(str::to_owned) {
            let (user, secret) = if identity_token.is_empty() {
                (user, password)
            } else {
                ("<token>", identity_token)
            };
            run_helper(
                &helper,
                "store",
                &json!({"ServerURL": registry, "Username": user, "Secret": secret}).to_string(),
            )?;
            self.auths().insert(registry.into(), json!({}));
            self.save()?;
            return Ok(false);
        }
        let mut entry = json!({"auth": STANDARD.encode(format!("{user}:{password}"))});
        if !identity_token.is_empty() {
            entry = json!({"auth": STANDARD.encode(format!("{user}:")), "identitytoken": identity_token});
        }
        self.auths().insert(registry.into(), entry);
        self.save()?;
        Ok(true)
    }

    /// Forgets credentials; false when there were none.
    pub fn erase_auth(&mut self, registry: &str) -> Result<bool, Failure> {
        if let Some(helper) = self.helper(registry).map(str::to_owned) {
            run_helper(&helper, "erase", registry)?;
        }
        let known = self.auths().shift_remove(registry).is_some();
        if known {
            self.save()?;
        }
        Ok(known)
    }

    /// Whether there are credentials for `registry` in the file.
    pub fn has_auth(&self, registry: &str) -> bool {
        self.helper(registry).is_some()
            || self
                .fields
                .get("auths")
                .is_some_and(|auths| auths.get(registry).is_some())
    }

    fn auths(&mut self) -> &mut Map<String, Value> {
        let slot = self.fields.entry("auths").or_insert_with(|| json!({}));
        if !slot.is_object() {
            *slot = json!({});
        }
        match slot {
            Value::Object(map) => map,
            _ => unreachable!("made an object above"),
        }
    }
}

fn host_of(key: &str) -> &str {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

fn decode_auth(registry: &str, entry: &Value) -> Value {
    let mut out = entry.as_object().cloned().unwrap_or_default();
    let decoded = out
        .shift_remove("auth")
        .and_then(|auth| STANDARD.decode(auth.as_str()?).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) {
        out.insert("username".into(), user.into());
        out.insert("password".into(), password.trim_end_matches('\0').into());
    }
    out.insert("serveraddress".into(), registry.into());
    out.into()
}

/// The base64 form of an `AuthConfig` for the `X-Registry-Auth` header.
pub fn encode_auth(auth: &Value) -> String {
    URL_SAFE.encode(auth.to_string())
}

fn run_helper(helper: &str, action: &str, input: &str) -> Result<String, Failure> {
    let program = format!("docker-credential-{helper}");
    let fail =
        |error: String| Failure::new(format!("error getting credentials - err: {error}, out: ``"));
    let spawned = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut child = spawned.map_err(|error| {
        fail(format!(
            "exec: \"{program}\": {}",
            crate::failure_text(&error)
        ))
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        if text.trim() == "credentials not found in native keychain" {
            return Ok(String::new());
        }
        return Err(Failure::new(format!(
            "error getting credentials - err: {}, out: `{}`",
            output.status,
            text.trim()
        )));
    }
    Ok(text)
}

fn helper_get(helper: &str, registry: &str) -> Result<Value, Failure> {
    let text = run_helper(helper, "get", registry)?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
    let part = |key: &str| {
        answer
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let (user, secret) = (part("Username"), part("Secret"));
    Ok(match user.as_str() {
        "" if secret.is_empty() => json!({"serveraddress": registry}),
        "<token>" => json!({"identitytoken": secret, "serveraddress": registry}),
        _ => json!({"username": user, "password": secret, "serveraddress": registry}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_survive_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"psFormat": "x", "other": [1]}"#,
        )
        .unwrap();
        let mut config = Config::load(dir.path().into());
        assert!(config.store_auth("reg:5000", "me", "pa:ss", "").unwrap());
        let again = Config::load(dir.path().into());
        assert_eq!(again.text("psFormat"), "x");
        assert_eq!(again.fields["other"], json!([1]));
        let auth = again.auth("reg:5000").unwrap();
        assert_eq!(
            (auth["username"].as_str(), auth["password"].as_str()),
            (Some("me"), Some("pa:ss"))
        );
        assert_eq!(
            std::fs::metadata(dir.path().join("config.json"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        assert!(config.erase_auth("reg:5000").unwrap() && !config.erase_auth("reg:5000").unwrap());
    }

    #[test]
    fn proxies_become_environment() {
        let fields = json!({"proxies": {"default": {"httpProxy": "http://p"}}})
            .as_object()
            .cloned()
            .unwrap();
        let config = Config {
            dir: PathBuf::new(),
            fields,
        };
        assert_eq!(
            config.proxy_env("unix:///x", &["http_proxy=y".into()]),
            ["HTTP_PROXY=http://p"]
        );
    }
}
