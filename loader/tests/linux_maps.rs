//! Mapping plans against what the host's kernel maps for the same files.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

mod common;

use common::{Stopped, at};
use ftl_loader::PAGE;
use ftl_loader::elf::{self, ElfPlan, Kind, SegFlags};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    prot: u32,
    file: Option<u64>,
}

fn plan_of(file: &[u8]) -> ElfPlan {
    let need = elf::head_len_needed(&file[..64]).unwrap();
    elf::plan(&file[..need], file.len() as u64).unwrap()
}

/// Compares page by page: protection, backing, contents.
fn check(process: &Stopped, path: &str, plan: &ElfPlan, bias: u64) {
    let file = std::fs::read(path).unwrap();
    let mut want = BTreeMap::new();
    let mut bytes = BTreeMap::new();
    for op in elf::map_ops(plan, bias) {
        for (addr, nth) in (op.addr..op.addr + op.len).step_by(PAGE as usize).zip(0u64..) {
            want.insert(
                addr,
                Page {
                    prot: op.prot.bits(),
                    file: op.file.map(|offset| offset + nth * PAGE),
                },
            );
            let mut content = vec![0u8; PAGE as usize];
            if let Some(offset) = op.file {
                let rest = &file[((offset + nth * PAGE) as usize).min(file.len())..];
                let len = rest.len().min(content.len());
                content[..len].copy_from_slice(&rest[..len]);
            }
            if let Some(zero) = op.zero_from.filter(|zero| zero / PAGE == addr / PAGE) {
                content[(zero % PAGE) as usize..].fill(0);
            }
            bytes.insert(addr, content);
        }
    }
    let (lo, hi) = (plan.lo.wrapping_add(bias), plan.hi.wrapping_add(bias));
    let mut got = BTreeMap::new();
    for vma in process.maps() {
        let real = std::fs::canonicalize(path).unwrap();
        for addr in (vma.start..vma.end)
            .step_by(PAGE as usize)
            .filter(|addr| (lo..hi).contains(addr))
        {
            let file = (!vma.path.is_empty() && vma.path != "[heap]").then(|| {
                assert_eq!(vma.path, real.to_str().unwrap());
                vma.offset + (addr - vma.start)
            });
            got.insert(addr, Page { prot: vma.prot, file });
        }
    }
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        want.keys().collect::<Vec<_>>(),
        "{path}: pages"
    );
    for (addr, page) in &got {
        assert_eq!(page, &want[addr], "{path}: page {addr:#x}");
        if page.prot & SegFlags::R.bits() != 0 {
            assert_eq!(
                process.read(*addr, PAGE as usize),
                bytes[addr],
                "{path}: contents of {addr:#x}"
            );
        }
    }
}

fn check_program(path: &str) {
    let process = Stopped::at_exec(path, &[b"prog".to_vec()], &[]);
    let aux: BTreeMap<u64, u64> = process.auxv().into_iter().collect();
    let file = std::fs::read(path).unwrap();
    let plan = plan_of(&file);
    let bias = aux[&at::ENTRY].wrapping_sub(plan.entry);
    if plan.kind == Kind::Exec {
        assert_eq!(bias, 0);
    }
    assert_eq!(
        plan.bias_for(plan.lo.wrapping_add(bias)),
        Some(bias),
        "{path}: the kernel's bias is one of ours"
    );
    assert_eq!(
        aux[&at::PHDR],
        plan.phdr_vaddr.unwrap().wrapping_add(bias),
        "{path}: AT_PHDR"
    );
    assert_eq!(aux[&at::PHNUM], u64::from(plan.phnum));
    assert_eq!(aux[&at::PHENT], u64::from(plan.phentsize));
    check(&process, path, &plan, bias);
    if let Some((offset, len)) = plan.interp {
        let interp = elf::interp_path(&file[offset as usize..offset as usize + len]).unwrap();
        let interp = std::str::from_utf8(interp).unwrap();
        let interp_plan = plan_of(&std::fs::read(interp).unwrap());
        check(&process, interp, &interp_plan, aux[&at::BASE]);
    } else {
        assert_eq!(aux[&at::BASE], 0);
    }
}

#[test]
fn dynamic_pie() {
    check_program("/bin/true");
    check_program("/bin/bash");
}

#[test]
fn static_exec() {
    check_program("/bin/busybox");
}

#[test]
fn this_test() {
    check_program(std::env::current_exe().unwrap().to_str().unwrap());
}

/// Programs with the layouts that compilers of this machine make.
#[test]
fn compiled_layouts() {
    let source =
        "static char big[300000]; static int one = 1; int main(int c, char **v) { return big[c] + one; }";
    let cases: [(&str, &str, &[&str]); 7] = [
        ("static-pie", "gcc", &["-static-pie"]),
        (
            "two-mib",
            "gcc",
            &["-static-pie", "-Wl,-z,max-page-size=0x200000"],
        ),
        ("joined", "gcc", &["-no-pie", "-Wl,-z,noseparate-code"]),
        ("norelro", "gcc", &["-no-pie", "-static", "-Wl,-z,norelro"]),
        ("musl", "musl-gcc", &["-no-pie"]),
        ("musl-static", "musl-gcc", &["-static"]),
        (
            "high",
            "gcc",
            &["-no-pie", "-static", "-Wl,-Ttext-segment=0x60000000"],
        ),
    ];
    for (name, compiler, flags) in cases {
        check_program(&common::compile(name, compiler, flags, source));
    }
}

#[test]
fn every_program_of_the_system_has_a_plan() {
    let mut count = 0;
    for dir in ["/usr/bin", "/usr/sbin", "/lib/x86_64-linux-gnu"] {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let Ok(file) = std::fs::File::open(&path) else {
                continue;
            };
            let len = file.metadata().unwrap().len();
            let mut head = [0u8; 64];
            if file.read_exact_at(&mut head, 0).is_err() || !head.starts_with(b"\x7fELF") {
                continue;
            }
            if head[16] == 1 {
                continue; // an object file or a kernel module
            }
            let mut head = vec![0; elf::head_len_needed(&head).unwrap()];
            file.read_exact_at(&mut head, 0).unwrap();
            let plan = elf::plan(&head, len).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            assert!(plan.phdr_vaddr.is_some(), "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 300, "{count} files");
    println!("{count} ELF files planned");
}
