//! How slow a client may be: it may let the server wait only so long, and each byte that it takes or sends pays for some of that.
//!
//! A limit on one wait alone would let a client hold a connection for ever with a byte a minute.

use std::time::Duration;

/// What a client has let the server wait, less what it has moved since.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    patience: Duration,
    rate_min: u64,
    waited: Duration,
}

impl Pace {
    /// A client may let the server wait for `patience`; every `rate_min` bytes pay for a second of it. With 0 any byte pays for
    /// everything.
    pub fn new(patience: Duration, rate_min: u64) -> Self {
        Pace {
            patience,
            rate_min,
            waited: Duration::ZERO,
        }
    }

    /// How long it may wait in all.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// How long it may still wait.
    pub fn left(&self) -> Duration {
        self.patience.saturating_sub(self.waited)
    }

    /// It has waited for so long, and then so many bytes moved.
    pub fn moved(&mut self, waited: Duration, bytes: usize) {
        let paid = match self.rate_min {
            0 => Duration::MAX,
            rate => Duration::from_millis((bytes as u64).saturating_mul(1000) / rate),
        };
        self.waited = self.waited.saturating_add(waited).saturating_sub(paid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn dripping_uses_up_the_patience() {
        let mut pace = Pace::new(MINUTE, 1000);
        for _ in 0..3 {
            assert!(pace.left() >= Duration::from_secs(2));
            pace.moved(Duration::from_secs(19), 1);
        }
        assert!(pace.left() <= Duration::from_secs(4), "{:?}", pace.left());
    }

    #[test]
    fn a_slow_but_honest_client_goes_on() {
        let mut pace = Pace::new(MINUTE, 1000);
        for _ in 0..100 {
            pace.moved(Duration::from_secs(10), 20_000);
            assert_eq!(pace.left(), MINUTE);
        }
    }

    #[test]
    fn without_a_rate_any_byte_is_enough() {
        let mut pace = Pace::new(MINUTE, 0);
        pace.moved(MINUTE, 1);
        assert_eq!(pace.left(), MINUTE);
    }
}
