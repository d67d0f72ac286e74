//! From the paths that a user typed to the files that can be read, and how each is
//! divided for reading in parallel.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use url::Url;

use crate::formats::parquet::{self, ParquetFile, RowGroup};
use crate::problems::{FileProblem, IngestError};
use crate::read::{AccountFilter, Batches, Meter, Projection};
use crate::records::{Layout, is_compressed};
use crate::sniff::{self, Looks};
use crate::storage::{Place, Remote, Stored};
use crate::table::{Format, Table};
use crate::text::{Naming, TextFile};

/// The deepest folder looked into below a given one.
const FOLDERS_DEEP_MAX: usize = 64;

/// How paths are to be understood.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The format of every file; `None` has each recognised by its content.
    pub format: Option<Format>,
    /// OpenTelemetry attributes that name the account, tried in this order before
    /// the usual ones.
    pub account_attributes: Vec<String>,
    /// Drives object stores; must be of the multi-threaded kind, for the reading
    /// threads wait for it. Local files need none.
    pub runtime: Option<Handle>,
    /// Settings for object stores by the names of their environment variables
    /// (`AWS_REGION`, …); a program passes `std::env::vars()`.
    pub store_options: Vec<(String, String)>,
    /// Stores to use for URLs that begin so, instead of one made from the URL; for
    /// embedding, and for tests.
    pub stores: Vec<(String, Arc<dyn ObjectStore>)>,
}

impl Options {
    fn naming(&self) -> Arc<Naming> {
        Arc::new(Naming { account_attributes: self.account_attributes.clone() })
    }
}

/// What was found below the given paths.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// The files that can be read, sorted by name. None is there twice, however
    /// many paths lead to it.
    pub sources: Vec<Source>,
    /// Files that can't, and columns that were left out, sorted.
    pub problems: Vec<FileProblem>,
    /// Names of columns of Parquet files that the contract does not know; those of
    /// other formats appear in [`Meter::unknown_columns`].
    pub unknown_columns: BTreeSet<String>,
}

/// A file that can be read.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    bytes: u64,
    table: Table,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Parquet(Arc<ParquetFile>),
    Text(Arc<TextFile>),
}

/// A part of a file that one thread reads: a row group of a Parquet file, or a
/// whole file of another format.
#[derive(Clone, Debug)]
pub struct Split {
    source: Source,
    row_group: Option<RowGroup>,
}

impl Source {
    /// A file that is in memory already, as [`discover`] would find it; `name` is
    /// what messages call it.
    ///
    /// # Errors
    /// It is no usable file of the table.
    pub fn from_bytes(
        name: &str,
        bytes: Bytes,
        table: Table,
        options: &Options,
    ) -> Result<Self, FileProblem> {
        let stored =
            Stored { name: name.to_owned(), size: bytes.len() as u64, place: Place::Memory(bytes) };
        source(stored, table, options.format, &options.naming(), &mut Discovery::default())
    }

    /// The path or URL, as messages name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn format(&self) -> Format {
        match &self.body {
            Body::Parquet(_) => Format::Parquet,
            Body::Text(file) => file.format,
        }
    }

    /// Whether it is plain text of lines, which may be read from any of them on, and to
    /// which more may be appended.
    ///
    /// # Errors
    /// It can't be read.
    pub fn is_plain_lines(&self) -> std::io::Result<bool> {
        match &self.body {
            Body::Text(file) if file.layout == Layout::Lines => {
                Ok(!is_compressed(file.stored.sequential()?)?)
            }
            _ => Ok(false),
        }
    }

    /// Some lines of this file, or of one like it, as a source of their own.
    #[must_use]
    pub fn lines(&self, lines: Bytes) -> Source {
        let body = match &self.body {
            Body::Parquet(file) => Body::Parquet(Arc::clone(file)),
            Body::Text(file) => {
                let (name, size) = (self.name.clone(), lines.len() as u64);
                let stored = Stored { name, size, place: Place::Memory(lines) };
                Body::Text(Arc::new(TextFile { stored, ..TextFile::clone(file) }))
            }
        };
        Source { body, ..self.clone() }
    }

    /// Its size as it is stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of rows, where the file says it beforehand.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        self.splits().iter().map(Split::rows).sum()
    }

    /// The parts of it, in the order of its rows.
    #[must_use]
    pub fn splits(&self) -> Vec<Split> {
        let split = |row_group| Split { source: self.clone(), row_group };
        match &self.body {
            Body::Parquet(file) => file.row_groups().into_iter().map(|g| split(Some(g))).collect(),
            Body::Text(_) => vec![split(None)],
        }
    }
}

