//! Orders to a running image: a socket in the run's directory, served by a thread of the supervisor.
//! One line of JSON in, one line out. The supervisor puts the order into the control page, where the
//! process that holds the token finds it.

use crate::control::{
    self, HOW_CHANGES, HOW_DRY, HOW_GO_ON, HOW_RUNTIME, HOW_VOLUMES, ORDER_ANCHOR, ORDER_DONE, ORDER_FAILED,
    ORDER_NONE, ORDER_PROTECT, ORDER_RECORD, ORDER_RECORD_END, ORDER_REPLACE, ORDER_SNAPSHOT,
    ORDER_SWITCHOVER,
};
use crate::fault::SIG_KICK;
use crate::link::Security;
use crate::migrate::source;
use crate::snap::live;
use crate::snap::volumes::{self, Rules};
use ftl_core::snap::hex;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Name of the socket in a run's directory.
const SOCKET: &str = "orders";

static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// The run's directory, before the supervisor starts.
pub fn set_place(dir: &Path) {
    let _ = PLACE.set(dir.to_path_buf());
}

/// See [`set_place`]; none for a run without a name.
pub fn place() -> Option<&'static Path> {
    PLACE.get().map(PathBuf::as_path)
}

/// One order at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The turn to give an order ([`order_image`]).
pub fn turn() -> MutexGuard<'static, ()> {
    // Behind a panic nothing of an order is left but what the next one sets.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Orders an anchor of the log at this interval; if so wanted, at longer ones if anchors take more than 1 % of the time.
pub fn anchor_often(every: Option<(Duration, bool)>) {
    let Some((interval, sparing)) = every else { return };
    std::thread::spawn(move || {
        let mut pause = interval;
        loop {
            std::thread::sleep(pause);
            let begun = std::time::Instant::now();
            {
                let _turn = TURN.lock();
                // The image itself says what went wrong.
                let _ = order_image(ORDER_ANCHOR, "");
                // SAFETY: mapped by the supervisor at its start.
                unsafe { control::get() }.order.set(ORDER_NONE, b"");
            }
            pause = match sparing {
                true => interval.max(begun.elapsed() * 100),
                false => interval,
            };
        }
    });
}

static LISTENS: OnceLock<()> = OnceLock::new();

/// The socket's name through a descriptor of its directory, whose path may be longer than a socket's address.
fn short(dir: &Path) -> std::io::Result<(std::fs::File, PathBuf)> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd());
    Ok((open, path.into()))
}

/// Starts to serve orders, once. Without the socket the run goes on; `ftvm checkpoint` then says so.
pub fn listen(dir: &Path) {
    if LISTENS.set(()).is_err() {
        return;
    }
    let _ = std::fs::remove_file(dir.join(SOCKET));
    let listener = short(dir).and_then(|(_dir, path)| UnixListener::bind(path));
    // Nobody waits for what will not come.
    crate::cli::state::serves_orders();
    let Ok(listener) = listener else { return };
    std::thread::spawn(move || {
        for conn in listener.incoming().flatten() {
            std::thread::spawn(move || serve(conn));
        }
    });
}

/// Starts a process in the image; see [`crate::exec`]. In the supervisor.
pub fn start_process(gifts: Vec<OwnedFd>) -> Result<(), String> {
    let _turn = TURN.lock();
    let done = crate::exec::start(gifts);
    // SAFETY: mapped by the supervisor at its start.
    unsafe { control::get() }.order.set(ORDER_NONE, b"");
    done
}

/// Whoever has ordered a migration: it hears how it goes, and calls it off by closing its side.
struct OnSocket<'a>(&'a UnixStream);

impl source::Asker for OnSocket<'_> {
    fn tell(&mut self, what: Value) {
        let _ = writeln!(self.0, "{what}");
    }
    fn gone(&mut self) -> bool {
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: one byte, valid for writes.
        unsafe { libc::recv(self.0.as_raw_fd(), (&raw mut byte).cast(), 1, flags) == 0 }
    }
}

/// A migration: lines about it, and at last what came of it.
fn migrate(conn: &UnixStream, order: &Value) -> std::io::Result<()> {
    let text = |k: &str| order[k].as_str().unwrap_or_default().to_string();
    let dir = order["tls_dir"].as_str().map(Path::new);
    let told = match Security::from_options(dir, order["insecure"] == true) {
        Err(why) => json!({"ok": false, "why": why}),
        Ok(security) => {
            let sealed = match security {
                Security::Insecure => 0,
                _ => control::HOW_SEALED,
            };
            let wanted = source::Wanted {
                name: text("name"),
                to: text("to"),
                security,
                how: order["how"].as_u64().unwrap_or(0) as u32 | sealed,
                max_downtime: Duration::from_micros(order["max_downtime_us"].as_u64().unwrap_or(0)),
                verify: order["verify"] == true,
                command: order["command"].clone(),
            };
            source::migrate(&wanted, &mut OnSocket(conn))
        }
    };
    // Of one that succeeded it was told before the image was let go.
    if told["ok"] != true {
        let mut conn = conn;
        writeln!(conn, "{told}")?;
    }
    Ok(())
}

