//! A vDSO of our own: code and symbols to the image of a shared object that libcs find through AT_SYSINFO_EHDR.
//!
//! The image is mapped as it is, readable and executable, at any page; it needs no relocation. Its first page (more, if
//! there are very many symbols) holds headers and tables, the code follows at [`code_offset`], so that code may refer
//! to pages mapped before or behind the image by fixed distances.
//!
//! Who looks symbols up, and what they need (each rule is tested):
//! * glibc: DT_GNU_HASH, else DT_HASH; symbol version `LINUX_2.6`, by name and hash; a PT_DYNAMIC that is not writable,
//!   so that it does not relocate the entries in place;
//! * musl: DT_HASH for the number of symbols, DT_SYMTAB, DT_STRTAB, DT_VERSYM with DT_VERDEF, in that one version;
//! * Go: either hash table, a function symbol that is global or weak, the version if there is one.
//!
//! Contract: the arguments are the runtime's own, not a guest's. Functions in `code` must leave the stack pointer where
//! it was on entry all the time: the unwind table says so for all of the code.

mod frame;
mod image;
mod tables;

#[cfg(test)]
mod tests;

use crate::PAGE;
use image::{Roles, Section};
use tables::{Strings, Symbol};

/// The object's name, as Linux calls its own.
pub const SONAME: &str = "linux-vdso.so.1";
/// The version of its symbols.
pub const VERSION: &str = "LINUX_2.6";
/// What the names of symbols begin with that get an alias without it.
pub const PREFIX: &str = "__vdso_";

const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_HASH: u32 = 5;
const SHT_DYNAMIC: u32 = 6;
const SHT_DYNSYM: u32 = 11;
const SHT_GNU_HASH: u32 = 0x6fff_fff6;
const SHT_GNU_VERDEF: u32 = 0x6fff_fffd;
const SHT_GNU_VERSYM: u32 = 0x6fff_ffff;
const SHF_EXECINSTR: u64 = 4;

/// Section indices: the null section is 0, the others are in file order.
const HASH: usize = 1;
const GNU_HASH: usize = 2;
const DYNSYM: usize = 3;
const DYNSTR: usize = 4;
const VERSYM: usize = 5;
const VERDEF: usize = 6;
const DYNAMIC: usize = 7;
const EH_FRAME_HDR: usize = 8;
const EH_FRAME: usize = 9;
const TEXT: usize = 10;

/// Entries of PT_DYNAMIC, DT_NULL included.
const DYNAMIC_COUNT: usize = 11;

/// The image for `code` with its symbols: name, offset in `code`, size. For each name that begins with [`PREFIX`] there
/// is a weak alias without it.
///
/// # Panics
///
/// If a symbol lies outside the code or two have one name: a defect of the caller's constants.
pub fn build(code: &[u8], symbols: &[(&str, u32, u32)]) -> Vec<u8> {
    for (i, &(name, offset, size)) in symbols.iter().enumerate() {
        assert!(
            u64::from(offset) + u64::from(size) <= code.len() as u64,
            "{name} lies outside the code"
        );
        assert!(
            symbols[..i].iter().all(|other| other.0 != name),
            "{name} is given twice"
        );
    }
    let (text_at, trailer_at) = measure(symbols);
    let (mut sections, soname) = sections(symbols, text_at);
    assert_eq!(
        image::place(&mut sections, image::SECTIONS_AT),
        trailer_at,
        "lengths do not depend on addresses"
    );

    let at = |index: usize| sections[index - 1].offset as u64;
    let dynamic = dynamic_entries(&sections, soname);
    let eh_frame = frame::frame(at(EH_FRAME), text_at as u64, code.len() as u32);
    let eh_frame_hdr = frame::header(at(EH_FRAME_HDR), at(EH_FRAME), text_at as u64);
    for (index, bytes) in [
        (DYNAMIC, dynamic),
        (EH_FRAME, eh_frame),
        (EH_FRAME_HDR, eh_frame_hdr),
    ] {
        assert_eq!(
            sections[index - 1].bytes.len(),
            bytes.len(),
            "room was left for it"
        );
        sections[index - 1].bytes = bytes;
    }
    let mut text = Section::new(".text", SHT_PROGBITS, 16, code.to_vec());
    text.flags |= SHF_EXECINSTR;
    text.offset = text_at;
    sections.push(text);
    let roles = Roles {
        dynamic: &sections[DYNAMIC - 1],
        eh_frame_hdr: &sections[EH_FRAME_HDR - 1],
    };
    image::write(&sections, &roles, trailer_at)
}

