//! What members and auditors read of a pool, and how facts come in from outside.

use crate::machines::{Client, Pool, request, unix_ms};
use protocol::{
    codec,
    grant::Tier,
    ids::{AccountId, NodeId},
    limits,
    link::{Answer, Denied, Question, Submitted, Unanswered},
    pool::{Listing, PoolPolicy, Standing},
    signed::Signed,
    statement::{About, LedgerAnswer, LedgerQuestion},
};
use registry::{AgreedEvidence, Bundle, Fact, keys};
use trust::MachineKey;

fn bundle(pool: &Pool, author: &MachineKey, sequence: u64, fact: Fact) -> Question {
    let bundle = Bundle {
        pool: pool.ticket.pool,
        author: AccountId::from(author.id()),
        sequence,
        not_after_unix_ms: unix_ms() + 60_000,
        facts: vec![fact],
    };
    Question::Submit { bundle: codec::encode(&author.sign(&bundle), limits::QUESTION_BYTES_MAX).unwrap() }
}

/// The owner, who is the orchestrator here, says something.
async fn decide(pool: &Pool, client: &Client, fact: Fact) -> Answer {
    // Above whatever it says for itself.
    client.ask(&bundle(pool, &pool.key, unix_ms() + 1_000_000, fact)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_submitted_is_proven_afterwards() {
    let pool = Pool::new().await;
    let client = pool.client().await;
    let policy = PoolPolicy { retains_nothing: true, ..PoolPolicy::default() };
    let answer = decide(&pool, &client, Fact::PolicySet(policy.clone())).await;
    assert_eq!(answer, Answer::Submitted(Submitted::Final { events: 1 }));
    let keys = vec![keys::policy().as_bytes().to_vec(), keys::member(NodeId([9; 32])).as_bytes().to_vec()];
    let Answer::Proven(shown) = client.ask(&Question::Prove { keys }).await else { panic!("no proofs") };
    let root = &shown.anchor.header.state;
    assert_eq!(keys::policy().check(&shown.proofs[0], root), Ok(Some(policy)));
    assert_eq!(keys::member(NodeId([9; 32])).check(&shown.proofs[1], root), Ok(None));

    let Answer::Listed(page) = client.ask(&Question::List { what: Listing::Members, after: None }).await else {
        panic!("no list")
    };
    assert_eq!((page.ids, page.has_more), (vec![client.id().0], false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_say_is_refused_in_words() {
    let pool = Pool::new().await;
    let client = pool.client().await;
    let evidence = AgreedEvidence { tier: Tier::SelfSigned, digest: [1; 32], until_unix_ms: 9 };
    for fact in [
        Fact::PolicySet(PoolPolicy::default()),
        Fact::EvidenceAgreed { node: client.id(), evidence },
        Fact::StandingGranted { account: client.id().into(), standing: Standing::Owner },
    ] {
        let answer = client.ask(&bundle(&pool, &client.link.key, unix_ms(), fact)).await;
        let Answer::Submitted(Submitted::Refused { why }) = answer else { panic!("{answer:?}") };
        assert!(why.contains("may not be said"), "{why}");
    }
    // Signed by one, said to be by another.
    let mut question = bundle(&pool, &client.link.key, 1, Fact::PolicySet(PoolPolicy::default()));
    let Question::Submit { bundle } = &mut question else { unreachable!() };
    bundle.pop();
    assert_eq!(client.ask(&question).await, Answer::Malformed);
    let long = vec![vec![1; limits::STATE_KEY_BYTES_MAX + 1]];
    assert_eq!(client.ask(&Question::Prove { keys: long }).await, Answer::Malformed);
    let many = vec![vec![1]; limits::PROVEN_MAX + 1];
    assert_eq!(client.ask(&Question::Prove { keys: many }).await, Answer::Malformed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auditor_reads_and_a_stranger_does_not() {
    let pool = Pool::new().await;
    let (member, auditor) = (pool.client().await, MachineKey::generate());
    let closed = protocol::ticket::Ticket { secret: None, ..pool.ticket.clone() };
    assert_eq!(Client::join(&closed, &auditor).await.err(), Some(Denied::NotAdmitted));
    let (account, standing) = (auditor.id().into(), Standing::Auditor);
    decide(&pool, &member, Fact::StandingGranted { account, standing }).await;

    let reader = Client::join(&closed, &auditor).await.unwrap();
    let listed = reader.ask(&Question::List { what: Listing::Standings, after: None }).await;
    assert!(matches!(listed, Answer::Listed(page) if page.ids.contains(&auditor.id().0)));
    let refused = Answer::Unanswered(Unanswered::ReadsOnly);
    assert_eq!(reader.ask(&Question::Match(request("default"))).await, refused);
    assert_eq!(reader.ask(&Question::Report { node: member.id() }).await, refused);
    assert!(!pool.orchestrator.nodes().iter().any(|row| row.node == auditor.id()));

    // With its standing its link ends.
    let revoked = bundle(&pool, &pool.key, unix_ms() + 2_000_000, Fact::StandingRevoked { account });
    assert_eq!(member.ask(&revoked).await, Answer::Submitted(Submitted::Final { events: 1 }));
    assert_eq!(crate::machines::within(reader.link.connection.closed()).await, "removed from the pool");
}

/// A question about an account that `asker` signs on the link of `client`.
fn about(pool: &Pool, client: NodeId, asker: &MachineKey, account: AccountId) -> Signed<LedgerQuestion> {
    let (pool, about) = (pool.ticket.pool, About::Account(account));
    asker.sign(&LedgerQuestion { pool, client, asked_unix_ms: unix_ms(), about })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_shown_to_those_whom_it_concerns() {
    let pool = Pool::new().await;
    let (client, other, auditor) = (pool.client().await, pool.client().await, MachineKey::generate());
    decide(
        &pool,
        &client,
        Fact::PolicySet(PoolPolicy { starter_micro: 5, issue_micro_max: 5, ..PoolPolicy::default() }),
    )
    .await;
    let account = AccountId::from(client.id());
    let prove = Question::Prove { keys: vec![keys::account(account).as_bytes().to_vec()] };
    let not_yours = Answer::Unanswered(Unanswered::NotYours);
    assert_eq!((client.ask(&prove).await, other.ask(&prove).await), (not_yours.clone(), not_yours));

    let ask = async |on: &Client, question| match on.ask(&Question::Ledger(Box::new(question))).await {
        Answer::Ledger(answer) => *answer,
        other => panic!("{other:?}"),
    };
    let own = about(&pool, client.id(), &client.link.key, account);
    let LedgerAnswer::Account(shown) = ask(&client, own.clone()).await else { panic!("it is its own") };
    let root = &shown.anchor.header.state;
    assert_eq!(shown.proofs.len(), 3);
    assert!(keys::account(account).check(&shown.proofs[0], root).is_ok());
    assert!(keys::totals().check(&shown.proofs[1], root).is_ok());
    assert_eq!(keys::policy().check(&shown.proofs[2], root).unwrap().map(|policy| policy.starter_micro), Some(5));
    let strange = about(&pool, other.id(), &other.link.key, account);
    for (on, question) in [(&other, own), (&other, strange)] {
        assert!(matches!(ask(on, question).await, LedgerAnswer::Refused(_)));
    }

    let (standing, auditors) = (Standing::Auditor, auditor.id().into());
    let question =
        bundle(&pool, &pool.key, unix_ms() + 2_000_000, Fact::StandingGranted { account: auditors, standing });
    assert_eq!(client.ask(&question).await, Answer::Submitted(Submitted::Final { events: 1 }));
    let closed = protocol::ticket::Ticket { secret: None, ..pool.ticket.clone() };
    let reader = Client::join(&closed, &auditor).await.unwrap();
    assert!(matches!(reader.ask(&prove).await, Answer::Proven(_)));
    let asked = about(&pool, auditor.id(), &auditor, account);
    assert!(matches!(ask(&reader, asked).await, LedgerAnswer::Account(_)));
}
