//! Properties of the decoders, for any bytes. Each function panics if one does not hold.

use ftl_loader::elf::{self, ElfError, ElfPlan, Kind, MapOp, SegFlags};
use ftl_loader::patch::{self, Avoid, PatchPlan, Request, Unpatchable};
use ftl_loader::{PAGE, TASK_SIZE, script};

/// The head of an ELF file; the file's length is taken from the data's end, so that it varies too.
pub fn elf(data: &[u8]) {
    elf_head(data, data.len() as u64);
    let tail: [u8; 8] = match data.last_chunk() {
        Some(tail) => *tail,
        None => return,
    };
    elf_head(data, u64::from_le_bytes(tail));
    elf_head(data, u64::MAX);
}

/// The head of an ELF file that is said to have this length.
pub fn elf_head(head: &[u8], file_len: u64) {
    let need = elf::head_len_needed(&head[..head.len().min(64)]);
    match elf::plan(head, file_len) {
        Ok(plan) => {
            let need = need.expect("what has a plan has a length");
            assert!(need <= head.len() && need as u64 <= file_len);
            assert_eq!(
                elf::plan(&head[..need], file_len).as_ref().map(|p| &p.segments),
                Ok(&plan.segments)
            );
            check_plan(&plan, file_len);
        }
        Err(ElfError::Truncated { need, have, .. }) => assert!(need > have || need == u64::MAX),
        Err(why) => assert!(!why.to_string().contains('\n')),
    }
}

fn check_plan(plan: &ElfPlan, file_len: u64) {
    assert!(!plan.segments.is_empty() && plan.segments.len() <= usize::from(plan.phnum));
    assert!(plan.align.is_power_of_two() && plan.align >= PAGE);
    assert!(plan.lo < plan.hi && plan.hi <= TASK_SIZE && plan.entry < TASK_SIZE);
    for segment in &plan.segments {
        assert!(segment.memsz > 0 && segment.filesz <= segment.memsz);
        assert!(plan.lo <= segment.vaddr && segment.vaddr + segment.memsz <= plan.hi);
        if segment.filesz > 0 {
            assert!(segment.offset + segment.filesz <= file_len);
        }
    }
    if let Some((offset, len)) = plan.interp {
        assert!((2..=4096).contains(&len) && offset + len as u64 <= file_len);
    }
    let bases = [
        0,
        plan.lo,
        PAGE,
        0x5555_5555_4000,
        TASK_SIZE - PAGE,
        TASK_SIZE,
        u64::MAX,
    ];
    let biases = bases.iter().filter_map(|&base| plan.bias_for(base));
    assert!(plan.kind == Kind::Dyn || biases.clone().all(|bias| bias == 0));
    for bias in biases.chain([0]) {
        let ops = elf::map_ops(plan, bias);
        for op in &ops {
            check_op(op, plan, bias, file_len);
        }
        for segment in &plan.segments {
            for addr in [segment.vaddr, segment.vaddr + segment.memsz - 1] {
                let addr = addr.wrapping_add(bias);
                assert!(
                    ops.iter().any(|op| op.addr <= addr && addr - op.addr < op.len),
                    "all is mapped"
                );
            }
        }
    }
}

fn check_op(op: &MapOp, plan: &ElfPlan, bias: u64, file_len: u64) {
    assert!(op.len > 0 && op.len.is_multiple_of(PAGE) && op.addr.is_multiple_of(PAGE));
    let (lo, hi) = (plan.lo.wrapping_add(bias), plan.hi.wrapping_add(bias));
    assert!(
        lo <= op.addr
            && op
                .addr
                .checked_add(op.len)
                .is_some_and(|end| end <= hi && end <= TASK_SIZE)
    );
    if let Some(offset) = op.file {
        assert!(offset.is_multiple_of(PAGE) && offset < file_len);
        assert!(
            op.len - 1 <= (file_len - offset - 1) | (PAGE - 1),
            "no page lies wholly beyond the file"
        );
    }
    if let Some(zero) = op.zero_from {
        assert!(op.file.is_some() && op.prot.contains(SegFlags::W) && !zero.is_multiple_of(PAGE));
        assert_eq!(zero / PAGE, (op.addr + op.len - 1) / PAGE, "in the last page");
    }
}

