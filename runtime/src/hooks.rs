//! Hooks of an image (`hooks` of its ftvm.toml): a command in the image before a checkpoint is taken, and one after a restore.
//!
//! The image itself carries them ([`ftl_abi::config::Hooks`]), so that whoever supervises it knows them: after a restore, a
//! migration or a takeover too. The supervisor asks the image and starts the command as `ftvm exec` would; the program runs on
//! meanwhile, as most hooks have something to ask of it.
//!
//! A hook before a checkpoint that fails, or takes too long, leaves no checkpoint, and the image goes on. One after a restore
//! ends the image: what it was to mend (seeds, keys, leases that all copies share) is not mended.

use crate::control::{self, ORDER_ABOUT, ORDER_NONE};
use crate::run::EXIT_FAILED;
use crate::{command, orders, supervisor, sys, talk};
use ftl_abi::config::{Hook, Hooks};
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The image goes on from a snapshot.
static RESTORED: AtomicBool = AtomicBool::new(false);

/// What is supervised goes on from a snapshot; before the supervisor starts.
pub fn set_restored() {
    RESTORED.store(true, Ordering::Relaxed);
}

/// What the image says of itself, for [`ORDER_ABOUT`].
pub fn encode(hooks: &Hooks) -> Vec<u8> {
    let mut out = Vec::new();
    for hook in [&hooks.before_checkpoint, &hooks.after_restore] {
        // One that is not there has no command.
        put_list(hook.as_ref().map_or(&[][..], |h| &h.argv), &mut out);
        hook.as_ref().map_or(0, |h| h.timeout_ns).put(&mut out);
    }
    out
}

/// Reads what [`encode`] wrote.
pub fn decode(src: &mut &[u8]) -> Option<Hooks> {
    let mut one = || -> Option<Option<Hook>> {
        let argv: Vec<Vec<u8>> = take_list(src)?;
        let timeout_ns = Wire::take(src)?;
        Some((!argv.is_empty()).then_some(Hook { argv, timeout_ns }))
    };
    Some(Hooks {
        before_checkpoint: one()?,
        after_restore: one()?,
    })
}

/// Asks the image.
fn ask() -> Result<Hooks, String> {
    let bad = |e: std::io::Error| format!("the image's hooks: {e}");
    let fd = sys::memfd(c"ftvm-about", 0).map_err(|e| format!("memory for the image's hooks: {e}"))?;
    // SAFETY: a new descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    {
        let _turn = orders::turn();
        let done = orders::order_image(ORDER_ABOUT, &path);
        // SAFETY: mapped by the supervisor at its start.
        unsafe { control::get() }.order.set(ORDER_NONE, b"");
        done?;
    }
    let bytes = std::fs::read(&path).map_err(bad)?;
    decode(&mut &bytes[..]).ok_or_else(|| "the image's hooks are damaged".to_string())
}

fn run(name: &str, hook: &Hook) -> Result<(), String> {
    let timeout = Duration::from_nanos(hook.timeout_ns);
    let (code, said) = command::run(&hook.argv, timeout).map_err(|why| format!("hook {name}: {why}"))?;
    let said = said.trim();
    let colon = if said.is_empty() { "" } else { ": " };
    match code {
        0 => Ok(()),
        command::TOO_LONG => Err(format!("hook {name}: {said}")),
        code => Err(format!("hook {name}: exit code {code}{colon}{said}")),
    }
}

/// Before a checkpoint; an error says why none is to be taken. The caller has not the turn.
pub fn before_checkpoint() -> Result<(), String> {
    match ask()?.before_checkpoint {
        Some(hook) => run("before-checkpoint", &hook),
        None => Ok(()),
    }
}

/// Starts what is to be done if the image goes on from a snapshot, in the supervisor.
pub fn look_after() {
    if !RESTORED.load(Ordering::Relaxed) {
        return;
    }
    std::thread::spawn(|| {
        let done = ask().and_then(|hooks| match hooks.after_restore {
            Some(hook) => run("after-restore", &hook),
            None => Ok(()),
        });
        if let Err(why) = done {
            talk::error("hook", EXIT_FAILED, &format!("{why}; the image was ended"));
            supervisor::end(EXIT_FAILED);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_come_back_as_they_were() {
        let hook = |word: &str| {
            Some(Hook {
                argv: vec![word.into(), b"x y".to_vec()],
                timeout_ns: 7,
            })
        };
        for hooks in [
            Hooks::default(),
            Hooks {
                before_checkpoint: hook("a"),
                after_restore: None,
            },
            Hooks {
                before_checkpoint: None,
                after_restore: hook("b"),
            },
        ] {
            assert_eq!(decode(&mut &encode(&hooks)[..]), Some(hooks));
        }
        assert_eq!(decode(&mut &[1u8][..]), None);
    }
}
