//! The configuration: what is refused, what cannot be had and is logged, and what ftvm is told.

use crate::{Why, log};
use oci_spec::runtime::{Capabilities, LinuxCpu, LinuxNamespaceType as Kind, Process, Spec};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Version of the specification.
pub const SPEC: &str = "1.2.0";

/// Number of CPUs that a quota means, of which an image uses one at most.
fn share(cpu: &LinuxCpu) -> Option<f64> {
    const PERIOD_US: u64 = 100_000;
    let quota = cpu.quota().filter(|q| *q > 0)?;
    let period = cpu.period().filter(|p| *p > 0).unwrap_or(PERIOD_US);
    Some((quota as f64 / period as f64).max(0.01))
}

/// It asks for more than a quota.
fn more_than_quota(cpu: &LinuxCpu) -> bool {
    let mut rest = cpu.clone();
    rest.set_quota(None).set_period(None);
    rest != LinuxCpu::default()
}

/// Names by number (capabilities(7)).
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A bundle that was read.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute path.
    pub dir: PathBuf,
    /// Absolute path.
    pub rootfs: PathBuf,
    /// Its configuration.
    pub spec: Spec,
    /// The same, as written.
    pub text: String,
}

/// Reads and checks a bundle; the root must be there.
pub fn load(dir: &Path) -> Result<Bundle, Why> {
    let dir = std::fs::canonicalize(dir).map_err(crate::state::at(dir))?;
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(crate::state::at(&path))?;
    let spec = parse(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    let root = spec.root().as_ref().map(|r| r.path().clone()).unwrap_or_default();
    let full = dir.join(root);
    let rootfs = std::fs::canonicalize(&full).map_err(crate::state::at(&full))?;
    if !rootfs.is_dir() {
        return Err(format!("{}: root.path is not a directory", rootfs.display()));
    }
    Ok(Bundle {
        dir,
        rootfs,
        spec,
        text,
    })
}

/// Reads and checks a configuration.
pub fn parse(text: &str) -> Result<Spec, Why> {
    let raw: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let spec: Spec = serde_json::from_str(text).map_err(|e| e.to_string())?;
    check(&spec, &raw)?;
    Ok(spec)
}

fn check(spec: &Spec, raw: &Value) -> Result<(), Why> {
    let version = spec.version();
    let mut parts = version.split(['.', '-', '+']);
    let numbers = (parts.next(), parts.next(), parts.next());
    let number = |p: Option<&str>| p.is_some_and(|t| t.parse::<u32>().is_ok());
    if numbers.0 != Some("1") || !number(numbers.1) || !number(numbers.2) {
        return Err(format!("ociVersion {version:?} is not supported: 1.x.y is"));
    }
    match raw["root"]["path"].as_str() {
        Some("") | None => return Err("root.path is missing".to_string()),
        Some(_) => {}
    }
    if let Some(p) = spec.process() {
        check_process(p)?;
    }
    for m in spec.mounts().iter().flatten() {
        if !m.destination().is_absolute() {
            return Err(format!(
                "mounts: {}: the destination is not absolute",
                m.destination().display()
            ));
        }
    }
    let Some(linux) = spec.linux() else { return Ok(()) };
    let mut seen = BTreeSet::new();
    for ns in linux.namespaces().iter().flatten() {
        let kind = ns.typ();
        if !seen.insert(kind.to_string()) {
            return Err(format!("linux.namespaces: {kind} is there twice"));
        }
        let path = ns.path().as_ref().filter(|p| !p.as_os_str().is_empty());
        match (kind, path) {
            (Kind::Pid, Some(_)) => {
                return Err(
                    "linux.namespaces: a pid namespace cannot be joined: an image has process ids of its own"
                        .to_string(),
                );
            }
            (Kind::Time, _) => {
                return Err("linux.namespaces: time namespaces are not supported".to_string());
            }
            (_, Some(p)) if !p.is_absolute() => {
                return Err(format!("linux.namespaces: {}: not an absolute path", p.display()));
            }
            _ => {}
        }
    }
    let mapped = |m: &Option<Vec<_>>| m.as_ref().is_some_and(|m| !m.is_empty());
    let user = namespace(spec, Kind::User);
    match (user, mapped(linux.uid_mappings()) && mapped(linux.gid_mappings())) {
        (Some(None), false) => {
            Err("linux: a new user namespace needs uidMappings and gidMappings".to_string())
        }
        (None, true) => Err("linux: uidMappings without a user namespace".to_string()),
        _ if raw["linux"]["personality"]["domain"] == "LINUX32" => {
            Err("linux.personality: 32-bit programs are not supported".to_string())
        }
        _ => Ok(()),
    }
}

/// Refuses what no process can be.
pub fn check_process(p: &Process) -> Result<(), Why> {
    if p.args().as_ref().is_none_or(|a| a.is_empty()) {
        return Err("process.args is empty".to_string());
    }
    if !p.cwd().is_absolute() {
        return Err(format!(
            "process.cwd {:?} is not an absolute path",
            p.cwd().display().to_string()
        ));
    }
    for l in p.rlimits().iter().flatten() {
        if l.soft() > l.hard() {
            return Err(format!(
                "process.rlimits: {}: the soft limit is above the hard one",
                l.typ()
            ));
        }
    }
    let names = p.rlimits().iter().flatten().map(|l| l.typ().to_string());
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.clone()) {
            return Err(format!("process.rlimits: {name} is there twice"));
        }
    }
    Ok(())
}

