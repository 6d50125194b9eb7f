//! Terminal ioctls (ioctl_tty(2)).

use super::pty::Master;
use super::termios::Termios;
use super::{Terminal, background, controls, take_control, terminal};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::process;
use crate::signal::{self, SigInfo, sig};
use crate::task::Pid;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};

const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSF2: u32 = 0x402c_542d;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCEXCL: u32 = 0x540c;
const TIOCNXCL: u32 = 0x540d;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCOUTQ: u32 = 0x5411;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const TIOCNOTTY: u32 = 0x5422;
const TIOCSETD: u32 = 0x5423;
const TIOCGETD: u32 = 0x5424;
const TCSBRKP: u32 = 0x5425;
const TIOCGSID: u32 = 0x5429;
const TIOCGDEV: u32 = 0x8004_5432;
const TIOCSIG: u32 = 0x4004_5436;
const TIOCGPTPEER: u32 = 0x5441;

/// Terminal ioctls that need more than the file; `None` for all others.
pub fn ioctl(cx: &mut Cx<'_>, open: &OpenFile, cmd: u32, arg: u64) -> Option<Io<u64>> {
    if let Some(m) = open.file.as_any().downcast_ref::<Master>() {
        let pty = m.0.clone();
        return match cmd {
            TIOCGPGRP | TIOCSPGRP | TIOCGSID => Some(master_session(cx, &*pty, cmd, arg)),
            TIOCGPTPEER => {
                let slave = OpenFile::new(pty.slave(), arg as i32 & !oflag::O_CLOEXEC & !oflag::O_NOCTTY);
                let fd = cx.new_fd(slave, arg as i32 & oflag::O_CLOEXEC != 0);
                Some(fd.map(|f| f as u64).map_err(Into::into))
            }
            TIOCSIG => {
                if !(1..=64).contains(&arg) {
                    return Some(err(Errno::EINVAL));
                }
                pty.line.post(arg as u32);
                Some(Ok(0))
            }
            FIONREAD | TIOCSCTTY | TIOCNOTTY => None,
            _ => settings(cx, &*pty, cmd, arg, false),
        };
    }
    if let Some(s) = open.file.as_any().downcast_ref::<super::pty::Slave>()
        && s.pty().hung_up.get()
    {
        return Some(err(Errno::EIO));
    }
    let t = terminal(&*open.file)?;
    match cmd {
        TIOCSCTTY => Some(set_controlling(cx, open, t, arg)),
        TIOCNOTTY => Some(give_up(cx, t)),
        TIOCGPGRP => Some(get_group(cx, t, arg)),
        TIOCSPGRP => Some(set_group(cx, t, arg)),
        TIOCGSID => Some(get_session(cx, t, arg)),
        _ => settings(cx, t, cmd, arg, true),
    }
}

/// Settings, queues and sizes; `check`: a background process is stopped for changing them.
fn settings(cx: &mut Cx<'_>, t: &dyn Terminal, cmd: u32, arg: u64, check: bool) -> Option<Io<u64>> {
    let changes = matches!(
        cmd,
        TCSETS | TCSETSW | TCSETSF | TCSETS2..=TCSETSF2 | TCSBRK | TCSBRKP | TCXONC | TCFLSH | TIOCSETD
    );
    if changes
        && check
        && let Err(e) = background(cx, t, sig::SIGTTOU, true)
    {
        return Some(Err(e));
    }
    Some(match cmd {
        TCGETS => t.get(&mut cx.env).and_then(|v| Ok(cx.put(arg, &v)?)).map(|()| 0),
        TCGETS2 => get2(cx, t, arg),
        TCSETS | TCSETSW | TCSETSF => set(cx, t, arg, cmd == TCSETSF),
        TCSETS2..=TCSETSF2 => set(cx, t, arg, cmd == TCSETSF2),
        TIOCGWINSZ => t
            .winsize(&mut cx.env)
            .and_then(|v| Ok(cx.put(arg, &v)?))
            .map(|()| 0),
        TIOCSWINSZ => match cx.get::<[u16; 4]>(arg) {
            Ok(w) => t.set_winsize(&mut cx.env, w).map(|()| 0),
            Err(e) => err(e),
        },
        TCFLSH => match arg {
            0..=2 => t.flush(&mut cx.env, arg != 1, arg != 0).map(|()| 0),
            _ => err(Errno::EINVAL),
        },
        TCSBRK | TCSBRKP | TCXONC | TIOCEXCL | TIOCNXCL => Ok(0),
        FIONREAD => t
            .available(&mut cx.env)
            .and_then(|n| Ok(cx.put(arg, &(n as i32))?))
            .map(|()| 0),
        TIOCOUTQ | TIOCGETD => cx.put(arg, &0i32).map(|()| 0).map_err(Into::into),
        TIOCSETD => match cx.get::<i32>(arg) {
            Ok(0) => Ok(0),
            Ok(_) => err(Errno::EINVAL),
            Err(e) => err(e),
        },
        TIOCGDEV => cx
            .put(arg, &(t.line().rdev() as u32))
            .map(|()| 0)
            .map_err(Into::into),
        _ => return None,
    })
}

