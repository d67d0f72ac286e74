//! What is in force, and how it changes: a reload, a lift, a clearing. Exchanges read it
//! without a lock; changes are made one at a time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use stillwatch_decide::{Event, Finding, History, Policy, Table};
use stillwatch_exchange::Time;

use crate::bind::ReasoningKeys;
use crate::inputs::{self, InputError, Stamps};
use crate::keys::Credentials;
use crate::settings::{GuardError, Settings, Source};
use crate::state::State;

/// What exchanges are decided by.
#[derive(Debug, Default)]
pub struct InForce {
    /// Another number whenever something else is in force.
    pub version: u64,
    pub table: Table,
    pub credentials: Arc<Credentials>,
    pub findings: Arc<Vec<Finding>>,
    /// None where reasoning blocks have never been bound.
    pub reasoning_keys: Option<Arc<ReasoningKeys>>,
}

/// Where it all comes from.
#[derive(Clone, Debug)]
struct Files {
    policy: Option<PathBuf>,
    verdicts: Vec<Source>,
    /// What was kept of buckets.
    kept: Vec<PathBuf>,
    credentials: Option<PathBuf>,
    reasoning_keys: Option<PathBuf>,
    /// Whether other guards share the campaigns' buckets.
    is_shared: bool,
}

/// What was read of the files.
struct Inputs {
    policy: Arc<Policy>,
    findings: Arc<Vec<Finding>>,
    credentials: Arc<Credentials>,
    reasoning_keys: Option<Arc<ReasoningKeys>>,
}

/// The verdicts as they are now.
#[derive(Debug)]
pub struct Live {
    in_force: ArcSwap<InForce>,
    files: Files,
    change: Mutex<Changing>,
}

#[derive(Debug)]
struct Changing {
    state: State,
    history: History,
    stamps: Stamps,
}

/// What came of looking at the files.
#[derive(Debug)]
pub enum Reload {
    Unchanged,
    Done {
        campaigns: usize,
        accounts: usize,
    },
    /// What was in force stays so.
    Refused(GuardError),
}

/// Why something could not be undone.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    #[error("no finding in force has this campaign_id")]
    NoSuchCampaign,
    #[error(transparent)]
    Failed(#[from] GuardError),
}

impl Files {
    fn paths(&self) -> Vec<PathBuf> {
        let of_hunts = self.verdicts.iter().flat_map(|Source(folder)| {
            [folder.join("campaigns.json"), folder.join("members.parquet")]
        });
        let files = self.policy.iter().chain(&self.credentials).chain(&self.reasoning_keys);
        files.chain(&self.kept).cloned().chain(of_hunts).collect()
    }

    fn read(&self) -> Result<Inputs, InputError> {
        let policy = match &self.policy {
            Some(path) => inputs::read_policy(path)?,
            None => Policy::default(),
        };
        let mut findings = Vec::new();
        for source in &self.verdicts {
            findings.extend(inputs::read_findings(source)?);
        }
        for path in self.kept.iter().filter(|path| path.exists()) {
            findings.extend(inputs::read_bundle(path)?);
        }
        let credentials = match &self.credentials {
            Some(path) => inputs::read_credentials(path)?,
            None => Credentials::default(),
        };
        let keys = self.reasoning_keys.as_deref().map(inputs::read_reasoning_keys).transpose()?;
        let reasoning_keys = keys.map(Arc::new);
        if let (Some(path), true, None) = (&self.policy, policy.reasoning.bind, &reasoning_keys) {
            let what = "[reasoning] bind needs keys: give --reasoning-keys a file; \
                        `openssl rand -hex 32` makes a line of it";
            return Err(InputError::Content { path: path.clone(), what: what.to_owned() });
        }
        Ok(Inputs {
            policy: Arc::new(policy),
            findings: Arc::new(findings),
            credentials: Arc::new(credentials),
            reasoning_keys,
        })
    }
}

impl Live {
    /// Reads all files for the first time.
    ///
    /// # Errors
    /// One of them can't be used.
    pub fn begin(
        settings: &Settings,
        kept: Vec<PathBuf>,
        state: State,
        history: History,
        now: Time,
    ) -> Result<Self, GuardError> {
        let files = Files {
            policy: settings.policy.clone(),
            verdicts: settings.verdicts.clone(),
            kept,
            is_shared: settings.broker.limits.is_some(),
            credentials: settings.credentials.clone(),
            reasoning_keys: settings.reasoning_keys.clone(),
        };
        let stamps = Stamps::of(&files.paths());
        let inputs = files.read()?;
        let live = Live {
            in_force: ArcSwap::default(),
            files,
            change: Mutex::new(Changing { state, history, stamps }),
        };
        live.put_in_force(&mut live.changing(), inputs, now)?;
        Ok(live)
    }

