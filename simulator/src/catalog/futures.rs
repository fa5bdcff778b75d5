//! Futures: every root with its next expiries.
//!
//! **Invariant:** all expiries of a root, and its micro contract, follow the same value.

use market::AssetClass;

use super::{Listing, Underlyings, power_of_ten, rows};

pub(super) const TABLE: &str = include_str!("../../data/futures.csv");

/// How many expiries a root has.
const EXPIRIES: usize = 8;
/// The year that month 0 of the table's front months is in: the market is always the one of late 2026.
const FIRST_YEAR: usize = 2026;
/// What a later expiry costs more.
const CARRY: f64 = 0.0015;

/// The most active first.
pub(super) fn listings(underlyings: &mut Underlyings) -> Vec<Listing> {
    let mut ranked = Vec::new();
    for (rank, row) in rows::<10>(TABLE).enumerate() {
        let [root, description, price, tick, exponent, currency, months, front, sigma, group] = row;
        let (Ok(price), Ok(tick_size), Ok(price_exponent), Ok(front), Ok(sigma)) = (
            price.parse::<f64>(),
            tick.parse::<i64>(),
            exponent.parse::<i8>(),
            front.parse::<usize>(),
            sigma.parse::<f64>(),
        ) else {
            continue;
        };
        // `crypto:BTC` and `future:ES` are underlyings that stand before; other groups are groups.
        let process = match underlyings.find(group) {
            Some(shared) if group.contains(':') => shared,
            _ => underlyings.add(format!("future:{root}"), sigma * 1e-6, group),
        };
        for expiry in 0..EXPIRIES {
            let inactivity = (rank + 1) as f64 * (1 + 3 * expiry * expiry) as f64;
            let (month, year) = contract_month(months, front + expiry);
            let price = price * (1.0 + CARRY * expiry as f64);
            let ticks = price / power_of_ten(price_exponent) / tick_size as f64;
            let listing = Listing {
                symbol: format!("{root}{month}{}", year % 10),
                description: format!("{description} {} {year}", month_name(month)),
                currency: currency.to_owned(),
                class: AssetClass::Future,
                price_exponent,
                tick_size,
                size_exponent: 0,
                price,
                process,
                spread_ticks: (1.0 + 0.6 * expiry as f64).max(ticks * 1e-5 * (1 + expiry) as f64),
                quote_scale: 4.0 + 60.0 / inactivity.sqrt(),
                round_lots: 1,
                trade_scale: 1.0 + 6.0 / inactivity.sqrt(),
            };
            ranked.push((inactivity, listing));
        }
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    ranked.into_iter().map(|(_, listing)| listing).collect()
}

fn contract_month(months: &str, number: usize) -> (char, usize) {
    let cycle = months.len().max(1);
    let month = months.as_bytes().get(number % cycle).map_or('Z', |letter| char::from(*letter));
    (month, FIRST_YEAR + number / cycle)
}

fn month_name(letter: char) -> &'static str {
    const NAMES: [(char, &str); 12] = [
        ('F', "January"),
        ('G', "February"),
        ('H', "March"),
        ('J', "April"),
        ('K', "May"),
        ('M', "June"),
        ('N', "July"),
        ('Q', "August"),
        ('U', "September"),
        ('V', "October"),
        ('X', "November"),
        ('Z', "December"),
    ];
    NAMES.iter().find(|(known, _)| *known == letter).map_or("", |(_, name)| name)
}
