//! Waiting for a condition, with a deadline that says what was seen last.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use crate::interrupt;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// An error that more waiting cannot mend: [`wait_for`] returns it at once.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GiveUp(pub String);

/// Calls `probe` until it succeeds. What it fails with is what was seen: the last of it is in the error.
///
/// # Errors
/// The deadline has passed, the probe gave up ([`GiveUp`]), or the command was interrupted.
pub fn wait_for<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let seen = match probe() {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        interrupt::check()?;
        if seen.is::<GiveUp>() {
            return Err(seen.context(format!("waiting for {what}")));
        }
        if start.elapsed() >= deadline {
            return Err(anyhow!(
                "waited {} s for {what}; seen last: {seen:#}",
                deadline.as_secs()
            ));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn waits_until_it_holds() {
        let mut calls = 0;
        let value = wait_for("three calls", Duration::from_secs(5), || {
            calls += 1;
            if calls < 3 {
                bail!("{calls} calls")
            } else {
                Ok(calls)
            }
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn says_what_was_seen_last() {
        let error = wait_for("the moon", Duration::ZERO, || -> Result<()> { bail!("a cloud") }).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for the moon; seen last: a cloud");
    }

    #[test]
    fn gives_up_at_once() {
        let start = Instant::now();
        let error = wait_for("a dead process", Duration::from_secs(60), || -> Result<()> {
            Err(GiveUp("it has ended".to_string()).into())
        });
        assert_eq!(
            format!("{:#}", error.unwrap_err()),
            "waiting for a dead process: it has ended"
        );
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
