//! A small virtual machine for what the test machine's kernel lacks: cgroup v2 with its controllers, AppArmor, SELinux, more drivers.
//!
//! Debian's cloud kernel under QEMU's emulation (no KVM needed), with busybox as its whole system. Booting takes some 5 to 10 seconds and
//! everything in it runs several times slower than outside, so one boot runs many cases, and no case asserts a time.
//!
//! ```no_run
//! use hull_testkit::vm::Vm;
//! # fn main() -> anyhow::Result<()> {
//! let report = Vm::new()?
//!     .program("bin/subject", hull_testkit::binary::hull())?
//!     .case("controllers", "cat /sys/fs/cgroup/cgroup.controllers")
//!     .run()?;
//! assert!(report.case("controllers").ok().contains("memory"));
//! # Ok(())
//! # }
//! ```

mod initramfs;
mod kernel;
mod system;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::temp::TempRoot;

/// Why there can be no virtual machine here; `None` when there can.
pub fn missing() -> Option<String> {
    let programs = ["qemu-system-x86_64", "apt-get", "dpkg-deb", "xz"];
    let absent: Vec<&str> = programs
        .into_iter()
        .filter(|name| crate::skips::program(name).is_none())
        .collect();
    if !absent.is_empty() {
        return Some(format!("not installed: {}", absent.join(", ")));
    }
    (!Path::new("/bin/busybox").is_file())
        .then(|| "no /bin/busybox (package busybox-static)".to_owned())
}

/// As [`missing`], for [`Vm::systemd`].
pub fn missing_systemd() -> Option<String> {
    let none = || "not installed: mmdebstrap".to_owned();
    missing().or_else(|| crate::skips::program("mmdebstrap").is_none().then(none))
}

/// A machine being put together.
pub struct Vm {
    kernel: kernel::Kernel,
    system: Option<PathBuf>,
    work: TempRoot,
    files: tar::Builder<fs::File>,
    cases: Vec<(String, String)>,
    arguments: Vec<String>,
    memory_mib: u32,
    limit: Duration,
    case_limit_s: u32,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm")
            .field("kernel", &self.kernel)
            .field("cases", &self.cases)
            .finish_non_exhaustive()
    }
}

/// What one case did.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The exit code of its commands; 124 when they ran too long.
    pub code: i32,
    /// Standard output and standard error together.
    pub output: String,
}

impl Case {
    /// Panics with the output unless the case succeeded; gives its trimmed output.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(
            self.code == 0,
            "case {} ended with {} in the virtual machine:\n{}",
            self.name,
            self.code,
            self.output
        );
        self.output.trim_end()
    }
}

/// What a machine did before it went down.
#[derive(Debug, Clone)]
pub struct Report {
    /// The cases that ended, in order.
    pub cases: Vec<Case>,
    /// The console: what the kernel and init said.
    pub console: String,
}

impl Report {
    /// The case of this name; panics with the console when it never ended.
    #[track_caller]
    pub fn case(&self, name: &str) -> &Case {
        let found = self.cases.iter().find(|case| case.name == name);
        found.unwrap_or_else(|| {
            panic!(
                "case {name} did not end in the virtual machine; its console:\n{}",
                self.console
            )
        })
    }
}

impl Vm {
    /// Gets the kernel and the initramfs, from the cache or, the first time, from Debian's archive. Ask [`missing`] first.
    pub fn new() -> anyhow::Result<Vm> {
        let kernel = kernel::prepare()?;
        let work = TempRoot::new("hull-vm");
        let files = fs::File::create(work.join("files.tar"))
            .context("make the guest's archive of files")?;
        let mut files = tar::Builder::new(files);
        files.mode(tar::HeaderMode::Deterministic);
        files.follow_symlinks(false);
        Ok(Vm {
            kernel,
            system: None,
            work,
            files,
            cases: Vec::new(),
            arguments: Vec::new(),
            memory_mib: 1024,
            limit: Duration::from_secs(300),
            case_limit_s: 120,
        })
    }

    /// Memory of the machine; 1024 MiB unless set. All its files are in memory too.
    pub fn memory_mib(mut self, memory_mib: u32) -> Vm {
        self.memory_mib = memory_mib;
        self
    }

    /// How long the whole machine, and each case in it, may take before it counts as hung.
    pub fn limits(mut self, machine: Duration, case_s: u32) -> Vm {
        (self.limit, self.case_limit_s) = (machine, case_s);
        self
    }

    /// Boots Debian's systemd, with a bus, instead of busybox: cases are run by a service of it. Ask [`missing_systemd`] first.
    pub fn systemd(mut self) -> anyhow::Result<Vm> {
        self.system = Some(system::prepare()?);
        Ok(self.kernel_arguments(system::ARGUMENTS))
    }

