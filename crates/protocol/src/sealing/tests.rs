use super::*;
use crate::task::{Finish, Usage};
use proptest::prelude::*;

const SUITES: [Suite; 2] = Suite::PREFERENCE;

fn done() -> Frame {
    Frame::Done { finish: Finish::Stop, usage: Usage { prompt_tokens: 3, completion_tokens: 1 } }
}

fn tokens(text: &str) -> Frame {
    Frame::Tokens { ids: vec![1, 2], text: text.to_owned(), log_probs: vec![-0.5, -1.5] }
}

#[test]
fn a_task_opens_with_its_key_under_its_id_only() {
    for suite in SUITES {
        let key = WorkerKey::generate(suite);
        let id = TaskId::random();
        let (sealed, _) = seal_task(key.public(), id, &Task::chat("hello")).unwrap();
        assert!((sealed.ciphertext.len() - TAG_BYTES).is_power_of_two());
        assert_eq!(key.open_task(id, &sealed).map(|(task, _)| task), Ok(Task::chat("hello")));
        assert_eq!(key.open_task(TaskId::random(), &sealed).err(), Some(SealError::NotAuthentic));
        let other = WorkerKey::generate(suite);
        assert_eq!(other.open_task(id, &sealed).err(), Some(SealError::NotAuthentic));
        let forged = SealedTask { key: other.public().id(), ..sealed };
        assert_eq!(other.open_task(id, &forged).err(), Some(SealError::NotAuthentic));
    }
}

#[test]
fn no_byte_of_a_sealed_task_can_change() {
    for suite in SUITES {
        let key = WorkerKey::generate(suite);
        let id = TaskId::random();
        let (sealed, _) = seal_task(key.public(), id, &Task::chat("hello")).unwrap();
        for at in 0..sealed.ciphertext.len() {
            let mut flipped = sealed.clone();
            flipped.ciphertext[at] ^= 1;
            assert!(key.open_task(id, &flipped).is_err(), "ciphertext byte {at}");
        }
        for at in (0..sealed.encapsulated.len()).step_by(7) {
            let mut flipped = sealed.clone();
            flipped.encapsulated[at] ^= 1;
            assert!(key.open_task(id, &flipped).is_err(), "encapsulation byte {at}");
        }
        for cut in 0..sealed.ciphertext.len() {
            let mut short = sealed.clone();
            short.ciphertext.truncate(cut);
            assert!(key.open_task(id, &short).is_err());
        }
    }
}

#[test]
fn frames_open_once_in_order_and_not_after_the_end() {
    for suite in SUITES {
        let key = WorkerKey::generate(suite);
        let id = TaskId::random();
        let (sealed, mut opener) = seal_task(key.public(), id, &Task::chat("hello")).unwrap();
        let (_, mut sealer) = key.open_task(id, &sealed).unwrap();
        let wire: Vec<_> = [tokens("a"), tokens("b"), done()].iter().map(|frame| sealer.seal(frame).unwrap()).collect();
        assert_eq!(sealer.seal(&done()), Err(SealError::Ended));
        assert_eq!(opener.open(&wire[1]), Err(SealError::NotAuthentic), "out of order");
        assert_eq!(opener.open(&wire[0]), Ok(tokens("a")));
        assert_eq!(opener.open(&wire[0]), Err(SealError::NotAuthentic), "doubled");
        let mut flipped = wire[1].clone();
        flipped[5] ^= 0x80;
        assert_eq!(opener.open(&flipped), Err(SealError::NotAuthentic));
        assert_eq!(opener.open(&wire[1][..10]), Err(SealError::NotAuthentic), "truncated");
        assert_eq!(opener.open(&wire[1]), Ok(tokens("b")));
        assert!(!opener.is_complete());
        assert_eq!(opener.open(&wire[2]), Ok(done()));
        assert!(opener.is_complete());
        assert_eq!(opener.open(&wire[2]), Err(SealError::Ended));
    }
}

#[test]
fn two_sealings_share_nothing() {
    let key = WorkerKey::generate(Suite::XWing);
    let id = TaskId::random();
    let (one, _) = seal_task(key.public(), id, &Task::chat("hello")).unwrap();
    let (two, _) = seal_task(key.public(), id, &Task::chat("hello")).unwrap();
    assert_ne!(one.encapsulated, two.encapsulated);
    assert_ne!(one.ciphertext, two.ciphertext);
}

#[test]
fn lengths_show_only_their_bucket() {
    let key = WorkerKey::generate(Suite::X25519);
    let length = |text: &str| seal_task(key.public(), TaskId::random(), &Task::chat(text)).unwrap().0.ciphertext.len();
    assert_eq!(length("a"), length("a somewhat longer question"));
}

#[test]
fn keys_that_are_none_are_refused() {
    for suite in SUITES {
        for bytes in [vec![], vec![1; 31], vec![0; 1216 * 2]] {
            let error = seal_task(&SealingKey { suite, bytes }, TaskId::random(), &Task::chat("x")).err();
            assert_eq!(error, Some(SealError::MalformedKey));
        }
    }
    let zero = SealingKey { suite: Suite::X25519, bytes: vec![0; 32] };
    assert!(seal_task(&zero, TaskId::random(), &Task::chat("x")).is_err(), "a point of small order");
}

#[test]
fn an_unknown_suite_does_not_decode() {
    let bytes = codec::encode(&0x1234u16, 8).unwrap();
    assert!(codec::decode::<Suite>(&bytes, 8).is_err());
    assert_eq!(Suite::try_from(0x1234), Err(SealError::UnknownSuite { id: 0x1234 }));
}

