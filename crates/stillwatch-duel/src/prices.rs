//! What an attacker pays for: units, defaults and their sources, and the file in which a
//! user changes them.

use std::fmt::Write as _;

use serde_json::Value;

/// Something that has a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Item {
    Account = 0,
    Payment = 1,
    DatacenterAddressDay = 2,
    ResidentialAddressDay = 3,
    HarvestTokens = 4,
    CoverTokens = 5,
    Paraphrase = 6,
    DelayDay = 7,
}

/// How many items there are.
pub const ITEMS: usize = 8;

/// A price with its meaning.
#[derive(Debug)]
pub struct Price {
    pub item: Item,
    pub name: &'static str,
    /// What one of it is.
    pub unit: &'static str,
    pub default_usd: f64,
    /// Where the default comes from.
    pub source: &'static str,
}

/// All prices, in the order of [`Item`].
pub const PRICES: [Price; ITEMS] = [
    Price {
        item: Item::Account,
        name: "account",
        unit: "an account, verified by phone",
        default_usd: 0.26,
        source: "the mean price of one SMS verification in the US in a year of the Cambridge Online Trust and Safety Index (Dek et al., Science 2025; cotsi.org); labour is not in it",
    },
    Price {
        item: Item::Payment,
        name: "payment_instrument",
        unit: "a payment instrument that no other account has, such as a virtual card",
        default_usd: 5.0,
        source: "assumed",
    },
    Price {
        item: Item::DatacenterAddressDay,
        name: "datacenter_address_day",
        unit: "an address of a cloud or a relay for a day",
        default_usd: 0.12,
        source: "24 times the $0.005 an hour that AWS asks for a public IPv4 address since February 2024",
    },
    Price {
        item: Item::ResidentialAddressDay,
        name: "residential_address_day",
        unit: "a household's address for a day",
        default_usd: 0.20,
        source: "assumed: a static residential proxy at $6 a month; those that rotate are sold by traffic",
    },
    Price {
        item: Item::HarvestTokens,
        name: "harvest_thousand_tokens",
        unit: "a thousand tokens of harvest, asked and answered",
        default_usd: 0.01,
        source: "assumed: list prices of $3 and $15 a million tokens, mostly answers",
    },
    Price {
        item: Item::CoverTokens,
        name: "cover_thousand_tokens",
        unit: "a thousand tokens of cover traffic and of follow-up turns",
        default_usd: 0.002,
        source: "assumed: cover goes to a cheap model; 0 where strangers pay for it, as at a reseller",
    },
    Price {
        item: Item::Paraphrase,
        name: "paraphrased_prompt",
        unit: "a prompt or a template put into other words by a model",
        default_usd: 0.0005,
        source: "assumed: some 500 tokens at $1 a million",
    },
    Price {
        item: Item::DelayDay,
        name: "delay_day",
        unit: "a day that a thousand exchanges come later",
        default_usd: 0.05,
        source: "assumed",
    },
];

/// A price in a file is at most this.
const USD_MAX: f64 = 1e9;

/// Prices that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricesError {
    #[error("it is neither TOML nor JSON: {0}")]
    Syntax(String),
    #[error("it must be a table of names and US dollars, such as `account = 0.5`")]
    NoTable,
    #[error("no price is called `{0}`; there are {names}", names = names())]
    Unknown(String),
    #[error("`{name}` is {value}, and must be a number of US dollars from 0 to 1,000,000,000")]
    Value { name: String, value: String },
}

fn names() -> String {
    PRICES.map(|p| p.name).join(", ")
}

/// What everything costs, in US dollars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices([f64; ITEMS]);

impl Default for Prices {
    fn default() -> Self {
        Prices(PRICES.map(|p| p.default_usd))
    }
}

impl Prices {
    /// Reads a file of prices: TOML, or JSON where the first sign is `{`. What is not
    /// named keeps its default.
    ///
    /// # Errors
    /// It can't be read, names what has no price, or a value is no price.
    pub fn parse(text: &str) -> Result<Self, PricesError> {
        let one_line = |error: &dyn std::fmt::Display| {
            let text = error.to_string();
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            PricesError::Syntax(lines.join(" "))
        };
        let value: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| one_line(&error))?
        } else {
            toml::from_str(text).map_err(|error| one_line(&error))?
        };
        let Value::Object(table) = value else { return Err(PricesError::NoTable) };
        let mut prices = Prices::default();
        for (name, value) in table {
            let Some(price) = PRICES.iter().find(|p| p.name == name) else {
                return Err(PricesError::Unknown(name));
            };
            match value.as_f64().filter(|usd| (0.0..=USD_MAX).contains(usd)) {
                Some(usd) => prices.0[price.item as usize] = usd,
                None => return Err(PricesError::Value { name, value: value.to_string() }),
            }
        }
        Ok(prices)
    }

    /// The price of one of it.
    #[must_use]
    pub fn of(&self, item: Item) -> f64 {
        self.0[item as usize]
    }

    /// A file of these prices, with what they mean and where the defaults come from.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = "# Prices of `stillwatch duel`, in US dollars.\n".to_owned();
        for price in &PRICES {
            let usd = self.of(price.item);
            // Writing to a String can't fail.
            let _ = write!(
                text,
                "\n# {}.\n# Default {}: {}.\n{} = {usd:?}\n",
                price.unit, price.default_usd, price.source, price.name
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_printed_reads_as_the_same_prices() {
        let prices = Prices::default();
        assert_eq!(Prices::parse(&prices.to_toml()), Ok(prices));
        for (place, price) in PRICES.iter().enumerate() {
            assert_eq!(price.item as usize, place);
        }
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = Prices::parse("account = 2\n# dear\ndelay_day = 0.5\n").unwrap();
        let json = Prices::parse(" {\"account\": 2, \"delay_day\": 0.5}").unwrap();
        assert_eq!(toml, json);
        assert_eq!((toml.of(Item::Account), toml.of(Item::DelayDay)), (2.0, 0.5));
        assert_eq!(toml.of(Item::Payment), 5.0, "the default stays");
        assert_eq!(Prices::parse(""), Ok(Prices::default()));
    }

    #[test]
    fn bad_prices_are_named() {
        let says = |text: &str, words: &[&str]| {
            let error = Prices::parse(text).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
            for word in words {
                assert!(error.contains(word), "`{word}` is not said in: {error}");
            }
        };
        says("acount = 1", &["acount", "payment_instrument"]);
        says("account = -1", &["account", "-1"]);
        says("account = \"cheap\"", &["account", "cheap"]);
        says("account = nan", &["account"]);
        says("account = 1e300", &["account"]);
        says("account 1", &["TOML", "line 1"]);
        says("{\"account\": }", &["JSON", "line 1"]);
        says("[account]\nusd = 1", &["account"]);
    }

    proptest! {
        #[test]
        fn any_prices_survive_their_file(usd in prop::array::uniform8(0.0..1e9f64)) {
            let prices = Prices(usd);
            prop_assert_eq!(Prices::parse(&prices.to_toml()), Ok(prices));
        }
    }

    #[test]
    fn no_text_panics() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = Prices::parse(text);
            }
        });
    }
}
