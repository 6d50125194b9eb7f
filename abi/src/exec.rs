//! Loading a program: the two halves of execve(2).
//!
//! [`ExecImage::prepare`] does all that can fail, in the old address space. [`ExecImage::load`] is
//! past the point of no return and runs in the space that the program will have.

use crate::cx::Cx;
use crate::fdtable::OpenFile;
use crate::mm::{Layout, STACK_GUARD, Vma, VmaFile, VmaFlags, VmaKind};
use crate::task::Task;
use ftl_core::context::{Resume, reg};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Stop};
use ftl_core::layout::{self, GUEST_PIE_BASE, PAGE};
use ftl_core::platform::{Backing, Prot};
use ftl_loader::elf::{self, ElfPlan, Kind, SegFlags};
use ftl_loader::{script, stack};
use std::rc::Rc;

/// Most bytes of argument and environment strings (a quarter of the default stack, MAX_ARG_STRLEN * 16).
pub const MAX_ARG_BYTES: usize = 2 << 20;
/// Most bytes of the main stack.
pub const MAX_STACK: u64 = 64 << 20;
const RLIMIT_STACK: usize = 3;

/// Why a program cannot be loaded: the errno for the guest, a line for the user.
#[derive(Debug)]
pub struct ExecError {
    /// For the guest.
    pub errno: Errno,
    /// For a person.
    pub why: String,
}

impl From<Errno> for ExecError {
    fn from(errno: Errno) -> ExecError {
        let why = match errno {
            Errno::ENOENT => "no such file or directory".to_string(),
            Errno::EACCES => "permission denied".to_string(),
            Errno::ENOTDIR => "not a directory".to_string(),
            Errno::EISDIR => "is a directory".to_string(),
            Errno::ELOOP => "too many levels of symbolic links".to_string(),
            Errno::E2BIG => format!("arguments and environment exceed {} bytes", MAX_ARG_BYTES),
            other => other.to_string(),
        };
        ExecError { errno, why }
    }
}

impl From<Stop> for ExecError {
    fn from(s: Stop) -> ExecError {
        match s {
            Stop::Errno(e) => e.into(),
            _ => Errno::EIO.into(),
        }
    }
}

struct Object {
    open: Rc<OpenFile>,
    path: Vec<u8>,
    plan: ElfPlan,
}

/// A program that is known to be loadable.
pub struct ExecImage {
    main: Object,
    interp: Option<Object>,
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
    execfn: Vec<u8>,
}

fn read_at(cx: &mut Cx<'_>, open: &OpenFile, offset: u64, len: usize) -> Io<Vec<u8>> {
    let mut out = Vec::new();
    while out.len() < len {
        let mut dst = Dst::kernel(len - out.len());
        let n = open.file.read(&mut cx.env, offset + out.len() as u64, &mut dst)?;
        if n == 0 {
            break;
        }
        out.extend_from_slice(&dst.into_bytes());
    }
    Ok(out)
}

fn no_exec(path: &[u8], why: impl std::fmt::Display) -> ExecError {
    ExecError {
        errno: Errno::ENOEXEC,
        why: format!("{}: {why}", String::from_utf8_lossy(path)),
    }
}

fn open_elf(cx: &mut Cx<'_>, path: &[u8], open: Rc<OpenFile>) -> Result<Object, ExecError> {
    let size = open.file.stat(&mut cx.env)?.size;
    let first = read_at(cx, &open, 0, elf::EHDR_LEN)?;
    let need = elf::head_len_needed(&first).map_err(|e| no_exec(path, e))?;
    let head = read_at(cx, &open, 0, need)?;
    let plan = elf::plan(&head, size).map_err(|e| no_exec(path, e))?;
    // The path without symlinks, as /proc/PID/maps and exe show it.
    let path = open.file.describe();
    Ok(Object { open, path, plan })
}

