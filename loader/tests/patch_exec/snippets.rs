//! Guest code for the tests: each snippet is called, contains one syscall, and returns.

/// A snippet of guest code; `site` labels its syscall. It is called and must return.
macro_rules! snippet {
    ($name:ident, $text:literal) => {
        pub mod $name {
            use std::arch::global_asm;
            global_asm!(
                ".p2align 6",
                concat!(".globl ftl_", stringify!($name)),
                concat!("ftl_", stringify!($name), ":"),
                $text,
                concat!(".globl ftl_", stringify!($name), "_end"),
                concat!("ftl_", stringify!($name), "_end:"),
            );
            pub fn bytes() -> Vec<u8> {
                unsafe extern "C" {
                    #[link_name = concat!("ftl_", stringify!($name))]
                    static START: u8;
                    #[link_name = concat!("ftl_", stringify!($name), "_end")]
                    static END: u8;
                }
                let (start, end) = (&raw const START, &raw const END);
                // SAFETY: both labels are in this binary's text, the second behind the first.
                unsafe { std::slice::from_raw_parts(start, end as usize - start as usize).to_vec() }
            }
        }
    };
}

snippet!(
    glibc_wrapper,
    "mov eax, 39; syscall; cmp rax, -4095; jae 2f; ret; 2: neg eax; ret"
);
snippet!(
    failing_call,
    "mov eax, 9999; syscall; cmp rax, -4095; jae 2f; ret; 2: neg eax; stc; ret"
);
snippet!(
    short_jcc_first,
    "mov eax, 39; test eax, eax; syscall; jne 2f; mov ebx, 7; 2: lea rbx, [rbx + rax]; ret"
);
snippet!(
    jmp_follows,
    "mov eax, 39; syscall; jmp 3f; 2: int3; 3: inc r8; ret"
);
snippet!(
    tail_ret,
    "mov eax, 39; syscall; ret; .byte 0xcc, 0xcc, 0xcc, 0xcc"
);
snippet!(tail_ret_nops, "mov eax, 39; syscall; ret; .p2align 4");
snippet!(
    rip_operand,
    "mov eax, 39; syscall; mov rdx, [rip + 2f]; add [rip + 2f], rax; ret; .p2align 3; 2: .quad 0x123456789abcdef0"
);
snippet!(
    flags_and_red_zone,
    "mov [rsp - 8], rdi; mov eax, 39; cmp rdi, rsi; syscall; setc bl; adc rdx, [rsp - 8]; ret"
);
snippet!(
    movabs_follows,
    "mov eax, 39; syscall; movabs r9, 0x1122334455667788; ret"
);
snippet!(
    rcx_and_r11_are_read,
    "mov eax, 39; syscall; mov r14, rcx; mov r15, r11; ret"
);
// A call follows, so what precedes must move.
snippet!(
    mov_precedes,
    "nop; mov eax, 39; syscall; call 2f; ret; 2: add rax, 1; ret"
);
snippet!(
    two_precede,
    "sub rbx, 5; mov ebp, edi; mov eax, esi; syscall; call 2f; ret; 2: add rax, 1; ret"
);
snippet!(
    rip_operand_precedes,
    "mov rax, [rip + 3f]; syscall; call 2f; ret; 2: ret; .p2align 3; 3: .quad 39"
);
snippet!(
    jcc_precedes,
    "mov eax, 39; cmp rdi, rsi; je 3f; xchg r8, r9; syscall; call 2f; 3: ret; 2: ret"
);
// Jumped to from elsewhere: behind the syscall, and at it.
snippet!(
    target_behind,
    "mov eax, 39; test rdi, rdi; je 2f; mov eax, 39; syscall; 2: add rax, 3; inc rax; ret"
);
snippet!(
    target_at,
    "mov eax, 39; test rdi, rdi; jne 2f; mov eax, 102; 2: syscall; add rax, 3; inc rax; ret"
);
snippet!(
    loop_over,
    "mov ebx, 3; 2: mov eax, 39; syscall; dec ebx; jnz 2b; ret"
);
snippet!(
    loop_at,
    "mov ebx, 3; mov eax, 39; 2: syscall; mov eax, 39; dec ebx; jnz 2b; ret"
);
snippet!(
    endbr_first,
    "jmp 3f; .p2align 4, 0xcc; 2: endbr64; syscall; call 4f; ret; 4: ret; 3: mov eax, 39; jmp 2b"
);
snippet!(
    locked,
    "mov dword ptr [rsp - 64], 7; mov eax, 39; syscall; lock add dword ptr [rsp - 64], 1; ret"
);
snippet!(
    string_op,
    "mov eax, 39; lea rdi, [rsp - 96]; lea rsi, [rsp - 48]; mov r10d, 3; syscall; mov ecx, r10d; rep movsb; ret"
);