proptest! {
    #[test]
    fn any_text_comes_through(text in ".{0,2000}", answer in ".{0,200}") {
        let key = WorkerKey::generate(Suite::X25519);
        let id = TaskId::random();
        let (sealed, mut opener) = seal_task(key.public(), id, &Task::chat(text.clone())).unwrap();
        let (task, mut sealer) = key.open_task(id, &sealed).unwrap();
        prop_assert_eq!(task, Task::chat(text));
        prop_assert_eq!(opener.open(&sealer.seal(&tokens(&answer)).unwrap()), Ok(tokens(&answer)));
    }

    #[test]
    fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let key = WorkerKey::generate(Suite::X25519);
        let sealed = SealedTask {
            key: key.public().id(),
            suite: Suite::X25519,
            encapsulated: bytes.iter().copied().take(32).collect(),
            ciphertext: bytes,
        };
        prop_assert!(key.open_task(TaskId([0; 16]), &sealed).is_err());
    }
}

/// RFC 9180, Appendix A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode. Both directions, with
/// the algorithms that this module seals with.
mod rfc9180_a_2_1 {
    use super::*;
    use hpke::{aead::AeadCtxR, aead::AeadCtxS};
    use std::convert::Infallible;

    type K = X25519HkdfSha256;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    const IKM_E: &str = "909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b";
    const IKM_R: &str = "1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df";
    const PK_R: &str = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
    const SK_R: &str = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
    const ENC: &str = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
    const INFO: &[u8] = b"Ode on a Grecian Urn";
    const PLAINTEXT: &[u8] = b"Beauty is truth, truth beauty";
    const CIPHERTEXTS: [(u64, &str); 6] = [
        (0, "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"),
        (1, "6b53c051e4199c518de79594e1c4ab18b96f081549d45ce015be002090bb119e85285337cc95ba5f59992dc98c"),
        (2, "71146bd6795ccc9c49ce25dda112a48f202ad220559502cef1f34271e0cb4b02b4f10ecac6f48c32f878fae86b"),
        (4, "63357a2aa291f5a4e5f27db6baa2af8cf77427c7c1a909e0b37214dd47db122bb153495ff0b02e9e54a50dbe16"),
        (255, "18ab939d63ddec9f6ac2b60d61d36a7375d2070c9b683861110757062c52b8880a5f6b3936da9cd6c23ef2a95c"),
        (256, "7a4a13e9ef23978e2c520fd4d2e757514ae160cd0cd05e556ef692370ca53076214c0c40d4c728d6ed9e727a5b"),
    ];
    const EXPORTS: [(&[u8], &str); 3] = [
        (b"", "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e"),
        (b"\0", "8c1df14732580e5501b00f82b10a1647b40713191b7c1240ac80e2b68808ba69"),
        (b"TestContext", "5acb09211139c43b3090489a9da433e8a30ee7188ba8b0a9a1ccf0c229283e53"),
    ];

    /// Gives the vector's key material where the sender would draw it.
    struct Fixed(Vec<u8>);

    impl hpke::rand_core::TryRng for Fixed {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            unreachable!("key material is drawn in bulk")
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            unreachable!("key material is drawn in bulk")
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            out.copy_from_slice(&self.0);
            Ok(())
        }
    }
    impl hpke::rand_core::TryCryptoRng for Fixed {}

    fn sender() -> AeadCtxS<HpkeAead, HkdfSha256, K> {
        let public = <K as Kem>::PublicKey::from_bytes(&hex(PK_R)).unwrap();
        let (enc, context) = hpke::setup_sender_with_rng::<HpkeAead, HkdfSha256, K>(
            &OpModeS::Base,
            &public,
            INFO,
            &mut Fixed(hex(IKM_E)),
        )
        .unwrap();
        assert_eq!(enc.to_bytes().to_vec(), hex(ENC));
        context
    }

    fn receiver() -> AeadCtxR<HpkeAead, HkdfSha256, K> {
        let (secret, public) = K::derive_keypair(&hex(IKM_R));
        assert_eq!(public.to_bytes().to_vec(), hex(PK_R));
        // X25519 clamps a scalar when it is used (RFC 7748 5), so the key is compared by its public half too.
        let published = <K as Kem>::PrivateKey::from_bytes(&hex(SK_R)).unwrap();
        assert_eq!(K::sk_to_pk(&published).to_bytes(), public.to_bytes());
        let enc = <K as Kem>::EncappedKey::from_bytes(&hex(ENC)).unwrap();
        hpke::setup_receiver::<HpkeAead, HkdfSha256, K>(&OpModeR::Base, &secret, &enc, INFO).unwrap()
    }

    #[test]
    fn seals_and_opens_every_published_message() {
        let (mut sender, mut receiver) = (sender(), receiver());
        for number in 0..=256u64 {
            let aad = format!("Count-{number}");
            let sealed = sender.seal(PLAINTEXT, aad.as_bytes()).unwrap();
            if let Some((_, published)) = CIPHERTEXTS.iter().find(|(at, _)| *at == number) {
                assert_eq!(sealed, hex(published), "message {number}");
            }
            assert_eq!(receiver.open(&sealed, aad.as_bytes()).unwrap(), PLAINTEXT);
        }
    }

    #[test]
    fn exports_every_published_secret() {
        for (context, published) in EXPORTS {
            let (mut one, mut two) = ([0; 32], [0; 32]);
            sender().export(context, &mut one).unwrap();
            receiver().export(context, &mut two).unwrap();
            assert_eq!((one.to_vec(), two.to_vec()), (hex(published), hex(published)));
        }
    }
}
