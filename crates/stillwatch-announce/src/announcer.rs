//! Tells of a watch's findings, and keeps what was told beside its state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillwatch_exchange::{Campaign, MemberRow, Time};
use tokio::sync::Notify;

use crate::ledger::{Change, Ledger, VERSION};
use crate::ocsf;
use crate::webhook::{Endpoint, Outcome};

/// The first pause after an attempt that failed; each is twice the one before.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// Attempts for one message in one run of the program: about an hour and a half.
const ATTEMPTS_MAX: u32 = 17;
/// The name of the ledger in the folder of a watch's state.
const LEDGER: &str = "announced.json";

/// Who is told, and by whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where what was told is kept.
    pub state: PathBuf,
    /// The file that gets a line of OCSF for every change.
    pub ocsf: Option<PathBuf>,
    /// Who gets a message for every new campaign.
    pub endpoint: Option<Endpoint>,
    /// Where people read about a campaign; goes into messages.
    pub report: Option<String>,
    /// The version of the program.
    pub version: &'static str,
    /// The wall clock in seconds since 1970, for signatures.
    pub clock: fn() -> i64,
    /// Where a line for people goes.
    pub say: fn(&str),
}

/// What can't be told.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// What was told earlier is kept in a form that can't be read.
    #[error(
        "{} can't be used: {what}; without it, every campaign is told of as new",
        path.display()
    )]
    Ledger { path: PathBuf, what: String },
}

fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> AnnounceError + use<'a> {
    move |source| AnnounceError::Io { doing, path: path.to_owned(), source }
}

/// Tells of findings, look by look.
#[derive(Debug)]
pub struct Announcer {
    settings: Settings,
    path: PathBuf,
    ledger: Mutex<Ledger>,
    /// There is something to deliver.
    pending: Notify,
}

impl Announcer {
    /// Goes on where an earlier run was.
    ///
    /// # Errors
    /// The ledger can't be read, or the file for OCSF can't be written.
    pub fn open(settings: Settings) -> Result<Arc<Self>, AnnounceError> {
        if let Some(path) = &settings.ocsf {
            if path.starts_with(&settings.state) {
                let made = fs::create_dir_all(&settings.state);
                made.map_err(io_error("make the folder", &settings.state))?;
            }
            try_ocsf(path)?;
        }
        let path = settings.state.join(LEDGER);
        let wrong = |what: String| AnnounceError::Ledger { path: path.clone(), what };
        let ledger: Ledger = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ledger::new(),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        if ledger.version != VERSION {
            return Err(wrong(format!("its version is {}", ledger.version)));
        }
        let (ledger, pending) = (Mutex::new(ledger), Notify::new());
        Ok(Arc::new(Announcer { settings, path, ledger, pending }))
    }

    fn locked(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of the findings of a look whose window ends at `time`: lines are written,
    /// messages are put in line. Where the process is killed in the middle, the look is
    /// taken again and the same is told again, with the same ids.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn look(
        &self,
        time: Time,
        campaigns: &[Campaign],
        members: &[MemberRow],
    ) -> Result<(), AnnounceError> {
        let mut ledger = self.locked();
        let mut next = ledger.clone();
        let changes = next.look(time, campaigns, members);
        if let Some(path) = &self.settings.ocsf {
            append_ocsf(path, &changes, self.settings.version)?;
        }
        if self.settings.endpoint.is_some() {
            next.enqueue(&changes, self.settings.report.as_deref());
            if next.undelivered > ledger.undelivered {
                (self.settings.say)("webhook: too many messages wait, the oldest were dropped");
            }
        }
        self.save(&next)?;
        *ledger = next;
        self.pending.notify_one();
        Ok(())
    }

    /// How many messages were dropped or given up since the state was begun, and how many
    /// wait.
    pub fn undelivered(&self) -> (u64, usize) {
        let ledger = self.locked();
        (ledger.undelivered, ledger.pending.len())
    }

