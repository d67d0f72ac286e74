//! The wish to stop: Ctrl-C, or the signal with which services are ended.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::output;

/// Exit status of a process that was killed by a second Ctrl-C, as shells count.
const KILLED: i32 = 130;

/// Whether somebody wants the run to stop; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens from now on: the first signal asks the run to stop, the second one
    /// ends the process where it stands.
    pub fn listen(runtime: &Runtime) -> io::Result<Self> {
        let stop = Stop::default();
        let asked = stop.clone();
        let _guard = runtime.enter();
        let mut signals = Signals::new()?;
        runtime.spawn(async move {
            signals.next().await;
            asked.0.store(true, Ordering::Relaxed);
            if io::stderr().is_terminal() {
                output::note("stopping; press Ctrl-C again to end at once");
            }
            signals.next().await;
            std::process::exit(KILLED);
        });
        Ok(stop)
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends a run that was asked to stop.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_asked() { Err(Failure::Stopped) } else { Ok(()) }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
