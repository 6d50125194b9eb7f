//! When the guest's own wishes meet patched call sites: mapping over a stub area, making patched text
//! writable, moving it. The text gets its bytes back, and contexts that rest in a stub go on in the
//! program; the sites trap again and may be patched anew.

use super::Mm;
use crate::cx::Cx;
use crate::kernel::Kernel;
use ftl_core::platform::Platform;
use std::rc::Rc;

fn leave_stubs(k: &Kernel, mm: &Rc<Mm>, sites: &[Rc<crate::patches::Patch>]) {
    let patches = mm.patches.borrow();
    for task in k.tasks.borrow().values() {
        if !Rc::ptr_eq(&task.mm(), mm) {
            continue;
        }
        let mut ctx = task.ctx.borrow_mut();
        let rip = ctx.rip;
        let inside = |p: &Rc<crate::patches::Patch>| rip >= p.stub.0 && rip < p.stub.0 + p.stub.1;
        if sites.iter().any(inside) {
            ctx.rip = patches.to_program(rip);
        }
    }
}

/// Puts the text of patched sites in the range back.
pub fn restore_text(k: &Kernel, plat: &mut dyn Platform, mm: &Rc<Mm>, addr: u64, len: u64) {
    let (sites, specials) = {
        let patches = mm.patches.borrow();
        let specials: Vec<_> = patches.specials.range(addr..addr + len).collect();
        let specials: Vec<_> = specials.into_iter().map(|(a, (_, b))| (*a, b.clone())).collect();
        (patches.sites_in(addr, addr + len), specials)
    };
    if sites.is_empty() && specials.is_empty() {
        return;
    }
    leave_stubs(k, mm, &sites);
    mm.patches.borrow_mut().forget(addr, addr + len);
    for p in sites {
        let _ = plat.patch_text(&[(p.start, &p.original)]);
    }
    // After the sites, whose saved bytes may hold a trap.
    for (at, bytes) in specials {
        let _ = plat.patch_text(&[(at, &bytes)]);
    }
}

/// Puts the text of all patched sites of the space back. Traps for special instructions stay.
pub fn restore_sites(k: &Kernel, plat: &mut dyn Platform, mm: &Rc<Mm>) {
    let sites = mm.patches.borrow().sites_in(0, u64::MAX);
    leave_stubs(k, mm, &sites);
    for p in &sites {
        let _ = plat.patch_text(&[(p.start, &p.original)]);
    }
    mm.patches.borrow_mut().forget_sites();
}

/// Gives a range that the guest maps itself free of stub areas.
pub fn yield_stubs(cx: &mut Cx<'_>, addr: u64, len: u64) {
    let mm = cx.task.mm();
    let areas = mm.patches.borrow().areas_in(addr, addr + len);
    for (start, end) in areas {
        let sites = mm.patches.borrow().stubs_in(start, end);
        leave_stubs(cx.k, &mm, &sites);
        mm.patches.borrow_mut().evict(start, end);
        for p in sites {
            let _ = cx.env.plat.patch_text(&[(p.start, &p.original)]);
        }
        mm.remove_hidden(start);
        cx.env.plat.unmap(start, end - start);
    }
}
