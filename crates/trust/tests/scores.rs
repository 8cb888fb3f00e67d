//! What holds for every score, survival and canary.

use proptest::{collection::vec, prelude::*};
use protocol::ids::ModelDigest;
use trust::{
    canary::{self, Verdict},
    observations::{Bin, Observations, Rates, Sessions},
    score::{Attestation, PoolMedian, score, wilson_lower},
    survival::Hazard,
};

const MODEL: ModelDigest = ModelDigest([1; 32]);
const ATTESTATIONS: [Attestation; 5] =
    [Attestation::Stale, Attestation::SelfSigned, Attestation::Vouched, Attestation::Tpm, Attestation::Hardware];

fn sessions() -> impl Strategy<Value = Sessions> {
    vec((0u8..168, any::<u16>(), any::<u16>()), 0..20).prop_map(|mut bins| {
        bins.sort_unstable();
        bins.dedup_by_key(|bin| bin.0);
        let bin = |(hour, departures_milli, exposure_milli)| Bin { hour, departures_milli, exposure_milli };
        Sessions { bins: bins.into_iter().map(bin).collect() }
    })
}

fn rates() -> impl Strategy<Value = Rates> {
    let rate = || prop_oneof![1 => Just(0u32), 9 => any::<u32>()];
    (rate(), [rate(), rate(), rate(), rate()])
        .prop_map(|(prefill_milli, decode_milli)| Rates { prefill_milli, decode_milli })
}

fn observations() -> impl Strategy<Value = Observations> {
    let counts = || prop_oneof![1 => Just(0u32), 6 => 0u32..200_000, 1 => any::<u32>()];
    let network = (any::<u16>(), counts(), counts(), 0u32..=1_000_000, counts());
    let results = (counts(), counts(), counts(), counts());
    (sessions(), rates(), any::<u32>(), network, results).prop_map(|(sessions, rates, memory_mib, network, results)| {
        let mut seen = Observations { sessions, memory_mib, ..Observations::default() };
        seen.set_rates(MODEL, rates);
        let own = &mut seen.network;
        (own.samples, own.rtt_us, own.jitter_us, own.loss_ppm, own.reconnects_milli) = network;
        let own = &mut seen.results;
        (own.valid_milli, own.invalid_milli, own.canaries_passed_milli, own.canaries_failed_milli) = results;
        seen
    })
}

fn median() -> impl Strategy<Value = PoolMedian> {
    (rates(), any::<u32>()).prop_map(|(rates, memory_mib)| PoolMedian { model: Some(MODEL), rates, memory_mib })
}

fn total(seen: &Observations, median: &PoolMedian, now: u64) -> f64 {
    score(seen, median, Attestation::Vouched, now).total
}