    /// Adds kernel arguments, such as `apparmor=1 security=apparmor`.
    pub fn kernel_arguments(mut self, arguments: &str) -> Vm {
        self.arguments
            .extend(arguments.split_whitespace().map(str::to_owned));
        self
    }

    /// Puts a file's content at `guest` (no leading `/`).
    pub fn content(
        mut self,
        guest: &str,
        mode: u32,
        content: impl AsRef<[u8]>,
    ) -> anyhow::Result<Vm> {
        let content = content.as_ref();
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        self.files
            .append_data(&mut header, guest, content)
            .with_context(|| format!("put {guest} into the guest"))?;
        Ok(self)
    }

    /// Copies a file or a whole directory of the host to `guest`.
    pub fn copy(mut self, guest: &str, host: impl AsRef<Path>) -> anyhow::Result<Vm> {
        let host = host.as_ref();
        let folder = fs::symlink_metadata(host)
            .with_context(|| format!("look at {}", host.display()))?
            .is_dir();
        let done = if folder {
            append_tree(
                &mut self.files,
                Path::new(guest),
                host,
                &mut BTreeMap::new(),
            )
        } else {
            self.files.append_path_with_name(host, guest)
        };
        done.with_context(|| format!("put {} into the guest", host.display()))?;
        Ok(self)
    }

    /// Copies a program to `guest` (executable) with the shared libraries that it names, at their own places.
    pub fn program(self, guest: &str, host: impl AsRef<Path>) -> anyhow::Result<Vm> {
        let host = host.as_ref();
        let content = fs::read(host).with_context(|| format!("read {}", host.display()))?;
        let mut vm = self.content(guest, 0o755, content)?;
        for library in libraries(host)? {
            let content =
                fs::read(&library).with_context(|| format!("read {}", library.display()))?;
            let name = library
                .strip_prefix("/")
                .unwrap_or(&library)
                .to_string_lossy()
                .into_owned();
            vm = vm.content(&name, 0o755, content)?;
        }
        Ok(vm)
    }

    /// Adds commands for busybox's shell, run as root after those added before. `name` is one word.
    pub fn case(mut self, name: &str, commands: &str) -> Vm {
        assert!(
            !name.contains(char::is_whitespace),
            "the name of a case is one word: {name}"
        );
        self.cases.push((name.to_owned(), commands.to_owned()));
        self
    }

    /// Boots, runs the cases in order, and collects what they did. A guest that hangs or dies gives the cases that ended.
    pub fn run(mut self) -> anyhow::Result<Report> {
        let mut list = String::new();
        for (index, (name, commands)) in std::mem::take(&mut self.cases).into_iter().enumerate() {
            list += &format!("{index} {name}\n");
            self = self.content(&format!("cases/{index}"), 0o755, commands + "\n")?;
        }
        self = self.content("cases/list", 0o644, list)?;
        let limit = self.case_limit_s.to_string();
        self = self.content("cases/limit", 0o644, limit)?;
        let mut archive = self
            .files
            .into_inner()
            .context("finish the guest's archive of files")?;
        // The disk's size is a multiple of the sector's.
        archive
            .write_all(&[0; 1024])
            .and_then(|()| archive.flush())
            .context("finish the guest's archive of files")?;
        let (console, results) = (self.work.join("console"), self.work.join("results"));
        // One thread for both processors: with two, QEMU 7.2 may run a breakpoint that the kernel has just patched away again when it
        // switches a static key (the first cpuset, the first quota), and the guest dies of it.
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(["-m", &self.memory_mib.to_string()])
        .arg("-kernel")
        .arg(&self.kernel.image)
        .arg("-initrd")
        .arg(&self.kernel.initramfs)
        .args([
            "-append",
            // On a loaded host an emulated timer may look broken to the kernel's check, which then panics.
            &format!(
                "console=ttyS0 panic=-1 quiet no_timer_check {}",
                self.arguments.join(" ")
            ),
        ])
        .args([
            "-serial",
            &format!("file:{}", console.display()),
            "-serial",
            &format!("file:{}", results.display()),
        ])
        .args([
            "-drive",
            &format!(
                "file={},format=raw,if=virtio,readonly=on",
                self.work.join("files.tar").display()
            ),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
        if let Some(system) = &self.system {
            let drive = format!("file={},format=raw,if=virtio,readonly=on", system.display());
            qemu.args(["-drive", &drive]);
        }
        let mut child = qemu.spawn().context("start qemu-system-x86_64")?;
        if crate::process::wait(&mut child, self.limit)
            .context("wait for qemu")?
            .is_none()
        {
            child.kill().context("end qemu")?;
        }
        let end = child.wait_with_output().context("wait for qemu")?;
        let text = |path: &PathBuf| {
            String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
        };
        let console = text(&console) + &String::from_utf8_lossy(&end.stderr);
        Ok(Report {
            cases: parse(&text(&results)),
            console,
        })
    }
}

/// A directory with everything in it. Files with several names stay one: busybox's hundred names would fill the guest's memory.
fn append_tree(
    files: &mut tar::Builder<fs::File>,
    guest: &Path,
    host: &Path,
    seen: &mut BTreeMap<(u64, u64), PathBuf>,
) -> io::Result<()> {
    files.append_dir(guest, host)?;
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        let (inner, path) = (guest.join(entry.file_name()), entry.path());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            append_tree(files, &inner, &path, seen)?;
            continue;
        }
        if metadata.is_file() && metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = seen.get(&key) {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Link);
                header.set_mode(metadata.mode());
                header.set_size(0);
                files.append_link(&mut header, &inner, first)?;
                continue;
            }
            seen.insert(key, inner.clone());
        }
        files.append_path_with_name(&path, &inner)?;
    }
    Ok(())
}

