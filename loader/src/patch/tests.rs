//! Rules of the choice, one site at a time. That plans are right on real code, and that stubs run, is shown by the
//! tests in `tests/`.

use super::*;

const ADDR: u64 = 0x5555_0000_1000;
const SYSCALL: &[u8] = &[0x0f, 0x05];
const CALL: &[u8] = &[0xe8, 0, 1, 0, 0];
const MOV_EAX_39: &[u8] = &[0xb8, 39, 0, 0, 0];
const CMP_RAX: &[u8] = &[0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff];
const RET: &[u8] = &[0xc3];

/// A text: 256 bytes of one-byte instructions, then the given pieces, the one named `SYSCALL` being the site, then
/// more one-byte instructions. Returns the text and the site's offset.
fn text(pieces: &[&[u8]]) -> (Vec<u8>, usize) {
    text_at(0, pieces)
}

/// The same, with the pieces moved on by some bytes, for alignment.
fn text_at(shift: usize, pieces: &[&[u8]]) -> (Vec<u8>, usize) {
    let mut code = vec![0x50; 256 + shift];
    let mut site = None;
    for piece in pieces {
        if *piece == SYSCALL && site.is_none() {
            site = Some(code.len());
        }
        code.extend_from_slice(piece);
    }
    code.extend([0xcc; 256]);
    (code, site.expect("a syscall"))
}

fn plan_text(text: &(Vec<u8>, usize)) -> Result<PatchPlan, Unpatchable> {
    plan(&Request {
        code: &text.0,
        code_addr: ADDR,
        site: ADDR + text.1 as u64,
    })
}

fn shape(text: &(Vec<u8>, usize)) -> (Form, i64, usize) {
    let plan = plan_text(text).unwrap();
    (
        plan.form,
        plan.patch_addr as i64 - plan.site as i64,
        plan.patch_len,
    )
}

fn obstacles(text: &(Vec<u8>, usize)) -> (Obstacle, Obstacle) {
    match plan_text(text) {
        Err(Unpatchable::NoRoom { before, behind, .. }) => (before, behind),
        other => panic!("{other:?}"),
    }
}

#[test]
fn followers_are_preferred() {
    assert_eq!(
        shape(&text(&[MOV_EAX_39, SYSCALL, CMP_RAX, RET])),
        (Form::Followers, 0, 8)
    );
    // Two short ones.
    assert_eq!(
        shape(&text(&[SYSCALL, &[0x89, 0xc7], &[0x31, 0xc0], RET])),
        (Form::Followers, 0, 6)
    );
}

#[test]
fn a_tail_takes_padding_up_to_the_next_function() {
    for pad in [
        &[0xcc, 0xcc][..],
        &[0x66, 0x90],
        &[0x90, 0x90],
        &[0x0f, 0x1f, 0x44, 0, 0],
    ] {
        assert_eq!(shape(&text(&[SYSCALL, RET, pad, RET])), (Form::Tail, 0, 5));
    }
    // Zeros count only up to an aligned address.
    assert_eq!(shape(&text_at(4, &[SYSCALL, RET, &[0; 9]])), (Form::Tail, 0, 5));
    assert_ne!(shape(&text_at(5, &[SYSCALL, RET, &[0; 9]])).0, Form::Tail);
    // At an aligned address a function may begin, with a nop like any other.
    let next = &[0x0f, 0x1f, 0x44, 0, 0];
    let crossing = text_at(13, &[SYSCALL, RET, next, RET]);
    assert_ne!(shape(&crossing).0, Form::Tail);
    // Code behind the return is no padding.
    assert_ne!(
        shape(&text(&[SYSCALL, RET, &[0x50, 0x50, 0x50, 0x50]])).0,
        Form::Tail
    );
}

#[test]
fn predecessors_move_where_nothing_behind_can() {
    assert_eq!(
        shape(&text(&[MOV_EAX_39, SYSCALL, CALL])),
        (Form::Predecessors, -5, 7)
    );
    assert_eq!(
        shape(&text(&[&[0x89, 0xf8], &[0x89, 0xf7], SYSCALL, CALL])),
        (Form::Predecessors, -4, 6)
    );
    // As few as it takes, then a follower.
    assert_eq!(
        shape(&text(&[&[0x89, 0xf8], SYSCALL, RET, CALL])),
        (Form::Predecessors, -2, 5)
    );
    // Too many would be needed.
    let (before, behind) = obstacles(&text(&[CALL, &[0x50, 0x50], SYSCALL, CALL]));
    assert_eq!(
        before,
        Obstacle::Fixed {
            addr: ADDR + 256,
            why: "it is a call"
        }
    );
    assert!(matches!(
        behind,
        Obstacle::Fixed {
            why: "it is a call",
            ..
        }
    ));
}