proptest! {
    #[test]
    fn scores_and_their_parts_are_between_0_and_1(seen in observations(), median in median(), now: u64) {
        prop_assert_eq!(seen.check(), Ok(()));
        let mut before = 0.0;
        for attestation in ATTESTATIONS {
            let parts = score(&seen, &median, attestation, now);
            prop_assert_eq!(parts, score(&seen, &median, attestation, now), "the same arguments, the same score");
            for part in [parts.attestation, parts.hardware, parts.network, parts.uptime, parts.results, parts.total] {
                prop_assert!((0.0..=1.0).contains(&part), "{parts:?}");
            }
            prop_assert!(parts.total <= parts.attestation);
            prop_assert!(parts.total >= before, "more attestation is worth more");
            before = parts.total;
        }
        prop_assert_eq!(score(&seen, &median, Attestation::Stale, now).total, 0.0);
    }

    #[test]
    fn what_is_better_never_scores_worse(
        seen in observations(), median in median(), now in 0u64..1 << 45, more in 1u32..1_000_000,
    ) {
        let before = total(&seen, &median, now);
        let better = |change: &dyn Fn(&mut Observations)| {
            let mut better = seen.clone();
            change(&mut better);
            total(&better, &median, now)
        };
        prop_assert!(better(&|seen| seen.results.valid_milli = seen.results.valid_milli.saturating_add(more)) >= before - 1e-12);
        prop_assert!(better(&|seen| seen.results.note_canary(true)) >= before - 1e-12);
        prop_assert!(better(&|seen| seen.results.invalid_milli = seen.results.invalid_milli.saturating_sub(more)) >= before - 1e-12);
        prop_assert!(better(&|seen| seen.memory_mib = seen.memory_mib.saturating_add(more)) >= before
            || seen.memory_mib == 0);
        for at in 0..4 {
            let faster = |seen: &mut Observations| {
                let mut rates = *seen.rates(MODEL).expect("it was measured");
                rates.decode_milli[at] = rates.decode_milli[at].saturating_add(more);
                seen.set_rates(MODEL, rates);
            };
            let was_measured = seen.rates(MODEL).is_some_and(|rates| rates.decode_milli != [0; 4]);
            prop_assert!(better(&faster) >= before || !was_measured);
        }
        if seen.network.samples > 0 {
            prop_assert!(better(&|seen| seen.network.jitter_us = seen.network.jitter_us.saturating_sub(more)) >= before);
            prop_assert!(better(&|seen| seen.network.loss_ppm = seen.network.loss_ppm.saturating_sub(more)) >= before);
            prop_assert!(better(&|seen| seen.network.reconnects_milli /= 2) >= before);
        }
    }

    #[test]
    fn who_stayed_longer_is_believed_longer(sessions in sessions(), now in 0u64..1 << 45, age in 0u64..1 << 32, t in 0u64..1 << 32) {
        let hazard = Hazard::at(&sessions, now);
        let stays = hazard.survival(age, t);
        prop_assert!((0.0..=1.0).contains(&stays));
        prop_assert!(hazard.survival(age + (1 << 20), t) >= stays, "hazards fall with age");
        prop_assert!(hazard.survival(age, t + (1 << 20)) <= stays, "longer is harder");
        let mut departed = sessions.clone();
        departed.note(0, 0, now, true);
        prop_assert!(Hazard::at(&departed, now).survival(age, t) <= stays);
        let mut stayed = sessions;
        stayed.note(age, age + 3_600_000, now, false);
        // Rounding up of what an hour borrows is one thousandth.
        prop_assert!(Hazard::at(&stayed, now).survival(age, t) >= stays - 0.01);
    }

    #[test]
    fn what_is_not_seen_again_fades_to_nothing(seen in observations(), other in observations()) {
        let mut merged = seen.clone();
        merged.merge(&other);
        prop_assert_eq!(merged.check(), Ok(()));
        for _ in 0..100_000 {
            merged.decay();
            if merged.sessions.bins.is_empty() && merged.results == Default::default() {
                break;
            }
        }
        prop_assert!(merged.sessions.bins.is_empty());
        prop_assert_eq!(merged.results, Default::default());
        prop_assert_eq!(merged.network.reconnects_milli, 0);
    }

    #[test]
    fn a_share_is_never_above_what_was_seen(valid in 0f64..1e6, invalid in 0f64..1e6) {
        prop_assume!(valid + invalid > 0.0);
        let bound = wilson_lower(valid, invalid);
        prop_assert!(bound >= 0.0 && bound <= valid / (valid + invalid) + 1e-12);
        prop_assert!(wilson_lower(valid + 1.0, invalid) >= bound && wilson_lower(valid, invalid + 1.0) <= bound);
    }

    #[test]
    fn any_numbers_have_a_verdict(reported in vec(any::<f32>(), 0..40), reference in vec(any::<f32>(), 0..40)) {
        let (distance, counted) = canary::distance(&reported, &reference);
        prop_assert!((0.0..=1.0).contains(&distance));
        prop_assert!(counted <= reported.len().max(reference.len()));
        prop_assert_eq!(canary::distance(&reference, &reference).0 > 0.0, reference.iter().any(|x| !x.is_finite() || *x > 1e-3));
        let _ = canary::verdict(&reported, &reference).distance_milli();
    }
}

/// A number between -1 and 1 that looks random.
fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
}

