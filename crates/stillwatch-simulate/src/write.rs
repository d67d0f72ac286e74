//! A world on disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use stillwatch_exchange::columns;

use crate::campaigns::CampaignPlan;
use crate::prompts::{Prompts, PromptsError};
use crate::settings::{SettingsError, WorldSettings};
use crate::tables::{self, Rows};
use crate::timeline::{Moment, Timeline};
use crate::world::World;

/// Rows that are made at once.
const BATCH_ROWS: usize = 8_192;
/// Most rows in a file, unless the settings say otherwise.
const FILE_ROWS_MAX: u64 = 524_288;

/// A world that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Prompts(#[from] PromptsError),
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}; is the disk full?")]
    Encode { path: PathBuf, source: ParquetError },
    #[error("rows do not fit the contract's columns: {0}")]
    Rows(#[from] ArrowError),
    #[error("cannot start {threads} threads: {why}")]
    Threads { threads: usize, why: String },
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub exchanges: u64,
    pub accounts: u64,
    pub files: u64,
    /// Bytes of the exchanges' files.
    pub bytes: u64,
    /// By campaign: its accounts and its harvested exchanges.
    pub campaigns: Vec<CampaignSummary>,
}

/// What was written of a campaign.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CampaignSummary {
    pub name: String,
    pub accounts: u64,
    pub harvested_exchanges: u64,
}

/// What `world.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorldFile {
    pub settings: WorldSettings,
    /// The corpora's file names; empty for the built-in grammar.
    pub prompts: Vec<String>,
    pub campaigns: Vec<CampaignPlan>,
    pub written: Summary,
}

/// Makes a world and writes it: `exchanges/part-00000.parquet` and so on in the order
/// of time, `accounts.parquet`, `releases.parquet`, and the truth beside them
/// (`truth_accounts.parquet`, `truth_exchanges.parquet`, `world.json`).
///
/// The same settings and prompts give the same bytes, whatever the number of
/// threads. Memory is bounded by about half a kilobyte per account, the prompts, some
/// 100 MB for a stretch of time and 100 MB per thread; it does not grow with the
/// number of exchanges. `progress` is told how many exchanges are done and how many
/// there will be, about, from several threads.
///
/// # Errors
/// The settings make no world, or a file can't be written.
pub fn write_world(
    settings: &WorldSettings,
    prompts: Arc<Prompts>,
    out_dir: &Path,
    threads: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Summary, SimulateError> {
    let threads = threads.clamp(1, 256);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| SimulateError::Threads { threads, why: e.to_string() })?;
    pool.install(|| {
        let corpora = prompts.corpora().to_vec();
        let world = World::new(settings.clone(), prompts)?;
        Writer { world: &world, out_dir, threads, done: AtomicU64::new(0), progress }.write(corpora)
    })
}

struct Writer<'a> {
    world: &'a World,
    out_dir: &'a Path,
    threads: usize,
    done: AtomicU64,
    progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl Writer<'_> {
    fn write(&self, corpora: Vec<String>) -> Result<Summary, SimulateError> {
        let world = self.world;
        let exchanges_dir = self.out_dir.join("exchanges");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| SimulateError::Write { path, source }
        };
        fs::create_dir_all(&exchanges_dir).map_err(at(&exchanges_dir))?;
        remove_old_parts(&exchanges_dir).map_err(at(&exchanges_dir))?;

        let listed = world.listed();
        let small = || WriterProperties::builder().set_compression(zstd());
        self.write_table("accounts.parquet", &world.accounts_batch(&listed)?, small())?;
        self.write_table("releases.parquet", &world.releases_batch()?, small())?;
        self.write_table("truth_accounts.parquet", &world.truth_accounts_batch(&listed)?, small())?;

        let truth_path = self.out_dir.join("truth_exchanges.parquet");
        let truth_properties =
            small().set_column_dictionary_enabled(ColumnPath::from("exchange_id"), false);
        let mut truth = open(&truth_path, tables::truth_exchanges_schema(), truth_properties)?;

        let settings = &world.settings;
        let rows_per_file = match settings.rows_per_file {
            // A little over an eighth, so that chance seldom leaves a crumb.
            0 => (settings.exchanges / 8 + settings.exchanges / 200).clamp(16_384, FILE_ROWS_MAX),
            rows => rows,
        } as usize;
        let mut summary = Summary { accounts: world.accounts(), ..Summary::default() };
        let mut harvested = vec![0u64; world.population.campaigns.len()];
        let mut timeline = Timeline::new(world);
        loop {
            let parts: Vec<(u64, Vec<Moment>)> = (0..self.threads as u64)
                .map(|i| (summary.files + i, timeline.take(rows_per_file)))
                .filter(|(_, moments)| !moments.is_empty())
                .collect();
            if parts.is_empty() {
                break;
            }
            let written: Vec<(u64, Vec<RecordBatch>)> = parts
                .par_iter()
                .map(|(number, moments)| self.write_part(&exchanges_dir, *number, moments))
                .collect::<Result<_, _>>()?;
            for (_, moments) in &parts {
                summary.files += 1;
                summary.exchanges += moments.len() as u64;
                for moment in moments {
                    let origin = &world.population.accounts[moment.origin as usize];
                    let content = origin.activities[usize::from(moment.activity)].content;
                    if let crate::population::Content::Harvest { campaign } = content {
                        harvested[usize::from(campaign)] += 1;
                    }
                }
            }
            for (bytes, batches) in written {
                summary.bytes += bytes;
                for batch in batches {
                    truth.write(&batch).map_err(|source| encode(&truth_path, source))?;
                }
            }
        }
        truth.close().map_err(|source| encode(&truth_path, source))?;
        summary.campaigns = world
            .campaigns()
            .zip(&world.mates)
            .zip(harvested)
            .map(|((plan, mates), harvested_exchanges)| CampaignSummary {
                name: plan.name.clone(),
                accounts: mates.len() as u64,
                harvested_exchanges,
            })
            .collect();

        let file = WorldFile {
            settings: settings.clone(),
            prompts: corpora,
            campaigns: world.campaigns().cloned().collect(),
            written: summary.clone(),
        };
        let path = self.out_dir.join("world.json");
        let text = serde_json::to_string_pretty(&file)
            .map_err(|e| SimulateError::Write { path: path.clone(), source: e.into() })?;
        fs::write(&path, text + "\n").map_err(at(&path))?;
        Ok(summary)
    }

    fn write_part(
        &self,
        dir: &Path,
        number: u64,
        moments: &[Moment],
    ) -> Result<(u64, Vec<RecordBatch>), SimulateError> {
        let path = dir.join(format!("part-{number:05}.parquet"));
        let properties = exchange_properties(self.world.settings.rows_per_group as usize);
        let mut writer = open(&path, columns::schema(columns::EXCHANGES), properties)?;
        let mut truth = Vec::new();
        for some in moments.chunks(BATCH_ROWS) {
            let rows = self.world.rows(some)?;
            writer.write(&rows.exchanges).map_err(|source| encode(&path, source))?;
            truth.push(rows.truth);
            let done =
                self.done.fetch_add(some.len() as u64, Ordering::Relaxed) + some.len() as u64;
            (self.progress)(done, self.world.settings.exchanges.max(done));
        }
        writer.close().map_err(|source| encode(&path, source))?;
        let bytes = fs::metadata(&path).map(|m| m.len()).unwrap_or_default();
        Ok((bytes, truth))
    }

    fn write_table(
        &self,
        name: &str,
        batch: &RecordBatch,
        properties: WriterPropertiesBuilder,
    ) -> Result<(), SimulateError> {
        let path = self.out_dir.join(name);
        let mut writer = open(&path, batch.schema(), properties)?;
        writer
            .write(batch)
            .and_then(|()| writer.close().map(|_| ()))
            .map_err(|source| encode(&path, source))
    }
}

