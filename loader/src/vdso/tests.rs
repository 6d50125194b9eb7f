//! Lookups as libcs do them, written from their rules; and goblin's and readelf's opinion.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

use super::*;

fn half(image: &[u8], at: u64) -> u64 {
    u64::from(u16::from_le_bytes(
        image[at as usize..at as usize + 2].try_into().unwrap(),
    ))
}

fn word(image: &[u8], at: u64) -> u64 {
    u64::from(u32::from_le_bytes(
        image[at as usize..at as usize + 4].try_into().unwrap(),
    ))
}

fn long(image: &[u8], at: u64) -> u64 {
    u64::from_le_bytes(image[at as usize..at as usize + 8].try_into().unwrap())
}

fn name(image: &[u8], at: u64) -> &str {
    let bytes = image[at as usize..].split(|&byte| byte == 0).next().unwrap();
    std::str::from_utf8(bytes).unwrap()
}

/// What all of them read first: PT_LOAD's base and the dynamic entries.
struct Dynamic {
    base: u64,
    entries: Vec<(u64, u64)>,
}

impl Dynamic {
    fn read(image: &[u8]) -> Dynamic {
        let (mut base, mut dynamic) = (None, None);
        for i in 0..half(image, 56) {
            let ph = long(image, 32) + i * half(image, 54);
            match word(image, ph) {
                1 => base = base.or(Some(long(image, ph + 8).wrapping_sub(long(image, ph + 16)))),
                2 => {
                    assert_eq!(word(image, ph + 4) & 2, 0, "glibc would write to it");
                    dynamic = Some(long(image, ph + 8));
                }
                _ => {}
            }
        }
        let mut at = dynamic.unwrap();
        let mut entries = Vec::new();
        while long(image, at) != 0 {
            entries.push((long(image, at), long(image, at + 8)));
            at += 16;
        }
        Dynamic {
            base: base.unwrap(),
            entries,
        }
    }

    fn get(&self, tag: u64) -> Option<u64> {
        self.entries
            .iter()
            .find(|entry| entry.0 == tag)
            .map(|entry| self.base.wrapping_add(entry.1))
    }
}

/// musl: all symbols in turn, counted by DT_HASH, of any data or code type, with the version's name.
fn lookup_as_musl(image: &[u8], version: &str, wanted: &str) -> Option<u64> {
    let dynamic = Dynamic::read(image);
    let (strings, symbols, hash) = (dynamic.get(5)?, dynamic.get(6)?, dynamic.get(4)?);
    let verdef = dynamic.get(0x6fff_fffc);
    let versym = dynamic.get(0x6fff_fff0).filter(|_| verdef.is_some());
    for i in 0..word(image, hash + 4) {
        let sym = symbols + i * 24;
        let info = u64::from(image[sym as usize + 4]);
        let type_ok = [0, 1, 2, 5].contains(&(info & 15));
        let bind_ok = [1, 2, 10].contains(&(info >> 4));
        if !type_ok
            || !bind_ok
            || half(image, sym + 6) == 0
            || name(image, strings + word(image, sym)) != wanted
        {
            continue;
        }
        if let (Some(versym), Some(mut def)) = (versym, verdef) {
            let index = half(image, versym + 2 * i) & 0x7fff;
            let matches = loop {
                if half(image, def + 2) & 1 == 0 && half(image, def + 4) & 0x7fff == index {
                    break name(image, strings + word(image, def + word(image, def + 12))) == version;
                }
                match word(image, def + 16) {
                    0 => break false,
                    next => def += next,
                }
            };
            if !matches {
                continue;
            }
        }
        return Some(dynamic.base.wrapping_add(long(image, sym + 8)));
    }
    None
}

/// Go and glibc: through a hash table; a function that is global or weak, of the version's index.
fn lookup_by_hash(image: &[u8], version: &str, wanted: &str, gnu: bool) -> Option<u64> {
    let dynamic = Dynamic::read(image);
    let (strings, symbols) = (dynamic.get(5)?, dynamic.get(6)?);
    let versym = dynamic.get(0x6fff_fff0)?;
    let mut def = dynamic.get(0x6fff_fffc)?;
    let index = loop {
        let aux = def + word(image, def + 12);
        let found = word(image, def + 8) == u64::from(tables::sysv_hash(version))
            && name(image, strings + word(image, aux)) == version;
        if half(image, def + 2) & 1 == 0 && found {
            break half(image, def + 4) & 0x7fff;
        }
        match word(image, def + 16) {
            0 => return None,
            next => def += next,
        }
    };
    let check = |i: u64| {
        let sym = symbols + i * 24;
        let info = u64::from(image[sym as usize + 4]);
        let ok = info & 15 == 2 && [1, 2].contains(&(info >> 4)) && half(image, sym + 6) != 0;
        let right = ok && name(image, strings + word(image, sym)) == wanted;
        (right && half(image, versym + 2 * i) & 0x7fff == index)
            .then(|| dynamic.base.wrapping_add(long(image, sym + 8)))
    };
    if !gnu {
        let hash = dynamic.get(4)?;
        let (buckets, head) = (word(image, hash), u64::from(tables::sysv_hash(wanted)));
        let mut i = word(image, hash + 8 + 4 * (head % buckets));
        while i != 0 {
            if let Some(found) = check(i) {
                return Some(found);
            }
            i = word(image, hash + 8 + 4 * (buckets + i));
        }
        return None;
    }
    let hash = dynamic.get(0x6fff_fef5)?;
    let [buckets, first, bloom_len, shift] = [0, 4, 8, 12].map(|at| word(image, hash + at));
    let wanted_hash = u64::from(tables::gnu_hash(wanted));
    let bloom = long(image, hash + 16 + 8 * (wanted_hash / 64 % bloom_len));
    if bloom >> (wanted_hash % 64) & bloom >> ((wanted_hash >> shift) % 64) & 1 == 0 {
        return None;
    }
    let heads = hash + 16 + 8 * bloom_len;
    let chain = heads + 4 * buckets;
    let mut i = word(image, heads + 4 * (wanted_hash % buckets));
    if i < first {
        return None;
    }
    loop {
        let entry = word(image, chain + 4 * (i - first));
        if let Some(found) = check(i).filter(|_| entry | 1 == wanted_hash | 1) {
            return Some(found);
        }
        if entry & 1 != 0 {
            return None;
        }
        i += 1;
    }
}

