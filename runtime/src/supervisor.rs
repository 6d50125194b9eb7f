//! The supervisor: parent of an image's host processes. It holds no guest state: it passes signals
//! in, reaps, and reports how the image ended.

use crate::control::{self, Control};
use crate::door::keep::Upkeep;
use crate::{stage0, talk};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is supervised.
pub enum Image {
    /// A run without a log.
    Run,
    /// A recorded run: the log in this directory, which may depend on the first process' id, is looked after.
    Record(Box<dyn FnOnce(u32) -> PathBuf>, Upkeep),
    /// An image that comes from another host: called when its first process is there.
    Moved(Box<dyn FnOnce()>),
    /// A replay: signals are for ftvm, not for the image.
    Replay,
}

/// Signals that go to the image.
pub const PASSED: [i32; 12] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGALRM,
    libc::SIGURG,
    libc::SIGIO,
];

/// An image that has not taken a SIGTERM for so long is killed by the next.
const DEAF: Duration = Duration::from_millis(500);

/// Starts the image's first process through stage 0 and waits for its end. Returns an exit code.
pub fn run(image: Image) -> i32 {
    let control = match control::map() {
        Ok(c) => c,
        Err(e) => {
            talk::error(
                "setup",
                crate::run::EXIT_FAILED,
                &format!("mapping the control page: {e}"),
            );
            return crate::run::EXIT_FAILED;
        }
    };
    // SAFETY: a plain signal set; blocked before the child exists so that none is lost.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        if !matches!(image, Image::Replay) {
            for s in PASSED {
                libc::sigaddset(&mut set, s);
            }
        }
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    };
    // SAFETY: single-threaded; the child runs only stage 0.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => {
            let why = format!("fork: {}", std::io::Error::last_os_error());
            talk::error("setup", crate::run::EXIT_FAILED, &why);
            crate::run::EXIT_FAILED
        }
        0 => {
            control::end_with_supervisor();
            // SAFETY: a plain call in the new process.
            unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()) };
            // An order may come before this process has its handlers: it is found in the control page all the same.
            // SAFETY: a plain call in the new process.
            unsafe { libc::signal(crate::fault::SIG_KICK, libc::SIG_IGN) };
            control.holder.store(std::process::id(), Ordering::Release);
            crate::sys::futex_wake(&control.holder);
            let e = stage0::enter();
            talk::error("setup", crate::run::EXIT_FAILED, &e.to_string());
            std::process::exit(crate::run::EXIT_FAILED);
        }
        _ => {
            wait_for_first(control, pid);
            if let Err(e) = crate::confine::drop_capabilities() {
                tracing::warn!("capabilities cannot be given back: {e}");
            }
            let packer = match image {
                Image::Record(dir, upkeep) => {
                    let dir = dir(pid as u32);
                    crate::orders::anchor_often(upkeep.every);
                    crate::door::keep::start(control, dir, upkeep)
                }
                Image::Moved(start) => {
                    start();
                    None
                }
                Image::Run | Image::Replay => None,
            };
            crate::protect::arbiter::serve_later();
            crate::protect::roots::serve_later();
            if let Some(dir) = crate::orders::place() {
                crate::orders::listen(dir);
            }
            crate::every::begin();
            crate::health::look_after();
            crate::hooks::look_after();
            let code = watch(control, &set);
            if let Some(thread) = packer {
                control.closed.fetch_or(control::LOG_ENDS, Ordering::AcqRel);
                control.tell();
                let _ = thread.join();
            }
            log_ends();
            match crate::door::checker::found() {
                true => crate::door::replay::EXIT_DIVERGED,
                false => code,
            }
        }
    }
}

/// Waits until the image's first process is known as the holder of the token: orders are for it. One that has died is not waited for.
fn wait_for_first(control: &Control, pid: i32) {
    const LOOK_AGAIN_NS: u64 = 10_000_000;
    while control.holder.load(Ordering::Acquire) == 0 {
        crate::sys::futex_wait_for(&control.holder, 0, LOOK_AGAIN_NS);
        // SAFETY: our own child, which stays to be waited for; all zero is a valid value.
        let over = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | OURS;
            libc::waitid(libc::P_PID, pid as u32, &raw mut info, how) != 0 || info.si_pid() != 0
        };
        if over {
            return;
        }
    }
}

