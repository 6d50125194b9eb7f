//! The code of the image's vDSO: clock reads without a kernel entry (PROTOCOL §2, DESIGN §3).
//!
//! It predicts the virtual clock from the clock page, compares with the time-stamp counter, and, when
//! they agree within the stated error, advances the page and answers. The counter's value itself goes
//! nowhere, not even into a register that a caller must not look at (lazy binding spills those to the
//! stack): only the outcome of the comparison can be seen, and a miss enters the kernel, which logs
//! it. The page is image state; the calibration is in the vCPU page, outside the image.
//!
//! The watchdog never ends a slice inside this code, so a read is all or nothing.

use crate::vcpu::Vcpu;
use ftl_abi::kernel::CLOCK_ENTRY;
use ftl_core::clock::{Clock, EPS_NS};
use ftl_core::layout::{CLOCK_ADDR, VCPU_BASE};
use std::arch::global_asm;
use std::mem::offset_of;

global_asm!(
    r#"
    .text
    .balign 64
    .globl ftl_vdso_begin
ftl_vdso_begin:

    // rax: the clock's new value and CF clear. CF set: ask the kernel, by a clock entry (eax 0) or, when
    // the budget is used up, by a true system call (eax 1). Keeps rdi and rsi.
20:
    movabs r8, {CLOCK}
    movabs r9, {VCPU}
    cmp qword ptr [r8 + {C_LEFT}], 0
    je 28f
    mov r11, [r8 + {C_E}]
    inc r11
    mov rax, r11
    sub rax, [r8 + {C_BE}]
    mul qword ptr [r8 + {C_Q}]
    shrd rax, rdx, 16
    shr rdx, 16
    mov rcx, [r8 + {C_CAP}]
    jnz 21f
    cmp rax, rcx
    cmova rax, rcx
    jmp 22f
21:
    mov rax, rcx
22:
    add rax, [r8 + {C_BV}]
    mov rdx, [r8 + {C_V}]
    cmp rax, rdx
    cmovb rax, rdx
    mov r10, rax
    cmp qword ptr [r9 + {V_LIMIT}], 0
    je 25f
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [r9 + {V_TSC}]
    cmp rax, [r9 + {V_LIMIT}]
    jae 29f
    mul qword ptr [r9 + {V_RATE}]
    shrd rax, rdx, 32
    add rax, [r9 + {V_NS}]
    mov rdx, r10
    sub rdx, rax
    add rdx, {EPS}
    cmp rdx, 2 * {EPS}
    ja 29f
24:
    dec qword ptr [r8 + {C_LEFT}]
    mov [r8 + {C_E}], r11
    mov [r8 + {C_V}], r10
    mov rax, r10
    clc
    ret
25:
    cmp r11, [r9 + {V_FREE}]
    jb 24b
29:
    // What the counter said must not be seen in a register.
    xor eax, eax
    xor ecx, ecx
    xor edx, edx
    xor r10d, r10d
    xor r11d, r11d
    stc
    ret
28:
    mov eax, 1
    stc
    ret

    // rax: seconds, rdx: nanoseconds, from rax
30:
    mov r10, rax
    shr rax, 9
    movabs rdx, 0x44b82fa09b5a53
    mul rdx
    shr rdx, 11
    mov rax, rdx
    imul rdx, rdx, 1000000000
    sub r10, rdx
    mov rdx, r10
    ret

    .balign 16
    .globl ftl_vdso_clock_gettime
ftl_vdso_clock_gettime:
    cmp edi, 7
    ja 40f
    mov eax, 0xf3
    bt eax, edi
    jnc 40f
    call 20b
    jc 43f
    // REALTIME (0) and REALTIME_COARSE (5) and BOOTTIME (7) have an offset
    mov ecx, 0x21
    bt ecx, edi
    jc 41f
    cmp edi, 7
    jne 42f
    add rax, [r8 + {C_BOOT}]
    jmp 42f
41:
    add rax, [r8 + {C_REAL}]
42:
    call 30b
    mov [rsi], rax
    mov [rsi + 8], rdx
    xor eax, eax
    jmp 62f
43:
    test eax, eax
    mov eax, {CLOCK_ENTRY}
    jz 60f
40:
    mov eax, 228
    jmp 60f

    .balign 16
    .globl ftl_vdso_gettimeofday
ftl_vdso_gettimeofday:
    test rdi, rdi
    jz 50f
    call 20b
    jc 56f
    add rax, [r8 + {C_REAL}]
    call 30b
    mov [rdi], rax
    mov rax, rdx
    movabs rdx, 0x20c49ba5e353f7cf
    shr rax, 3
    mul rdx
    shr rdx, 4
    mov [rdi + 8], rdx
    test rsi, rsi
    jz 51f
    mov qword ptr [rsi], 0
51:
    xor eax, eax
    jmp 62f
56:
    test eax, eax
    mov eax, {CLOCK_ENTRY} + 1
    jz 60f
50:
    mov eax, 96
    jmp 60f

    .balign 16
    .globl ftl_vdso_time
ftl_vdso_time:
    call 20b
    jc 52f
    add rax, [r8 + {C_REAL}]
    call 30b
    test rdi, rdi
    jz 53f
    mov [rdi], rax
53:
    jmp 62f
52:
    test eax, eax
    mov eax, {CLOCK_ENTRY} + 2
    jz 60f
    mov eax, 201
    jmp 60f

    // One CPU is reported.
    .balign 16
    .globl ftl_vdso_getcpu
ftl_vdso_getcpu:
    test rdi, rdi
    jz 54f
    mov dword ptr [rdi], 0
54:
    test rsi, rsi
    jz 55f
    mov dword ptr [rsi], 0
55:
    xor eax, eax
    ret

    .balign 16
    .globl ftl_vdso_clock_getres
ftl_vdso_clock_getres:
    mov eax, 229

    // Kernel entry by a jump, as from a patched site.
60:
    movabs r11, {VCPU}
    lea rcx, [rip + 61f]
    jmp qword ptr [r11 + {V_ENTRY}]
61:
    // Whether the kernel was asked is the host's doing: both ways leave the same registers and flags, and the same
    // below the stack's end, where a call has left its return address.
62:
    xor r8d, r8d
    mov [rsp - 8], r8
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor edx, edx
    xor ecx, ecx
    ret

    .globl ftl_vdso_end
ftl_vdso_end:
"#,
    CLOCK = const CLOCK_ADDR,
    VCPU = const VCPU_BASE,
    EPS = const EPS_NS,
    V_TSC = const offset_of!(Vcpu, tsc_base),
    V_LIMIT = const offset_of!(Vcpu, tsc_limit),
    V_RATE = const offset_of!(Vcpu, tsc_rate),
    V_NS = const offset_of!(Vcpu, tsc_ns),
    V_ENTRY = const offset_of!(Vcpu, entry),
    V_FREE = const offset_of!(Vcpu, free_e),
    C_LEFT = const offset_of!(Clock, vdso_left),
    CLOCK_ENTRY = const CLOCK_ENTRY,
    C_V = const offset_of!(Clock, v),
    C_E = const offset_of!(Clock, e),
    C_BV = const offset_of!(Clock, base_v),
    C_BE = const offset_of!(Clock, base_e),
    C_Q = const offset_of!(Clock, q),
    C_CAP = const offset_of!(Clock, cap),
    C_REAL = const offset_of!(Clock, real_offset),
    C_BOOT = const offset_of!(Clock, boot_offset),
);

