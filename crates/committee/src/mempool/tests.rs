use super::*;
use protocol::ids::PoolId;
use registry::Fact;
use trust::{MachineKey, Strict};

fn entry(key: &MachineKey, sequence: u64, not_after_unix_ms: u64, facts: usize, source: Option<NodeId>) -> Arc<Entry> {
    let facts = vec![Fact::MeasurementAllowed { measurement: [7; 32] }; facts];
    let bundle = Bundle { pool: PoolId([1; 32]), author: key.id().into(), sequence, not_after_unix_ms, facts };
    let signed = key.sign(&bundle);
    let authenticated = Authenticated::open(&signed, &Strict).unwrap();
    Arc::new(Entry::new(signed, authenticated, source))
}

#[test]
fn authors_take_turns_and_each_keeps_its_order() {
    let (mut mempool, keys) = (Mempool::default(), [MachineKey::generate(), MachineKey::generate()]);
    for sequence in [3, 1, 2] {
        for key in &keys {
            assert_eq!(mempool.insert(entry(key, sequence, 9, 1, None)), Ok(true));
        }
    }
    let mut authors: Vec<AccountId> = keys.iter().map(|key| key.id().into()).collect();
    authors.sort();
    let order = |mempool: &Mempool| -> Vec<AccountId> { mempool.lanes().iter().map(|lane| lane[0].author()).collect() };
    assert_eq!(order(&mempool), authors);
    for lane in mempool.lanes() {
        assert_eq!(lane.iter().map(|entry| entry.sequence()).collect::<Vec<_>>(), [1, 2, 3]);
    }
    mempool.serve(authors[0]);
    assert_eq!(order(&mempool), [authors[1], authors[0]]);
    mempool.serve(authors[1]);
    assert_eq!(order(&mempool), authors);
}

#[test]
fn a_place_is_taken_once_and_what_is_over_goes() {
    let (mut mempool, key) = (Mempool::default(), MachineKey::generate());
    let first = entry(&key, 1, 10, 1, None);
    assert_eq!(mempool.insert(Arc::clone(&first)), Ok(true));
    assert_eq!(mempool.insert(Arc::clone(&first)), Ok(false), "it is there already");
    assert_eq!(mempool.insert(entry(&key, 1, 10, 2, None)), Err(Full), "another has its place");
    for sequence in 2..=5 {
        mempool.insert(entry(&key, sequence, 10 * sequence, 1, None)).unwrap();
    }
    mempool.drop_expired(10);
    assert_eq!(mempool.len(), 5, "it counts up to that time");
    mempool.drop_expired(11);
    assert_eq!(mempool.len(), 4);
    mempool.drop_said(key.id().into(), 4);
    assert_eq!(mempool.len(), 1);
    assert_eq!(mempool.remove(key.id().into(), 5).unwrap().sequence(), 5);
    assert!(mempool.authors.is_empty() && mempool.author_bytes.is_empty() && mempool.source_bytes.is_empty());
    assert_eq!(mempool.bytes, 0);
}

#[test]
fn nobody_fills_more_than_a_share() {
    let (mut mempool, loud, quiet) = (Mempool::default(), MachineKey::generate(), MachineKey::generate());
    let peer = MachineKey::generate().id();
    let mut taken = 0;
    for sequence in 1.. {
        let entry = entry(&loud, sequence, 10, 256, Some(peer));
        let bytes = entry.bytes();
        match mempool.insert(entry) {
            Ok(_) => taken += bytes,
            Err(Full) => break,
        }
    }
    assert!(taken <= AUTHOR_BYTES_MAX && taken > AUTHOR_BYTES_MAX / 2);
    assert_eq!(mempool.insert(entry(&quiet, 1, 10, 256, Some(peer))), Ok(true), "others still have theirs");
    // A member that brings many authors fills its own share, and no more.
    let brought = (0u32..).take_while(|_| {
        let author = MachineKey::generate();
        (1..=100).all(|sequence| mempool.insert(entry(&author, sequence, 10, 256, Some(peer))).is_ok())
    });
    assert!(brought.count() < 64);
    assert!(mempool.bytes <= SOURCE_BYTES_MAX);
    assert_eq!(mempool.insert(entry(&quiet, 2, 10, 256, None)), Ok(true), "this machine's callers have theirs");
}
