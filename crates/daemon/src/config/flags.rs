//! Command line to a JSON object of `daemon.json`'s keys, by the table in `options`. Pure.

use serde_json::{Map, Value, json};

use super::ConfigError;
use super::options::{Kind, OPTIONS, Opt};

/// What the command line asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags {
    /// By `daemon.json` key.
    pub values: Map<String, Value>,
    /// `--config-file`.
    pub config_file: Option<String>,
    /// `--validate`.
    pub validate: bool,
    /// `--help`.
    pub help: bool,
    /// `--version`.
    pub version: bool,
}

impl Flags {
    /// Reads arguments (without the program's name).
    ///
    /// # Errors
    /// Unknown flags, missing or malformed values, in pflag's words.
    pub fn parse(args: &[String]) -> Result<Self, ConfigError> {
        let mut flags = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (opt, name, inline) = match arg.strip_prefix("--") {
                Some("") => return Err(usage("accepts no arguments")),
                Some("help") => {
                    flags.help = true;
                    continue;
                }
                Some("version") => {
                    flags.version = true;
                    continue;
                }
                Some(long) => {
                    let (name, inline) = match long.split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (long, None),
                    };
                    let opt = OPTIONS.iter().find(|o| o.flag == name);
                    let opt =
                        opt.ok_or_else(|| ConfigError::Usage(format!("unknown flag: --{name}")))?;
                    (opt, format!("--{name}"), inline.map(str::to_owned))
                }
                None => match flags.short(arg)? {
                    Some(found) => found,
                    None => continue,
                },
            };
            let value = match (inline, opt.kind) {
                (Some(value), _) => value,
                (None, Kind::Bool) => "true".to_owned(),
                (None, _) => args
                    .next()
                    .ok_or_else(|| ConfigError::Usage(format!("flag needs an argument: {name}")))?
                    .clone(),
            };
            flags.set(opt, &value)?;
        }
        Ok(flags)
    }

    /// One-letter flags: `-D`, `-Hunix://x`, `-H=x`, `-Dl debug`. All but the last must be booleans.
    fn short(&mut self, arg: &str) -> Result<Option<Seen>, ConfigError> {
        let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) else {
            return Err(usage(&format!("unknown command: {arg}")));
        };
        for (at, letter) in letters.char_indices() {
            match letter {
                'h' => self.help = true,
                'v' => self.version = true,
                _ => {
                    let opt = OPTIONS
                        .iter()
                        .find(|o| o.short == Some(letter))
                        .ok_or_else(|| {
                            ConfigError::Usage(format!(
                                "unknown shorthand flag: '{letter}' in -{letters}"
                            ))
                        })?;
                    let rest = &letters[at + letter.len_utf8()..];
                    match opt.kind {
                        Kind::Bool if !rest.starts_with('=') => self.set(opt, "true")?,
                        _ => {
                            let value = rest.strip_prefix('=').unwrap_or(rest);
                            let value = (!rest.is_empty()).then(|| value.to_owned());
                            return Ok(Some((opt, format!("'{letter}' in -{letters}"), value)));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    fn set(&mut self, opt: &Opt, text: &str) -> Result<(), ConfigError> {
        match opt.flag {
            "config-file" => self.config_file = Some(text.to_owned()),
            "validate" => self.validate = boolean(opt, text)?,
            _ if opt.key.is_empty() => {}
            _ => {
                let slot = self.values.entry(opt.key).or_insert(Value::Null);
                add(slot, opt, text)?;
            }
        }
        Ok(())
    }
}

/// A flag that may want a value: the option, how it was written, and the value that stood with it.
type Seen = (&'static Opt, String, Option<String>);

fn usage(what: &str) -> ConfigError {
    ConfigError::Usage(what.to_owned())
}

fn invalid(opt: &Opt, text: &str, why: &str) -> ConfigError {
    ConfigError::Usage(format!(
        "invalid argument {text:?} for \"--{}\" flag: {why}",
        opt.flag
    ))
}

fn boolean(opt: &Opt, text: &str) -> Result<bool, ConfigError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(invalid(
            opt,
            text,
            &format!("strconv.ParseBool: parsing {text:?}: invalid syntax"),
        )),
    }
}

/// Adds one occurrence of a flag to its value.
fn add(slot: &mut Value, opt: &Opt, text: &str) -> Result<(), ConfigError> {
    let pair = || {
        text.split_once('=').ok_or_else(|| {
            invalid(
                opt,
                text,
                &format!("invalid argument {text:?}: must be key=value"),
            )
        })
    };
    match opt.kind {
        Kind::Bool => *slot = Value::Bool(boolean(opt, text)?),
        Kind::Text | Kind::Size => *slot = Value::from(text),
        Kind::Number => {
            let number: i64 = text.parse().map_err(|_| {
                invalid(
                    opt,
                    text,
                    &format!("strconv.ParseInt: parsing {text:?}: invalid syntax"),
                )
            })?;
            *slot = Value::from(number);
        }
        Kind::List => list(slot).push(Value::from(text)),
        Kind::Map => {
            let (key, value) = pair()?;
            object(slot).insert(key.to_owned(), Value::from(value));
        }
        Kind::Switches => {
            let (key, value) = text.split_once('=').unwrap_or((text, "true"));
            object(slot).insert(key.to_owned(), Value::Bool(boolean(opt, value)?));
        }
        Kind::Runtime => {
            let (name, path) = pair()?;
            object(slot).insert(name.trim().to_lowercase(), json!({ "path": path.trim() }));
        }
        Kind::MapOfMaps => {
            let (driver, rest) = pair()?;
            let (key, value) = rest
                .split_once('=')
                .ok_or_else(|| invalid(opt, text, "must be driver=key=value"))?;
            object(object(slot).entry(driver).or_insert(Value::Null))
                .insert(key.to_owned(), Value::from(value));
        }
        Kind::Ulimit => {
            let (name, limits) = pair()?;
            let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
            let number = |t: &str| {
                t.parse::<i64>()
                    .map_err(|_| invalid(opt, text, "limits are numbers"))
            };
            let (soft, hard) = (number(soft)?, number(hard)?);
            if hard != -1 && (soft == -1 || soft > hard) {
                let why = format!(
                    "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
                );
                return Err(invalid(opt, text, &why));
            }
            object(slot).insert(
                name.to_owned(),
                json!({ "Name": name, "Soft": soft, "Hard": hard }),
            );
        }
        Kind::AddressPool => {
            let mut pool = Map::new();
            for field in text.split(',') {
                match field.split_once('=') {
                    Some(("base", base)) => pool.insert("base".into(), Value::from(base)),
                    Some(("size", size)) => {
                        let size: u8 = size.parse().map_err(|_| {
                            invalid(opt, text, &format!("invalid size value: {size}"))
                        })?;
                        pool.insert("size".into(), Value::from(size))
                    }
                    Some((key, _)) => {
                        return Err(invalid(
                            opt,
                            text,
                            &format!("unexpected key '{key}' in '{field}'"),
                        ));
                    }
                    None => {
                        return Err(invalid(
                            opt,
                            text,
                            &format!("invalid field '{field}' must be a key=value pair"),
                        ));
                    }
                };
            }
            list(slot).push(Value::Object(pool));
        }
    }
    Ok(())
}

fn list(slot: &mut Value) -> &mut Vec<Value> {
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().expect("made an array above")
}

fn object(slot: &mut Value) -> &mut Map<String, Value> {
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("made an object above")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Value, String> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        Flags::parse(&args)
            .map(|f| Value::Object(f.values))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn every_shape() {
        let got = parse(&[
            "-D",
            "-H",
            "unix:///a",
            "--host=tcp://[::1]:2375",
            "-lwarn",
            "--mtu=1400",
            "--log-opt",
            "max-size=1m",
            "--add-runtime",
            "crun=/usr/bin/crun",
            "--default-ulimit",
            "nofile=5:9",
            "--iptables=false",
            "--default-address-pool",
            "base=10.0.0.0/8,size=24",
            "--default-network-opt",
            "bridge=a=b=c",
            "--feature",
            "x",
        ]);
        let want = json!({
            "debug": true, "hosts": ["unix:///a", "tcp://[::1]:2375"], "log-level": "warn", "mtu": 1400,
            "log-opts": {"max-size": "1m"}, "runtimes": {"crun": {"path": "/usr/bin/crun"}},
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 5, "Hard": 9}}, "iptables": false,
            "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}],
            "default-network-opts": {"bridge": {"a": "b=c"}}, "features": {"x": true},
        });
        assert_eq!(got, Ok(want));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse(&["--nope"]), Err("unknown flag: --nope".into()));
        assert_eq!(
            parse(&["-x"]),
            Err("unknown shorthand flag: 'x' in -x".into())
        );
        assert_eq!(
            parse(&["--mtu"]),
            Err("flag needs an argument: --mtu".into())
        );
        assert!(
            parse(&["--mtu", "x"])
                .unwrap_err()
                .starts_with("invalid argument \"x\" for \"--mtu\" flag")
        );
        assert!(parse(&["--debug=maybe"]).is_err());
        assert!(parse(&["serve"]).is_err());
        assert!(parse(&["--default-ulimit", "nofile=9:5"]).is_err());
    }

    #[test]
    fn the_table_is_sorted_and_keys_are_unique() {
        assert!(OPTIONS.windows(2).all(|w| w[0].flag < w[1].flag));
        let mut keys: Vec<_> = OPTIONS
            .iter()
            .map(|o| o.key)
            .filter(|k| !k.is_empty())
            .collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|w| w[0] != w[1]));
    }
}
