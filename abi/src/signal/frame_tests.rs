use super::*;

const XLEN: usize = 832;

fn xstate() -> Vec<u8> {
    let mut x = vec![0u8; XLEN];
    x[..2].copy_from_slice(&FCW_DEFAULT.to_le_bytes());
    x[XSAVE_MXCSR..XSAVE_MXCSR + 4].copy_from_slice(&MXCSR_DEFAULT.to_le_bytes());
    x[XSAVE_XMM] = 0xaa;
    x[576] = 0xbb;
    x[XSAVE_BV] = 7;
    x
}

fn action(flags: u64) -> SigAction {
    SigAction {
        handler: 0x1000,
        flags: flags | sa::RESTORER,
        restorer: 0x2000,
        mask: 0,
    }
}

fn frame(regs: &[u64; 16], alt: AltStack, flags: u64) -> Option<Frame> {
    let x = xstate();
    build(
        &Interrupted {
            regs,
            rip: 0x40_1234,
            rflags: 0x246,
            mask: 0x1234,
            altstack: alt,
            trap: (14, 6, 0x10),
            xstate: &x,
            xcr0: 7,
        },
        &action(flags),
        &SigInfo::user(10, 0, 77, 1000),
    )
}

/// The offsets that a native C program prints for struct ucontext_t of glibc.
#[test]
fn layout_is_libc_s() {
    let regs = std::array::from_fn(|i| {
        if i == reg::RSP {
            0x7fff_0000_1008
        } else {
            100 + i as u64
        }
    });
    let f = frame(&regs, AltStack::default(), sa::SIGINFO).unwrap();
    assert_eq!(f.bytes.len(), 440);
    assert_eq!(f.sp % 16, 8, "as after a call");
    assert_eq!(f.fp % 64, 0);
    assert!(f.fp + f.fp_bytes.len() as u64 <= regs[reg::RSP] - 128, "red zone");
    let uc = |at: usize| u64_at(&f.bytes, 8 + at);
    assert_eq!(uc(0), 7);
    // gregs[] of mcontext_t: R8..R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, EFL, CSGSFS, ERR, TRAPNO, OLDMASK, CR2
    let order = [
        reg::R8,
        reg::R9,
        reg::R10,
        reg::R11,
        reg::R12,
        reg::R13,
        reg::R14,
        reg::R15,
        reg::RDI,
        reg::RSI,
        reg::RBP,
        reg::RBX,
        reg::RDX,
        reg::RAX,
        reg::RCX,
        reg::RSP,
    ];
    for (i, r) in order.iter().enumerate() {
        assert_eq!(uc(40 + i * 8), regs[*r]);
    }
    assert_eq!(uc(40 + 16 * 8), 0x40_1234, "REG_RIP");
    assert_eq!(uc(40 + 17 * 8), 0x246, "REG_EFL");
    assert_eq!(uc(40 + 18 * 8), 0x002b_0000_0000_0033, "REG_CSGSFS");
    assert_eq!(uc(40 + 19 * 8), 6, "REG_ERR");
    assert_eq!(uc(40 + 20 * 8), 14, "REG_TRAPNO");
    assert_eq!(uc(40 + 21 * 8), 0x1234, "REG_OLDMASK");
    assert_eq!(uc(40 + 22 * 8), 0x10, "REG_CR2");
    assert_eq!(uc(224), f.fp, "fpregs");
    assert_eq!(uc(296), 0x1234, "uc_sigmask");
    let info = 312;
    assert_eq!(u32_at(&f.bytes, info), 10);
    assert_eq!(u32_at(&f.bytes, info + 16), 77);
    assert_eq!(u32_at(&f.bytes, info + 20), 1000);
    assert_eq!(u32_at(&f.fp_bytes, SW_BYTES), MAGIC1);
    assert_eq!(u32_at(&f.fp_bytes, SW_BYTES + 4) as usize, XLEN + 4);
    assert_eq!(u32_at(&f.fp_bytes, XLEN), MAGIC2);
}

