//! `cargo bench -p ftl-loader`: what exec and a first trap cost in this crate.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]
#![allow(missing_docs, reason = "criterion_group makes a public function")]

use criterion::{Criterion, criterion_group, criterion_main};
use ftl_loader::patch::{self, Avoid, Request};
use ftl_loader::{elf, stack, vdso};
use std::hint::black_box;

const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

/// The libc's executable segment: bytes and address.
fn text(file: &[u8]) -> (&[u8], u64) {
    let plan = elf::plan(file, file.len() as u64).expect("libc has a plan");
    let segment = plan
        .segments
        .iter()
        .find(|s| s.flags.contains(elf::SegFlags::X))
        .expect("and text");
    (
        &file[segment.offset as usize..(segment.offset + segment.filesz) as usize],
        segment.vaddr,
    )
}

fn elf_plan(c: &mut Criterion) {
    let file = std::fs::read(LIBC).expect("libc");
    let head = &file[..elf::head_len_needed(&file[..64]).expect("ELF")];
    let len = file.len() as u64;
    c.bench_function("elf_plan", |b| {
        b.iter(|| elf::plan(black_box(head), len).expect("plan"))
    });
    let plan = elf::plan(head, len).expect("plan");
    c.bench_function("elf_map_ops", |b| {
        b.iter(|| elf::map_ops(black_box(&plan), 0x7f00_0000_0000))
    });
}

fn initial_stack(c: &mut Criterion) {
    let argv: Vec<Vec<u8>> = (0..4).map(|i| format!("argument{i}").into_bytes()).collect();
    let envp: Vec<Vec<u8>> = (0..40)
        .map(|i| format!("VARIABLE_{i}=some value of it").into_bytes())
        .collect();
    c.bench_function("stack_build", |b| {
        b.iter(|| {
            let aux = (3..23)
                .map(|kind| (kind, 1))
                .filter(|entry| entry.0 != 15)
                .collect();
            let (execfn, platform) = (&b"/bin/x"[..], &b"x86_64"[..]);
            let spec = stack::StackSpec {
                top: 0x7fff_0000,
                argv: &argv,
                envp: &envp,
                execfn,
                random: [1; 16],
                platform,
                aux,
            };
            stack::build(black_box(&spec), 1 << 20).expect("stack")
        })
    });
}

fn patching(c: &mut Criterion) {
    patch::warm_up();
    let file = std::fs::read(LIBC).expect("libc");
    let (code, code_addr) = text(&file);
    let sites = patch::find_sites(code, code_addr);
    // One whose followers move, and one that needs its predecessors.
    let plan_of = |site| {
        patch::plan(&Request {
            code,
            code_addr,
            site,
        })
        .expect("patchable")
    };
    for form in [patch::Form::Followers, patch::Form::Predecessors] {
        let site = *sites
            .iter()
            .find(|&&site| plan_of(site).form == form)
            .expect("both forms occur");
        c.bench_function(&format!("patch_plan_{form:?}_whole_libc_text"), |b| {
            b.iter(|| plan_of(black_box(site)))
        });
        let at = (site - code_addr) as usize;
        let (from, to) = (at.saturating_sub(65_536), (at + 65_536).min(code.len()));
        let near = Request {
            code: &code[from..to],
            code_addr: code_addr + from as u64,
            site,
        };
        c.bench_function(&format!("patch_plan_{form:?}_128_KiB"), |b| {
            b.iter(|| patch::plan_avoiding(black_box(&near), &Avoid::default()).expect("patchable"))
        });
        let plan = plan_of(site);
        c.bench_function(&format!("patch_emit_{form:?}"), |b| {
            b.iter(|| {
                plan.emit(black_box(code_addr - 0x10_0000 + 0x1000_0000), 0x7c00_0000_0000)
                    .expect("emit")
            })
        });
    }
    let mut group = c.benchmark_group("scan");
    group.sample_size(20);
    group.bench_function("special_sites_libc", |b| {
        b.iter(|| patch::special_sites(black_box(code), code_addr))
    });
    group.bench_function("references_libc", |b| {
        b.iter(|| {
            let mut refs = patch::References::new(code.len());
            refs.scan(0, black_box(code));
            refs
        })
    });
    group.bench_function("find_sites_libc", |b| {
        b.iter(|| patch::find_sites(black_box(code), code_addr))
    });
    group.finish();
}

fn vdso_image(c: &mut Criterion) {
    let symbols = [
        ("__vdso_clock_gettime", 0, 64),
        ("__vdso_gettimeofday", 64, 64),
        ("__vdso_time", 128, 32),
    ];
    c.bench_function("vdso_build", |b| {
        b.iter(|| vdso::build(black_box(&[0x90; 1024]), &symbols))
    });
}

criterion_group!(benches, elf_plan, initial_stack, patching, vdso_image);
criterion_main!(benches);