/// Whether there is a namespace of that kind of the container's, and the path of one to join.
pub fn namespace(spec: &Spec, kind: Kind) -> Option<Option<PathBuf>> {
    let all = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
    let ns = all.into_iter().flatten().find(|n| n.typ() == kind)?;
    Some(ns.path().clone().filter(|p| !p.as_os_str().is_empty()))
}

/// Logs what the configuration asks for and does not get. It matters to some; none of it can break the program.
pub fn tell_what_is_missing(spec: &Spec) {
    let said = |what: &str, why: &str| log::warn(&format!("{what}: not applied: {why}"));
    if let Some(p) = spec.process() {
        if p.apparmor_profile().as_ref().is_some_and(|s| !s.is_empty()) {
            said(
                "process.apparmorProfile",
                "the host process of an image is not confined; ftvm is not a sandbox",
            );
        }
        if p.selinux_label().as_ref().is_some_and(|s| !s.is_empty()) {
            said(
                "process.selinuxLabel",
                "the host process of an image is not confined; ftvm is not a sandbox",
            );
        }
        if p.io_priority().is_some() || p.scheduler().is_some() || p.exec_cpu_affinity().is_some() {
            said(
                "process: ioPriority, scheduler, execCPUAffinity",
                "an image schedules its tasks itself, on one CPU",
            );
        }
    }
    if spec.domainname().is_some() {
        said("domainname", "an image has none");
    }
    let Some(linux) = spec.linux() else { return };
    if linux.seccomp().is_some() {
        said(
            "linux.seccomp",
            "the program's calls go to the library OS and not to the host; calls of the library OS are not filtered",
        );
    }
    if let Some(r) = linux.resources() {
        let memory = r.memory().as_ref();
        let only_limit = memory.is_none_or(|m| m.reservation().is_none() && m.kernel().is_none());
        if !only_limit {
            said("linux.resources.memory", "but for the limit: no cgroup is made");
        }
        let weighs =
            r.cpu().as_ref().is_some_and(more_than_quota) || r.block_io().is_some() || r.network().is_some();
        let more = r.hugepage_limits().as_ref().is_some_and(|h| !h.is_empty());
        let unified = r.unified().as_ref().is_some_and(|u| !u.is_empty());
        if weighs || more || unified || r.rdma().as_ref().is_some_and(|m| !m.is_empty()) {
            said(
                "linux.resources: cpu, blockIO, network, hugepageLimits, rdma, unified",
                "no cgroup is made; an image uses one CPU, and of cpu its quota is kept",
            );
        }
    }
    for d in linux.devices().iter().flatten() {
        said(
            &format!("linux.devices: {}", d.path().display()),
            "an image has null, zero, full, random, urandom, tty and terminals, and no devices of the host",
        );
    }
    if linux.intel_rdt().is_some() || linux.mount_label().as_ref().is_some_and(|l| !l.is_empty()) {
        said("linux: intelRdt, mountLabel", "not supported");
    }
    if let Some(Some(path)) = namespace(spec, Kind::Ipc) {
        said(
            &format!("linux.namespaces: ipc {}", path.display()),
            "SysV IPC and message queues are the image's own and are not shared with other containers",
        );
    }
}

