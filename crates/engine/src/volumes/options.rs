//! The options of the `local` driver, as moby's `volume/local` checks them, and the mount(2) call they stand for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::error::{Error, Result};

/// Options that the driver has, and those that each one needs.
const KNOWN: &[(&str, &[&str])] = &[
    ("device", &["type"]),
    ("type", &["device"]),
    ("o", &["device", "type"]),
    ("size", &[]),
];

/// Refuses what cannot be mounted. The caller puts the volume's name in front.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for key in options.keys() {
        if !KNOWN.iter().any(|(known, _)| known == key) {
            return Err(Error::invalid(format!("invalid option: {key:?}")));
        }
    }
    let option = |key: &str| options.get(key).map_or("", String::as_str);
    if option("type") == "cifs" && url_host(option("device")).is_some_and(|h| h.contains(':')) {
        return Err(Error::invalid(
            "port not allowed in CIFS device URL, include 'port' in 'o='",
        ));
    }
    if let Some(text) = options.get("size") {
        match hull_store::snapshot::parse_size(text) {
            None => return Err(Error::invalid(format!("invalid size: '{text}'"))),
            Some(0) => {}
            Some(_) => {
                return Err(Error::invalid("quota size requested but no quota support"));
            }
        }
    }
    let missing = KNOWN
        .iter()
        .filter(|(key, _)| options.contains_key(*key))
        .flat_map(|(_, needed)| needed.iter())
        .find(|needed| !options.contains_key(**needed));
    match missing {
        None => Ok(()),
        Some(needed) => Err(Error::invalid(format!(
            "missing required option: {needed:?}"
        ))),
    }
}

/// A mount(2) call. `Display` is moby/sys/mount's own, of what fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) device: String,
    pub(super) fstype: String,
    pub(super) flags: MountFlags,
    /// Set by a call of its own, after the first.
    pub(super) propagation: MountPropagationFlags,
    pub(super) data: String,
}

impl Call {
    /// The call for a volume's options, which [`check`] has passed; `None` where nothing is mounted.
    ///
    /// # Errors
    /// The server of an nfs or cifs share has no address.
    pub(super) fn of(options: &BTreeMap<String, String>) -> Result<Option<Call>> {
        let option = |key: &str| options.get(key).map_or("", String::as_str);
        let (fstype, device) = (option("type"), option("device"));
        if options.is_empty() || !options.contains_key("device") {
            return Ok(None);
        }
        if device.is_empty() {
            return Err(Error::invalid("missing device in volume options"));
        }
        let (device, words) = match fstype {
            "nfs" | "cifs" => resolved(fstype, device, option("o"))?,
            _ => (device.to_owned(), option("o").to_owned()),
        };
        let (flags, propagation, data) = parse(&words);
        Ok(Some(Call {
            device,
            fstype: fstype.to_owned(),
            flags,
            propagation,
            data,
        }))
    }

    /// The call in moby's words, without a password.
    pub(super) fn shown(&self, target: &str) -> String {
        let mut text = format!("mount {}:{target}", self.device);
        if !self.flags.is_empty() {
            text += &format!(", flags: {:#x}", self.flags.bits());
        }
        if !self.data.is_empty() {
            let shown: Vec<&str> = self
                .data
                .split(',')
                .map(|word| match word.strip_prefix("password=") {
                    Some(_) => "password=********",
                    None => word,
                })
                .collect();
            text += &format!(", data: {}", shown.join(","));
        }
        text
    }
}

/// The host of `//host/share`.
fn url_host(device: &str) -> Option<&str> {
    let (_, rest) = device.split_once("//")?;
    rest.split('/').next().filter(|host| !host.is_empty())
}

/// Device and options with the server's name as an address: the kernel resolves none.
fn resolved(fstype: &str, device: &str, words: &str) -> Result<(String, String)> {
    let address = words
        .split(',')
        .find_map(|word| word.strip_prefix("addr="))
        .unwrap_or_default();
    if !address.is_empty() && address.parse::<Ipv4Addr>().is_err() {
        let ip = resolve(address)?;
        let words = words.replacen(&format!("addr={address}"), &format!("addr={ip}"), 1);
        return Ok((device.to_owned(), words));
    }
    match url_host(device) {
        Some(host) if fstype == "cifs" => {
            let ip = resolve(host)?;
            let device = device.replacen(host, &ip.to_string(), 1);
            Ok((device, words.to_owned()))
        }
        _ => Ok((device.to_owned(), words.to_owned())),
    }
}