impl ExecImage {
    /// Checks that `path` can be run and reads what loading needs. `opened` is the file if the caller
    /// has it already.
    pub fn prepare(
        cx: &mut Cx<'_>,
        path: &[u8],
        mut opened: Option<Rc<OpenFile>>,
        mut argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
    ) -> Result<ExecImage, ExecError> {
        let mut file = path.to_vec();
        let execfn = path.to_vec();
        for _ in 0..5 {
            let open = match opened.take() {
                Some(open) => open,
                None => crate::fs::open_for_exec(cx, &file)
                    .map_err(ExecError::from)
                    .map_err(|e| ExecError {
                        why: format!("{}: {}", String::from_utf8_lossy(&file), e.why),
                        ..e
                    })?,
            };
            let head = read_at(cx, &open, 0, 256)?;
            if let Some(script) = script::parse(&head) {
                let script = script.map_err(|e| no_exec(&file, e))?;
                if argv.is_empty() {
                    argv.push(Vec::new());
                }
                let mut new = vec![script.interp.clone()];
                new.extend(script.arg);
                new.push(file);
                new.extend(argv.drain(1..));
                argv = new;
                file = script.interp;
                continue;
            }
            let main = open_elf(cx, &file, open)?;
            let interp = match main.plan.interp {
                None => None,
                Some((offset, len)) => {
                    let bytes = read_at(cx, &main.open, offset, len)?;
                    let path = elf::interp_path(&bytes).map_err(|e| no_exec(&file, e))?.to_vec();
                    let open = crate::fs::open_for_exec(cx, &path)
                        .map_err(ExecError::from)
                        .map_err(|e| ExecError {
                            why: format!("interpreter {}: {}", String::from_utf8_lossy(&path), e.why),
                            ..e
                        })?;
                    let object = open_elf(cx, &path, open).map_err(|e| ExecError {
                        errno: Errno::ELIBBAD,
                        ..e
                    })?;
                    Some(object)
                }
            };
            let strings: usize = argv.iter().chain(&envp).map(|s| s.len() + 1 + 8).sum();
            if strings > MAX_ARG_BYTES {
                return Err(Errno::E2BIG.into());
            }
            return Ok(ExecImage {
                main,
                interp,
                argv,
                envp,
                execfn,
            });
        }
        Err(ExecError {
            errno: Errno::ELOOP,
            why: format!("{}: too many #! levels", String::from_utf8_lossy(path)),
        })
    }

