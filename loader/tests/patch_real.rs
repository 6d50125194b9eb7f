//! Patch plans for every `syscall` of real binaries, checked against a full disassembly of their sections and their
//! symbols: what a plan must not see, a test may.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

mod common;

use ftl_loader::patch::{self, Avoid, Form, PatchPlan, Request};
use goblin::elf::Elf;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Mnemonic, OpKind};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// An executable segment, and what is true of it.
struct Text {
    name: String,
    code: Vec<u8>,
    addr: u64,
    /// Instruction starts.
    starts: BTreeSet<u64>,
    /// Targets of direct branches, symbols, and other known entries.
    entered: BTreeSet<u64>,
    /// Jump tables: what code loads the address of, and soon reads 32-bit distances from.
    tables: BTreeSet<u64>,
    table_targets: usize,
    sites: Vec<u64>,
    /// cpuid and its kin: address and length.
    special: BTreeMap<u64, usize>,
}

fn texts(path: &str) -> Vec<Text> {
    let file = std::fs::read(path).unwrap();
    let elf = Elf::parse(&file).unwrap();
    let symbols: Vec<u64> = elf
        .syms
        .iter()
        .chain(elf.dynsyms.iter())
        .map(|sym| sym.st_value)
        .collect();
    let loads = elf
        .program_headers
        .iter()
        .filter(|ph| ph.p_type == 1 && ph.is_executable());
    loads
        .map(|ph| {
            let code = file[ph.file_range()].to_vec();
            let range = ph.p_vaddr..ph.p_vaddr + ph.p_filesz;
            let mut text = Text {
                name: path.to_string(),
                code,
                addr: ph.p_vaddr,
                starts: BTreeSet::new(),
                entered: symbols
                    .iter()
                    .copied()
                    .filter(|addr| range.contains(addr))
                    .collect(),
                tables: BTreeSet::new(),
                table_targets: 0,
                sites: Vec::new(),
                special: BTreeMap::new(),
            };
            let sections = elf
                .section_headers
                .iter()
                .filter(|sh| sh.is_executable() && range.contains(&sh.sh_addr));
            let ranges: Vec<(u64, u64)> = sections.map(|sh| (sh.sh_addr, sh.sh_size)).collect();
            for (addr, size) in ranges {
                sweep(&mut text, addr, size);
            }
            add_jump_tables(&mut text, &file, &elf);
            text
        })
        .collect()
}

fn sweep(text: &mut Text, addr: u64, size: u64) {
    let from = (addr - text.addr) as usize;
    let code = text.code[from..from + size as usize].to_vec();
    let mut recent: Vec<(u64, u64)> = Vec::new();
    for insn in Decoder::with_ip(64, &code, addr, DecoderOptions::NONE).iter() {
        recent.retain(|lea| insn.ip() - lea.0 < 64);
        if insn.mnemonic() == Mnemonic::Movsxd && insn.memory_index_scale() == 4 {
            text.tables.extend(recent.iter().map(|lea| lea.1));
        }
        text.starts.insert(insn.ip());
        if insn.op_count() > 0 && insn.op0_kind() == OpKind::NearBranch64 {
            text.entered.insert(insn.near_branch_target());
        }
        if insn.is_ip_rel_memory_operand() {
            text.entered.insert(insn.ip_rel_memory_address());
            if insn.mnemonic() == Mnemonic::Lea {
                recent.push((insn.ip(), insn.ip_rel_memory_address()));
            }
        }
        match insn.mnemonic() {
            Mnemonic::Cpuid | Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Rdrand | Mnemonic::Rdseed => {
                text.special.insert(insn.ip(), insn.len());
            }
            Mnemonic::Rdpid
            | Mnemonic::Xgetbv
            | Mnemonic::Xsave
            | Mnemonic::Xsave64
            | Mnemonic::Xsaveopt
            | Mnemonic::Xsaveopt64
            | Mnemonic::Xsavec
            | Mnemonic::Xsavec64 => {
                text.special.insert(insn.ip(), insn.len());
            }
            _ => {}
        }
        if insn.code() == Code::Syscall {
            text.sites.push(insn.ip());
        }
    }
}

