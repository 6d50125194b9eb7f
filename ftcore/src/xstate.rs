//! Extended state in the forms in which programs see it, made from values alone.
//!
//! A CPU tracks which components of the extended state are "in use", and says so in XSTATE_BV. What it says
//! depends on more than the program: a component that holds its initial value counts as in use or not as the
//! last context switch of the host had it, and `xsavec` then writes or leaves out hundreds of bytes (which lazy
//! binding leaves behind on the stack). Here a component is in use exactly if it differs from its initial value.

use crate::context::{FCW_DEFAULT, MXCSR_DEFAULT, XSAVE_BV, XSAVE_MXCSR, XSAVE_XMM};

/// x87
const X87: u64 = 1;
/// xmm
const SSE: u64 = 2;
/// Legacy region and header.
const HEAD_LEN: usize = 576;
/// Offset of XCOMP_BV in the area.
const XCOMP_BV: usize = XSAVE_BV + 8;

/// A component beyond the legacy region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Part {
    /// Its bit.
    pub bit: u32,
    /// Offset in the standard format.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
    /// Begins at a multiple of 64 in the compacted format.
    pub aligned: bool,
}

/// Most components beyond the legacy region.
pub const PARTS_MAX: usize = 18;

/// The components beyond the legacy region that `xcr0` enables, ascending; unused entries have no length.
/// `leaf(n)` is what CPUID leaf 0xD answers for subleaf `n`.
pub fn parts(xcr0: u64, leaf: impl Fn(u32) -> [u32; 4]) -> [Part; PARTS_MAX] {
    let mut out = [Part::default(); PARTS_MAX];
    let enabled = (2..63).filter(|bit| xcr0 >> bit & 1 != 0);
    for (to, bit) in out.iter_mut().zip(enabled) {
        let [len, offset, flags, _] = leaf(bit);
        *to = Part {
            bit,
            offset,
            len,
            aligned: flags & 2 != 0,
        };
    }
    out
}

impl Part {
    fn mask(&self) -> u64 {
        1 << self.bit
    }
    fn of<'a>(&self, area: &'a [u8]) -> &'a [u8] {
        let at = self.offset as usize;
        area.get(at..at + self.len as usize).unwrap_or(&[])
    }
    fn of_mut<'a>(&self, area: &'a mut [u8]) -> &'a mut [u8] {
        let at = self.offset as usize;
        area.get_mut(at..at + self.len as usize).unwrap_or(&mut [])
    }
}

fn zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}

fn x87_in_use(area: &[u8]) -> bool {
    area[..2] != FCW_DEFAULT.to_le_bytes() || !zero(&area[2..XSAVE_MXCSR]) || !zero(&area[32..XSAVE_XMM])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| b[at + i]))
}

/// Components of an area in standard format that differ from their initial values.
pub fn in_use(area: &[u8], parts: &[Part]) -> u64 {
    let mut bv = 0;
    if x87_in_use(area) {
        bv |= X87;
    }
    if !zero(&area[XSAVE_XMM..XSAVE_XMM + 256]) {
        bv |= SSE;
    }
    for p in parts {
        if !zero(p.of(area)) {
            bv |= p.mask();
        }
    }
    bv
}

/// Makes an area that a CPU wrote a function of the values in it: components that it says are initial get their
/// initial bytes, and XSTATE_BV has the legacy bits and those that are in use.
pub fn canonical(area: &mut [u8], parts: &[Part]) {
    if area.len() < HEAD_LEN {
        return;
    }
    let bv = u64_at(area, XSAVE_BV);
    if bv & X87 == 0 {
        area[..XSAVE_MXCSR].fill(0);
        area[..2].copy_from_slice(&FCW_DEFAULT.to_le_bytes());
        area[32..XSAVE_XMM].fill(0);
    }
    if bv & SSE == 0 {
        area[XSAVE_XMM..XSAVE_XMM + 256].fill(0);
    }
    for p in parts.iter().filter(|p| bv & p.mask() == 0) {
        p.of_mut(area).fill(0);
    }
    // What no instruction writes: behind xmm15, and between the components.
    area[XSAVE_XMM + 256..XSAVE_BV].fill(0);
    area[XSAVE_BV + 8..HEAD_LEN].fill(0);
    let mut end = HEAD_LEN;
    for p in parts.iter().filter(|p| p.len > 0) {
        if let Some(gap) = area.get_mut(end..p.offset as usize) {
            gap.fill(0);
        }
        end = end.max((p.offset + p.len) as usize);
    }
    if let Some(gap) = area.get_mut(end..) {
        gap.fill(0);
    }
    let bv = in_use(area, parts) | X87 | SSE;
    area[XSAVE_BV..XSAVE_BV + 8].copy_from_slice(&bv.to_le_bytes());
}

/// Which instruction saves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// All that is asked for.
    Xsave,
    /// Leaves out what is initial.
    Xsaveopt,
    /// Leaves out what is initial, without gaps.
    Xsavec,
}

