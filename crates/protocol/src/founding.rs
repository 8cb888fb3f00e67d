//! How the members of a committee find each other before there is a pool: each hands its [`Seat`] to whoever founds the
//! pool, and gets the [`Founding`] back.

use crate::{
    genesis::Genesis,
    ids::PoolId,
    line::{self, Pasted},
    ticket::{OrchestratorAddress, Ticket, are_bounded},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A machine that would be an orchestrator, and where it will listen. No secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat(pub OrchestratorAddress);

impl Pasted for Seat {
    const PREFIX: &'static str = "dbs1-";
    const NAME: &'static str = "seat";

    fn is_valid(&self) -> bool {
        are_bounded(std::slice::from_ref(&self.0))
    }
}

line::pasted!(Seat);

/// A pool as each member of its first committee gets it. Whoever has it can join the pool: treat it as a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// How the pool begins.
    pub genesis: Genesis,
    /// Where the committee listens.
    pub orchestrators: Vec<OrchestratorAddress>,
    /// The secret that admits, whose hash is in the genesis.
    pub secret: [u8; 32],
}

impl Founding {
    /// The pool.
    pub fn pool(&self) -> PoolId {
        self.genesis.pool().expect("a founding is checked when it is made and when it is read")
    }

    /// The line that leads into the pool, for everybody else.
    pub fn ticket(&self) -> Ticket {
        Ticket { pool: self.pool(), orchestrators: self.orchestrators.clone(), secret: Some(self.secret), invite: None }
    }
}

impl fmt::Debug for Founding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("Founding").field("genesis", &self.genesis).field("orchestrators", &self.orchestrators).finish()
    }
}

impl Pasted for Founding {
    const PREFIX: &'static str = "dbf1-";
    const NAME: &'static str = "founding line";

    fn is_valid(&self) -> bool {
        self.genesis.pool().is_ok()
            && *blake3::hash(&self.secret).as_bytes() == self.genesis.secret_hash
            && are_bounded(&self.orchestrators)
    }
}

line::pasted!(Founding);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::NodeId, line::ParseLineError};

    #[test]
    fn a_founding_is_one_line_that_round_trips_and_hides_its_secret() {
        let orchestrators: Vec<_> = (1..=16)
            .map(|byte| OrchestratorAddress {
                id: NodeId([byte; 32]),
                addresses: vec!["192.168.100.200:40000".parse().unwrap(); 3],
            })
            .collect();
        let ids = orchestrators.iter().map(|orchestrator| orchestrator.id).collect();
        let founding = Founding { genesis: Genesis::new(ids, &[7; 32], 5), orchestrators, secret: [7; 32] };
        assert_eq!(founding.to_string().parse(), Ok(founding.clone()));
        assert!(!format!("{founding:?}").contains("7, 7"));
        let other = Founding { secret: [8; 32], ..founding.clone() };
        assert_eq!(other.to_string().parse::<Founding>(), Err(ParseLineError::Damaged { name: "founding line" }));
        assert!(matches!(founding.ticket().to_string().parse::<Founding>(), Err(ParseLineError::Prefix { .. })));
        let seat = Seat(founding.orchestrators[0].clone());
        assert_eq!(seat.to_string().parse(), Ok(seat));
    }
}
