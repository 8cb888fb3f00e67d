//! What is to be matched.

use protocol::{
    grant::{MatchRequest, Priority, Purpose},
    ids::NodeId,
};

/// Bytes of a prompt for each of its tokens, about: English text in vocabularies of today has four, others less.
const BYTES_PER_TOKEN: u32 = 4;
/// An answer whose asker set no bound.
const ANSWER_TOKENS: u32 = 256;

/// What is to be matched.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Who asks.
    pub client: NodeId,
    /// For what.
    pub request: &'a MatchRequest,
    /// Tokens of the prompt, as expected; with a resumed answer's.
    pub prompt_tokens: u32,
    /// Tokens of the answer, as expected.
    pub answer_tokens: u32,
    /// What goes first.
    pub priority: Priority,
    /// Why it is asked.
    pub purpose: Purpose,
}

impl<'a> Task<'a> {
    /// The task that a request describes, with sizes expected from its buckets: three quarters of the prompt's, because
    /// a length in a power-of-two bucket is on average three quarters of it. An answer is expected to reach a short bound;
    /// long ones are set generously, but longer ones for longer answers: the geometric middle of the bound and a usual
    /// answer.
    pub fn new(client: NodeId, request: &'a MatchRequest) -> Self {
        let answer = match request.answer_bucket_tokens {
            0 => ANSWER_TOKENS,
            bound @ ..=ANSWER_TOKENS => bound,
            bound => (u64::from(bound) * u64::from(ANSWER_TOKENS)).isqrt().try_into().unwrap_or(bound),
        };
        Self {
            client,
            request,
            prompt_tokens: (request.prompt_bucket_bytes / BYTES_PER_TOKEN / 4 * 3).max(1),
            answer_tokens: answer,
            priority: request.priority,
            purpose: request.purpose,
        }
    }
}