unsafe extern "C" {
    fn ftl_vdso_begin();
    fn ftl_vdso_end();
    fn ftl_vdso_clock_gettime();
    fn ftl_vdso_gettimeofday();
    fn ftl_vdso_time();
    fn ftl_vdso_getcpu();
    fn ftl_vdso_clock_getres();
}

/// The ELF image that every program of the image is given.
pub fn image() -> Vec<u8> {
    let at = |f: unsafe extern "C" fn()| f as *const () as usize;
    let (begin, end) = (at(ftl_vdso_begin), at(ftl_vdso_end));
    // SAFETY: the labels bound a piece of our own text.
    let code = unsafe { std::slice::from_raw_parts(begin as *const u8, end - begin) };
    let list = [
        ("__vdso_clock_gettime", at(ftl_vdso_clock_gettime)),
        ("__vdso_gettimeofday", at(ftl_vdso_gettimeofday)),
        ("__vdso_time", at(ftl_vdso_time)),
        ("__vdso_getcpu", at(ftl_vdso_getcpu)),
        ("__vdso_clock_getres", at(ftl_vdso_clock_getres)),
    ];
    let symbols: Vec<(&str, u32, u32)> = list
        .iter()
        .enumerate()
        .map(|(i, (name, start))| {
            let next = list.get(i + 1).map_or(end, |(_, s)| *s);
            (*name, (start - begin) as u32, (next - start) as u32)
        })
        .collect();
    ftl_loader::vdso::build(code, &symbols)
}
