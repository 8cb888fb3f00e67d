//! What referees say of an answer, and who is blamed for it. Pure.

use protocol::link::AuditVerdict;
use trust::canary::Verdict;

/// What a referee says of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Found {
    /// How far it is from its own.
    Compared(Verdict),
    /// That these are no tokens of an answer to the task.
    Declined,
}

impl Found {
    pub(super) fn is_against_the_subject(self) -> bool {
        matches!(self, Self::Declined | Self::Compared(Verdict::Failed { .. }))
    }
}

/// What is said of whom.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Blame {
    /// What the subject sent is no answer, in the word of two.
    pub(super) is_corrupt: bool,
    pub(super) subject: Option<AuditVerdict>,
    pub(super) first_referee: Option<AuditVerdict>,
}

/// Who is the odd one out, by what the referees that were asked say of the subject, in order.
pub(super) fn blame(found: &[Found]) -> Blame {
    use Found::{Compared, Declined};
    let of = |verdict: &Verdict| {
        verdict.passed().map(|passed| AuditVerdict { passed, distance_milli: verdict.distance_milli() })
    };
    match found {
        [Compared(only @ Verdict::Passed { .. })] => Blame { subject: of(only), ..Blame::default() },
        // Both against the subject.
        [Compared(Verdict::Failed { .. }) | Declined, Compared(second @ Verdict::Failed { .. })] => {
            Blame { subject: of(second), ..Blame::default() }
        }
        [Compared(first @ Verdict::Failed { .. }), Declined] => Blame { subject: of(first), ..Blame::default() },
        [Declined, Declined] => Blame { is_corrupt: true, ..Blame::default() },
        // The second sees it as the subject does.
        [Compared(first @ Verdict::Failed { .. }), Compared(second @ Verdict::Passed { .. })] => {
            Blame { subject: of(second), first_referee: of(first), ..Blame::default() }
        }
        [Declined, Compared(second @ Verdict::Passed { .. })] => Blame { subject: of(second), ..Blame::default() },
        _ => Blame::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: Found = Found::Compared(Verdict::Passed { distance: 0.01 });
    const FAILED: Found = Found::Compared(Verdict::Failed { distance: 0.4 });
    const UNDECIDED: Found = Found::Compared(Verdict::Inconclusive);
    const DECLINED: Found = Found::Declined;

    fn said(passed: bool, distance_milli: u32) -> Option<AuditVerdict> {
        Some(AuditVerdict { passed, distance_milli })
    }

    fn of_both(subject: Option<AuditVerdict>, first_referee: Option<AuditVerdict>) -> Blame {
        Blame { is_corrupt: false, subject, first_referee }
    }

    #[test]
    fn the_odd_one_out_is_blamed() {
        assert_eq!(blame(&[PASSED]), of_both(said(true, 10), None));
        assert_eq!(blame(&[FAILED, FAILED]), of_both(said(false, 400), None));
        assert_eq!(blame(&[FAILED, PASSED]), of_both(said(true, 10), said(false, 400)));
    }

    #[test]
    fn what_two_call_no_answer_is_corrupt() {
        assert_eq!(blame(&[DECLINED, DECLINED]), Blame { is_corrupt: true, ..Blame::default() });
        assert_eq!(blame(&[DECLINED, FAILED]), of_both(said(false, 400), None));
        assert_eq!(blame(&[FAILED, DECLINED]), of_both(said(false, 400), None));
        assert_eq!(blame(&[DECLINED, PASSED]), of_both(said(true, 10), None));
    }

    #[test]
    fn one_word_against_another_blames_nobody() {
        for found in [&[][..], &[FAILED], &[DECLINED], &[UNDECIDED], &[FAILED, UNDECIDED], &[DECLINED, UNDECIDED]] {
            assert_eq!(blame(found), Blame::default(), "{found:?}");
        }
    }
}
