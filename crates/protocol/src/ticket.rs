//! A ticket: one pasteable line that leads into a pool.

use crate::{
    ids::{NodeId, PoolId},
    limits,
    line::{self, Pasted},
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr};

/// Pool, orchestrators, and the secret or the invite that admits. Whoever holds it can join: treat it as a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The pool.
    pub pool: PoolId,
    /// Its orchestrators and where they listen.
    pub orchestrators: Vec<OrchestratorAddress>,
    /// The admission secret.
    pub secret: Option<[u8; 32]>,
    /// The secret half of an invite ([`crate::pool::Invite`]).
    pub invite: Option<[u8; 32]>,
}

/// Where an orchestrator listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrchestratorAddress {
    /// Its id.
    pub id: NodeId,
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("Ticket").field("pool", &self.pool).field("orchestrators", &self.orchestrators).finish()
    }
}

impl Pasted for Ticket {
    const PREFIX: &'static str = "dbt1-";
    const NAME: &'static str = "ticket";

    fn is_valid(&self) -> bool {
        !self.orchestrators.is_empty() && are_bounded(&self.orchestrators)
    }
}

line::pasted!(Ticket);

/// Whether there are no more orchestrators and addresses than a pool can have.
pub(crate) fn are_bounded(orchestrators: &[OrchestratorAddress]) -> bool {
    orchestrators.len() <= limits::ORCHESTRATORS_MAX
        && orchestrators.iter().all(|orchestrator| orchestrator.addresses.len() <= limits::ADDRESSES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::ParseLineError;

    fn ticket() -> Ticket {
        let address = OrchestratorAddress { id: NodeId([1; 32]), addresses: vec!["127.0.0.1:4000".parse().unwrap()] };
        Ticket { pool: PoolId([2; 32]), orchestrators: vec![address], secret: Some([3; 32]), invite: None }
    }

    #[test]
    fn a_ticket_is_one_line_that_round_trips() {
        let line = ticket().to_string();
        assert!(line.starts_with("dbt1-") && !line.contains(char::is_whitespace));
        assert_eq!(format!(" {line}\n").parse(), Ok(ticket()));
    }

    #[test]
    fn damage_is_found_and_the_secret_is_not_shown() {
        let line = ticket().to_string();
        for cut in 0..line.len() {
            assert!(line[..cut].parse::<Ticket>().is_err(), "cut at {cut}");
        }
        let mut typo = line.into_bytes();
        typo[20] = if typo[20] == b'A' { b'B' } else { b'A' };
        assert_eq!(String::from_utf8(typo).unwrap().parse::<Ticket>(), Err(ParseLineError::Damaged { name: "ticket" }));
        assert!(!format!("{:?}", ticket()).contains("3, 3"));
    }
}
