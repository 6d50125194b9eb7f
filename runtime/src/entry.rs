//! From guest code to the kernel and back: the only assembly of the runtime.
//!
//! * `ftl_entry_call`: a patched site's stub jumps here with the return label in rcx, and so does a
//!   SIGSYS trap after its handler. Everything is saved into the current [`Context`]; rsp is
//!   switched before any push (the guest's red zone).
//! * `ftl_entry_event`: a signal handler has filled the context itself (fault, cut) and returns here.
//! * `ftl_resume`: loads a context. `Resume::Call` jumps to rip with rcx and r11 as the kernel's
//!   to clobber; `Resume::Full` goes by iretq, which restores every register.
//! * `ftl_signal`: all host signal handlers. Puts the runtime's FS in place around the Rust part.
//! * guest copies: a fault inside ends at the fix-up label instead of in a crash.
//!
//! A call enters with the guest's FS base and MXCSR still loaded, because changing them costs as much
//! as all else here together. Kernel code needs neither: it has no thread-locals and no floats. What
//! needs the C library's thread-locals runs under `alloc::enter(Side::Host)`, which loads the
//! runtime's FS; the way back loads the guest's if it is not there.
//!
//! No vector register above xmm is touched in the runtime (see `stage0::TUNABLES` and docs), so
//! only xmm0..15 are saved on the fast path.

use ftl_core::context::{Context, reg};
use ftl_core::layout::VCPU_BASE;
use std::arch::global_asm;
use std::mem::offset_of;

use crate::vcpu::Vcpu;

