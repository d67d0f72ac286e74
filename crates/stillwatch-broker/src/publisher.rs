//! Publishes the latest bundle, however long the server is away.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::address::Address;
use crate::bucket::publish;
use crate::bundle::Bundle;
use crate::server::{Access, BrokerError, Server, pause};

/// Publishes in the background what it is given; of several that wait, the last.
#[derive(Debug)]
pub struct Publisher {
    runtime: Handle,
    wanted: watch::Sender<(u64, Arc<Bundle>)>,
    done: watch::Receiver<Done>,
    place: String,
}

/// The number of the last bundle that is there, and why the next one is not.
#[derive(Clone, Debug, Default)]
struct Done {
    number: u64,
    trouble: Option<BrokerError>,
}

impl Publisher {
    /// Begins to publish; `say` is told when the server goes away and when it is back.
    ///
    /// # Errors
    /// The credentials can't be read, or the server refuses them.
    pub fn begin(
        runtime: Handle,
        address: &Address,
        access: &Access,
        say: fn(&str),
    ) -> Result<Self, BrokerError> {
        let server = runtime.block_on(Server::connect(address, access))?;
        let (wanted, wants) = watch::channel((0, Arc::default()));
        let (tell, done) = watch::channel(Done::default());
        let place = server.place().to_owned();
        runtime.spawn(run(server, wants, tell, say));
        Ok(Publisher { runtime, wanted, done, place })
    }

    /// Publishes this, in place of what may be waiting.
    pub fn put(&self, bundle: Bundle) {
        self.wanted.send_modify(|(number, wanted)| {
            *number += 1;
            *wanted = Arc::new(bundle);
        });
    }

    /// Waits until what was put last is there.
    ///
    /// # Errors
    /// It is not, after so long.
    pub fn finish(mut self, at_most: Duration) -> Result<(), BrokerError> {
        let wanted = self.wanted.borrow().0;
        let done = &mut self.done;
        let finished = self.runtime.block_on(async {
            let is_done = done.wait_for(|done| done.number >= wanted);
            tokio::time::timeout(at_most, is_done).await.is_ok_and(|done| done.is_ok())
        });
        if finished {
            return Ok(());
        }
        let trouble = self.done.borrow().trouble.clone();
        Err(trouble.unwrap_or_else(|| BrokerError::Away {
            place: self.place.clone(),
            what: "no answer in time".to_owned(),
        }))
    }
}

async fn run(
    server: Server,
    mut wants: watch::Receiver<(u64, Arc<Bundle>)>,
    tell: watch::Sender<Done>,
    say: fn(&str),
) {
    let mut attempts = 0;
    loop {
        let (number, bundle) = wants.borrow_and_update().clone();
        if number > tell.borrow().number {
            match publish(&server, &bundle).await {
                Ok(()) => {
                    if attempts > 0 {
                        say(&format!("findings are published again: {}", server.place()));
                    }
                    attempts = 0;
                    tell.send_replace(Done { number, trouble: None });
                }
                Err(error) => {
                    if attempts == 0 {
                        say(&format!("findings are not published yet: {error}"));
                    }
                    tell.send_modify(|done| done.trouble = Some(error));
                    tokio::time::sleep(pause(attempts)).await;
                    attempts += 1;
                    continue;
                }
            }
        }
        if wants.changed().await.is_err() {
            return;
        }
    }
}
