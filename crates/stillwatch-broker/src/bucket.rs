//! Bundles in a key-value bucket: one head, and the chunks that it names.
//!
//! | key | value |
//! | --- | --- |
//! | `head` | [`Head`] as JSON |
//! | `chunk.SHA256` | a part of a file, at most [`CHUNK_BYTES`](crate::CHUNK_BYTES) |
//!
//! Bound: the chunks of this bundle and of the one before, which somebody may be reading
//! still; older ones are removed when the next bundle is published.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::jetstream::kv::{Config, Entry, Operation, Store};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::bundle::{BUNDLE_BYTES_MAX, Bundle, CHUNK_BYTES, Head};
use crate::server::{BrokerError, Server, is_missing, pause};

const HEAD: &str = "head";
/// How often the head is read although no change was told of.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// How often a bundle is read anew when another took its place meanwhile.
const READS_MAX: usize = 4;

/// What is there, as one comes to know of it.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Nothing was published yet.
    Empty,
    Bundle(Bundle),
    /// What was published can't be used, and why; what was there before is still right.
    Refused(BrokerError),
    /// The server or the bucket can't be had now, and is looked for again.
    Away(BrokerError),
    /// It can be had again, and nothing has changed.
    Back,
}

/// Publishes a bundle in a bucket, which is made where there is none.
///
/// # Errors
/// It could not be published whole; the one before is still there.
pub async fn publish(server: &Server, bundle: &Bundle) -> Result<(), BrokerError> {
    let store = store_or_new(server, Duration::ZERO).await?;
    let (head, chunks) = bundle.divided().map_err(|what| server.broken(what))?;
    // A head that can't be read names nothing that anybody is reading.
    let before = current(server, &store).await?.and_then(|(_, head)| Head::parse(&head).ok());
    if before.as_ref() == Some(&head) {
        return Ok(());
    }
    let most = server.payload_bytes_max().min(1 << 30);
    if CHUNK_BYTES + (4 << 10) > most {
        let what =
            format!("the server takes messages of {most} bytes, and {CHUNK_BYTES} are needed");
        return Err(server.refused(what));
    }
    let known = chunk_names(server, &store).await?;
    for (name, chunk) in &chunks {
        if !known.contains(name) {
            put(server, &store, &format!("chunk.{name}"), chunk.clone()).await?;
        }
    }
    put(server, &store, HEAD, head.to_bytes().into()).await?;
    let kept: BTreeSet<&String> =
        head.chunks().chain(before.iter().flat_map(Head::chunks)).collect();
    for name in known.iter().filter(|name| !kept.contains(name)) {
        let subject = format!("$KV.{}.chunk.{name}", server.name());
        let purged = async { store.stream.purge().filter(subject).await };
        server.answered(purged).await?;
    }
    Ok(())
}

async fn put(server: &Server, store: &Store, key: &str, value: Bytes) -> Result<(), BrokerError> {
    let stored = server.asked(store.put(key, value)).await?;
    // What a full or forbidden bucket answers may change as well.
    stored.map(drop).map_err(|error| server.failed(error))
}

/// The bucket, which is made where there is none, and then keeps values for so long; for
/// ever, if it is nothing.
pub(crate) async fn store_or_new(server: &Server, kept: Duration) -> Result<Store, BrokerError> {
    let known = server.asked(server.jetstream.get_key_value(server.name())).await?;
    if let Ok(store) = known {
        return Ok(store);
    }
    let config = Config {
        bucket: server.name().to_owned(),
        description: "stillwatch".to_owned(),
        history: 1,
        max_age: kept,
        ..Config::default()
    };
    server.answered(server.jetstream.create_key_value(config)).await
}

/// The bucket, if there is one.
async fn store(server: &Server) -> Result<Store, BrokerError> {
    let asked = server.jetstream.get_key_value(server.name());
    server.asked(asked).await?.map_err(|error| {
        if is_missing(&error) {
            return server.failed(format_args!(
                "there is no bucket {}; `stillwatch watch --publish {}` makes it",
                server.name(),
                server.place()
            ));
        }
        server.failed(format_args!("the bucket {} can't be read: {error}", server.name()))
    })
}

async fn current(server: &Server, store: &Store) -> Result<Option<(u64, Bytes)>, BrokerError> {
    let entry = server.answered(store.entry(HEAD)).await?;
    Ok(entry.filter(is_there).map(|entry| (entry.revision, entry.value)))
}

