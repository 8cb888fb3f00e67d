//! How things are on the machine, as the sensors found them.

/// One look at everything. What the settings do not ask for stays [`Reading::NotAsked`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    /// When somebody last used the machine.
    pub last_input: Reading<LastInput>,
    /// What it runs on.
    pub power: Reading<Power>,
    /// How hot it is.
    pub thermal: Reading<Thermal>,
    /// How short of memory it is.
    pub memory: Reading<Memory>,
    /// What other programs use, in percent of all processors.
    pub other_load_percent: Reading<u8>,
    /// Which of the exclusive programs run, as the settings name them.
    pub programs: Reading<Vec<String>>,
}

/// What a sensor found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reading<T> {
    /// No rule needs it, or it has not been looked at yet.
    #[default]
    NotAsked,
    /// Found.
    Known(T),
    /// Cannot be found out on this machine.
    Missing {
        /// Why not.
        why: String,
    },
}

impl<T> Reading<T> {
    pub(crate) fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }
}

impl<T> From<Result<T, Missing>> for Reading<T> {
    fn from(result: Result<T, Missing>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(Missing(why)) => Self::Missing { why },
        }
    }
}

/// Why a sensor is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// When somebody last used the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastInput {
    /// At this time, in milliseconds since 1970.
    At(u64),
    /// Not since the sensors were first asked.
    Never,
    /// Somebody is logged in where nothing tells when the machine was last used.
    Unreadable {
        /// What was tried.
        why: String,
    },
}

/// What the machine runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The mains, or a battery that is charged.
    Mains,
    /// Its battery.
    Battery {
        /// Charge, where it is known.
        percent: Option<u8>,
    },
}

/// How hot the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thermal {
    /// As it should be.
    Nominal,
    /// Warm.
    Fair,
    /// Slows itself down.
    Serious,
    /// Too hot.
    Critical,
}

/// How short of memory the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Memory {
    /// Not.
    Normal,
    /// Programs wait for it now and then.
    Warning,
    /// Programs do little else.
    Critical,
}
