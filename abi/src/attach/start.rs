//! Making the process: who it is, where it is, what it runs.

use super::streams::{Inlet, Outlet};
use super::{Attach, Tty, listen};
use crate::cx::Cx;
use crate::exec::{ExecError, ExecImage};
use crate::fdtable::{FdTable, OpenFile, oflag};
use crate::fs::walk::{AT_FDCWD, Resolve};
use crate::fs::{FsInfo, Loc};
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::process::Session;
use crate::signal::SigHand;
use crate::task::{Creds, Process, Task};
use crate::tty::Terminal;
use crate::tty::pty::Master;
use ftl_core::context::Context;
use ftl_core::door::{EXEC_CONTROL, ExecOrder, exec_handle};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Stop};
use ftl_core::kcore::Env;
use ftl_core::platform::Platform;
use ftl_core::wait::{Entity, Tid};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Where a program is looked for if the environment has no PATH (podman's default).
const PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Largest passwd or group file that is read.
const MOST_FILE: usize = 1 << 20;
/// The order cannot be carried out, other than by what is wrong with the program (docs/errors.md).
const FAILED: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Exit code for the caller, and why.
type Failure = (u8, String);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn plain(e: Errno) -> String {
    ExecError::from(e).why
}

/// Starts a process as `order` says.
pub fn begin(k: &Kernel, plat: &mut dyn Platform, order: ExecOrder) {
    let number = k.attached.made.get();
    k.attached.made.set(number + 1);
    let ids = (k.config.uid, k.config.gid);
    let due = &k.attached.due;
    let mut env = Env { plat, core: &k.core };
    let own = |which| k.core.own(exec_handle(number, which));
    let told = Outlet::new(&mut env, own(EXEC_CONTROL), ids, due);
    // The same stream in the other direction: it has one owner.
    let heard = Inlet::of(&mut env, &told, ids, due);
    let mut a = Attach {
        pid: Cell::new(Tid(0)),
        exit: Cell::new(None),
        detached: order.detached,
        input: None,
        out: [None, None],
        tty: None,
        told,
        heard,
        gone: Cell::new(false),
        due: due.clone(),
    };
    let typed = Inlet::new(&mut env, own(0), ids, due);
    let outs = [1, 2].map(|n| Outlet::new(&mut env, own(n), ids, due));
    if let Some(size) = order.tty {
        let born = env.realtime();
        let pty = k.ttys.new_pty((k.config.uid, 5), born);
        pty.locked.set(false);
        let _ = pty.set_winsize(&mut env, size);
        if !order.stdin {
            // Nobody types, and nobody says that nobody will.
            typed.ends();
        }
        a.tty = Some(Tty {
            master: RefCell::new(Some(Master(pty.clone()))),
            pty,
            typed,
            ended: Cell::new(!order.stdin),
        });
        let [out, _] = outs;
        a.out = [(!order.detached).then_some(out), None];
    } else if !order.detached {
        a.input = order.stdin.then_some(typed);
        a.out = outs.map(Some);
    }
    let a = Rc::new(a);
    listen(&a);
    let started = make(k, env.plat, order, &a);
    match started {
        Ok(tid) => {
            a.pid.set(tid);
            a.told.say(env.plat, format!("started {}\n", tid.0).as_bytes());
        }
        Err((code, why)) => {
            let why = why.replace('\n', " ");
            a.told.say(env.plat, format!("failed {code} {why}\n").as_bytes());
        }
    }
    k.attached.list.borrow_mut().insert(number, a);
    due.set(true);
}

fn make(k: &Kernel, plat: &mut dyn Platform, order: ExecOrder, a: &Attach) -> Result<Tid, Failure> {
    if k.exit.get().is_some() {
        return Err((FAILED, "the image has ended".to_string()));
    }
    let tid = k.new_tid().map_err(|e| (CANNOT_RUN, plain(e)))?;
    let root = k.fs.mounts().into_iter().next();
    let Some(root) = root else {
        return Err((FAILED, "the image has no root".to_string()));
    };
    let top = k.fs.hold(&Loc {
        mount: root,
        path: Vec::new(),
    });
    let fs = Rc::new(FsInfo {
        cwd: RefCell::new(top.clone()),
        root: RefCell::new(top),
        umask: Cell::new(order.umask.unwrap_or(k.config.umask) & 0o777),
    });
    // The space is made once nothing can fail any more.
    let space = k.new_space();
    let mm = Rc::new(Mm::new(space, k.new_slide()));
    mm.watch_text.set(k.config.cpu.is_some());
    let proc = Process::new(tid, mm, Rc::new(SigHand::default()), k.config.rlimits);
    proc.entered.set(true);
    proc.execed.set(true);
    proc.start_ns.set(k.core.clock.last());
    let proc = Rc::new(proc);
    let entity = Entity::new(tid, space, &k.core.run);
    let ctx = Context::new(k.config.xsave_len);
    let files = Rc::new(FdTable::default());
    // Files of the image are looked at as root would, until it is known who the process is.
    let mut creds = Creds::new(0, 0, Vec::new());
    let task = Rc::new(Task::new(
        tid,
        entity,
        proc.clone(),
        ctx,
        files,
        fs,
        Rc::new(creds.clone()),
    ));
    proc.threads.borrow_mut().insert(tid, task.clone());
    let mut cx = Cx {
        env: Env { plat, core: &k.core },
        k,
        task: task.clone(),
    };
    let who = who(&mut cx, &order)?;
    creds = credentials(k, &order, &who);
    *task.creds.borrow_mut() = Rc::new(creds);
    go_to(&mut cx, &order)?;
    let env = environment(k, &order, who.home);
    k.sessions.borrow_mut().insert(tid, Rc::new(Session::new(tid)));
    let ready = streams(&mut cx, &order, a)
        .map_err(|e| (FAILED, format!("its streams: {}", ExecError::from(e).why)))
        .and_then(|()| program(&mut cx, order.argv, env));
    let image = match ready {
        Ok(image) => image,
        Err(why) => {
            k.sessions.borrow_mut().remove(&tid);
            return Err(why);
        }
    };
    cx.env.plat.new_space(space);
    *task.exec.borrow_mut() = Some(image);
    k.procs.borrow_mut().insert(tid, proc.clone());
    k.tasks.borrow_mut().insert(tid, task.clone());
    crate::time::cpu::watch_limit(&k.core, &proc);
    task.entity.enqueue();
    Ok(tid)
}

/// Who the process is.
struct Who {
    ids: (u32, u32),
    groups: Vec<u32>,
    home: Option<Vec<u8>>,
}

/// A file of the image; nothing if it cannot be read.
fn slurp(cx: &mut Cx<'_>, path: &[u8]) -> Vec<u8> {
    let opened = crate::fs::calls::open::do_open(cx, AT_FDCWD, path, oflag::O_RDONLY, 0, Resolve::default());
    let Ok(open) = opened else { return Vec::new() };
    let mut out = Vec::new();
    while out.len() < MOST_FILE {
        let mut dst = Dst::kernel(1 << 16);
        match open.file.read(&mut cx.env, out.len() as u64, &mut dst) {
            Ok(n) if n > 0 => out.extend_from_slice(&dst.into_bytes()),
            _ => break,
        }
    }
    out
}

/// Lines of /etc/passwd or /etc/group by fields.
fn rows(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    bytes
        .split(|b| *b == b'\n')
        .map(|l| l.split(|b| *b == b':').collect())
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// As podman reads `--user`: `USER[:GROUP]`, names or numbers.
fn who(cx: &mut Cx<'_>, order: &ExecOrder) -> Result<Who, Failure> {
    let c = &cx.k.config;
    if order.user.is_empty() {
        return Ok(Who {
            ids: (c.uid, c.gid),
            groups: c.groups.clone(),
            home: None,
        });
    }
    let mut parts = order.user.splitn(2, |b| *b == b':');
    let (user, group) = (parts.next().unwrap_or_default(), parts.next());
    let passwd = slurp(cx, b"/etc/passwd");
    let found = rows(&passwd)
        .find(|r| r.len() >= 6 && (r[0] == user || number(user).is_some_and(|n| number(r[2]) == Some(n))));
    let ids = match (&found, number(user)) {
        (Some(r), _) => (number(r[2]).unwrap_or(0), number(r[3]).unwrap_or(0)),
        (None, Some(n)) => (n, 0),
        (None, None) if user == b"root" => (0, 0),
        (None, None) => {
            let why = format!("user {}: not in the image's /etc/passwd", text(user));
            return Err((FAILED, why));
        }
    };
    let known = slurp(cx, b"/etc/group");
    let gid = match group {
        None => ids.1,
        Some(g) => {
            let row = rows(&known).find(|r| r.len() >= 3 && r[0] == g);
            let n = row.and_then(|r| number(r[2])).or_else(|| number(g));
            n.ok_or_else(|| {
                let why = format!("group {}: not in the image's /etc/group", text(g));
                (FAILED, why)
            })?
        }
    };
    // A group that is named stands alone.
    let groups = match (&found, group) {
        (Some(r), None) => rows(&known)
            .filter(|g| g.len() >= 4 && g[3].split(|b| *b == b',').any(|m| m == r[0]))
            .filter_map(|g| number(g[2]))
            .collect(),
        _ => Vec::new(),
    };
    Ok(Who {
        ids: (ids.0, gid),
        groups,
        home: Some(found.map_or(b"/".to_vec(), |r| r[5].to_vec())),
    })
}

fn credentials(k: &Kernel, order: &ExecOrder, who: &Who) -> Creds {
    let c = &k.config;
    let groups = order.groups.clone().unwrap_or_else(|| who.groups.clone());
    let new = Creds::new(who.ids.0, who.ids.1, groups);
    let caps = match order.caps {
        Some(caps) => caps,
        None if order.user.is_empty() => c.caps,
        // Whoever it is, no more than the image may have.
        None => {
            let bound = c.caps[3];
            [new.caps[0] & bound, new.caps[1] & bound, 0, bound, 0]
        }
    };
    Creds {
        caps,
        no_new_privs: order.no_new_privs || c.no_new_privs,
        ..new
    }
}

fn go_to(cx: &mut Cx<'_>, order: &ExecOrder) -> Result<(), Failure> {
    let cwd = match order.cwd.is_empty() {
        true => cx.k.config.cwd.clone(),
        false => order.cwd.clone(),
    };
    let loc = crate::fs::calls::dirs::enterable(cx, &cwd).map_err(|e| {
        let why = ExecError::from(e).why;
        (CANNOT_RUN, format!("directory {}: {why}", text(&cwd)))
    })?;
    let place = cx.k.fs.hold(&loc);
    *cx.task.fs.borrow().cwd.borrow_mut() = place;
    Ok(())
}

fn name_of(variable: &[u8]) -> &[u8] {
    variable.split(|b| *b == b'=').next().unwrap_or(variable)
}

fn environment(k: &Kernel, order: &ExecOrder, home: Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut env: Vec<Vec<u8>> = Vec::new();
    let mut set = |v: Vec<u8>| match env.iter_mut().find(|old| name_of(old) == name_of(&v)) {
        Some(old) => *old = v,
        None => env.push(v),
    };
    if !order.only_env {
        let first = k.first.get().and_then(|p| k.procs.borrow().get(&p).cloned());
        if let Some(first) = first {
            let all = first.environ.borrow().clone();
            for v in all.split(|b| *b == 0).filter(|v| !v.is_empty()) {
                set(v.to_vec());
            }
        }
        if let Some(home) = home {
            set([b"HOME=", &home[..]].concat());
        }
    }
    for v in &order.env {
        set(v.clone());
    }
    if order.tty.is_some() && !order.only_env && !env.iter().any(|v| name_of(v) == b"TERM") {
        env.push(b"TERM=xterm".to_vec());
    }
    env
}

fn streams(cx: &mut Cx<'_>, order: &ExecOrder, a: &Attach) -> Io<()> {
    let files = cx.task.files();
    if let Some(t) = &a.tty {
        let slave: Rc<dyn ftl_core::file::File> = t.pty.slave();
        crate::tty::adopt(cx, &slave);
        let open = OpenFile::new(slave, oflag::O_RDWR);
        for fd in 0..3 {
            files.replace(fd, open.clone(), false);
        }
        return Ok(());
    }
    let null = |cx: &mut Cx<'_>, flags| {
        crate::fs::calls::open::do_open(cx, AT_FDCWD, b"/dev/null", flags, 0, Resolve::default())
    };
    let input = match (&a.input, order.detached) {
        (Some(i), false) => OpenFile::new(i.clone(), oflag::O_RDONLY),
        _ => null(cx, oflag::O_RDONLY)?,
    };
    files.replace(0, input, false);
    for (i, out) in a.out.iter().enumerate() {
        let open = match out {
            Some(o) => OpenFile::new(o.clone(), oflag::O_WRONLY),
            None => null(cx, oflag::O_WRONLY)?,
        };
        files.replace(i + 1, open, false);
    }
    Ok(())
}

/// Finds the program as execvp(3) does, and sees that it can be loaded.
fn program(cx: &mut Cx<'_>, argv: Vec<Vec<u8>>, env: Vec<Vec<u8>>) -> Result<ExecImage, Failure> {
    let Some(name) = argv.first().filter(|n| !n.is_empty()).cloned() else {
        return Err((NOT_FOUND, "no command".to_string()));
    };
    let failed = |e: ExecError| {
        let code = match e.errno {
            Errno::ENOENT | Errno::ENOTDIR => NOT_FOUND,
            _ => CANNOT_RUN,
        };
        (code, e.why)
    };
    if name.contains(&b'/') {
        return ExecImage::prepare(cx, &name, None, argv, env).map_err(failed);
    }
    let path = env
        .iter()
        .find_map(|v| v.strip_prefix(b"PATH="))
        .unwrap_or(PATH)
        .to_vec();
    let mut refused = None;
    for dir in path.split(|b| *b == b':') {
        let dir = if dir.is_empty() { &b"."[..] } else { dir };
        let file = [dir, b"/", &name].concat();
        let opened = match crate::fs::open_for_exec(cx, &file) {
            Ok(open) => open,
            Err(Stop::Errno(Errno::EACCES)) => {
                refused = Some((CANNOT_RUN, format!("{}: permission denied", text(&file))));
                continue;
            }
            Err(_) => continue,
        };
        return ExecImage::prepare(cx, &file, Some(opened), argv, env).map_err(failed);
    }
    Err(refused.unwrap_or_else(|| (NOT_FOUND, format!("{}: not found on PATH", text(&name)))))
}
