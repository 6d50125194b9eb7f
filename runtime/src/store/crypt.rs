//! Encryption of snapshots by a passphrase.
//!
//! ChaCha20-Poly1305 of *ring*, which links use as well, with a key by Argon2id and a salt that is new for each file, so
//! that a key serves one file and the offset of a record is a nonce. *age* would do, but its stream has one order, and
//! a restore reads pages in another; its dependencies are many.

use ftl_core::snap::{Cipher, Lock};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// Cost of a new key: 64 MiB and three passes, 0.2 s on a slow core.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// A file may not ask for more than this.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 16;

/// A lock for a new file.
pub fn new_lock() -> Result<Lock, String> {
    let mut salt = [0; 16];
    // SAFETY: the buffer has the length that is given.
    let n = unsafe { libc::getrandom(salt.as_mut_ptr().cast(), salt.len(), 0) };
    if n != salt.len() as isize {
        return Err("the host gave no random bytes".into());
    }
    Ok(Lock {
        salt,
        memory_kib: MEMORY_KIB,
        passes: PASSES,
    })
}

/// The cipher that a lock and a passphrase make.
pub fn cipher(lock: &Lock, passphrase: &[u8]) -> Result<Box<dyn Cipher>, String> {
    if !(8..=MAX_MEMORY_KIB).contains(&lock.memory_kib) || !(1..=MAX_PASSES).contains(&lock.passes) {
        return Err(format!(
            "its key asks for {} KiB and {} passes, more than {MAX_MEMORY_KIB} and {MAX_PASSES}: it was not written by ftvm",
            lock.memory_kib, lock.passes
        ));
    }
    let mut key = [0; 32];
    let made = argon2::Params::new(lock.memory_kib, lock.passes, 1, Some(key.len())).and_then(|p| {
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, p)
            .hash_password_into(passphrase, &lock.salt, &mut key)
    });
    made.map_err(|e| format!("making the key from the passphrase: {e}"))?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| "making the key: refused".to_string())?;
    Ok(Box::new(Sealer(LessSafeKey::new(key))))
}

struct Sealer(LessSafeKey);

fn nonce(number: u64) -> Nonce {
    let mut n = [0; 12];
    n[..8].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(n)
}

impl Cipher for Sealer {
    fn seal(&self, number: u64, aad: &[u8], bytes: &mut Vec<u8>) {
        // Fails only for messages of 256 GiB.
        let sealed = self
            .0
            .seal_in_place_append_tag(nonce(number), Aad::from(aad), bytes);
        assert!(sealed.is_ok(), "sealing {} bytes", bytes.len());
    }

    fn open(&self, number: u64, aad: &[u8], bytes: &mut Vec<u8>) -> bool {
        let n = match self.0.open_in_place(nonce(number), Aad::from(aad), bytes) {
            Ok(clear) => clear.len(),
            Err(_) => return false,
        };
        bytes.truncate(n);
        true
    }
}
