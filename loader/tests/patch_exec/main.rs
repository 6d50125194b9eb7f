//! Patched code executed and compared with the same code unpatched: registers, flags, memory, and at every single step
//! the address that the guest would be shown.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

mod machine;
mod snippets;

use ftl_loader::patch::{self, Form, PatchPlan, Request, Stub};
use machine::{Area, CODE_LEN, Regs, STUB_AT, Step, TURN, entries, entry, run};
use snippets::*;

/// Runs a snippet unpatched and patched from the same registers and compares all there is.
fn check(code: &[u8], expect: Form, inputs: &[(u64, u64)]) -> (PatchPlan, Stub) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let area = Area::new();
    // Nothing is known before the snippet but padding.
    let offset = 256;
    let mut page = vec![0xcc; CODE_LEN];
    page[offset..offset + code.len()].copy_from_slice(code);
    area.write(0, &page);
    let start = area.addr() + offset as u64;
    let sites = patch::find_sites(&page, area.addr());
    let [site] = sites[..] else {
        panic!("one syscall expected: {sites:x?}")
    };
    let plan = patch::plan(&Request {
        code: &page,
        code_addr: area.addr(),
        site,
    })
    .unwrap();
    assert_eq!(plan.form, expect);
    let stub_addr = area.addr() + STUB_AT as u64;
    let stub = plan.emit(stub_addr, entry()).unwrap();

    for &(rdi, rsi) in inputs {
        for stepping in [false, true] {
            let mut regs: Regs = std::array::from_fn(|i| 0x1111_1111_1111_1111 * i as u64);
            (regs[5], regs[4], regs[15]) = (rdi, rsi, 0x2);
            for flags in [0x2, 0x8d7] {
                regs[15] = flags;
                area.write(0, &page);
                let (want, want_steps) = run(&area, start, &regs, stepping);
                let want_page = area.read(0, CODE_LEN);

                area.write(0, &page);
                area.write(STUB_AT, &stub.bytes);
                area.write(
                    (plan.patch_addr - area.addr()) as usize,
                    &plan.site_bytes(stub_addr),
                );
                let entries_before = entries();
                let (got, got_steps) = run(&area, start, &regs, stepping);
                assert_eq!(got, want, "registers, stepping {stepping}");
                let mut got_page = area.read(0, CODE_LEN);
                let at = (plan.patch_addr - area.addr()) as usize;
                got_page[at..at + plan.patch_len].copy_from_slice(plan.original());
                assert_eq!(got_page, want_page, "memory");
                let entered = entries() - entries_before;
                if stepping {
                    compare_steps(&plan, &stub, stub_addr, &want_steps, &got_steps);
                    let syscalls = want_steps.iter().filter(|step| step.rip == site).count();
                    assert_eq!(entered, syscalls as u64, "each syscall goes through the entry");
                }
            }
        }
    }
    (plan, stub)
}

/// Maps every step in the stub back to the original address, and compares with the original run, registers included.
fn compare_steps(plan: &PatchPlan, stub: &Stub, stub_addr: u64, want: &[Step], got: &[Step]) {
    let mut mapped: Vec<Step> = Vec::new();
    for step in got {
        let mut step = step.clone();
        let off = step.rip.wrapping_sub(stub_addr);
        if off < stub.bytes.len() as u64 {
            step.rip = stub
                .site_of(off as u32)
                .expect("every step begins an instruction of the map");
            if off == stub.ret_offset as u64 {
                step.regs[2] = step.rip; // as documented: who shows this context puts it in
            }
            if mapped.last().is_some_and(|last| last.rip == step.rip) {
                continue; // the stub's own instructions belong to the site
            }
        } else if step.rip == plan.patch_addr {
            // The jump itself: what it stands for comes next.
            continue;
        } else if mapped.last().is_some_and(|last| last.rip == step.rip) {
            continue; // the way back shows its target before it gets there
        }
        mapped.push(step);
    }
    // A handler of the real thing would be shown TF in neither run; and a repeated address in the original run (a
    // string instruction) is one step here.
    let mut want = want.to_vec();
    want.dedup_by(|next, last| next.rip == last.rip);
    // The processor takes no step right after a return from the kernel, so the original run does not show this one.
    want.retain(|step| step.rip != plan.site + 2);
    mapped.retain(|step| step.rip != plan.site + 2);
    assert_eq!(mapped, want);
}

const BOTH: &[(u64, u64)] = &[(0, 0), (1, 0), (0, 1), (39, 39)];

#[test]
fn followers() {
    for code in [
        glibc_wrapper::bytes(),
        failing_call::bytes(),
        short_jcc_first::bytes(),
        rip_operand::bytes(),
        flags_and_red_zone::bytes(),
        movabs_follows::bytes(),
        rcx_and_r11_are_read::bytes(),
        locked::bytes(),
        string_op::bytes(),
        loop_at::bytes(),
        loop_over::bytes(),
        target_at::bytes(),
    ] {
        check(&code, Form::Followers, BOTH);
    }
}

#[test]
fn tails() {
    for code in [tail_ret::bytes(), tail_ret_nops::bytes()] {
        let (plan, stub) = check(&code, Form::Tail, BOTH);
        assert_eq!(plan.patch_len, 5);
        assert!(stub.stub_of(plan.site + 2).is_some());
    }
}

#[test]
fn a_jump_that_follows_moves() {
    // jmp and the int3 behind it, which nothing reaches.
    check(&jmp_follows::bytes(), Form::Tail, BOTH);
}

#[test]
fn predecessors() {
    for code in [
        mov_precedes::bytes(),
        rip_operand_precedes::bytes(),
        jcc_precedes::bytes(),
        target_behind::bytes(),
        endbr_first::bytes(),
    ] {
        check(&code, Form::Predecessors, BOTH);
    }
    check(&two_precede::bytes(), Form::Predecessors, &[(1, 39), (2, 102)]);
}

#[test]
fn contexts_move_both_ways() {
    let (plan, stub) = check(&glibc_wrapper::bytes(), Form::Followers, BOTH);
    let lea = stub.stub_of(plan.site).unwrap();
    assert_eq!(stub.bytes[lea as usize..][..3], [0x48, 0x8d, 0x0d]);
    let after = stub.stub_of(plan.site + 2).unwrap();
    assert_eq!(after as usize, stub.ret_offset + 7, "behind the reload of rcx");
    assert_eq!(stub.site_of(stub.ret_offset as u32), Some(plan.site + 2));
    assert_eq!(stub.stub_of(plan.site + 1), None);
    assert_eq!(stub.stub_of(plan.site - 100), None);
    assert_eq!(stub.site_of(lea + 1), None);
}
