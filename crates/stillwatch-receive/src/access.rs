//! Who may send: anybody, or whoever has the key.

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What senders prove themselves with: `authorization: Bearer KEY` (RFC 6750, section 2.1).
/// Only its hash is kept.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    #[must_use]
    pub fn new(key: &str) -> Self {
        Key(Sha256::digest(key.as_bytes()).into())
    }

    /// Whether a request carries it.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let Some((scheme, key)) = given.and_then(<[u8]>::split_first_chunk::<7>) else {
            return false;
        };
        // How long hashes take to compare tells nothing of the key.
        scheme.eq_ignore_ascii_case(b"bearer ")
            && bool::from(Sha256::digest(key).as_slice().ct_eq(&self.0))
    }
}
