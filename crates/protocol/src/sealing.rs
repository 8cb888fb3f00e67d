//! Sealing a task to a worker and its answer back (HPKE, RFC 9180, base mode).
//!
//! * One fresh encapsulation per task; KDF is HKDF-SHA256, AEAD is ChaCha20-Poly1305, `info` is the protocol's label and
//!   the task's id, so that a sealed task opens under its own id only.
//! * The plaintext is padded to a power of two before encryption ([`crate::padding`]).
//! * Answer frames are sealed under a key and a base nonce exported from the same context (RFC 9180 5.3). The nonce of
//!   frame `n` is the base nonce XOR `n`, as in RFC 9180 5.2: a frame that is lost, doubled or out of order fails.
//! * The KEM is X-Wing (ML-KEM-768 with X25519, draft-connolly-cfrg-xwing-kem) or X25519 alone; its id is on the wire.

use crate::{
    codec,
    ids::TaskId,
    limits, padding,
    task::{Frame, Task},
};
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable,
    aead::ChaCha20Poly1305 as HpkeAead,
    kdf::HkdfSha256,
    kem::{X25519HkdfSha256, XWing},
};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

const INFO_LABEL: &[u8] = b"darkbloom/task/1";
const FRAME_KEY_LABEL: &[u8] = b"darkbloom/frame-key/1";
const FRAME_NONCE_LABEL: &[u8] = b"darkbloom/frame-nonce/1";

/// The KEM of a sealing, by its number in the HPKE registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum Suite {
    /// DHKEM(X25519, HKDF-SHA256), 0x0020.
    X25519,
    /// X-Wing: ML-KEM-768 and X25519 together, 0x647a. The default.
    XWing,
}

impl Suite {
    /// What a client takes where a worker offers several, best first.
    pub const PREFERENCE: [Self; 2] = [Self::XWing, Self::X25519];
}

impl From<Suite> for u16 {
    fn from(suite: Suite) -> Self {
        match suite {
            Suite::X25519 => X25519HkdfSha256::KEM_ID,
            Suite::XWing => XWing::KEM_ID,
        }
    }
}

impl TryFrom<u16> for Suite {
    type Error = SealError;

    fn try_from(id: u16) -> Result<Self, SealError> {
        Self::PREFERENCE.into_iter().find(|suite| u16::from(*suite) == id).ok_or(SealError::UnknownSuite { id })
    }
}

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The suite is not one that this version knows.
    #[error("unknown sealing suite {id:#06x}")]
    UnknownSuite {
        /// Its number.
        id: u16,
    },
    /// The public key is not one of its suite.
    #[error("malformed sealing key")]
    MalformedKey,
    /// The plaintext exceeds its limit.
    #[error("plaintext of {bytes} bytes, at most {limit} can be sealed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Sealed to another key, under another id, out of order, or changed on the way.
    #[error("not authentic")]
    NotAuthentic,
    /// Authentic, but not the message it should be.
    #[error("malformed plaintext")]
    Malformed,
    /// A frame after the last one.
    #[error("the answer has ended")]
    Ended,
}

impl From<codec::CodecError> for SealError {
    fn from(error: codec::CodecError) -> Self {
        match error {
            codec::CodecError::TooLong { bytes, limit } => Self::TooLong { bytes, limit },
            codec::CodecError::Malformed => Self::Malformed,
        }
    }
}

/// Short name of a sealing key: the first eight bytes of its BLAKE3 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 8]);

/// The public half of a worker's key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealingKey {
    /// Which KEM.
    pub suite: Suite,
    /// The key in the KEM's own encoding: 32 bytes for X25519, 1,216 for X-Wing.
    pub bytes: Vec<u8>,
}

impl SealingKey {
    /// The key's short name.
    pub fn id(&self) -> KeyId {
        let digest = blake3::hash(&self.bytes);
        KeyId(digest.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({:?}, {})", self.suite, data_encoding::HEXLOWER.encode(&self.id().0))
    }
}

/// A task on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedTask {
    /// Which of the worker's keys opens it.
    pub key: KeyId,
    /// Which KEM.
    pub suite: Suite,
    /// The KEM's ciphertext: fresh for each task, so its hash identifies the sealing (replay).
    pub encapsulated: Vec<u8>,
    /// The padded task, encrypted.
    pub ciphertext: Vec<u8>,
}

