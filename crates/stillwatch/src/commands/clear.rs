use std::path::PathBuf;

use clap::Args;
use stillwatch_hunt::{Entry, GROUPS, Shared, add, read_groups};

use crate::failure::Failure;
use crate::output;
use crate::session::Session;

/// Says what is innocent, for later hunts
///
/// A cleared campaign is not reported again while most of its accounts are the same, and
/// its course becomes a reference that other groups are compared with. FILE is yours to
/// keep and to edit, a line for each: give it to `stillwatch hunt --references`.
#[derive(Debug, Args)]
pub struct Clear {
    /// The campaign to clear, by its id.
    #[arg(value_name = "CAMPAIGN", required_unless_present_any = ["customers", "harmless"])]
    campaign: Option<String>,

    /// The folder that `stillwatch hunt` wrote.
    #[arg(long, value_name = "DIR", required_unless_present = "harmless")]
    findings: Option<PathBuf>,

    /// Also keep the groups of that hunt that one customer or verified organisations stand
    /// behind, as references.
    #[arg(long, requires = "findings")]
    customers: bool,

    /// Also declare a thing harmless to share: email_domain=…, organization_id=… or
    /// payment_fingerprint=… of the accounts table.
    #[arg(long, value_name = "WHAT=VALUE", value_parser = harmless)]
    harmless: Vec<(Shared, String)>,

    /// The references file; it is made where there is none.
    #[arg(long, value_name = "FILE")]
    references: PathBuf,

    /// Why, for whoever reads the file later.
    #[arg(long, value_name = "TEXT")]
    why: String,
}

fn harmless(text: &str) -> Result<(Shared, String), String> {
    let (what, value) = text.split_once('=').ok_or("give it as WHAT=VALUE")?;
    let what = match what {
        "email_domain" => Shared::EmailDomain,
        "organization_id" => Shared::OrganizationId,
        "payment_fingerprint" => Shared::PaymentFingerprint,
        _ => return Err("email_domain, organization_id or payment_fingerprint".to_owned()),
    };
    if value.is_empty() {
        return Err("the value is empty".to_owned());
    }
    Ok((what, value.to_owned()))
}

/// Adds to the references file and says what was added.
pub fn run(args: &Clear, _: &Session) -> Result<(), Failure> {
    let why = args.why.trim();
    if why.is_empty() {
        return Err(Failure::Usage("--why is empty: say why, for whoever reads it".to_owned()));
    }
    let mut new = Vec::new();
    if let Some(findings) = &args.findings {
        if !findings.join(GROUPS).is_file() {
            let folder = findings.display();
            return Err(Failure::Usage(format!(
                "{folder} has no {GROUPS}: give a folder that `stillwatch hunt` wrote"
            )));
        }
        let groups = read_groups(findings)?;
        if let Some(wanted) = &args.campaign {
            let group = groups.iter().find_map(|entry| match entry {
                Entry::Campaign { campaign_id, accounts, group } if campaign_id == wanted => {
                    Some((accounts, group))
                }
                _ => None,
            });
            let (accounts, group) = group.ok_or_else(|| {
                let ids: Vec<&str> = groups
                    .iter()
                    .filter_map(|entry| match entry {
                        Entry::Campaign { campaign_id, .. } => Some(campaign_id.as_str()),
                        _ => None,
                    })
                    .collect();
                let known = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
                Failure::Usage(format!("there is no campaign {wanted}; the findings have {known}"))
            })?;
            new.push(Entry::Cleared {
                campaign_id: wanted.clone(),
                why: why.to_owned(),
                accounts: accounts.clone(),
                group: group.clone(),
            });
        }
        if args.customers {
            new.extend(groups.into_iter().filter(|g| matches!(g, Entry::Customer { .. })));
        }
    }
    new.extend(args.harmless.iter().map(|(what, value)| Entry::Harmless {
        what: *what,
        value: value.clone(),
        why: why.to_owned(),
    }));
    let given = new.len();
    let added = add(&args.references, new)?;
    output::print(&format!(
        "{added} added to {}{}\n",
        args.references.display(),
        if added < given {
            format!(", {} were there already", given - added)
        } else {
            String::new()
        }
    ))
}
