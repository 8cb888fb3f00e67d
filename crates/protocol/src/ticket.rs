//! A ticket: one pasteable line that leads into a pool.

use crate::{
    codec,
    ids::{NodeId, PoolId},
    limits,
};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, str::FromStr};

const PREFIX: &str = "dbt1-";

/// Pool, orchestrators, and the secret that admits. Whoever holds it can join: treat it as a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The pool.
    pub pool: PoolId,
    /// Its orchestrators and where they listen.
    pub orchestrators: Vec<OrchestratorAddress>,
    /// The admission secret.
    pub secret: Option<[u8; 32]>,
}

/// Where an orchestrator listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrchestratorAddress {
    /// Its id.
    pub id: NodeId,
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
}

/// A line that is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTicketError {
    /// Another word, or a ticket of another version.
    #[error("not a ticket: a ticket is one line that begins with `{PREFIX}`")]
    Prefix,
    /// Cut off or mistyped.
    #[error("damaged ticket: copy the whole line again")]
    Damaged,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = codec::encode(self, limits::TICKET_CHARS_MAX).map_err(|_| fmt::Error)?;
        bytes.extend_from_slice(&check(&bytes));
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("Ticket").field("pool", &self.pool).field("orchestrators", &self.orchestrators).finish()
    }
}

impl FromStr for Ticket {
    type Err = ParseTicketError;

    fn from_str(text: &str) -> Result<Self, ParseTicketError> {
        let text = text.trim();
        let body = text.strip_prefix(PREFIX).ok_or(ParseTicketError::Prefix)?;
        if body.len() > limits::TICKET_CHARS_MAX {
            return Err(ParseTicketError::Damaged);
        }
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| ParseTicketError::Damaged)?;
        let (content, sum) = bytes.split_last_chunk::<4>().ok_or(ParseTicketError::Damaged)?;
        if *sum != check(content) {
            return Err(ParseTicketError::Damaged);
        }
        let ticket: Self = codec::decode(content, limits::TICKET_CHARS_MAX).map_err(|_| ParseTicketError::Damaged)?;
        let bounded = ticket.orchestrators.len() <= limits::ADDRESSES_MAX
            && ticket.orchestrators.iter().all(|o| o.addresses.len() <= limits::ADDRESSES_MAX);
        if ticket.orchestrators.is_empty() || !bounded {
            return Err(ParseTicketError::Damaged);
        }
        Ok(ticket)
    }
}

/// Finds typing errors; security comes from the secret.
fn check(content: &[u8]) -> [u8; 4] {
    let digest = blake3::hash(content);
    digest.as_bytes()[..4].try_into().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let address = OrchestratorAddress { id: NodeId([1; 32]), addresses: vec!["127.0.0.1:4000".parse().unwrap()] };
        Ticket { pool: PoolId([2; 32]), orchestrators: vec![address], secret: Some([3; 32]) }
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
        assert_eq!(String::from_utf8(typo).unwrap().parse::<Ticket>(), Err(ParseTicketError::Damaged));
        assert!(!format!("{:?}", ticket()).contains("3, 3"));
    }
}
