//! The traffic of a world as a detector sees it: the exchanges and the accounts table,
//! never the truth beside them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType, UInt16Type, UInt32Type};
use hashbrown::HashMap;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use xxhash_rust::xxh3::xxh3_64;

use crate::text::{Vector, vector_of};

/// Traffic that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    #[error("cannot read {path}: {why}; give a folder that `stillwatch simulate` wrote")]
    Read { path: PathBuf, why: String },
    #[error("{path} has no column {column} of the kind that the contract says")]
    Column { path: PathBuf, column: &'static str },
}

/// Which columns a detector reads beside account and time; what it does not need, it
/// does not pay for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The prompts, as vectors.
    pub vectors: bool,
    /// The prompts, as hashes.
    pub prompts: bool,
    /// Addresses, networks and clients.
    pub origins: bool,
    /// Turns and tokens.
    pub habits: bool,
}

/// What is known of an account; 0 stands for nothing known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub id: String,
    /// Microseconds since the epoch.
    pub created_us: Option<i64>,
    /// A hash of the payment instrument.
    pub payment: u64,
}

/// One exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Index into the accounts.
    pub account: u32,
    /// Microseconds since the epoch.
    pub time_us: i64,
    /// Hashes; 0 = not known, or not asked for.
    pub address: u64,
    pub network: u64,
    pub client: u64,
    pub prompt: u64,
    pub turn: u16,
    pub input_tokens: u32,
    pub output_tokens: u32,
}

/// A world's traffic in memory: some 56 bytes an exchange, and a vector's more where
/// prompts are wanted as vectors.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    pub accounts: Vec<Account>,
    /// In the order of time.
    pub exchanges: Vec<Exchange>,
    /// By exchange; empty where not asked for.
    pub vectors: Vec<Vector>,
}

impl Traffic {
    /// Reads `exchanges/` and `accounts.parquet` of a world's folder.
    ///
    /// # Errors
    /// A file is missing, is no Parquet, or lacks a column.
    pub fn read(world: &Path, needs: Needs) -> Result<Self, TrafficError> {
        let mut traffic = Traffic::default();
        let mut index: HashMap<String, u32> = HashMap::new();
        let path = world.join("accounts.parquet");
        each_batch(&path, &["account_id", "created_at", "payment_fingerprint"], |batch| {
            let ids = texts(batch, &path, "account_id")?;
            let payments = texts(batch, &path, "payment_fingerprint")?;
            let created = column(batch, &path, "created_at")?;
            let created = created
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or_else(|| lacks(&path, "created_at"))?;
            for row in (0..batch.num_rows()).filter(|row| ids.is_valid(*row)) {
                index.insert(ids.value(row).to_owned(), traffic.accounts.len() as u32);
                traffic.accounts.push(Account {
                    id: ids.value(row).to_owned(),
                    created_us: created.is_valid(row).then(|| created.value(row)),
                    payment: hash_at(&payments, row),
                });
            }
            Ok(())
        })?;
        let mut wanted = vec!["account_id", "time"];
        if needs.vectors || needs.prompts {
            wanted.push("prompt");
        }
        if needs.origins {
            wanted.extend(["client_address", "client_network", "tls_fingerprint", "user_agent"]);
        }
        if needs.habits {
            wanted.extend(["turn", "usage_input_tokens", "usage_output_tokens"]);
        }
        for path in parts(&world.join("exchanges"))? {
            each_batch(&path, &wanted, |batch| traffic.add(batch, &path, needs, &mut index))?;
        }
        traffic.in_order_of_time();
        Ok(traffic)
    }

