//! Real programs on a vDSO of ours: glibc and musl, static and dynamic, and Go. Each is stopped at exec, given our image
//! in place of the kernel's, and must then tell the time that our code tells.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

mod common;

use common::Stopped;
use ftl_loader::{PAGE, vdso};
use std::arch::global_asm;
use std::process::Command;

const AT_SYSINFO_EHDR: u64 = 33;
const IMAGE_AT: u64 = 0x2000_0000_0000;

// Every clock stands at 1234567890 s, and how many ns or us past that tells which function was called.
global_asm!(
    ".globl ftl_vdso_code",
    "ftl_vdso_code:",
    "mov qword ptr [rsi], 1234567890; mov qword ptr [rsi + 8], 111; xor eax, eax; ret",
    ".org ftl_vdso_code + 64",
    "mov qword ptr [rdi], 1234567890; mov qword ptr [rdi + 8], 222; xor eax, eax; ret",
    ".org ftl_vdso_code + 128",
    "mov eax, 1234567890; test rdi, rdi; jz 2f; mov [rdi], rax; 2: ret",
    ".org ftl_vdso_code + 192",
);

fn code() -> Vec<u8> {
    unsafe extern "C" {
        #[link_name = "ftl_vdso_code"]
        static CODE: [u8; 192];
    }
    // SAFETY: 192 bytes of this binary's text.
    unsafe { CODE }.to_vec()
}

fn output_on_our_vdso(path: &str) -> String {
    let symbols = [
        ("__vdso_clock_gettime", 0, 64),
        ("__vdso_gettimeofday", 64, 64),
        ("__vdso_time", 128, 64),
    ];
    let image = vdso::build(&code(), &symbols);
    let process = Stopped::at_exec(path, &[b"program".to_vec()], &[]);
    let len = (image.len() as u64).next_multiple_of(PAGE);
    let prot = libc::PROT_READ | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let got = process.syscall(9, [IMAGE_AT, len, prot as u64, flags as u64, u64::MAX, 0]);
    assert_eq!(got, IMAGE_AT);
    process.write(IMAGE_AT, &image);

    // argc, argv and its end, envp (empty) and its end, then the vector.
    let mut at = process.sp() + 8 * (1 + 1 + 1 + 1);
    loop {
        let kind = u64::from_le_bytes(process.read(at, 8).try_into().unwrap());
        assert_ne!(kind, 0, "the kernel gives a vDSO");
        if kind == AT_SYSINFO_EHDR {
            break;
        }
        at += 16;
    }
    process.write(at + 8, &IMAGE_AT.to_le_bytes());
    let (out, exit) = process.finish();
    assert_eq!(exit, Some(0), "{path}");
    String::from_utf8(out).unwrap()
}

#[test]
fn libcs() {
    let source = "#include <stdio.h>\n#include <time.h>\n#include <sys/time.h>\n
        int main(void) {
            struct timespec ts; struct timeval tv;
            clock_gettime(CLOCK_MONOTONIC, &ts); gettimeofday(&tv, 0);
            printf(\"%ld.%ld %ld.%ld %ld\\n\", ts.tv_sec, ts.tv_nsec, tv.tv_sec, tv.tv_usec, (long)time(0));
            return 0;
        }";
    // musl has but clock_gettime, and makes the others of it: 111 ns are 0 us.
    let glibc = "1234567890.111 1234567890.222 1234567890\n";
    let musl = "1234567890.111 1234567890.0 1234567890\n";
    let cases: [(&str, &str, &[&str], &str); 5] = [
        ("vdso-glibc", "gcc", &[], glibc),
        ("vdso-glibc-static", "gcc", &["-static"], glibc),
        ("vdso-glibc-static-pie", "gcc", &["-static-pie"], glibc),
        ("vdso-musl", "musl-gcc", &[], musl),
        ("vdso-musl-static", "musl-gcc", &["-static"], musl),
    ];
    for (name, compiler, flags, want) in cases {
        let path = common::compile(name, compiler, flags, source);
        assert_eq!(output_on_our_vdso(&path), want, "{name}");
    }
}

#[test]
fn go() {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let (source, out) = (format!("{dir}/vdso.go"), format!("{dir}/vdso-go"));
    let text =
        "package main\nimport (\"fmt\"; \"time\")\nfunc main() { fmt.Println(time.Now().UnixNano()) }\n";
    std::fs::write(&source, text).unwrap();
    let status = Command::new("go")
        .args(["build", "-o", &out, &source])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(output_on_our_vdso(&out), "1234567890000000111\n");
}
