//! Server-sent events (WHATWG HTML, section 9.2) as they come, in pieces of any size.

use std::borrow::Cow;

use memchr::memchr2;

/// The longest event that is read, in bytes; the last one of a Responses stream holds
/// the whole answer.
pub const EVENT_BYTES_MAX: usize = 16 << 20;

/// An event is longer than [`EVENT_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Cuts a stream into events.
#[derive(Debug, Default)]
pub struct Events {
    /// The event that has not ended yet.
    pending: Vec<u8>,
    /// Where in it the line begins that has not ended yet.
    line: usize,
    /// How far it has been looked through for that line's end.
    seen: usize,
}

impl Events {
    /// Adds a piece of the stream and calls `on_event` with each event that is whole,
    /// as it is written, blank line included.
    ///
    /// # Errors
    /// An event is too long; it and the piece are gone, and the next one begins after
    /// them.
    pub fn feed(&mut self, piece: &[u8], mut on_event: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut held = std::mem::take(&mut self.pending);
        let bytes = if held.is_empty() {
            piece
        } else {
            held.extend_from_slice(piece);
            &held
        };
        let mut event = 0;
        loop {
            let rest = bytes.get(self.seen..).unwrap_or_default();
            let Some(end) = memchr2(b'\n', b'\r', rest).map(|at| self.seen + at) else {
                self.seen = bytes.len();
                break;
            };
            let is_return = bytes.get(end) == Some(&b'\r');
            let next = match bytes.get(end + 1) {
                Some(b'\n') if is_return => end + 2,
                // Whether this is one line's end or half of it, the next piece tells.
                None if is_return => {
                    self.seen = end;
                    break;
                }
                _ => end + 1,
            };
            if end == self.line {
                on_event(bytes.get(event..next).unwrap_or_default());
                event = next;
            }
            self.line = next;
            self.seen = next;
        }
        let unfinished = bytes.get(event..).unwrap_or_default();
        self.line -= event;
        self.seen -= event;
        if unfinished.len() > EVENT_BYTES_MAX {
            (self.line, self.seen) = (0, 0);
            return Err(TooLong);
        }
        self.pending = if event == 0 && !held.is_empty() { held } else { unfinished.to_vec() };
        Ok(())
    }

    /// How many bytes came after the last whole event.
    #[must_use]
    pub fn unfinished_bytes(&self) -> usize {
        self.pending.len()
    }

    /// What came after the last whole event.
    #[must_use]
    pub fn rest(self) -> Vec<u8> {
        self.pending
    }
}

/// The data of an event: what its `data` lines say, joined by line ends. Empty where
/// there are none.
#[must_use]
pub fn data(event: &[u8]) -> Cow<'_, [u8]> {
    let mut found: Option<Cow<'_, [u8]>> = None;
    for line in lines(event) {
        let Some(value) = line.strip_prefix(b"data") else { continue };
        let value = match value.split_first() {
            None => value,
            Some((b':', value)) => value.strip_prefix(b" ").unwrap_or(value),
            Some(_) => continue,
        };
        found = Some(match found {
            None => Cow::Borrowed(value),
            Some(before) => {
                let mut joined = before.into_owned();
                joined.push(b'\n');
                joined.extend_from_slice(value);
                Cow::Owned(joined)
            }
        });
    }
    found.unwrap_or_default()
}

/// An event with other data; its other lines stay.
#[must_use]
pub(crate) fn with_data(event: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.len() + data.len());
    for line in lines(event) {
        let is_data = line == b"data" || line.starts_with(b"data:");
        if !line.is_empty() && !is_data {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
    for line in data.split(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

/// The lines of an event, without their ends.
pub(crate) fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = event;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = rest.get(..end).unwrap_or_default();
        let after = rest.get(end..).unwrap_or_default();
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..)).unwrap_or_default();
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The events' data, and what is left, when the stream comes in these pieces.
    fn read(pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
        let mut events = Events::default();
        let mut all = Vec::new();
        for piece in pieces {
            events
                .feed(piece, |event| all.push(String::from_utf8_lossy(&data(event)).into_owned()))
                .unwrap();
        }
        (all, events.rest())
    }

    #[test]
    fn line_ends_of_all_kinds() {
        let stream = b"event: a\ndata: 1\n\ndata:2\r\n\r\n: note\rdata\rdata: 3\r\rdata: 4";
        let (all, rest) = read(&[stream]);
        assert_eq!(all, ["1", "2", "\n3"]);
        assert_eq!(rest, b"data: 4");
    }

    #[test]
    fn an_event_without_end_is_not_kept_for_ever() {
        let mut events = Events::default();
        let piece = vec![b'x'; EVENT_BYTES_MAX];
        assert_eq!(events.feed(&piece, |_| {}), Ok(()));
        assert_eq!(events.feed(b"x", |_| {}), Err(TooLong));
        let mut count = 0;
        events.feed(b"data: 1\n\n", |_| count += 1).unwrap();
        assert_eq!(count, 1);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same(
            lines in prop::collection::vec("(data: [a-z]{0,3}|data|event:x|)(\n|\r\n)", 0..20),
            cuts in prop::collection::vec(0_usize..100, 0..8),
        ) {
            let stream = lines.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[&stream]));
        }
    }
}