/// Jump tables: 32-bit distances from a table that text refers to, or pointers, as long as they lead into text.
fn add_jump_tables(text: &mut Text, file: &[u8], elf: &Elf<'_>) {
    let end = text.addr + text.code.len() as u64;
    let mut targets = Vec::new();
    for data in elf
        .program_headers
        .iter()
        .filter(|ph| ph.p_type == 1 && !ph.is_executable())
    {
        let bytes = &file[data.file_range()];
        let word = |addr: u64| {
            let at = addr.checked_sub(data.p_vaddr)? as usize;
            bytes
                .get(at..at + 4)
                .map(|word| i32::from_le_bytes(word.try_into().unwrap()))
        };
        for &table in &text.tables {
            let next = text
                .tables
                .range(table + 1..)
                .next()
                .map_or(u64::MAX, |next| *next);
            let entries = (0..)
                .map(|i| table + 4 * i)
                .take_while(|at| *at < next)
                .map_while(word);
            let entries = entries.map(|distance| table.wrapping_add(distance as u64));
            targets.extend(entries.take_while(|target| (text.addr..end).contains(target)));
        }
        let pointers = bytes
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        targets.extend(pointers.filter(|target| (text.addr..end).contains(target)));
    }
    let relocations = elf
        .dynrelas
        .iter()
        .filter_map(|rela| rela.r_addend)
        .map(|addend| addend as u64);
    targets.extend(relocations.filter(|target| (text.addr..end).contains(target)));
    text.table_targets = targets.len();
    // Only instruction starts: tables overlap with other data.
    targets.retain(|target| text.starts.contains(target));
    text.entered.extend(targets);
}