/// Longest order.
const MOST_ORDER: usize = 1 << 20;

/// The line of an order, and the descriptors that came with it.
fn hear(conn: &UnixStream) -> std::io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut line = Vec::new();
    let mut gifts = Vec::new();
    let mut buf = [0; 4096];
    while !line.contains(&b'\n') && line.len() < MOST_ORDER {
        let (n, with) = crate::gifts::receive(conn.as_raw_fd(), &mut buf)?;
        gifts.extend(with);
        if n == 0 {
            break;
        }
        line.extend_from_slice(&buf[..n]);
    }
    Ok((line, gifts))
}

/// The image's hook is to be run before this order is carried out.
fn hooked(order: &Value) -> bool {
    let how = order["how"].as_u64().unwrap_or(0) as u32;
    order["verb"] == "checkpoint" && how & HOW_DRY == 0 && order["hooks"] != false
}

/// The image is to end with its snapshot, and has a backup, which would go on.
fn ends_protected(order: &Value) -> bool {
    let how = order["how"].as_u64().unwrap_or(0) as u32;
    let ends = order["verb"] == "checkpoint" && how & (HOW_GO_ON | HOW_DRY) == 0;
    let status = crate::protect::status::read();
    ends && status["role"] == "primary" && status["state"] != "solo"
}

/// Why such a snapshot is not taken.
const ENDS_PROTECTED: &str = "the image is protected, and would go on at its backup: --leave-running takes the snapshot, \
    and ftvm stop ends both";

fn serve(conn: UnixStream) -> std::io::Result<()> {
    let (line, gifts) = hear(&conn)?;
    let order = serde_json::from_slice::<Value>(&line);
    // These do not wait for what is under way.
    match order.as_ref().map(|o| o["verb"].as_str()) {
        Ok(Some("status")) => {
            let mut status = crate::protect::status::read();
            if let Some(dir) = place() {
                status["health"] = crate::health::read(dir);
            }
            return writeln!(&conn, "{status}");
        }
        // A signal would reach the image when it has been taken over, however much later that is.
        Ok(_) if crate::protect::status::is_standby() => {
            return writeln!(&conn, "{}", answer(Err(STANDBY.to_string())));
        }
        Ok(Some("signal")) => {
            let signo = order.as_ref().ok().and_then(|o| o["signal"].as_u64());
            return writeln!(&conn, "{}", answer(signal(signo.unwrap_or(0))));
        }
        Ok(Some("lives")) => {
            // An image that does not come so far ends its supervisor, and this connection.
            // SAFETY: mapped by the supervisor at its start.
            while unsafe { control::get() }.lives.load(Ordering::Acquire) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            return writeln!(&conn, "{}", answer(Ok(())));
        }
        Ok(Some("take-back")) => return writeln!(&conn, "{}", answer(source::take_back())),
        _ => {}
    }
    if order.as_ref().is_ok_and(ends_protected) {
        return writeln!(&conn, "{}", answer(Err(ENDS_PROTECTED.to_string())));
    }
    if let Ok(order) = &order
        && hooked(order)
        && let Err(why) = crate::hooks::before_checkpoint()
    {
        let why = format!("{why}; no checkpoint was taken");
        return writeln!(&conn, "{}", answer(Err(why)));
    }
    let _turn = TURN.lock();
    // It may have got a backup meanwhile.
    if order.as_ref().is_ok_and(ends_protected) {
        return writeln!(&conn, "{}", answer(Err(ENDS_PROTECTED.to_string())));
    }
    let mut stands = None;
    let answer = match order {
        Ok(order) if order["verb"] == "migrate" => {
            let done = migrate(&conn, &order);
            // SAFETY: mapped by the supervisor at its start.
            unsafe { control::get() }.order.set(ORDER_NONE, b"");
            return done;
        }
        Ok(order) if order["verb"] == "exec" => answer(crate::exec::start(gifts)),
        Ok(order) => {
            let told;
            (told, stands) = obey(&order);
            told
        }
        Err(e) => json!({"ok": false, "why": format!("not an order: {e}")}),
    };
    let said = writeln!(&conn, "{answer}");
    if let Some(mut image) = stands {
        // With it this process ends.
        image.end();
    }
    // An image that is to end waits until this is read.
    // SAFETY: mapped by the supervisor at its start.
    unsafe { control::get() }.order.set(ORDER_NONE, b"");
    said
}