    fn add(
        &mut self,
        batch: &RecordBatch,
        path: &Path,
        needs: Needs,
        index: &mut HashMap<String, u32>,
    ) -> Result<(), TrafficError> {
        let ids = texts(batch, path, "account_id")?;
        let times = column(batch, path, "time")?;
        let times = times
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| lacks(path, "time"))?;
        let first = self.exchanges.len();
        for row in 0..batch.num_rows() {
            let account = match index.get(ids.value(row)) {
                Some(account) => *account,
                None => {
                    let account = self.accounts.len() as u32;
                    let id = ids.value(row).to_owned();
                    self.accounts.push(Account { id: id.clone(), ..Account::default() });
                    index.insert(id, account);
                    account
                }
            };
            let time_us = times.value(row);
            self.exchanges.push(Exchange { account, time_us, ..Exchange::default() });
        }
        let exchanges = &mut self.exchanges[first..];
        if needs.vectors || needs.prompts {
            let prompts = texts(batch, path, "prompt")?;
            for (row, exchange) in exchanges.iter_mut().enumerate() {
                exchange.prompt = hash_at(&prompts, row);
                if needs.vectors {
                    self.vectors.push(vector_of(prompts.value(row)));
                }
            }
        }
        if needs.origins {
            let [addresses, networks, prints, agents] =
                ["client_address", "client_network", "tls_fingerprint", "user_agent"]
                    .map(|name| texts(batch, path, name));
            let (addresses, networks, prints, agents) = (addresses?, networks?, prints?, agents?);
            for (row, exchange) in exchanges.iter_mut().enumerate() {
                exchange.address = hash_at(&addresses, row);
                exchange.network = match hash_at(&networks, row) {
                    0 if addresses.is_valid(row) => network_of(addresses.value(row)),
                    network => network,
                };
                let (print, agent) = (hash_at(&prints, row), hash_at(&agents, row));
                if print != 0 || agent != 0 {
                    exchange.client = print.rotate_left(1) ^ agent;
                }
            }
        }
        if needs.habits {
            let turns = column(batch, path, "turn")?;
            let turns =
                turns.as_primitive_opt::<UInt16Type>().ok_or_else(|| lacks(path, "turn"))?;
            let inputs = column(batch, path, "usage_input_tokens")?;
            let inputs = inputs
                .as_primitive_opt::<UInt32Type>()
                .ok_or_else(|| lacks(path, "usage_input_tokens"))?;
            let outputs = column(batch, path, "usage_output_tokens")?;
            let outputs = outputs
                .as_primitive_opt::<UInt32Type>()
                .ok_or_else(|| lacks(path, "usage_output_tokens"))?;
            let cells = turns.iter().zip(inputs).zip(outputs);
            for (exchange, ((turn, input), output)) in exchanges.iter_mut().zip(cells) {
                exchange.turn = turn.unwrap_or_default();
                exchange.input_tokens = input.unwrap_or_default();
                exchange.output_tokens = output.unwrap_or_default();
            }
        }
        Ok(())
    }

    fn in_order_of_time(&mut self) {
        if self.exchanges.is_sorted_by_key(|e| e.time_us) {
            return;
        }
        let mut order: Vec<u32> = (0..self.exchanges.len() as u32).collect();
        order.sort_by_key(|i| self.exchanges[*i as usize].time_us);
        self.exchanges = order.iter().map(|i| self.exchanges[*i as usize]).collect();
        if !self.vectors.is_empty() {
            self.vectors = order.iter().map(|i| self.vectors[*i as usize]).collect();
        }
    }

    /// The first and the last moment, in microseconds since the epoch.
    #[must_use]
    pub fn period(&self) -> (i64, i64) {
        let time = |e: Option<&Exchange>| e.map_or(0, |e| e.time_us);
        (time(self.exchanges.first()), time(self.exchanges.last()))
    }

    /// By account: its exchanges' indices, in the order of time.
    #[must_use]
    pub fn by_account(&self) -> Vec<Vec<u32>> {
        let mut lists = vec![Vec::new(); self.accounts.len()];
        for (index, exchange) in self.exchanges.iter().enumerate() {
            lists[exchange.account as usize].push(index as u32);
        }
        lists
    }

    /// The exchanges before a moment.
    #[must_use]
    pub fn until(&self, time_us: i64) -> &[Exchange] {
        &self.exchanges[..self.exchanges.partition_point(|e| e.time_us < time_us)]
    }
}

/// The /24 or /48 of an address that is given as it is.
fn network_of(address: &str) -> u64 {
    let (separator, parts) = if address.contains(':') { (':', 3) } else { ('.', 3) };
    let end = address.match_indices(separator).nth(parts - 1).map_or(address.len(), |(at, _)| at);
    xxh3_64(&address.as_bytes()[..end])
}

fn hash_at(column: &StringViewArray, row: usize) -> u64 {
    if column.is_valid(row) && !column.value(row).is_empty() {
        xxh3_64(column.value(row).as_bytes()) | 1
    } else {
        0
    }
}

fn lacks(path: &Path, column: &'static str) -> TrafficError {
    TrafficError::Column { path: path.to_owned(), column }
}

fn column(batch: &RecordBatch, path: &Path, name: &'static str) -> Result<ArrayRef, TrafficError> {
    batch.column_by_name(name).cloned().ok_or_else(|| lacks(path, name))
}

fn texts(
    batch: &RecordBatch,
    path: &Path,
    name: &'static str,
) -> Result<StringViewArray, TrafficError> {
    cast(&column(batch, path, name)?, &DataType::Utf8View)
        .ok()
        .and_then(|array| array.as_string_view_opt().cloned())
        .ok_or_else(|| lacks(path, name))
}

/// The Parquet files of a folder, in the order of their names.
fn parts(dir: &Path) -> Result<Vec<PathBuf>, TrafficError> {
    let failed =
        |e: std::io::Error| TrafficError::Read { path: dir.to_owned(), why: e.to_string() };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn each_batch(
    path: &Path,
    columns: &[&str],
    mut each: impl FnMut(&RecordBatch) -> Result<(), TrafficError>,
) -> Result<(), TrafficError> {
    let failed = |why: String| TrafficError::Read { path: path.to_owned(), why };
    let file = File::open(path).map_err(|e| failed(e.to_string()))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(e.to_string()))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let reader = builder.with_projection(mask).build().map_err(|e| failed(e.to_string()))?;
    for batch in reader {
        each(&batch.map_err(|e| failed(e.to_string()))?)?;
    }
    Ok(())
}
