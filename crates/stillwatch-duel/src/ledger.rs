//! What an attacker used in a round, and what it costs.

use crate::prices::{ITEMS, Item, PRICES, Prices};

/// How much of everything was used, and what was had for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    pub(crate) used: [f64; ITEMS],
    /// Tasks that were answered: the first turn of each; further turns count as cover.
    pub usable: u64,
}

impl Ledger {
    /// Adds some of an item, in its unit.
    pub fn use_up(&mut self, item: Item, amount: f64) {
        self.used[item as usize] += amount;
    }

    /// How much of an item was used.
    #[must_use]
    pub fn used(&self, item: Item) -> f64 {
        self.used[item as usize]
    }

    /// What all of it costs, in US dollars.
    #[must_use]
    pub fn cost_usd(&self, prices: &Prices) -> f64 {
        self.costs_usd(prices).iter().sum()
    }

    /// What each item costs, in US dollars.
    #[must_use]
    pub fn costs_usd(&self, prices: &Prices) -> [f64; ITEMS] {
        PRICES.each_ref().map(|p| self.used(p.item) * prices.of(p.item))
    }

    /// What a thousand usable exchanges cost, in US dollars; infinite where there are none.
    #[must_use]
    pub fn thousand_usd(&self, prices: &Prices) -> f64 {
        thousand_usd(self.cost_usd(prices), self.usable)
    }
}

/// What a thousand cost where so many cost this much.
pub(crate) fn thousand_usd(cost_usd: f64, usable: u64) -> f64 {
    if usable == 0 { f64::INFINITY } else { cost_usd / usable as f64 * 1_000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_by_hand() {
        let prices = Prices::parse(
            "account = 2\npayment_instrument = 10\ndatacenter_address_day = 0.5\nresidential_address_day = 1\nharvest_thousand_tokens = 0.25\ncover_thousand_tokens = 0.125\nparaphrased_prompt = 0.0625\ndelay_day = 3",
        )
        .unwrap();
        let mut ledger = Ledger { usable: 4_000, ..Ledger::default() };
        ledger.use_up(Item::Account, 10.0);
        ledger.use_up(Item::Payment, 5.0);
        ledger.use_up(Item::DatacenterAddressDay, 20.0);
        ledger.use_up(Item::ResidentialAddressDay, 7.0);
        ledger.use_up(Item::HarvestTokens, 100.0);
        ledger.use_up(Item::HarvestTokens, 100.0);
        ledger.use_up(Item::CoverTokens, 80.0);
        ledger.use_up(Item::Paraphrase, 160.0);
        ledger.use_up(Item::DelayDay, 1.0);
        // 20 + 50 + 10 + 7 + 50 + 10 + 10 + 3
        assert_eq!(ledger.cost_usd(&prices), 160.0);
        assert_eq!(ledger.thousand_usd(&prices), 40.0);
        assert_eq!(Ledger::default().thousand_usd(&prices), f64::INFINITY);
    }
}