/// What `xsave`, `xsaveopt` or `xsavec` with the mask `rfbm` writes for the state in `area`: offset and bytes.
/// `old_bv` is XSTATE_BV in the target, of which `xsave` and `xsaveopt` keep what was not asked for.
pub fn save(area: &[u8], parts: &[Part], form: Form, rfbm: u64, old_bv: u64) -> Vec<(usize, Vec<u8>)> {
    let mut out = Vec::new();
    if area.len() < HEAD_LEN {
        return out;
    }
    let mut used = in_use(area, parts);
    let mxcsr = &area[XSAVE_MXCSR..XSAVE_MXCSR + 8];
    if form == Form::Xsavec && mxcsr[..4] != MXCSR_DEFAULT.to_le_bytes() {
        used |= SSE;
    }
    let wanted = if form == Form::Xsave { rfbm } else { rfbm & used };
    let mut put = |at: usize, bytes: &[u8]| out.push((at, bytes.to_vec()));
    if wanted & X87 != 0 {
        put(0, &area[..XSAVE_MXCSR]);
        put(32, &area[32..XSAVE_XMM]);
    }
    let with_mxcsr = match form {
        Form::Xsavec => wanted & SSE != 0,
        Form::Xsave | Form::Xsaveopt => rfbm & (SSE | 4) != 0,
    };
    if with_mxcsr {
        put(XSAVE_MXCSR, mxcsr);
    }
    if wanted & SSE != 0 {
        put(XSAVE_XMM, &area[XSAVE_XMM..XSAVE_XMM + 256]);
    }
    let mut end = HEAD_LEN;
    for p in parts.iter().filter(|p| p.len > 0 && rfbm & p.mask() != 0) {
        let at = match form {
            Form::Xsavec if p.aligned => end.next_multiple_of(64),
            Form::Xsavec => end,
            _ => p.offset as usize,
        };
        end = at + p.len as usize;
        if wanted & p.mask() != 0 {
            put(at, p.of(area));
        }
    }
    let bv = match form {
        Form::Xsavec => rfbm & used,
        _ => old_bv & !rfbm | rfbm & used,
    };
    put(XSAVE_BV, &bv.to_le_bytes());
    if form == Form::Xsavec {
        put(XCOMP_BV, &(rfbm | 1 << 63).to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const XCR0: u64 = 0b111 | 1 << 9;

    fn layout() -> [Part; PARTS_MAX] {
        parts(XCR0, |n| match n {
            2 => [256, 576, 0, 0],
            9 => [8, 832, 2, 0],
            _ => [0; 4],
        })
    }

    fn area() -> Vec<u8> {
        let mut a = vec![0; 840];
        a[..2].copy_from_slice(&FCW_DEFAULT.to_le_bytes());
        a[XSAVE_MXCSR..XSAVE_MXCSR + 4].copy_from_slice(&MXCSR_DEFAULT.to_le_bytes());
        a
    }

    #[test]
    fn what_the_cpu_says_of_use_does_not_count() {
        let l = layout();
        let (mut a, mut b) = (area(), area());
        a[XSAVE_BV] = 0b111;
        b[XSAVE_BV] = 0;
        b[600] = 7; // Left over: the CPU says that it is initial.
        canonical(&mut a, &l);
        canonical(&mut b, &l);
        assert!(a == b && a[XSAVE_BV] == 0b11);
        a[600] = 7;
        a[XSAVE_BV] = 0b111;
        canonical(&mut a, &l);
        assert!(a[XSAVE_BV] == 0b111 && a[600] == 7);
    }

    #[test]
    fn saves_as_the_manual_says() {
        let l = layout();
        let mut a = area();
        a[832] = 0x54;
        a[XSAVE_XMM] = 1;
        let at = |form, rfbm| {
            let list = save(&a, &l, form, rfbm, 0x8000);
            list.iter().map(|(at, b)| (*at, b.len())).collect::<Vec<_>>()
        };
        // The part behind the absent one begins at a multiple of 64.
        assert_eq!(
            at(Form::Xsavec, XCR0),
            [(24, 8), (160, 256), (832, 8), (512, 8), (520, 8)]
        );
        assert_eq!(at(Form::Xsavec, 1 << 9), [(576, 8), (512, 8), (520, 8)]);
        assert_eq!(
            at(Form::Xsave, XCR0),
            [
                (0, 24),
                (32, 128),
                (24, 8),
                (160, 256),
                (576, 256),
                (832, 8),
                (512, 8)
            ]
        );
        assert_eq!(at(Form::Xsaveopt, 0b101), [(24, 8), (512, 8)]);
        let bv = |form, rfbm| {
            let list = save(&a, &l, form, rfbm, 0x8004);
            let (_, b) = list
                .iter()
                .find(|(at, _)| *at == XSAVE_BV)
                .cloned()
                .unwrap_or_default();
            u64_at(&b, 0)
        };
        assert_eq!(bv(Form::Xsave, 0b11), 0x8006);
        assert_eq!(bv(Form::Xsavec, XCR0), 0x202);
    }
}
