//! The unwind table of the vDSO: one entry for all of its code, which never moves the stack pointer.

/// DW_EH_PE_pcrel | DW_EH_PE_sdata4
const PCREL_SDATA4: u8 = 0x1b;
/// DW_EH_PE_datarel | DW_EH_PE_sdata4
const DATAREL_SDATA4: u8 = 0x3b;
/// DW_EH_PE_udata4
const UDATA4: u8 = 0x03;

const CIE_LEN: usize = 24;
const FDE_LEN: usize = 24;
/// `.eh_frame`: one CIE, one FDE, the end mark.
pub const FRAME_LEN: usize = CIE_LEN + FDE_LEN + 4;
/// `.eh_frame_hdr` with a search table of one.
pub const HEADER_LEN: usize = 20;

/// `.eh_frame` at address `at`, for `len` bytes of code at `text`.
pub fn frame(at: u64, text: u64, len: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_LEN);
    out.extend_from_slice(&(CIE_LEN as u32 - 4).to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    // Version 1, "zR", code alignment 1, data alignment -8, return address in column 16, FDE encoding.
    out.extend_from_slice(&[1, b'z', b'R', 0, 1, 0x78, 16, 1, PCREL_SDATA4]);
    // The caller's frame is at rsp + 8, its return address 8 below.
    out.extend_from_slice(&[0x0c, 7, 8, 0x90, 1]);
    out.resize(CIE_LEN, 0);
    out.extend_from_slice(&(FDE_LEN as u32 - 4).to_le_bytes());
    out.extend_from_slice(&(CIE_LEN as u32 + 4).to_le_bytes());
    let pc_field = at + out.len() as u64;
    out.extend_from_slice(&relative(pc_field, text).to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.resize(CIE_LEN + FDE_LEN, 0);
    out.extend_from_slice(&[0; 4]);
    out
}

/// `.eh_frame_hdr` at address `at`, for the table at `frame` and the code at `text`.
pub fn header(at: u64, frame: u64, text: u64) -> Vec<u8> {
    let mut out = vec![1, PCREL_SDATA4, UDATA4, DATAREL_SDATA4];
    out.extend_from_slice(&relative(at + 4, frame).to_le_bytes());
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(&relative(at, text).to_le_bytes());
    out.extend_from_slice(&relative(at, frame + CIE_LEN as u64).to_le_bytes());
    out
}

/// All addresses lie within one small image.
fn relative(from: u64, to: u64) -> i32 {
    to.wrapping_sub(from) as i32
}
