//! The records of a text file: decompressed by its magic bytes, and cut into lines
//! or, where the file is one JSON document, into the objects of that document.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;

use crate::validity::DOCUMENT_BYTES_MAX;

const BUFFER_BYTES: usize = 256 << 10;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Decompresses gzip (all members) and zstd (all frames) and passes on what is
/// neither. Zstd windows of more than 128 MiB are refused by the library.
pub(crate) fn decompressed<R: Read + Send + 'static>(
    reader: R,
) -> io::Result<Box<dyn Read + Send>> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    let head = fill(&mut reader)?;
    Ok(if head.starts_with(GZIP_MAGIC) {
        Box::new(MultiGzDecoder::new(reader))
    } else if head.starts_with(ZSTD_MAGIC) || is_zstd_skippable(head) {
        Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)
    } else {
        Box::new(reader)
    })
}

/// Whether [`decompressed`] would decompress it.
pub(crate) fn is_compressed(mut reader: Box<dyn Read + Send>) -> io::Result<bool> {
    let mut head = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut head)?;
    Ok(head.starts_with(GZIP_MAGIC) || head.starts_with(ZSTD_MAGIC) || is_zstd_skippable(&head))
}

fn is_zstd_skippable(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// `fill_buf`, tried again when a signal interrupts it.
fn fill<R: BufRead + ?Sized>(reader: &mut R) -> io::Result<&[u8]> {
    loop {
        match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    // Filled by the loop, so that this neither reads nor fails.
    reader.fill_buf()
}

/// Counts the bytes that are read through it.
pub(crate) struct Counted<R> {
    pub reader: R,
    pub bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A line, or that there was one too long to be held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Whole(&'a [u8]),
    TooLong,
}

/// The lines of a reader, without their newlines, blank ones left out. Holds at
/// most one line of `bytes_max` in memory; what is longer is skipped to its end.
pub(crate) struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    bytes_max: usize,
    /// A line that did not lie in the reader's buffer as a whole.
    long: Vec<u8>,
    /// Bytes of the reader's buffer that the last line has used.
    used: usize,
    at_start: bool,
}

impl Lines {
    pub fn new(reader: Box<dyn Read + Send>, bytes_max: usize) -> Self {
        Lines {
            reader: BufReader::with_capacity(BUFFER_BYTES, reader),
            bytes_max,
            long: Vec::new(),
            used: 0,
            at_start: true,
        }
    }

    /// The next line; none at the end.
    pub fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.reader.consume(std::mem::take(&mut self.used));
            if std::mem::take(&mut self.at_start)
                && fill(&mut self.reader)?.starts_with(b"\xef\xbb\xbf")
            {
                self.reader.consume(3);
            }
            let buffer = fill(&mut self.reader)?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let Some(end) = memchr::memchr(b'\n', buffer) else {
                match self.gather()? {
                    true => return Ok(Some(Line::TooLong)),
                    false if is_blank(&self.long) => continue,
                    false => return Ok(Some(Line::Whole(&self.long))),
                }
            };
            self.used = end + 1;
            let line = self.reader.buffer().get(..end).unwrap_or_default();
            if is_blank(line) {
                continue;
            }
            // Borrowed again, for the borrow checker sees the loop go on.
            let line = self.reader.buffer().get(..end).unwrap_or_default();
            return Ok(Some(if line.len() > self.bytes_max {
                Line::TooLong
            } else {
                Line::Whole(line)
            }));
        }
    }

    /// Puts a line together that spans buffers; says whether it was too long.
    fn gather(&mut self) -> io::Result<bool> {
        // The memory of one huge line is not kept for the rest of the file.
        if self.long.capacity() > BUFFER_BYTES * 8 {
            self.long = Vec::new();
        }
        self.long.clear();
        let mut too_long = false;
        loop {
            let buffer = fill(&mut self.reader)?;
            let end = memchr::memchr(b'\n', buffer);
            let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            too_long |= self.long.len() + part.len() > self.bytes_max;
            if !too_long {
                self.long.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            let at_end = used == 0 || end.is_some();
            self.reader.consume(used);
            if at_end {
                return Ok(too_long);
            }
        }
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// How the records of a file are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Lines,
    /// One array of objects, or objects that span lines.
    Document,
}

impl Layout {
    /// Told by the first line that is not blank. A line cut in half does not look
    /// like a document: only an opening bracket that stands alone, or an array, does.
    pub fn of_first_line(line: &[u8]) -> Self {
        let line = line.trim_ascii();
        if line.starts_with(b"[") || line == b"{" { Layout::Document } else { Layout::Lines }
    }
}

/// Reads a whole document.
///
/// # Errors
/// Reading fails, or there is more than [`DOCUMENT_BYTES_MAX`].
pub(crate) fn document(reader: Box<dyn Read + Send>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bytes_max = DOCUMENT_BYTES_MAX as u64;
    reader.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(io::Error::other(format!(
            "a JSON document of more than {} MiB; write one object per line instead",
            DOCUMENT_BYTES_MAX >> 20
        )));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

/// The objects of a document: values one after the other, arrays taken apart.
///
/// What comes before a syntax error is given, then the error.
pub(crate) fn document_records(text: &str) -> (Vec<&RawValue>, Option<serde_json::Error>) {
    let mut records = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        match value {
            Ok(value) if value.get().starts_with('[') => {
                match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
                    Ok(values) => records.extend(values),
                    Err(error) => return (records, Some(error)),
                }
            }
            Ok(value) => records.push(value),
            Err(error) => return (records, Some(error)),
        }
    }
    (records, None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Every line's length, or `None` for one that was too long.
    fn lengths(text: &[u8], bytes_max: usize) -> Vec<Option<usize>> {
        let mut lines = Lines::new(Box::new(Cursor::new(text.to_vec())), bytes_max);
        let mut lengths = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            lengths.push(match line {
                Line::Whole(line) => Some(line.len()),
                Line::TooLong => None,
            });
        }
        lengths
    }

    #[test]
    fn lines_of_any_length_are_found_and_long_ones_skipped() {
        assert_eq!(lengths(b"", 10), []);
        assert_eq!(lengths(b"\n \r\n\nab\n\ncde", 10), [Some(2), Some(3)]);
        assert_eq!(lengths(b"\xef\xbb\xbfab\n", 10), [Some(2)], "a byte order mark is no text");
        assert_eq!(lengths(b"12345\n123456\n1\n", 5), [Some(5), None, Some(1)]);

        for length in [BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES] {
            let mut text = vec![b'a'; length];
            text.extend_from_slice(b"\nbb\n");
            assert_eq!(lengths(&text, usize::MAX), [Some(length), Some(2)]);
            assert_eq!(lengths(&text, length - 1), [None, Some(2)]);
            text.truncate(length);
            assert_eq!(lengths(&text, usize::MAX), [Some(length)]);
        }
    }

    #[test]
    fn members_and_frames_are_read_to_the_last() {
        use std::io::Write;
        let gzip = |text: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        for bytes in
            [[gzip(b"one\n"), gzip(b"two\n")].concat(), [zstd(b"one\n"), zstd(b"two\n")].concat()]
        {
            let mut text = String::new();
            decompressed(Cursor::new(bytes)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "one\ntwo\n");
        }
    }

    #[test]
    fn a_document_gives_its_objects_up_to_an_error() {
        let texts = |text| {
            let (records, error) = document_records(text);
            (records.iter().map(|r| r.get().to_owned()).collect::<Vec<_>>(), error.is_some())
        };
        assert_eq!(
            texts("[{\"a\":1}, {\"b\":2}]"),
            (vec!["{\"a\":1}".into(), "{\"b\":2}".into()], false)
        );
        assert_eq!(texts("{\n\"a\":1}\n{\"b\""), (vec!["{\n\"a\":1}".into()], true));
    }
}
