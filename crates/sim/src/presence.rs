//! When owners lend their machines: sessions, lids that close, lines that are cut.

use crate::{
    catalogue::{Network, Owner, Presence},
    random::Random,
    time::{HOUR, Micros, SECOND, micros},
};

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The node hands its work back and says goodbye.
    Goodbye,
    /// A closed lid, a cut line, a switched-off machine: silence.
    Silent,
}

/// One stretch of time in which a node takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Since when.
    pub from: Micros,
    /// Until when.
    pub until: Micros,
    /// How it ends.
    pub ending: Ending,
}

/// A machine needs this long from its owner's leave to a loaded model: shorter sessions are not seen by anybody.
const START: Micros = 5 * SECOND;
/// Owners are about between these hours of their day.
const DAY: std::ops::Range<u64> = 8..23;
/// Standard deviation of the logarithm of a sleep.
const SLEEP_SIGMA: f64 = 1.0;
/// Mean seconds of a cut of the line.
const CUT_S_MEAN: f64 = 30.0;

/// A machine that never leaves.
pub fn always(until: Micros) -> Vec<Session> {
    vec![Session { from: 0, until: until + HOUR * 24, ending: Ending::Goodbye }]
}

/// The sessions of one machine until `until`, one after another.
///
/// The lengths are drawn in an owner's time, which runs slower at night ([`Owner::night`]): so endings cluster by day.
pub fn sessions(
    presence: &Presence,
    owner: &Owner,
    network: &Network,
    random: &mut Random,
    until: Micros,
) -> Vec<Session> {
    let scale = presence.present_weibull_scale * owner.scale * random.log_normal(0.0, presence.host_sigma);
    // Members live in neighbouring time zones.
    let zone = random.below(3) as u64;
    let clock = Clock { zone, night: owner.night };
    let mut sessions = Vec::new();
    let mut from = micros(away_hours(presence, random) * random.unit() * 3600.0);
    while from < until {
        let hours = random.weibull(presence.present_weibull_shape, scale);
        let end = clock.after(from, hours, until);
        let ending = if random.chance(owner.silent) { Ending::Silent } else { Ending::Goodbye };
        interrupt(owner, network, &clock, random, Session { from, until: end, ending }, &mut sessions);
        from = end + micros(away_hours(presence, random) * 3600.0);
    }
    sessions
}

fn away_hours(presence: &Presence, random: &mut Random) -> f64 {
    random.log_normal(presence.away_log_normal_mu, presence.away_log_normal_sigma).min(presence.away_hours_max)
}

/// Lids and cuts divide a session.
fn interrupt(
    owner: &Owner,
    network: &Network,
    clock: &Clock,
    random: &mut Random,
    session: Session,
    sessions: &mut Vec<Session>,
) {
    let mut from = session.from;
    while from < session.until {
        let lid = owner.lid_hours.map(|hours| clock.after(from, random.exponential(hours), session.until));
        let cut = from + micros(random.exponential(network.cut_hours) * 3600.0);
        let until = lid.unwrap_or(session.until).min(cut).min(session.until);
        let ending = if until == session.until { session.ending } else { Ending::Silent };
        let ready = from + START;
        if ready < until {
            sessions.push(Session { from: ready, until, ending });
        }
        let pause_s = if lid == Some(until) && until < session.until {
            random.log_normal(owner.sleep_minutes_median.ln(), SLEEP_SIGMA) * 60.0
        } else {
            random.exponential(CUT_S_MEAN)
        };
        from = until + micros(pause_s);
    }
}

/// An owner's time: by night it runs at `night` of its speed.
struct Clock {
    zone: u64,
    night: f64,
}

impl Clock {
    /// When `hours` of an owner's time have passed, but not after `until`.
    fn after(&self, from: Micros, hours: f64, until: Micros) -> Micros {
        let mut left = hours * HOUR as f64;
        let mut at = from;
        while at < until {
            let local = (at / HOUR + self.zone) % 24;
            let pace = if DAY.contains(&local) { 1.0 } else { self.night.max(1e-6) };
            let boundary = (at / HOUR + 1) * HOUR;
            let span = (boundary - at) as f64 * pace;
            if left <= span {
                return (at + (left / pace).ceil() as Micros).min(until);
            }
            left -= span;
            at = boundary;
        }
        until
    }
}

