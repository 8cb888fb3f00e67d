//! Budgets for work that is done twice: retries and hedges, as a share of what is done once.
//!
//! Where everything fails, everything is retried, and the retries keep it failing. A token bucket that first requests
//! fill bounds that: "Retry Budgets" in Finagle (20 % of requests and a small rate besides) and "Handling Overload" in
//! Google's Site Reliability Engineering (chapter 21: a client retries at most 10 % of its requests). Hedges are bounded
//! as in Dean and Barroso, "The Tail at Scale" (CACM 56(2), 2013): about 5 %.

/// One request, in thousandths.
const ONE_MILLI: u64 = 1_000;

/// A token bucket, filled by first requests and, slowly, by time, so that who asks seldom can retry too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    // Put in by each first request.
    share_milli: u64,
    // Put in by each second.
    reserve_milli_per_s: u64,
    held_milli_max: u64,
    held_milli: u64,
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

    /// A full budget with a share of first requests, a rate besides, both in thousandths, and a bound.
    pub fn new(share_milli: u64, reserve_milli_per_s: u64, held_max: u64) -> Self {
        let held_milli_max = held_max.saturating_mul(ONE_MILLI);
        Self { share_milli, reserve_milli_per_s, held_milli_max, held_milli: held_milli_max, filled_steady_ms: 0 }
    }

    /// A first request is made.
    pub fn deposit(&mut self) {
        self.held_milli = self.held_milli.saturating_add(self.share_milli).min(self.held_milli_max);
    }

    /// Whether one may be made again now; if so, it is paid for.
    pub fn withdraw(&mut self, now_steady_ms: u64) -> bool {
        let passed_ms = now_steady_ms.saturating_sub(self.filled_steady_ms);
        let put_in = passed_ms.saturating_mul(self.reserve_milli_per_s) / 1_000;
        if put_in > 0 {
            self.held_milli = self.held_milli.saturating_add(put_in).min(self.held_milli_max);
            self.filled_steady_ms = now_steady_ms;
        }
        let paid = self.held_milli.checked_sub(ONE_MILLI);
        self.held_milli = paid.unwrap_or(self.held_milli);
        paid.is_some()
    }
}
