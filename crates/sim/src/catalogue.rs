//! What the world is made of: machines, models, owners, networks and tasks, read from TOML with their sources.

mod rates;

pub use rates::Rates;

use crate::random::Random;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The inputs of a simulation; the built-in ones are in `machines.toml`, with their sources.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Kinds of machines.
    #[serde(rename = "machine")]
    pub machines: Vec<Machine>,
    /// For each family, where its batching curve is from.
    pub batching: BTreeMap<String, String>,
    /// Models.
    #[serde(rename = "model")]
    pub models: Vec<Model>,
    /// How long machines are lent, and stay away.
    pub presence: Presence,
    /// Kinds of owners.
    #[serde(rename = "owner")]
    pub owners: Vec<Owner>,
    /// Kinds of networks.
    #[serde(rename = "network")]
    pub networks: Vec<Network>,
    /// Kinds of tasks.
    #[serde(rename = "task")]
    pub tasks: Vec<TaskKind>,
}

/// A kind of machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What people call it.
    pub name: String,
    /// Its family, `m-series` or `intel`: the seed table knows no finer.
    pub family: String,
    /// Tokens of a prompt that it reads in a second, 7 B reference model.
    pub prefill: f64,
    /// Tokens that it writes in a second for one answer, 7 B reference model.
    pub decode: f64,
    /// What it writes for 1, 2, 4 and 8 answers together, relative to one.
    pub batching: [f64; 4],
    /// Answers at once.
    pub slots: usize,
    /// Share of the fleet.
    pub share: f64,
    /// Name of its kind of owner.
    pub owner: String,
    /// Where the rates are from.
    pub source: String,
}

/// A model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its short name.
    pub name: String,
    /// Its full name.
    pub title: String,
    /// How much faster it is than the reference model.
    pub scale: f64,
    /// Milliseconds for each token of one answer, by family: the figures of the seed table.
    pub seed: BTreeMap<String, f64>,
}

/// How long machines are lent, and stay away: hours.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// Shape of the Weibull distribution of sessions.
    pub present_weibull_shape: f64,
    /// Its scale.
    pub present_weibull_scale: f64,
    /// Of the logarithm of absences: the mean.
    pub away_log_normal_mu: f64,
    /// And the standard deviation.
    pub away_log_normal_sigma: f64,
    /// Longest absence.
    pub away_hours_max: f64,
    /// Hosts differ: standard deviation of the logarithm of a factor on the scale.
    pub host_sigma: f64,
}

/// A kind of owner.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Mean hours between closings of the lid by day; none where there is no lid.
    #[serde(default)]
    pub lid_hours: Option<f64>,
    /// Median minutes of sleep after that.
    pub sleep_minutes_median: f64,
    /// Share of the other endings that come without a goodbye.
    pub silent: f64,
    /// How likely an ending is by night, relative to the day.
    pub night: f64,
    /// Factor on the scale of sessions.
    pub scale: f64,
}

/// A kind of network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Share of the fleet.
    pub share: f64,
    /// Round trip, milliseconds.
    pub rtt_ms: f64,
    /// Mean of what comes on top, milliseconds.
    pub jitter_ms: f64,
    /// Lost packets in a million.
    pub loss_ppm: f64,
    /// Mean hours between cuts of the line, which last half a minute or so.
    pub cut_hours: f64,
}

