//! Files and objects, read synchronously: local ones with `std::fs`, remote ones
//! through `object_store` on a runtime that the caller gives.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Handle;

use crate::formats::thrift::{self, Look, PAGE_HEADER};

/// Bytes of one request of a sequential read; two are in memory at a time.
const SEQUENTIAL_BYTES: u64 = 8 << 20;
/// Bytes of one cached block of a random read. Parquet asks for pages of a megabyte
/// or less, column after column, and a request a page would be mostly waiting.
const BLOCK_BYTES: u64 = 1 << 20;
/// The longest page header; statistics make some long, a megabyte makes no sense.
const PAGE_HEADER_BYTES_MAX: u64 = 1 << 20;
/// Cached blocks of one open object: 48 MiB, more than one block per column.
const BLOCKS_MAX: usize = 48;

/// A file or object: where it is, and what it is called in messages.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub name: String,
    /// As listed, in bytes.
    pub size: u64,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Local(PathBuf),
    Remote(Remote),
    Memory(Bytes),
}

/// An object and the means to read it without an async caller.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub store: Arc<dyn ObjectStore>,
    pub path: object_store::path::Path,
    pub runtime: Handle,
}

impl Remote {
    /// Starts to fetch a range; the answer comes through the channel. Spawning and
    /// not `block_on`, which panics where the calling thread drives a runtime.
    fn fetch(&self, start: u64, end: u64) -> mpsc::Receiver<object_store::Result<Bytes>> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let Remote { store, path, .. } = self.clone();
        self.runtime.spawn(async move {
            // Whoever asked may have gone: then nobody misses the answer.
            let _ = sender.send(store.get_range(&path, start..end).await);
        });
        receiver
    }

    fn wait(receiver: &mpsc::Receiver<object_store::Result<Bytes>>) -> io::Result<Bytes> {
        match receiver.recv() {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => Err(io::Error::other("the runtime has been shut down")),
        }
    }
}

impl Stored {
    /// Opens it for reading from start to end.
    pub fn sequential(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match &self.place {
            Place::Local(path) => Box::new(File::open(path)?),
            Place::Remote(remote) => Box::new(Sequential {
                remote: remote.clone(),
                size: self.size,
                asked: 0,
                coming: None,
                at_hand: Bytes::new(),
            }),
            Place::Memory(bytes) => Box::new(io::Cursor::new(bytes.clone())),
        })
    }

    /// Opens it for reading anywhere.
    pub fn random(&self) -> io::Result<Random> {
        Ok(match &self.place {
            Place::Local(path) => {
                let file = File::open(path)?;
                let size = file.metadata()?.len();
                Random { size, bytes: RandomBytes::Local(Arc::new(file)), guards_pages: false }
            }
            Place::Remote(remote) => Random {
                size: self.size,
                bytes: RandomBytes::Remote(Arc::new(Blocks {
                    remote: remote.clone(),
                    size: self.size,
                    recent: Mutex::new(Vec::new()),
                })),
                guards_pages: false,
            },
            Place::Memory(bytes) => {
                let size = bytes.len() as u64;
                Random { size, bytes: RandomBytes::Memory(bytes.clone()), guards_pages: false }
            }
        })
    }
}

/// An object from start to end, one request ahead of the reader.
struct Sequential {
    remote: Remote,
    size: u64,
    asked: u64,
    coming: Option<mpsc::Receiver<object_store::Result<Bytes>>>,
    at_hand: Bytes,
}

impl Sequential {
    fn ask(&mut self) {
        if self.asked < self.size {
            let end = self.size.min(self.asked + SEQUENTIAL_BYTES);
            self.coming = Some(self.remote.fetch(self.asked, end));
            self.asked = end;
        }
    }
}

impl Read for Sequential {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at_hand.is_empty() {
            if self.coming.is_none() {
                self.ask();
            }
            let Some(coming) = self.coming.take() else {
                return Ok(0);
            };
            self.at_hand = Remote::wait(&coming)?;
            self.ask();
        }
        let length = into.len().min(self.at_hand.len());
        let part = self.at_hand.split_to(length);
        into[..length].copy_from_slice(&part);
        Ok(length)
    }
}

/// A file or object that can be read anywhere, from several threads.
#[derive(Clone)]
pub(crate) struct Random {
    size: u64,
    bytes: RandomBytes,
    /// Readers are only used for page headers, which are to be looked through first.
    guards_pages: bool,
}

#[derive(Clone)]
enum RandomBytes {
    Local(Arc<File>),
    Remote(Arc<Blocks>),
    Memory(Bytes),
}