global_asm!(
    r#"
    .text
    .balign 64
    .globl ftl_entry_begin
ftl_entry_begin:

    .globl ftl_entry_call
ftl_entry_call:
    movabs r11, {VCPU}
    mov r11, [r11 + {V_CTX}]
    mov [r11 + {RAX}], rax
    mov [r11 + {RDX}], rdx
    mov [r11 + {RBX}], rbx
    mov [r11 + {RSP}], rsp
    mov [r11 + {RBP}], rbp
    mov [r11 + {RSI}], rsi
    mov [r11 + {RDI}], rdi
    mov [r11 + {R8}], r8
    mov [r11 + {R9}], r9
    mov [r11 + {R10}], r10
    mov [r11 + {R12}], r12
    mov [r11 + {R13}], r13
    mov [r11 + {R14}], r14
    mov [r11 + {R15}], r15
    mov [r11 + {RIP}], rcx
    mov [r11 + {RCX}], rcx
    movabs rax, {VCPU}
    mov rsp, [rax + {V_KSTACK}]
    pushfq
    pop rcx
    mov [r11 + {RFLAGS}], rcx
    mov [r11 + {R11}], rcx
    cld
    movaps [r11 + {XMM} + 0x00], xmm0
    movaps [r11 + {XMM} + 0x10], xmm1
    movaps [r11 + {XMM} + 0x20], xmm2
    movaps [r11 + {XMM} + 0x30], xmm3
    movaps [r11 + {XMM} + 0x40], xmm4
    movaps [r11 + {XMM} + 0x50], xmm5
    movaps [r11 + {XMM} + 0x60], xmm6
    movaps [r11 + {XMM} + 0x70], xmm7
    movaps [r11 + {XMM} + 0x80], xmm8
    movaps [r11 + {XMM} + 0x90], xmm9
    movaps [r11 + {XMM} + 0xa0], xmm10
    movaps [r11 + {XMM} + 0xb0], xmm11
    movaps [r11 + {XMM} + 0xc0], xmm12
    movaps [r11 + {XMM} + 0xd0], xmm13
    movaps [r11 + {XMM} + 0xe0], xmm14
    movaps [r11 + {XMM} + 0xf0], xmm15
    rdfsbase rcx
    mov [r11 + {FS}], rcx
    mov dword ptr [r11 + {RESUME}], 0
    mov dword ptr [r11 + {XVALID}], 0
    xor edi, edi
    xor ebp, ebp
    call {KERNEL}
    jmp ftl_resume

    .globl ftl_entry_event
ftl_entry_event:
    movabs rax, {VCPU}
    mov rsp, [rax + {V_KSTACK}]
    mov rcx, [rax + {V_FS}]
    wrfsbase rcx
    ldmxcsr [rax + {V_MXCSR}]
    cld
    mov edi, 1
    xor ebp, ebp
    call {KERNEL}
    jmp ftl_resume

    // A fresh kernel stack: the first entry of a process, and of a forked one.
    .globl ftl_start_kernel
ftl_start_kernel:
    movabs rax, {VCPU}
    mov rsp, [rax + {V_KSTACK}]
    mov edi, 2
    xor ebp, ebp
    call {KERNEL}

    // rax: the context
ftl_resume:
    mov r11, rax
    movabs rcx, {VCPU}
    mov [rcx + {V_CTX}], r11
    cmp dword ptr [r11 + {XVALID}], 0
    jne 5f
    movaps xmm0, [r11 + {XMM} + 0x00]
    movaps xmm1, [r11 + {XMM} + 0x10]
    movaps xmm2, [r11 + {XMM} + 0x20]
    movaps xmm3, [r11 + {XMM} + 0x30]
    movaps xmm4, [r11 + {XMM} + 0x40]
    movaps xmm5, [r11 + {XMM} + 0x50]
    movaps xmm6, [r11 + {XMM} + 0x60]
    movaps xmm7, [r11 + {XMM} + 0x70]
    movaps xmm8, [r11 + {XMM} + 0x80]
    movaps xmm9, [r11 + {XMM} + 0x90]
    movaps xmm10, [r11 + {XMM} + 0xa0]
    movaps xmm11, [r11 + {XMM} + 0xb0]
    movaps xmm12, [r11 + {XMM} + 0xc0]
    movaps xmm13, [r11 + {XMM} + 0xd0]
    movaps xmm14, [r11 + {XMM} + 0xe0]
    movaps xmm15, [r11 + {XMM} + 0xf0]
    jmp 6f
5:
    mov rcx, [r11 + {XPTR}]
    mov eax, -1
    mov edx, -1
    xrstor64 [rcx]
6:
    mov rcx, [r11 + {FS}]
    rdfsbase rax
    cmp rax, rcx
    je 4f
    wrfsbase rcx
4:
    mov rdx, [r11 + {RDX}]
    mov rbx, [r11 + {RBX}]
    mov rbp, [r11 + {RBP}]
    mov rsi, [r11 + {RSI}]
    mov rdi, [r11 + {RDI}]
    mov r8, [r11 + {R8}]
    mov r9, [r11 + {R9}]
    mov r10, [r11 + {R10}]
    mov r12, [r11 + {R12}]
    mov r13, [r11 + {R13}]
    mov r14, [r11 + {R14}]
    mov r15, [r11 + {R15}]
    cmp dword ptr [r11 + {RESUME}], 0
    jne 7f
    push qword ptr [r11 + {RFLAGS}]
    mov rax, [r11 + {RAX}]
    mov rcx, [r11 + {RIP}]
    popfq
    mov rsp, [r11 + {RSP}]
    mov r11, [r11 + {RFLAGS}]
    jmp rcx
7:
    push 0x2b
    push qword ptr [r11 + {RSP}]
    push qword ptr [r11 + {RFLAGS}]
    push 0x33
    push qword ptr [r11 + {RIP}]
    mov rax, [r11 + {RAX}]
    mov rcx, [r11 + {RCX}]
    mov r11, [r11 + {R11}]
    iretq

    .globl ftl_entry_end
ftl_entry_end:

    // void handler(int, siginfo_t *, ucontext_t *), on the alternate stack
    .globl ftl_signal
ftl_signal:
    push rbx
    cld
    rdfsbase rbx
    movabs rax, {VCPU}
    mov rax, [rax + {V_FS}]
    wrfsbase rax
    mov rcx, rbx
    call {SIGNAL}
    wrfsbase rbx
    pop rbx
    ret

    .globl ftl_restorer
ftl_restorer:
    mov eax, 15
    syscall
    ud2

    // u64 ftl_copy(dst, src, len): bytes not copied
    .globl ftl_copy
ftl_copy:
    mov rcx, rdx
    .globl ftl_copy_fault
ftl_copy_fault:
    rep movsb
    .globl ftl_copy_fixup
ftl_copy_fixup:
    mov rax, rcx
    ret

    // u64 ftl_load32(addr): value, or bit 32 set on a fault
    .globl ftl_load32
ftl_load32:
    .globl ftl_load32_fault
ftl_load32_fault:
    mov eax, [rdi]
    ret
    .globl ftl_word_fixup
ftl_word_fixup:
    movabs rax, 0x100000000
    ret

    // u64 ftl_cmpxchg32(addr, old, new): value found, or bit 32 set on a fault
    .globl ftl_cmpxchg32
ftl_cmpxchg32:
    mov eax, esi
    .globl ftl_cmpxchg32_fault
ftl_cmpxchg32_fault:
    lock cmpxchg [rdi], edx
    mov eax, eax
    ret

    // u64 ftl_scan(addr, max): length up to a NUL; -1 none within max; -2 fault
    .globl ftl_scan
ftl_scan:
    xor eax, eax
8:
    cmp rax, rsi
    jae 9f
    .globl ftl_scan_fault
ftl_scan_fault:
    cmp byte ptr [rdi + rax], 0
    je 10f
    inc rax
    jmp 8b
9:
    mov rax, -1
10:
    ret
    .globl ftl_scan_fixup
ftl_scan_fixup:
    mov rax, -2
    ret
"#,
    VCPU = const VCPU_BASE,
    V_CTX = const offset_of!(Vcpu, ctx),
    V_KSTACK = const offset_of!(Vcpu, kstack),
    V_FS = const offset_of!(Vcpu, fs),
    V_MXCSR = const offset_of!(Vcpu, mxcsr),
    RAX = const reg::RAX * 8, RCX = const reg::RCX * 8, RDX = const reg::RDX * 8, RBX = const reg::RBX * 8,
    RSP = const reg::RSP * 8, RBP = const reg::RBP * 8, RSI = const reg::RSI * 8, RDI = const reg::RDI * 8,
    R8 = const reg::R8 * 8, R9 = const reg::R9 * 8, R10 = const reg::R10 * 8, R11 = const reg::R11 * 8,
    R12 = const reg::R12 * 8, R13 = const reg::R13 * 8, R14 = const reg::R14 * 8, R15 = const reg::R15 * 8,
    RIP = const offset_of!(Context, rip),
    RFLAGS = const offset_of!(Context, rflags),
    FS = const offset_of!(Context, fs_base),
    RESUME = const offset_of!(Context, resume),
    XVALID = const offset_of!(Context, xstate_valid),
    XPTR = const offset_of!(Context, xstate_ptr),
    XMM = const offset_of!(Context, xmm),
    KERNEL = sym crate::run::kernel_entry,
    SIGNAL = sym crate::fault::on_signal,
);