fn get2(cx: &mut Cx<'_>, t: &dyn Terminal, arg: u64) -> Io<u64> {
    let v = t.get(&mut cx.env)?;
    cx.put(arg, &v)?;
    // c_ispeed and c_ospeed: B38400.
    cx.put(arg + 36, &[38400u32, 38400])?;
    Ok(0)
}

fn set(cx: &mut Cx<'_>, t: &dyn Terminal, arg: u64, flush: bool) -> Io<u64> {
    let v: Termios = cx.get(arg)?;
    t.set(&mut cx.env, v, flush)?;
    Ok(0)
}

fn set_controlling(cx: &mut Cx<'_>, open: &OpenFile, t: &dyn Terminal, arg: u64) -> Io<u64> {
    const CAP_SYS_ADMIN: u32 = 21;
    let proc = cx.task.process();
    let session = cx.k.session_of(&proc);
    let own = session.tty.borrow().is_some();
    if proc.sid.get() == proc.pid && t.line().session.get() == Some(session.sid) && own {
        return Ok(0);
    }
    if proc.sid.get() != proc.pid || own {
        return err(Errno::EPERM);
    }
    if let Some(other) = t.line().session.get()
        && other != session.sid
    {
        let live = cx.k.session(other).tty.borrow().is_some();
        if live && !(arg == 1 && cx.task.creds.borrow().capable(CAP_SYS_ADMIN)) {
            return err(Errno::EPERM);
        }
        cx.k.session(other).tty.borrow_mut().take();
    }
    take_control(cx, &open.file, t.line());
    Ok(0)
}

fn give_up(cx: &mut Cx<'_>, t: &dyn Terminal) -> Io<u64> {
    let proc = cx.task.process();
    if !controls(cx.k, t, &proc) {
        return err(Errno::ENOTTY);
    }
    if proc.sid.get() == proc.pid {
        let session = cx.k.session_of(&proc);
        let group = session.foreground.get();
        session.tty.borrow_mut().take();
        t.line().session.set(None);
        signal::send_pgrp(cx.k, cx.env.plat, group, SigInfo::kernel(sig::SIGHUP));
        signal::send_pgrp(cx.k, cx.env.plat, group, SigInfo::kernel(sig::SIGCONT));
    }
    Ok(0)
}

fn get_group(cx: &mut Cx<'_>, t: &dyn Terminal, arg: u64) -> Io<u64> {
    let proc = cx.task.process();
    if !controls(cx.k, t, &proc) {
        return err(Errno::ENOTTY);
    }
    let fg = cx.k.session_of(&proc).foreground.get().0;
    cx.put(arg, &fg)?;
    Ok(0)
}

fn set_group(cx: &mut Cx<'_>, t: &dyn Terminal, arg: u64) -> Io<u64> {
    let proc = cx.task.process();
    if !controls(cx.k, t, &proc) {
        return err(Errno::ENOTTY);
    }
    background(cx, t, sig::SIGTTOU, true)?;
    let group: i32 = cx.get(arg)?;
    if group < 0 {
        return err(Errno::EINVAL);
    }
    let group = Pid::from(ftl_core::wait::Tid(group as u32));
    match process::group_members(cx.k, group).first() {
        None => return err(Errno::ESRCH),
        Some(p) if p.sid.get() != proc.sid.get() => return err(Errno::EPERM),
        Some(_) => {}
    }
    cx.k.session_of(&proc).foreground.set(group);
    Ok(0)
}

fn get_session(cx: &mut Cx<'_>, t: &dyn Terminal, arg: u64) -> Io<u64> {
    if !controls(cx.k, t, &cx.task.process()) {
        return err(Errno::ENOTTY);
    }
    let sid = cx.task.process().sid.get().0;
    cx.put(arg, &sid)?;
    Ok(0)
}

/// The same questions from the master's side.
fn master_session(cx: &mut Cx<'_>, t: &dyn Terminal, cmd: u32, arg: u64) -> Io<u64> {
    let Some(sid) = t.line().session.get() else {
        if cmd == TIOCGPGRP {
            cx.put(arg, &0i32)?;
            return Ok(0);
        }
        return err(Errno::ENOTTY);
    };
    match cmd {
        TIOCGPGRP => {
            let fg = cx.k.session(sid).foreground.get().0;
            cx.put(arg, &fg)?;
        }
        TIOCGSID => cx.put(arg, &sid.0)?,
        _ => {
            let group: i32 = cx.get(arg)?;
            cx.k.session(sid)
                .foreground
                .set(ftl_core::wait::Tid(group as u32));
        }
    }
    Ok(0)
}