#[test]
fn a_frame_returns_to_what_it_was_made_from() {
    let regs = std::array::from_fn(|i| {
        if i == reg::RSP {
            0x7fff_0000_1000
        } else {
            7 * i as u64
        }
    });
    let f = frame(&regs, AltStack::default(), 0).unwrap();
    assert_eq!(f.bytes.len(), 312, "siginfo only with SA_SIGINFO");
    let head = Head::read_from_bytes(&f.bytes[..]).unwrap();
    let (back, rip, flags) = registers(&head, 0x202).unwrap();
    assert_eq!(back, regs);
    assert_eq!((rip, flags), (0x40_1234, 0x246));
    let legacy: &[u8; 512] = f.fp_bytes[..512].try_into().unwrap();
    assert_eq!(extent(legacy, XLEN), Extent::Full(XLEN, 7));
    let x = loadable(&f.fp_bytes[..XLEN], Some(7), 7, XLEN).unwrap();
    assert_eq!(x, xstate());
}

#[test]
fn privileged_and_broken_values_do_not_come_back() {
    let regs = [0x7fff_0000_1000; 16];
    let f = frame(&regs, AltStack::default(), 0).unwrap();
    let mut head = Head::read_from_bytes(&f.bytes[..]).unwrap();
    head.mc.flags = u64::MAX;
    // IOPL, IF, NT, VM, VIF, VIP, ID are the kernel's.
    assert_eq!(registers(&head, 0x202).unwrap().2, 0x202 | FIX_EFLAGS);
    head.mc.cs = 0x23;
    assert!(registers(&head, 0x202).is_none(), "32-bit code");
    let mut area = f.fp_bytes.clone();
    area[XSAVE_BV + 1] = 0xff;
    assert!(
        loadable(&area[..XLEN], Some(7), 7, XLEN).is_none(),
        "unknown feature"
    );
    let mut area = f.fp_bytes.clone();
    area[XSAVE_BV + 15] = 0x80;
    assert!(
        loadable(&area[..XLEN], Some(7), 7, XLEN).is_none(),
        "compacted format"
    );
    let mut area = f.fp_bytes.clone();
    area[XSAVE_MXCSR + 3] = 1;
    assert!(
        loadable(&area[..XLEN], Some(7), 7, XLEN).is_none(),
        "reserved MXCSR bit"
    );
    let mut legacy: [u8; 512] = f.fp_bytes[..512].try_into().unwrap();
    legacy[SW_BYTES] = 0;
    assert_eq!(extent(&legacy, XLEN), Extent::Legacy);
    let only = loadable(&legacy, None, 7, XLEN).unwrap();
    assert_eq!((only[XSAVE_XMM], only[576], only[XSAVE_BV]), (0xaa, 0, 3));
}

#[test]
fn the_alternate_stack_is_used_and_its_end_respected() {
    let alt = AltStack {
        sp: 0x10_0000,
        flags: 0,
        size: 0x4000,
    };
    let regs = [0x7fff_0000_1000; 16];
    let f = frame(&regs, alt, sa::ONSTACK).unwrap();
    assert!(f.sp > 0x10_0000 && f.sp < 0x10_4000);
    let f = frame(&regs, alt, 0).unwrap();
    assert!(f.sp > 0x7000_0000_0000, "not asked for");
    let mut on = [0; 16];
    on[reg::RSP] = 0x10_3000;
    let f = frame(&on, alt, sa::ONSTACK).unwrap();
    assert!(f.sp < 0x10_3000, "nested: below the interrupted frame");
    on[reg::RSP] = 0x10_0200;
    assert!(frame(&on, alt, sa::ONSTACK).is_none(), "overflow");
    let small = AltStack { size: 512, ..alt };
    assert!(frame(&regs, small, sa::ONSTACK).is_none());
}
