//! The record that starts a log: all that the image was started with.

use crate::run::Spec;
use ftl_abi::fs::VolumeConfig;
use ftl_abi::kernel::Config;
use ftl_abi::kernel::NetConfig;
use ftl_abi::specials::CpuTable;
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use std::cell::Cell;
use std::net::IpAddr;

/// What comes from the host before the first instruction.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Seed of the image's random stream.
    pub seed: [u8; 32],
    /// First value of the clock; offsets of REALTIME and BOOTTIME to it.
    pub clock: (u64, u64, u64),
    /// Memory hashes are part of the log.
    pub check_memory: bool,
    /// Entries between two marks (0: none), and whether they hold contents.
    pub marks: (u64, bool),
}

/// Encodes both.
pub fn encode(spec: &Spec, origin: &Origin) -> Vec<u8> {
    let mut out = Vec::new();
    origin.seed.put(&mut out);
    origin.clock.put(&mut out);
    origin.check_memory.put(&mut out);
    origin.marks.put(&mut out);
    let Spec {
        path,
        argv,
        envp,
        config,
        net_host,
        interface: _,
        rootfs,
    } = spec;
    path.put(&mut out);
    put_list(argv, &mut out);
    put_list(envp, &mut out);
    net_host.put(&mut out);
    let Config {
        hostname,
        kernel_release,
        kernel_version,
        uid,
        gid,
        groups,
        host_ids,
        caps,
        no_new_privs,
        xsave_len,
        xcr0,
        cpu,
        hwcap,
        strace: _,
        chaos,
        max_tasks,
        cpus,
        memory,
        rlimits,
        umask,
        signals,
        cwd,
        keep_layer,
        inherited,
        net,
        hooks,
        secret,
        // They are in the image's memory by now, or in its backup's.
        secrets: _,
        vdso: _,
        mounts: VolumeConfig {
            cwd: write_through,
            volumes,
        },
    } = config;
    hostname.put(&mut out);
    kernel_release.clone().into_bytes().put(&mut out);
    kernel_version.clone().into_bytes().put(&mut out);
    (*uid, *gid).put(&mut out);
    put_list(groups, &mut out);
    host_ids.put(&mut out);
    put_list(caps, &mut out);
    no_new_privs.put(&mut out);
    (*xsave_len, *xcr0).put(&mut out);
    cpu.is_some().put(&mut out);
    let rows = cpu.as_ref().map_or(&[][..], |c| &c.0);
    put_list(&rows.iter().flatten().copied().collect::<Vec<u32>>(), &mut out);
    hwcap.put(&mut out);
    (*max_tasks, *cpus, *memory).put(&mut out);
    for r in rlimits {
        r.put(&mut out);
    }
    umask.put(&mut out);
    signals.put(&mut out);
    cwd.put(&mut out);
    write_through.put(&mut out);
    put_list(volumes, &mut out);
    put_list(inherited, &mut out);
    keep_layer.put(&mut out);
    rootfs.put(&mut out);
    chaos.put(&mut out);
    put_net(net.as_ref(), &mut out);
    out.extend(crate::hooks::encode(hooks));
    secret.put(&mut out);
    out
}

fn put_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec().put(out),
        IpAddr::V6(a) => a.octets().to_vec().put(out),
    }
}

fn take_ip(src: &mut &[u8]) -> Option<IpAddr> {
    let bytes: Vec<u8> = Wire::take(src)?;
    if let Ok(a) = <[u8; 4]>::try_from(&bytes[..]) {
        return Some(IpAddr::from(a));
    }
    <[u8; 16]>::try_from(&bytes[..]).ok().map(IpAddr::from)
}

/// The image's own interface.
fn put_net(net: Option<&NetConfig>, out: &mut Vec<u8>) {
    net.is_some().put(out);
    let Some(NetConfig {
        mac,
        mtu,
        addrs,
        gateways,
        offload,
        answers,
    }) = net
    else {
        return;
    };
    mac.put(out);
    mtu.put(out);
    addrs.len().put(out);
    for (ip, prefix) in addrs {
        put_ip(*ip, out);
        prefix.put(out);
    }
    gateways.len().put(out);
    for ip in gateways {
        put_ip(*ip, out);
    }
    (*offload, *answers).put(out);
}

fn take_net(src: &mut &[u8]) -> Option<Option<NetConfig>> {
    if !bool::take(src)? {
        return Some(None);
    }
    let mut c = NetConfig::new(Wire::take(src)?, Wire::take(src)?);
    for _ in 0..usize::take(src)? {
        c.addrs.push((take_ip(src)?, Wire::take(src)?));
    }
    for _ in 0..usize::take(src)? {
        c.gateways.push(take_ip(src)?);
    }
    (c.offload, c.answers) = Wire::take(src)?;
    Some(Some(c))
}

/// Decodes both; `strace` is the replay's own choice.
pub fn decode(mut src: &[u8], strace: bool) -> Option<(Spec, Origin)> {
    let src = &mut src;
    let origin = Origin {
        seed: Wire::take(src)?,
        clock: Wire::take(src)?,
        check_memory: Wire::take(src)?,
        marks: Wire::take(src)?,
    };
    let path = Wire::take(src)?;
    let argv = take_list(src)?;
    let envp = take_list(src)?;
    let net_host = Wire::take(src)?;
    let hostname = Wire::take(src)?;
    let kernel_release = String::from_utf8(Wire::take(src)?).ok()?;
    let kernel_version = String::from_utf8(Wire::take(src)?).ok()?;
    let (uid, gid) = Wire::take(src)?;
    let groups = take_list(src)?;
    let host_ids = Wire::take(src)?;
    let caps: Vec<u64> = take_list(src)?;
    let caps = caps.try_into().ok()?;
    let no_new_privs = Wire::take(src)?;
    let (xsave_len, xcr0) = Wire::take(src)?;
    let has_cpu = bool::take(src)?;
    let words: Vec<u32> = take_list(src)?;
    let rows = words.chunks_exact(6).map(|c| std::array::from_fn(|i| c[i]));
    let cpu = has_cpu.then(|| CpuTable(rows.collect()));
    let hwcap = Wire::take(src)?;
    let (max_tasks, cpus, memory) = Wire::take(src)?;
    let mut rlimits = [(0, 0); 16];
    for r in &mut rlimits {
        *r = Wire::take(src)?;
    }
    let umask = Wire::take(src)?;
    let signals = Wire::take(src)?;
    let cwd = Wire::take(src)?;
    let mounts = VolumeConfig {
        cwd: Wire::take(src)?,
        volumes: take_list(src)?,
    };
    let inherited = take_list(src)?;
    let keep_layer = Wire::take(src)?;
    let rootfs = Wire::take(src)?;
    let chaos = Wire::take(src)?;
    let net = take_net(src)?;
    let hooks = crate::hooks::decode(src)?;
    let secret = Wire::take(src)?;
    let config = Config {
        hostname,
        kernel_release,
        kernel_version,
        uid,
        gid,
        groups,
        host_ids,
        caps,
        no_new_privs,
        xsave_len,
        xcr0,
        cpu,
        hwcap,
        strace: Cell::new(strace),
        chaos,
        max_tasks,
        cpus,
        memory,
        rlimits,
        umask,
        signals,
        cwd,
        keep_layer,
        inherited,
        net,
        hooks,
        secret,
        secrets: Default::default(),
        vdso: crate::vdso::image(),
        mounts,
    };
    src.is_empty().then_some((
        Spec {
            path,
            argv,
            envp,
            config,
            net_host,
            interface: None,
            rootfs,
        },
        origin,
    ))
}
