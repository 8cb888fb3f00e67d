//! How the next token is drawn.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use protocol::task::{Sampling, TaskError};

/// Below this temperature sampling is greedy: logits divided by less overflow, and llama.cpp aborts on what follows.
const TEMPERATURE_MIN: f32 = 1e-3;
/// llama.cpp takes this seed for "none" and draws another.
const SEED_RESERVED: u32 = u32::MAX;

/// Draws the tokens of one request.
pub(super) enum Sampler {
    /// The likeliest token, read from the logits in place.
    Greedy,
    /// llama.cpp's samplers one after another. They forget with the request: penalties count what it generated.
    Chain(LlamaSampler),
}

impl Sampler {
    /// Penalties look back over the whole answer, at most `context_tokens`.
    pub(super) fn new(sampling: &Sampling, vocabulary: u32, context_tokens: u32) -> Result<Self, TaskError> {
        let greedy = sampling.temperature < TEMPERATURE_MIN;
        let penalties =
            sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0 || sampling.repeat_penalty != 1.0;
        if greedy && !penalties {
            return Ok(Self::Greedy);
        }
        let mut chain = Vec::new();
        if penalties {
            chain.push(LlamaSampler::penalties(
                i32::try_from(vocabulary).unwrap_or(i32::MAX),
                i32::try_from(context_tokens).unwrap_or(i32::MAX),
                sampling.repeat_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            ));
        }
        if greedy {
            chain.push(LlamaSampler::greedy());
        } else {
            // The order of llama.cpp's own programs.
            if sampling.top_k > 0 {
                chain.push(LlamaSampler::top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
            }
            chain.push(LlamaSampler::top_p(sampling.top_p, 1));
            chain.push(LlamaSampler::min_p(sampling.min_p, 1));
            chain.push(LlamaSampler::temp(sampling.temperature));
            chain.push(LlamaSampler::dist(seed(sampling.seed)?));
        }
        Ok(Self::Chain(LlamaSampler::chain(chain, true)))
    }

    /// The next token after the output `index` of the last batch. `None` if the model gave no numbers.
    pub(super) fn sample(&mut self, context: &LlamaContext<'_>, index: i32) -> Option<LlamaToken> {
        let logits = context.get_logits_ith(index);
        match self {
            Self::Greedy => likeliest(logits),
            // The samplers abort on a distribution without a maximum.
            Self::Chain(_) if !likeliest_is_certain(logits) => None,
            Self::Chain(chain) => Some(chain.sample(context, index)),
        }
    }
}

/// The seed of a request, or a random one. Not llama.cpp's own: it reads a device file, which the sandbox forbids.
fn seed(seed: Option<u32>) -> Result<u32, TaskError> {
    let random = || getrandom::u32().map_err(|error| TaskError::Engine { message: format!("no random seed: {error}") });
    match seed {
        Some(SEED_RESERVED) => Ok(0),
        Some(seed) => Ok(seed),
        None => Ok(random()?.min(SEED_RESERVED - 1)),
    }
}

/// The first of the largest numbers; `None` if there is none that is finite.
fn likeliest(logits: &[f32]) -> Option<LlamaToken> {
    let max = maximum(logits);
    if !max.is_finite() {
        return None;
    }
    let index = logits.iter().position(|&logit| logit == max)?;
    i32::try_from(index).ok().map(LlamaToken)
}

fn likeliest_is_certain(logits: &[f32]) -> bool {
    maximum(logits).is_finite() && !logits.iter().fold(false, |nan, logit| nan | logit.is_nan())
}

/// In lanes, which the compiler turns into vector instructions: a vocabulary has up to 256,000 tokens.
fn maximum(logits: &[f32]) -> f32 {
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, logit);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_token_is_the_first_largest() {
        let mut logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 997) as f32 - 500.0).collect();
        let expected = (0..1000).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!(likeliest(&logits), Some(LlamaToken(expected as i32)));
        logits[999] = 1e6;
        assert_eq!(likeliest(&logits), Some(LlamaToken(999)));
        logits[3] = 1e6;
        assert_eq!(likeliest(&logits), Some(LlamaToken(3)));
    }

    #[test]
    fn without_a_number_there_is_no_token() {
        assert_eq!(likeliest(&[]), None);
        assert_eq!(likeliest(&[f32::NAN; 40]), None);
        assert_eq!(likeliest(&[f32::NEG_INFINITY; 40]), None);
        assert_eq!(likeliest(&[0.0, f32::INFINITY]), None);
        assert!(!likeliest_is_certain(&[1.0, f32::NAN]));
        assert!(likeliest_is_certain(&[1.0, f32::NEG_INFINITY]));
    }

    #[test]
    fn a_seed_is_never_the_one_that_means_none() {
        assert_ne!(seed(Some(SEED_RESERVED)).unwrap(), SEED_RESERVED);
        assert_eq!(seed(Some(7)).unwrap(), 7);
        assert_ne!(seed(None).unwrap(), SEED_RESERVED);
    }
}
