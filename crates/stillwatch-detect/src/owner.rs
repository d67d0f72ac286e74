//! Owner: which accounts have one customer behind them.

use hashbrown::HashMap;

use crate::population::{Organization, Population};

/// Who an account belongs to, as numbers.
pub struct Owner {
    /// The organisation that is named.
    pub organization: Option<u32>,
    /// Whoever pays with one instrument and works from one network: so do firms with many
    /// seats, while who hides behind many accounts has many networks.
    pub payer: Option<u32>,
    /// The network that most of its exchanges come from, as a hash.
    pub place: Option<u64>,
    /// The provider has verified the organisation.
    pub is_verified: bool,
}

/// Whether a group is explained by who its accounts belong to: nearly all to one
/// customer, or most to organisations that the provider has verified. `Some` says
/// whether they are verified.
pub(crate) fn known_customers(owners: &[Owner], members: &[u32]) -> Option<bool> {
    let mut of: HashMap<u32, usize> = HashMap::new();
    let mut verified = 0;
    for &m in members {
        let owner = &owners[m as usize];
        verified += usize::from(owner.is_verified);
        for customer in [owner.organization, owner.payer].into_iter().flatten() {
            *of.entry(customer).or_default() += 1;
        }
    }
    let is_verified = verified as f64 >= VERIFIED * members.len() as f64;
    let is_one = of.values().any(|&count| count as f64 >= ONE_CUSTOMER * members.len() as f64);
    (is_one || is_verified).then_some(is_one && is_verified)
}

pub(crate) fn owners(population: &Population) -> Vec<Owner> {
    let mut organizations: HashMap<Organization<'_>, u32> = HashMap::new();
    let mut payers: HashMap<(&str, u64), u32> = HashMap::new();
    let mut next = 0u32..;
    let mut number = || next.next().unwrap_or(u32::MAX);
    population
        .members()
        .iter()
        .map(|member| (member, member.main_network()))
        .map(|(member, place)| Owner {
            organization: member
                .organization()
                .map(|o| *organizations.entry(o).or_insert_with(&mut number)),
            payer: member
                .payment()
                .zip(place)
                .map(|payer| *payers.entry(payer).or_insert_with(&mut number)),
            place,
            is_verified: member.is_verified_organization(),
        })
        .collect()
}

/// The part of a group that one customer must hold to be the explanation of it.
const ONE_CUSTOMER: f64 = 0.8;
/// The part of a group that verified organisations must hold to be no hidden campaign.
const VERIFIED: f64 = 0.5;

/// What each member counts, in their order: one for a customer in all. A customer's
/// accounts move together, so that it is customers by whom chance is reckoned; an account
/// of which nothing is known is a customer of its own.
pub(crate) fn shares(owners: &[Owner], members: &[u32]) -> Vec<f64> {
    let customer = |m: &u32| owners.get(*m as usize).and_then(|o| o.organization.or(o.payer));
    let mut accounts: HashMap<u32, f64> = HashMap::new();
    for customer in members.iter().filter_map(customer) {
        *accounts.entry(customer).or_default() += 1.0;
    }
    members.iter().map(|m| customer(m).map_or(1.0, |customer| 1.0 / accounts[&customer])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_counts_once_however_many_its_accounts() {
        let owner =
            |organization, payer| Owner { organization, payer, place: None, is_verified: false };
        let mut owners: Vec<Owner> = (0..20).map(|_| owner(None, None)).collect();
        let members: Vec<u32> = (0..20).collect();
        let customers = |owners: &[Owner]| shares(owners, &members).iter().sum::<f64>();
        assert_eq!(customers(&owners), 20.0);
        owners.iter_mut().take(8).for_each(|o| o.organization = Some(1));
        owners.iter_mut().skip(16).for_each(|o| o.payer = Some(2));
        assert_eq!(customers(&owners), 10.0);
        assert_eq!(shares(&owners, &[3, 9, 17, 4]), [0.5, 1.0, 1.0, 0.5]);
        assert_eq!(shares(&[], &members), [1.0; 20]);
    }
}