/// Reads the lines that init wrote: `begin <name>`, output with a `|` in front, `end <code>`.
fn parse(results: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut open: Option<Case> = None;
    for line in results.lines().map(|line| line.trim_end_matches('\r')) {
        if let Some(name) = line.strip_prefix("begin ") {
            open = Some(Case {
                name: name.to_owned(),
                code: -1,
                output: String::new(),
            });
        } else if let (Some(output), Some(case)) = (line.strip_prefix('|'), open.as_mut()) {
            case.output += output;
            case.output.push('\n');
        } else if let (Some(code), Some(mut case)) = (line.strip_prefix("end "), open.take()) {
            case.code = code.parse().unwrap_or(-1);
            cases.push(case);
        }
    }
    cases
}

/// The shared libraries of a program, by `ldd`; none for a static one.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths
        .map(PathBuf::from)
        .filter(|path| is_executable_file(path))
        .collect())
}

fn is_executable_file(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o444 != 0)
}

/// Runs a program of the host that has to succeed, and gives its output.
fn host(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
        .with_context(|| format!("run {command:?}"));
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let cases =
            parse("noise\nbegin a\n|one\r\n|\n|end 3\nend 0\nbegin b\nend 124\nbegin c\n|cut");
        let seen: Vec<_> = cases
            .iter()
            .map(|case| (case.name.as_str(), case.code, case.output.as_str()))
            .collect();
        assert_eq!(seen, [("a", 0, "one\n\nend 3\n"), ("b", 124, "")]);
    }

    #[test]
    fn a_machine_with_cgroup_v2_and_apparmor() {
        if let Some(reason) = missing() {
            crate::skip!("no virtual machine: {reason}");
            return;
        }
        let report = Vm::new()
            .and_then(|vm| vm.content("hello", 0o644, "from the host"))
            .and_then(|vm| vm.program("usr/bin/env-of-host", "/usr/bin/env"))
            .map(|vm| vm.kernel_arguments("apparmor=1 security=apparmor"))
            .map(|vm| vm.case("controllers", "cat /sys/fs/cgroup/cgroup.controllers"))
            .map(|vm| vm.case("limit", "mkdir /sys/fs/cgroup/a && echo 12582912 > /sys/fs/cgroup/a/memory.max && cat /sys/fs/cgroup/a/memory.max"))
            .map(|vm| vm.case("files", "cat /hello; A=b env-of-host | grep A="))
            .map(|vm| vm.case("apparmor", "cat /sys/module/apparmor/parameters/enabled; test -d /sys/kernel/security/apparmor"))
            .map(|vm| vm.case("overlay", "mkdir -p /t && mount -t tmpfs t /t && cd /t && mkdir l u w m && mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m"))
            .map(|vm| vm.case("links", "for kind in veth bridge dummy vxlan; do modprobe $kind || exit 1; done; ip link add type dummy && ip link add type bridge"))
            .map(|vm| vm.case("failing", "exit 7"))
            .and_then(Vm::run)
            .expect("run a machine");
        for controller in ["cpuset", "cpu", "io", "memory", "pids"] {
            assert!(
                report.case("controllers").ok().contains(controller),
                "{report:?}"
            );
        }
        assert_eq!(report.case("limit").ok(), "12582912");
        assert_eq!(report.case("files").ok(), "from the hostA=b");
        assert_eq!(report.case("apparmor").ok(), "Y");
        report.case("overlay").ok();
        report.case("links").ok();
        assert_eq!(report.case("failing").code, 7);
    }
}
