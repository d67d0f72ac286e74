//! Keys that people choose: those that can be guessed are refused.

use std::path::Path;

use stillwatch_guard::ADMIN_KEY_BYTES_MIN as BYTES_MIN;

/// Keys that stand in examples.
const WELL_KNOWN: &[&str] =
    &["changeme", "change-me", "password", "secret", "default", "example", "admin", "test"];

/// A key that somebody has chosen, if it is hard to guess and fits into a header; or what is
/// wrong with it.
pub fn checked(key: String) -> Result<String, String> {
    let lower = key.to_ascii_lowercase();
    if key.len() < BYTES_MIN {
        return Err(format!("it needs at least {BYTES_MIN} bytes"));
    }
    let mut different: Vec<u8> = key.bytes().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < 6 || WELL_KNOWN.iter().any(|word| lower.contains(word)) {
        return Err("it can be guessed".to_owned());
    }
    if key.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err("it has to be visible ASCII, to go into a header".to_owned());
    }
    Ok(key)
}

/// Whether others can read a file.
#[cfg(unix)]
pub fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
pub fn is_open_to_others(_: &Path) -> bool {
    false
}
