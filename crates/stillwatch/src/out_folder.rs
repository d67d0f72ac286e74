//! A folder for results: made if need be, found writable before hours are spent, gone
//! again when nothing was written into it; and a place in it for what is not yet whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;

/// A folder that a run is going to write into.
#[derive(Debug)]
pub struct OutFolder {
    path: PathBuf,
    is_new: bool,
}

impl OutFolder {
    /// Makes the folder where there is none, and tries to write into it.
    pub fn prepare(path: &Path) -> Result<Self, Failure> {
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Failure::Other(format!(
                "cannot make the folder {}: a file is in the way",
                path.display()
            )),
            _ => Failure::at("make the folder", path)(error),
        })?;
        let folder = OutFolder { path: path.to_owned(), is_new };
        let trial = path.join(format!(".stillwatch-{}", std::process::id()));
        fs::write(&trial, b"can this folder be written?")
            .and_then(|()| fs::remove_file(&trial))
            .map_err(|error| {
                let _ = fs::remove_file(&trial);
                Failure::at("write into", path)(error)
            })?;
        Ok(folder)
    }

    /// The results are there.
    pub fn keep(mut self) {
        self.is_new = false;
    }
}

impl Drop for OutFolder {
    fn drop(&mut self) {
        if self.is_new {
            // Fails where something is in it, which is then somebody's.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// The name of the place for what is not yet whole. Readers pass over names that
/// begin with a dot.
const UNFINISHED: &str = ".unfinished";

/// A place for files that are not yet whole; removed with all that is in it unless
/// they are put in place.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    /// Makes the place in a folder, in place of what an earlier run may have left.
    pub fn begin(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(UNFINISHED);
        remove(&path).map_err(Failure::at("remove", &path))?;
        fs::create_dir(&path).map_err(Failure::at("make the folder", &path))?;
        Ok(Unfinished { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves every file and folder to the folder around, replacing what has the same
    /// name there; `last` comes last, being the mark of a whole.
    pub fn put_in_place(self, last: &str) -> Result<(), Failure> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(Failure::at("look into", &self.path))? {
            names.push(entry.map_err(Failure::at("look into", &self.path))?.file_name());
        }
        names.sort();
        names.sort_by_key(|name| name == last);
        for name in names {
            let place = folder.join(&name);
            if place.is_dir() {
                remove(&place).map_err(Failure::at("replace", &place))?;
            }
            fs::rename(self.path.join(&name), &place).map_err(Failure::at("write", &place))?;
        }
        Ok(())
    }

    /// Whether a name in a folder is that of an unfinished run.
    pub fn is_named(name: &std::ffi::OsStr) -> bool {
        name == UNFINISHED
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // A thread that was left behind may be writing still; once the folder is gone
        // it can make no further file.
        for _ in 0..100 {
            if remove(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
