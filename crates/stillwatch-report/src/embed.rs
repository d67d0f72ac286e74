//! What may stand inside a `<script>` element, and the policy that lets it run.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::ReportError;

/// A script with the source expression by which a content security policy admits it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) text: String,
    /// `'sha256-…'`
    pub(crate) hash: String,
}

impl Script {
    fn new(text: String) -> Self {
        let hash = format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
        Script { text, hash }
    }
}

/// The page's own script.
pub(crate) fn page_script() -> &'static Script {
    static SCRIPT: LazyLock<Script> =
        LazyLock::new(|| Script::new(include_str!("../templates/report.js").to_owned()));
    &SCRIPT
}

/// plotly.js as the `plotly` crate embeds it, without the MathJax that comes beside it.
///
/// # Errors
/// The crate hands it out in another shape than one `<script>` after the other.
pub(crate) fn chart_library() -> Result<&'static Script, ReportError> {
    static SCRIPT: LazyLock<Option<Script>> =
        LazyLock::new(|| first_script(&plotly::Plot::offline_js_sources()).map(Script::new));
    SCRIPT.as_ref().ok_or(ReportError::ChartLibrary)
}

fn first_script(sources: &str) -> Option<String> {
    let (_, after_tag) = sources.split_once("<script")?;
    let (_, text) = after_tag.split_once('>')?;
    let (text, _) = text.split_once("</script>")?;
    let head: String = text.chars().take(200).collect();
    // HTML turns a carriage return into a line feed before the policy's hash is taken.
    head.contains("plotly.js").then(|| text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// A value as JSON that can't leave the `<script>` it stands in.
///
/// `<`, `>` and `&` become `\u` escapes, so that no tag or comment can begin; so do
/// U+2028 and U+2029, which older scripts read as ends of line.
///
/// # Errors
/// The value can't be written as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let plain = serde_json::to_string(value)?;
    let mut safe = String::with_capacity(plain.len() + plain.len() / 16);
    for c in plain.chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            c => safe.push(c),
        }
    }
    Ok(safe)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_chart_library_is_plotly_alone() {
        let library = chart_library().unwrap();
        assert!(library.text.contains("plotly.js v"));
        assert!(!library.text.contains("MathJax-script"));
        assert!(!library.text.to_lowercase().contains("</script"));
        assert!(library.text.len() < 5_500_000, "{} bytes", library.text.len());
        assert_eq!(library.hash.len(), "'sha256-'".len() + 44);
    }

    #[test]
    fn without_plotly_there_is_no_library() {
        assert!(first_script("").is_none());
        assert!(first_script("<script>something else</script>").is_none());
        assert!(first_script("<script>plotly.js, cut off").is_none());
    }

    #[test]
    fn hashes_are_those_of_the_standard() {
        // The example in the Content Security Policy specification, level 3.
        let script = Script::new("alert('Hello, world.');".to_owned());
        assert_eq!(script.hash, "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='");
    }

    proptest! {
        #[test]
        fn json_stays_inside_its_script_and_says_the_same(
            text in "(\\PC|[<>&\u{2028}\u{2029}\0-\u{1f}]|</script>|<!--|<script){0,40}"
        ) {
            let json = json(&text).unwrap();
            let breaks_out = json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
            prop_assert!(!breaks_out);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
