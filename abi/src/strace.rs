//! What is said of calls: `--strace`, a line for each; and the ones that are not there, once.

use crate::kernel::Kernel;
use crate::table;
use crate::task::{Call, Task};
use ftl_core::errno::Errno;
use ftl_core::platform::Platform;

impl Kernel {
    pub(crate) fn strace_begin(&self, plat: &mut dyn Platform, task: &Task, call: &Call) {
        use std::fmt::Write;
        let mut line = String::new();
        let mut peek = |addr: u64| plat.read_cstr(addr, 256).ok().flatten();
        match table::row(call.nr) {
            Some(row) => {
                let _ = write!(line, "{}(", row.name);
                (row.show)(&call.args, &mut line, &mut peek);
                line.push(')');
            }
            None => {
                let _ = write!(line, "syscall_{:#x}({:x?})", call.nr, call.args);
            }
        }
        if self.config.strace.get() && self.current.borrow().as_ref().is_none_or(|c| c.tid != task.tid) {
            line.insert_str(0, "(not current) ");
        }
        *self.strace_line.borrow_mut() = line;
    }

    pub(crate) fn strace_end(&self, plat: &mut dyn Platform, task: &Task, value: Option<u64>) {
        let begun = std::mem::take(&mut *self.strace_line.borrow_mut());
        let begun = if begun.is_empty() {
            "<... resumed>".to_string()
        } else {
            begun
        };
        let result = match value {
            None => "?".to_string(),
            Some(v) if (v as i64) < 0 && (v as i64) >= -4095 => {
                let e = Errno::from_raw(-(v as i64) as i32).unwrap_or(Errno::EINVAL);
                format!("-1 {}", e.name())
            }
            Some(v) if v > 0xffff_ffff => format!("{v:#x}"),
            Some(v) => format!("{v}"),
        };
        plat.diagnostic(&format!("[{}] {begun} = {result}", task.tid.0));
    }

    pub(crate) fn warn_unknown(&self, plat: &mut dyn Platform, task: &Task, nr: u64) {
        // What is refused on purpose has a note; a supported call may answer ENOSYS to an option.
        let expected = |r: &table::Row| r.level != table::Level::No || !r.note.is_empty();
        if table::row(nr).is_some_and(expected) {
            return;
        }
        if self.warned.borrow_mut().insert(nr) {
            let name = table::row(nr).map_or("unknown", |r| r.name);
            plat.diagnostic(&format!(
                "ftvm: task {} called {name} ({nr}), which is not supported: ENOSYS (said once)",
                task.tid.0
            ));
        }
    }
}