fn told_of(done: &live::Done) -> Value {
    let t = &done.taken;
    let us = |d: Duration| d.as_micros() as u64;
    json!({"ok": true, "rounds": t.rounds, "pause_us": t.pause.map(us), "longest_look_us": us(t.longest_look),
        "root": hex(&done.root), "parent": done.parent.as_ref().map(hex)})
}

/// Carries an order out. Also returns the image if it stands, to be ended when the answer was given.
fn obey(order: &Value) -> (Value, Option<live::Live>) {
    let told = match order["verb"].as_str() {
        Some("checkpoint") => {
            let path = order["path"].as_str().unwrap_or_default();
            let how = order["how"].as_u64().unwrap_or(0) as u32;
            let rules = Rules::of_json(&order["volumes"]);
            if how & (HOW_GO_ON | HOW_CHANGES | HOW_RUNTIME | HOW_VOLUMES) != 0 && how & HOW_DRY == 0 {
                let compare = order["compare"].as_str().map(Path::new);
                let packed_to = order["packed_to"].as_str().map(Path::new);
                let how = (how, live::Owner::Orders);
                return match live::checkpoint(Path::new(path), how, compare, packed_to, rules.as_ref()) {
                    Ok(done) => (told_of(&done), done.stands),
                    Err(why) => (json!({"ok": false, "why": why}), None),
                };
            }
            // SAFETY: mapped by the supervisor at its start.
            unsafe { &control::get().order }.how.store(how, Ordering::Relaxed);
            let done = order_image(ORDER_SNAPSHOT, path);
            answer(match rules.filter(|_| how & HOW_VOLUMES != 0) {
                Some(rules) => done.and_then(|()| volumes::report(Path::new(path), &rules)),
                None => done,
            })
        }
        Some("protect") => {
            let what = match order["replace"] == true {
                true => ORDER_REPLACE,
                false => ORDER_PROTECT,
            };
            answer(order_image(what, order["backup"].as_str().unwrap_or_default()))
        }
        Some("switchover") => answer(order_image(ORDER_SWITCHOVER, "")),
        Some("record-start") => answer(record(order["path"].as_str().unwrap_or_default())),
        Some("record-stop") => {
            answer(order_image(ORDER_RECORD_END, "").map(|()| crate::supervisor::log_ends()))
        }
        other => json!({"ok": false, "why": format!("unknown order {other:?}")}),
    };
    (told, None)
}

/// A signal for the image's first process, of whatever number: also those that mean something to the supervisor itself.
fn signal(signo: u64) -> Result<(), String> {
    if !(1..=64).contains(&signo) {
        return Err(format!("{signo} is not a signal"));
    }
    // SAFETY: mapped by the supervisor at its start.
    let control = unsafe { control::get() };
    control.signals.fetch_or(1 << (signo - 1), Ordering::AcqRel);
    kick();
    Ok(())
}

/// Makes the image notice that something is wanted.
pub fn kick() {
    // SAFETY: mapped by the supervisor at its start.
    let pid = unsafe { control::get() }.holder.load(Ordering::Acquire) as i32;
    // The image's process is not there yet: it finds what is wanted. 0 would be our whole process group.
    if pid == 0 {
        return;
    }
    // SAFETY: our own child.
    unsafe { libc::kill(pid, SIG_KICK) };
}

fn answer(done: Result<(), String>) -> Value {
    match done {
        Ok(()) => json!({"ok": true}),
        Err(why) => json!({"ok": false, "why": why}),
    }
}

/// The image gets a log, which is looked after from then on.
fn record(path: &str) -> Result<(), String> {
    order_image(ORDER_RECORD, path)?;
    crate::supervisor::look_after(PathBuf::from(path));
    Ok(())
}

/// What a backup answers to all but questions.
const STANDBY: &str =
    "this is a standby: the image runs at its primary, which takes orders; here only ftvm status answers";