#[test]
fn what_follows_a_syscall_that_does_not_return_is_left_alone() {
    for number in [15u8, 60, 231] {
        let mov = [0xb8, number, 0, 0, 0];
        assert_eq!(
            shape(&text(&[&mov, SYSCALL, CMP_RAX, RET])),
            (Form::Predecessors, -5, 7)
        );
        let mov = [0x48, 0xc7, 0xc0, number, 0, 0, 0];
        assert_eq!(
            shape(&text(&[&mov, &[0x31, 0xff], SYSCALL, CMP_RAX])),
            (Form::Predecessors, -9, 11)
        );
    }
    for number in [15u8, 60] {
        let (push, pop) = ([0x6a, number], [0x58]);
        assert_eq!(
            shape(&text(&[&push, &pop, SYSCALL, CMP_RAX])),
            (Form::Predecessors, -3, 5)
        );
    }
    let mov = [0xb8, 61, 0, 0, 0];
    assert_eq!(shape(&text(&[&mov, SYSCALL, CMP_RAX, RET])).0, Form::Followers);
}

#[test]
fn entered_bytes_stay() {
    // A short jump from before to what follows the syscall.
    let (code, site) = text(&[&[0xeb, 0x07], MOV_EAX_39, SYSCALL, CMP_RAX, RET]);
    assert_eq!(shape(&(code, site)), (Form::Predecessors, -5, 7));
    // The same from behind.
    let back = text(&[MOV_EAX_39, SYSCALL, CMP_RAX, &[0x75, 0xf8], RET]);
    assert_eq!(shape(&back), (Form::Predecessors, -5, 7));
    // A far call to the same place: found wherever it is.
    let (mut code, site) = text(&[MOV_EAX_39, SYSCALL, CMP_RAX, RET]);
    code.resize(1 << 20, 0xcc);
    for at in [3, 100, (1 << 20) - 5] {
        let mut code = code.clone();
        let rel = (site as i64 + 2 - (at as i64 + 5)) as i32;
        code[at] = 0xe8;
        code[at + 1..at + 5].copy_from_slice(&rel.to_le_bytes());
        assert_eq!(shape(&(code, site)), (Form::Predecessors, -5, 7), "call at {at}");
    }
    // To the site itself: only the first byte may be entered, so it must come first.
    let at = text(&[&[0xeb, 0x05], MOV_EAX_39, SYSCALL, CMP_RAX]);
    assert_eq!(shape(&at), (Form::Followers, 0, 8));
    let both = text(&[&[0xeb, 0x05], MOV_EAX_39, SYSCALL, CALL]);
    assert!(matches!(
        obstacles(&both),
        (Obstacle::Entered(_), Obstacle::Fixed { .. })
    ));
    // Into the inside of an instruction: not a branch at all, except over a lock prefix.
    let inside = text(&[&[0xeb, 0x09], MOV_EAX_39, SYSCALL, CMP_RAX]);
    assert_eq!(shape(&inside).0, Form::Followers);
    let locked = text(&[&[0xeb, 0x08], MOV_EAX_39, SYSCALL, &[0xf0, 0x0f, 0xb1, 0x0f], RET]);
    assert_eq!(shape(&locked).0, Form::Predecessors);
}

#[test]
fn the_caller_may_know_more() {
    let (code, site) = text(&[MOV_EAX_39, SYSCALL, CMP_RAX, RET]);
    let req = Request {
        code: &code,
        code_addr: ADDR,
        site: ADDR + site as u64,
    };
    let form = |avoid: &Avoid<'_>| plan_avoiding(&req, avoid).map(|plan| plan.form);
    let site = req.site;
    assert_eq!(
        form(&Avoid {
            entries: &[site],
            taken: &[]
        }),
        Ok(Form::Followers)
    );
    assert_eq!(
        form(&Avoid {
            entries: &[1, site + 2, u64::MAX],
            taken: &[]
        }),
        Ok(Form::Predecessors)
    );
    assert_eq!(
        form(&Avoid {
            entries: &[site - 5],
            taken: &[]
        }),
        Ok(Form::Followers)
    );
    let taken = [(site + 7, site + 12)];
    assert_eq!(
        form(&Avoid {
            entries: &[],
            taken: &taken
        }),
        Ok(Form::Predecessors)
    );
    let both = [(site - 10, site - 4), (site + 2, site + 7)];
    let refused = plan_avoiding(
        &req,
        &Avoid {
            entries: &[],
            taken: &both,
        },
    )
    .unwrap_err();
    let (before, behind) = (Obstacle::Taken(site - 10), Obstacle::Taken(site + 2));
    assert_eq!(refused, Unpatchable::NoRoom { site, before, behind });
    assert!(refused.to_string().contains("is patched already"));
}

