//! The plan's process part: limits, scheduling, user, capabilities, and the last steps before execve.

use hull_oci::runtime::{
    HookKind, IoPriorityClass, MemoryPolicyFlag, MemoryPolicyMode, PersonalityDomain, Process,
    Scheduler, SchedulerFlag, SchedulerPolicy,
};
use hull_sys::sched::SchedAttr;

use super::identity::{capability_mask, cpu_list, rlimit_number};
use super::{Builder, Program, Step};

/// `PER_LINUX32`.
const PERSONALITY_LINUX32: u64 = 0x0008;
/// SELinux' file below `/proc/self/attr`; AppArmor has a directory of its own there.
const SELINUX_FILE: &str = "exec";

/// Arguments, environment, and whether `HOME` is missing.
pub(super) fn program(process: &Process) -> Program {
    let has_home = process.env.iter().any(|e| e.starts_with("HOME="));
    Program {
        args: process.args.clone(),
        env: process.env.clone(),
        home_for: (!has_home).then_some(process.user.uid),
    }
}

impl Builder<'_> {
    pub(super) fn keyring(&mut self, process: &Process) {
        if !self.options.no_new_keyring {
            self.steps.push(Step::Keyring {
                name: format!("_ses.{}", self.options.id),
                label: process.selinux_label.clone().filter(|_| self.facts.selinux),
            });
        }
    }

    /// Everything that needs privileges which the program may not have.
    pub(super) fn privileges(&mut self, process: &Process) {
        let linux = self.linux;
        if let Some(personality) = &linux.personality {
            self.steps.push(Step::Personality(match personality.domain {
                PersonalityDomain::Linux => 0,
                PersonalityDomain::Linux32 => PERSONALITY_LINUX32,
            }));
        }
        if let Some(policy) = &linux.memory_policy {
            match cpu_list(&policy.nodes) {
                Ok(nodes) => self.steps.push(Step::MemoryPolicy {
                    mode: memory_mode(policy.mode) | memory_flags(&policy.flags),
                    nodes,
                }),
                Err(reason) => self.problem("linux.memoryPolicy.nodes", reason),
            }
        }
        self.privileges_of(process);
    }

    pub(super) fn privileges_of(&mut self, process: &Process) {
        self.rlimits(process);
        if let Some(scheduler) = &process.scheduler {
            self.steps.push(Step::Scheduler(sched_attr(scheduler)));
        }
        if let Some(priority) = &process.io_priority {
            self.steps.push(Step::IoPriority {
                class: match priority.class {
                    IoPriorityClass::Rt => 1,
                    IoPriorityClass::Be => 2,
                    IoPriorityClass::Idle => 3,
                },
                level: u32::try_from(priority.priority).unwrap_or(0),
            });
        }
        self.exec_label(process);
        self.steps.push(Step::Stdio {
            uid: process.user.uid,
            terminal: self.options.terminal,
        });
        let none = Vec::new();
        let names = process.capabilities.as_ref().map_or(&none, |c| &c.bounding);
        let keep = self.mask("bounding", names);
        self.steps.push(Step::Bounding {
            keep,
            last: self.facts.last_cap,
        });
        self.steps.push(Step::User {
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids.clone(),
            umask: process.user.umask,
        });
    }

    fn rlimits(&mut self, process: &Process) {
        for (index, limit) in process.rlimits.iter().enumerate() {
            match rlimit_number(&limit.kind) {
                Some(resource) => self.steps.push(Step::Rlimit {
                    name: limit.kind.clone(),
                    resource,
                    soft: limit.soft,
                    hard: limit.hard,
                }),
                None => self.problem(
                    format!("process.rlimits[{index}].type"),
                    format!("unknown limit {:?}", limit.kind),
                ),
            }
        }
    }

    fn exec_label(&mut self, process: &Process) {
        if let Some(file) = label_file(process, self.facts.apparmor, self.facts.selinux) {
            let label = if file == SELINUX_FILE {
                process.selinux_label.clone().unwrap_or_default()
            } else {
                format!("exec {}", process.apparmor_profile.as_deref().unwrap_or(""))
            };
            self.steps.push(Step::ExecLabel { file, label });
        }
        if process.apparmor_profile.is_some() && !self.facts.apparmor {
            self.problem(
                "process.apparmorProfile",
                "AppArmor is not enabled on this host",
            );
        }
        if process.selinux_label.is_some() && !self.facts.selinux {
            self.problem(
                "process.selinuxLabel",
                "SELinux is not enabled on this host",
            );
        }
    }

    fn mask(&mut self, set: &str, names: &[String]) -> u64 {
        // A name that this kernel does not know is left out with no error, as runc does with a warning: Docker
        // asks for every capability that it knows of.
        match capability_mask(names, self.facts.last_cap) {
            Ok(mask) => mask,
            Err(name) => {
                self.problem(
                    format!("process.capabilities.{set}"),
                    format!("unknown capability {name:?}"),
                );
                0
            }
        }
    }

    pub(super) fn exec_affinity(&mut self, process: &Process) {
        let Some(initial) = process
            .exec_cpu_affinity
            .as_ref()
            .and_then(|a| a.initial.as_deref())
        else {
            return;
        };
        match cpu_list(initial) {
            Ok(cpus) => self.steps.push(Step::CpuAffinity(cpus)),
            Err(reason) => self.problem("process.execCPUAffinity.initial", reason),
        }
    }

    /// From here on nothing can go wrong that is not the program's own fault.
    pub(super) fn finish(&mut self, process: &Process) {
        let cwd = if process.cwd.is_empty() {
            "/"
        } else {
            &process.cwd
        };
        self.steps.push(Step::Cwd(cwd.into()));
        self.steps.push(Step::FindProgram);
        self.steps
            .push(Step::CloseOnExec(3 + self.options.preserve_fds));
        let created = self.spec.process.is_some();
        let flags = self.options.seccomp_flags.unwrap_or(0);
        // Whoever passes the listener's descriptor on may be gone after start.
        let early = created && flags & hull_sys::seccomp::FLAG_NEW_LISTENER != 0;
        if early {
            self.last_steps(process);
        }
        if created {
            self.steps.push(Step::AwaitStart);
        }
        if let Some(hooks) = self
            .spec
            .hooks
            .as_ref()
            .filter(|h| !h.start_container.is_empty())
        {
            self.steps.push(Step::ContainerHooks {
                kind: HookKind::StartContainer,
                hooks: hooks.start_container.clone(),
            });
        }
        if let Some(cpus) = process
            .exec_cpu_affinity
            .as_ref()
            .filter(|_| !created)
            .and_then(|a| a.final_.as_deref())
        {
            match cpu_list(cpus) {
                Ok(cpus) => self.steps.push(Step::CpuAffinity(cpus)),
                Err(reason) => self.problem("process.execCPUAffinity.final", reason),
            }
        }
        if !early {
            self.last_steps(process);
        }
        self.steps.push(Step::Exec);
    }

    /// What the program runs under.
    fn last_steps(&mut self, process: &Process) {
        if process.no_new_privileges {
            self.steps.push(Step::NoNewPrivileges);
        }
        let capabilities = process.capabilities.as_ref().map(|c| Step::Capabilities {
            effective: self.mask("effective", &c.effective),
            permitted: self.mask("permitted", &c.permitted),
            inheritable: self.mask("inheritable", &c.inheritable),
            ambient: self.mask("ambient", &c.ambient),
        });
        // Without process.capabilities the program starts with none (runc: an empty set).
        let capabilities = capabilities.unwrap_or(Step::Capabilities {
            effective: 0,
            permitted: 0,
            inheritable: 0,
            ambient: 0,
        });
        let seccomp = self
            .options
            .seccomp_flags
            .map(|flags| Step::Seccomp { flags });
        if process.no_new_privileges {
            // The filter last: it need not allow capset(2).
            self.steps.push(capabilities);
            self.steps.extend(seccomp);
        } else {
            // Without no_new_privs the filter needs CAP_SYS_ADMIN, which the program may lack.
            self.steps.extend(seccomp);
            self.steps.push(capabilities);
        }
    }
}

