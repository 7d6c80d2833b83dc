//! Copies during which a page that can't be had is no SIGBUS that kills.
//!
//! The thread notes which mapping it is about to copy from or to, in a variable of its own. A SIGBUS by a fault comes to the very thread
//! that made the access, and interrupts it there: so the handler finds the note of the copy that it interrupts, and needs no lock and
//! no table of all mappings. If the fault lies in that mapping it puts zeros in place of the whole of it and returns; the access is repeated, and
//! the copy goes on. Every other SIGBUS is given back to whoever had the signal before.

use std::ffi::{c_int, c_void};
use std::mem;
use std::ops::Range;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// The mapping in which this thread can bear a fault now, for the handler.
struct Watch {
    start: AtomicUsize,
    /// Not beyond `start`: none.
    end: AtomicUsize,
    /// Zeros were mapped there.
    faulted: AtomicBool,
}

thread_local! {
    // Made at compile time and without a destructor, so that the handler reaches it without initialisation or allocation.
    static WATCH: Watch = const {
        Watch {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            faulted: AtomicBool::new(false),
        }
    };
}

/// Who had SIGBUS before.
static FORMER: OnceLock<libc::sigaction> = OnceLock::new();

/// Copies `len` bytes. False when a page could not be had: then `mapping` is memory of zeros, no longer the file's, and `to` may hold anything.
///
/// # Safety
/// `from` must be valid for reads of `len` bytes and `to` for writes, except that what lies in `mapping` may fault; the two may not overlap.
/// `mapping` must be the addresses of a whole mapping that only the caller uses, and in which nothing matters any more after a fault.
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, len: usize, mapping: Range<usize>) -> bool {
    WATCH.with(|watch| {
        watch.begin(mapping);
        // SAFETY: by this function's own contract.
        unsafe { ptr::copy_nonoverlapping(from, to, len) };
        watch.end()
    })
}

impl Watch {
    // The handler runs on the same thread, between two instructions: relaxed accesses suffice, as long as the compiler moves none of
    // them, and nothing of the copy, past the fences.

    fn begin(&self, mapping: Range<usize>) {
        self.faulted.store(false, Ordering::Relaxed);
        self.start.store(mapping.start, Ordering::Relaxed);
        self.end.store(mapping.end, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    /// Whether no page was missing.
    fn end(&self) -> bool {
        compiler_fence(Ordering::SeqCst);
        self.end.store(0, Ordering::Relaxed);
        !self.faulted.load(Ordering::Relaxed)
    }

    /// In the handler: puts zeros in place of the mapping, if `address` lies there.
    fn bear(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Relaxed);
        let end = self.end.load(Ordering::Relaxed);
        if !(start..end).contains(&address) {
            return false;
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: by the contract of `copy`, which this interrupts, the mapping is its caller's alone and can be given up. A plain system
        // call, so the handler may make it.
        let zeros = unsafe { mmap_anonymous(start as *mut c_void, end - start, access, flags) };
        self.faulted.store(true, Ordering::Relaxed);
        zeros.is_ok()
    }
}

/// Takes the signal over, once in the life of the process. False if the system refuses.
pub(crate) fn is_handled() -> bool {
    static HANDLED: OnceLock<bool> = OnceLock::new();
    *HANDLED.get_or_init(|| {
        let Some(former) = set_action(None) else {
            return false;
        };
        // Before the handler can run.
        FORMER.get_or_init(|| former);
        let mut action = default_action();
        action.sa_sigaction = on_bus_error as *const () as libc::sighandler_t;
        // SIGBUS stays blocked in the handler: a fault of its own kills. On the alternate stack, as the standard library's handler that it
        // may pass on to.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        set_action(Some(&action)).is_some()
    })
}

/// The handler. It makes nothing but system calls, and reads atomics.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid `info`. `si_addr` is only a number here; it means something for faults.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let is_fault = code > libc::SI_USER;
    if is_fault && WATCH.with(|watch| watch.bear(address)) {
        return;
    }
    // As if this handler had never been: a fault comes again when the instruction is repeated, a signal that was sent does not.
    let former = FORMER.get().copied().unwrap_or_else(default_action);
    set_action(Some(&former));
    if !is_fault {
        // SAFETY: no memory is passed.
        unsafe { libc::raise(signal) };
    }
}

/// Sets the action for SIGBUS, if one is given. Gives the one before; `None` if the system refuses.
fn set_action(action: Option<&libc::sigaction>) -> Option<libc::sigaction> {
    let new = action.map_or(ptr::null(), ptr::from_ref);
    let mut former = default_action();
    // SAFETY: both are null or valid structures; the handler that they may name keeps to what a handler may do (`on_bus_error`), or was in
    // place before.
    let done = unsafe { libc::sigaction(libc::SIGBUS, new, &raw mut former) };
    (done == 0).then_some(former)
}

fn default_action() -> libc::sigaction {
    // SAFETY: all zero is a valid value of this plain structure: the default action (SIG_DFL), no flags, no other signal blocked.
    unsafe { mem::zeroed() }
}