const _: () = assert!(offset_of!(Context, regs) == 0 && offset_of!(Context, xmm) % 16 == 0);

#[allow(missing_docs)]
unsafe extern "C" {
    pub fn ftl_entry_begin();
    pub fn ftl_entry_end();
    pub fn ftl_entry_call();
    pub fn ftl_entry_event();
    pub fn ftl_start_kernel() -> !;
    pub fn ftl_signal();
    pub fn ftl_restorer();
    pub fn ftl_copy(dst: u64, src: u64, len: u64) -> u64;
    pub fn ftl_copy_fault();
    pub fn ftl_copy_fixup();
    pub fn ftl_load32(addr: u64) -> u64;
    pub fn ftl_load32_fault();
    pub fn ftl_word_fixup();
    pub fn ftl_cmpxchg32(addr: u64, old: u32, new: u32) -> u64;
    pub fn ftl_cmpxchg32_fault();
    pub fn ftl_scan(addr: u64, max: u64) -> u64;
    pub fn ftl_scan_fault();
    pub fn ftl_scan_fixup();
}

/// Where a fault at `rip` inside a guest copy goes on, if it is one.
pub fn fixup(rip: u64) -> Option<u64> {
    let at = |f: unsafe extern "C" fn()| f as *const () as u64;
    match rip {
        r if r == at(ftl_copy_fault) => Some(at(ftl_copy_fixup)),
        r if r == at(ftl_load32_fault) || r == at(ftl_cmpxchg32_fault) => Some(at(ftl_word_fixup)),
        r if r == at(ftl_scan_fault) => Some(at(ftl_scan_fixup)),
        _ => None,
    }
}
