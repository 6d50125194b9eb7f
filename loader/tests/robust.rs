//! Hostile input: random bytes, and real files with bits flipped, bytes overwritten and ends cut off. Nothing may panic,
//! hang or give a plan outside the file or the address space. The properties are those of the fuzz targets.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

#[path = "../fuzz/src/check.rs"]
mod check;

use ftl_loader::{elf, stack};
use proptest::collection::vec;
use proptest::prelude::*;

/// A change to some bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Byte(usize, u8),
    Long(usize, u64),
    Cut(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let interesting = prop_oneof![
        any::<u64>(),
        any::<u16>().prop_map(u64::from),
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..64u32, 0..3u64).prop_map(|(bit, less)| (1u64 << bit).wrapping_sub(less)),
    ];
    prop_oneof![
        (any::<usize>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        any::<(usize, u8)>().prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (any::<usize>(), interesting).prop_map(|(at, value)| Damage::Long(at, value)),
        any::<usize>().prop_map(Damage::Cut),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let len = bytes.len().max(1);
    match *damage {
        Damage::Flip(at, bit) => bytes
            .get_mut(at % len)
            .into_iter()
            .for_each(|byte| *byte ^= 1 << bit),
        Damage::Byte(at, value) => bytes.get_mut(at % len).into_iter().for_each(|byte| *byte = value),
        // Fields of headers lie at multiples of eight.
        Damage::Long(at, value) => {
            let at = (at % len) & !7;
            if let Some(field) = bytes.get_mut(at..at + 8) {
                field.copy_from_slice(&value.to_le_bytes());
            }
        }
        Damage::Cut(at) => bytes.truncate(at % (len + 1)),
    }
}

fn heads() -> Vec<(Vec<u8>, u64)> {
    let paths = [
        "/bin/true",
        "/bin/busybox",
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/ld-linux-x86-64.so.2",
    ];
    let head = |path: &&str| {
        let file = std::fs::read(path).unwrap();
        let need = elf::head_len_needed(&file[..64]).unwrap();
        (file[..need].to_vec(), file.len() as u64)
    };
    paths.iter().map(head).collect()
}

/// Some text of a libc, around a syscall.
fn libc_text(nth: usize, before: usize, behind: usize) -> (Vec<u8>, u64) {
    use std::sync::OnceLock;
    static TEXT: OnceLock<(Vec<u8>, u64, Vec<u64>)> = OnceLock::new();
    let (code, addr, sites) = TEXT.get_or_init(|| {
        let file = std::fs::read("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
        let plan = elf::plan(&file, file.len() as u64).unwrap();
        let text = plan
            .segments
            .iter()
            .find(|segment| segment.flags.contains(elf::SegFlags::X))
            .unwrap();
        let code = file[text.offset as usize..(text.offset + text.filesz) as usize].to_vec();
        let sites = ftl_loader::patch::find_sites(&code, text.vaddr);
        (code, text.vaddr, sites)
    });
    let at = (sites[nth % sites.len()] - addr) as usize;
    let from = at.saturating_sub(before);
    (
        code[from..(at + behind).min(code.len())].to_vec(),
        addr + from as u64,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn elf_random(data in vec(any::<u8>(), 0..512)) {
        check::elf(&data);
    }

    /// A valid file header before random program headers, so that they are looked at.
    #[test]
    fn elf_random_headers(dynamic: bool, count in 0..6u16, rest in vec(any::<u8>(), 0..400), kinds in vec(0..9u32, 6)) {
        let mut data = heads()[0].0[..64].to_vec();
        data[16] = 2 + u8::from(dynamic);
        data[32..40].copy_from_slice(&64u64.to_le_bytes());
        data[56..58].copy_from_slice(&count.to_le_bytes());
        data.extend(rest);
        for (i, kind) in kinds.iter().enumerate() {
            if let Some(field) = data.get_mut(64 + i * 56..68 + i * 56) {
                field.copy_from_slice(&kind.to_le_bytes());
            }
        }
        check::elf(&data);
    }

    #[test]
    fn elf_damaged(which in 0..4usize, damages in vec(damage(), 1..6), len in any::<u32>()) {
        let (mut head, file_len) = heads().swap_remove(which);
        for damage in &damages {
            apply(&mut head, damage);
        }
        check::elf_head(&head, file_len);
        check::elf_head(&head, u64::from(len));
        check::elf(&head);
    }

    #[test]
    fn script_random(data in vec(prop_oneof![Just(b' '), Just(b'\t'), Just(b'\n'), Just(0u8), Just(b'a')], 0..300)) {
        check::script(&data);
        check::script(&[b"#!", data.as_slice()].concat());
    }

    #[test]
    fn stack_random(
        argv in vec(vec(any::<u8>(), 0..40), 0..6),
        envp in vec(vec(1..=255u8, 0..40), 0..6),
        aux in vec(any::<(u8, u64)>(), 0..8),
        top in prop_oneof![0..4096u64, any::<u64>()],
        limit in 0..1000u64,
    ) {
        let aux: Vec<(u64, u64)> = aux.into_iter().map(|(kind, value)| (u64::from(kind), value)).collect();
        let (execfn, platform) = (&b"/x"[..], &b"x86_64"[..]);
        let spec = stack::StackSpec { top, argv: &argv, envp: &envp, execfn, random: [9; 16], platform, aux };
        if let Ok(built) = stack::build(&spec, limit) {
            prop_assert!(built.sp % 16 == 0 && built.sp + built.bytes.len() as u64 == top);
            prop_assert!(built.sp < built.arg_start && built.arg_start < built.arg_end);
            prop_assert!(built.arg_end == built.env_start && built.env_start <= built.env_end && built.env_end < top);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patch_random(addr: u64, mut code in vec(any::<u8>(), 0..600), sites in vec(any::<usize>(), 0..4)) {
        let len = code.len().max(2);
        for site in sites {
            if let Some(pair) = code.get_mut(site % len..site % len + 2) {
                pair.copy_from_slice(&[0x0f, 0x05]);
            }
        }
        check::patch(&[&addr.to_le_bytes(), code.as_slice()].concat());
    }

    /// Bytes that mean something: branches, prefixes, syscalls, padding.
    #[test]
    fn patch_dense(addr: u64, code in vec(prop_oneof![
        Just(vec![0x0f, 0x05]), Just(vec![0xc3]), Just(vec![0x90]), Just(vec![0xcc]), Just(vec![0]), Just(vec![0x48, 0x89, 0xc7]),
        any::<u8>().prop_map(|rel| vec![0xeb, rel]), any::<u8>().prop_map(|rel| vec![0x75, rel]),
        any::<u8>().prop_map(|rel| vec![0xe8, rel, 0, 0, 0]), any::<u8>().prop_map(|rel| vec![0x8b, 0x05, rel, 0, 0, 0]),
        Just(vec![0xb8, 39, 0, 0, 0]), Just(vec![0x0f, 0xa2]), Just(vec![0x0f, 0x31]), Just(vec![0xf3, 0x0f, 0x1e, 0xfa]),
    ], 0..200)) {
        check::patch(&[&addr.to_le_bytes()[..], &code.concat()].concat());
    }

    #[test]
    fn patch_damaged(nth: usize, before in 0..700usize, behind in 2..300usize, damages in vec(damage(), 0..8)) {
        let (mut code, addr) = libc_text(nth, before, behind);
        for damage in &damages {
            apply(&mut code, damage);
        }
        check::patch_text(&code, addr);
    }
}