    /// Replaces the contents of the current space and sets the task's registers.
    pub fn load(self, cx: &mut Cx<'_>) {
        let task = cx.task.clone();
        let mm = task.mm();
        cx.env.plat.clear_space();
        mm.clear();
        let bias = match self.main.plan.kind {
            Kind::Exec => 0,
            Kind::Dyn if self.interp.is_some() => {
                let slide = (cx.core.random_u64() & 0xff_ffff) * PAGE;
                self.main
                    .plan
                    .bias_for(GUEST_PIE_BASE + slide)
                    .unwrap_or(GUEST_PIE_BASE)
            }
            // Static-PIE and ld.so run by hand: in the mmap area, so that brk has room below.
            Kind::Dyn => self.place(cx, &self.main.plan),
        };
        let stack_len = {
            let soft = task.process().rlimits.borrow()[RLIMIT_STACK].0;
            layout::page_up(soft.clamp(1 << 20, MAX_STACK)).unwrap_or(MAX_STACK)
        };
        // The stack is the highest mapping; its whole length is reserved, so that it "grows" without us.
        let top = mm.mmap_base.get();
        let stack_prot = if self.main.plan.exec_stack {
            Prot::READ | Prot::WRITE | Prot::EXEC
        } else {
            Prot::READ | Prot::WRITE
        };
        mm.map_anon(
            cx.env.plat,
            top - stack_len,
            stack_len,
            stack_prot,
            VmaKind::Stack,
        );
        mm.set_mmap_base(top - stack_len - STACK_GUARD);
        map_object(cx, &self.main, bias);
        let (entry, base) = match &self.interp {
            Some(i) => {
                let b = match i.plan.kind {
                    Kind::Exec => 0,
                    Kind::Dyn => self.place(cx, &i.plan),
                };
                map_object(cx, i, b);
                (i.plan.entry.wrapping_add(b), b.wrapping_add(i.plan.lo))
            }
            None => (self.main.plan.entry.wrapping_add(bias), 0),
        };
        let vdso = map_vdso(cx);
        let heap = layout::page_up(self.main.plan.hi.wrapping_add(bias)).unwrap_or(0);
        mm.brk.set((heap, heap));

        let mut random = [0; 16];
        cx.core.random(&mut random);
        let built = self.stack(cx, top, entry_args(&self.main.plan, bias, base, vdso, cx), random);
        let Ok(built) = built else {
            // prepare() bounded the strings far below the smallest stack.
            cx.k.exit_process(cx.env.plat, &task.process(), crate::task::Exit::Signal(9, false));
            return;
        };
        if cx.write(built.sp, &built.bytes).is_err() {
            cx.k.exit_process(cx.env.plat, &task.process(), crate::task::Exit::Signal(9, false));
            return;
        }
        let text = self
            .main
            .plan
            .segments
            .iter()
            .find(|s| s.flags.contains(SegFlags::X));
        let data = self
            .main
            .plan
            .segments
            .iter()
            .rev()
            .find(|s| s.flags.contains(SegFlags::W));
        mm.layout.set(Layout {
            start_code: text.map_or(0, |s| s.vaddr.wrapping_add(bias)),
            end_code: text.map_or(0, |s| s.vaddr.wrapping_add(bias) + s.filesz),
            start_data: data.map_or(0, |s| s.vaddr.wrapping_add(bias)),
            end_data: data.map_or(0, |s| s.vaddr.wrapping_add(bias) + s.filesz),
            start_stack: built.sp,
            arg_start: built.arg_start,
            arg_end: built.arg_end,
            env_start: built.env_start,
            env_end: built.env_end,
            vdso,
        });
        self.identity(&task, built.auxv.clone());
        let mut ctx = task.ctx.borrow_mut();
        ctx.regs = [0; 16];
        ctx.regs[reg::RSP] = built.sp;
        ctx.rip = entry;
        ctx.rflags = 0x202;
        ctx.fs_base = 0;
        ctx.gs_base = 0;
        ctx.resume = Resume::Full;
        ctx.orig_rax = u64::MAX;
        ctx.reset_xstate();
    }

    fn place(&self, cx: &Cx<'_>, plan: &ElfPlan) -> u64 {
        let mm = cx.task.mm();
        let align = plan.align.max(PAGE);
        // Below the room that the stack will take.
        let below = mm.mmap_base.get() - MAX_STACK;
        let at = mm
            .find_free(plan.hi - plan.lo, below, align)
            .unwrap_or(GUEST_PIE_BASE);
        plan.bias_for(at).unwrap_or(at)
    }

    fn stack(
        &self,
        cx: &Cx<'_>,
        top: u64,
        aux: Vec<(u64, u64)>,
        random: [u8; 16],
    ) -> Result<stack::Built, stack::StackError> {
        // A few random bytes off the top, as Linux does, from the image's own stream.
        let top = top - (cx.core.random_u64() & 0x1ff0);
        stack::build(
            &stack::StackSpec {
                top: top & !15,
                argv: &self.argv,
                envp: &self.envp,
                execfn: &self.execfn,
                random,
                platform: b"x86_64",
                aux,
            },
            MAX_ARG_BYTES as u64 * 4,
        )
    }

    fn identity(&self, task: &Task, auxv: Vec<u8>) {
        let proc = task.process();
        let join = |list: &[Vec<u8>]| {
            let mut out = Vec::new();
            for s in list {
                out.extend_from_slice(s);
                out.push(0);
            }
            out
        };
        *proc.exe.borrow_mut() = self.main.path.clone();
        *proc.cmdline.borrow_mut() = join(&self.argv);
        *proc.environ.borrow_mut() = join(&self.envp);
        *proc.auxv.borrow_mut() = auxv;
        let mut name = [0u8; 16];
        let base = self.execfn.rsplit(|b| *b == b'/').next().unwrap_or(&[]);
        let n = base.len().min(15);
        name[..n].copy_from_slice(&base[..n]);
        task.name.set(name);
    }
}