fn is_there(entry: &Entry) -> bool {
    entry.operation == Operation::Put
}

async fn chunk_names(server: &Server, store: &Store) -> Result<BTreeSet<String>, BrokerError> {
    let mut keys = server.answered(store.keys()).await?;
    let mut names = BTreeSet::new();
    while let Some(key) = server.asked(async { Ok::<_, BrokerError>(keys.next().await) }).await?? {
        let key = key.map_err(|error| server.away(error))?;
        names.extend(key.strip_prefix("chunk.").map(str::to_owned));
    }
    Ok(names)
}

/// What is in a bucket now.
///
/// # Errors
/// The server or the bucket can't be had.
pub async fn latest(server: &Server) -> Result<News, BrokerError> {
    let store = store(server).await?;
    match current(server, &store).await? {
        None => Ok(News::Empty),
        Some((_, head)) => fetched(server, &store, head).await,
    }
}

/// Fetches what a head names, or what another that took its place meanwhile names.
async fn fetched(server: &Server, store: &Store, head: Bytes) -> Result<News, BrokerError> {
    let mut bytes = head;
    let mut refused = String::new();
    for _ in 0..READS_MAX {
        let head = match Head::parse(&bytes) {
            Ok(head) => head,
            Err(what) => return Ok(News::Refused(server.broken(what))),
        };
        match assembled(server, store, &head).await? {
            Ok(bundle) => return Ok(News::Bundle(bundle)),
            Err(what) => refused = what,
        }
        match current(server, store).await? {
            Some((_, newer)) if newer != bytes => bytes = newer,
            _ => break,
        }
    }
    Ok(News::Refused(server.broken(refused)))
}

async fn assembled(
    server: &Server,
    store: &Store,
    head: &Head,
) -> Result<Result<Bundle, String>, BrokerError> {
    let mut chunks = BTreeMap::new();
    let mut bytes = 0;
    for name in head.chunks() {
        if chunks.contains_key(name) {
            continue;
        }
        let entry = server.answered(store.entry(format!("chunk.{name}"))).await?;
        if let Some(entry) = entry.filter(is_there) {
            bytes += entry.value.len() as u64;
            if bytes > BUNDLE_BYTES_MAX {
                return Ok(Err("the findings are larger than any are".to_owned()));
            }
            chunks.insert(name.clone(), entry.value);
        }
    }
    Ok(head.assembled(&chunks))
}

/// Follows a bucket until the receiver is dropped: what is in it now, and each change. A
/// watch that errs is made anew, with longer and longer pauses, and the bucket read again.
/// Must be called in a runtime.
#[must_use]
pub fn follow(server: Server) -> mpsc::Receiver<News> {
    let (told, news) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut follower = Follower { server, told, seen: None, is_away: false };
        let mut attempts = 0;
        while let Err(error) = follower.once(&mut attempts).await {
            follower.is_away = true;
            if follower.told.send(News::Away(error)).await.is_err() {
                return;
            }
            tokio::time::sleep(pause(attempts)).await;
            attempts += 1;
        }
    });
    news
}

struct Follower {
    server: Server,
    told: mpsc::Sender<News>,
    /// The revision of the head that was told of last; 0 for none.
    seen: Option<u64>,
    is_away: bool,
}

impl Follower {
    /// Follows until something errs; ends well when nobody listens any more.
    async fn once(&mut self, attempts: &mut usize) -> Result<(), BrokerError> {
        let server = self.server.clone();
        let store = store(&server).await?;
        // First the watch, then what is there: nothing falls between.
        let mut watch = server.answered(store.watch(HEAD)).await?;
        loop {
            let head = current(&server, &store).await?;
            let revision = head.as_ref().map_or(0, |(revision, _)| *revision);
            let news = match head {
                _ if self.seen == Some(revision) => self.is_away.then_some(News::Back),
                None => Some(News::Empty),
                Some((_, head)) => Some(fetched(&server, &store, head).await?),
            };
            self.seen = Some(revision);
            self.is_away = false;
            *attempts = 0;
            if let Some(news) = news
                && self.told.send(news).await.is_err()
            {
                return Ok(());
            }
            tokio::select! {
                changed = watch.next() => match changed {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(server.away(error)),
                    None => return Err(server.away("the watch has ended")),
                },
                () = tokio::time::sleep(READ_AGAIN) => {}
                away = server.lost() => return Err(away),
                () = self.told.closed() => return Ok(()),
            }
        }
    }
}