#[test]
fn some_instructions_never_move() {
    for fixed in [
        &[0xe8, 0, 0, 0, 0][..],         // call
        &[0xff, 0xd0, 0x90][..],         // call rax
        &[0x0f, 0xa2, 0x90],             // cpuid
        &[0x0f, 0x31, 0x90],             // rdtsc
        &[0x0f, 0x05, 0x90],             // another syscall
        &[0xf3, 0x0f, 0x1e, 0xfa],       // endbr64
        &[0xcc, 0x90, 0x90],             // int3
        &[0x0f, 0x0b, 0x90],             // ud2
        &[0xe3, 0x10, 0x90],             // jrcxz
        &[0xe2, 0x10, 0x90],             // loop
        &[0xf4, 0x90, 0x90],             // hlt
        &[0xc7, 0xf8, 0, 0, 0, 0],       // xbegin
        &[0x67, 0x8b, 0x05, 0, 0, 0, 0], // mov eax, [eip]
        &[0x66, 0xe9, 0, 0, 0, 0],       // jmp, 16 bits on AMD
        &[0x06, 0x90, 0x90],             // invalid
        &[0x90, 0x48, 0x89, 0xc7],       // a nop may be padding, so nothing behind it belongs here
    ] {
        let (_, behind) = obstacles(&text(&[CALL, SYSCALL, fixed]));
        assert!(matches!(behind, Obstacle::Fixed { .. }), "{fixed:x?}: {behind:?}");
    }
    for fixed in [
        &[0x0f, 0x1f, 0x40, 0x00][..],
        &[0xc3],
        &[0xeb, 0x00],
        &[0xff, 0xe0],
    ] {
        let (before, _) = obstacles(&text(&[fixed, SYSCALL, CALL]));
        assert!(
            matches!(before, Obstacle::Fixed { .. } | Obstacle::Entered(_)),
            "{fixed:x?}: {before:?}"
        );
    }
}

#[test]
fn an_endbr64_may_only_come_first() {
    let endbr = &[0xf3, 0x0f, 0x1e, 0xfa];
    assert_eq!(shape(&text(&[endbr, SYSCALL, CALL])), (Form::Predecessors, -4, 6));
    assert_eq!(
        shape(&text(&[endbr, &[0x89, 0xf8], SYSCALL, CALL])),
        (Form::Predecessors, -6, 8)
    );
}

#[test]
fn windows_may_be_narrow() {
    let (code, site) = text(&[MOV_EAX_39, SYSCALL, CMP_RAX, RET]);
    for (from, to) in [
        (0, code.len()),
        (site, site + 8),
        (site - 5, site + 8),
        (site - 20, site + 9),
    ] {
        let req = Request {
            code: &code[from..to],
            code_addr: ADDR + from as u64,
            site: ADDR + site as u64,
        };
        assert_eq!(plan(&req).unwrap().form, Form::Followers);
    }
    for (from, to) in [(site, site + 7), (site, site + 2)] {
        let req = Request {
            code: &code[from..to],
            code_addr: ADDR + from as u64,
            site: ADDR + site as u64,
        };
        let refused = plan(&req).unwrap_err();
        assert!(
            matches!(
                refused,
                Unpatchable::NoRoom {
                    before: Obstacle::Ambiguous(_),
                    ..
                }
            ),
            "{refused}"
        );
    }
    let outside = |site| {
        plan(&Request {
            code: &code,
            code_addr: ADDR,
            site,
        })
    };
    for addr in [
        0,
        ADDR - 1,
        ADDR + code.len() as u64,
        ADDR + code.len() as u64 - 1,
        u64::MAX,
    ] {
        assert_eq!(outside(addr), Err(Unpatchable::OutsideWindow(addr)));
    }
    assert_eq!(outside(ADDR), Err(Unpatchable::NotASyscall(ADDR)));
}

