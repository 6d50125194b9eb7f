//! execve(2), execveat(2): what happens to the process around loading (fs/exec.c begin_new_exec).

use super::{leave_mm, release_vfork};
use crate::args::{Bits, Fd, Path, Ptr};
use crate::cx::Cx;
use crate::exec::ExecImage;
use crate::fdtable::OpenFile;
use crate::futex;
use crate::mm::Mm;
use crate::task::{ALL_CAPS, Creds, Exit, Task};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Stop, err};
use ftl_core::layout::{GUEST_TOP, PAGE};
use ftl_core::wait::Entity;
use std::rc::Rc;

/// MAX_ARG_STRLEN
const MAX_STRING: usize = 128 << 10;
/// Least room for strings, whatever RLIMIT_STACK says (ARG_MAX).
const MIN_ARGS: u64 = 128 << 10;
/// Most room for strings (three quarters of _STK_LIM).
const MAX_ARGS: u64 = 6 << 20;
const RLIMIT_STACK: usize = 3;
const AT_EMPTY_PATH: u64 = 0x1000;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;

const AT_FDCWD: i32 = -100;

/// execve(2)
pub fn sys_execve(cx: &mut Cx<'_>, path: Path, argv: Ptr, envp: Ptr) -> Io<u64> {
    let path = cx.path(path.0)?;
    if path.is_empty() {
        return err(Errno::ENOENT);
    }
    // The file comes first: a missing one is ENOENT whatever the arguments are.
    let open = crate::fs::open_for_exec(cx, &path)?;
    exec(cx, path, open, argv, envp)
}

/// execveat(2)
pub fn sys_execveat(cx: &mut Cx<'_>, dir: Fd, path: Path, argv: Ptr, envp: Ptr, flags: Bits) -> Io<u64> {
    if flags.0 & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return err(Errno::EINVAL);
    }
    let path = cx.path(path.0)?;
    if path.is_empty() && flags.0 & AT_EMPTY_PATH == 0 {
        return err(Errno::ENOENT);
    }
    let fd = dir.0;
    if path.is_empty() {
        // The names under which Linux runs it too (bprm->filename).
        cx.task.files().get(fd)?;
        let name = format!("/dev/fd/{fd}").into_bytes();
        let open = crate::fs::open_for_exec(cx, &name)?;
        return exec(cx, name, open, argv, envp);
    }
    let follow = flags.0 & AT_SYMLINK_NOFOLLOW == 0;
    let open = crate::fs::calls::open::for_exec(cx, fd, &path, follow)?;
    if path.starts_with(b"/") || fd == AT_FDCWD {
        return exec(cx, path, open, argv, envp);
    }
    let mut name = format!("/dev/fd/{fd}/").into_bytes();
    name.extend_from_slice(&path);
    exec(cx, name, open, argv, envp)
}

/// Reads an array of string pointers; `room` is what may still be used.
fn strings(cx: &mut Cx<'_>, list: u64, room: &mut u64) -> Result<Vec<Vec<u8>>, Errno> {
    let mut out = Vec::new();
    if list == 0 {
        return Ok(out);
    }
    for i in 0.. {
        let at: u64 = cx.get(list.wrapping_add(i * 8))?;
        if at == 0 {
            break;
        }
        let s = match cx.env.plat.read_cstr(at, MAX_STRING) {
            Ok(Some(s)) => s,
            Ok(None) => return Err(Errno::E2BIG),
            Err(_) => return Err(Errno::EFAULT),
        };
        let cost = s.len() as u64 + 1 + 8;
        *room = room.checked_sub(cost).ok_or(Errno::E2BIG)?;
        out.push(s);
    }
    Ok(out)
}

fn exec(cx: &mut Cx<'_>, path: Vec<u8>, open: Rc<OpenFile>, argv: Ptr, envp: Ptr) -> Io<u64> {
    let stack = cx.task.process().rlimits.borrow()[RLIMIT_STACK].0;
    let mut room = (stack / 4).clamp(MIN_ARGS, MAX_ARGS);
    let mut argv = strings(cx, argv.0, &mut room)?;
    let envp = strings(cx, envp.0, &mut room)?;
    if argv.is_empty() {
        argv.push(Vec::new());
    }
    let image = ExecImage::prepare(cx, &path, Some(open), argv, envp).map_err(|e| Stop::Errno(e.errno))?;
    commit(cx, image);
    Err(Stop::NoReturn)
}