/// Ends whatever runs at `at`, and keeps the machine away until `back`.
pub fn away_between(sessions: &mut Vec<Session>, at: Micros, back: Micros, ending: Ending) {
    let mut kept = Vec::with_capacity(sessions.len() + 1);
    for session in sessions.drain(..) {
        if session.until <= at || session.from >= back {
            kept.push(session);
            continue;
        }
        if session.from < at {
            kept.push(Session { until: at, ending, ..session });
        }
        if session.until > back {
            kept.push(Session { from: back, ..session });
        }
    }
    *sessions = kept;
}

/// Share of the time between `from` and `until` that is covered.
pub fn share(sessions: &[Session], from: Micros, until: Micros) -> f64 {
    let covered = |session: &Session| session.until.min(until).saturating_sub(session.from.max(from));
    sessions.iter().map(covered).sum::<Micros>() as f64 / until.saturating_sub(from).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::{Ending, Session, away_between, sessions, share};
    use crate::{
        catalogue::Catalogue,
        random::{Concern, Random},
        time::{HOUR, MINUTE, hour_of_week},
    };

    const WEEKS: u64 = 8 * 168 * HOUR;

    fn fleet(owner: &str) -> Vec<Vec<Session>> {
        let catalogue = Catalogue::built_in();
        let owner = catalogue.owners.iter().find(|entry| entry.name == owner).unwrap();
        let one = |index| {
            let mut random = Random::new(1, Concern::Presence, index);
            sessions(&catalogue.presence, owner, &catalogue.networks[0], &mut random, WEEKS)
        };
        (0..300).map(one).collect()
    }

    #[test]
    fn sessions_follow_one_another() {
        for sessions in fleet("laptop") {
            assert!(sessions.iter().all(|session| session.from < session.until && session.until <= WEEKS));
            assert!(sessions.windows(2).all(|two| two[0].until < two[1].from));
        }
    }

    #[test]
    fn many_are_short_and_a_few_are_long() {
        // A Weibull shape far below 1: the median is far below the mean.
        let mut lengths: Vec<u64> =
            fleet("desktop").concat().iter().map(|session| session.until - session.from).collect();
        lengths.sort_unstable();
        let median = lengths[lengths.len() / 2];
        let mean = lengths.iter().sum::<u64>() / lengths.len() as u64;
        assert!(mean > 3 * median, "mean {} h, median {} min", mean / HOUR, median / MINUTE);
    }

    #[test]
    fn lids_close_by_day_and_servers_stay() {
        let endings = |owner: &str| {
            let (mut day, mut night) = (0u32, 0u32);
            for session in fleet(owner).concat() {
                if (8..20).contains(&(hour_of_week(session.until) % 24)) { day += 1 } else { night += 1 }
            }
            f64::from(day) / f64::from(night)
        };
        assert!(endings("laptop") > 1.3, "{}", endings("laptop"));
        let present = |owner: &str| {
            let fleet = fleet(owner);
            fleet.iter().map(|sessions| share(sessions, 0, WEEKS)).sum::<f64>() / fleet.len() as f64
        };
        assert!(present("server") > present("desktop") && present("desktop") > present("laptop"));
        assert!(present("laptop") > 0.1 && present("server") < 0.95);
    }

    #[test]
    fn an_office_goes_home_and_a_partition_heals() {
        let one = Session { from: 0, until: 100, ending: Ending::Goodbye };
        let mut sessions = vec![one, Session { from: 150, until: 200, ..one }];
        away_between(&mut sessions, 50, 160, Ending::Silent);
        let expected =
            [Session { from: 0, until: 50, ending: Ending::Silent }, Session { from: 160, until: 200, ..one }];
        assert_eq!(sessions, expected);
        assert!((share(&sessions, 0, 200) - 0.45).abs() < 1e-9);
    }
}