#[test]
fn reach() {
    let (code, site) = text(&[MOV_EAX_39, SYSCALL, &[0x48, 0x8b, 0x05, 0, 0, 0, 0x40], RET]);
    let plan = plan_text(&(code, site)).unwrap();
    assert!(plan.emit(ADDR + 0x1000_0000, 0).is_ok());
    // The operand is 1 GiB above: a stub 1.5 GiB below reaches the site, but not it.
    let far = plan.emit(ADDR - 0x6000_0000, 0).unwrap_err();
    assert!(
        matches!(
            far,
            Unpatchable::OutOfReach {
                what: "memory operand",
                ..
            }
        ),
        "{far}"
    );
    for stub in [0, ADDR + 0x1_0000_0000, u64::MAX - 4096] {
        let far = plan.emit(stub, 0).unwrap_err();
        assert!(
            matches!(far, Unpatchable::OutOfReach { what: "stub", .. }),
            "{far}"
        );
        assert_eq!(
            plan.site_bytes(stub),
            plan.original(),
            "what is out of reach is not written"
        );
    }
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let text = text(&[MOV_EAX_39, SYSCALL, &[0x74, 0x10], CMP_RAX, RET]);
    let (a, b) = (plan_text(&text).unwrap(), plan_text(&text).unwrap());
    assert_eq!(a, b);
    assert_eq!(
        a.emit(ADDR + 0x1_0000, 7).unwrap(),
        b.emit(ADDR + 0x1_0000, 7).unwrap()
    );
    // The short branch became a long one to the same place.
    let stub = a.emit(ADDR + 0x1_0000, 7).unwrap();
    let jcc = &stub.bytes[stub.ret_offset + 7..];
    let target = ADDR + text.1 as u64 + 4 + 0x10;
    let from = ADDR + 0x1_0000 + (stub.ret_offset + 7 + 6) as u64;
    assert_eq!((jcc[0], jcc[1]), (0x0f, 0x84));
    assert_eq!(
        i32::from_le_bytes(jcc[2..6].try_into().unwrap()),
        target.wrapping_sub(from) as i32
    );
}

#[test]
fn special_instructions() {
    let kind = |bytes: &[u8]| classify(bytes).map(|insn| (insn.kind, insn.len, insn.reg, insn.bits));
    assert_eq!(kind(&[0x0f, 0xa2]), Some((SpecialKind::Cpuid, 2, None, 32)));
    assert_eq!(kind(&[0x0f, 0x31, 0x90]), Some((SpecialKind::Rdtsc, 2, None, 32)));
    assert_eq!(
        kind(&[0x0f, 0x01, 0xf9]),
        Some((SpecialKind::Rdtscp, 3, None, 32))
    );
    assert_eq!(
        kind(&[0x0f, 0xc7, 0xf1]),
        Some((SpecialKind::Rdrand, 3, Some(1), 32))
    );
    assert_eq!(
        kind(&[0x66, 0x0f, 0xc7, 0xf1]),
        Some((SpecialKind::Rdrand, 4, Some(1), 16))
    );
    assert_eq!(
        kind(&[0x49, 0x0f, 0xc7, 0xf2]),
        Some((SpecialKind::Rdrand, 4, Some(10), 64))
    );
    assert_eq!(
        kind(&[0x48, 0x0f, 0xc7, 0xf8]),
        Some((SpecialKind::Rdseed, 4, Some(0), 64))
    );
    assert_eq!(
        kind(&[0xf3, 0x0f, 0xc7, 0xf8]),
        Some((SpecialKind::Rdpid, 4, Some(0), 64))
    );
    assert_eq!(
        kind(&[0x0f, 0x01, 0xd0]),
        Some((SpecialKind::Xgetbv, 3, None, 32))
    );
    assert_eq!(kind(&[0x0f, 0x01, 0xfd]), Some((SpecialKind::Rdpru, 3, None, 32)));
    // xsavec 0x40(%rsp), as ld.so has it
    let mem = |bytes: &[u8]| classify(bytes).and_then(|insn| insn.mem);
    let xsavec = [0x0f, 0xc7, 0x64, 0x24, 0x40];
    assert_eq!(kind(&xsavec), Some((SpecialKind::Xsavec, 5, None, 0)));
    let at = |base, index, disp, rip| MemOperand {
        base,
        index,
        disp,
        rip,
    };
    assert_eq!(mem(&xsavec), Some(at(Some(4), None, 0x40, false)));
    // xsave64 -8(%rdi,%r9,2); xsaveopt 0x10(%rip)
    let xsave = [0x4a, 0x0f, 0xae, 0x64, 0x4f, 0xf8];
    assert_eq!(kind(&xsave), Some((SpecialKind::Xsave, 6, None, 0)));
    assert_eq!(mem(&xsave), Some(at(Some(7), Some((9, 2)), -8i64 as u64, false)));
    let opt = [0x0f, 0xae, 0x35, 0x10, 0, 0, 0];
    assert_eq!(kind(&opt), Some((SpecialKind::Xsaveopt, 7, None, 0)));
    assert_eq!(mem(&opt), Some(at(None, None, 0x17, true)));
    for other in [
        &[0x0f, 0xae, 0xf0][..],            // mfence
        &[0x0f, 0xae, 0x44, 0x24, 0x40],    // fxsave
        &[0x0f, 0xae, 0x6c, 0x24, 0x40],    // xrstor
        &[0x64, 0x0f, 0xae, 0x64, 0x24, 8], // xsave with a segment
        &[],
        &[0x0f],
        &[0x0f, 0xc7],
        &[0x0f, 0x05],
        &[0x0f, 0xc7, 0x08],
        &[0x0f, 0x01, 0xf8],
        &[0xb8, 0x0f, 0xa2, 0, 0],
    ] {
        assert_eq!(kind(other), None, "{other:x?}");
    }
}