/// The point of no return.
fn commit(cx: &mut Cx<'_>, image: ExecImage) {
    let proc = cx.task.process();
    end_other_threads(cx);
    let task = cx.task.clone();
    crate::uring::cancel::task_gone(cx, &task, true);
    // mm_release: locks and the joiner's word are in the old memory.
    futex::on_exit(cx.k, cx.env.plat, &task);
    if proc.mm.borrow().users.get() > 1 {
        let id = cx.k.new_space();
        cx.env.plat.new_space(id);
        let mm = Rc::new(Mm::new(id, cx.k.new_slide()));
        mm.watch_text.set(cx.k.config.cpu.is_some());
        leave_mm(cx.env.plat, &proc);
        *proc.mm.borrow_mut() = mm;
        task.entity.space.set(id);
    } else {
        proc.mm
            .borrow()
            .mmap_base
            .set(GUEST_TOP - cx.k.new_slide() / PAGE * PAGE);
    }
    reset_signals(&proc, &task);
    close_on_exec(cx);
    let creds = after_exec(&task.creds.borrow());
    *task.creds.borrow_mut() = Rc::new(creds);
    proc.execed.set(true);
    proc.dumpable.set(1);
    *task.exec.borrow_mut() = Some(image);
    release_vfork(&proc);
}

/// Ends every other thread; the caller goes on under the leader's number (de_thread).
fn end_other_threads(cx: &mut Cx<'_>) {
    let me = cx.task.clone();
    let proc = me.process();
    let others: Vec<Rc<Task>> = {
        let threads = proc.threads.borrow();
        threads.values().filter(|t| t.tid != me.tid).cloned().collect()
    };
    for t in others {
        // They share this space, so they can end here.
        super::exit_task(cx.k, cx.env.plat, &t, Exit::Signal(9, false));
    }
    proc.leader_exit.set(None);
    if me.tid == proc.pid {
        return;
    }
    let entity = Entity::new(proc.pid, me.entity.space.get(), &cx.core.run);
    let ctx = me
        .ctx
        .replace(ftl_core::context::Context::new(cx.k.config.xsave_len));
    let leader = Rc::new(Task::new(
        proc.pid,
        entity,
        proc.clone(),
        ctx,
        me.files(),
        me.fs.borrow().clone(),
        me.creds.borrow().clone(),
    ));
    leader.name.set(me.name.get());
    leader.sched.set(me.sched.get());
    leader.seccomp.copy_from(&me.seccomp);
    leader.trace.take_over(&me.trace, cx.k);
    leader.cpu_ns.set(me.cpu_ns.get());
    leader.clear_child_tid.set(me.clear_child_tid.replace(0));
    leader.robust_list.set(me.robust_list.replace((0, 0)));
    leader.sig.take_over(&me.sig);
    proc.threads.borrow_mut().insert(proc.pid, leader.clone());
    cx.k.tasks.borrow_mut().insert(proc.pid, leader.clone());
    // The old number ends without a trace; the leader is there, so the process lives on.
    me.cpu_ns.set(0);
    super::exit_task(cx.k, cx.env.plat, &me, Exit::Code(0));
    leader.entity.enqueue();
    *cx.k.current.borrow_mut() = None;
    cx.task = leader;
}

/// Handlers go, what is ignored stays ignored; pending signals and the mask stay.
fn reset_signals(proc: &crate::task::Process, task: &Task) {
    crate::signal::on_exec(task);
    proc.exit_signal.set(crate::signal::sig::SIGCHLD as i32);
}

fn close_on_exec(cx: &mut Cx<'_>) {
    let task = cx.task.clone();
    let files = task.files();
    // Two: the task's and this one.
    let files = if Rc::strong_count(&files) > 2 {
        let own = Rc::new(files.duplicate());
        *task.files.borrow_mut() = own.clone();
        own
    } else {
        files
    };
    for (_, open) in files.take_cloexec() {
        crate::fs::calls::fdops::closed(cx, &open);
    }
}

/// capabilities(7), "Transformation of capabilities during execve", for files without capabilities.
/// Set-user-ID bits are not honoured: the host's files carry the host's trust, not the image's.
fn after_exec(old: &Creds) -> Creds {
    const SECBIT_NOROOT: u32 = 1;
    const SECBIT_KEEP_CAPS: u32 = 0x10;
    let mut c = old.clone();
    c.suid = c.euid;
    c.sgid = c.egid;
    c.fsuid = c.euid;
    c.fsgid = c.egid;
    c.securebits &= !SECBIT_KEEP_CAPS;
    let [_, _, inheritable, bounding, ambient] = c.caps;
    let root = c.securebits & SECBIT_NOROOT == 0;
    if root && (c.ruid == 0 || c.euid == 0) {
        c.caps[1] = (inheritable | bounding) & ALL_CAPS;
        c.caps[0] = if c.euid == 0 { c.caps[1] } else { ambient };
    } else {
        c.caps[1] = ambient;
        c.caps[0] = ambient;
    }
    c
}
