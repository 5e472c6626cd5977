//! Ctrl-C as a flag that every wait looks at, so that a lab is taken down in an orderly way and not cut short.
//!
//! Only a command line turns this on; in a test the signals keep their meaning.

use std::{
    io,
    sync::{Arc, OnceLock, atomic::AtomicBool, atomic::Ordering},
};

use anyhow::{Result, bail};
use nix::libc::{SIGHUP, SIGINT, SIGTERM};

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT, SIGTERM and SIGHUP set the flag instead of ending the process.
///
/// # Errors
/// The handlers cannot be installed.
pub fn install() -> io::Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Was one of the signals received?
pub fn is_set() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Clears the flag and says whether it was set: taking a lab down goes on after an interrupt.
pub fn take() -> bool {
    INTERRUPTED
        .get()
        .is_some_and(|flag| flag.swap(false, Ordering::Relaxed))
}

/// To be called between steps.
///
/// # Errors
/// One of the signals was received.
pub fn check() -> Result<()> {
    if is_set() {
        bail!("interrupted");
    }
    Ok(())
}