struct Blocks {
    remote: Remote,
    size: u64,
    /// The least recently used first, at most [`BLOCKS_MAX`].
    recent: Mutex<Vec<(u64, Bytes)>>,
}

impl Blocks {
    fn block(&self, index: u64) -> io::Result<Bytes> {
        // A poisoned lock guards a cache that is whole at every step.
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = recent.iter().position(|(i, _)| *i == index) {
            let found = recent.remove(position);
            let bytes = found.1.clone();
            recent.push(found);
            return Ok(bytes);
        }
        let start = index * BLOCK_BYTES;
        let end = self.size.min(start + BLOCK_BYTES);
        let bytes = Remote::wait(&self.remote.fetch(start, end))?;
        if recent.len() >= BLOCKS_MAX {
            recent.remove(0);
        }
        recent.push((index, bytes.clone()));
        Ok(bytes)
    }

    /// Up to `length` bytes from `start`, as many as one block has.
    fn some(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let block = self.block(start / BLOCK_BYTES)?;
        let offset = usize::try_from(start % BLOCK_BYTES).unwrap_or(usize::MAX).min(block.len());
        let end = block.len().min(offset.saturating_add(length));
        Ok(block.slice(offset..end))
    }
}

impl Random {
    /// For reading pages: refuses page headers that would take years to parse.
    pub fn guarding_pages(self) -> Self {
        Random { guards_pages: true, ..self }
    }

    fn read_at(&self, start: u64, into: &mut [u8]) -> io::Result<usize> {
        match &self.bytes {
            RandomBytes::Local(file) => read_file_at(file, into, start),
            RandomBytes::Remote(blocks) => {
                let length = usize::try_from(self.size.saturating_sub(start))
                    .unwrap_or(usize::MAX)
                    .min(into.len());
                if length == 0 {
                    return Ok(0);
                }
                let part = blocks.some(start, length)?;
                into[..part.len()].copy_from_slice(&part);
                Ok(part.len())
            }
            RandomBytes::Memory(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
                let part = &bytes[start..bytes.len().min(start.saturating_add(into.len()))];
                into[..part.len()].copy_from_slice(part);
                Ok(part.len())
            }
        }
    }
}

#[cfg(unix)]
fn read_file_at(file: &File, into: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, into, start)
}

#[cfg(windows)]
fn read_file_at(file: &File, into: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, into, start)
}

impl Length for Random {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Random {
    type T = ChunkRead;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let section = Section { random: self.clone(), position: start };
        Ok(ChunkRead { reader: BufReader::new(section), unchecked: self.guards_pages })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // Before the buffer is made: a broken footer may ask for any length.
        let end = start.checked_add(length as u64).filter(|end| *end <= self.size);
        if end.is_none() {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at offset {start} asked for, the file has {}",
                self.size
            )));
        }
        match &self.bytes {
            RandomBytes::Memory(bytes) => bytes.get_bytes(start, length),
            RandomBytes::Remote(blocks) if length as u64 > 2 * BLOCK_BYTES => {
                let coming = blocks.remote.fetch(start, start + length as u64);
                let bytes = Remote::wait(&coming)?;
                if bytes.len() == length {
                    Ok(bytes)
                } else {
                    Err(ParquetError::EOF("the object has become shorter".to_owned()))
                }
            }
            _ => {
                let mut bytes = BytesMut::zeroed(length);
                let mut read = Section { random: self.clone(), position: start };
                read.read_exact(&mut bytes)?;
                Ok(bytes.freeze())
            }
        }
    }
}

/// A reader from some place on; where pages are guarded, one of a page header.
pub(crate) struct ChunkRead {
    reader: BufReader<Section>,
    /// The header is still to be looked through. Not before it is read: readers are
    /// also made, and then not used, behind headers that have been read already.
    unchecked: bool,
}

impl Read for ChunkRead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.unchecked) {
            let start = self.reader.get_ref().position;
            let head = self.reader.fill_buf()?;
            let mut look = thrift::look(head, PAGE_HEADER);
            if look == Look::Unfinished {
                let mut longer = Vec::new();
                let random = self.reader.get_ref().random.clone();
                let section = Section { random, position: start };
                section.take(PAGE_HEADER_BYTES_MAX).read_to_end(&mut longer)?;
                look = thrift::look(&longer, PAGE_HEADER);
            }
            if look != Look::Whole {
                return Err(io::Error::other("a page header is broken"));
            }
        }
        self.reader.read(into)
    }
}

/// A reader with a position of its own, so that the readers of several columns
/// don't move each other's.
pub(crate) struct Section {
    random: Random,
    position: u64,
}

impl Read for Section {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.random.read_at(self.position, into)?;
        self.position += read as u64;
        Ok(read)
    }
}