/// Where in the container's root the program is, as `PATH` says; the error is what podman knows as "not found".
pub fn find_program(root: &Path, p: &Process) -> Result<(), Why> {
    let name = p
        .args()
        .as_ref()
        .and_then(|a| a.first())
        .cloned()
        .unwrap_or_default();
    let open = |path: &Path| {
        let resolved = crate::mounts::open_in(root, path)?;
        let stat = rustix::fs::fstat(&resolved).map_err(std::io::Error::from)?;
        Ok::<bool, std::io::Error>(stat.st_mode & 0o170_000 == 0o100_000 && stat.st_mode & 0o111 != 0)
    };
    if name.contains('/') {
        // A path through the image's own file systems is for the image to find.
        let full = clean(&p.cwd().join(&name));
        if ["/proc", "/dev", "/sys"].iter().any(|own| full.starts_with(own)) {
            return Ok(());
        }
        return match open(&full) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("exec: {name:?}: permission denied")),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(format!("exec: {name:?}: permission denied"))
            }
            Err(_) => Err(format!("exec: {name:?}: stat {name}: no such file or directory")),
        };
    }
    let path = p.env().iter().flatten().find_map(|e| e.strip_prefix("PATH="));
    let path = path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let found = path.split(':').any(|dir| {
        let dir = if dir.is_empty() {
            p.cwd().clone()
        } else {
            PathBuf::from(dir)
        };
        open(&clean(&p.cwd().join(dir).join(&name))).is_ok_and(|x| x)
    });
    match found {
        true => Ok(()),
        false => Err(format!("exec: {name:?}: executable file not found in $PATH")),
    }
}

/// Without `.` and `..`.
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::Normal(p) => out.push(p),
            _ => {}
        }
    }
    out
}

fn bits(set: Option<&Capabilities>) -> u64 {
    let named = |c| serde_json::to_value(c).ok()?.as_str().map(str::to_string);
    let names: Vec<String> = set.into_iter().flatten().filter_map(named).collect();
    let numbers = names
        .iter()
        .filter_map(|n| CAPABILITIES.iter().position(|c| c == n));
    numbers.fold(0, |all, n| all | 1 << n)
}

/// The five sets as execve(2) leaves them for a file without capabilities (capabilities(7)).
pub fn capability_sets(p: &Process) -> [u64; 5] {
    let Some(c) = p.capabilities() else {
        return [0; 5];
    };
    let bounding = bits(c.bounding().as_ref());
    let inheritable = bits(c.inheritable().as_ref());
    let ambient = bits(c.ambient().as_ref());
    let held = match p.user().uid() {
        0 => inheritable | bounding,
        _ => ambient,
    };
    [held, held, inheritable, bounding, ambient]
}

/// Arguments of `ftvm` for the container's program, whose root is at `root`.
pub fn arguments(spec: &Spec, p: &Process, root: &Path) -> Vec<OsString> {
    let mut out: Vec<OsString> = ["run", "--name", crate::state::RUN, "--rootfs-mode", "rw"]
        .map(OsString::from)
        .into();
    let mut opt = |name: &str, value: OsString| {
        out.push(name.into());
        out.push(value);
    };
    opt("--rootfs", root.into());
    opt("--workdir", p.cwd().clone().into());
    opt("--user", format!("{}:{}", p.user().uid(), p.user().gid()).into());
    if let Some(groups) = p.user().additional_gids().as_ref().filter(|g| !g.is_empty()) {
        let text: Vec<String> = groups.iter().map(u32::to_string).collect();
        opt("--groups", text.join(",").into());
    }
    let sets = capability_sets(p).map(|s| format!("{s:x}"));
    opt("--caps", sets.join(",").into());
    if let Some(name) = spec.hostname().as_ref().filter(|n| !n.is_empty()) {
        opt("--hostname", name.into());
    }
    for l in p.rlimits().iter().flatten() {
        let name = l.typ().to_string().trim_start_matches("RLIMIT_").to_lowercase();
        opt("--ulimit", format!("{name}={}:{}", l.soft(), l.hard()).into());
    }
    let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
    let memory = resources
        .and_then(|r| r.memory().as_ref())
        .and_then(|m| m.limit());
    if let Some(limit) = memory.filter(|m| *m > 0) {
        opt("--memory", limit.to_string().into());
    }
    let pids = resources.and_then(|r| r.pids().as_ref()).map(|p| p.limit());
    if let Some(limit) = pids.filter(|l| *l > 0) {
        opt("--pids", limit.to_string().into());
    }
    let cpu = resources.and_then(|r| r.cpu().as_ref());
    if let Some(share) = cpu.and_then(share) {
        opt("--cpus", share.to_string().into());
    }
    // A container does not speak to ftvm by its variables: those are options.
    for (name, value) in environment(p).filter(|(name, _)| is_ours(name)) {
        opt("--env", format!("{name}={value}").into());
    }
    out.push("--user-files".into());
    if p.no_new_privileges() == Some(true) {
        out.push("--no-new-privileges".into());
    }
    out.push("--".into());
    out.extend(p.args().iter().flatten().map(OsString::from));
    out
}

