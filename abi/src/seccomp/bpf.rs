//! Classic BPF programs over `struct seccomp_data` (net/core/filter.c, kernel/seccomp.c).

use ftl_core::errno::Errno;

/// Bytes of struct seccomp_data.
pub const DATA_LEN: usize = 64;
const MAX_LEN: usize = 4096;
const CELLS: u32 = 16;

const LD_W_ABS: u16 = 0x20;
const LD_W_LEN: u16 = 0x80;
const LDX_W_LEN: u16 = 0x81;
const LD_IMM: u16 = 0x00;
const LDX_IMM: u16 = 0x01;
const LD_MEM: u16 = 0x60;
const LDX_MEM: u16 = 0x61;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const JA: u16 = 0x05;
const RET_K: u16 = 0x06;
const RET_A: u16 = 0x16;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;
const SRC_X: u16 = 0x08;

/// struct sock_filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A checked program.
#[derive(Debug)]
pub struct Program(Vec<Insn>);

impl Program {
    /// Takes a program from the guest's array of struct sock_filter: EINVAL unless every path ends in a
    /// return and every instruction is one that filters may have.
    pub fn parse(bytes: &[u8]) -> Result<Program, Errno> {
        let list: Vec<Insn> = bytes
            .chunks_exact(8)
            .map(|c| Insn {
                code: u16::from_le_bytes([c[0], c[1]]),
                jt: c[2],
                jf: c[3],
                k: u32::from_le_bytes([c[4], c[5], c[6], c[7]]),
            })
            .collect();
        if list.is_empty() || list.len() > MAX_LEN {
            return Err(Errno::EINVAL);
        }
        check(&list)?;
        Ok(Program(list))
    }

    /// Number of instructions.
    pub fn instructions(&self) -> usize {
        self.0.len()
    }

    /// What the program returns for a call.
    pub fn run(&self, data: &[u8; DATA_LEN]) -> u32 {
        let (mut a, mut x) = (0u32, 0u32);
        let mut mem = [0u32; CELLS as usize];
        let mut pc = 0usize;
        // Jumps go forward only, and the last instruction returns.
        while let Some(i) = self.0.get(pc) {
            pc += 1;
            match i.code {
                LD_W_ABS => {
                    let at = i.k as usize;
                    a = u32::from_le_bytes(std::array::from_fn(|n| data[at + n]));
                }
                LD_W_LEN => a = DATA_LEN as u32,
                LDX_W_LEN => x = DATA_LEN as u32,
                LD_IMM => a = i.k,
                LDX_IMM => x = i.k,
                LD_MEM => a = mem[i.k as usize],
                LDX_MEM => x = mem[i.k as usize],
                ST => mem[i.k as usize] = a,
                STX => mem[i.k as usize] = x,
                RET_K => return i.k,
                RET_A => return a,
                TAX => x = a,
                TXA => a = x,
                JA => pc += i.k as usize,
                c if c & 7 == JMP => {
                    let v = if c & SRC_X != 0 { x } else { i.k };
                    let yes = match c & 0xf0 {
                        0x10 => a == v,
                        0x20 => a > v,
                        0x30 => a >= v,
                        _ => a & v != 0,
                    };
                    pc += usize::from(if yes { i.jt } else { i.jf });
                }
                c => {
                    let v = if c & SRC_X != 0 { x } else { i.k };
                    a = match c & 0xf0 {
                        0x00 => a.wrapping_add(v),
                        0x10 => a.wrapping_sub(v),
                        0x20 => a.wrapping_mul(v),
                        // Division by zero ends the program with 0.
                        0x30 => match a.checked_div(v) {
                            Some(q) => q,
                            None => return 0,
                        },
                        0x40 => a | v,
                        0x50 => a & v,
                        0x60 => a.wrapping_shl(v),
                        0x70 => a.wrapping_shr(v),
                        0x80 => a.wrapping_neg(),
                        _ => a ^ v,
                    };
                }
            }
        }
        0
    }
}

/// An arithmetic instruction that filters may have: not MOD.
fn is_alu(code: u16) -> bool {
    code & 7 == ALU
        && code <= 0xff
        && matches!(code & 0xf0, 0x00..=0x80 | 0xa0)
        && (code & 0xf0 != 0x80 || code == 0x84)
}

fn is_branch(code: u16) -> bool {
    code & 7 == JMP && code <= 0xff && matches!(code & 0xf0, 0x10..=0x40)
}

