//! Whose account an exchange is: from the credential that a client sends to a name for
//! it. A key itself is hashed as soon as it is read, and never kept.

use std::sync::Arc;

use hashbrown::HashMap;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use stillwatch_decide::Who;

/// SHA-256 of a key: what the credentials table and `credential_id` hold, in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialHash(pub [u8; 32]);

impl CredentialHash {
    /// The hash of a key as the client sends it, without `Bearer`.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        CredentialHash(Sha256::digest(key).into())
    }

    /// Reads 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(CredentialHash(hash))
    }

    /// 64 lower-case hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    // Formatted one by one, those of two hashes would take longer than the hashing.
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Who is billed for a credential's exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub account_id: Arc<str>,
    pub organization_id: Option<Arc<str>>,
}

impl Owner {
    /// The owner as the table of verdicts knows it.
    #[must_use]
    pub fn who(&self) -> Who<'_> {
        Who { account_id: &self.account_id, organization_id: self.organization_id.as_deref() }
    }
}

/// The table of credentials.
#[derive(Debug, Default)]
pub struct Credentials(pub HashMap<CredentialHash, Owner>);

/// The account of exchanges without a credential.
const ANONYMOUS: &str = "anonymous";

impl Credentials {
    /// The owner of a credential. One that is not in the table is its own account.
    #[must_use]
    pub fn owner(&self, credential: Option<&CredentialHash>) -> Owner {
        let Some(credential) = credential else {
            return Owner { account_id: ANONYMOUS.into(), organization_id: None };
        };
        self.0.get(credential).cloned().unwrap_or_else(|| {
            // Half of the hash tells accounts apart as well as the whole.
            let name = format!("key_{}", hex(credential.0.get(..16).unwrap_or_default()));
            Owner { account_id: name.into(), organization_id: None }
        })
    }
}

/// A request carries several credentials; which one the upstream believes is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// The hash of the credential that a request carries: OpenAI's and Anthropic's headers,
/// and Azure's.
///
/// # Errors
/// There are several that differ.
pub fn credential(headers: &HeaderMap) -> Result<Option<CredentialHash>, Ambiguous> {
    let mut found: Option<&[u8]> = None;
    // Gateways join a header that comes twice with a comma (RFC 9110, section 5.3), which
    // no key holds; other schemes, such as AWS's signatures, have commas of their own.
    let comma = |byte: &u8| *byte == b',';
    let bearer = headers.get_all(AUTHORIZATION).iter().flat_map(|value| {
        let value = value.as_bytes().trim_ascii();
        let is_bearer = token(value).is_some();
        value
            .split(move |byte| is_bearer && comma(byte))
            .map(|one| token(one.trim_ascii()).unwrap_or(one))
    });
    let plain = ["x-api-key", "api-key"].into_iter().flat_map(|name| headers.get_all(name));
    let plain = plain.flat_map(|value| value.as_bytes().split(comma));
    for key in bearer.chain(plain).map(<[u8]>::trim_ascii) {
        match found {
            _ if key.is_empty() => {}
            None => found = Some(key),
            Some(other) if other == key => {}
            Some(_) => return Err(Ambiguous),
        }
    }
    Ok(found.map(CredentialHash::of))
}

/// The token of `Bearer TOKEN`.
fn token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_key_is_found_wherever_clients_put_it() {
        let expected = Ok(Some(CredentialHash::of(b"sk-1")));
        for pairs in [
            &[("authorization", "Bearer sk-1")][..],
            &[("authorization", "bearer  sk-1 ")],
            &[("x-api-key", "sk-1")],
            &[("api-key", "sk-1")],
            &[("x-api-key", "sk-1"), ("authorization", "Bearer sk-1")],
            &[("x-api-key", "sk-1,sk-1"), ("authorization", "Bearer sk-1, Bearer sk-1")],
        ] {
            assert_eq!(credential(&headers(pairs)), expected, "{pairs:?}");
        }
        assert_eq!(credential(&HeaderMap::new()), Ok(None));
        let two = [("x-api-key", "sk-1"), ("authorization", "Bearer sk-2")];
        assert_eq!(credential(&headers(&two)), Err(Ambiguous));
        let two = [("x-api-key", "sk-1"), ("x-api-key", "sk-2")];
        assert_eq!(credential(&headers(&two)), Err(Ambiguous));
        for joined in [("x-api-key", "sk-1,sk-2"), ("authorization", "Bearer sk-1,Bearer sk-2")] {
            assert_eq!(credential(&headers(&[joined])), Err(Ambiguous));
        }
        let signature = "AWS4-HMAC-SHA256 Credential=a, Signature=b";
        let whole = Ok(Some(CredentialHash::of(signature.as_bytes())));
        assert_eq!(credential(&headers(&[("authorization", signature)])), whole);
    }

    #[test]
    fn an_unknown_key_is_its_own_account() {
        let hash = CredentialHash::of(b"sk-1");
        assert_eq!(CredentialHash::parse(&hash.hex()), Some(hash));
        assert_eq!(CredentialHash::parse("x"), None);
        let mut credentials = Credentials::default();
        assert_eq!(
            credentials.owner(Some(&hash)).account_id.as_ref(),
            "key_0f2c10bf3d128c719c6bfa4ecbae94b7"
        );
        assert_eq!(credentials.owner(None).account_id.as_ref(), "anonymous");
        let owner = Owner { account_id: "acct_1".into(), organization_id: Some("org".into()) };
        credentials.0.insert(hash, owner.clone());
        assert_eq!(credentials.owner(Some(&hash)), owner);
    }
}
