//! What a dynamic file wants from others: for reports only. Loading it is the interpreter's business.

use goblin::elf::Elf;

/// Libraries and symbols that a file names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// DT_NEEDED, in order.
    pub libraries: Vec<String>,
    /// DT_RUNPATH or DT_RPATH, its parts in order; `$ORIGIN` is not replaced.
    pub search: Vec<String>,
    /// Undefined dynamic symbols: what it calls in others.
    pub imports: Vec<String>,
}

/// Reads the dynamic section; empty for a static or damaged file.
pub fn needs(file: &[u8]) -> Needs {
    let Ok(elf) = Elf::parse(file) else {
        return Needs::default();
    };
    let paths = if elf.runpaths.is_empty() {
        &elf.rpaths
    } else {
        &elf.runpaths
    };
    let search = paths.iter().flat_map(|p| p.split(':')).filter(|p| !p.is_empty());
    let undefined = elf.dynsyms.iter().filter(|s| s.st_shndx == 0);
    let mut imports: Vec<String> = undefined
        .filter_map(|s| elf.dynstrtab.get_at(s.st_name))
        .filter(|n| !n.is_empty())
        .map(str::to_string)
        .collect();
    imports.sort();
    imports.dedup();
    Needs {
        libraries: elf.libraries.iter().map(|l| l.to_string()).collect(),
        search: search.map(str::to_string).collect(),
        imports,
    }
}
