use super::*;
use crate::chain::tests::driver::certify;
use protocol::{header::Header, signed::Signature};
use trust::MachineKey;

const POOL: PoolId = PoolId([1; 32]);
const EPOCH_BLOCKS: u64 = 8;

fn keys(count: usize) -> Vec<MachineKey> {
    (0..count).map(|_| MachineKey::generate()).collect()
}

fn committee(keys: &[MachineKey]) -> Committee {
    Committee::new(keys.iter().map(MachineKey::id).collect()).unwrap()
}

fn header(height: u64, now: &Committee, next: &Committee) -> Header {
    Header {
        pool: POOL,
        epoch: height / EPOCH_BLOCKS,
        height,
        parent: [2; 32],
        unix_ms: 3,
        state: [4; 32],
        body: [5; 32],
        committee: now.digest(),
        next_committee: next.digest(),
    }
}

#[test]
fn a_quorum_and_nothing_less() {
    let keys = keys(4);
    let four = committee(&keys);
    let anchor = certify(&keys, header(3, &four, &four));
    assert_eq!(certified(POOL, &four, &anchor), Ok(()));
    assert_eq!(certified(PoolId([2; 32]), &four, &anchor), Err(CertificateError::Pool));
    let fewer = |signers: u16| {
        let mut fewer = anchor.clone();
        let signed = (0..4).filter(|place| signers >> place & 1 == 1);
        fewer.certificate.signatures = signed.map(|place| anchor.certificate.signatures[place]).collect();
        fewer.certificate.signers = signers;
        fewer
    };
    for signers in [0b0111, 0b1110, 0b1011] {
        assert_eq!(certified(POOL, &four, &fewer(signers)), Ok(()));
    }
    assert_eq!(certified(POOL, &four, &fewer(0b0101)), Err(CertificateError::Quorum { valid: 2, quorum: 3 }));

    let mut beyond = anchor.clone();
    beyond.certificate.signers = 0b11_0011;
    assert_eq!(certified(POOL, &four, &beyond), Err(CertificateError::Signers));
    let mut repeated = anchor.clone();
    repeated.certificate.signatures = vec![anchor.certificate.signatures[0]; 4];
    assert_eq!(certified(POOL, &four, &repeated), Err(CertificateError::Quorum { valid: 1, quorum: 3 }));
    let mut one_wrong = anchor.clone();
    one_wrong.certificate.signatures[2] = Signature::of([7; 64]);
    assert_eq!(certified(POOL, &four, &one_wrong), Ok(()), "one that does not hold takes nothing from the others");
    let mut other = anchor.clone();
    other.header.state[0] ^= 1;
    assert_eq!(certified(POOL, &four, &other), Err(CertificateError::Quorum { valid: 0, quorum: 3 }));
    let others = committee(&self::keys(4));
    assert_eq!(certified(POOL, &others, &anchor), Err(CertificateError::Committee));
}

#[test]
fn committees_are_followed_without_a_gap() {
    let generations = [keys(4), keys(4), keys(7)];
    let [first, second, third] = [0, 1, 2].map(|number| committee(&generations[number]));
    let handover = |keys: &[MachineKey], height, now: &Committee, next: &Committee| Handover {
        last: certify(keys, header(height, now, next)),
        next: next.clone(),
    };
    let way = [handover(&generations[0], 15, &first, &second), handover(&generations[1], 47, &second, &third)];
    let follow = |way: &[Handover]| followed(POOL, first.clone(), EPOCH_BLOCKS, way);
    assert_eq!(follow(&way), Ok(third.clone()));
    assert_eq!(follow(&[]), Ok(first.clone()));
    assert_eq!(follow(&way[1..]), Err(CertificateError::Committee), "the way there is missing");
    let in_between = handover(&generations[0], 14, &first, &second);
    assert_eq!(follow(&[in_between]), Err(CertificateError::Gap), "committees change at the end of an epoch only");
    let named_other = Handover { next: third.clone(), ..way[0].clone() };
    assert_eq!(follow(&[named_other]), Err(CertificateError::Gap));
    let back = handover(&generations[1], 15, &second, &third);
    assert_eq!(follow(&[way[0].clone(), back]), Err(CertificateError::Gap), "each in a later epoch");
    let forged = handover(&generations[2], 15, &first, &second);
    assert!(matches!(follow(&[forged]), Err(CertificateError::Quorum { valid: 0, .. } | CertificateError::Signers)));
}