/// bpf_check_classic() and seccomp_check_filter().
fn check(list: &[Insn]) -> Result<(), Errno> {
    let n = list.len();
    // Which cells have surely been stored to when an instruction begins.
    let mut known = vec![u16::MAX; n];
    let mut valid = 0u16;
    for (pc, i) in list.iter().enumerate() {
        valid &= known[pc];
        let left = n - pc - 1;
        match i.code {
            LD_W_ABS if i.k < DATA_LEN as u32 && i.k.is_multiple_of(4) => {}
            LD_W_LEN | LDX_W_LEN | LD_IMM | LDX_IMM | RET_K | RET_A | TAX | TXA => {}
            ST | STX if i.k < CELLS => valid |= 1 << i.k,
            LD_MEM | LDX_MEM if i.k < CELLS && valid & 1 << i.k != 0 => {}
            JA if (i.k as usize) < left => {
                known[pc + 1 + i.k as usize] &= valid;
                valid = u16::MAX;
            }
            c if is_branch(c) && usize::from(i.jt) < left && usize::from(i.jf) < left => {
                known[pc + 1 + usize::from(i.jt)] &= valid;
                known[pc + 1 + usize::from(i.jf)] &= valid;
                valid = u16::MAX;
            }
            c if is_alu(c) => {
                let constant = c & SRC_X == 0;
                let bad = match c & 0xf0 {
                    0x30 => constant && i.k == 0,
                    0x60 | 0x70 => constant && i.k >= 32,
                    _ => false,
                };
                if bad {
                    return Err(Errno::EINVAL);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    match list.last().map(|i| i.code) {
        Some(RET_K | RET_A) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(list: &[(u16, u8, u8, u32)]) -> Result<Program, Errno> {
        let mut bytes = Vec::new();
        for (code, jt, jf, k) in list {
            bytes.extend_from_slice(&code.to_le_bytes());
            bytes.extend_from_slice(&[*jt, *jf]);
            bytes.extend_from_slice(&k.to_le_bytes());
        }
        Program::parse(&bytes)
    }

    fn run(list: &[(u16, u8, u8, u32)]) -> u32 {
        let mut data = [0; DATA_LEN];
        data[0] = 39;
        program(list).map_or(u32::MAX, |p| p.run(&data))
    }

    #[test]
    fn computes() {
        assert_eq!(
            run(&[
                (LD_W_ABS, 0, 0, 0),
                (0x15, 0, 1, 39),
                (RET_K, 0, 0, 7),
                (RET_K, 0, 0, 8)
            ]),
            7
        );
        assert_eq!(
            run(&[
                (LD_IMM, 0, 0, 6),
                (TAX, 0, 0, 0),
                (0x2c, 0, 0, 0),
                (RET_A, 0, 0, 0)
            ]),
            36
        );
        assert_eq!(run(&[(LD_IMM, 0, 0, 6), (0x3c, 0, 0, 0), (RET_K, 0, 0, 9)]), 0);
        assert_eq!(run(&[(LD_IMM, 0, 0, 6), (0xa4, 0, 0, 3), (RET_A, 0, 0, 0)]), 5);
        assert_eq!(
            run(&[
                (LD_IMM, 0, 0, 6),
                (ST, 0, 0, 15),
                (LDX_MEM, 0, 0, 15),
                (TXA, 0, 0, 0),
                (RET_A, 0, 0, 0)
            ]),
            6
        );
    }

    #[test]
    fn refuses() {
        assert!(program(&[]).is_err());
        assert!(program(&[(LD_IMM, 0, 0, 0)]).is_err());
        assert!(program(&[(LD_W_ABS, 0, 0, 64), (RET_A, 0, 0, 0)]).is_err());
        assert!(program(&[(LD_W_ABS, 0, 0, 2), (RET_A, 0, 0, 0)]).is_err());
        assert!(program(&[(0x15, 1, 0, 0), (RET_A, 0, 0, 0)]).is_err());
        assert!(program(&[(JA, 0, 0, 1), (RET_A, 0, 0, 0)]).is_err());
        assert!(program(&[(0x34, 0, 0, 0), (RET_A, 0, 0, 0)]).is_err());
        assert!(program(&[(0x94, 0, 0, 3), (RET_A, 0, 0, 0)]).is_err());
        assert!(program(&[(LD_MEM, 0, 0, 3), (RET_A, 0, 0, 0)]).is_err());
        assert!(
            program(&[
                (0x15, 1, 0, 0),
                (ST, 0, 0, 1),
                (LD_MEM, 0, 0, 1),
                (RET_A, 0, 0, 0)
            ])
            .is_err()
        );
        assert!(program(&[(0x30, 0, 0, 0), (RET_A, 0, 0, 0)]).is_err());
    }
}
