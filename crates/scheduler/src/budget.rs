//! Budgets for work that is done twice: retries and hedges, as a share of what is done once.
//!
//! Where everything fails, everything is retried, and the retries keep it failing. A token bucket that first requests
//! fill bounds that: "Retry Budgets" in Finagle (20 % of requests and a small rate besides) and "Handling Overload" in
//! Google's Site Reliability Engineering (chapter 21: a client retries at most 10 % of its requests). Hedges are bounded
//! as in Dean and Barroso, "The Tail at Scale" (CACM 56(2), 2013): about 5 %.

/// One request, in millionths: a thousandth a second is one in each millisecond, so nothing is lost by rounding.
const ONE_MICRO: u64 = 1_000_000;

/// A token bucket, filled by first requests and, slowly, by time, so that who asks seldom can retry too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    // Put in by each first request.
    share_milli: u64,
    // Put in by each second.
    reserve_milli_per_s: u64,
    held_micro_max: u64,
    held_micro: u64,
    filled_steady_ms: u64,
}

impl Budget {
    /// For retries: one for five first requests, one a second besides, at most 50 at once.
    pub fn retries() -> Self {
        Self::new(200, 1_000, 50)
    }

    /// For hedges: one for twenty first requests, one in ten seconds besides, at most 10 at once.
    pub fn hedges() -> Self {
        Self::new(50, 100, 10)
    }

    /// A bound on a rate, whatever else is asked: so many a second, at most so many at once.
    pub fn per_second(rate: u32, held_max: u32) -> Self {
        Self::new(0, u64::from(rate) * 1_000, held_max.into())
    }

    /// A full budget with a share of first requests, a rate besides, both in thousandths, and a bound.
    pub fn new(share_milli: u64, reserve_milli_per_s: u64, held_max: u64) -> Self {
        let held_micro_max = held_max.saturating_mul(ONE_MICRO);
        Self { share_milli, reserve_milli_per_s, held_micro_max, held_micro: held_micro_max, filled_steady_ms: 0 }
    }

    /// A first request is made.
    pub fn deposit(&mut self) {
        self.put_in(self.share_milli.saturating_mul(1_000));
    }

    /// Whether one may be made again now; if so, it is paid for.
    pub fn withdraw(&mut self, now_steady_ms: u64) -> bool {
        let passed_ms = now_steady_ms.saturating_sub(self.filled_steady_ms);
        self.put_in(passed_ms.saturating_mul(self.reserve_milli_per_s));
        self.filled_steady_ms += passed_ms;
        let paid = self.held_micro.checked_sub(ONE_MICRO);
        self.held_micro = paid.unwrap_or(self.held_micro);
        paid.is_some()
    }

    fn put_in(&mut self, micro: u64) {
        self.held_micro = self.held_micro.saturating_add(micro).min(self.held_micro_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_gives_its_burst_and_then_its_rate() {
        let mut budget = Budget::per_second(2, 3);
        assert_eq!((0..5).filter(|_| budget.withdraw(100)).count(), 3);
        assert!(!budget.withdraw(599) && budget.withdraw(600) && !budget.withdraw(600));
        assert_eq!((0..9).filter(|_| budget.withdraw(1_000_000)).count(), 3, "never more than the burst");
        assert!(!budget.withdraw(0), "a clock that goes back gives nothing");
    }

    #[test]
    fn fractions_add_up() {
        // A tenth a second: what is asked for every 7 ms comes every 10 s all the same.
        let mut budget = Budget::new(50, 100, 2);
        assert!(budget.withdraw(0) && budget.withdraw(0));
        let withdrawn = (0..=100_000).step_by(7).filter(|ms| budget.withdraw(*ms)).count();
        assert_eq!(withdrawn, 9, "the tenth needs all of 100 s");
        assert!(budget.withdraw(100_000));
        (0..20).for_each(|_| budget.deposit());
        assert!(budget.withdraw(100_000) && !budget.withdraw(100_000));
    }
}
