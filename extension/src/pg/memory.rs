//! Memory that is given back at once.

use pgrx::pg_sys;
use std::ffi::CStr;

/// A memory context of the session's.
pub struct Memory(pg_sys::MemoryContext);

impl Memory {
    pub fn new(name: &'static CStr) -> Self {
        // SAFETY: a constant name; deleted by Drop.
        unsafe {
            Self(pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                name.as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            ))
        }
    }

    /// Runs `f` with this as the current memory context.
    pub fn within<T>(&self, f: impl FnOnce() -> T) -> T {
        // SAFETY: a live context; an error sets the current context anew.
        let before = unsafe { pg_sys::MemoryContextSwitchTo(self.0) };
        let result = f();
        // SAFETY: the context that was current before.
        unsafe { pg_sys::MemoryContextSwitchTo(before) };
        result
    }

    /// Frees all that was allocated in it.
    pub fn reset(&self) {
        // SAFETY: a live context.
        unsafe { pg_sys::MemoryContextReset(self.0) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted nowhere else.
        unsafe { pg_sys::MemoryContextDelete(self.0) };
    }
}
