//! A relay of TCP connections whose connections can be reset from outside, and which can hold what comes for a time.

use crate::net::Host;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub struct Relay(Arc<Mutex<Vec<TcpStream>>>);

impl Relay {
    /// On a host, from one of its addresses to another.
    pub fn start(host: &Host, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> io::Result<Relay> {
        Relay::start_slow(host, from, to, Duration::ZERO)
    }

    /// The same; what comes leaves after `delay`, in each direction, however much it is: a long way, not a narrow one.
    pub fn start_slow(
        host: &Host,
        from: (Ipv4Addr, u16),
        to: (Ipv4Addr, u16),
        delay: Duration,
    ) -> io::Result<Relay> {
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let ours = open.clone();
        let listener = host.within(|| TcpListener::bind(from))?;
        let fd = host.copy()?;
        std::thread::spawn(move || {
            if fd.enter().is_err() {
                return;
            }
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(to) else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                for (a, b) in [(&near, &far), (&far, &near)] {
                    let (Ok(a), Ok(b)) = (a.try_clone(), b.try_clone()) else {
                        continue;
                    };
                    std::thread::spawn(move || match delay.is_zero() {
                        true => pump(a, b),
                        false => pump_late(a, b, delay),
                    });
                }
                if let Ok(mut all) = ours.lock() {
                    all.extend([near, far]);
                }
            }
        });
        Ok(Relay(open))
    }

    /// Resets what goes through it now; new connections are relayed again.
    pub fn reset(&self) {
        let Ok(mut all) = self.0.lock() else { return };
        for s in all.drain(..) {
            let now = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            let len = size_of::<libc::linger>() as u32;
            // SAFETY: a valid descriptor and structure.
            unsafe {
                libc::setsockopt(
                    s.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    (&raw const now).cast(),
                    len,
                )
            };
            // Wakes the thread that reads it; the last close resets.
            let _ = s.shutdown(Shutdown::Both);
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut buf = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buf) {
        if to.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn pump_late(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (put, take) = mpsc::channel::<(Instant, Vec<u8>)>();
    let writer = std::thread::spawn(move || {
        for (due, bytes) in take {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut buf = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buf) {
        if put.send((Instant::now() + delay, buf[..n].to_vec())).is_err() {
            break;
        }
    }
    drop(put);
    let _ = writer.join();
}