/// The file below `/proc/self/attr` that takes the label of the next exec. Both modules at once do not occur.
fn label_file(process: &Process, apparmor: bool, selinux: bool) -> Option<&'static str> {
    if process.selinux_label.is_some() && selinux {
        Some(SELINUX_FILE)
    } else if process.apparmor_profile.is_some() && apparmor {
        Some("apparmor/exec")
    } else {
        None
    }
}

fn sched_attr(scheduler: &Scheduler) -> SchedAttr {
    let flag = |flag: &SchedulerFlag| match flag {
        SchedulerFlag::ResetOnFork => 0x01,
        SchedulerFlag::Reclaim => 0x02,
        SchedulerFlag::DlOverrun => 0x04,
        SchedulerFlag::KeepPolicy => 0x08,
        SchedulerFlag::KeepParams => 0x10,
        SchedulerFlag::UtilClampMin => 0x20,
        SchedulerFlag::UtilClampMax => 0x40,
    };
    SchedAttr {
        policy: match scheduler.policy {
            SchedulerPolicy::Other => 0,
            SchedulerPolicy::Fifo => 1,
            SchedulerPolicy::Rr => 2,
            SchedulerPolicy::Batch => 3,
            SchedulerPolicy::Iso => 4,
            SchedulerPolicy::Idle => 5,
            SchedulerPolicy::Deadline => 6,
        },
        flags: scheduler.flags.iter().map(flag).fold(0, |a, b| a | b),
        nice: scheduler.nice,
        priority: u32::try_from(scheduler.priority).unwrap_or(0),
        runtime_ns: scheduler.runtime,
        deadline_ns: scheduler.deadline,
        period_ns: scheduler.period,
    }
}

fn memory_mode(mode: MemoryPolicyMode) -> u32 {
    match mode {
        MemoryPolicyMode::Default => 0,
        MemoryPolicyMode::Preferred => 1,
        MemoryPolicyMode::Bind => 2,
        MemoryPolicyMode::Interleave => 3,
        MemoryPolicyMode::Local => 4,
        MemoryPolicyMode::PreferredMany => 5,
        MemoryPolicyMode::WeightedInterleave => 6,
    }
}

fn memory_flags(flags: &[MemoryPolicyFlag]) -> u32 {
    let bit = |flag: &MemoryPolicyFlag| match flag {
        MemoryPolicyFlag::NumaBalancing => 1 << 13,
        MemoryPolicyFlag::RelativeNodes => 1 << 14,
        MemoryPolicyFlag::StaticNodes => 1 << 15,
    };
    flags.iter().map(bit).fold(0, |a, b| a | b)
}
