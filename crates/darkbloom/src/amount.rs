//! Credits as people write them: a decimal number, exact to a millionth.

use std::str::FromStr;

/// Micro-credits in a credit.
pub const MICRO: u64 = 1_000_000;

/// An amount of credits, in micro-credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub u64);

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmountError;

impl std::fmt::Display for AmountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("credits are a number such as `2` or `0.25`, with at most six digits behind the point")
    }
}

impl std::error::Error for AmountError {}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let has_point_only = text.contains('.') && part.is_empty();
        if whole.is_empty() || has_point_only || part.len() > 6 || !is_number(whole) || !is_number(part) {
            return Err(AmountError);
        }
        let whole: u64 = whole.parse().map_err(|_| AmountError)?;
        let part: u64 = format!("{part:0<6}").parse().map_err(|_| AmountError)?;
        let micro = whole.checked_mul(MICRO).and_then(|micro| micro.checked_add(part));
        micro.map(Self).ok_or(AmountError)
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / MICRO, self.0 % MICRO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, micro) in
            [("0", 0), ("2", 2 * MICRO), ("0.25", 250_000), ("1.000001", 1_000_001), ("007", 7 * MICRO)]
        {
            assert_eq!(text.parse(), Ok(Amount(micro)), "{text}");
        }
        for bad in ["", ".", "1.", ".5", "-1", "1e3", "0.0000001", "1,5", "+1", "99999999999999999999"] {
            assert_eq!(bad.parse::<Amount>(), Err(AmountError), "{bad}");
        }
        assert_eq!(Amount(1_250_000).to_string(), "1.250000");
        assert_eq!(Amount(7).to_string().parse(), Ok(Amount(7)));
    }
}