    /// Delivers messages one after the other, for as long as it is let.
    pub async fn deliver(&self) {
        let Some(endpoint) = &self.settings.endpoint else { return };
        let mut attempts = 0;
        loop {
            let message = self.locked().pending.first().cloned();
            let Some(message) = message else {
                self.pending.notified().await;
                continue;
            };
            let outcome = endpoint.post(&message, (self.settings.clock)()).await;
            attempts += 1;
            let is_given_up = outcome == Outcome::Gone || attempts >= ATTEMPTS_MAX;
            if outcome == Outcome::Delivered || is_given_up {
                attempts = 0;
                if outcome != Outcome::Delivered {
                    self.locked().undelivered += 1;
                    let id = &message.id;
                    (self.settings.say)(&format!("webhook: {outcome}; message {id} is given up"));
                }
                self.forget(&message.id);
                continue;
            }
            if attempts == 1 {
                (self.settings.say)(&format!("webhook: {outcome}; it is tried again"));
            }
            let pause = PAUSE.saturating_mul(1 << (attempts - 1).min(16)).min(PAUSE_MAX);
            tokio::time::sleep(pause).await;
        }
    }

    /// Takes a message off the line; sent once more, should the process be killed before.
    fn forget(&self, id: &str) {
        let mut ledger = self.locked();
        ledger.pending.retain(|held| held.id != id);
        if let Err(error) = self.save(&ledger) {
            (self.settings.say)(&format!("webhook: {error}"));
        }
    }

    /// Waits until nothing is left to deliver.
    pub async fn drained(&self) {
        while self.settings.endpoint.is_some() && !self.locked().pending.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn save(&self, ledger: &Ledger) -> Result<(), AnnounceError> {
        let part = self.path.with_file_name(format!(".{LEDGER}.part"));
        let write = || {
            fs::create_dir_all(&self.settings.state)?;
            let mut file = File::create(&part)?;
            file.write_all(&serde_json::to_vec(ledger)?)?;
            file.sync_all()?;
            fs::rename(&part, &self.path)
        };
        write().map_err(io_error("write", &self.path))
    }
}

/// Tries whether a file for OCSF can be written, and leaves it as it was.
///
/// # Errors
/// It can't.
pub fn try_ocsf(path: &Path) -> Result<(), AnnounceError> {
    let there = fs::metadata(path);
    // Whoever reads from a pipe would take this for the end.
    if there.as_ref().is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return Ok(());
    }
    let open = || {
        drop(OpenOptions::new().create(true).append(true).open(path)?);
        if there.is_err() { fs::remove_file(path) } else { Ok(()) }
    };
    open().map_err(io_error("write", path))
}

