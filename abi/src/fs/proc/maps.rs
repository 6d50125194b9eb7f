//! /proc/PID/maps and smaps.

use crate::cx::Cx;
use crate::mm::{Mm, Vma, VmaKind};
use ftl_core::platform::Prot;
use std::fmt::Write;

/// Stubs are hidden: the guest sees only what it and execve mapped.
fn visible(mm: &Mm) -> Vec<Vma> {
    let mut list = mm.list();
    list.retain(|v| v.kind != VmaKind::Stubs);
    list
}

fn line(cx: &mut Cx<'_>, v: &Vma) -> Vec<u8> {
    let mut s = String::new();
    let flag = |p: Prot, c: char| if v.prot.contains(p) { c } else { '-' };
    let (dev, ino) = v.file.as_ref().map_or((0, 0), |f| f.id);
    let offset = v.file.as_ref().map_or(0, |f| f.offset);
    let (major, minor) = (dev >> 8 & 0xfff, dev & 0xff | dev >> 12 & 0xffff_ff00);
    let _ = write!(
        s,
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
        v.start,
        v.end,
        flag(Prot::READ, 'r'),
        flag(Prot::WRITE, 'w'),
        flag(Prot::EXEC, 'x'),
        if v.shared { 's' } else { 'p' },
        offset,
        major,
        minor,
        ino
    );
    let mut name: Vec<u8> = match v.kind {
        VmaKind::Stack => b"[stack]".to_vec(),
        VmaKind::Heap => b"[heap]".to_vec(),
        VmaKind::Vdso => b"[vdso]".to_vec(),
        _ => match (&v.file, &v.name) {
            (Some(f), _) => {
                let mut path = f.path.to_vec();
                // A file that lost its last name since it was mapped.
                let gone =
                    !path.ends_with(b" (deleted)") && f.file.stat(&mut cx.env).is_ok_and(|st| st.nlink == 0);
                if gone {
                    path.extend_from_slice(b" (deleted)");
                }
                path
            }
            (None, Some(n)) => {
                let mut t = b"[anon:".to_vec();
                t.extend_from_slice(n);
                t.push(b']');
                t
            }
            _ => Vec::new(),
        },
    };
    let mut out = s.into_bytes();
    if !name.is_empty() {
        while out.len() < 73 {
            out.push(b' ');
        }
        out.append(&mut name);
    }
    out.push(b'\n');
    out
}

/// /proc/PID/maps
pub fn maps(cx: &mut Cx<'_>, mm: &Mm) -> Vec<u8> {
    visible(mm).iter().flat_map(|v| line(cx, v)).collect()
}

/// /proc/PID/smaps: sizes only; everything mapped counts as resident.
pub fn smaps(cx: &mut Cx<'_>, mm: &Mm) -> Vec<u8> {
    let mut out = Vec::new();
    for v in visible(mm) {
        out.extend(line(cx, &v));
        out.extend(fields(v.len() / 1024, v.prot.is_empty()).into_bytes());
    }
    out
}

/// /proc/PID/smaps_rollup
pub fn rollup(_: &mut Cx<'_>, mm: &Mm) -> Vec<u8> {
    let list = visible(mm);
    let (first, last) = (
        list.first().map_or(0, |v| v.start),
        list.last().map_or(0, |v| v.end),
    );
    let kb: u64 = list
        .iter()
        .filter(|v| !v.prot.is_empty())
        .map(|v| v.len() / 1024)
        .sum();
    let mut s = format!("{first:08x}-{last:08x} ---p 00000000 00:00 0                          [rollup]\n");
    s.push_str(&fields(kb, false));
    s.into_bytes()
}

fn fields(kb: u64, none: bool) -> String {
    let rss = if none { 0 } else { kb };
    let mut s = String::new();
    for (name, v) in [
        ("Size", kb),
        ("KernelPageSize", 4),
        ("MMUPageSize", 4),
        ("Rss", rss),
        ("Pss", rss),
        ("Shared_Clean", 0),
        ("Shared_Dirty", 0),
        ("Private_Clean", 0),
        ("Private_Dirty", rss),
        ("Referenced", rss),
        ("Anonymous", rss),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", 0),
    ] {
        let _ = writeln!(s, "{:<16}{v:>8} kB", format!("{name}:"));
    }
    s
}
