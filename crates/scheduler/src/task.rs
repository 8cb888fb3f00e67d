//! What is to be matched.

use protocol::{
    grant::{MatchRequest, Priority, Purpose},
    ids::NodeId,
};

/// Bytes of a prompt for each of its tokens, about: English text in vocabularies of today has four, others less.
const BYTES_PER_TOKEN: u32 = 4;
/// An answer whose asker set no bound, or a bound that says nothing. Chats have some 200 tokens (Zheng et al.,
/// "LMSYS-Chat-1M", ICLR 2024), and those without a short bound more.
const ANSWER_TOKENS: u32 = 300;
/// An answer is expected to reach a bound that is as short as this.
const REACHED_TOKENS: u32 = 64;

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
    /// Nodes that ask nothing of this client: they belong to the same account.
    pub own: &'a [NodeId],
    /// What the client's account can hold for it, in micro-credits; `None`: it does not matter.
    pub funds_micro: Option<u64>,
}

impl<'a> Task<'a> {
    /// The task that a request describes, with sizes expected from its buckets: three quarters of the prompt's, because
    /// a length in a power-of-two bucket is on average three quarters of it. An answer is expected to reach a short bound;
    /// longer ones are set generously: half of the middle of their bucket.
    pub fn new(client: NodeId, request: &'a MatchRequest) -> Self {
        let answer = match request.answer_bucket_tokens {
            0 => ANSWER_TOKENS,
            bound @ ..=REACHED_TOKENS => bound,
            bound => (bound / 8 * 3).clamp(REACHED_TOKENS, ANSWER_TOKENS),
        };
        Self {
            client,
            request,
            prompt_tokens: (request.prompt_bucket_bytes / BYTES_PER_TOKEN / 4 * 3).max(1),
            answer_tokens: answer,
            priority: request.priority,
            purpose: request.purpose,
            own: &[],
            funds_micro: None,
        }
    }
}