    /// What is in force now.
    pub fn now(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// The version of what is in force now.
    pub fn version(&self) -> u64 {
        self.in_force.load().version
    }

    fn changing(&self) -> MutexGuard<'_, Changing> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_in_force(
        &self,
        changing: &mut Changing,
        inputs: Inputs,
        now: Time,
    ) -> Result<(usize, usize), GuardError> {
        let Inputs { policy, findings, credentials, reasoning_keys } = inputs;
        let earlier = self.in_force.load();
        let (table, events) =
            Table::build(policy, &findings, &changing.history, &earlier.table, now);
        if self.files.is_shared {
            table.campaigns().iter().for_each(|campaign| campaign.bucket.share());
        }
        changing.state.store(&events)?;
        events.iter().for_each(|event| changing.history.apply(event));
        let counts = (table.campaigns().len(), table.accounts_named());
        self.in_force.store(Arc::new(InForce {
            version: earlier.version + 1,
            table,
            credentials,
            findings,
            reasoning_keys,
        }));
        Ok(counts)
    }

    /// Reads the files again, if one has changed or `always`.
    pub fn reload(&self, now: Time, always: bool) -> Reload {
        let mut changing = self.changing();
        let stamps = Stamps::of(&self.files.paths());
        if stamps == changing.stamps && !always {
            return Reload::Unchanged;
        }
        // A file that is refused is looked at again once it changes, not before.
        changing.stamps = stamps.clone();
        let read = self.files.read();
        if Stamps::of(&self.files.paths()) != stamps {
            // Somebody is writing; the next look sees the whole.
            changing.stamps = Stamps::default();
            return Reload::Unchanged;
        }
        let put = read
            .map_err(GuardError::from)
            .and_then(|inputs| self.put_in_force(&mut changing, inputs, now));
        match put {
            Ok((campaigns, accounts)) => Reload::Done { campaigns, accounts },
            Err(error) => Reload::Refused(error),
        }
    }

    /// Leaves an account alone for as long as the policy says. Returns until when.
    ///
    /// # Errors
    /// It can't be stored; then the verdict stays.
    pub fn lift(&self, account_id: &str, why: &str, now: Time) -> Result<Time, UndoError> {
        let until = self.until(now);
        let event = Event::Lifted {
            time: now,
            account_id: account_id.to_owned(),
            until,
            why: why.to_owned(),
        };
        self.undo(event, now).map(|()| until)
    }

    /// Clears a campaign: it stays in the findings and is acted on no more, and its
    /// accounts are left alone for as long as the policy says. Returns until when, and
    /// how many accounts it has.
    ///
    /// # Errors
    /// There is no such campaign, or it can't be stored.
    pub fn clear(
        &self,
        campaign_id: &str,
        why: &str,
        now: Time,
    ) -> Result<(Time, usize), UndoError> {
        let until = self.until(now);
        let in_force = self.now();
        let finding = in_force.findings.iter().find(|f| f.campaign.campaign_id == campaign_id);
        let members = &finding.ok_or(UndoError::NoSuchCampaign)?.members;
        let event = Event::Cleared {
            time: now,
            campaign_id: campaign_id.to_owned(),
            accounts: members.iter().map(|member| member.account_id.clone()).collect(),
            until,
            why: why.to_owned(),
        };
        self.undo(event, now).map(|()| (until, members.len()))
    }

    fn until(&self, now: Time) -> Time {
        Time(now.0.saturating_add(self.in_force.load().table.policy().lift_us))
    }

    fn undo(&self, event: Event, now: Time) -> Result<(), UndoError> {
        let mut changing = self.changing();
        changing.state.store(std::slice::from_ref(&event))?;
        changing.history.apply(&event);
        let in_force = self.now();
        let inputs = Inputs {
            policy: in_force.table.shared_policy(),
            findings: Arc::clone(&in_force.findings),
            credentials: Arc::clone(&in_force.credentials),
            reasoning_keys: in_force.reasoning_keys.clone(),
        };
        self.put_in_force(&mut changing, inputs, now)?;
        Ok(())
    }
}
