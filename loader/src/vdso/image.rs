//! The ELF file around the sections of the vDSO.

const EHDR_LEN: usize = 64;
const PHDR_LEN: usize = 56;
const SHDR_LEN: usize = 64;

/// PT_LOAD, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_GNU_STACK.
const PHDR_COUNT: usize = 4;
/// Where the first section may begin.
pub const SECTIONS_AT: usize = EHDR_LEN + PHDR_COUNT * PHDR_LEN;

const SHT_STRTAB: u32 = 3;
const SHF_ALLOC: u64 = 2;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

/// A section whose address is its offset.
pub struct Section {
    pub name: &'static str,
    pub kind: u32,
    pub flags: u64,
    pub link: u32,
    pub info: u32,
    pub align: usize,
    pub entry: u64,
    pub bytes: Vec<u8>,
    pub offset: usize,
}

impl Section {
    pub fn new(name: &'static str, kind: u32, align: usize, bytes: Vec<u8>) -> Section {
        Section {
            name,
            kind,
            flags: SHF_ALLOC,
            link: 0,
            info: 0,
            align,
            entry: 0,
            bytes,
            offset: 0,
        }
    }

    pub fn linked(self, link: u32, info: u32, entry: u64) -> Section {
        Section {
            link,
            info,
            entry,
            ..self
        }
    }
}

/// Gives sections their offsets, one after the other from `at` on; returns the end.
pub fn place(sections: &mut [Section], mut at: usize) -> usize {
    for section in sections {
        section.offset = at.next_multiple_of(section.align);
        at = section.offset + section.bytes.len();
    }
    at
}

/// Which sections have program headers of their own.
pub struct Roles<'a> {
    pub dynamic: &'a Section,
    pub eh_frame_hdr: &'a Section,
}

/// How many bytes [`write`] adds behind the last section but the text: section names and headers.
pub fn trailer_len(sections: &[Section]) -> usize {
    let (names, _) = names(sections);
    names.len() + 8 + (sections.len() + 2) * SHDR_LEN
}

/// `.shstrtab` and the place of each name in it, its own last.
fn names(sections: &[Section]) -> (Vec<u8>, Vec<u32>) {
    let mut bytes = vec![0];
    let mut places = Vec::new();
    for name in sections.iter().map(|section| section.name).chain([".shstrtab"]) {
        places.push(bytes.len() as u32);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
    }
    (bytes, places)
}

/// The file: placed sections, with section names and headers at `trailer_at`.
pub fn write(sections: &[Section], roles: &Roles<'_>, trailer_at: usize) -> Vec<u8> {
    let end = sections
        .iter()
        .map(|section| section.offset + section.bytes.len())
        .max()
        .unwrap_or(0);
    let mut image = vec![0; end];
    for section in sections {
        image[section.offset..section.offset + section.bytes.len()].copy_from_slice(&section.bytes);
    }
    let (names, places) = names(sections);
    image[trailer_at..trailer_at + names.len()].copy_from_slice(&names);
    let headers_at = (trailer_at + names.len()).next_multiple_of(8);

    let mut headers = vec![0; SHDR_LEN];
    for (section, &name) in sections.iter().zip(&places) {
        headers.extend(section_header(section, name, section.offset as u64));
    }
    let mut own = Section::new(".shstrtab", SHT_STRTAB, 1, names);
    (own.flags, own.offset) = (0, trailer_at);
    headers.extend(section_header(&own, places[sections.len()], 0));
    image[headers_at..headers_at + headers.len()].copy_from_slice(&headers);

    image[..EHDR_LEN].copy_from_slice(&file_header(headers_at, sections.len() + 2));
    let phdrs = program_headers(roles, end);
    image[EHDR_LEN..EHDR_LEN + phdrs.len()].copy_from_slice(&phdrs);
    image
}

fn section_header(section: &Section, name: u32, addr: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(SHDR_LEN);
    out.extend_from_slice(&name.to_le_bytes());
    out.extend_from_slice(&section.kind.to_le_bytes());
    for word in [
        section.flags,
        addr,
        section.offset as u64,
        section.bytes.len() as u64,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&section.link.to_le_bytes());
    out.extend_from_slice(&section.info.to_le_bytes());
    out.extend_from_slice(&(section.align as u64).to_le_bytes());
    out.extend_from_slice(&section.entry.to_le_bytes());
    out
}

fn file_header(section_headers_at: usize, section_count: usize) -> Vec<u8> {
    // 64-bit, little-endian, version 1, System V.
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    out.resize(16, 0);
    // ET_DYN, EM_X86_64, version 1, no entry.
    out.extend_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0, EHDR_LEN as u64, section_headers_at as u64] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    let counts = [
        EHDR_LEN,
        PHDR_LEN,
        PHDR_COUNT,
        SHDR_LEN,
        section_count,
        section_count - 1,
    ];
    out.extend(counts.into_iter().flat_map(|half| (half as u16).to_le_bytes()));
    out
}

fn program_headers(roles: &Roles<'_>, end: usize) -> Vec<u8> {
    let of = |section: &Section| (section.offset as u64, section.bytes.len() as u64);
    let (dynamic, hdr) = (of(roles.dynamic), of(roles.eh_frame_hdr));
    let rows: [(u32, u32, (u64, u64), u64); PHDR_COUNT] = [
        (1, PF_R | PF_X, (0, end as u64), crate::PAGE),
        (2, PF_R, dynamic, 8),
        (0x6474_e550, PF_R, hdr, 4),
        (0x6474_e551, PF_R | PF_W, (0, 0), 16),
    ];
    let mut out = Vec::with_capacity(PHDR_COUNT * PHDR_LEN);
    for (kind, flags, (offset, len), align) in rows {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        for word in [offset, offset, offset, len, len, align] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out
}
