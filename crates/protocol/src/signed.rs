//! A payload with the signature of the machine that stands behind it. Signing and verifying is in the crate `trust`.

use crate::{
    codec::{self, CodecError},
    ids::NodeId,
    limits,
    proof::Digest,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// What a signed payload is. The context keeps a signature over one kind from being taken for another.
pub trait Signable: Serialize + DeserializeOwned {
    /// Signed in front of the payload; unique in the workspace.
    const CONTEXT: &'static str;
}

/// Decides whether a signature holds. Whoever needs that decided is handed one of these, so that one rule decides
/// everywhere: members that judged the same signature differently would not agree on what follows.
pub trait Verifier {
    /// Whether `signature` is that of `signer` over `message`.
    fn holds(&self, signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool;
}

/// An Ed25519 signature, in two halves (serde knows arrays up to 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature([u8; 32], [u8; 32]);

impl Signature {
    /// Of 64 bytes.
    pub fn of(bytes: [u8; 64]) -> Self {
        let mut halves = Self([0; 32], [0; 32]);
        halves.0.copy_from_slice(&bytes[..32]);
        halves.1.copy_from_slice(&bytes[32..]);
        halves
    }

    /// Its 64 bytes.
    pub fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&self.1);
        bytes
    }
}

/// An encoded payload `T`, who signed it, and the signature over context and payload.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    /// The machine that signed.
    pub signer: NodeId,
    /// The payload's encoding, as it was signed.
    pub payload: Vec<u8>,
    /// Ed25519 signature in two halves (serde knows arrays up to 32).
    pub signature: ([u8; 32], [u8; 32]),
    #[serde(skip)]
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self { signer: self.signer, payload: self.payload.clone(), signature: self.signature, kind: PhantomData }
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.signer == other.signer && self.payload == other.payload && self.signature == other.signature
    }
}

impl<T> Eq for Signed<T> {}

impl<T: Signable> Signed<T> {
    /// Signs `value` with whatever holds the key of `signer`.
    pub fn new(signer: NodeId, value: &T, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Result<Self, CodecError> {
        let payload = codec::encode(value, limits::SIGNED_BYTES_MAX)?;
        let signature = sign(&message::<T>(&payload));
        let (low, high) = signature.split_at(32);
        let half = |bytes: &[u8]| -> [u8; 32] { bytes.try_into().expect("half of 64 bytes") };
        Ok(Self { signer, payload, signature: (half(low), half(high)), kind: PhantomData })
    }

    /// The bytes that the signature covers.
    pub fn message(&self) -> Vec<u8> {
        message::<T>(&self.payload)
    }

    /// BLAKE3 of what the signature covers: names what was said, whoever has signed it.
    pub fn digest(&self) -> Digest {
        *blake3::hash(&self.message()).as_bytes()
    }

    /// The signature's 64 bytes.
    pub fn signature(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.signature.0);
        bytes[32..].copy_from_slice(&self.signature.1);
        bytes
    }

    /// The payload, if its signature holds. The caller decides whether `signer` is to be believed.
    pub fn open(&self, verifier: &dyn Verifier) -> Option<T> {
        let holds = verifier.holds(&self.signer, &self.message(), &self.signature());
        holds.then(|| self.decode_unverified().ok()).flatten()
    }

    /// The payload, *not verified*: for `trust`, and for showing what a machine says of itself.
    pub fn decode_unverified(&self) -> Result<T, CodecError> {
        codec::decode(&self.payload, limits::SIGNED_BYTES_MAX)
    }
}

fn message<T: Signable>(payload: &[u8]) -> Vec<u8> {
    // The length keeps context and payload apart.
    let mut message = Vec::with_capacity(T::CONTEXT.len() + payload.len() + 8);
    message.extend_from_slice(&(T::CONTEXT.len() as u64).to_le_bytes());
    message.extend_from_slice(T::CONTEXT.as_bytes());
    message.extend_from_slice(payload);
    message
}
