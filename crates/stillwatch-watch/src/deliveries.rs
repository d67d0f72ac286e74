//! Deliveries: what a receiver was sent is written down before its sender is told that it
//! has arrived, and what is sent again is known.
//!
//! Exchanges go to segments of the [spool](crate::Spool), which are followed like any
//! file. One thread writes all that waits and forces it to the disk at once, so that many
//! senders share the wait for it.
//!
//! A sender that has heard nothing sends again, the same bytes. The ids of what came last
//! are remembered, at most twice [`IDS_MAX`]; after a restart they are those of the
//! segments that are still there, which are kept for this to [`Spool::kept_bytes`].

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashSet;
use stillwatch_ingest::{Delivery, ReceivedExchange};

use crate::settings::WatchError;
use crate::spool::{Spool, segments};

/// What a receiver hands over.
pub type Deliveries = Receiver<Delivery>;

/// The name of the segments.
pub(crate) const NAME: &str = "otlp";
/// Ids in a generation, of which the last two are remembered.
const IDS_MAX: usize = 1 << 19;
/// Bytes that are written before they are forced to the disk.
const TOGETHER_BYTES: usize = 8 << 20;

/// The ids of what came last.
#[derive(Debug, Default)]
struct Known {
    now: HashSet<u128>,
    before: HashSet<u128>,
}

impl Known {
    /// Remembers an id; says whether it is new.
    fn add(&mut self, id: u128) -> bool {
        if self.before.contains(&id) || !self.now.insert(id) {
            return false;
        }
        if self.now.len() >= IDS_MAX {
            self.before = std::mem::take(&mut self.now);
        }
        true
    }

    fn forget(&mut self, id: u128) {
        self.now.remove(&id);
        self.before.remove(&id);
    }

    /// The ids of the last segments.
    fn of(folder: &Path) -> io::Result<Self> {
        let all = segments(folder, NAME)?;
        let mut bytes = 0;
        let mut first = all.len();
        for (index, (_, path)) in all.iter().enumerate().rev() {
            if bytes > Spool::kept_bytes(NAME) {
                break;
            }
            bytes += fs::metadata(path)?.len();
            first = index;
        }
        let mut known = Known::default();
        for (_, path) in all.iter().skip(first) {
            let mut file = BufReader::new(fs::File::open(path)?);
            let mut line = Vec::new();
            while file.read_until(b'\n', &mut line)? > 0 {
                known.add(ReceivedExchange::of(std::mem::take(&mut line)).id);
            }
        }
        Ok(known)
    }
}

/// What went wrong when something was written down last.
pub(crate) type Trouble = Arc<Mutex<Option<String>>>;

/// Begins to write down what is delivered, on a thread of its own, until the receiver is
/// gone.
///
/// # Errors
/// The spool can't be used.
pub(crate) fn begin(deliveries: Deliveries, folder: &Path) -> Result<Trouble, WatchError> {
    let spool = Spool::open(folder, NAME).map_err(WatchError::io(folder))?;
    let known = Known::of(folder).map_err(WatchError::io(folder))?;
    let trouble = Trouble::default();
    let of_thread = Arc::clone(&trouble);
    std::thread::Builder::new()
        .name("deliveries".to_owned())
        .spawn(move || Writer { spool, known }.take_all(&deliveries, &of_thread))
        .map_err(WatchError::io(folder))?;
    Ok(trouble)
}

struct Writer {
    spool: Spool,
    known: Known,
}

impl Writer {
    fn take_all(&mut self, deliveries: &Deliveries, trouble: &Trouble) {
        while let Ok(first) = deliveries.recv() {
            let mut written: Vec<Box<dyn FnOnce(bool) + Send>> = Vec::new();
            let mut outcome = Ok(());
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(Delivery { exchanges, done }) = next {
                bytes += exchanges.iter().map(|exchange| exchange.line.len()).sum::<usize>();
                match self.append(&exchanges) {
                    Ok(()) => written.push(done),
                    Err(error) => {
                        outcome = Err(error);
                        done(false);
                    }
                }
                next = (bytes < TOGETHER_BYTES).then(|| deliveries.try_recv().ok()).flatten();
            }
            // What was known already may have been written and not been forced to the disk.
            let synced = self.spool.sync();
            let is_safe = synced.is_ok();
            written.into_iter().for_each(|done| done(is_safe));
            let said = outcome.and(synced).err().map(|error| {
                format!("what is received can't be written to the spool, and is refused: {error}")
            });
            *trouble.lock().unwrap_or_else(PoisonError::into_inner) = said;
        }
    }

    /// Appends what is new.
    fn append(&mut self, exchanges: &[ReceivedExchange]) -> io::Result<()> {
        let new: Vec<&ReceivedExchange> =
            exchanges.iter().filter(|exchange| self.known.add(exchange.id)).collect();
        let lines: Vec<&[u8]> = new.iter().map(|exchange| exchange.line.as_slice()).collect();
        let lines = lines.concat();
        if lines.is_empty() {
            return Ok(());
        }
        self.spool.append(&lines).inspect_err(|_| {
            new.iter().for_each(|exchange| self.known.forget(exchange.id));
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;

    fn deliver(to: &std::sync::mpsc::SyncSender<Delivery>, lines: &[&str]) -> bool {
        let (done, is_done) = channel();
        let exchanges = lines.iter().map(|line| ReceivedExchange::of(line.as_bytes().to_vec()));
        let done = Box::new(move |is_safe| done.send(is_safe).unwrap());
        to.send(Delivery { exchanges: exchanges.collect(), done }).unwrap();
        is_done.recv().unwrap()
    }

    fn written(folder: &Path) -> String {
        let all = segments(folder, NAME).unwrap();
        all.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn what_is_sent_again_is_known_after_a_restart_too() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let (to, deliveries) = sync_channel(1);
            begin(deliveries, folder.path()).unwrap();
            assert!(deliver(&to, &["a\n", "b\n", "a\n"]));
            assert!(deliver(&to, &["b\n", "c\n"]));
            assert_eq!(written(folder.path()), "a\nb\nc\n");
        }
    }

    #[test]
    fn what_was_half_written_by_a_killed_process_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("otlp-000000000001.jsonl"), "a\nhal").unwrap();
        let (to, deliveries) = sync_channel(1);
        begin(deliveries, folder.path()).unwrap();
        assert!(deliver(&to, &["a\n", "half\n"]));
        assert_eq!(written(folder.path()), "a\nhalf\n");
    }

    #[test]
    fn what_is_not_written_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), NAME).unwrap();
        spool.close_for_writing();
        let mut writer = Writer { spool, known: Known::default() };
        let exchange = ReceivedExchange::of(b"a\n".to_vec());
        assert!(writer.append(std::slice::from_ref(&exchange)).is_err());
        assert!(writer.known.add(exchange.id));
    }
}
