//! How the next token is drawn: llama.cpp's samplers say which tokens come into question, [`Draw`] says which it is.

use super::draw::Draw;
use super::logits::Logits;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use protocol::task::{Sampling, TaskError};

/// Below this temperature sampling is greedy: logits divided by less overflow, and llama.cpp aborts on what follows.
const TEMPERATURE_MIN: f32 = 1e-3;

/// Draws the tokens of one request.
pub(super) struct Sampler {
    /// Penalties, cuts and temperature. They forget with the request: penalties count what it generated. `None`: the
    /// logits are taken as they are.
    filters: Option<LlamaSampler>,
    /// `None`: the likeliest token.
    seed: Option<u64>,
}

impl Sampler {
    /// Penalties look back over the whole answer, at most `context_tokens`.
    pub(super) fn new(sampling: &Sampling, vocabulary: u32, context_tokens: u32) -> Result<Self, TaskError> {
        let greedy = sampling.temperature < TEMPERATURE_MIN;
        let penalties =
            sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0 || sampling.repeat_penalty != 1.0;
        let mut filters = Vec::new();
        if penalties {
            filters.push(LlamaSampler::penalties(
                i32::try_from(vocabulary).unwrap_or(i32::MAX),
                i32::try_from(context_tokens).unwrap_or(i32::MAX),
                sampling.repeat_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            ));
        }
        if !greedy {
            // The order of llama.cpp's own programs.
            if sampling.top_k > 0 {
                filters.push(LlamaSampler::top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
            }
            filters.push(LlamaSampler::top_p(sampling.top_p, 1));
            filters.push(LlamaSampler::min_p(sampling.min_p, 1));
            filters.push(LlamaSampler::temp(sampling.temperature));
        }
        Ok(Self {
            filters: (!filters.is_empty()).then(|| LlamaSampler::chain(filters, true)),
            seed: if greedy { None } else { Some(seed(sampling.seed)?) },
        })
    }

    /// A token of the answer that was drawn elsewhere. It must be in the vocabulary.
    pub(super) fn accept(&mut self, token: LlamaToken) {
        if let Some(filters) = &mut self.filters {
            filters.accept(token);
        }
    }

    /// The token at `place` of the answer. `candidates` is room to work in, for any request. `None` if no token is
    /// possible, which the model's own logits never say.
    pub(super) fn sample(
        &mut self,
        logits: &Logits<'_>,
        place: u32,
        candidates: &mut Vec<LlamaTokenData>,
    ) -> Option<LlamaToken> {
        let Some(filters) = &mut self.filters else {
            return i32::try_from(logits.likeliest()).ok().map(LlamaToken);
        };
        let mut data = std::mem::take(candidates);
        data.clear();
        data.extend((0..).zip(logits.values()).map(|(id, &logit)| LlamaTokenData::new(LlamaToken(id), logit, 0.0)));
        let mut array = LlamaTokenDataArray::new(data, false);
        filters.apply(&mut array);
        let logits = array.data.iter().map(|candidate| (candidate.id().0.cast_unsigned(), candidate.logit()));
        let token = match self.seed {
            Some(seed) => Draw::new(seed, place).choose(logits),
            None => likeliest(logits),
        };
        *candidates = array.data;
        let token = token.map(|token| LlamaToken(token.cast_signed()));
        if let Some(token) = token {
            filters.accept(token);
        }
        token
    }
}

/// The seed of a request, or a random one. Not llama.cpp's own: it reads a device file, which the sandbox forbids.
fn seed(seed: Option<u32>) -> Result<u64, TaskError> {
    let failed = |error| TaskError::Engine { message: format!("no random seed: {error}") };
    seed.map_or_else(|| getrandom::u64().map_err(failed), |seed| Ok(u64::from(seed)))
}

/// The lowest of the likeliest tokens.
fn likeliest(candidates: impl Iterator<Item = (u32, f32)>) -> Option<u32> {
    let likelier = |best: Option<(u32, f32)>, (token, logit): (u32, f32)| match best {
        Some((other, highest)) if logit < highest || (logit == highest && token > other) || logit.is_nan() => best,
        _ if logit.is_nan() => None,
        _ => Some((token, logit)),
    };
    candidates.fold(None, likelier).map(|(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sampling: &Sampling, values: &[f32], history: &[i32], place: u32) -> Option<u32> {
        let mut sampler = Sampler::new(sampling, values.len() as u32, 64).unwrap();
        history.iter().for_each(|token| sampler.accept(LlamaToken(*token)));
        let token = sampler.sample(&Logits::new(values).unwrap(), place, &mut Vec::new());
        token.map(|token| token.0.cast_unsigned())
    }

    fn values() -> Vec<f32> {
        (0..500).map(|token| (token as f32 * 0.37).sin() * 2.0).collect()
    }

    #[test]
    fn a_resumed_answer_goes_on_with_its_stream() {
        let samplings = [
            Sampling { seed: Some(5), ..Sampling::default() },
            Sampling { seed: Some(5), temperature: 1.5, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() },
            Sampling { seed: Some(5), frequency_penalty: 1.0, repeat_penalty: 1.5, ..Sampling::default() },
            Sampling { presence_penalty: 2.0, ..Sampling::greedy() },
        ];
        for sampling in samplings {
            let values = values();
            let logits = Logits::new(&values).unwrap();
            let mut whole = Sampler::new(&sampling, 500, 64).unwrap();
            let mut room = Vec::new();
            let drawn: Vec<LlamaToken> =
                (0..30).map(|place| whole.sample(&logits, place, &mut room).unwrap()).collect();
            for cut in 0..drawn.len() {
                let history: Vec<i32> = drawn[..cut].iter().map(|token| token.0).collect();
                let next = sample(&sampling, &values, &history, cut as u32);
                assert_eq!(next, Some(drawn[cut].0.cast_unsigned()), "{sampling:?} at {cut}");
            }
        }
    }

    #[test]
    fn without_penalties_greedy_takes_the_logits_as_they_are() {
        let values = values();
        let expected = Logits::new(&values).unwrap().likeliest();
        assert_eq!(sample(&Sampling::greedy(), &values, &[], 0), Some(expected));
        let penalised = Sampling { presence_penalty: 0.5, ..Sampling::greedy() };
        assert_eq!(sample(&penalised, &values, &[], 0), Some(expected), "nothing was said yet");
        assert_ne!(sample(&penalised, &values, &[expected.cast_signed()], 1), Some(expected));
    }

    #[test]
    fn a_seed_is_taken_as_it_is_and_none_is_random() {
        assert_eq!(seed(Some(u32::MAX)).unwrap(), u64::from(u32::MAX));
        assert_ne!(seed(None).unwrap(), seed(None).unwrap());
    }
}