/// A `#!` line.
pub fn script(data: &[u8]) {
    match script::parse(data) {
        None => assert!(!data.starts_with(b"#!")),
        Some(Err(_)) => assert!(data.starts_with(b"#!")),
        Some(Ok(script)) => {
            assert!(data.starts_with(b"#!"));
            let head = &data[..data.len().min(script::HEAD_LEN)];
            let parts = [Some(&script.interp), script.arg.as_ref()];
            for part in parts.into_iter().flatten().filter(|part| !part.is_empty()) {
                assert!(
                    head.windows(part.len()).any(|at| at == part.as_slice()),
                    "it is in the line"
                );
                assert!(!part.contains(&0) && !part.contains(&b'\n'));
            }
            assert!(script.arg.is_none() || !script.interp.iter().any(|&byte| byte == b' ' || byte == b'\t'));
            // What lies beyond the limit does not matter.
            assert_eq!(script::parse(head), Some(Ok(script)));
        }
    }
}

/// Text with its address in the first eight bytes: every `syscall` in it is planned, whatever it is.
pub fn patch(data: &[u8]) {
    let Some((addr, code)) = data.split_first_chunk::<8>() else {
        return;
    };
    let raw = u64::from_le_bytes(*addr);
    // Mostly user addresses, sometimes not.
    let addr = if raw.is_multiple_of(8) {
        raw
    } else {
        raw % TASK_SIZE
    };
    patch_text(code, addr);
    for site in patch::find_sites(code, addr) {
        let at = site.wrapping_sub(addr) as usize;
        assert_eq!(code[at..at + 2], [0x0f, 0x05]);
    }
    for site in patch::special_sites(code, addr) {
        let at = site.addr.wrapping_sub(addr) as usize;
        assert_eq!(patch::classify(&code[at..]), Some(site.insn));
        assert!(site.insn.len >= 2 && at + site.insn.len <= code.len());
    }
}

/// Plans every `syscall` of a text, each staying clear of those before it.
pub fn patch_text(code: &[u8], addr: u64) {
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for (at, pair) in code.windows(2).enumerate().take(4096) {
        let site = addr.wrapping_add(at as u64);
        let req = Request {
            code,
            code_addr: addr,
            site,
        };
        if pair != [0x0f, 0x05] {
            if at < 8 {
                assert!(patch::plan(&req).is_err());
            }
            continue;
        }
        match patch::plan_avoiding(
            &req,
            &Avoid {
                taken: &taken,
                entries: &[site.wrapping_add(3)],
            },
        ) {
            Ok(plan) => {
                check_patch(&req, &plan);
                assert!(
                    taken
                        .iter()
                        .all(|&(from, to)| plan.patch_end() <= from || to <= plan.patch_addr)
                );
                taken.push((plan.patch_addr, plan.patch_end()));
            }
            Err(why) => assert!(!matches!(
                why,
                Unpatchable::SelfCheck(_) | Unpatchable::OutOfReach { .. }
            )),
        }
        assert_eq!(patch::plan(&req), patch::plan(&req), "the same each time");
    }
}

fn check_patch(req: &Request<'_>, plan: &PatchPlan) {
    let from = (plan.patch_addr - req.code_addr) as usize;
    assert_eq!(plan.original(), &req.code[from..from + plan.patch_len]);
    assert!(plan.patch_len >= patch::JUMP_LEN && plan.patch_len < 64);
    assert!(plan.patch_addr <= plan.site && plan.site + 2 <= plan.patch_end());
    let moved: usize = plan.before().map(|insn| insn.len()).sum();
    assert_eq!(plan.site - plan.patch_addr, moved as u64);
    for stub_addr in [
        plan.site.wrapping_add(0x10_0000),
        plan.site.wrapping_sub(0x7000_0003),
        0,
        u64::MAX - 7,
    ] {
        match plan.emit(stub_addr, 0x1122_3344_5566_7788) {
            Ok(stub) => {
                assert!(stub.bytes.len() <= patch::STUB_MAX && stub.ret_offset < stub.bytes.len());
                assert!(
                    stub.rip_map
                        .windows(2)
                        .all(|pair| pair[0].stub_off < pair[1].stub_off)
                );
                assert_eq!(stub.site_of(stub.ret_offset as u32), Some(plan.site + 2));
                let site_bytes = plan.site_bytes(stub_addr);
                assert_eq!((site_bytes.len(), site_bytes[0]), (plan.patch_len, 0xe9));
                let moved = plan
                    .rebased(0x1000)
                    .emit(stub_addr.wrapping_add(0x1000), 0x1122_3344_5566_7788)
                    .unwrap();
                assert_eq!(moved.ret_offset, stub.ret_offset);
            }
            Err(Unpatchable::OutOfReach { .. }) => {}
            Err(why) => panic!("{why}"),
        }
    }
}
