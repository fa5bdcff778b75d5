//! Pairs of coins and currencies.
//!
//! **Invariant:** all pairs of a coin follow that coin's value in dollars; what the other currency does is left out.

use market::AssetClass;

use super::{Listing, Underlyings, power_of_ten, rows};

pub(super) const TABLE: &str = include_str!("../../data/crypto.csv");

/// What coins are priced in: its value in dollars, and how much less active such a pair is than one in dollars.
const QUOTED_IN: [(&str, f64, f64); 7] = [
    ("USD", 1.0, 1.0),
    ("USDT", 1.0, 1.4),
    ("EUR", 1.0865, 4.0),
    ("USDC", 1.0, 5.0),
    ("BTC", 97_400.0, 6.0),
    ("GBP", 1.274, 9.0),
    ("ETH", 3415.0, 12.0),
];

/// Cheaper pairs would need more digits than venues give.
const PRICE_MIN: f64 = 1e-6;

/// The most active first.
pub(super) fn listings(underlyings: &mut Underlyings) -> Vec<Listing> {
    let mut ranked = Vec::new();
    for (rank, [base, description, price, sigma]) in rows::<4>(TABLE).enumerate() {
        let (Ok(usd), Ok(sigma)) = (price.parse::<f64>(), sigma.parse::<f64>()) else { continue };
        let process = underlyings.add(format!("crypto:{base}"), sigma * 1e-6, "crypto");
        for (currency, worth, inactivity) in QUOTED_IN {
            let price = usd / worth;
            if base == currency || (base, currency) == ("BTC", "ETH") || price < PRICE_MIN {
                continue;
            }
            let inactivity = (rank + 1) as f64 * inactivity;
            let price_exponent = price_exponent(price);
            let size_exponent = size_exponent(usd);
            let ticks = price / power_of_ten(price_exponent);
            let interest_usd = 1500.0 + 40_000.0 / inactivity.sqrt();
            let quote_scale = interest_usd / usd / power_of_ten(size_exponent);
            let listing = Listing {
                symbol: format!("{base}-{currency}"),
                description: format!("{description} in {currency}"),
                currency: currency.to_owned(),
                class: AssetClass::Crypto,
                price_exponent,
                tick_size: 1,
                size_exponent,
                price,
                process,
                spread_ticks: ticks * 1e-4 * (0.04 + 0.1 * inactivity).min(12.0),
                quote_scale,
                round_lots: 1,
                trade_scale: quote_scale / 5.0,
            };
            ranked.push((inactivity, listing));
        }
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    ranked.into_iter().map(|(_, listing)| listing).collect()
}

/// At least two places, and as many as give the price five digits.
fn price_exponent(price: f64) -> i8 {
    (-10..=-2).rev().find(|exponent| price / power_of_ten(*exponent) >= 10_000.0).unwrap_or(-10)
}

/// As many places as make the smallest size worth less than two dollars.
fn size_exponent(usd: f64) -> i8 {
    (-8..=0).rev().find(|exponent| usd * power_of_ten(*exponent) < 2.0).unwrap_or(-8)
}
