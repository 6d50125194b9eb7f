use super::*;

/// A program header of a test file, in the order type, flags, offset, vaddr, filesz, memsz, align.
type Ph = (u32, u32, u64, u64, u64, u64, u64);

const LOAD: u32 = program_header::PT_LOAD;
const INTERP: u32 = program_header::PT_INTERP;
const STACK: u32 = program_header::PT_GNU_STACK;

/// A file header with the program headers right after it.
fn file(e_type: u16, entry: u64, phdrs: &[Ph]) -> Vec<u8> {
    let mut out = vec![0u8; EHDR_LEN];
    out[..4].copy_from_slice(header::ELFMAG);
    out[4] = header::ELFCLASS64;
    out[5] = header::ELFDATA2LSB;
    out[6] = 1;
    out[16..18].copy_from_slice(&e_type.to_le_bytes());
    out[18..20].copy_from_slice(&header::EM_X86_64.to_le_bytes());
    out[20] = 1;
    out[24..32].copy_from_slice(&entry.to_le_bytes());
    out[32..40].copy_from_slice(&(EHDR_LEN as u64).to_le_bytes());
    out[52..54].copy_from_slice(&(EHDR_LEN as u16).to_le_bytes());
    out[54..56].copy_from_slice(&(PHDR_LEN as u16).to_le_bytes());
    out[56..58].copy_from_slice(&(phdrs.len() as u16).to_le_bytes());
    for &(p_type, flags, offset, vaddr, filesz, memsz, align) in phdrs {
        out.extend_from_slice(&p_type.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        for word in [offset, vaddr, vaddr, filesz, memsz, align] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out
}

fn exec(phdrs: &[Ph]) -> Result<ElfPlan, ElfError> {
    let head = file(header::ET_EXEC, 0x40_1000, phdrs);
    plan(&head, 0x10_0000)
}

#[test]
fn a_small_program() {
    let plan = exec(&[
        (INTERP, 4, 0x300, 0x40_0300, 28, 28, 1),
        (LOAD, 4, 0, 0x40_0000, 0x400, 0x400, 0x1000),
        (LOAD, 5, 0x1000, 0x40_1000, 0x123, 0x123, 0x1000),
        (LOAD, 6, 0x2e10, 0x40_3e10, 0x230, 0x3000, 0x1000),
        (STACK, 6, 0, 0, 0, 0, 16),
    ])
    .unwrap();
    assert_eq!(plan.kind, Kind::Exec);
    assert_eq!(plan.phdr_vaddr, Some(0x40_0040));
    assert_eq!((plan.phnum, plan.phentsize), (5, 56));
    assert_eq!(plan.interp, Some((0x300, 28)));
    assert!(!plan.exec_stack);
    assert_eq!((plan.lo, plan.hi, plan.align), (0x40_0000, 0x40_7000, 0x1000));
    let r = SegFlags::R;
    let w = SegFlags::W;
    let x = SegFlags::X;
    let op = |addr, len, prot, file, zero_from| MapOp {
        addr,
        len,
        prot,
        file,
        zero_from,
    };
    assert_eq!(
        map_ops(&plan, 0),
        [
            op(0x40_0000, 0x1000, r, Some(0), None),
            op(0x40_1000, 0x1000, r | x, Some(0x1000), None),
            op(0x40_3000, 0x2000, r | w, Some(0x2000), Some(0x40_4040)),
            op(0x40_5000, 0x2000, r | w, None, None),
        ]
    );
}

#[test]
fn bss_follows_linux() {
    let ops = |ph: Ph| map_ops(&exec(&[ph]).unwrap(), 0);
    // File bytes end on a page boundary: nothing to zero, anonymous pages follow at once.
    let got = ops((LOAD, 6, 0x1000, 0x40_1000, 0x1000, 0x1001, 0x1000));
    assert_eq!(
        (got.len(), got[0].zero_from, got[1].addr, got[1].len),
        (2, None, 0x40_2000, 0x1000)
    );
    // .bss ends in the last file page: zeroed to the page end, no anonymous page.
    let got = ops((LOAD, 6, 0x1000, 0x40_1000, 0x10, 0x20, 0x1000));
    assert_eq!((got.len(), got[0].zero_from), (1, Some(0x40_1010)));
    // A segment that may not be written keeps the file's bytes; its anonymous pages may be written all the same.
    let got = ops((LOAD, 5, 0x1000, 0x40_1000, 0x10, 0x2000, 0x1000));
    assert_eq!((got[0].zero_from, got[1].prot), (None, SegFlags::all()));
    // Pure .bss: anonymous from the page of its start, whatever the offset is.
    let got = ops((LOAD, 6, 0x1234_5678_9abc, 0x40_1010, 0, 0x2000, 0x1000));
    assert_eq!(
        (got.len(), got[0].addr, got[0].len, got[0].file),
        (1, 0x40_1000, 0x3000, None)
    );
    // An empty segment maps nothing but does not stand in the way.
    let two = exec(&[(LOAD, 6, 0, 0x40_1000, 0, 0, 0), (LOAD, 6, 0, 0x40_2000, 0, 1, 0)]).unwrap();
    assert_eq!((two.segments.len(), two.lo), (1, 0x40_2000));
}

#[test]
fn bias() {
    let phdrs = [(LOAD, 5, 0, 0x1000, 0x100, 0x100, 0x20_0000)];
    let plan = plan(&file(header::ET_DYN, 0x1000, &phdrs), 0x1000).unwrap();
    assert_eq!(plan.align, 0x20_0000);
    assert_eq!(plan.bias_for(0x7f00_0020_1000), Some(0x7f00_0020_0000));
    assert_eq!(plan.bias_for(0x7f00_0020_5000), Some(0x7f00_0020_0000));
    assert_eq!(plan.bias_for(TASK_SIZE), Some(0x7fff_ffe0_0000));
    assert_eq!(plan.bias_for(u64::MAX), None);
    assert_eq!(plan.bias_for(0), None);
    let ops = map_ops(&plan, 0x7f00_0020_0000);
    assert_eq!(ops[0].addr, 0x7f00_0020_1000);
    // Linked high, loaded low: the bias is negative.
    let high = [(LOAD, 5, 0, 0x5000_0000_0000, 0x100, 0x100, 0x1000)];
    let plan = super::plan(&file(header::ET_DYN, 0x5000_0000_0000, &high), 0x1000).unwrap();
    let bias = plan.bias_for(0x1_0000).unwrap();
    assert_eq!(map_ops(&plan, bias)[0].addr, 0x1_0000);
    // Fixed programs go where they want or nowhere.
    let fixed = exec(&[(LOAD, 5, 0x1000, 0x40_1000, 16, 16, 0x1000)]).unwrap();
    assert_eq!(
        (fixed.bias_for(0x40_1000), fixed.bias_for(0x40_2000)),
        (Some(0), None)
    );
}

#[test]
fn each_cause_has_its_error() {
    let good: Ph = (LOAD, 5, 0x1000, 0x40_1000, 0x100, 0x100, 0x1000);
    let head = file(header::ET_EXEC, 0x40_1000, &[good]);
    let with = |at: usize, bytes: &[u8]| {
        let mut head = head.clone();
        head[at..at + bytes.len()].copy_from_slice(bytes);
        plan(&head, 0x2000).unwrap_err()
    };
    assert_eq!(plan(b"", 0), Err(truncated("ELF magic", 4, 0)));
    assert_eq!(plan(b"\x7fE", 2), Err(truncated("ELF magic", 4, 2)));
    assert_eq!(plan(b"#!/bin/sh\n", 10), Err(ElfError::NotElf));
    assert_eq!(plan(&head[..19], 19), Err(truncated("ELF file header", 64, 19)));
    assert_eq!(plan(&head[..63], 63), Err(truncated("ELF file header", 64, 63)));
    assert_eq!(
        plan(&head[..64], 64),
        Err(truncated("program header table", 120, 64))
    );
    assert_eq!(plan(&head, 119), Err(truncated("program header table", 120, 119)));
    assert_eq!(with(4, &[1]), ElfError::Class32 { machine: "x32" });
    assert_eq!(with(4, &[9]), ElfError::BadClass(9));
    assert_eq!(with(5, &[9]), ElfError::BadEncoding(9));
    assert_eq!(
        with(18, &[183, 0]),
        ElfError::ForeignMachine {
            machine: 183,
            name: "aarch64"
        }
    );
    assert_eq!(
        with(18, &[243, 0]),
        ElfError::ForeignMachine {
            machine: 243,
            name: "riscv"
        }
    );
    assert_eq!(with(16, &[1]), ElfError::Relocatable);
    assert_eq!(with(16, &[4]), ElfError::Core);
    assert_eq!(with(16, &[7]), ElfError::BadType(7));
    assert_eq!(with(54, &[57]), ElfError::PhentSize(57));
    assert_eq!(with(56, &[0, 0]), ElfError::PhCount(0));
    assert_eq!(with(56, &[0xff, 0xff]), ElfError::PhCount(0xffff));
    assert_eq!(
        with(32, &[0xff; 8]),
        truncated("program header table", u64::MAX, 120)
    );
    assert_eq!(with(64, &[6]), ElfError::NoLoad);
    assert_eq!(with(24, &[0xff; 8]), ElfError::EntryOutside { entry: u64::MAX });
    let big = {
        let mut head = head.clone();
        head[5] = 2;
        head[18..20].copy_from_slice(&[0, 22]);
        plan(&head, 0x2000).unwrap_err()
    };
    assert_eq!(big, ElfError::BigEndian { machine: "s390" });
    assert_eq!(
        big.to_string(),
        "big-endian ELF file for s390: only little-endian x86_64 programs run"
    );
    let i386 = {
        let mut head = head.clone();
        head[4] = 1;
        head[18] = 3;
        plan(&head, 0x2000).unwrap_err()
    };
    assert_eq!(
        i386.to_string(),
        "32-bit ELF file for i386: only 64-bit programs run"
    );
}

#[test]
fn each_segment_fault_has_its_error() {
    let load = |offset, vaddr, filesz, memsz, align| {
        exec(&[(LOAD, 5, offset, vaddr, filesz, memsz, align)]).unwrap_err()
    };
    assert_eq!(
        load(0, 0x40_0000, 2, 1, 0),
        ElfError::FileszAboveMemsz { index: 0 }
    );
    for (vaddr, memsz) in [
        (u64::MAX - 4095, 8192),
        (TASK_SIZE, 1),
        (0x1000, u64::MAX),
        (TASK_SIZE - 4096, 4097),
    ] {
        assert_eq!(
            load(0, vaddr, 0, memsz, 0),
            ElfError::OutOfAddressSpace {
                index: 0,
                vaddr,
                memsz
            }
        );
    }
    assert_eq!(
        load(0, 0x40_0000, 1, 1, 3),
        ElfError::BadAlign { index: 0, align: 3 }
    );
    assert_eq!(
        load(0, 0x40_0000, 1, 1, 1 << 63),
        ElfError::BadAlign {
            index: 0,
            align: 1 << 63
        }
    );
    assert_eq!(
        load(1, 0x40_0000, 1, 1, 1),
        ElfError::Incongruent {
            index: 0,
            vaddr: 0x40_0000,
            offset: 1
        }
    );
    for (offset, filesz) in [(0xf_f000, 0x1001), (u64::MAX - 0xfff, 0x2000), (0x10_0000, 1)] {
        let want = ElfError::BeyondFile {
            index: 0,
            offset,
            filesz,
            file_len: 0x10_0000,
        };
        assert_eq!(load(offset, 0x40_0000, filesz, 0x2000, 0x1000), want);
    }
    let a = (LOAD, 5, 0x1000, 0x40_1000, 0x100, 0x1100, 0x1000);
    let b = (LOAD, 6, 0x2000, 0x40_2000, 0x100, 0x100, 0x1000);
    assert_eq!(
        exec(&[b, a]).unwrap_err(),
        ElfError::Overlap { first: 1, second: 0 }
    );
    // Sharing a page is not an overlap.
    let b = (LOAD, 6, 0x2100, 0x40_2100, 0x100, 0x100, 0x1000);
    assert_eq!(exec(&[b, a]).unwrap().segments.len(), 2);
}

#[test]
fn interpreter() {
    let good: Ph = (LOAD, 5, 0x1000, 0x40_1000, 0x100, 0x100, 0x1000);
    let interp = |offset, len, tail: &[u8]| {
        let mut head = file(header::ET_DYN, 0, &[(INTERP, 4, offset, 0, len, len, 1), good]);
        head.extend_from_slice(tail);
        plan(&head, 0x2000).map(|plan| plan.interp)
    };
    let at = (EHDR_LEN + 2 * PHDR_LEN) as u64;
    assert_eq!(interp(at, 8, b"/lib/ld\0"), Ok(Some((at, 8))));
    assert_eq!(interp(at, 7, b"/lib/ld\0"), Err(ElfError::InterpNotTerminated));
    assert_eq!(interp(at, 1, b"\0"), Err(ElfError::InterpLen { len: 1 }));
    assert_eq!(interp(at, 4097, b"\0"), Err(ElfError::InterpLen { len: 4097 }));
    assert_eq!(
        interp(0x1fff, 2, b""),
        Err(truncated("interpreter path", 0x2001, 0x2000))
    );
    assert_eq!(
        interp(u64::MAX, 2, b""),
        Err(truncated("interpreter path", u64::MAX, 0x2000))
    );
    let wraps = file(header::ET_DYN, 0, &[(INTERP, 4, u64::MAX - 1, 0, 4, 4, 1), good]);
    assert_eq!(
        plan(&wraps, u64::MAX),
        Err(truncated("interpreter path", u64::MAX, u64::MAX))
    );
    // Beyond the head: taken on trust, the caller checks it.
    assert_eq!(interp(0x1000, 8, b""), Ok(Some((0x1000, 8))));
    assert_eq!(interp_path(b"/lib/ld\0"), Ok(&b"/lib/ld"[..]));
    assert_eq!(interp_path(b"/a\0b\0"), Ok(&b"/a"[..]));
    assert_eq!(interp_path(b"/a"), Err(ElfError::InterpNotTerminated));
    assert_eq!(interp_path(b""), Err(ElfError::InterpNotTerminated));
}

#[test]
fn executable_stack() {
    let good: Ph = (LOAD, 5, 0x1000, 0x40_1000, 0x100, 0x100, 0x1000);
    assert!(!exec(&[good]).unwrap().exec_stack);
    assert!(exec(&[good, (STACK, 7, 0, 0, 0, 0, 16)]).unwrap().exec_stack);
}

#[test]
fn head_length() {
    let head = file(header::ET_EXEC, 0, &[(LOAD, 5, 0, 0, 1, 1, 1); 3]);
    assert_eq!(head_len_needed(&head[..64]), Ok(64 + 3 * 56));
    assert_eq!(
        plan(&head, 64 + 3 * 56).unwrap_err(),
        ElfError::Overlap { first: 0, second: 1 }
    );
    let mut far = head.clone();
    far[32..40].copy_from_slice(&0x1234u64.to_le_bytes());
    assert_eq!(head_len_needed(&far[..64]), Ok(0x1234 + 3 * 56));
    assert!(head_len_needed(&head[..63]).is_err());
}