/// Variables of the program.
pub fn environment(p: &Process) -> impl Iterator<Item = (&str, &str)> {
    let all = p.env().iter().flatten();
    all.filter_map(|e| e.split_once('=').filter(|(name, _)| !name.is_empty()))
}

/// A variable that ftvm itself would read.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("FTVM_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Value)) -> Result<Spec, Why> {
        let mut v = serde_json::json!({
            "ociVersion": "1.0.2-dev", "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/"},
            "linux": {"namespaces": [{"type": "mount"}]},
        });
        change(&mut v);
        parse(&v.to_string())
    }

    #[test]
    fn wrong_configurations_are_refused_with_the_field() {
        assert!(config(|_| ()).is_ok());
        let refused = |want: &str, change: fn(&mut Value)| {
            let why = config(change).unwrap_err();
            assert!(why.contains(want), "{why}");
        };
        refused("ociVersion", |v| v["ociVersion"] = "2.0.0".into());
        refused("ociVersion", |v| v["ociVersion"] = "1.x".into());
        refused("root.path", |v| v["root"] = Value::Null);
        refused("process.args", |v| v["process"]["args"] = serde_json::json!([]));
        refused("process.cwd", |v| v["process"]["cwd"] = "tmp".into());
        refused("twice", |v| {
            v["process"]["rlimits"] = serde_json::json!([
                {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}])
        });
        refused("soft limit", |v| {
            v["process"]["rlimits"] = serde_json::json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}])
        });
        refused("twice", |v| {
            v["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "mount"}])
        });
        refused("pid namespace", |v| {
            v["linux"]["namespaces"] = serde_json::json!([{"type": "pid", "path": "/proc/1/ns/pid"}])
        });
        refused("uidMappings", |v| {
            v["linux"]["namespaces"] = serde_json::json!([{"type": "user"}])
        });
        refused("destination", |v| {
            v["mounts"] = serde_json::json!([{"destination": "x", "source": "y"}])
        });
    }

    #[test]
    fn capabilities_are_those_after_execve() {
        let with = |uid: u32| {
            config(|v| {
                v["process"]["user"]["uid"] = uid.into();
                v["process"]["capabilities"] = serde_json::json!({
                    "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"],
                    "ambient": ["CAP_KILL"], "inheritable": ["CAP_KILL"]});
            })
            .unwrap()
            .process()
            .clone()
            .unwrap()
        };
        assert_eq!(capability_sets(&with(0)), [0x21, 0x21, 0x20, 0x21, 0x20]);
        assert_eq!(capability_sets(&with(7)), [0x20, 0x20, 0x20, 0x21, 0x20]);
    }

    #[test]
    fn a_containers_variables_are_not_ours() {
        let spec = config(|v| {
            v["process"]["env"] = serde_json::json!(["PATH=/bin", "FTVM_LAYER=/etc/x", "=", "none", "A=b=c"]);
        })
        .unwrap();
        let p = spec.process().clone().unwrap();
        let all: Vec<_> = environment(&p).collect();
        assert_eq!(all, [("PATH", "/bin"), ("FTVM_LAYER", "/etc/x"), ("A", "b=c")]);
        let args = arguments(&spec, &p, Path::new("/root"));
        let own = args.iter().position(|a| a == "--").unwrap();
        let given: Vec<_> = args[..own].windows(2).filter(|w| w[0] == "--env").collect();
        assert_eq!(given.len(), 1, "{args:?}");
        assert_eq!(given[0][1], "FTVM_LAYER=/etc/x");
    }

    #[test]
    fn paths_have_no_way_up() {
        assert_eq!(clean(Path::new("/a/../../b/./c")), Path::new("/b/c"));
    }
}
