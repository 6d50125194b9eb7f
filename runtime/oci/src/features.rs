//! `features`: what this runtime can do, in the form of the specification.

use crate::{Why, mounts, plan};
use serde_json::json;

/// Prints it.
pub fn print() -> Result<(), Why> {
    println!(
        "{:#}",
        json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": plan::SPEC,
            "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
            "mountOptions": mounts::options(),
            "linux": {
                "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
                "capabilities": &plan::CAPABILITIES[..],
                "cgroup": {"v1": false, "v2": false, "systemd": false, "systemdUser": false, "rdma": false},
                "seccomp": {"enabled": false},
                "apparmor": {"enabled": false},
                "selinux": {"enabled": false},
                "intelRdt": {"enabled": false},
            },
            "annotations": {"org.ftlinux.checkpoint": "true"},
        })
    );
    Ok(())
}
