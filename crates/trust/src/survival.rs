//! Whether a node stays: a survival model of its own sessions.
//!
//! Sessions of volunteers are heavy-tailed: who has stayed for long stays longer. Javadi, Kondo, Vincent and Anderson
//! ("Discovering Statistical Models of Availability in Large Distributed Systems: An Empirical Study of SETI@home",
//! IEEE TPDS 22(11), 2011) find a few distributions with falling hazard for the hosts whose availability is random;
//! Nurmi, Brevik and Wolski ("Modeling Machine Availability in Enterprise and Wide-Area Distributed Computing
//! Environments", Euro-Par 2005) find Weibull and hyperexponential laws far better than exponential or Pareto ones.
//! We take a Weibull law of **shape ½**, for which the arithmetic is a square root.
//!
//! **Derivation.** Let a session's hazard at age *a* (hours) in the hour of week *w* be λ_w · ½ · a^(−½): proportional
//! hazards, with the hour of the week as the factor. In operational time τ = √a the departures of hour *w* are a Poisson
//! process of rate λ_w, whatever the ages were. With a Gamma(α, β) belief about λ_w, and *d* departures observed in
//! operational exposure *e*, the belief becomes Gamma(α + d, β + e) (conjugacy). The chance to stay from age *a* for
//! *t* more, with Δτ = √(a+t) − √a, is the mean of exp(−λ·Δτ) over that belief, which is the Laplace transform of the
//! Gamma law:
//!
//! > P = (1 + Δτ / (β + e))^−(α + d)
//!
//! That is the exact posterior mean; it is itself heavy-tailed (Lomax), as it should be where little is known.
//!
//! **Prior.** Before anything is known of a node, α = 1 and β = 1 √hour: half of all sessions end within an hour, and
//! one in nine newcomers is gone within its first minute. Sceptical, and one quiet day (e ≈ 5) outweighs it.
//! **Seasons.** An hour of the week starts from the node's own mean over all hours, worth one √hour of
//! exposure in that hour, so that hours that were never seen borrow from those that were.

use crate::observations::Sessions;

/// Weight of the prior, in thousandths of √hours.
const PRIOR_EXPOSURE: u32 = 1_000;
/// Departures of the prior, in thousandths.
const PRIOR_DEPARTURES: u32 = 1_000;

/// What is believed of a node's departures in one hour of the week: a Gamma law of their rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hazard {
    /// Departures, those of the prior included, in thousandths: the shape.
    pub departures_milli: u32,
    /// Operational exposure, that of the prior included, in thousandths of √hours: the rate.
    pub exposure_milli: u32,
}

impl Default for Hazard {
    /// Of a node of which nothing is known.
    fn default() -> Self {
        Self { departures_milli: PRIOR_DEPARTURES, exposure_milli: PRIOR_EXPOSURE }
    }
}

impl Hazard {
    /// What a node's sessions say about the hour of the week at this time.
    pub fn at(sessions: &Sessions, unix_ms: u64) -> Self {
        let (departures, exposure) = sessions.total();
        let departures = departures + u64::from(PRIOR_DEPARTURES);
        let exposure = exposure + u64::from(PRIOR_EXPOSURE);
        // The node's mean rate, worth the prior's exposure: rounded up, in doubt it leaves.
        let borrowed = (departures * u64::from(PRIOR_EXPOSURE)).div_ceil(exposure);
        let (own_departures, own_exposure) = sessions.hour(crate::observations::hour_of_week(unix_ms));
        Self {
            departures_milli: u32::try_from(borrowed + u64::from(own_departures)).unwrap_or(u32::MAX),
            exposure_milli: PRIOR_EXPOSURE.saturating_add(own_exposure),
        }
    }

    /// Expected departures while a session of this age goes on for so much longer: −ln of [`Self::survival`].
    ///
    /// Where each departure is answered by a resumption on a node like this one, this is also how many of them the
    /// task meets.
    pub fn departures(&self, age_ms: u64, for_ms: u64) -> f64 {
        self.at_age(age_ms).departures(for_ms)
    }

    /// The same for one age, where several times are asked for.
    pub fn at_age(&self, age_ms: u64) -> AtAge {
        let age = age_ms as f64 / HOUR_MS;
        AtAge {
            age,
            age_sqrt: age.sqrt(),
            departures: f64::from(self.departures_milli) / 1000.0,
            per_exposure: 1000.0 / f64::from(self.exposure_milli.max(1)),
        }
    }

