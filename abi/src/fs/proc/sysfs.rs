//! /sys: what programs look up about CPUs, memory and limits.

use super::gen_file::{GenFile, Source};
use super::table::{self, Found, Item, Make};
use super::{entry, ino_of};
use crate::cx::Cx;
use crate::fdtable::oflag;
use crate::fs::perm::{self, mode};
use crate::fs::{DirFile, Fs, How, Link, Loc, StatFs};
use crate::kernel::Kernel;
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use ftl_core::platform::{DirEntry, Stat};
use std::any::Any;
use std::rc::Rc;

/// sysfs.
pub struct SysFs {
    dev: u64,
}

const fn text(path: &'static str, s: &'static str) -> Item {
    Item {
        path,
        mode: 0o444,
        make: Make::Const(s),
    }
}

const fn rw(path: &'static str, s: &'static str) -> Item {
    Item {
        path,
        mode: 0o644,
        make: Make::Const(s),
    }
}

static ITEMS: &[Item] = &[
    text("devices/system/cpu/online", "0\n"),
    text("devices/system/cpu/possible", "0\n"),
    text("devices/system/cpu/present", "0\n"),
    text("devices/system/cpu/offline", "\n"),
    text("devices/system/cpu/isolated", "\n"),
    text("devices/system/cpu/kernel_max", "8191\n"),
    text("devices/system/cpu/cpu0/topology/core_id", "0\n"),
    text("devices/system/cpu/cpu0/topology/physical_package_id", "0\n"),
    text("devices/system/cpu/cpu0/topology/core_cpus", "1\n"),
    text("devices/system/cpu/cpu0/topology/core_cpus_list", "0\n"),
    text("devices/system/cpu/cpu0/topology/core_siblings", "1\n"),
    text("devices/system/cpu/cpu0/topology/core_siblings_list", "0\n"),
    text("devices/system/cpu/cpu0/topology/package_cpus_list", "0\n"),
    text("devices/system/cpu/cpu0/topology/thread_siblings", "1\n"),
    text("devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
    text("devices/system/cpu/cpu0/cache/index0/level", "1\n"),
    text("devices/system/cpu/cpu0/cache/index0/type", "Data\n"),
    text("devices/system/cpu/cpu0/cache/index0/size", "32K\n"),
    text("devices/system/cpu/cpu0/cache/index0/coherency_line_size", "64\n"),
    text("devices/system/cpu/cpu0/cache/index0/shared_cpu_list", "0\n"),
    text("devices/system/node/online", "0\n"),
    text("devices/system/node/possible", "0\n"),
    text("devices/system/node/node0/cpulist", "0\n"),
    text("devices/system/node/node0/cpumap", "1\n"),
    text("devices/system/node/node0/distance", "10\n"),
    Item {
        path: "devices/system/node/node0/meminfo",
        mode: 0o444,
        make: Make::Text(super::global::node_meminfo),
    },
    rw(
        "kernel/mm/transparent_hugepage/enabled",
        "always madvise [never]\n",
    ),
    rw(
        "kernel/mm/transparent_hugepage/defrag",
        "always defer defer+madvise madvise [never]\n",
    ),
    rw(
        "kernel/mm/transparent_hugepage/shmem_enabled",
        "always within_size advise [never] deny force\n",
    ),
    text("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n"),
    rw("kernel/mm/transparent_hugepage/use_zero_page", "0\n"),
    rw("kernel/mm/transparent_hugepage/khugepaged/defrag", "0\n"),
    text("kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n"),
    text("kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n"),
    text("fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
    text("fs/cgroup/cgroup.subtree_control", "\n"),
    Item {
        path: "fs/cgroup/cgroup.procs",
        mode: 0o644,
        make: Make::Text(super::global::cgroup_procs),
    },
    rw("fs/cgroup/cpu.max", "100000 100000\n"),
    rw("fs/cgroup/cpu.weight", "100\n"),
    text("fs/cgroup/cpuset.cpus.effective", "0\n"),
    Item {
        path: "fs/cgroup/memory.max",
        mode: 0o644,
        make: Make::Text(super::global::memory_max),
    },
    rw("fs/cgroup/memory.high", "max\n"),
    rw("fs/cgroup/memory.swap.max", "0\n"),
    Item {
        path: "fs/cgroup/memory.current",
        mode: 0o444,
        make: Make::Text(super::global::memory_current),
    },
    Item {
        path: "fs/cgroup/pids.max",
        mode: 0o644,
        make: Make::Text(super::global::pids_max),
    },
    text("class/net/lo/address", "00:00:00:00:00:00\n"),
    text("class/net/lo/mtu", "65536\n"),
];

impl SysFs {
    /// A new one.
    pub fn new(k: &Kernel) -> Rc<SysFs> {
        Rc::new(SysFs { dev: k.fs.new_dev() })
    }
}

fn find(path: &[u8]) -> Io<Option<&'static Item>> {
    match table::find(ITEMS, path) {
        Found::Item(i) => Ok(Some(i)),
        Found::Dir => Ok(None),
        Found::Link => err(Errno::ELOOP),
        Found::No(e) => err(e),
    }
}

impl Fs for SysFs {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> &'static str {
        "sysfs"
    }
    fn stat(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Stat> {
        let item = find(path)?;
        let m = match item {
            None => mode::DIR | 0o755,
            Some(i) => mode::REG | i.mode,
        };
        let now = cx.env.core.clock.real_offset.get() as i64 as i128;
        Ok(Stat {
            dev: self.dev,
            ino: ino_of(path),
            mode: m,
            nlink: if item.is_none() { 2 } else { 1 },
            size: if item.is_none() { 0 } else { 4096 },
            blksize: 4096,
            atime: now,
            mtime: now,
            ctime: now,
            ..Stat::default()
        })
    }
    fn readlink(&self, _: &mut Cx<'_>, path: &[u8]) -> Io<Link> {
        match find(path)?.map(|i| i.make) {
            Some(Make::Link(t)) => Ok(Link::Text(t.as_bytes().to_vec())),
            _ => err(Errno::EINVAL),
        }
    }
    fn open(&self, cx: &mut Cx<'_>, loc: &Loc, how: &How) -> Io<FileRef> {
        if how.flags & oflag::O_CREAT != 0 && find(&loc.path).is_err() {
            return err(Errno::EACCES);
        }
        let item = find(&loc.path)?;
        let st = self.stat(cx, &loc.path)?;
        let want =
            [perm::R, perm::W, perm::R | perm::W, perm::R | perm::W][(how.flags & oflag::O_ACCMODE) as usize];
        match item {
            None if want & perm::W != 0 || how.flags & oflag::O_CREAT != 0 => err(Errno::EISDIR),
            None => Ok(DirFile::new(cx.k.fs.hold(loc), st)),
            Some(_) if how.flags & oflag::O_DIRECTORY != 0 => err(Errno::ENOTDIR),
            Some(i) => {
                perm::check(&cx.task.creds.borrow(), &st, want)?;
                GenFile::open(cx, Source::Global(i), st, loc.full())
            }
        }
    }
    fn list(&self, _: &mut Cx<'_>, path: &[u8]) -> Io<Vec<DirEntry>> {
        if find(path)?.is_some() {
            return err(Errno::ENOTDIR);
        }
        Ok(table::list(ITEMS, path)
            .into_iter()
            .map(|(n, k)| entry(path, &n, k))
            .collect())
    }
    fn statfs(&self, _: &mut Cx<'_>, path: &[u8]) -> Io<StatFs> {
        let cgroup = path.starts_with(b"fs/cgroup");
        Ok(StatFs {
            kind: if cgroup { 0x6367_7270 } else { 0x6265_6572 },
            bsize: 4096,
            namelen: 255,
            frsize: 4096,
            ..StatFs::default()
        })
    }
}
