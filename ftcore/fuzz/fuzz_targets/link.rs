#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    ftl_core_fuzz::link::frames(data);
    ftl_core_fuzz::link::machines(data);
});
