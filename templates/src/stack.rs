//! A stack of its own for what recurses as deep as its limits allow.

/// What the stack of a rendering may take. Only what is used is ever backed by memory.
const STACK: usize = 1 << 30;

/// Runs a function on a thread with a large stack and waits for it.
///
/// # Errors
/// That no thread can be started, or that the function panics, which only this crate's own faults can cause.
pub(crate) fn run<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        match thread {
            Ok(thread) => thread.join().map_err(|_| "rendering template failed".to_owned()),
            Err(error) => Err(format!("cannot start a thread to render in: {error}")),
        }
    })
}
