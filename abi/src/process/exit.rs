//! The end of threads and processes (kernel/exit.c).

use super::jobs::{hang_up_orphans, hang_up_session, notify_end};
use super::leave_session;
use crate::kernel::Kernel;
use crate::signal::{self, SigInfo};
use crate::task::{Exit, Process, Task};
use ftl_core::kcore::Env;
use ftl_core::platform::Platform;
use ftl_core::wait::{Poll, State};
use std::rc::{Rc, Weak};

/// A thread ends. Its space is the current one.
pub fn exit_task(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, exit: Exit) {
    if task.dead.get() || crate::ptrace::exiting(k, plat, task, exit) {
        return;
    }
    task.dead.set(true);
    let proc = task.process();
    crate::futex::on_exit(k, plat, task);
    requests_gone(k, plat, task);
    task.entity.leave_queues();
    task.entity.state.set(State::Dead);
    task.call.set(None);
    if let Some(key) = task.timer.take() {
        k.core.timers.cancel(key);
    }
    let (threads_ns, children_ns) = proc.cpu_ns.get();
    proc.cpu_ns.set((threads_ns + task.cpu_ns.get(), children_ns));
    let ((v1, i1), (v2, i2)) = (proc.switches.get(), task.switches.get());
    proc.switches.set((v1 + v2, i1 + i2));
    close_files(k, plat, task);
    k.tasks.borrow_mut().remove(&task.tid);
    proc.threads.borrow_mut().remove(&task.tid);
    if task.tid == proc.pid {
        proc.leader_exit.set(Some(exit));
    }
    signal::on_exit(k, plat, task);
    match proc.any_thread() {
        Some(heir) => {
            crate::ptrace::ended(k, plat, task, exit, None);
            tell_children(k, plat, &proc, task, &heir);
        }
        None => {
            // Without exit_group the leader's status counts, whenever it ended.
            let exit = proc.exiting.get().or(proc.leader_exit.get()).unwrap_or(exit);
            crate::ptrace::ended(k, plat, task, exit, Some(exit));
            end_process(k, plat, &proc, task, exit);
        }
    }
}

/// What the task has submitted to rings of io_uring is cancelled.
fn requests_gone(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>) {
    let env = Env { plat, core: &k.core };
    let mut cx = crate::cx::Cx {
        env,
        k,
        task: task.clone(),
    };
    crate::uring::cancel::task_gone(&mut cx, task, false);
}

/// Every thread of `proc` ends: the current task at once if it is one of them, the others when the
/// scheduler next chooses them, in their own space.
pub fn exit_process(k: &Kernel, plat: &mut dyn Platform, proc: &Rc<Process>, exit: Exit) {
    if proc.exit.get().is_some() {
        return;
    }
    if proc.exiting.get().is_none() {
        proc.exiting.set(Some(exit));
    }
    let current = k.current.borrow().clone();
    let threads: Vec<_> = proc.threads.borrow().values().cloned().collect();
    for t in threads {
        if current.as_ref().is_some_and(|c| Rc::ptr_eq(c, &t)) {
            exit_task(k, plat, &t, exit);
        } else {
            t.entity.kill();
        }
    }
}

/// The task's descriptor table loses a user; the last one closes everything.
fn close_files(k: &Kernel, plat: &mut dyn Platform, task: &Task) {
    let files = task.files.replace(Rc::default());
    k.fs.locks.woke(task.process().pid);
    if Rc::strong_count(&files) > 1 {
        return;
    }
    for (_, open) in files.take_all() {
        open.file.closed(&mut Env { plat, core: &k.core });
    }
}

/// PR_SET_PDEATHSIG looks at the parent's thread, not the process.
fn tell_children(k: &Kernel, plat: &mut dyn Platform, proc: &Process, gone: &Task, heir: &Task) {
    if proc.children.borrow().is_empty() {
        return;
    }
    let children: Vec<_> = proc.children.borrow().values().cloned().collect();
    for c in children {
        if c.parent_thread.get() == gone.tid {
            c.parent_thread.set(heir.tid);
            parent_died(k, plat, &c, proc);
        }
    }
}

