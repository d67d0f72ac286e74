//! Outbox: what a share has to say, kept in the transaction in which it became true, and
//! sent until it is known to be there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition, TableError, TableHandle, WriteTransaction};
use stillwatch_broker::{BrokerError, Line, Writer};
use tokio::runtime::Handle;

use super::plan::Counting;
use super::words::{
    Message, ROW_BYTES_MAX, ROWS_BYTES, Report, What, reports, row_bytes, write_row,
};
use crate::settings::{ShareNumber, WatchError};
use crate::store::{Meta, Pieces, Store, decoded, part_of};
use crate::watch::Host;

const OUTBOX: TableDefinition<u64, &[u8]> = TableDefinition::new("outbox");
/// Messages that are read to be sent.
const SENT_AT_ONCE: usize = 8;
/// How long nothing is sent after it failed, unless there is more.
const PAUSE: Duration = Duration::from_millis(200);

/// Messages that are written in one transaction.
struct Written<'t> {
    store: &'t Store,
    transaction: &'t WriteTransaction,
    counting: Counting,
}

impl Written<'_> {
    fn write(&mut self, what: What, rows: Vec<u8>) -> Result<(), WatchError> {
        self.counting.written += 1;
        let Counting { number, of, written, .. } = self.counting;
        let message = Message { share: number, of, number: written, what, rows: rows.into() };
        let failed = |error: &dyn std::fmt::Display| self.store.failed(error);
        let mut outbox = self.transaction.open_table(OUTBOX).map_err(|e| failed(&e))?;
        let bytes = message.to_bytes();
        outbox.insert(written, bytes.as_slice()).map_err(|e| failed(&e))?;
        Ok(())
    }

    /// Writes the pieces of all that lies before the next look, and drops them.
    fn write_pieces(&mut self, cut: u64, meta: &mut Meta) -> Result<(), WatchError> {
        let (store, transaction) = (self.store, self.transaction);
        let tables = transaction.list_tables().map_err(|e| store.failed(e))?;
        let names: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
        let mut rows = Vec::new();
        for name in names {
            let Some((epoch, 0)) = part_of(&name) else { continue };
            {
                let table = transaction.open_table(Pieces::new(&name));
                let table = table.map_err(|e| store.failed(e))?;
                for row in table.iter().map_err(|e| store.failed(e))? {
                    let (account, piece) = row.map_err(|e| store.failed(e))?;
                    let (account, piece) = (account.value(), piece.value());
                    let length = row_bytes(account, piece);
                    if length > ROW_BYTES_MAX {
                        // The name of no account is nearly as long as a message may be.
                        let piece = decoded(piece).map_err(|e| store.failed(e))?;
                        meta.counts.accounts_full += u64::from(piece.exchanges());
                        continue;
                    }
                    if !rows.is_empty() && rows.len() + length > ROWS_BYTES {
                        self.write(What::Pieces { cut }, std::mem::take(&mut rows))?;
                    }
                    write_row(&mut rows, epoch, account, piece);
                }
            }
            transaction.delete_table(Pieces::new(&name)).map_err(|e| store.failed(e))?;
        }
        if !rows.is_empty() {
            self.write(What::Pieces { cut }, rows)?;
        }
        self.counting.answered = cut;
        self.write(What::Done { cut }, Vec::new())
    }
}

/// Puts a report, and the answer to a cut, into the outbox, and removes what was sent.
pub(super) fn write(
    store: &Store,
    transaction: &WriteTransaction,
    meta: &mut Meta,
    report: Option<Report>,
    cut: Option<u64>,
    sent: u64,
) -> Result<(), WatchError> {
    let counting = meta.counting.clone().unwrap_or_default();
    let mut written = Written { store, transaction, counting };
    for report in report.into_iter().flat_map(reports) {
        written.write(What::Report(report), Vec::new())?;
    }
    if let Some(cut) = cut {
        written.write_pieces(cut, meta)?;
    }
    meta.counting = Some(written.counting);
    let mut outbox = transaction.open_table(OUTBOX).map_err(|e| store.failed(e))?;
    outbox.retain_in(..=sent, |_, _| false).map_err(|e| store.failed(e))
}