/// A worker's key pair. The private half never leaves the process that made it and is wiped when dropped.
pub struct WorkerKey {
    public: SealingKey,
    secret: SecretKey,
}

enum SecretKey {
    X25519(<X25519HkdfSha256 as Kem>::PrivateKey),
    // On the heap: moving the key pair leaves no copies of it behind.
    XWing(Box<<XWing as Kem>::PrivateKey>),
}

impl fmt::Debug for WorkerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerKey({:?})", self.public)
    }
}

impl WorkerKey {
    /// A fresh key pair from the system's random source.
    pub fn generate(suite: Suite) -> Self {
        let (secret, bytes) = match suite {
            Suite::X25519 => {
                let (secret, public) = X25519HkdfSha256::gen_keypair();
                (SecretKey::X25519(secret), public.to_bytes().to_vec())
            }
            Suite::XWing => {
                let (secret, public) = XWing::gen_keypair();
                (SecretKey::XWing(Box::new(secret)), public.to_bytes().to_vec())
            }
        };
        Self { public: SealingKey { suite, bytes }, secret }
    }

    /// The half that may be published.
    pub fn public(&self) -> &SealingKey {
        &self.public
    }

    /// Opens a task and the way back. The caller refuses an `encapsulated` that it has seen before.
    pub fn open_task(&self, id: TaskId, sealed: &SealedTask) -> Result<(Task, FrameSealer), SealError> {
        if sealed.suite != self.public.suite || sealed.key != self.public.id() {
            return Err(SealError::NotAuthentic);
        }
        if sealed.ciphertext.len() > padding::bucket(limits::TASK_BYTES_MAX, padding::TASK_BUCKET_MIN) + TAG_BYTES {
            return Err(SealError::TooLong { bytes: sealed.ciphertext.len(), limit: limits::TASK_BYTES_MAX });
        }
        let (padded, keys) = match &self.secret {
            SecretKey::X25519(secret) => open::<X25519HkdfSha256>(secret, id, sealed)?,
            SecretKey::XWing(secret) => open::<XWing>(secret, id, sealed)?,
        };
        let content = padding::unpad(&padded, padding::TASK_BUCKET_MIN).ok_or(SealError::Malformed)?;
        let task = codec::decode(content, limits::TASK_BYTES_MAX)?;
        Ok((task, FrameSealer(Numbered::new(keys))))
    }
}

/// Seals `task` to a worker's key. The second value opens the frames of its answer.
pub fn seal_task(key: &SealingKey, id: TaskId, task: &Task) -> Result<(SealedTask, FrameOpener), SealError> {
    let content = Zeroizing::new(codec::encode(task, limits::TASK_BYTES_MAX)?);
    let padded = Zeroizing::new(padding::pad(&content, padding::TASK_BUCKET_MIN, 0));
    let (encapsulated, ciphertext, keys) = match key.suite {
        Suite::X25519 => seal::<X25519HkdfSha256>(&key.bytes, id, &padded)?,
        Suite::XWing => seal::<XWing>(&key.bytes, id, &padded)?,
    };
    let sealed = SealedTask { key: key.id(), suite: key.suite, encapsulated, ciphertext };
    Ok((sealed, FrameOpener(Numbered::new(keys))))
}

/// Seals the frames of one answer, in order.
pub struct FrameSealer(Numbered);

impl FrameSealer {
    /// The next frame on the wire: padded, encrypted, bound to its place.
    pub fn seal(&mut self, frame: &Frame) -> Result<Vec<u8>, SealError> {
        let nonce = self.0.next_nonce()?;
        let content = Zeroizing::new(codec::encode(frame, limits::FRAME_BYTES_MAX)?);
        let mut buffer = padding::pad(&content, padding::FRAME_BUCKET_MIN, TAG_BYTES);
        self.0.cipher.encrypt_in_place(&nonce, b"", &mut buffer).map_err(|_| SealError::NotAuthentic)?;
        self.0.advance(frame.is_final());
        Ok(buffer)
    }
}

/// Opens the frames of one answer, in order.
pub struct FrameOpener(Numbered);