/// Has the process that holds the token do something.
///
/// The caller has the turn. An order to stop is done when the image stands. One to an image that is being taken over is carried
/// out when it has gone live ([`crate::snap::wanted`]).
pub fn order_image(what: u32, text: &str) -> Result<(), String> {
    if text.len() > control::ORDER_TEXT {
        return Err(format!("{text}: too long"));
    }
    // SAFETY: mapped by the supervisor at its start.
    let control = unsafe { control::get() };
    // It is known before a run's supervisor takes orders ([`crate::supervisor::run`]).
    if control.holder.load(Ordering::Acquire) == 0 {
        return Err("the image does not run here".to_string());
    }
    if crate::snap::needs_all(what) {
        control.loader.wait();
    }
    let order = &control.order;
    order.set(what, text.as_bytes());
    kick();
    let mut kicked = Instant::now();
    loop {
        match order.state.load(Ordering::Acquire) {
            ORDER_DONE | control::ORDER_STOPPED => return Ok(()),
            ORDER_FAILED => {
                let why = String::from_utf8_lossy(&order.text()).into_owned();
                order.set(ORDER_NONE, b"");
                return Err(why);
            }
            state => crate::sys::futex_wait_for(&order.state, state, KICK_AGAIN.as_nanos() as u64),
        }
        if kicked.elapsed() >= KICK_AGAIN {
            kick();
            kicked = Instant::now();
        }
    }
}

/// Lets an image that stands go on or end ([`control::ORDER_GO`], [`control::ORDER_END`]), and waits until it has heard.
pub fn release_image(how: u32) {
    // SAFETY: mapped by the supervisor at its start.
    let order = &unsafe { control::get() }.order;
    order.set(how, b"");
    while order.state.load(Ordering::Acquire) == how {
        crate::sys::futex_wait_for(&order.state, how, KICK_AGAIN.as_nanos() as u64);
    }
    order.set(ORDER_NONE, b"");
}

/// An image that has not answered is kicked again: the process that was kicked may not have the token any more.
const KICK_AGAIN: Duration = Duration::from_millis(50);

/// Whoever waits for a run to begin is told after this time.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// Between two looks at a run that begins.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Sends an order to the run in `dir`; the answers can be read.
pub fn begin(dir: &Path, order: &Value) -> std::io::Result<UnixStream> {
    begin_with(dir, order, &[])
}

/// The same, with descriptors.
pub fn begin_with(dir: &Path, order: &Value, gifts: &[BorrowedFd<'_>]) -> std::io::Result<UnixStream> {
    begin_within(dir, order, gifts, None)
}

/// The connection to whoever serves the orders of the run in `dir`. One that begins and does not serve them yet is waited for, at most
/// until `end`.
fn connect(dir: &Path, end: Option<Instant>) -> std::io::Result<UnixStream> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let (_dir, path) = short(dir)?;
    let since = Instant::now();
    let mut told = false;
    loop {
        // Asked first: one that had begun by then was listening before it was tried.
        let begins = crate::cli::state::begins(dir);
        match UnixStream::connect(&path) {
            Err(e) if begins && matches!(e.kind(), NotFound | ConnectionRefused) => {
                if end.is_some_and(|end| Instant::now() >= end) {
                    return Err(std::io::ErrorKind::TimedOut.into());
                }
                if end.is_none() && !told && since.elapsed() > TOLD_AFTER {
                    told = true;
                    let name = dir.file_name().unwrap_or_default().to_string_lossy();
                    crate::cli::say(&format!(
                        "{name} has not begun yet; waiting (ftvm logs {name} may say why, ftvm kill -s KILL {name} ends it)"
                    ));
                }
                std::thread::sleep(LOOK_AGAIN);
            }
            done => return done,
        }
    }
}

fn begin_within(
    dir: &Path,
    order: &Value,
    gifts: &[BorrowedFd<'_>],
    patience: Option<Duration>,
) -> std::io::Result<UnixStream> {
    let conn = connect(dir, patience.map(|p| Instant::now() + p))?;
    let line = format!("{order}\n");
    let sent = match gifts {
        [] => 0,
        _ => crate::gifts::send(conn.as_raw_fd(), line.as_bytes(), gifts)?,
    };
    (&conn).write_all(&line.as_bytes()[sent..])?;
    Ok(conn)
}

/// Sends an order to the run in `dir` and returns the answer.
pub fn send(dir: &Path, order: &Value) -> std::io::Result<Value> {
    send_within(dir, order, None)
}

/// The same, for at most so long: who looks after many images does not wait for one that hangs.
pub fn send_within(dir: &Path, order: &Value, patience: Option<Duration>) -> std::io::Result<Value> {
    let conn = begin_within(dir, order, &[], patience)?;
    conn.set_read_timeout(patience)?;
    let mut line = String::new();
    BufReader::new(&conn).read_line(&mut line)?;
    Ok(serde_json::from_str(&line).unwrap_or(Value::Null))
}