    /// The chance that a session of this age goes on for so much longer, 0 to 1.
    pub fn survival(&self, age_ms: u64, for_ms: u64) -> f64 {
        (-self.departures(age_ms, for_ms)).exp()
    }
}

const HOUR_MS: f64 = 3_600_000.0;
/// Below this, three terms of the series of ln(1 + x) are exact to twelve digits.
const SERIES_MAX: f64 = 1e-3;

/// A [`Hazard`] for a session of one age.
#[derive(Debug, Clone, Copy)]
pub struct AtAge {
    // In hours.
    age: f64,
    age_sqrt: f64,
    departures: f64,
    per_exposure: f64,
}

impl AtAge {
    /// Expected departures while the session goes on for so much longer.
    pub fn departures(&self, for_ms: u64) -> f64 {
        if for_ms == 0 {
            return 0.0;
        }
        let more = for_ms as f64 / HOUR_MS;
        // √(a + t) − √a, without cancellation.
        let passing = more / ((self.age + more).sqrt() + self.age_sqrt);
        let x = passing * self.per_exposure;
        // Tasks are short and sessions long: the logarithm itself is rarely needed.
        self.departures * if x < SERIES_MAX { x * (1.0 - x * (0.5 - x / 3.0)) } else { x.ln_1p() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observations::operational_milli;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;

    #[test]
    fn a_newcomer_is_doubted_and_a_server_is_not() {
        let newcomer = Hazard::default();
        assert!((newcomer.survival(0, HOUR) - 0.5).abs() < 0.001, "half of all stay for an hour");
        assert!((0.88..0.90).contains(&newcomer.survival(0, MINUTE)));
        assert!(newcomer.survival(DAY, MINUTE) > 0.998, "who stayed for a day stays for a minute");
        let mut server = Sessions::default();
        server.note(0, 30 * DAY, 1_000 * DAY, false);
        assert!(Hazard::at(&server, 1_000 * DAY).survival(0, MINUTE) > newcomer.survival(0, MINUTE));
    }

    #[test]
    fn the_series_meets_the_logarithm() {
        for hazard in [Hazard::default(), Hazard { departures_milli: 7_000, exposure_milli: 90_000 }] {
            for age_ms in [0, 1, 60_000, DAY] {
                for for_ms in (0..40).map(|bits| 1 << bits) {
                    let x = hazard.departures(age_ms, for_ms) / (f64::from(hazard.departures_milli) / 1000.0);
                    let more = for_ms as f64 / HOUR_MS;
                    let age = age_ms as f64 / HOUR_MS;
                    let passing = more / ((age + more).sqrt() + age.sqrt());
                    let exact = (passing * 1000.0 / f64::from(hazard.exposure_milli)).ln_1p();
                    assert!((x - exact).abs() <= exact * 1e-9, "{age_ms} {for_ms}: {x} {exact}");
                }
            }
        }
    }

    #[test]
    fn lids_that_close_at_six_close_at_six() {
        let mut laptop = Sessions::default();
        for day in 0..28 {
            // Ten hours each working day, from eight to six.
            if day % 7 < 5 {
                laptop.note(0, 10 * HOUR, day * DAY + 18 * HOUR - 1, true);
            }
        }
        let stays = |unix_ms| Hazard::at(&laptop, unix_ms).survival(9 * HOUR, 20 * MINUTE);
        let (evening, noon) = (stays(28 * DAY + 17 * HOUR), stays(28 * DAY + 12 * HOUR));
        assert!(evening < noon, "{evening} {noon}");
    }

    #[test]
    fn exposure_adds_up_in_whatever_parts_it_is_noted() {
        let (mut whole, mut parts) = (Sessions::default(), Sessions::default());
        whole.note(0, 5 * HOUR, 7 * DAY, true);
        for minute in 0..300 {
            let to = (minute + 1) * MINUTE;
            parts.note(minute * MINUTE, to, 7 * DAY - (5 * HOUR - to), minute == 299);
        }
        assert_eq!(whole, parts);
        assert_eq!(whole.total().1, operational_milli(5 * HOUR));
    }
}
