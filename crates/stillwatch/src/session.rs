//! What every subcommand is given: how to show progress, whether to stop, and the
//! runtime that waits for signals and object stores.

use std::num::NonZero;
use std::sync::Arc;

use stillwatch_ingest::{Format, Options};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::progress::Stages;
use crate::stop::Stop;

/// One run of the program.
pub struct Session {
    pub stages: Arc<Stages>,
    pub stop: Stop,
    runtime: Runtime,
}

impl Session {
    /// Begins a run: from here on Ctrl-C asks it to stop.
    pub fn begin(quiet: bool) -> Result<Self, Failure> {
        let cannot = |error| Failure::Other(format!("cannot start a runtime: {error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(cannot)?;
        let stop = Stop::listen(&runtime).map_err(cannot)?;
        Ok(Session { stages: Arc::new(Stages::new(quiet, stop.clone())), stop, runtime })
    }

    /// The runtime, for what waits for servers.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    /// Runs something beside the run itself, for as long as that lasts.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Waits for something that the runtime does.
    pub fn wait_for<T>(&self, made: impl FnOnce() -> T) -> T::Output
    where
        T: Future,
    {
        self.runtime.block_on(async { made().await })
    }

    /// How input is to be read: the format where one is named, and object stores with
    /// what the environment says of them.
    pub fn read_options(&self, format: Option<Format>, account_attributes: &[String]) -> Options {
        let store_options = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Options {
            format,
            account_attributes: account_attributes.to_vec(),
            runtime: Some(self.runtime.handle().clone()),
            store_options,
            ..Options::default()
        }
    }
}

/// The number of threads to work with: as asked, or one for each processor.
pub fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get), usize::from)
}
