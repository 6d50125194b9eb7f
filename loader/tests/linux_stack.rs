//! The initial stack against what the host's kernel builds, byte for byte.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

mod common;

use common::{Stopped, at};
use ftl_loader::stack::{self, StackSpec};

fn check(path: &str, argv: &[Vec<u8>], envp: &[Vec<u8>]) {
    let process = Stopped::at_exec(path, argv, envp);
    let theirs = process.auxv();
    let value = |kind| theirs.iter().find(|entry| entry.0 == kind).unwrap().1;
    let random = process.read(value(at::RANDOM), 16).try_into().unwrap();
    let own = [at::RANDOM, at::EXECFN, at::PLATFORM];
    let aux = theirs
        .iter()
        .copied()
        .filter(|entry| !own.contains(&entry.0))
        .collect();
    let vma = process
        .maps()
        .into_iter()
        .find(|vma| vma.path == "[stack]")
        .unwrap();
    let spec = StackSpec {
        top: vma.end,
        argv,
        envp,
        execfn: path.as_bytes(),
        random,
        platform: b"x86_64",
        aux,
    };
    let built = stack::build(&spec, stack::limit_for(8 << 20)).unwrap();

    assert_eq!(built.sp, process.sp());
    let mut got = process.read(built.sp, built.bytes.len());
    // The only difference is the order of the auxiliary vector.
    let aux_at = 8 * (1 + argv.len().max(1) + 1 + envp.len() + 1);
    let sorted = |bytes: &[u8]| {
        let mut pairs: Vec<Vec<u8>> = bytes.chunks_exact(16).map(<[u8]>::to_vec).collect();
        pairs.sort();
        pairs
    };
    let aux_end = aux_at + built.auxv.len();
    assert_eq!(sorted(&got[aux_at..aux_end]), sorted(&built.auxv));
    got[aux_at..aux_end].copy_from_slice(&built.auxv);
    assert_eq!(got, built.bytes);
    assert_eq!(
        process.stat_strings(),
        [built.arg_start, built.arg_end, built.env_start, built.env_end]
    );
}

#[test]
fn same_bytes_as_linux() {
    for path in ["/bin/true", "/bin/busybox", "/usr/bin/true"] {
        for args in 1..6usize {
            for vars in 0..5usize {
                let argv: Vec<Vec<u8>> = (0..args).map(|i| vec![b'a' + i as u8; i * 7 + vars]).collect();
                let mut envp: Vec<Vec<u8>> = (0..vars)
                    .map(|i| format!("V{i}={}", "e".repeat(i * 5 + args)).into_bytes())
                    .collect();
                envp.sort();
                check(path, &argv, &envp);
            }
        }
    }
}

#[test]
fn large_environment() {
    let envp: Vec<Vec<u8>> = (0..100)
        .map(|i| format!("V{i:03}={}", "x".repeat(10_000)).into_bytes())
        .collect();
    check("/bin/true", &[b"true".to_vec()], &envp);
}
