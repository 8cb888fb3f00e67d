//! Who reads how much of its prompt in one step.

/// Shares `budget` tokens among prompts of which `remaining` tokens are still to be read: equal shares, and what a short
/// prompt does not need goes to the others. So a short prompt never waits for the end of a long one.
pub(super) fn share(budget: usize, remaining: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..remaining.len()).collect();
    order.sort_by_key(|&index| remaining[index]);
    let mut shares = vec![0; remaining.len()];
    let mut left = budget;
    // The shortest first; the last one gets what is left, so nothing is lost to rounding.
    for (done, index) in order.into_iter().enumerate() {
        shares[index] = remaining[index].min(left / (remaining.len() - done));
        left -= shares[index];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_are_equal_and_nothing_is_wasted() {
        assert_eq!(share(128, &[]), [0; 0]);
        assert_eq!(share(128, &[2000]), [128]);
        assert_eq!(share(128, &[2000, 2000]), [64, 64]);
        assert_eq!(share(128, &[2000, 10, 3]), [115, 10, 3]);
        assert_eq!(share(128, &[5, 5]), [5, 5]);
        assert_eq!(share(2, &[9, 9, 9]), [0, 1, 1]);
        assert_eq!(share(2, &[9, 8, 8]), [1, 0, 1], "who got nothing is next");
    }

    #[test]
    fn the_budget_is_never_exceeded_and_used_when_it_can_be() {
        for budget in 1..40 {
            for a in 0..15 {
                for b in 0..15 {
                    for c in 0..15 {
                        let shares = share(budget, &[a, b, c]);
                        assert!(shares.iter().zip([a, b, c]).all(|(share, wanted)| *share <= wanted));
                        assert_eq!(shares.iter().sum::<usize>(), budget.min(a + b + c), "{budget} {a} {b} {c}");
                    }
                }
            }
        }
    }
}
