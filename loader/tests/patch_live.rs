//! Patches every syscall site of the text that this very process runs on (its own if it is static, else that of the libc
//! and the dynamic linker too), then lives on it:
//! files, threads, signals, fork and exec, sleeping, sockets. The kernel's part is played by a thunk per site that makes
//! the call and goes to the stub's return label, so that every call passes through its stub.
//!
//! The workspace builds static programs; for a dynamic one:
//! `RUSTFLAGS=-Ctarget-feature=-crt-static cargo test -p ftl-loader --test patch_live --target-dir /tmp/dynamic`.
//!
//! No test harness: nothing else may run while the text changes.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

use ftl_loader::patch::{self, Avoid, JUMP_LEN, PatchPlan, Request};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

/// Room per site: stub, then thunk.
const SLOT: usize = 256;
const THUNK_AT: usize = 160;
const COUNT_AT: usize = 240;

struct Mapping {
    start: u64,
    end: u64,
    path: String,
    executable: bool,
}

fn mappings() -> Vec<Mapping> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next().unwrap().split_once('-').unwrap();
        let executable = fields.next().unwrap().contains('x');
        let hex = |s| u64::from_str_radix(s, 16).unwrap();
        let path = fields.nth(3).unwrap_or("").to_string();
        Mapping {
            start: hex(start),
            end: hex(end),
            path,
            executable,
        }
    };
    text.lines().map(parse).collect()
}

/// Executable memory within reach of `near`.
fn near_memory(near: u64, len: usize) -> u64 {
    let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    for distance in (1..1024u64).map(|step| step << 20) {
        let hint = (near - distance) & !0xfff;
        // SAFETY: NOREPLACE: only free addresses are taken.
        let at = unsafe { libc::mmap(hint as *mut _, len, prot, flags, -1, 0) };
        if at != libc::MAP_FAILED {
            return at as u64;
        }
    }
    panic!("no room within 1 GiB");
}

/// `lea r11, [count]; inc [r11] without flags; syscall; jmp ret`: what the kernel does as far as the guest can tell.
fn thunk(at: u64, count: u64, ret: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let rel = |out: &mut Vec<u8>, opcode: &[u8], target: u64| {
        out.extend_from_slice(opcode);
        let end = at + out.len() as u64 + 4;
        out.extend_from_slice(&(target.wrapping_sub(end) as i32).to_le_bytes());
    };
    rel(&mut out, &[0x4c, 0x8b, 0x1d], count); // mov r11, [rip + count]
    out.extend_from_slice(&[0x4d, 0x8d, 0x5b, 0x01]); // lea r11, [r11 + 1]
    rel(&mut out, &[0x4c, 0x89, 0x1d], count); // mov [rip + count], r11
    out.extend_from_slice(&[0x0f, 0x05]);
    rel(&mut out, &[0xe9], ret);
    out
}

/// Patches one executable mapping; returns the addresses of the counters, by site.
fn patch_mapping(mapping: &Mapping) -> BTreeMap<u64, u64> {
    let len = (mapping.end - mapping.start) as usize;
    // SAFETY: the mapping is readable text and nobody changes it but us, below, after this copy.
    let code = unsafe { std::slice::from_raw_parts(mapping.start as *const u8, len) }.to_vec();
    let sites = patch::find_sites(&code, mapping.start);
    if sites.is_empty() {
        return BTreeMap::new();
    }
    let mut plans: Vec<PatchPlan> = Vec::new();
    let mut taken = Vec::new();
    for &site in &sites {
        let req = Request {
            code: &code,
            code_addr: mapping.start,
            site,
        };
        match patch::plan_avoiding(
            &req,
            &Avoid {
                taken: &taken,
                entries: &[],
            },
        ) {
            Ok(plan) => {
                taken.push((plan.patch_addr, plan.patch_end()));
                plans.push(plan);
            }
            Err(why) => println!("{}: {why}", mapping.path),
        }
    }
    assert!(
        plans.len() * 100 >= sites.len() * 99,
        "{} of {} sites",
        plans.len(),
        sites.len()
    );
    println!(
        "{}: {} of {} sites patched",
        mapping.path,
        plans.len(),
        sites.len()
    );

    let area = near_memory(mapping.start, plans.len() * SLOT);
    let mut image = vec![0u8; plans.len() * SLOT];
    let mut patches = Vec::new();
    let mut counters = BTreeMap::new();
    for (slot, (room, plan)) in image.chunks_exact_mut(SLOT).zip(&plans).enumerate() {
        let stub_addr = area + (slot * SLOT) as u64;
        let stub = plan.emit(stub_addr, stub_addr + THUNK_AT as u64).unwrap();
        let (thunk_addr, count) = (stub_addr + THUNK_AT as u64, stub_addr + COUNT_AT as u64);
        let thunk = thunk(thunk_addr, count, stub_addr + stub.ret_offset as u64);
        room[..stub.bytes.len()].copy_from_slice(&stub.bytes);
        room[THUNK_AT..THUNK_AT + thunk.len()].copy_from_slice(&thunk);
        patches.push((plan.patch_addr, plan.site_bytes(stub_addr)));
        counters.insert(plan.site, count);
    }
    let writable = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: `area` is ours and as long as `image`; there is one thread, and it is not within a replaced range: copies
    // are made by this binary's own or libc's memcpy, which hold no syscall.
    unsafe {
        std::ptr::copy_nonoverlapping(image.as_ptr(), area as *mut u8, image.len());
        assert_eq!(libc::mprotect(mapping.start as *mut _, len, writable), 0);
        for (addr, bytes) in &patches {
            assert!(bytes.len() >= JUMP_LEN && bytes[0] == 0xe9);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), *addr as *mut u8, bytes.len());
        }
        assert_eq!(
            libc::mprotect(mapping.start as *mut _, len, libc::PROT_READ | libc::PROT_EXEC),
            0
        );
    }
    counters
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_signal: i32) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

