//! The timer table of one peer, and the jitter and back-off every timer takes.
//!
//! A timer is a deadline in a small array; nothing here reads a clock. Setting a timer that is armed moves it,
//! so no stale expiry can ever be seen.
//!
//! RFC 4271 section 10 (timers and jitter), section 8.1.1 (DampPeerOscillations).

use std::time::{Duration, Instant};

/// Deadlines indexed by a timer kind `T`, which knows its place in the table.
#[derive(Debug, Clone)]
pub(crate) struct TimerTable<T, const N: usize> {
    deadlines: [Option<Instant>; N],
    kinds: [T; N],
}

impl<T: Copy + PartialEq, const N: usize> TimerTable<T, N> {
    /// A table with every timer stopped.
    pub(crate) fn new(kinds: [T; N]) -> Self {
        Self {
            deadlines: [None; N],
            kinds,
        }
    }

    /// Arms `timer` for `deadline`, whether or not it was armed.
    pub(crate) fn set(&mut self, timer: T, deadline: Instant) {
        if let Some(slot) = self.slot(timer) {
            *slot = Some(deadline);
        }
    }

    /// Stops `timer`.
    pub(crate) fn stop(&mut self, timer: T) {
        if let Some(slot) = self.slot(timer) {
            *slot = None;
        }
    }

    /// Stops every timer.
    pub(crate) fn stop_all(&mut self) {
        self.deadlines = [None; N];
    }

    /// When `timer` fires, if it is armed.
    pub(crate) fn get(&self, timer: T) -> Option<Instant> {
        let at = self.kinds.iter().position(|kind| *kind == timer)?;
        self.deadlines.get(at).copied().flatten()
    }

    /// Stops and returns one timer whose deadline has passed, the earliest first.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<T> {
        let (at, _) = self
            .deadlines
            .iter()
            .enumerate()
            .filter_map(|(at, deadline)| deadline.filter(|d| *d <= now).map(|d| (at, d)))
            .min_by_key(|(_, deadline)| *deadline)?;
        *self.deadlines.get_mut(at)? = None;
        self.kinds.get(at).copied()
    }

    /// The earliest deadline of the table.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    fn slot(&mut self, timer: T) -> Option<&mut Option<Instant>> {
        let at = self.kinds.iter().position(|kind| *kind == timer)?;
        self.deadlines.get_mut(at)
    }
}

/// The source of jitter: splitmix64, seeded by the caller so that a test repeats itself exactly.
///
/// It decides when, never what, so it need not be unpredictable.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `base` times a factor uniform in 0.75 to 1.0, as RFC 4271 section 10 asks.
    pub(crate) fn apply(&mut self, base: Duration) -> Duration {
        let quarter = base / 4;
        let thousandths = (self.next() % 1001) as u32;
        base - quarter * thousandths / 1000
    }
}

/// Exponential back-off: `first`, doubled at each failure, never above `cap`.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            failures: 0,
        }
    }

    /// The pause after one more failure.
    pub(crate) fn next(&mut self, jitter: &mut Jitter) -> Duration {
        let factor = 1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        jitter.apply(self.first.saturating_mul(factor).min(self.cap))
    }

    /// Success: the next failure starts from the beginning.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kind {
        A,
        B,
    }

    #[test]
    fn timers_fire_once_and_in_order() {
        let now = Instant::now();
        let mut table = TimerTable::new([Kind::A, Kind::B]);
        table.set(Kind::A, now + Duration::from_secs(2));
        table.set(Kind::B, now + Duration::from_secs(1));
        assert_eq!(table.next(), Some(now + Duration::from_secs(1)));
        assert_eq!(table.pop_expired(now), None);
        let later = now + Duration::from_secs(3);
        assert_eq!(table.pop_expired(later), Some(Kind::B));
        assert_eq!(table.pop_expired(later), Some(Kind::A));
        assert_eq!(table.pop_expired(later), None);
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        let mut jitter = Jitter::new(7);
        let base = Duration::from_secs(4);
        let drawn: Vec<_> = (0..1000).map(|_| jitter.apply(base)).collect();
        assert!(drawn.iter().all(|d| (Duration::from_secs(3)..=base).contains(d)));
        assert!(drawn.iter().any(|d| *d < Duration::from_millis(3200)));
        assert!(drawn.iter().any(|d| *d > Duration::from_millis(3800)));
    }

    #[test]
    fn backoff_doubles_up_to_its_cap_and_starts_over() {
        let mut jitter = Jitter::new(1);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let pauses: Vec<_> = (0..40).map(|_| backoff.next(&mut jitter)).collect();
        assert!(pauses[0] <= Duration::from_secs(1));
        assert!(pauses[3] >= Duration::from_secs(6));
        assert!(pauses.iter().all(|p| *p <= Duration::from_secs(30)));
        assert!(pauses[39] >= Duration::from_millis(22_500));
        backoff.reset();
        assert!(backoff.next(&mut jitter) <= Duration::from_secs(1));
    }
}
