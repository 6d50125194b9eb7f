//! The choice of the bytes to replace.

use super::relocate::{self, Moved, Next};
use super::window::Window;
use super::{
    Avoid, Form, JUMP_LEN, Obstacle, PatchPlan, References, Request, Unpatchable, interior, targets,
};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Functions begin at multiples of this, where their compiler aligns them at all.
const FUNCTION_ALIGN: u64 = 16;
/// No more predecessors than this are of use: the shortest three have three bytes.
const BEFORE_MAX: usize = 3;
/// How many predecessors are searched for the syscall's number.
const NUMBER_BACK: usize = 12;
/// A prefix that a `syscall` ignores, but a jump in its place would not on every processor.
const OPERAND_SIZE: u8 = 0x66;
/// rt_sigreturn, exit, exit_group: what follows these is not reached from them.
const NO_RETURN: [u64; 3] = [15, 60, 231];

/// User addresses end here even with five-level page tables; below it, nothing near a site overflows.
const ADDR_MAX: u64 = 1 << 57;

/// Everything known of a site while choosing.
struct Site<'a> {
    code: &'a [u8],
    code_addr: u64,
    /// Offset of the `syscall`.
    at: usize,
    addr: u64,
    window: Window<'a>,
    /// Sorted addresses near the site that something refers to.
    entered: Vec<u64>,
    avoid: &'a Avoid<'a>,
    /// Starts of the certain predecessors, nearest first.
    before: Vec<usize>,
    returns: bool,
}

/// A way to cover the jump's bytes on one side.
#[derive(Default)]
struct Side {
    moved: Vec<Moved>,
    /// Bytes covered beyond the `syscall`'s own, padding included.
    len: usize,
    leaves: bool,
}

pub(super) fn plan(
    req: &Request<'_>,
    avoid: &Avoid<'_>,
    text: Option<(u64, &References)>,
) -> Result<PatchPlan, Unpatchable> {
    let outside = Unpatchable::OutsideWindow(req.site);
    let at = req
        .site
        .checked_sub(req.code_addr)
        .and_then(|at| usize::try_from(at).ok())
        .ok_or(outside)?;
    let ends_at = req
        .code_addr
        .checked_add(req.code.len() as u64)
        .filter(|&end| end <= ADDR_MAX);
    let bytes = at
        .checked_add(2)
        .and_then(|end| req.code.get(at..end))
        .filter(|_| ends_at.is_some());
    if bytes.ok_or(outside)? != [0x0f, 0x05] {
        return Err(Unpatchable::NotASyscall(req.site));
    }
    let window = Window::new(req.code, req.code_addr, at);
    let entered = match text {
        Some((start, refs)) => targets::find_in(&window, refs, start, req.site),
        None => targets::find(&window, req.code, req.code_addr, req.site),
    };
    let before = window.predecessors();
    let mut site = Site {
        code: req.code,
        code_addr: req.code_addr,
        at,
        addr: req.site,
        window,
        entered,
        avoid,
        before,
        returns: true,
    };
    if at > 0 && site.code[at - 1] == OPERAND_SIZE && site.before.is_empty() {
        let unsure = Obstacle::Ambiguous(req.site);
        return Err(Unpatchable::NoRoom {
            site: req.site,
            before: unsure,
            behind: unsure,
        });
    }
    site.returns = !site.number().is_some_and(|number| NO_RETURN.contains(&number));
    site.choose()
}