fn parent_died(k: &Kernel, plat: &mut dyn Platform, child: &Rc<Process>, parent: &Process) {
    let signals: Vec<i32> = {
        let threads = child.threads.borrow();
        threads
            .values()
            .map(|t| t.pdeath_signal.get())
            .filter(|s| *s > 0)
            .collect()
    };
    for s in signals {
        let info = SigInfo::user(s as u32, 0, parent.pid.0, 0);
        signal::send_process(k, plat, child, info);
    }
}

/// The process stops using its address space: the last user's leaving frees it.
pub fn leave_mm(plat: &mut dyn Platform, proc: &Process) {
    let mm = proc.mm.borrow().clone();
    let users = mm.users.get() - 1;
    mm.users.set(users);
    if users == 0 {
        mm.clear();
        plat.drop_space(mm.space);
    }
}

/// A vfork child has execed or ended.
pub fn release_vfork(proc: &Process) {
    let done = proc.vfork_done.borrow_mut().take();
    if let Some(done) = done {
        done.done.set(true);
        done.queue.wake_all();
    }
}

fn end_process(k: &Kernel, plat: &mut dyn Platform, proc: &Rc<Process>, last: &Task, exit: Exit) {
    proc.exit.set(Some(exit));
    proc.exiting.set(Some(exit));
    crate::time::on_end(&k.core, proc);
    k.fs.locks.exited(proc.pid);
    crate::sysv::process_ended(k, proc.pid.0);
    if k.first.get() == Some(proc.pid) {
        k.exit.set(Some(exit));
    }
    if proc.sid.get() == proc.pid {
        hang_up_session(k, plat, proc);
    }
    reparent_children(k, plat, proc, last);
    let parent = proc.parent.borrow().upgrade();
    hang_up_orphans(k, plat, proc, parent.as_deref(), Some(proc.pid));
    let uid = last.creds.borrow().ruid;
    proc.zombie_uid.set(uid);
    proc.zombie_name.set(last.name.get());
    if notify_end(k, plat, proc) {
        reap(k, proc);
        if let Some(p) = parent {
            p.child_wait.wake_all();
        }
    }
    proc.exit_wait.notify(Poll::IN | Poll::RDNORM);
    crate::attach::process_ended(k, proc, exit);
    leave_mm(plat, proc);
    release_vfork(proc);
}

/// Children of a dying process go to the nearest subreaper above it, or to the kernel.
fn reparent_children(k: &Kernel, plat: &mut dyn Platform, proc: &Rc<Process>, last: &Task) {
    let children = std::mem::take(&mut *proc.children.borrow_mut());
    if children.is_empty() {
        return;
    }
    let mut heir = proc.parent.borrow().upgrade();
    while let Some(h) = &heir {
        if h.subreaper.get() && h.exit.get().is_none() {
            break;
        }
        let up = h.parent.borrow().upgrade();
        heir = up;
    }
    for (pid, child) in children {
        match &heir {
            Some(h) => {
                *child.parent.borrow_mut() = Rc::downgrade(h);
                child.parent_thread.set(h.any_thread().map_or(h.pid, |t| t.tid));
                h.children.borrow_mut().insert(pid, child.clone());
            }
            None => *child.parent.borrow_mut() = Weak::new(),
        }
        if child.exit.get().is_none() {
            if last.tid.0 != 0 {
                parent_died(k, plat, &child, proc);
            }
            hang_up_orphans(k, plat, &child, Some(proc), None);
        } else {
            child.exit_signal.set(crate::signal::sig::SIGCHLD as i32);
            if notify_end(k, plat, &child) {
                reap(k, &child);
            }
        }
    }
}

/// Takes a zombie out of the kernel's tables; its times go to its parent.
pub fn reap(k: &Kernel, proc: &Rc<Process>) {
    let parent = proc.parent.borrow().upgrade();
    if let Some(parent) = parent {
        parent.children.borrow_mut().remove(&proc.pid);
        let (own, children) = parent.cpu_ns.get();
        let (c_own, c_children) = proc.cpu_ns.get();
        parent.cpu_ns.set((own, children + c_own + c_children));
    }
    k.procs.borrow_mut().remove(&proc.pid);
    leave_session(k, proc.sid.get());
}