#[test]
fn special_sites_that_execution_reaches() {
    // jmp over data that looks like cpuid, to rdtsc; jnz back to xgetbv; ret; cpuid that nothing reaches
    let code = [
        0xeb, 0x06, 0x0f, 0xa2, 0x90, 0x0f, 0x01, 0xd0, // jmp +6; cpuid (dead); nop; xgetbv
        0x0f, 0x31, 0x75, 0xf9, 0xc3, 0x0f, 0xa2, // rdtsc; jnz -7 (xgetbv); ret; cpuid (dead)
    ];
    let found: Vec<_> = special_sites_from(&code, ADDR, ADDR)
        .into_iter()
        .map(|(at, insn)| (at - ADDR, insn.kind))
        .collect();
    assert_eq!(found, [(8, SpecialKind::Rdtsc), (5, SpecialKind::Xgetbv)]);
    assert!(special_sites_from(&code, ADDR, ADDR + 500).is_empty());
}

#[test]
fn special_sites_are_told_from_data() {
    // One real cpuid, and its bytes in an immediate and in a displacement.
    let mut code = vec![0x50; 128];
    let site = code.len() as u64;
    code.extend([0x0f, 0xa2]);
    code.extend([0x50; 128]);
    for _ in 0..4 {
        code.extend([0xb8, 0x0f, 0xa2, 0, 0]);
        code.extend([0x48, 0x8b, 0x80, 0x0f, 0x31, 0, 0]);
    }
    code.extend([0x50; 128]);
    let prefixed = code.len() as u64;
    code.extend([0x49, 0x0f, 0xc7, 0xf2]);
    code.extend([0x50; 64]);
    let found = special_sites(&code, ADDR);
    let got: Vec<(u64, SpecialKind, usize)> = found
        .iter()
        .map(|s| (s.addr - ADDR, s.insn.kind, s.insn.len))
        .collect();
    assert_eq!(
        got,
        [(site, SpecialKind::Cpuid, 2), (prefixed, SpecialKind::Rdrand, 4)]
    );
    // In the midst of tables it is data.
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    let mut data: Vec<u8> = (0..1 << 20).map(|_| random()).collect();
    for at in (256..data.len() - 256).step_by(4096) {
        data[at..at + 2].copy_from_slice(&[0x0f, 0xa2]);
    }
    let invented = special_sites(&data, ADDR).len();
    assert!(invented <= 8, "{invented} of 255 planted and about 100 by chance");
}

#[test]
fn sites_are_listed() {
    let (code, site) = text(&[MOV_EAX_39, SYSCALL, CMP_RAX, &[0xb8, 0x0f, 0x05, 0, 0]]);
    assert_eq!(find_sites(&code, ADDR), [ADDR + site as u64]);
    assert!(find_sites(&[], ADDR).is_empty());
    assert_eq!(find_sites(&[0x0f, 0x05], ADDR), [ADDR]);
}