fn encode(path: &Path, source: ParquetError) -> SimulateError {
    SimulateError::Encode { path: path.to_owned(), source }
}

fn open(
    path: &Path,
    schema: SchemaRef,
    properties: WriterPropertiesBuilder,
) -> Result<ArrowWriter<File>, SimulateError> {
    let file = File::create(path)
        .map_err(|source| SimulateError::Write { path: path.to_owned(), source })?;
    ArrowWriter::try_new(file, schema, Some(properties.build()))
        .map_err(|source| encode(path, source))
}

fn zstd() -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default())
}

/// A dictionary helps where values recur; ids, times and prompts do not.
fn exchange_properties(rows_per_group: usize) -> WriterPropertiesBuilder {
    let mut properties = WriterProperties::builder()
        .set_compression(zstd())
        .set_max_row_group_row_count(Some(rows_per_group))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_dictionary_page_size_limit(4 * 1024 * 1024);
    for name in [
        "exchange_id",
        "time",
        "conversation_id",
        "prompt",
        "response_digest",
        "cost_usd",
        "client_address",
    ] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    // The least and greatest of random ids or of long texts help no reader. That no
    // prompt is missing does: it saves looking through them all.
    for name in ["exchange_id", "conversation_id", "system_instructions", "response_digest"] {
        properties = properties
            .set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::None);
    }
    properties.set_column_encoding(ColumnPath::from("time"), Encoding::DELTA_BINARY_PACKED)
}

/// Parts of an earlier, larger world would otherwise be hunted with this one.
fn remove_old_parts(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("part-") && name.ends_with(".parquet") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A world in memory, batch by batch in the order of time, for tests and for whoever
/// needs no files.
pub struct WorldStream<'a> {
    world: &'a World,
    timeline: Timeline<'a>,
}

/// Some rows of a world.
pub struct WorldBatch {
    /// With the columns of the exchanges table.
    pub exchanges: RecordBatch,
    /// `exchange_id`, `campaign` of the same rows; never for a hunt.
    pub truth: RecordBatch,
}

impl Iterator for WorldStream<'_> {
    type Item = Result<WorldBatch, SimulateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let moments = self.timeline.take(BATCH_ROWS);
        if moments.is_empty() {
            return None;
        }
        let rows = self.world.rows(&moments).map_err(SimulateError::from);
        Some(rows.map(|Rows { exchanges, truth }| WorldBatch { exchanges, truth }))
    }
}

impl World {
    /// Plays the world through.
    #[must_use]
    pub fn stream(&self) -> WorldStream<'_> {
        WorldStream { world: self, timeline: Timeline::new(self) }
    }

    /// The accounts table, ordered by id.
    ///
    /// # Errors
    /// Never in practice: rows always fit the contract's columns.
    pub fn accounts_table(&self) -> Result<RecordBatch, SimulateError> {
        Ok(self.accounts_batch(&self.listed())?)
    }

    /// The releases table, in the order of time.
    ///
    /// # Errors
    /// Never in practice: rows always fit the contract's columns.
    pub fn releases_table(&self) -> Result<RecordBatch, SimulateError> {
        Ok(self.releases_batch()?)
    }

    /// `account_id`, `kind` and `campaign` of every account; never for a hunt.
    ///
    /// # Errors
    /// Never in practice: rows always fit the truth's columns.
    pub fn truth_table(&self) -> Result<RecordBatch, SimulateError> {
        Ok(self.truth_accounts_batch(&self.listed())?)
    }
}
