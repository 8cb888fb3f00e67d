//! What stands in a block behind its header: signed bundles, in the order in which they count. The same list carries
//! bundles from one member to another.

use protocol::{
    codec::{self, CodecError},
    limits,
    signed::Signed,
};
use registry::Bundle;

/// A body of these bundles.
pub(crate) fn encode(bundles: &[&Signed<Bundle>]) -> Result<Vec<u8>, CodecError> {
    codec::encode(&bundles, limits::BLOCK_BODY_BYTES_MAX)
}

/// The bundles of a body. Nothing in them is verified.
pub(crate) fn decode(body: &[u8]) -> Option<Vec<Signed<Bundle>>> {
    // The bytes bound what is held: a bundle takes a hundred of them at least.
    let bundles: Vec<Signed<Bundle>> = codec::decode(body, limits::BLOCK_BODY_BYTES_MAX).ok()?;
    (bundles.len() <= limits::BLOCK_BUNDLES_MAX).then_some(bundles)
}
