//! `ftvm exec` between its caller and the image: the order and the descriptors of the process' streams go from the caller to
//! the supervisor, from there to the process that holds the token, and become an input.
//!
//! With an order come, in this place: a memory file with the encoded [`ExecOrder`], and the far ends of the four streams
//! ([`ftl_core::door::exec_handle`]), three pipes and a socket that do not block.

use crate::alloc::{self, Side};
use crate::control::{self, ORDER_EXEC};
use crate::gifts;
use crate::platform::HostObject;
use crate::platform::streams::Stream;
use crate::run::Machine;
use crate::sys::{HostErr, sys};
use ftl_core::door::{EXEC_CONTROL, EXEC_STREAMS, ExecOrder, Input, exec_handle};
use ftl_core::log::Wire;
use ftl_core::platform::StreamKind;
use std::io::{Error, Read, Seek, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

/// Descriptors that come with an order.
const GIFTS: usize = 1 + EXEC_STREAMS as usize;
const _: () = assert!(GIFTS <= gifts::MOST);
/// Most bytes of an order: arguments and environment have a limit of their own.
const MOST_ORDER: u64 = 8 << 20;

/// The caller's ends of the streams of a process.
pub struct Near {
    /// What it reads is written here.
    pub input: std::fs::File,
    /// Its output and errors.
    pub out: [std::fs::File; 2],
    /// Where it is spoken of.
    pub control: UnixStream,
}

/// The streams of a process: the ends that stay, and those that go with the order.
pub fn ends() -> std::io::Result<(Near, [OwnedFd; EXEC_STREAMS as usize])> {
    let (input, output, errors) = (pipe()?, pipe()?, pipe()?);
    let (control, far) = UnixStream::pair()?;
    control.set_nonblocking(true)?;
    let near = Near {
        input: input.1.into(),
        out: [output.0.into(), errors.0.into()],
        control,
    };
    Ok((near, [input.0, output.1, errors.1, far.into()]))
}

/// A pipe: where it is read, where it is written.
fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors, which are new and ours.
    unsafe {
        match libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) {
            0 => Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))),
            _ => Err(Error::last_os_error()),
        }
    }
}

/// The order in a memory file, to be sent along.
pub fn pack(order: &ExecOrder) -> std::io::Result<OwnedFd> {
    let mut bytes = Vec::new();
    order.put(&mut bytes);
    // SAFETY: a plain call with a C string.
    let fd = unsafe { libc::memfd_create(c"ftvm-exec".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: new and ours.
    let mut file = unsafe { std::fs::File::from_raw_fd(fd) };
    file.write_all(&bytes)?;
    Ok(file.into())
}

fn unpack(fd: OwnedFd) -> Result<ExecOrder, String> {
    let mut file = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(MOST_ORDER + 1).read_to_end(&mut bytes));
    read.map_err(|e| format!("the order cannot be read: {e}"))?;
    if bytes.len() as u64 > MOST_ORDER {
        return Err("the order is too long".to_string());
    }
    let mut src = &bytes[..];
    let order = ExecOrder::take(&mut src).filter(|_| src.is_empty());
    order.ok_or_else(|| "the order is of another version of ftvm than the run".to_string())
}

static TURNS: AtomicU64 = AtomicU64::new(1);

/// Starts a process: in the supervisor, whose caller has the turn. What becomes of it is told on its streams.
pub fn start(gifts: Vec<OwnedFd>) -> Result<(), String> {
    if gifts.len() != GIFTS {
        return Err(format!("{} descriptors in place of {GIFTS}", gifts.len()));
    }
    // SAFETY: mapped by the supervisor at its start.
    let control = unsafe { control::get() };
    let socket = control.gifts[0].load(Ordering::Relaxed) - 1;
    if socket < 0 {
        return Err("the run has no socket for it".to_string());
    }
    let turn = TURNS.fetch_add(1, Ordering::Relaxed);
    let borrowed: Vec<BorrowedFd<'_>> = gifts.iter().map(std::os::fd::AsFd::as_fd).collect();
    gifts::send(socket, &turn.to_le_bytes(), &borrowed)
        .map_err(|e| format!("handing over its streams: {e}"))?;
    drop(borrowed);
    drop(gifts);
    control.order.at.store(turn, Ordering::Relaxed);
    crate::orders::order_image(ORDER_EXEC, "")
}

/// Takes the order that the supervisor has sent along: in the process that holds the token, at the top of the scheduler.
pub fn take(m: &mut Machine) -> Result<(), String> {
    let _side = alloc::enter(Side::Host);
    // SAFETY: the page is mapped in every guest process.
    let control = unsafe { control::get() };
    let socket = control.gifts[1].load(Ordering::Relaxed) - 1;
    let turn = control.order.at.load(Ordering::Relaxed);
    let gifts = loop {
        let mut number = [0; 8];
        let (_, gifts) =
            gifts::receive(socket, &mut number).map_err(|e| format!("taking its streams: {e}"))?;
        // Those of an order that nobody took are let go.
        if u64::from_le_bytes(number) == turn {
            break gifts;
        }
    };
    let mut gifts = gifts.into_iter();
    let (Some(order), GIFTS) = (gifts.next(), gifts.len() + 1) else {
        return Err("its streams did not come".to_string());
    };
    let order = unpack(order)?;
    if m.plat.replaying() {
        return Err("this is a replay".to_string());
    }
    let pending = m.plat.live.inputs.iter();
    let pending = pending.filter(|(_, i)| matches!(i, Input::Exec(_))).count();
    let number = m.kernel.attached.made() + pending as u32;
    for (which, fd) in (0..EXEC_STREAMS).zip(gifts) {
        let kind = match which {
            EXEC_CONTROL => StreamKind::Socket,
            _ => StreamKind::Pipe,
        };
        let fd = keep(fd).map_err(|e| format!("its streams: {e}"))?;
        let stream = HostObject::Stream(Stream::own(fd, kind));
        m.plat.live.handles.insert(exec_handle(number, which), stream);
    }
    // Inputs hold the image's buffers, unless a log is kept.
    let order = alloc::on(alloc::input_side(), || Box::new(order.clone()));
    m.plat.live.push(Input::Exec(order));
    Ok(())
}

/// The descriptor as one that does not block, for as long as the image has it.
fn keep(fd: OwnedFd) -> Result<i32, HostErr> {
    use std::os::fd::IntoRawFd;
    let fd = fd.into_raw_fd();
    // SAFETY: plain calls on a descriptor of ours.
    unsafe {
        let flags = sys!(libc::SYS_fcntl, fd, libc::F_GETFL)?;
        sys!(
            libc::SYS_fcntl,
            fd,
            libc::F_SETFL,
            flags | libc::O_NONBLOCK as u64
        )?;
    }
    Ok(fd)
}