impl Store {
    /// What is in the outbox after a message: numbers and messages, a few.
    pub(super) fn outbox(&self, after: u64) -> Result<Vec<(u64, Bytes)>, WatchError> {
        let table = match self.read()?.open_table(OUTBOX) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let rows = table.range(after + 1..).map_err(|e| self.failed(e))?;
        rows.take(SENT_AT_ONCE)
            .map(|row| {
                let (number, message) = row.map_err(|e| self.failed(e))?;
                Ok((number.value(), Bytes::copy_from_slice(message.value())))
            })
            .collect()
    }
}

/// Sends what is in the outbox.
pub(super) struct Sender<'a> {
    pub store: &'a Store,
    pub writer: &'a Writer,
    pub runtime: &'a Handle,
    pub host: &'a dyn Host,
    pub share: ShareNumber,
    /// The last message that is in the outbox.
    pub written: &'a AtomicU64,
    /// The last message that is known to have arrived.
    pub sent: &'a AtomicU64,
    pub is_over: &'a AtomicBool,
}

impl Sender<'_> {
    /// Finds out what has arrived.
    ///
    /// # Errors
    /// The server is away; or what has arrived is not what was written.
    pub fn arrived(&self) -> Result<Result<(), WatchError>, BrokerError> {
        let written = self.written.load(Ordering::Acquire);
        let reached = self.runtime.block_on(self.writer.reached_of(self.share.number))?.0;
        let place = self.writer.place();
        let share = self.share;
        if reached > written {
            return Ok(Err(WatchError::Usage(format!(
                "{place} has {reached} messages of share {share}, and this state has sent \
                 {written}: another process is this share, or its state was lost. Use the state \
                 that it had, or another --through and a new --state for each share"
            ))));
        }
        let waiting = match self.store.outbox(reached) {
            Ok(waiting) => waiting,
            Err(error) => return Ok(Err(error)),
        };
        if waiting.first().map_or(written, |(number, _)| number - 1) != reached {
            return Ok(Err(WatchError::Usage(format!(
                "{place} has lost messages that share {share} has sent there; begin with another \
                 --through and a new --state for each share"
            ))));
        }
        self.sent.store(reached, Ordering::Release);
        Ok(Ok(()))
    }

    /// Sends until it is over; `woken` tells that there is something new.
    ///
    /// # Errors
    /// The outbox can't be read, or somebody else has sent in its place.
    pub fn run(&self, woken: &Receiver<()>) -> Result<(), WatchError> {
        let mut is_away = false;
        while !self.is_over.load(Ordering::Acquire) {
            if self.sent.load(Ordering::Acquire) >= self.written.load(Ordering::Acquire)
                && woken.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected)
            {
                return Ok(());
            }
            match self.send() {
                Ok(sent) => {
                    sent?;
                    if std::mem::take(&mut is_away) {
                        self.host.say(&format!("{} answers again", self.writer.place()));
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        let share = self.share;
                        self.host.say(&format!("{error}; what share {share} has counted waits"));
                    }
                    if woken.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
                        return Ok(());
                    }
                    // It may have arrived all the same.
                    if let Ok(arrived) = self.arrived() {
                        arrived?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends all that waits.
    fn send(&self) -> Result<Result<(), WatchError>, BrokerError> {
        loop {
            let waiting = match self.store.outbox(self.sent.load(Ordering::Acquire)) {
                Ok(waiting) => waiting,
                Err(error) => return Ok(Err(error)),
            };
            let Some(last) = waiting.last().map(|(number, _)| *number) else { return Ok(Ok(())) };
            let lines = waiting.into_iter().map(|(number, payload)| Line {
                partition: self.share.number,
                id: format!("{} {number}", self.share),
                reaches: (number, 0),
                payload,
            });
            self.runtime.block_on(self.writer.write(lines.collect()))?;
            self.sent.store(last, Ordering::Release);
            if self.is_over.load(Ordering::Acquire) {
                return Ok(Ok(()));
            }
        }
    }
}