/// IPv4 first, as Go's `net.ResolveIPAddr("ip", ..)`.
fn resolve(host: &str) -> Result<IpAddr> {
    let context = "failed to mount local volume: error resolving passed in network volume address";
    let found: Vec<IpAddr> = (host, 0)
        .to_socket_addrs()
        .map_err(|_| Error::internal(format!("{context}: lookup {host}: no such host")))?
        .map(|address| address.ip())
        .collect();
    found
        .iter()
        .find(|ip| ip.is_ipv4())
        .or(found.first())
        .copied()
        .ok_or_else(|| Error::internal(format!("{context}: lookup {host}: no such host")))
}

/// The words of `o=` as flags, and the rest for the file system, as fstab(5) has them.
fn parse(words: &str) -> (MountFlags, MountPropagationFlags, String) {
    use MountFlags as F;
    use MountPropagationFlags as P;
    let recursive = F::from_bits_retain(P::REC.bits());
    let mut flags = F::empty();
    let mut propagation = P::empty();
    let mut data = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let (set, flag) = match word {
            "defaults" => (true, F::empty()),
            "ro" => (true, F::RDONLY),
            "rw" => (false, F::RDONLY),
            "nosuid" => (true, F::NOSUID),
            "suid" => (false, F::NOSUID),
            "nodev" => (true, F::NODEV),
            "dev" => (false, F::NODEV),
            "noexec" => (true, F::NOEXEC),
            "exec" => (false, F::NOEXEC),
            "sync" => (true, F::SYNCHRONOUS),
            "async" => (false, F::SYNCHRONOUS),
            "dirsync" => (true, F::DIRSYNC),
            "mand" => (true, F::PERMIT_MANDATORY_FILE_LOCKING),
            "nomand" => (false, F::PERMIT_MANDATORY_FILE_LOCKING),
            "noatime" => (true, F::NOATIME),
            "atime" => (false, F::NOATIME),
            "nodiratime" => (true, F::NODIRATIME),
            "diratime" => (false, F::NODIRATIME),
            "relatime" => (true, F::RELATIME),
            "norelatime" => (false, F::RELATIME),
            "strictatime" => (true, F::STRICTATIME),
            "nostrictatime" => (false, F::STRICTATIME),
            "bind" => (true, F::BIND),
            "rbind" => (true, F::BIND | recursive),
            other => {
                match other {
                    "private" => propagation |= P::PRIVATE,
                    "rprivate" => propagation |= P::PRIVATE | P::REC,
                    "slave" => propagation |= P::DOWNSTREAM,
                    "rslave" => propagation |= P::DOWNSTREAM | P::REC,
                    "shared" => propagation |= P::SHARED,
                    "rshared" => propagation |= P::SHARED | P::REC,
                    "unbindable" => propagation |= P::UNBINDABLE,
                    "runbindable" => propagation |= P::UNBINDABLE | P::REC,
                    data_word => data.push(data_word),
                }
                continue;
            }
        };
        flags.set(flag, set);
    }
    (flags, propagation, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn options_are_refused_in_dockers_words() {
        for (pairs, said) in [
            (&[("bogus", "x")][..], "invalid option: \"bogus\""),
            (&[("device", "/x")], "missing required option: \"type\""),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("o", "ro")], "missing required option: \"device\""),
            (
                &[("size", "1G")],
                "quota size requested but no quota support",
            ),
            (&[("size", "much")], "invalid size: 'much'"),
            (
                &[("type", "cifs"), ("device", "//host:445/s")],
                "port not allowed in CIFS device URL, include 'port' in 'o='",
            ),
        ] {
            assert_eq!(check(&of(pairs)).unwrap_err().message, said, "{pairs:?}");
        }
        check(&of(&[("size", "0")])).unwrap();
        check(&of(&[("type", "none"), ("device", "/x"), ("o", "bind")])).unwrap();
    }

    #[test]
    fn words_become_a_call() {
        let share = of(&[
            ("type", "nfs"),
            ("device", ":/export"),
            ("o", "addr=localhost,ro,nolock,rslave,password=x"),
        ]);
        let call = Call::of(&share).unwrap().unwrap();
        assert_eq!(
            call.data, "addr=127.0.0.1,nolock,password=x",
            "the name is resolved"
        );
        assert_eq!(call.flags, MountFlags::RDONLY);
        assert_eq!(
            call.propagation,
            MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC
        );
        assert_eq!(
            call.shown("/v"),
            "mount :/export:/v, flags: 0x1, data: addr=127.0.0.1,nolock,password=********"
        );
        let cifs = of(&[("type", "cifs"), ("device", "//localhost/share")]);
        assert_eq!(
            Call::of(&cifs).unwrap().unwrap().device,
            "//127.0.0.1/share"
        );
        assert_eq!(Call::of(&of(&[("size", "0")])).unwrap(), None);
    }
}
