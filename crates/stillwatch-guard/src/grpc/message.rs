//! Heads of HTTP messages as Envoy writes them, and headers for it to set.

use envoy_types::ext_authz::v3::pb::{HeaderAppendAction, HeaderValue, HeaderValueOption};
use http::{HeaderMap, HeaderName, Method, StatusCode};

/// The head of a request or an answer.
#[derive(Debug, Default)]
pub struct Head {
    pub method: Method,
    /// With the query; empty for an answer.
    pub path: String,
    /// None for a request.
    pub status: Option<StatusCode>,
    pub headers: HeaderMap,
}

impl Head {
    /// From names and values, pseudo-headers (RFC 9113, section 8.3) among them. What HTTP
    /// does not allow in a header is left out.
    pub fn of(pairs: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut head = Head::default();
        for (name, value) in pairs {
            match name.as_str() {
                ":method" => head.method = Method::from_bytes(&value).unwrap_or_default(),
                ":path" => head.path = String::from_utf8_lossy(&value).into_owned(),
                ":status" => head.status = StatusCode::from_bytes(&value).ok(),
                _ => {
                    let name = HeaderName::try_from(name);
                    let value = http::HeaderValue::try_from(value);
                    if let (Ok(name), Ok(value)) = (name, value) {
                        // A map holds 32,768 headers, of which Envoy sends far fewer.
                        let _ = head.headers.try_append(name, value);
                    }
                }
            }
        }
        head
    }

    /// The path without its query.
    pub fn plain_path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }
}

/// Names and values; Envoy fills in one of a value's two forms.
pub fn pairs(headers: Vec<HeaderValue>) -> impl Iterator<Item = (String, Vec<u8>)> {
    headers.into_iter().map(|header| {
        let value =
            if header.raw_value.is_empty() { header.value.into_bytes() } else { header.raw_value };
        (header.key, value)
    })
}

/// A header that takes the place of those of its name.
pub fn set(name: &str, value: &[u8]) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: String::new(),
            raw_value: value.to_vec(),
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

/// The same for all of a map.
pub fn set_all(headers: &HeaderMap) -> Vec<HeaderValueOption> {
    headers.iter().map(|(name, value)| set(name.as_str(), value.as_bytes())).collect()
}
