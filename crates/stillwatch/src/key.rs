//! The secret that sketches are keyed with, from a file.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use stillwatch_detect::observe::Key;

use crate::failure::Failure;

/// A shorter secret could be found by trying.
const SECRET_BYTES_MIN: usize = 16;
/// A longer file is some other file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where the key comes from.
#[derive(Debug, Args)]
pub struct KeyFile {
    /// A file with secret bytes, at least 16, that prompts are hashed under; sketches
    /// must be hunted with the key they were made with. `head -c 32 /dev/urandom` makes one.
    #[arg(long = "key-file", value_name = "FILE")]
    path: Option<PathBuf>,
}

impl KeyFile {
    /// Whether a file was named.
    pub fn is_given(&self) -> bool {
        self.path.is_some()
    }

    /// The key; the public one where no file was named. A line end at the file's end
    /// is no part of the secret.
    pub fn read(&self) -> Result<Key, Failure> {
        let Some(path) = &self.path else { return Ok(Key::public()) };
        let refused = |why: &dyn std::fmt::Display| {
            Failure::Usage(format!("the key file {} can't be used: {why}", path.display()))
        };
        let mut secret = Vec::new();
        File::open(path)
            .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut secret))
            .map_err(|error| refused(&error))?;
        if secret.len() as u64 > SECRET_BYTES_MAX {
            return Err(refused(&format_args!("it is longer than {SECRET_BYTES_MAX} bytes")));
        }
        if secret.last() == Some(&b'\n') {
            secret.pop();
            if secret.last() == Some(&b'\r') {
                secret.pop();
            }
        }
        if secret.len() < SECRET_BYTES_MIN {
            return Err(refused(&format_args!(
                "it holds {} bytes, and a secret needs at least {SECRET_BYTES_MIN}",
                secret.len()
            )));
        }
        Ok(Key::derive(&secret))
    }
}