impl Site<'_> {
    fn choose(&self) -> Result<PatchPlan, Unpatchable> {
        // An instruction at an aligned address may begin a function that nothing here refers to. That is rarely so,
        // hence no obstacle, but other forms go first.
        let mut obstacles = (Obstacle::WindowEnd, Obstacle::WindowEnd);
        for aligned_ok in [false, true] {
            match self.with_followers(None, aligned_ok) {
                Ok(plan) => return Ok(plan),
                Err(why) => obstacles.1 = why,
            }
            match self.with_predecessors(aligned_ok) {
                Ok(plan) => return Ok(plan),
                Err(why) => obstacles.0 = why,
            }
        }
        Err(Unpatchable::NoRoom {
            site: self.addr,
            before: obstacles.0,
            behind: obstacles.1,
        })
    }

    fn with_predecessors(&self, aligned_ok: bool) -> Result<PatchPlan, Obstacle> {
        let mut side = Side::default();
        let mut why = Obstacle::Ambiguous(self.addr);
        if !self.window.plausible() {
            return Err(why);
        }
        for &start in self.before.iter().take(BEFORE_MAX) {
            let end = self.at - side.len;
            let ambiguous = Obstacle::Ambiguous(self.addr_of(end));
            let insn = self.window.decode(start).filter(|insn| start + insn.len() == end);
            let insn = insn.ok_or(ambiguous)?;
            let entry = insn.mnemonic() == Mnemonic::Endbr64;
            side.moved.insert(0, self.movable_before(insn, start)?);
            side.len = self.at - start;
            match self.with_followers(Some(&side), aligned_ok) {
                Ok(plan) => return Ok(plan),
                // Indirect branches come to an endbr64, so nothing before it may be replaced.
                Err(_) if entry => return Err(Obstacle::Entered(insn.ip())),
                // Room was not what was missing.
                Err(obstacle) if side.len + 2 >= JUMP_LEN => return Err(obstacle),
                Err(obstacle) => why = obstacle,
            }
        }
        Err(why)
    }

    fn movable_before(&self, insn: Instruction, start: usize) -> Result<Moved, Obstacle> {
        let fixed = |why| Obstacle::Fixed { addr: insn.ip(), why };
        match insn.mnemonic() {
            // What precedes the syscall need not be reached through it.
            Mnemonic::Nop => Err(fixed("it may be padding before a function")),
            Mnemonic::Endbr64 => relocate::verbatim(self.code, insn, start).map_err(fixed),
            _ => match relocate::movable(self.code, insn, start).map_err(fixed)? {
                (_, Next::Leaves) => Err(fixed("it does not fall through")),
                (moved, Next::Falls) => Ok(moved),
            },
        }
    }

    /// The plan with these predecessors and as few followers as it takes.
    fn with_followers(&self, before: Option<&Side>, aligned_ok: bool) -> Result<PatchPlan, Obstacle> {
        let (moved_before, before_len) =
            before.map_or((Vec::new(), 0), |side| (side.moved.clone(), side.len));
        let have = before_len + 2;
        let after = self.followers(JUMP_LEN.saturating_sub(have))?;
        let start = self.addr - before_len as u64;
        let len = have + after.len;
        let padded = after.moved.iter().map(|moved| moved.insn.len()).sum::<usize>() < after.len;
        let form = match (before_len, padded) {
            (0, false) => Form::Followers,
            (0, true) => Form::Tail,
            _ => Form::Predecessors,
        };
        let first = self.at - before_len;
        let plan = PatchPlan {
            site: self.addr,
            patch_addr: start,
            patch_len: len,
            form,
            before: moved_before,
            after: after.moved,
            ends: after.leaves,
            original: self.code[first..first + len].to_vec(),
        };
        self.check_range(&plan, aligned_ok)?;
        Ok(plan)
    }

    /// Instructions behind the `syscall`, and padding behind those, to cover `need` bytes.
    fn followers(&self, need: usize) -> Result<Side, Obstacle> {
        let mut side = Side::default();
        if need > 0 && !self.returns {
            return Err(Obstacle::NoReturn);
        }
        while side.len < need {
            let at = self.at + 2 + side.len;
            if side.leaves {
                side.len += self.padding(at, need - side.len)?;
                break;
            }
            let addr = self.addr_of(at);
            let insn = self.window.decode(at).ok_or(match at < self.code.len() {
                true => Obstacle::Fixed {
                    addr,
                    why: "it does not decode",
                },
                false => Obstacle::WindowEnd,
            })?;
            let (moved, next) =
                relocate::movable(self.code, insn, at).map_err(|why| Obstacle::Fixed { addr, why })?;
            side.len += insn.len();
            side.leaves = next == Next::Leaves;
            // What follows a nop may be a function that this code never reaches.
            if insn.mnemonic() == Mnemonic::Nop && side.len < need {
                return Err(Obstacle::Fixed {
                    addr,
                    why: "it may be padding before a function",
                });
            }
            side.moved.push(moved);
        }
        Ok(side)
    }

    /// Checks that `need` bytes from `at` on are dead padding: nops, int3 or zeros, and no place where a function
    /// could begin.
    fn padding(&self, at: usize, need: usize) -> Result<usize, Obstacle> {
        let addr = self.addr_of(at);
        if addr.next_multiple_of(FUNCTION_ALIGN) < addr + need as u64 {
            return Err(Obstacle::Entered(addr.next_multiple_of(FUNCTION_ALIGN)));
        }
        let not_padding = Obstacle::Fixed {
            addr,
            why: "it follows the function's end and is no padding",
        };
        let mut end = at;
        while end < at + need {
            end += match *self.code.get(end).ok_or(Obstacle::WindowEnd)? {
                0xcc => 1,
                0 => self.zeros(end).ok_or(not_padding)?,
                _ => {
                    let nop = self
                        .window
                        .decode(end)
                        .filter(|insn| insn.mnemonic() == Mnemonic::Nop);
                    nop.ok_or(not_padding)?.len()
                }
            };
        }
        Ok(need)
    }

    /// Length of a run of zeros that ends where a function could begin. Other zeros may be data.
    fn zeros(&self, at: usize) -> Option<usize> {
        let rest = &self.code[at..];
        let len = rest.iter().position(|&byte| byte != 0).unwrap_or(rest.len());
        let aligned = self.addr_of(at + len).is_multiple_of(FUNCTION_ALIGN) || len == rest.len();
        (aligned && len < FUNCTION_ALIGN as usize).then_some(len)
    }

    fn check_range(&self, plan: &PatchPlan, aligned_ok: bool) -> Result<(), Obstacle> {
        let (start, end) = (plan.patch_addr, plan.patch_end());
        let entries = self.avoid.entries;
        let known = entries[entries.partition_point(|&entry| entry <= start)..].first();
        let mut referred = self.entered.iter().filter(|&&addr| interior(start, end, addr));
        if let Some(&addr) = referred.find(|&&addr| can_be_entered(plan, addr)) {
            return Err(Obstacle::Entered(addr));
        }
        if let Some(&addr) = known.filter(|&&addr| addr < end) {
            return Err(Obstacle::Entered(addr));
        }
        if let Some(&(taken, _)) = self
            .avoid
            .taken
            .iter()
            .find(|&&(from, to)| from < end && start < to)
        {
            return Err(Obstacle::Taken(taken));
        }
        let moved = plan.before.iter().chain(&plan.after).map(|moved| moved.insn.ip());
        let aligned = moved
            .chain([plan.site])
            .find(|&ip| ip > start && ip.is_multiple_of(FUNCTION_ALIGN));
        match aligned {
            Some(addr) if !aligned_ok => Err(Obstacle::Entered(addr)),
            _ => Ok(()),
        }
    }

    fn addr_of(&self, at: usize) -> u64 {
        self.code_addr + at as u64
    }

    /// The syscall's number, if the instructions before it load a constant.
    fn number(&self) -> Option<u64> {
        let mut pop_pending = false;
        for &start in self.before.iter().take(NUMBER_BACK) {
            let insn = self.window.decode(start)?;
            if insn.flow_control() != iced_x86::FlowControl::Next {
                return None;
            }
            let first = insn.op0_kind();
            if pop_pending {
                let push = insn.mnemonic() == Mnemonic::Push && is_immediate(first);
                return push.then(|| insn.immediate(0) & 0xffff_ffff);
            }
            if first != OpKind::Register || insn.op0_register().full_register() != Register::RAX {
                continue;
            }
            match insn.mnemonic() {
                // Compilers and people load al only over a cleared eax.
                Mnemonic::Mov if is_immediate(insn.op1_kind()) => {
                    return Some(insn.immediate(1) & 0xffff_ffff);
                }
                Mnemonic::Pop => pop_pending = true,
                Mnemonic::Test | Mnemonic::Cmp | Mnemonic::Push => {}
                _ => return None,
            }
        }
        None
    }
}

/// References are overstated: one into the inside of an instruction that is known to begin before it is none. Two
/// exceptions: code does jump over a `lock` prefix, and padding has no inside.
fn can_be_entered(plan: &PatchPlan, addr: u64) -> bool {
    let moved = plan.before.iter().chain(&plan.after);
    let holder = moved
        .map(|moved| &moved.insn)
        .find(|insn| insn.ip() <= addr && addr < insn.next_ip());
    match holder {
        Some(insn) => addr == insn.ip() || (insn.has_lock_prefix() && addr == insn.ip() + 1),
        None => addr != plan.site + 1,
    }
}

fn is_immediate(kind: OpKind) -> bool {
    use OpKind::{
        Immediate8, Immediate8to16, Immediate8to32, Immediate8to64, Immediate32, Immediate32to64, Immediate64,
    };
    matches!(
        kind,
        Immediate8
            | Immediate8to16
            | Immediate8to32
            | Immediate8to64
            | Immediate32
            | Immediate32to64
            | Immediate64
    )
}