fn files() {
    let path = format!("{}/live", env!("CARGO_TARGET_TMPDIR"));
    let text: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &text).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), text);
    assert!(std::fs::metadata(&path).unwrap().len() == text.len() as u64);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap_err().raw_os_error(),
        Some(libc::ENOENT)
    );
    assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() > 2);
}

fn threads() {
    let gate = Arc::new((Mutex::new(0u32), Condvar::new()));
    let (send, receive) = mpsc::channel();
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let (gate, send) = (gate.clone(), send.clone());
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(2));
                *gate.0.lock().unwrap() += 1;
                gate.1.notify_all();
                send.send(i).unwrap();
                i
            })
        })
        .collect();
    let mut count = gate.0.lock().unwrap();
    while *count < 8 {
        count = gate.1.wait_timeout(count, Duration::from_secs(60)).unwrap().0;
    }
    drop(count);
    assert_eq!(
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum::<u32>(),
        28
    );
    assert_eq!(receive.try_iter().sum::<u32>(), 28);
}

fn signals() {
    // SAFETY: the handler touches an atomic only; the pointers outlive the calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        for _ in 0..10 {
            libc::raise(libc::SIGUSR1);
            libc::kill(libc::getpid(), libc::SIGUSR1);
        }
        // One that interrupts a wait.
        action.sa_flags = 0;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
        let timer = libc::itimerval {
            it_interval: libc::timeval {
                tv_sec: 0,
                tv_usec: 0,
            },
            it_value: libc::timeval {
                tv_sec: 0,
                tv_usec: 20_000,
            },
        };
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
        assert_eq!(libc::poll(std::ptr::null_mut(), 0, 10_000), -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EINTR));
    }
    assert_eq!(HANDLED.load(Ordering::SeqCst), 21);
}

fn processes() {
    for _ in 0..3 {
        let out = std::process::Command::new("/bin/sh")
            .args(["-c", "echo $((6*7)); exit 3"])
            .output()
            .unwrap();
        assert_eq!(
            (out.stdout.as_slice(), out.status.code()),
            (&b"42\n"[..], Some(3))
        );
    }
    let missing = std::process::Command::new("/no/such/program")
        .spawn()
        .unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    // SAFETY: the child only calls _exit; the parent waits for it.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(i32::from(libc::getppid() <= 1));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
    }
}

fn sockets() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buf = [0; 5];
        stream.read_exact(&mut buf).unwrap();
        stream.write_all(&buf).unwrap();
    });
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut buf = [0; 5];
    stream.read_exact(&mut buf).unwrap();
    server.join().unwrap();
    assert_eq!(&buf, b"hello");
}

/// `dlopen` enters the dynamic linker's own copies of open, read and mmap.
fn dynamic_linking() {
    // SAFETY: a library without constructors that matter, looked up and closed.
    unsafe {
        let library = libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null());
        assert!(!libc::dlsym(library, c"ns_put16".as_ptr()).is_null());
        libc::dlclose(library);
    }
}

fn main() {
    // The harness's arguments (--list, filters) are not for us; a listing has no tests.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    patch::warm_up();
    let mappings = mappings();
    let texts = mappings
        .iter()
        .filter(|m| m.executable && m.path.starts_with('/'));
    let dynamic = mappings.iter().any(|m| m.path.contains("/libc.so"));
    let counters: BTreeMap<u64, u64> = texts.flat_map(patch_mapping).collect();
    assert!(
        counters.len() > if dynamic { 500 } else { 50 },
        "{} sites",
        counters.len()
    );
    let stages: [(&str, fn()); 6] = [
        ("files", files),
        ("threads", threads),
        ("signals", signals),
        ("processes", processes),
        ("sockets", sockets),
        ("dynamic linking", dynamic_linking),
    ];
    for (name, stage) in stages
        .into_iter()
        .filter(|stage| dynamic || stage.0 != "dynamic linking")
    {
        stage();
        println!("{name}: ok");
    }
    // SAFETY: counters lie in memory that stays mapped; a torn count does not matter.
    let counts = counters
        .values()
        .map(|&at| unsafe { std::ptr::read_volatile(at as *const u64) });
    let counts: Vec<u64> = counts.filter(|&count| count > 0).collect();
    println!(
        "{} calls through {} different sites",
        counts.iter().sum::<u64>(),
        counts.len()
    );
    assert!(counts.len() >= 30, "{} sites used", counts.len());
}
