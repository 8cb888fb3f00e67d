use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, RangeCfg, Read, Write};
use commonware_consensus::{BoundedBlock, Heightable, types::Height};
use commonware_cryptography::{Digested, Digestible, blake3};
use protocol::{codec, header::Header, limits, proof::Digest};
use std::{fmt, sync::Arc};

const BODY: &str = "darkbloom 2026-11 body 1";

/// The hash by which a header names its block's body.
pub fn body_digest(body: &[u8]) -> Digest {
    ::blake3::derive_key(BODY, body)
}

/// A block: a header, whose digest is the block's, and the body that it names. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Block(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    header: Header,
    digest: Digest,
    /// The header as it is stored and sent.
    head: Vec<u8>,
    body: Bytes,
}

impl Block {
    /// `None` if the body is not the one that the header names, or longer than [`limits::BLOCK_BODY_BYTES_MAX`].
    pub fn new(header: Header, body: impl Into<Bytes>) -> Option<Self> {
        let body = body.into();
        if body.len() > limits::BLOCK_BODY_BYTES_MAX || body_digest(&body) != header.body {
            return None;
        }
        let digest = header.digest();
        let head = codec::encode(&header, limits::ANCHOR_BYTES_MAX).ok()?;
        Some(Self(Arc::new(Parts { header, digest, head, body })))
    }

    /// Its head.
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// Its identity: the digest of its header.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    pub(crate) fn digested(self) -> Digested<Self> {
        let digest = blake3::Digest(self.digest());
        Digested::precomputed(self, digest)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = u64::from_be_bytes(self.0.digest[..8].try_into().expect("eight of 32 bytes"));
        write!(f, "Block({}, {digest:016x}, {} bytes)", self.0.header.height, self.0.body.len())
    }
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.head.len().write(buf);
        buf.put_slice(&self.0.head);
        self.0.body.write(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        let head = self.0.head.len();
        head.encode_size() + head + self.0.body.encode_size()
    }
}

impl Read for Block {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, Error> {
        let head = Bytes::read_cfg(buf, &RangeCfg::from(0..=limits::ANCHOR_BYTES_MAX))?;
        let header = codec::decode(&head, limits::ANCHOR_BYTES_MAX).map_err(|_| Error::Invalid("block", "header"))?;
        let body = Bytes::read_cfg(buf, &RangeCfg::from(0..=limits::BLOCK_BODY_BYTES_MAX))?;
        // The digest covers the header alone: a body that the header does not name must never exist as a value.
        Self::new(header, body).ok_or(Error::Invalid("block", "another body"))
    }
}

impl Digestible for Block {
    type Digest = blake3::Digest;

    fn digest(&self) -> blake3::Digest {
        blake3::Digest(self.0.digest)
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        Height::new(self.0.header.height)
    }
}

impl commonware_consensus::Block for Block {
    fn parent(&self) -> blake3::Digest {
        blake3::Digest(self.0.header.parent)
    }
}

impl BoundedBlock for Block {
    fn max_encode_size((): &()) -> usize {
        // Two lengths of at most five bytes each.
        10 + limits::ANCHOR_BYTES_MAX + limits::BLOCK_BODY_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::{Copying, DecodeExt as _, Encode as _};
    use protocol::ids::PoolId;

    fn header(body: &[u8]) -> Header {
        Header {
            pool: PoolId([1; 32]),
            epoch: 2,
            height: 300,
            parent: [3; 32],
            unix_ms: u64::MAX,
            state: [4; 32],
            body: body_digest(body),
            committee: [5; 32],
            next_committee: [6; 32],
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let block = Block::new(header(b"facts"), b"facts".to_vec()).unwrap();
        let bytes = block.encode();
        assert_eq!(bytes.len(), block.encode_size());
        assert_eq!(Block::decode(Copying(&bytes)).unwrap(), block);
        for length in 0..bytes.len() {
            assert!(Block::decode(Copying(&bytes[..length])).is_err());
        }
        let mut changed = bytes.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        assert!(Block::decode(Copying(&changed)).is_err(), "another body");
    }

    #[test]
    fn a_body_is_the_one_that_the_header_names_and_bounded() {
        assert!(Block::new(header(b"facts"), b"lies!".to_vec()).is_none());
        let longest = vec![7; limits::BLOCK_BODY_BYTES_MAX];
        let block = Block::new(header(&longest), longest).unwrap();
        assert!(block.encode_size() <= Block::max_encode_size(&()));
        let longer = vec![7; limits::BLOCK_BODY_BYTES_MAX + 1];
        assert!(Block::new(header(&longer), longer).is_none());
    }
}