/// A kind of task.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskKind {
    /// Its name.
    pub name: String,
    /// Share of the tasks.
    pub share: f64,
    /// Mean tokens of the prompt.
    pub prompt_mean: f64,
    /// Standard deviation of its logarithm.
    pub prompt_sigma: f64,
    /// Mean tokens of the answer.
    pub answer_mean: f64,
    /// Standard deviation of its logarithm.
    pub answer_sigma: f64,
    /// Whether somebody waits for it.
    pub interactive: bool,
}

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// It is not the TOML that is expected.
    #[error("cannot read the machines: {0}")]
    Unreadable(#[from] toml::de::Error),
    /// A value makes no sense.
    #[error("{what} of `{of}` must be {must}")]
    Value {
        /// Which value.
        what: &'static str,
        /// Of which entry.
        of: String,
        /// What it should be.
        must: &'static str,
    },
    /// A name that is not there.
    #[error("no {what} is named `{name}`: it is one of {known}")]
    Unknown {
        /// Of what kind.
        what: &'static str,
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Catalogue {
    /// The built-in one.
    pub fn built_in() -> Self {
        Self::parse(include_str!("machines.toml")).expect("the built-in catalogue is tested")
    }

    /// Reads one, and checks every value.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let catalogue: Self = toml::from_str(text)?;
        catalogue.check()?;
        Ok(catalogue)
    }

    /// The model of this name.
    pub fn model(&self, name: &str) -> Result<&Model, CatalogueError> {
        self.models.iter().find(|model| model.name == name).ok_or_else(|| CatalogueError::Unknown {
            what: "model",
            name: name.to_owned(),
            known: names(self.models.iter().map(|model| &model.name)),
        })
    }

    /// The kind of owner of a machine.
    pub fn owner(&self, machine: &Machine) -> &Owner {
        self.owners.iter().find(|owner| owner.name == machine.owner).expect("checked when it was read")
    }

    /// Tokens of an average prompt, and of an average answer.
    pub fn task_means(&self, tasks: &crate::workload::Lengths) -> (f64, f64) {
        tasks.means(self)
    }

    fn check(&self) -> Result<(), CatalogueError> {
        let positive = |value: f64, what, of: &str| {
            let usable = value.is_finite() && value > 0.0;
            if usable { Ok(()) } else { Err(CatalogueError::Value { what, of: of.to_owned(), must: "above 0" }) }
        };
        for (what, count) in [
            ("machines", self.machines.len()),
            ("models", self.models.len()),
            ("networks", self.networks.len()),
            ("tasks", self.tasks.len()),
        ] {
            positive(count as f64, "number", what)?;
        }
        for machine in &self.machines {
            for (what, value) in
                [("prefill", machine.prefill), ("decode", machine.decode), ("slots", machine.slots as f64)]
            {
                positive(value, what, &machine.name)?;
            }
            let value = |what, must| Err(CatalogueError::Value { what, of: machine.name.clone(), must });
            if machine.slots > SLOTS_MAX {
                return value("slots", "at most 8: batching is known up to there");
            }
            if machine.batching[0] != 1.0 || machine.batching.windows(2).any(|two| two[0] > two[1]) {
                return value("batching", "1.0 first, and never less for more answers");
            }
            if machine.batching.iter().zip([1.0, 2.0, 4.0, 8.0]).any(|(all, answers)| *all > answers) {
                return value("batching", "at most the number of answers");
            }
            if machine.share.is_nan() || machine.share < 0.0 {
                return value("share", "0 or more");
            }
            if !self.owners.iter().any(|owner| owner.name == machine.owner) {
                return Err(CatalogueError::Unknown {
                    what: "owner",
                    name: machine.owner.clone(),
                    known: names(self.owners.iter().map(|owner| &owner.name)),
                });
            }
        }
        for model in &self.models {
            positive(model.scale, "scale", &model.name)?;
            for machine in &self.machines {
                let seed = model.seed.get(&machine.family).copied().unwrap_or(0.0);
                positive(seed, "seed milliseconds for every family", &model.name)?;
            }
        }
        for network in &self.networks {
            for (what, value) in [("rtt_ms", network.rtt_ms), ("cut_hours", network.cut_hours)] {
                positive(value, what, &network.name)?;
            }
        }
        for task in &self.tasks {
            for (what, value) in [("prompt_mean", task.prompt_mean), ("answer_mean", task.answer_mean)] {
                positive(value, what, &task.name)?;
            }
        }
        for owner in &self.owners {
            for (what, value) in [("scale", owner.scale), ("sleep_minutes_median", owner.sleep_minutes_median)] {
                positive(value, what, &owner.name)?;
            }
            if let Some(hours) = owner.lid_hours {
                positive(hours, "lid_hours", &owner.name)?;
            }
        }
        positive(self.presence.present_weibull_shape, "present_weibull_shape", "presence")?;
        positive(self.presence.present_weibull_scale, "present_weibull_scale", "presence")?;
        positive(self.presence.away_hours_max, "away_hours_max", "presence")
    }
}

/// Batching is known up to here.
pub const SLOTS_MAX: usize = 8;

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Machine {
    /// What it does with `model`; `seed` takes the model's own milliseconds for each token instead of the measured rate.
    pub fn rates(&self, model: &Model, seed: bool) -> Rates {
        let decode = if seed {
            let ms = model.seed.get(&self.family).copied().expect("checked when it was read");
            1000.0 / ms
        } else {
            self.decode * model.scale
        };
        // How much faster it reads than it writes is a property of the machine.
        Rates::new(decode * self.prefill / self.decode, decode, &self.batching)
    }
}

impl Network {
    /// One way through it, in seconds.
    pub fn one_way_s(&self, random: &mut Random) -> f64 {
        (self.rtt_ms + random.exponential(self.jitter_ms)) / 2000.0
    }
}

#[cfg(test)]
mod tests {
    use super::Catalogue;

    #[test]
    fn the_built_in_catalogue_is_well_formed() {
        let catalogue = Catalogue::built_in();
        let sum = |shares: Vec<f64>| (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9;
        assert!(sum(catalogue.machines.iter().map(|machine| machine.share).collect()));
        assert!(sum(catalogue.networks.iter().map(|network| network.share).collect()));
        assert!(sum(catalogue.tasks.iter().map(|task| task.share).collect()));
        assert!(catalogue.machines.iter().all(|machine| !machine.source.is_empty()), "every rate has a source");
        assert!(catalogue.machines.iter().all(|machine| catalogue.batching.contains_key(&machine.family)));
        assert_eq!(catalogue.model("phi-3-mini").unwrap().seed["intel"], 120.0);
        assert!(catalogue.model("gpt").unwrap_err().to_string().contains("`gemma-2-2b`"));
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        let text = include_str!("machines.toml");
        let refused = |from: &str, to: &str, expected: &str| {
            assert!(text.contains(from), "{from}");
            let error = Catalogue::parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused("decode = 14.15", "decode = 0.0", "decode of `M1` must be above 0");
        refused("[1.0, 1.45, 1.9, 2.3]", "[1.0, 2.45, 2.9, 3.3]", "at most the number of answers");
        refused("[1.0, 1.45, 1.9, 2.3]", "[1.0, 1.45, 1.4, 2.3]", "never less");
        refused("owner = \"laptop\"", "owner = \"toaster\"", "no owner is named `toaster`");
        refused("slots = 4", "slots = 9", "slots of `M1`");
        refused("slots = 4", "slotts = 4", "cannot read the machines");
    }

    #[test]
    fn the_seed_figures_replace_the_measured_ones() {
        let catalogue = Catalogue::built_in();
        let model = catalogue.model("gemma-2-2b").unwrap();
        for machine in &catalogue.machines {
            let rates = machine.rates(model, true);
            let ms = if machine.family == "intel" { 110.0 } else { 38.0 };
            assert!((rates.step_s[1] * 1000.0 - ms).abs() < 1e-9);
        }
    }
}