const SYMBOLS: &[(&str, u32, u32)] = &[
    ("__vdso_clock_gettime", 0, 32),
    ("__vdso_gettimeofday", 32, 32),
    ("__vdso_time", 64, 16),
    ("__vdso_clock_getres", 80, 16),
    ("__vdso_getcpu", 96, 16),
    ("ftl_private", 112, 8),
];

#[test]
fn every_libc_finds_every_symbol() {
    for count in 1..=SYMBOLS.len() {
        let symbols = &SYMBOLS[..count];
        let code: Vec<u8> = (0..120u8).collect();
        let image = build(&code, symbols);
        let text = code_offset(symbols);
        assert_eq!(text, 4096);
        assert_eq!(image[text as usize..], code);
        let all_lookups = |version: &str, name: &str| {
            let found = lookup_as_musl(&image, version, name);
            assert_eq!(lookup_by_hash(&image, version, name, false), found, "{name}");
            assert_eq!(lookup_by_hash(&image, version, name, true), found, "{name}");
            found
        };
        for &(name, offset, _) in symbols {
            let want = Some(text + u64::from(offset));
            assert_eq!(all_lookups("LINUX_2.6", name), want);
            if let Some(alias) = name.strip_prefix(PREFIX) {
                assert_eq!(all_lookups("LINUX_2.6", alias), want);
            }
            assert_eq!(all_lookups("LINUX_2.5", name), None);
        }
        assert_eq!(all_lookups("LINUX_2.6", "__vdso_sgx_enter_enclave"), None);
        assert_eq!(all_lookups("LINUX_2.6", ""), None);
    }
}

#[test]
fn goblin_reads_it() {
    let image = build(&[0xc3; 120], SYMBOLS);
    let elf = goblin::elf::Elf::parse(&image).unwrap();
    assert_eq!(elf.soname, Some(SONAME));
    let dynamic = elf.dynamic.as_ref().unwrap();
    assert_eq!(dynamic.info.hash, Some(elf.section_headers[HASH].sh_addr));
    let names: Vec<&str> = elf
        .dynsyms
        .iter()
        .skip(1)
        .filter_map(|sym| elf.dynstrtab.get_at(sym.st_name))
        .collect();
    assert_eq!(
        names.len(),
        2 * SYMBOLS.len(),
        "all but one have an alias, and there is the version"
    );
    assert!(names.contains(&"clock_gettime") && names.contains(&"LINUX_2.6"));
    let verdef = elf.verdef.as_ref().unwrap();
    assert_eq!(verdef.iter().count(), 2);
    let plan = crate::elf::plan(&image, image.len() as u64).unwrap();
    assert_eq!((plan.segments.len(), plan.lo, plan.hi), (1, 0, 2 * PAGE));
    assert_eq!(plan.phdr_vaddr, Some(64));
}

#[test]
fn readelf_reads_it_without_a_warning() {
    let image = build(&[0xc3; 120], SYMBOLS);
    let path = std::env::temp_dir().join(format!("ftl-vdso-{}.so", std::process::id()));
    std::fs::write(&path, &image).unwrap();
    let out = std::process::Command::new("readelf")
        .args(["-a", "-W", "--debug-dump=frames"])
        .arg(&path)
        .output();
    std::fs::remove_file(&path).unwrap();
    let out = out.expect("binutils");
    let (text, talk) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success() && talk.is_empty(), "{talk}");
    assert!(
        !text.to_lowercase().contains("warning") && !text.contains("<corrupt"),
        "{text}"
    );
    for wanted in [
        "Library soname: [linux-vdso.so.1]",
        "clock_gettime@@LINUX_2.6",
        "DW_CFA_def_cfa: r7 (rsp) ofs 8",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
}

#[test]
fn many_symbols_move_the_code() {
    let names: Vec<String> = (0..200).map(|i| format!("__vdso_function_{i}")).collect();
    let symbols: Vec<(&str, u32, u32)> = names.iter().map(|name| (name.as_str(), 0, 1)).collect();
    let image = build(&[0xc3], &symbols);
    let text = code_offset(&symbols);
    assert!(text > 4096 && text.is_multiple_of(4096));
    for name in &names {
        assert_eq!(lookup_by_hash(&image, VERSION, name, true), Some(text));
        assert_eq!(lookup_as_musl(&image, VERSION, name), Some(text));
    }
    // None at all is a vDSO too.
    assert!(goblin::elf::Elf::parse(&build(&[], &[])).is_ok());
}

#[test]
#[should_panic(expected = "lies outside the code")]
fn symbols_lie_within_the_code() {
    build(&[0xc3; 10], &[("__vdso_time", 8, 3)]);
}