/// Where `code[0]` is in the image that [`build`] makes with these symbols: a multiple of the page size, and one page
/// for any reasonable number of them.
pub fn code_offset(symbols: &[(&str, u32, u32)]) -> u64 {
    measure(symbols).0 as u64
}

/// Where the code begins, and where the tables before it end.
fn measure(symbols: &[(&str, u32, u32)]) -> (usize, usize) {
    let (mut sections, _) = sections(symbols, 0);
    let end = image::place(&mut sections, image::SECTIONS_AT);
    sections.push(Section::new(".text", SHT_PROGBITS, 16, Vec::new()));
    (
        (end + image::trailer_len(&sections)).next_multiple_of(PAGE as usize),
        end,
    )
}

/// All sections before the text, with room where addresses will be; and the place of the object's name.
fn sections(symbols: &[(&str, u32, u32)], text_at: usize) -> (Vec<Section>, u32) {
    let mut defined = vec![Symbol::version(VERSION)];
    for &(name, offset, size) in symbols {
        let alias = name.strip_prefix(PREFIX).map(|alias| (alias, true));
        for (name, weak) in [(name, false)].into_iter().chain(alias) {
            let value = text_at as u64 + u64::from(offset);
            defined.push(Symbol::function(name, weak, value, u64::from(size), TEXT as u16));
        }
    }
    tables::sort_for_hash(&mut defined);
    let mut strings = Strings::new();
    let dynsym = tables::symbol_table(&defined, &mut strings);
    let verdef = tables::version_definitions(SONAME, VERSION, &mut strings);
    let soname = strings.add(SONAME);
    let (hash, gnu_hash) = (tables::sysv_table(&defined), tables::gnu_table(&defined));
    let versym = tables::version_symbols(defined.len());
    let (symtab, strtab) = (DYNSYM as u32, DYNSTR as u32);
    let room = |len| vec![0; len];
    let sections = vec![
        Section::new(".hash", SHT_HASH, 8, hash).linked(symtab, 0, 4),
        Section::new(".gnu.hash", SHT_GNU_HASH, 8, gnu_hash).linked(symtab, 0, 0),
        Section::new(".dynsym", SHT_DYNSYM, 8, dynsym).linked(strtab, 1, 24),
        Section::new(".dynstr", SHT_STRTAB, 1, strings.into_bytes()),
        Section::new(".gnu.version", SHT_GNU_VERSYM, 2, versym).linked(symtab, 0, 2),
        Section::new(".gnu.version_d", SHT_GNU_VERDEF, 8, verdef).linked(strtab, 2, 0),
        Section::new(".dynamic", SHT_DYNAMIC, 8, room(DYNAMIC_COUNT * 16)).linked(strtab, 0, 16),
        Section::new(".eh_frame_hdr", SHT_PROGBITS, 4, room(frame::HEADER_LEN)),
        Section::new(".eh_frame", SHT_PROGBITS, 8, room(frame::FRAME_LEN)),
    ];
    (sections, soname)
}

fn dynamic_entries(sections: &[Section], soname: u32) -> Vec<u8> {
    let at = |index: usize| sections[index - 1].offset as u64;
    let entries: [(u64, u64); DYNAMIC_COUNT] = [
        (14, u64::from(soname)),                       // DT_SONAME
        (4, at(HASH)),                                 // DT_HASH
        (0x6fff_fef5, at(GNU_HASH)),                   // DT_GNU_HASH
        (5, at(DYNSTR)),                               // DT_STRTAB
        (6, at(DYNSYM)),                               // DT_SYMTAB
        (10, sections[DYNSTR - 1].bytes.len() as u64), // DT_STRSZ
        (11, 24),                                      // DT_SYMENT
        (0x6fff_fffc, at(VERDEF)),                     // DT_VERDEF
        (0x6fff_fffd, 2),                              // DT_VERDEFNUM
        (0x6fff_fff0, at(VERSYM)),                     // DT_VERSYM
        (0, 0),
    ];
    entries
        .iter()
        .flat_map(|&(tag, value)| [tag, value])
        .flat_map(u64::to_le_bytes)
        .collect()
}
