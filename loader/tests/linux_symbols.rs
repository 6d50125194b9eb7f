//! Symbols, against a program whose functions are known: this one.
#![allow(clippy::disallowed_methods, reason = "a test on the host")]

use ftl_loader::elf::symbol_at;

#[test]
fn this_program_has_names() {
    let file = std::fs::read("/proc/self/exe").expect("this program");
    let at = this_program_has_names as fn() as usize as u64;
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