/// Not made up: what an engine reported and another scored. Each kind's answer that is nearest to the threshold is there.
#[test]
fn measured_answers_are_told_apart() {
    let numbers = |list: &str| -> Vec<f32> { list.split(' ').map(|number| number.parse().unwrap()).collect() };
    let mut kinds = 0;
    for line in include_str!("measured_answers.tsv").lines().filter(|line| !line.starts_with('#')) {
        let [what, ends, reported, scored] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let (reported, scored) = (numbers(reported), numbers(scored));
        let verdict = canary::verdict(&reported, &scored);
        assert_eq!(verdict.passed(), Some(ends == "passes"), "{what}: {verdict:?}");
        // Not by a hair either.
        let (distance, _) = canary::distance(&reported, &scored);
        let beyond = (distance / canary::DISTANCE_MAX).ln().abs();
        assert!(beyond > 0.18, "{what}: {distance}");
        kinds += 1;
    }
    assert_eq!(kinds, 14);
}

#[test]
fn a_canary_tells_rounding_from_another_quantisation_and_another_model() {
    let mut state = 7;
    let reference: Vec<f32> = (0..64).map(|_| -1.0 - noise(&mut state) * 0.95).collect();
    let mut said =
        |width: f32| -> Vec<f32> { reference.iter().map(|x| (x + width * noise(&mut state)).min(0.0)).collect() };
    // Uniform noise of width w has a root mean square of w/√3.
    for (width, passed) in [(0.0, true), (0.1, true), (0.2, true), (0.45, false), (0.6, false), (3.0, false)] {
        assert_eq!(canary::verdict(&said(width), &reference).passed(), Some(passed), "{width}");
    }
    assert_eq!(canary::verdict(&reference[..10], &reference[..10]), Verdict::Inconclusive);
    assert_eq!(canary::verdict(&[], &reference).passed(), Some(false), "who says nothing fails");
    assert_eq!(canary::verdict(&[f32::NAN; 64], &reference).passed(), Some(false));
    // Certain tokens say nothing; pretending to be certain where the model is not does.
    assert_eq!(canary::verdict(&[0.0; 64], &[-0.001; 64]), Verdict::Inconclusive);
    assert_eq!(canary::verdict(&[0.0; 64], &reference).passed(), Some(false));
}

#[test]
fn trust_is_earned_and_lost_faster_than_earned() {
    let mut seen = Observations::default();
    let r = |seen: &Observations| score(seen, &PoolMedian::default(), Attestation::Vouched, 0).results;
    assert_eq!(r(&seen), 0.0, "nothing was proven");
    (0..20).for_each(|_| seen.results.note(true));
    let earned = r(&seen);
    assert!((0.8..0.9).contains(&earned), "{earned}");
    seen.results.note_canary(false);
    assert!(r(&seen) < 0.7, "one failed canary weighs as four");
    for _ in 0..12 {
        seen.decay();
    }
    assert!(r(&seen) < earned, "canaries are remembered longer than results");
}

#[test]
fn memory_that_nobody_measured_says_nothing() {
    let hardware = |memory_mib, median_mib| {
        let mut seen = Observations { memory_mib, ..Observations::default() };
        let rates = Rates { prefill_milli: 100_000, decode_milli: [10_000; 4] };
        seen.set_rates(MODEL, rates);
        let median = PoolMedian { model: Some(MODEL), rates, memory_mib: median_mib };
        score(&seen, &median, Attestation::Vouched, 0).hardware
    };
    assert!((hardware(0, 0) - 0.5).abs() < 1e-12, "the median itself, by what is known");
    assert_eq!(hardware(8_192, 0), hardware(0, 0), "nobody to compare with");
    assert!((hardware(8_192, 8_192) - 0.5).abs() < 1e-12);
    assert!(hardware(0, 8_192) < 0.3, "unmeasured where others are measured");
}

#[test]
fn doubting_what_is_certain_thins_nothing_out() {
    let (uncertain, certain) = (vec![-1.0f32; 32], vec![0.0f32; 64]);
    let reference = [uncertain.clone(), certain.clone()].concat();
    let cheat = |certain: f32| [vec![-1.25f32; 32], vec![certain; 64]].concat();
    assert_eq!(canary::verdict(&cheat(0.0), &reference).passed(), Some(false));
    assert_eq!(canary::verdict(&cheat(-0.041), &reference).passed(), Some(false), "slightly doubted");
}
