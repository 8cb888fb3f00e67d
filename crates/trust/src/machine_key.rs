use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use protocol::{
    codec::CodecError,
    header::{Certificate, Header},
    ids::NodeId,
    signed::{self, Signable, Signed, Verifier},
};
use std::fmt;
use zeroize::Zeroizing;

/// A machine's Ed25519 key. Its public half is the machine's [`NodeId`]. Wiped when dropped.
#[derive(Clone)]
pub struct MachineKey(SigningKey);

/// A signature that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The signer's id is not a key.
    #[error("the signer's id is not a public key")]
    Signer,
    /// Signed by another, over another kind, or changed.
    #[error("the signature does not hold")]
    Signature,
    /// Authentic, but not the payload it should be.
    #[error("malformed payload")]
    Malformed,
}

impl MachineKey {
    /// A fresh key from the system's random source.
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).expect("the operating system has a random source");
        Self::from_seed(&seed)
    }

    /// The key of a stored seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be stored where only its owner reads.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The machine's id.
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Signs a payload whose size is bounded by what it is. One that grows with what others say: [`MachineKey::try_sign`].
    ///
    /// # Panics
    /// If the payload exceeds [`protocol::limits::SIGNED_BYTES_MAX`].
    pub fn sign<T: Signable>(&self, value: &T) -> Signed<T> {
        self.try_sign(value).expect("the payload is bounded by what it is")
    }

    /// Signs a payload, unless it is longer than [`protocol::limits::SIGNED_BYTES_MAX`].
    pub fn try_sign<T: Signable>(&self, value: &T) -> Result<Signed<T>, CodecError> {
        Signed::new(self.id(), value, |message| self.0.sign(message).to_bytes())
    }

    /// Signs a block as a member of its committee, for a certificate that names these rounds.
    pub fn finalise(&self, header: &Header, certificate: &Certificate) -> signed::Signature {
        signed::Signature::of(self.0.sign(&certificate.message(header)).to_bytes())
    }
}

impl fmt::Debug for MachineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineKey({:?})", self.id())
    }
}

/// The rule by which signatures hold here: Ed25519, verified strictly (no keys or points of small order).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strict;

impl Verifier for Strict {
    fn holds(&self, signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
        verified(signer, message, signature).is_ok()
    }
}

fn verified(signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
    let key = PublicKey::of(signer).ok_or(SignatureError::Signer)?;
    if key.holds(message, signature) { Ok(()) } else { Err(SignatureError::Signature) }
}

/// The public half of a machine's key, unpacked: for who verifies many signatures of one signer.
#[derive(Debug, Clone)]
pub(crate) struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Of an id that is one.
    pub(crate) fn of(node: &NodeId) -> Option<Self> {
        VerifyingKey::from_bytes(node.as_bytes()).ok().map(Self)
    }

    /// Whether it has made this signature, strictly.
    pub(crate) fn holds(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

/// The payload, if its signature holds. The caller decides whether `signer` is to be believed.
pub fn open<T: Signable>(signed: &Signed<T>) -> Result<T, SignatureError> {
    verified(&signed.signer, &signed.message(), &signed.signature())?;
    signed.decode_unverified().map_err(|_| SignatureError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct One(u32);
    impl Signable for One {
        const CONTEXT: &'static str = "one";
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two(u32);
    impl Signable for Two {
        const CONTEXT: &'static str = "two";
    }

    #[test]
    fn a_signature_holds_for_its_signer_kind_and_payload_only() {
        let key = MachineKey::generate();
        let signed = key.sign(&One(7));
        assert_eq!(open(&signed), Ok(One(7)));
        assert_eq!(signed.open(&Strict), Some(One(7)));

        let mut other_signer = signed.clone();
        other_signer.signer = MachineKey::generate().id();
        assert_eq!(open(&other_signer), Err(SignatureError::Signature));

        let mut changed = signed.clone();
        changed.payload[0] ^= 1;
        assert_eq!(open(&changed), Err(SignatureError::Signature));
        assert_eq!(changed.open(&Strict), None);

        let bytes = postcard::to_stdvec(&signed).unwrap();
        let other_kind: Signed<Two> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(open(&other_kind), Err(SignatureError::Signature));
    }

    #[test]
    fn a_payload_that_is_too_long_is_an_error() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Long(Vec<u8>);
        impl Signable for Long {
            const CONTEXT: &'static str = "long";
        }
        let key = MachineKey::generate();
        let limit = protocol::limits::SIGNED_BYTES_MAX;
        assert!(key.try_sign(&Long(vec![0; limit - 3])).is_ok());
        assert_eq!(key.try_sign(&Long(vec![0; limit])), Err(CodecError::TooLong { bytes: limit + 3, limit }));
    }

    #[test]
    fn a_weak_key_signs_nothing() {
        // The neutral point: with it a fixed signature "holds" for any message unless verification is strict.
        let mut signed = MachineKey::generate().sign(&One(7));
        let mut neutral = [0; 32];
        neutral[0] = 1;
        signed.signer = NodeId(neutral);
        signed.signature = (neutral, [0; 32]);
        assert!(open(&signed).is_err());
    }

    #[test]
    fn a_seed_brings_the_same_machine_back() {
        let key = MachineKey::generate();
        assert_eq!(MachineKey::from_seed(&key.seed()).id(), key.id());
        assert!(!format!("{key:?}").contains(&protocol::ids::NodeId(*key.seed()).to_string()));
    }
}
