/// A token bucket: so many at once, and then so many a second.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    burst: u32,
    per_second: u32,
    // In thousandths, so that fractions of a second count.
    milli_tokens: u64,
    filled_steady_ms: u64,
}

impl Bucket {
    pub(crate) fn new(burst: u32, per_second: u32, now_steady_ms: u64) -> Self {
        Self { burst, per_second, milli_tokens: u64::from(burst) * 1000, filled_steady_ms: now_steady_ms }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now_steady_ms: u64) -> bool {
        let passed_ms = now_steady_ms.saturating_sub(self.filled_steady_ms);
        let new = passed_ms.saturating_mul(u64::from(self.per_second));
        self.milli_tokens = self.milli_tokens.saturating_add(new).min(u64::from(self.burst) * 1000);
        self.filled_steady_ms = self.filled_steady_ms.max(now_steady_ms);
        let had = self.milli_tokens >= 1000;
        self.milli_tokens -= if had { 1000 } else { 0 };
        had
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(3, 2, 100);
        assert_eq!((0..5).filter(|_| bucket.take(100)).count(), 3);
        assert!(!bucket.take(599) && bucket.take(600) && !bucket.take(600));
        assert_eq!((0..9).filter(|_| bucket.take(1_000_000)).count(), 3, "never more than the burst");
        assert!(!bucket.take(0), "a clock that goes back gives nothing");
    }
}