impl FrameOpener {
    /// The next frame. After an error the answer cannot go on; nothing of the frame is given.
    pub fn open(&mut self, sealed: &[u8]) -> Result<Frame, SealError> {
        if sealed.len() > padding::bucket(limits::FRAME_BYTES_MAX, padding::FRAME_BUCKET_MIN) + TAG_BYTES {
            return Err(SealError::TooLong { bytes: sealed.len(), limit: limits::FRAME_BYTES_MAX });
        }
        let nonce = self.0.next_nonce()?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        self.0.cipher.decrypt_in_place(&nonce, b"", &mut *buffer).map_err(|_| SealError::NotAuthentic)?;
        let content = padding::unpad(&buffer, padding::FRAME_BUCKET_MIN).ok_or(SealError::Malformed)?;
        let frame: Frame = codec::decode(content, limits::FRAME_BYTES_MAX)?;
        self.0.advance(frame.is_final());
        Ok(frame)
    }

    /// Whether the final frame has been opened. A stream that ends before is not an answer.
    pub fn is_complete(&self) -> bool {
        self.0.ended
    }
}

/// Bytes that the AEAD adds.
pub const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

struct FrameKeys {
    key: Zeroizing<[u8; 32]>,
    nonce: [u8; NONCE_BYTES],
}

struct Numbered {
    // Wipes its key when dropped.
    cipher: ChaCha20Poly1305,
    base_nonce: [u8; NONCE_BYTES],
    next: u64,
    ended: bool,
}

impl Numbered {
    fn new(keys: FrameKeys) -> Self {
        let cipher = ChaCha20Poly1305::new((&*keys.key).into());
        Self { cipher, base_nonce: keys.nonce, next: 0, ended: false }
    }

    fn next_nonce(&self) -> Result<Nonce, SealError> {
        if self.ended {
            return Err(SealError::Ended);
        }
        let mut nonce = self.base_nonce;
        for (byte, number) in nonce[NONCE_BYTES - 8..].iter_mut().zip(self.next.to_be_bytes()) {
            *byte ^= number;
        }
        Ok(nonce.into())
    }

    fn advance(&mut self, ended: bool) {
        self.ended = ended;
        self.next = self.next.checked_add(1).expect("nobody generates 2^64 frames");
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.base_nonce.zeroize();
    }
}

fn info(id: TaskId) -> [u8; INFO_LABEL.len() + 16] {
    let mut info = [0; INFO_LABEL.len() + 16];
    info[..INFO_LABEL.len()].copy_from_slice(INFO_LABEL);
    info[INFO_LABEL.len()..].copy_from_slice(id.as_bytes());
    info
}

fn seal<K: Kem>(public: &[u8], id: TaskId, padded: &[u8]) -> Result<(Vec<u8>, Vec<u8>, FrameKeys), SealError> {
    let public = K::PublicKey::from_bytes(public).map_err(|_| SealError::MalformedKey)?;
    let (encapsulated, mut context) = hpke::setup_sender::<HpkeAead, HkdfSha256, K>(&OpModeS::Base, &public, &info(id))
        .map_err(|_| SealError::MalformedKey)?;
    let ciphertext = context.seal(padded, b"").map_err(|_| SealError::MalformedKey)?;
    let keys = frame_keys(|label, out| context.export(label, out));
    Ok((encapsulated.to_bytes().to_vec(), ciphertext, keys))
}

fn open<K: Kem>(
    secret: &K::PrivateKey,
    id: TaskId,
    sealed: &SealedTask,
) -> Result<(Zeroizing<Vec<u8>>, FrameKeys), SealError> {
    let encapsulated = K::EncappedKey::from_bytes(&sealed.encapsulated).map_err(|_| SealError::NotAuthentic)?;
    let mut context = hpke::setup_receiver::<HpkeAead, HkdfSha256, K>(&OpModeR::Base, secret, &encapsulated, &info(id))
        .map_err(|_| SealError::NotAuthentic)?;
    let padded = context.open(&sealed.ciphertext, b"").map_err(|_| SealError::NotAuthentic)?;
    let keys = frame_keys(|label, out| context.export(label, out));
    Ok((Zeroizing::new(padded), keys))
}

fn frame_keys(export: impl Fn(&[u8], &mut [u8]) -> Result<(), hpke::HpkeError>) -> FrameKeys {
    let mut keys = FrameKeys { key: Zeroizing::new([0; 32]), nonce: [0; NONCE_BYTES] };
    export(FRAME_KEY_LABEL, &mut *keys.key).expect("32 bytes are within the export limit");
    export(FRAME_NONCE_LABEL, &mut keys.nonce).expect("12 bytes are within the export limit");
    keys
}

#[cfg(test)]
mod tests;
