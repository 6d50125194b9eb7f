//! Names for addresses, for messages: the symbol table of a file, or its dynamic one.

use goblin::elf::Elf;
use goblin::elf::program_header::PT_LOAD;

/// The function that the byte at `offset` of an ELF file belongs to, and how far into it that is. `None` for a file
/// without one, or not an ELF file.
pub fn symbol_at(file: &[u8], offset: u64) -> Option<(String, u64)> {
    let elf = Elf::parse(file).ok()?;
    let load = elf
        .program_headers
        .iter()
        .find(|p| p.p_type == PT_LOAD && offset >= p.p_offset && offset - p.p_offset < p.p_filesz)?;
    let addr = load.p_vaddr.checked_add(offset - load.p_offset)?;
    let named = elf
        .syms
        .iter()
        .map(|s| (s, elf.strtab.get_at(s.st_name)))
        .chain(elf.dynsyms.iter().map(|s| (s, elf.dynstrtab.get_at(s.st_name))));
    let (start, name) = named
        .filter(|(s, _)| s.is_function() && s.st_value <= addr && addr - s.st_value < s.st_size.max(1))
        .filter_map(|(s, name)| Some((s.st_value, name.filter(|n| !n.is_empty())?)))
        .max_by_key(|(start, _)| *start)?;
    Some((name.to_string(), addr - start))
}

#[cfg(test)]
mod tests {
    use super::symbol_at;

    #[test]
    fn this_program_has_names() {
        let Ok(file) = std::fs::read("/proc/self/exe") else {
            return;
        };
        let at = super::tests::this_program_has_names as fn() as usize as u64;
        // Where the loader put this function, as an offset into the file.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let offset = maps.lines().find_map(|l| {
            let mut w = l.split_ascii_whitespace();
            let (s, e) = w.next()?.split_once('-')?;
            let range = u64::from_str_radix(s, 16).ok()?..u64::from_str_radix(e, 16).ok()?;
            let file_offset = u64::from_str_radix(w.nth(1)?, 16).ok()?;
            range.contains(&at).then_some(at - range.start + file_offset)
        });
        let found = offset.and_then(|o| symbol_at(&file, o + 1));
        assert!(found.is_some_and(|(name, into)| name.contains("this_program_has_names") && into == 1));
    }

    #[test]
    fn other_bytes_have_none() {
        assert_eq!(symbol_at(b"", 0), None);
        assert_eq!(symbol_at(&[0x7f; 300], 8), None);
    }
}