impl Split {
    /// The file that it is a part of.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The row group, for a Parquet file.
    #[must_use]
    pub fn row_group(&self) -> Option<usize> {
        self.row_group.map(|g| g.index)
    }

    /// The number of rows, where the file says it beforehand.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        self.row_group.map(|g| g.rows)
    }

    /// Bytes as they are stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.row_group.map_or(self.source.bytes, |g| g.bytes)
    }

    /// Reads these columns, in this order; the same rows whichever they are.
    ///
    /// With a filter, only rows of accounts that pass are given, and the text of the
    /// others is not decoded; rows without a usable account are neither given nor
    /// counted then. Blocks the calling thread while it waits for bytes.
    ///
    /// # Errors
    /// The file can't be opened, or the table has no column of such a name. Trouble
    /// further on comes as the last item, after the batches before it.
    pub fn read(
        &self,
        columns: &[&str],
        filter: Option<AccountFilter>,
        meter: &Arc<Meter>,
    ) -> Result<Batches, FileProblem> {
        let projection = Projection::new(&self.source.name, self.source.table, columns)?;
        match (&self.source.body, self.row_group) {
            (Body::Parquet(file), Some(group)) => {
                Ok(Batches::new(file.read(group, &projection, filter, meter)?))
            }
            (Body::Text(file), _) => Ok(Batches::new(file.read(projection, filter, meter)?)),
            (Body::Parquet(_), None) => Ok(Batches::new(std::iter::empty())),
        }
    }
}

/// Finds the files of a table below paths: files, folders (to the last subfolder),
/// glob patterns and object-store URLs (`s3://`, `gs://`, `az://`, `http(s)://`,
/// `file://`; with `*` in the path a pattern, otherwise an object or a prefix).
///
/// Names that begin with a dot or an underscore (`_SUCCESS`, `_metadata`) are passed
/// over below folders and patterns. Parquet footers are read, of other files the
/// beginning. Whatever is no usable file is named in [`Discovery::problems`].
///
/// # Errors
/// A path leads nowhere, a pattern matches nothing, a URL can't be used or its store
/// not be reached.
pub fn discover(
    paths: &[String],
    table: Table,
    options: &Options,
) -> Result<Discovery, IngestError> {
    let mut files = BTreeMap::new();
    for path in paths {
        let found = if path.contains("://") { remote(path, options)? } else { local(path)? };
        for stored in found {
            files.entry(stored.name.clone()).or_insert(stored);
        }
    }

    Ok(opened(files, table, options, &mut HashSet::new()))
}

/// The files of one of the tables that accompany exchanges, below one path. Their format is
/// always recognised by content. `seen` are the local files that were met so far; a file
/// among them is passed over. How many there are is told as well.
pub(crate) fn discover_companion(
    path: &str,
    table: Table,
    options: &Options,
    seen: &mut HashSet<PathBuf>,
) -> Result<(Discovery, usize), IngestError> {
    let found = if path.contains("://") { remote(path, options)? } else { local(path)? };
    let files: BTreeMap<_, _> = found.into_iter().map(|s| (s.name.clone(), s)).collect();
    let count = files.len();
    Ok((opened(files, table, &Options { format: None, ..options.clone() }, seen), count))
}

/// Looks into files, by name.
fn opened(
    files: BTreeMap<String, Stored>,
    table: Table,
    options: &Options,
    seen: &mut HashSet<PathBuf>,
) -> Discovery {
    let naming = options.naming();
    let mut discovery = Discovery::default();
    for (_, stored) in files {
        // The same file by another path must not be read twice.
        if let Place::Local(path) = &stored.place
            && let Ok(canonical) = path.canonicalize()
            && !seen.insert(canonical)
        {
            continue;
        }
        match source(stored, table, options.format, &naming, &mut discovery) {
            Ok(source) => discovery.sources.push(source),
            Err(problem) => discovery.problems.push(problem),
        }
    }
    discovery.problems.sort();
    discovery
}

/// The local files below paths as [`discover`] finds them, with their sizes in bytes,
/// without a look into any.
///
/// # Errors
/// A path leads nowhere, a pattern matches nothing or a folder can't be read.
pub fn local_files(paths: &[String]) -> Result<BTreeMap<String, u64>, IngestError> {
    let mut files = BTreeMap::new();
    for path in paths {
        files.extend(local(path)?.into_iter().map(|stored| (stored.name, stored.size)));
    }
    Ok(files)
}