/// The thread that looks after the log of `record start`.
static KEEPER: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// The log of `record start` has begun.
pub fn look_after(dir: PathBuf) {
    // SAFETY: mapped at the start.
    let control = unsafe { control::get() };
    let how = Upkeep {
        compress: true,
        check: 0,
        objects: false,
        keep: None,
        every: None,
    };
    let thread = crate::door::keep::start(control, dir, how);
    *KEEPER.lock().unwrap_or_else(|e| e.into_inner()) = thread;
}

/// The log of `record start` gets no more.
pub fn log_ends() {
    let Some(thread) = KEEPER.lock().unwrap_or_else(|e| e.into_inner()).take() else {
        return;
    };
    // SAFETY: mapped at the start.
    let control = unsafe { control::get() };
    control.closed.fetch_or(control::LOG_ENDS, Ordering::AcqRel);
    control.tell();
    let _ = thread.join();
}

/// Exit code of an image that we have ended ourselves, plus one.
static ENDED: AtomicI32 = AtomicI32::new(0);

/// Ends the image at once; the run's exit code is this. For threads of the supervisor.
pub fn end(code: i32) {
    ENDED.store(code + 1, Ordering::Release);
    let me = std::process::id();
    // Those of the first thread, which has made them.
    if let Ok(list) = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")) {
        for pid in list.split_whitespace().filter_map(|p| p.parse::<i32>().ok()) {
            // SAFETY: our own children.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

fn watch(control: &Control, set: &libc::sigset_t) -> i32 {
    let mut broken = None;
    let mut asked: Option<Instant> = None;
    loop {
        // SAFETY: the set is initialised.
        let sig = unsafe { libc::sigwaitinfo(set, std::ptr::null_mut()) };
        if sig == libc::SIGCHLD {
            if reap(control, &mut broken) {
                break;
            }
            if control.stop.swap(0, Ordering::AcqRel) != 0 {
                // SAFETY: the user's shell sees this process stopped, and continues it.
                unsafe { libc::raise(libc::SIGSTOP) };
            }
        } else if sig > 0 {
            let bit = 1 << (sig - 1);
            let waiting = control.signals.fetch_or(bit, Ordering::AcqRel) & bit != 0;
            if sig == libc::SIGTERM {
                if waiting && asked.is_some_and(|t| t.elapsed() >= DEAF) {
                    talk::error("not-responding", 128 + sig, "the image takes no SIGTERM: killed");
                    kill_rest();
                    return 128 + sig;
                }
                if !waiting {
                    asked = Some(Instant::now());
                }
            }
            crate::orders::kick();
        }
    }
    match control.status.load(Ordering::Acquire) {
        0 if ENDED.load(Ordering::Acquire) != 0 => ENDED.load(Ordering::Acquire) - 1,
        0 => {
            let how = broken.unwrap_or_else(|| "its process ended".into());
            let why = format!("the image was lost: {how}");
            talk::error("image-lost", crate::run::EXIT_BROKEN, &why);
            crate::run::EXIT_BROKEN
        }
        s => exit_code(s - 1),
    }
}

/// Which children are waited for: this thread's, which the image's processes are. Another thread has replays that are
/// compared with the run.
const OURS: i32 = libc::__WALL | libc::__WNOTHREAD;

/// Collects ended processes. True when the image is over.
fn reap(control: &Control, broken: &mut Option<String>) -> bool {
    loop {
        let mut status = 0;
        // SAFETY: valid pointer.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | OURS) };
        match pid {
            0 => break,
            -1 => {
                kill_rest();
                return true;
            }
            _ => {
                if libc::WIFSIGNALED(status) && broken.is_none() {
                    *broken = Some(format!(
                        "a host process was killed by signal {}",
                        libc::WTERMSIG(status)
                    ));
                }
            }
        }
    }
    if control.status.load(Ordering::Acquire) != 0 || broken.is_some() {
        kill_rest();
        return true;
    }
    false
}

/// Ends what is left of the image: its processes are this process' children.
fn kill_rest() {
    let me = std::process::id();
    if let Ok(list) = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")) {
        for pid in list.split_whitespace().filter_map(|p| p.parse::<i32>().ok()) {
            // SAFETY: our own children.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    loop {
        // SAFETY: waits for our own children only.
        if unsafe { libc::waitpid(-1, std::ptr::null_mut(), OURS) } <= 0 {
            return;
        }
    }
}

/// The guest's own status, 128+n for a signal.
fn exit_code(status: i32) -> i32 {
    if status & 0x7f == 0 {
        (status >> 8) & 0xff
    } else {
        128 + (status & 0x7f)
    }
}
