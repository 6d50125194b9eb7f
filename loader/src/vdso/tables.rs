//! The tables of a shared object's dynamic symbols: strings, symbols, both hash tables, versions.

use std::collections::BTreeMap;

/// Version index of all our symbols; 1 is the object's own name.
const VERSION_INDEX: u16 = 2;
const STB_GLOBAL: u8 = 1;
const STB_WEAK: u8 = 2;
const STT_OBJECT: u8 = 1;
const STT_FUNC: u8 = 2;
const SHN_ABS: u16 = 0xfff1;
const VER_FLG_BASE: u16 = 1;

/// A symbol to be defined.
pub struct Symbol {
    pub name: String,
    pub value: u64,
    pub size: u64,
    pub info: u8,
    pub section: u16,
}

impl Symbol {
    /// A function in the section with index `section`.
    pub fn function(name: &str, weak: bool, value: u64, size: u64, section: u16) -> Symbol {
        let bind = if weak { STB_WEAK } else { STB_GLOBAL };
        Symbol {
            name: name.to_string(),
            value,
            size,
            info: bind << 4 | STT_FUNC,
            section,
        }
    }

    /// The symbol that linkers make for a version.
    pub fn version(name: &str) -> Symbol {
        Symbol {
            name: name.to_string(),
            value: 0,
            size: 0,
            info: STB_GLOBAL << 4 | STT_OBJECT,
            section: SHN_ABS,
        }
    }
}

/// A string table that holds each string once.
pub struct Strings {
    bytes: Vec<u8>,
    at: BTreeMap<String, u32>,
}

impl Strings {
    pub fn new() -> Strings {
        Strings {
            bytes: vec![0],
            at: BTreeMap::new(),
        }
    }

    /// The offset of a string, which is added if need be.
    pub fn add(&mut self, string: &str) -> u32 {
        if let Some(&at) = self.at.get(string) {
            return at;
        }
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(string.as_bytes());
        self.bytes.push(0);
        self.at.insert(string.to_string(), at);
        at
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The System V hash of a name.
pub fn sysv_hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(byte));
        let top = hash & 0xf000_0000;
        (hash ^ top >> 24) & !top
    })
}

/// The GNU hash of a name.
pub fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381u32, |hash, byte| {
        hash.wrapping_mul(33).wrapping_add(u32::from(byte))
    })
}

fn buckets(count: usize) -> u32 {
    (count as u32 / 2).max(1)
}

/// Sorts symbols as the GNU hash table wants them: by bucket.
pub fn sort_for_hash(symbols: &mut [Symbol]) {
    let buckets = buckets(symbols.len());
    symbols.sort_by_key(|symbol| (gnu_hash(&symbol.name) % buckets, symbol.name.clone()));
}

/// `.dynsym`: the null symbol, then these.
pub fn symbol_table(symbols: &[Symbol], strings: &mut Strings) -> Vec<u8> {
    let mut out = vec![0; 24];
    for symbol in symbols {
        out.extend_from_slice(&strings.add(&symbol.name).to_le_bytes());
        out.extend_from_slice(&[symbol.info, 0]);
        out.extend_from_slice(&symbol.section.to_le_bytes());
        out.extend_from_slice(&symbol.value.to_le_bytes());
        out.extend_from_slice(&symbol.size.to_le_bytes());
    }
    out
}

/// `.hash`: bucket and chain counts, buckets, chains. The chain count is the number of symbols, which is how musl
/// learns it.
pub fn sysv_table(symbols: &[Symbol]) -> Vec<u8> {
    let bucket_count = buckets(symbols.len());
    let mut heads = vec![0u32; bucket_count as usize];
    let mut chains = vec![0u32; symbols.len() + 1];
    for (symbol, index) in symbols.iter().zip(1u32..) {
        let head = &mut heads[(sysv_hash(&symbol.name) % bucket_count) as usize];
        chains[index as usize] = *head;
        *head = index;
    }
    let words = [bucket_count, chains.len() as u32]
        .into_iter()
        .chain(heads)
        .chain(chains);
    words.flat_map(u32::to_le_bytes).collect()
}

/// `.gnu.hash` of symbols in the order of [`sort_for_hash`]: header, one Bloom word, buckets, chain.
pub fn gnu_table(symbols: &[Symbol]) -> Vec<u8> {
    const BLOOM_SHIFT: u32 = 6;
    const FIRST: u32 = 1;
    let bucket_count = buckets(symbols.len());
    let hashes: Vec<u32> = symbols.iter().map(|symbol| gnu_hash(&symbol.name)).collect();
    let bloom = hashes.iter().fold(0u64, |bloom, hash| {
        bloom | 1 << (hash % 64) | 1 << ((hash >> BLOOM_SHIFT) % 64)
    });
    let mut heads = vec![0u32; bucket_count as usize];
    let mut chain = Vec::with_capacity(hashes.len());
    for (i, &hash) in hashes.iter().enumerate() {
        let bucket = hash % bucket_count;
        let head = &mut heads[bucket as usize];
        if *head == 0 {
            *head = FIRST + i as u32;
        }
        let last = hashes.get(i + 1).is_none_or(|next| next % bucket_count != bucket);
        chain.push(hash & !1 | u32::from(last));
    }
    let mut out: Vec<u8> = [bucket_count, FIRST, 1, BLOOM_SHIFT]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    out.extend_from_slice(&bloom.to_le_bytes());
    out.extend(heads.into_iter().chain(chain).flat_map(u32::to_le_bytes));
    out
}

/// `.gnu.version`: the null symbol is local, all others have our version.
pub fn version_symbols(count: usize) -> Vec<u8> {
    let indices = std::iter::once(0u16).chain(std::iter::repeat_n(VERSION_INDEX, count));
    indices.flat_map(u16::to_le_bytes).collect()
}

/// `.gnu.version_d`: the object's own name, and our version.
pub fn version_definitions(soname: &str, version: &str, strings: &mut Strings) -> Vec<u8> {
    const DEFINITION_LEN: u32 = 20;
    const AUX_LEN: u32 = 8;
    let mut out = Vec::new();
    let entries = [
        (soname, VER_FLG_BASE, 1, DEFINITION_LEN + AUX_LEN),
        (version, 0, VERSION_INDEX, 0),
    ];
    for (name, flags, index, next) in entries {
        for half in [1u16, flags, index, 1] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        for word in [sysv_hash(name), DEFINITION_LEN, next, strings.add(name), 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        // The constants that Go and glibc carry.
        assert_eq!(sysv_hash("__vdso_gettimeofday"), 0x0315_ca59);
        assert_eq!(gnu_hash("__vdso_gettimeofday"), 0xb01b_ca00);
        assert_eq!(sysv_hash("__vdso_clock_gettime"), 0x0d35_ec75);
        assert_eq!(gnu_hash("__vdso_clock_gettime"), 0x6e43_a318);
        assert_eq!(sysv_hash("LINUX_2.6"), 0x03ae_75f6);
    }
}