/// Appends a line of OCSF for each change. A last line that a killed process left
/// unfinished is ended first, so that it spoils no other.
///
/// # Errors
/// The file can't be written.
pub fn append_ocsf(path: &Path, changes: &[Change], version: &str) -> Result<(), AnnounceError> {
    let write = || {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut text = String::new();
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                text.push('\n');
            }
        }
        for change in changes {
            text.push_str(&ocsf::event(change, version));
            text.push('\n');
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(io_error("write", path))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::{HeaderMap, Request, Response, StatusCode};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::ledger::tests::{campaign, members};
    use crate::webhook::{Key, signature};

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    type Got = UnboundedReceiver<(HeaderMap, String)>;

    /// An endpoint that answers with these statuses, the last one for ever; what it got.
    async fn endpoint(statuses: &'static [u16]) -> (Endpoint, Got) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, receiver) = unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, count) = (sender.clone(), Arc::clone(&count));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (sender, count) = (sender.clone(), Arc::clone(&count));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let text = String::from_utf8(body.to_vec()).unwrap();
                        sender.send((head.headers, text)).unwrap();
                        let place = count.fetch_add(1, Ordering::SeqCst).min(statuses.len() - 1);
                        let mut response = Response::new(Full::<Bytes>::default());
                        *response.status_mut() = StatusCode::from_u16(statuses[place]).unwrap();
                        Ok::<_, Infallible>(response)
                    }
                });
                tokio::spawn(async move {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (Endpoint::new(&url, Key::parse(KEY).unwrap()).unwrap(), receiver)
    }

    fn open(folder: &Path, endpoint: Option<Endpoint>) -> Result<Arc<Announcer>, AnnounceError> {
        Announcer::open(Settings {
            state: folder.to_owned(),
            ocsf: Some(folder.join("findings.ocsf.jsonl")),
            endpoint,
            report: None,
            version: "1",
            clock: || 1_772_409_600,
            say: |_| {},
        })
    }

    fn begin(folder: &Path, endpoint: Endpoint) -> (Arc<Announcer>, JoinHandle<()>) {
        let announcer = open(folder, Some(endpoint)).unwrap();
        let delivering = Arc::clone(&announcer);
        (announcer, tokio::spawn(async move { delivering.deliver().await }))
    }

    fn look(announcer: &Announcer, day: i64, id: &str) {
        let found = members(id, &["x", "y"]);
        announcer.look(Time(day), &[campaign(id, day as u64)], &found).unwrap();
    }

    #[tokio::test]
    async fn a_message_is_tried_until_it_is_taken_and_then_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (endpoint, mut got) = endpoint(&[503, 200]).await;
        let (announcer, task) = begin(folder.path(), endpoint.clone());
        look(&announcer, 1, "a");
        let (head, body) = got.recv().await.unwrap();
        let (again, same) = got.recv().await.unwrap();
        assert_eq!((&head["webhook-id"], &body), (&again["webhook-id"], &same));
        let id = head["webhook-id"].to_str().unwrap();
        let expected = signature(&Key::parse(KEY).unwrap(), id, 1_772_409_600, &body);
        assert_eq!(head["webhook-signature"], expected);
        assert_eq!(head["webhook-timestamp"], "1772409600");
        announcer.drained().await;
        task.abort();

        // A restart announces nothing again, though the campaign has grown.
        let (announcer, task) = begin(folder.path(), endpoint);
        look(&announcer, 2, "b");
        announcer.drained().await;
        assert!(got.try_recv().is_err());
        assert_eq!(announcer.undelivered(), (0, 0));
        task.abort();
    }

    #[tokio::test]
    async fn what_was_not_delivered_is_sent_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (first, mut refused) = endpoint(&[500]).await;
        let (announcer, task) = begin(folder.path(), first);
        look(&announcer, 1, "a");
        let (head, _) = refused.recv().await.unwrap();
        task.abort();
        assert_eq!(announcer.undelivered(), (0, 1));

        let (second, mut got) = endpoint(&[204]).await;
        let (announcer, task) = begin(folder.path(), second);
        let (again, _) = got.recv().await.unwrap();
        assert_eq!(head["webhook-id"], again["webhook-id"]);
        announcer.drained().await;
        task.abort();
    }

    #[tokio::test]
    async fn an_endpoint_that_wants_no_more_is_not_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let (gone, mut got) = endpoint(&[410]).await;
        let (announcer, task) = begin(folder.path(), gone);
        look(&announcer, 1, "a");
        got.recv().await.unwrap();
        announcer.drained().await;
        assert_eq!(announcer.undelivered(), (1, 0));
        task.abort();
    }

    #[test]
    fn lines_are_appended_and_a_torn_one_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let announcer = open(folder.path(), None).unwrap();
        look(&announcer, 1, "a");
        let path = folder.path().join("findings.ocsf.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"torn").unwrap();
        look(&announcer, 2, "b");
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for (line, activity) in [(lines[0], 1), (lines[2], 2)] {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["activity_id"], activity);
            assert_eq!(event["finding_info"]["uid"], "a");
        }
    }

    #[test]
    fn a_ledger_that_is_not_ours_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}", r#"{"version":9,"entries":[],"pending":[],"undelivered":0}"#] {
            fs::write(folder.path().join(LEDGER), text).unwrap();
            let error = open(folder.path(), None).unwrap_err();
            assert!(error.to_string().contains(LEDGER), "{error}");
        }
    }
}
