//! Halves of surrogate pairs in JSON: `"\ud83d"` alone is syntax that JSON allows
//! and text that nothing can hold. Programs that cut strings by UTF-16 units, or
//! Python's `json.dumps`, write it.

/// Replaces every `\uD800`–`\uDFFF` escape that is not part of a pair by `\uFFFD`.
pub(crate) fn replace_lone(json: &str) -> String {
    let mut mended = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let length = match unit(escape) {
            Some(0xd800..=0xdbff) => {
                let low = escape.get(6..).and_then(unit);
                if matches!(low, Some(0xdc00..=0xdfff)) { 12 } else { 0 }
            }
            Some(0xdc00..=0xdfff) => 0,
            Some(_) => 6,
            // Two characters, the second of which may be a backslash itself.
            None => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        if length == 0 {
            mended.push_str("\\ufffd");
            rest = escape.get(6..).unwrap_or_default();
        } else {
            let (kept, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
            mended.push_str(kept);
            rest = after;
        }
    }
    mended.push_str(rest);
    mended
}

/// The UTF-16 unit of an escape at the start of the text.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lone_halves_are_replaced() {
        for (json, mended) in [
            (r#""a\ud83db""#, r#""a\ufffdb""#),
            (r#""\ud83d\ude00 \n \u00e4""#, r#""\ud83d\ude00 \n \u00e4""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\\ud83d \\\ud83d""#, r#""\\ud83d \\\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#"\u12 \ä \"#, r#"\u12 \ä \"#),
        ] {
            assert_eq!(replace_lone(json), mended);
        }
    }
}
