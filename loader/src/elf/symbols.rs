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
    fn other_bytes_have_none() {
        assert_eq!(symbol_at(b"", 0), None);
        assert_eq!(symbol_at(&[0x7f; 300], 8), None);
    }
}