fn source(
    stored: Stored,
    table: Table,
    format: Option<Format>,
    naming: &Arc<Naming>,
    discovery: &mut Discovery,
) -> Result<Source, FileProblem> {
    let name = stored.name.clone();
    let bytes = stored.size;
    let problem = |what: &dyn std::fmt::Display| FileProblem::new(&name, what);
    let body = match sniff::look(&stored, table, format).map_err(|e| problem(&e))? {
        Looks::Parquet => {
            // Exchanges have what is required of accounts, and would be taken for them.
            if table != Table::Exchanges && parquet::open(stored.clone(), Table::Exchanges).is_ok()
            {
                return Err(problem(&looks_like_exchanges(table)));
            }
            let opened = parquet::open(stored, table)?;
            discovery.unknown_columns.extend(opened.unknown_columns);
            discovery.problems.extend(opened.problems);
            Body::Parquet(Arc::new(opened.file))
        }
        Looks::Text(format, layout) => {
            if table != Table::Exchanges && format != Format::JsonLines {
                let what = format!("{table} are read from parquet and jsonl, not from {format}");
                return Err(problem(&what));
            }
            let naming = Arc::clone(naming);
            Body::Text(Arc::new(TextFile { stored, format, layout, table, naming }))
        }
        Looks::Exchanges => return Err(problem(&looks_like_exchanges(table))),
        Looks::Empty => return Err(problem(&"is empty")),
        Looks::UnknownJson => {
            let required = table.required().join(" and ");
            return Err(problem(&format!(
                "its JSON is no table of {table} (no {required}) and no known log format"
            )));
        }
        Looks::Unknown => {
            let known = Format::names();
            return Err(problem(&format!("its format is not recognised; known are {known}")));
        }
    };
    Ok(Source { name, bytes, table, body })
}

fn looks_like_exchanges(table: Table) -> String {
    format!("this looks like exchanges, not like {table}")
}