/// What must hold of a plan, seen with everything that the disassembly knows.
fn check_plan(text: &Text, plan: &PatchPlan) {
    let name = format!("{} {:#x}", text.name, plan.site);
    let end = plan.patch_end();
    assert!(
        plan.patch_len >= 5 && plan.patch_addr <= plan.site && plan.site + 2 <= end,
        "{name}"
    );
    let at = (plan.patch_addr - text.addr) as usize;
    assert_eq!(plan.original(), &text.code[at..at + plan.patch_len], "{name}");
    let inside: Vec<u64> = text.entered.range(plan.patch_addr + 1..end).copied().collect();
    assert!(inside.is_empty(), "{name}: entered at {inside:x?}");
    for insn in plan.before().chain(plan.after()) {
        assert!(
            text.starts.contains(&insn.ip()),
            "{name}: no instruction begins at {:#x}",
            insn.ip()
        );
        assert!(!text.special.contains_key(&insn.ip()), "{name}");
        let call = matches!(insn.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        assert!(!call, "{name}");
    }
    let after_leaves = plan
        .after()
        .last()
        .is_some_and(|insn| insn.flow_control() != FlowControl::Next)
        && !plan.after().last().unwrap().is_jcc_short_or_near();
    assert!(
        after_leaves || text.starts.contains(&end),
        "{name}: the way back leads into an instruction"
    );

    let delta = 0x5555_4321_0000u64.wrapping_sub(text.addr & !0xfff);
    let code_addr = text.addr.wrapping_add(delta);
    let req = Request {
        code: &text.code,
        code_addr,
        site: plan.site.wrapping_add(delta),
    };
    // Unless a neighbour's patch made the difference, planning there gives the same.
    let there = patch::plan(&req).unwrap();
    if there.patch_addr == plan.patch_addr.wrapping_add(delta) {
        assert_eq!(plan.rebased(delta), there, "{name}: elsewhere");
    }
    let entry = 0x7c00_1234_5678;
    let stub_addr = text.addr.wrapping_sub(0x10_0000);
    let stub = plan.emit(stub_addr, entry).unwrap();
    assert!(stub.bytes.len() <= patch::STUB_MAX);
    assert!(stub.bytes.ends_with(&entry.to_le_bytes()));
    // The stub's instructions begin exactly where the map says.
    let code_len = stub.bytes.len() - 8;
    let starts: Vec<u32> = Decoder::with_ip(64, &stub.bytes[..code_len], stub_addr, DecoderOptions::NONE)
        .iter()
        .filter(|insn| insn.mnemonic() != Mnemonic::Int3)
        .map(|insn| (insn.ip() - stub_addr) as u32)
        .collect();
    assert_eq!(
        starts,
        stub.rip_map.iter().map(|pair| pair.stub_off).collect::<Vec<_>>(),
        "{name}"
    );
    assert!(starts.contains(&(stub.ret_offset as u32)));
    // Every original instruction start has its place in the stub, and that place leads back to it.
    for addr in text.starts.range(plan.patch_addr..end) {
        let dead = plan.form == Form::Tail && *addr > plan.after().last().unwrap().ip();
        if !dead {
            let off = stub
                .stub_of(*addr)
                .unwrap_or_else(|| panic!("{name}: {addr:#x} has no place in the stub"));
            assert_eq!(stub.site_of(off), Some(*addr), "{name}");
        }
    }
    let jump = Decoder::with_ip(
        64,
        &plan.site_bytes(stub_addr),
        plan.patch_addr,
        DecoderOptions::NONE,
    )
    .decode();
    assert_eq!(
        (jump.code(), jump.near_branch_target()),
        (Code::Jmp_rel32_64, stub_addr),
        "{name}"
    );
}

#[derive(Debug, Default)]
struct Count {
    sites: usize,
    forms: BTreeMap<Form, usize>,
    refused: Vec<String>,
    missed: usize,
    invented: usize,
    /// cpuid and its kin: found, missed, invented.
    special: [usize; 3],
}

fn survey(path: &str) -> Count {
    let mut count = Count::default();
    for text in texts(path) {
        println!("{path}: {} entries by tables and pointers", text.table_targets);
        let listed: BTreeSet<u64> = patch::find_sites(&text.code, text.addr).into_iter().collect();
        let truth: BTreeSet<u64> = text.sites.iter().copied().collect();
        count.missed += truth.difference(&listed).count();
        count.invented += listed.difference(&truth).count();
        let all = |code: &[u8], addr: u64| -> BTreeSet<u64> {
            let found = patch::special_sites(code, addr).into_iter();
            found.map(|site| site.addr).collect()
        };
        let special = all(&text.code, text.addr);
        // A search piece by piece finds the same.
        let around = patch::SPECIAL_AROUND as usize;
        let mut pieces = BTreeSet::new();
        for at in (0..text.code.len()).step_by(4096) {
            let (from, to) = (at.saturating_sub(around), text.code.len().min(at + 4096 + around));
            let here = text.addr + at as u64..text.addr + at as u64 + 4096;
            let found = all(&text.code[from..to], text.addr + from as u64);
            pieces.extend(found.into_iter().filter(|s| here.contains(s)));
        }
        assert_eq!(special, pieces, "{path}");
        let truth: BTreeSet<u64> = text.special.keys().copied().collect();
        for addr in truth.symmetric_difference(&special) {
            println!("special {addr:#x} true {}", truth.contains(addr));
        }
        count.special[0] += special.intersection(&truth).count();
        count.special[1] += truth.difference(&special).count();
        count.special[2] += special.difference(&truth).count();
        for addr in listed.difference(&text.sites.iter().copied().collect()) {
            println!("invented site {addr:#x}");
        }
        for addr in text.sites.iter().filter(|addr| !listed.contains(addr)) {
            println!("missed site {addr:#x}");
        }
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for &site in &text.sites {
            count.sites += 1;
            let req = Request {
                code: &text.code,
                code_addr: text.addr,
                site,
            };
            match patch::plan_avoiding(
                &req,
                &Avoid {
                    taken: &taken,
                    entries: &[],
                },
            ) {
                Ok(plan) => {
                    check_plan(&text, &plan);
                    *count.forms.entry(plan.form).or_default() += 1;
                    taken.push((plan.patch_addr, plan.patch_end()));
                }
                Err(why) => count.refused.push(why.to_string()),
            }
        }
    }
    println!("{path}: {count:#?}");
    count
}

/// All sites are known and patchable (one in a hundred may not be, on another system than the one this was written on).
fn check_survey(path: &str) {
    let count = survey(path);
    assert!(
        count.refused.len() * 100 <= count.sites,
        "{path}: {:#?}",
        count.refused
    );
    assert_eq!((count.missed, count.invented), (0, 0), "{path}: listed sites");
    assert_eq!(count.special[1..], [0, 0], "{path}: cpuid and its kin");
}

fn go_hello() -> String {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let source = format!("{dir}/hello.go");
    std::fs::write(&source, "package main\nimport (\"fmt\"; \"net\"; \"os\")\nfunc main() { fmt.Println(\"hi\", os.Getpid()); net.Listen(\"tcp\", \"x\") }\n").unwrap();
    let out = format!("{dir}/hello-go");
    let status = Command::new("go")
        .args(["build", "-o", &out, &source])
        .env("GOFLAGS", "")
        .status()
        .unwrap();
    assert!(status.success());
    out
}

#[test]
fn glibc() {
    check_survey("/lib/x86_64-linux-gnu/libc.so.6");
    check_survey("/lib64/ld-linux-x86-64.so.2");
}

#[test]
fn busybox() {
    check_survey("/bin/busybox");
}

#[test]
fn musl() {
    check_survey("/usr/lib/x86_64-linux-musl/libc.so");
}

#[test]
fn go() {
    check_survey(&go_hello());
}

/// Any files: `FTL_SURVEY="/usr/bin/node ..." cargo test -p ftl-loader --release --test patch_real -- --ignored --nocapture`.
#[test]
#[ignore = "asserts on plans only, of files that the caller names: a tool to look at a program"]
fn survey_files() {
    let files = std::env::var("FTL_SURVEY").expect("FTL_SURVEY names the files");
    for path in files.split_whitespace() {
        survey(path);
    }
}
