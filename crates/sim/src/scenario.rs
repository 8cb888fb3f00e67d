//! What is simulated: the fleet, the demand, what goes wrong.

use crate::time::{HOUR, MINUTE, Micros, micros};
use std::str::FromStr;

/// Owners have lent their machines for so long before anything is measured: eight days and fourteen hours, so that it
/// begins on a Tuesday at 14:00.
pub const HISTORY: Micros = (8 * 24 + 14) * HOUR;

/// A part of the fleet: a share, or a number of nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Of all nodes.
    Share(f64),
    /// So many.
    Nodes(usize),
}

impl Default for Amount {
    fn default() -> Self {
        Self::Nodes(0)
    }
}

impl Amount {
    /// Of `nodes`, so many.
    pub fn of(self, nodes: usize) -> usize {
        match self {
            Self::Share(share) => (share * nodes as f64).round() as usize,
            Self::Nodes(count) => count.min(nodes),
        }
    }
}

/// What an amount must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a share like `0.05` or `5%`, or a number of nodes like `50`")]
pub struct AmountError;

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let share = |text: &str, full: f64| {
            let value: f64 = text.parse().map_err(|_| AmountError)?;
            if (0.0..=full).contains(&value) { Ok(Self::Share(value / full)) } else { Err(AmountError) }
        };
        match text.strip_suffix('%') {
            Some(percent) => share(percent, 100.0),
            None if text.contains('.') => share(text, 1.0),
            None => text.parse().map(Self::Nodes).map_err(|_| AmountError),
        }
    }
}

/// A scenario. The same one gives the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Honest members, present or away.
    pub nodes: usize,
    /// Of all chance.
    pub seed: u64,
    /// Simulated hours.
    pub hours: f64,
    /// Offered work relative to what the present nodes can do.
    pub load: f64,
    /// The model that all nodes serve.
    pub model: String,
    /// The seed table's milliseconds for each token instead of the measured rates.
    pub seed_rates: bool,
    /// Whether owners come and go; otherwise every node is there all the time.
    pub churn: bool,
    /// Fake nodes beside the honest ones. Where there are any, admission is open: nobody is vouched for.
    pub sybils: usize,
    /// Nodes that fail everything; every second of them without a word.
    pub black_holes: Amount,
    /// Nodes that claim ten times their speed.
    pub liars: Amount,
    /// How many times the usual demand comes in the middle fifth of the time.
    pub crowd: Option<f64>,
    /// Share of the fleet that is one office, which goes home half way through.
    pub office: f64,
    /// Share of the fleet that cannot be reached for ten minutes, half way through.
    pub partition: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            nodes: 1000,
            seed: 1,
            hours: 1.0,
            load: 0.6,
            model: "llama-3.2-3b".to_owned(),
            seed_rates: false,
            churn: true,
            sybils: 0,
            black_holes: Amount::default(),
            liars: Amount::default(),
            crowd: None,
            office: 0.0,
            partition: 0.0,
        }
    }
}

/// A scenario that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{what} must be {must}")]
pub struct ScenarioError {
    what: &'static str,
    must: &'static str,
}

impl Scenario {
    /// When measuring begins, and when it ends. The first tenth of the time warms up; at least five minutes, in which the
    /// longest answers have come to an end, but never more than a third.
    pub fn window(&self) -> (Micros, Micros) {
        let length = micros(self.hours * 3600.0);
        let warm_up = (length / 10).max(5 * MINUTE).min(length / 3);
        (HISTORY + warm_up, HISTORY + length)
    }

    /// Whether its values are within what can be simulated.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let within = |ok: bool, what, must| if ok { Ok(()) } else { Err(ScenarioError { what, must }) };
        let share = |value: f64| (0.0..=1.0).contains(&value);
        within((1..=100_000).contains(&self.nodes), "`--nodes`", "from 1 to 100,000")?;
        within(self.sybils <= 100_000, "`--sybil`", "at most 100,000")?;
        within(self.hours > 0.0 && self.hours <= 24.0 * 28.0, "`--hours`", "above 0 and at most 672")?;
        within(self.load > 0.0 && self.load <= 100.0, "`--load`", "above 0 and at most 100")?;
        within(share(self.office), "`--office`", "a share from 0 to 1")?;
        within(share(self.partition), "`--partition`", "a share from 0 to 1")?;
        let crowd = self.crowd.is_none_or(|times| (1.0..=1000.0).contains(&times));
        within(crowd, "`--flash-crowd`", "from 1x to 1000x")
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, Scenario};

    #[test]
    fn amounts_are_shares_or_numbers() {
        assert_eq!("0.05".parse(), Ok(Amount::Share(0.05)));
        assert_eq!("5%".parse(), Ok(Amount::Share(0.05)));
        assert_eq!("50".parse(), Ok(Amount::Nodes(50)));
        assert_eq!(Amount::Share(0.05).of(1000), 50);
        assert_eq!(Amount::Nodes(50).of(10), 10);
        for text in ["", "1.5", "-1", "101%", "many"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Scenario::default().check(), Ok(()));
        let refused = |change: fn(&mut Scenario)| {
            let mut scenario = Scenario::default();
            change(&mut scenario);
            scenario.check().unwrap_err().to_string()
        };
        assert_eq!(refused(|s| s.nodes = 0), "`--nodes` must be from 1 to 100,000");
        assert!(refused(|s| s.hours = f64::NAN).contains("--hours"));
        assert!(refused(|s| s.load = 0.0).contains("--load"));
        assert!(refused(|s| s.crowd = Some(0.5)).contains("--flash-crowd"));
        assert!(refused(|s| s.office = 1.1).contains("--office"));
    }
}
