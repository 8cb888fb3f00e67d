//! The few calls of `aws-lc-rs` that `commonware-cryptography` makes, answered by `ring`.
//!
//! The real crate is a second cryptographic library, in C, built by cmake; `deny.toml` bans it, because ring is in the tree
//! already. `commonware-cryptography` asks for it whatever its features are, for ChaCha20-Poly1305 (connections of its own
//! network) and for ECDSA (keys of another kind than ours); neither is used here, and both work.
//!
//! Everything is ring's own type but [`aead::LessSafeKey`]: ring's `open_in_place_separate_tag` wants the tag as a
//! `Tag` and a range, that of aws-lc a slice.

/// Errors.
pub mod error {
    pub use ring::error::Unspecified;
}

/// Signatures.
pub mod signature {
    pub use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
}

/// Encryption with authentication.
pub mod aead {
    pub use ring::aead::{Aad, CHACHA20_POLY1305, Nonce, Tag, UnboundKey};

    use crate::error::Unspecified;

    /// A key whose nonces are the caller's business.
    pub struct LessSafeKey(ring::aead::LessSafeKey);

    impl LessSafeKey {
        /// Of this key.
        pub fn new(key: UnboundKey) -> Self {
            Self(ring::aead::LessSafeKey::new(key))
        }

        /// Encrypts `in_out` and returns its tag.
        pub fn seal_in_place_separate_tag<A: AsRef<[u8]>>(
            &self,
            nonce: Nonce,
            aad: Aad<A>,
            in_out: &mut [u8],
        ) -> Result<Tag, Unspecified> {
            self.0.seal_in_place_separate_tag(nonce, aad, in_out)
        }

        /// Decrypts `in_out`, if `tag` is its tag.
        pub fn open_in_place_separate_tag<'data, A: AsRef<[u8]>>(
            &self,
            nonce: Nonce,
            aad: Aad<A>,
            tag: &[u8],
            in_out: &'data mut [u8],
        ) -> Result<&'data mut [u8], Unspecified> {
            let tag = Tag::try_from(tag).map_err(|_| Unspecified)?;
            self.0.open_in_place_separate_tag(nonce, aad, tag, in_out, 0..)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// RFC 8439, 2.8.2.
    #[test]
    fn seals_and_opens_the_vector_of_the_standard() {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &(0x80..=0x9f).collect::<Vec<u8>>()).unwrap();
        let key = LessSafeKey::new(key);
        let nonce: [u8; 12] = bytes("07000000 4041424344454647").try_into().unwrap();
        let nonce = || Nonce::assume_unique_for_key(nonce);
        let aad = bytes("50515253c0c1c2c3c4c5c6c7");
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.";
        let mut data = plain.to_vec();
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(&aad), &mut data).unwrap();
        assert_eq!(data[..16], bytes("d31a8d34648e60db7b86afbc53ef7ec2"));
        assert_eq!(tag.as_ref(), bytes("1ae10b594f09e26a7e902ecbd0600691"));
        let mut broken = data.clone();
        broken[3] ^= 1;
        assert!(key.open_in_place_separate_tag(nonce(), Aad::from(&aad), tag.as_ref(), &mut broken).is_err());
        assert!(key.open_in_place_separate_tag(nonce(), Aad::from(&aad), &tag.as_ref()[1..], &mut data).is_err());
        key.open_in_place_separate_tag(nonce(), Aad::from(&aad), tag.as_ref(), &mut data).unwrap();
        assert_eq!(data, plain);
    }
}
