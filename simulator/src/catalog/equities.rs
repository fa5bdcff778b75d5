//! Shares.
//!
//! **Invariant:** a share's tick is a cent, its lot one share, and its quotes are round lots of a hundred.

use std::collections::HashSet;

use market::AssetClass;

use super::{Listing, Underlyings, rows};

pub(super) const TABLE: &str = include_str!("../../data/equities.csv");

const GROUP: &str = "equity";

/// The most active first: those of the table, then as many invented ones as make `count` of them.
pub(super) fn listings(underlyings: &mut Underlyings, count: usize) -> Vec<Listing> {
    let mut listings = Vec::new();
    let mut known = HashSet::new();
    for [symbol, description, price] in rows::<3>(TABLE) {
        let Ok(price) = price.parse::<f64>() else { continue };
        known.insert(symbol.to_owned());
        listings.push(share(underlyings, listings.len(), symbol, description.to_owned(), price));
    }
    for (number, symbol) in invented_symbols().filter(|symbol| !known.contains(symbol)).enumerate() {
        if listings.len() >= count {
            break;
        }
        // Prices between 8 and 258 dollars, scattered by a multiplication that has no common factor with the range.
        let price = 8.0 + (number * 7919 % 25_000) as f64 / 100.0;
        listings.push(share(underlyings, listings.len(), &symbol, invented_company(number), price));
    }
    listings
}

fn share(underlyings: &mut Underlyings, rank: usize, symbol: &str, description: String, price: f64) -> Listing {
    // From large companies to small ones the movement doubles.
    let sigma = 110e-6 + 100e-6 * rank as f64 / (rank + 300) as f64;
    let spread_ticks = price * 100.0 * 1e-4 * (0.5 + 0.03 * rank as f64).min(9.0);
    Listing {
        symbol: symbol.to_owned(),
        description,
        currency: "USD".to_owned(),
        class: AssetClass::Equity,
        price_exponent: -2,
        tick_size: 1,
        size_exponent: 0,
        price,
        process: underlyings.add(format!("equity:{symbol}"), sigma, GROUP),
        spread_ticks,
        quote_scale: 2.0 + 10.0 / ((rank + 1) as f64).sqrt(),
        round_lots: 100,
        trade_scale: 60.0,
    }
}

/// Four letters: consonant, vowel, consonant, consonant; 21 x 5 x 21 x 21 = 46,305 of them, in a scattered order.
fn invented_symbols() -> impl Iterator<Item = String> {
    const CONSONANTS: &[u8] = b"BCDFGHJKLMNPQRSTVWXYZ";
    const VOWELS: &[u8] = b"AEIOU";
    const COUNT: usize = 21 * 5 * 21 * 21;
    // 17,389 is prime and divides none of the factors, so every name comes once.
    (0..COUNT).map(|k| k * 17_389 % COUNT).map(|k| {
        let letters = [CONSONANTS[k % 21], VOWELS[k / 21 % 5], CONSONANTS[k / 105 % 21], CONSONANTS[k / 2205]];
        letters.map(char::from).iter().collect()
    })
}

fn invented_company(number: usize) -> String {
    const FIRST: [&str; 23] = [
        "Alder", "Bright", "Cedar", "Delta", "Ember", "Falcon", "Granite", "Harbor", "Iron", "Juniper", "Keystone",
        "Lumen", "Meridian", "North", "Orchard", "Pioneer", "Quarry", "River", "Summit", "Timber", "Union", "Vale",
        "West",
    ];
    const SECOND: [&str; 19] = [
        "bank", "bridge", "brook", "crest", "field", "ford", "gate", "haven", "land", "line", "mark", "mont", "point",
        "ridge", "shore", "stone", "view", "wood", "works",
    ];
    const TRADE: [&str; 29] = [
        "Biosciences",
        "Capital",
        "Chemicals",
        "Components",
        "Diagnostics",
        "Dynamics",
        "Energy",
        "Financial",
        "Foods",
        "Health",
        "Holdings",
        "Industries",
        "Insurance",
        "Logistics",
        "Materials",
        "Media",
        "Mining",
        "Networks",
        "Pharma",
        "Power",
        "Realty",
        "Resources",
        "Robotics",
        "Semiconductor",
        "Software",
        "Systems",
        "Therapeutics",
        "Transport",
        "Water",
    ];
    // The lengths have no common factor: 12,673 different names.
    format!("{}{} {} Inc.", FIRST[number % 23], SECOND[number % 19], TRADE[number % 29])
}