fn is_passed_over(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

fn local(path: &str) -> Result<Vec<Stored>, IngestError> {
    let mut found = Vec::new();
    let given = Path::new(path);
    if given.exists() {
        gather(given, 0, &mut HashSet::new(), &mut found)?;
        return Ok(found);
    }
    if !path.contains(['*', '?', '[']) {
        return Err(IngestError::NotFound { path: path.to_owned() });
    }
    let options = glob::MatchOptions {
        require_literal_separator: true,
        require_literal_leading_dot: true,
        ..glob::MatchOptions::default()
    };
    let matches = glob::glob_with(path, options)
        .map_err(|source| IngestError::BadPattern { pattern: path.to_owned(), source })?;
    for matched in matches {
        let matched = matched.map_err(|error| IngestError::Unreadable {
            path: error.path().display().to_string(),
            source: error.into(),
        })?;
        let name = matched.file_name().unwrap_or_default().to_string_lossy();
        if !is_passed_over(&name) {
            gather(&matched, 0, &mut HashSet::new(), &mut found)?;
        }
    }
    if found.is_empty() {
        return Err(IngestError::NothingMatches { pattern: path.to_owned() });
    }
    Ok(found)
}

/// Adds a file, or all files below a folder.
fn gather(
    path: &Path,
    depth: usize,
    folders: &mut HashSet<PathBuf>,
    found: &mut Vec<Stored>,
) -> Result<(), IngestError> {
    let unreadable = |source| IngestError::Unreadable { path: path.display().to_string(), source };
    let metadata = path.metadata().map_err(unreadable)?;
    if !metadata.is_dir() {
        found.push(Stored {
            name: path.display().to_string(),
            size: metadata.len(),
            place: Place::Local(path.to_owned()),
        });
        return Ok(());
    }
    // A link may lead back up.
    let canonical = path.canonicalize().map_err(unreadable)?;
    if depth > FOLDERS_DEEP_MAX || !folders.insert(canonical) {
        return Ok(());
    }
    for entry in path.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if is_passed_over(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let below = entry.path();
        // A dangling link is no file.
        if below.exists() {
            gather(&below, depth + 1, folders, found)?;
        }
    }
    Ok(())
}

fn remote(text: &str, options: &Options) -> Result<Vec<Stored>, IngestError> {
    let url: Url = text.parse().map_err(|e: url::ParseError| IngestError::BadUrl {
        url: without_secrets(text),
        what: e.to_string(),
    })?;
    let shown = shown_url(&url);
    let bad = |what: String| IngestError::BadUrl { url: shown.clone(), what };
    if url.scheme() == "file" {
        let path = url.to_file_path().map_err(|()| bad("not a local path".to_owned()))?;
        let path = path.to_str().ok_or_else(|| bad("not a UTF-8 path".to_owned()))?;
        return local(path);
    }
    let Some(runtime) = options.runtime.clone() else {
        return Err(IngestError::NoRuntime { url: shown });
    };
    let given = options.stores.iter().find(|(prefix, _)| text.starts_with(prefix.as_str()));
    let (store, path): (Arc<dyn ObjectStore>, _) = match given {
        Some((prefix, store)) => {
            let path = text.get(prefix.len()..).unwrap_or_default();
            let path = object_store::path::Path::parse(path).map_err(|e| bad(e.to_string()))?;
            (Arc::clone(store), path)
        }
        None => {
            let mut store_options = options.store_options.clone();
            if url.scheme() == "http" {
                // Whoever types http:// means it.
                store_options.push(("allow_http".to_owned(), "true".to_owned()));
            }
            let (store, path) = object_store::parse_url_opts(&url, store_options)
                .map_err(|e| bad(e.to_string()))?;
            (Arc::from(store), path)
        }
    };
    // Names are the URL's beginning and the object's path.
    let base = shown.strip_suffix(path.as_ref()).unwrap_or(&shown).to_owned();
    let objects = objects(&store, &path, &runtime)
        .map_err(|source| IngestError::Unreachable { url: shown.clone(), source })?;
    let found: Vec<Stored> = objects
        .into_iter()
        .map(|meta| Stored {
            name: format!("{base}{}", meta.location),
            size: meta.size,
            place: Place::Remote(Remote {
                store: Arc::clone(&store),
                path: meta.location,
                runtime: runtime.clone(),
            }),
        })
        .collect();
    match found.is_empty() {
        true if path.as_ref().contains('*') => Err(IngestError::NothingMatches { pattern: shown }),
        true => Err(IngestError::NotFound { path: shown }),
        false => Ok(found),
    }
}

/// The object of that path, those that match it as a pattern, or those below it.
fn objects(
    store: &Arc<dyn ObjectStore>,
    path: &object_store::path::Path,
    runtime: &Handle,
) -> object_store::Result<Vec<object_store::ObjectMeta>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let (store, path) = (Arc::clone(store), path.clone());
    runtime.spawn(async move {
        let listed = async {
            let is_pattern = path.as_ref().contains('*');
            let mut head_error = None;
            if !is_pattern && !path.as_ref().is_empty() {
                match store.head(&path).await {
                    Ok(meta) => return Ok(vec![meta]),
                    Err(error) => head_error = Some(error),
                }
            }
            let fixed = path.as_ref().split('*').next().unwrap_or_default();
            let folder = if is_pattern {
                fixed.rsplit_once('/').map_or("", |(folder, _)| folder)
            } else {
                fixed
            };
            let folder = object_store::path::Path::parse(folder)?;
            let pattern = is_pattern.then(|| glob::Pattern::new(path.as_ref())).transpose();
            let pattern = pattern.map_err(|e| object_store::Error::Generic {
                store: "pattern",
                source: Box::new(e),
            })?;
            let options = glob::MatchOptions {
                require_literal_separator: true,
                ..glob::MatchOptions::default()
            };
            let mut objects = Vec::new();
            let mut list = store.list(Some(&folder));
            while let Some(meta) = list.next().await {
                // Web servers can't list; what they said of the object is the news.
                let meta = meta.map_err(|error| head_error.take().unwrap_or(error))?;
                let below = meta.location.prefix_match(&folder);
                let hidden =
                    below.is_some_and(|mut parts| parts.any(|p| is_passed_over(p.as_ref())));
                let matches = pattern
                    .as_ref()
                    .is_none_or(|p| p.matches_with(meta.location.as_ref(), options));
                if !hidden && matches && meta.size > 0 {
                    objects.push(meta);
                }
            }
            Ok(objects)
        };
        let listed: object_store::Result<_> = listed.await;
        // The caller waits below.
        let _ = sender.send(listed);
    });
    receiver.recv().unwrap_or_else(|_| {
        Err(object_store::Error::Generic {
            store: "runtime",
            source: "the runtime has been shut down".into(),
        })
    })
}

/// The URL without what may be secret: user, password, query, fragment.
fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // These fail for URLs that have no host, which have no user either.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

fn without_secrets(text: &str) -> String {
    text.split(['?', '#', '@']).next().unwrap_or_default().to_owned()
}