fn entry_args(plan: &ElfPlan, bias: u64, base: u64, vdso: u64, cx: &Cx<'_>) -> Vec<(u64, u64)> {
    let c = &cx.k.config;
    let creds = cx.task.creds.borrow();
    vec![
        (33, vdso),                                               // AT_SYSINFO_EHDR
        (51, c.hwcap.2),                                          // AT_MINSIGSTKSZ
        (16, c.hwcap.0),                                          // AT_HWCAP
        (6, PAGE),                                                // AT_PAGESZ
        (17, 100),                                                // AT_CLKTCK
        (3, plan.phdr_vaddr.map_or(0, |v| v.wrapping_add(bias))), // AT_PHDR
        (4, u64::from(plan.phentsize)),                           // AT_PHENT
        (5, u64::from(plan.phnum)),                               // AT_PHNUM
        (7, base),                                                // AT_BASE
        (8, 0),                                                   // AT_FLAGS
        (9, plan.entry.wrapping_add(bias)),                       // AT_ENTRY
        (11, u64::from(creds.ruid)),                              // AT_UID
        (12, u64::from(creds.euid)),                              // AT_EUID
        (13, u64::from(creds.rgid)),                              // AT_GID
        (14, u64::from(creds.egid)),                              // AT_EGID
        (23, 0),                                                  // AT_SECURE
        (26, c.hwcap.1),                                          // AT_HWCAP2
    ]
    .into_iter()
    .filter(|(k, v)| *k != 33 || *v != 0)
    .collect()
}

fn prot_of(flags: SegFlags) -> Prot {
    let mut p = Prot::empty();
    p.set(Prot::READ, flags.contains(SegFlags::R));
    p.set(Prot::WRITE, flags.contains(SegFlags::W));
    p.set(Prot::EXEC, flags.contains(SegFlags::X));
    p
}

fn map_object(cx: &mut Cx<'_>, object: &Object, bias: u64) {
    let mm = cx.task.mm();
    let st = object.open.file.stat(&mut cx.env).unwrap_or_default();
    let path = Rc::new(object.path.clone());
    for op in elf::map_ops(&object.plan, bias) {
        let mut vma = Vma {
            start: op.addr,
            end: op.addr + op.len,
            prot: prot_of(op.prot),
            shared: false,
            kind: VmaKind::Normal,
            file: None,
            flags: VmaFlags::empty(),
            name: None,
        };
        let Some(offset) = op.file else {
            mm.map(cx.env.plat, vma, Backing::Anon);
            continue;
        };
        let Ok(parts) = object.open.file.map(&mut cx.env, offset, op.len, false, false) else {
            continue;
        };
        vma.file = Some(VmaFile {
            file: object.open.file.clone(),
            offset,
            id: (st.dev, st.ino),
            path: path.clone(),
            limit: crate::mm::limit_of(offset, &parts),
        });
        mm.forget(vma.start, vma.len());
        let mut at = vma.start;
        for (len, backing) in parts {
            cx.env.plat.map(at, len, mm.host_prot(&vma), backing);
            at += len;
        }
        let (at, len) = (vma.start, vma.len());
        let exec = vma.prot.contains(Prot::EXEC);
        mm.insert(vma);
        if exec {
            crate::specials::scan(cx.k, cx.env.plat, &mm, at, len);
        }
        if let Some(zero) = op.zero_from {
            let end = op.addr + op.len;
            if !op.prot.contains(SegFlags::W) {
                continue;
            }
            let _ = cx.env.plat.zero_guest(zero, end - zero);
        }
    }
}

/// Maps the vDSO; 0 if there is none.
fn map_vdso(cx: &mut Cx<'_>) -> u64 {
    let image = &cx.k.config.vdso;
    let mm = cx.task.mm();
    let Some(len) = layout::page_up(image.len() as u64).filter(|l| *l > 0) else {
        return 0;
    };
    let Some(at) = mm.find_free(len, mm.mmap_base.get() - MAX_STACK, PAGE) else {
        return 0;
    };
    mm.map_anon(cx.env.plat, at, len, Prot::READ | Prot::WRITE, VmaKind::Vdso);
    let _ = cx.env.write(at, image);
    let prot = Prot::READ | Prot::EXEC;
    mm.change(at, len, |v| v.prot = prot);
    cx.env.plat.protect(at, len, prot);
    at
}
