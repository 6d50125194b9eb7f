//! futex(2).

use crate::kernel::Kernel;
use crate::task::Task;
use ftl_core::platform::Platform;
use std::rc::Rc;

/// All futexes of an image.
#[derive(Default)]
pub struct Futexes;

/// What a task waits for.
#[derive(Default)]
pub struct Waiting;

/// A thread ends: robust list, clear_child_tid.
pub fn on_exit(_k: &Kernel, _plat: &mut dyn Platform, _task: &Rc<Task>) {}
