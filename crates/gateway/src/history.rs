//! The plain HTTP side of single instruments: bars, books and recent trades.
//!
//! **Invariant:** like a snapshot, an answer is what was true between two batches, and its elements say up to which number.
//!
//! What is *not* here: state of many instruments at once, which is `rest`.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use hub::StreamKey;
use market::{BarInterval, Channel, ChannelSet, Instrument, InstrumentId};
use serde::Deserialize;
use wire::ErrorCode;

use crate::auth::Caller;
use crate::rest::{Params, elements, error};
use crate::state::Shared;

/// Elements in one answer when the request does not say.
const LIMIT: usize = 100;
/// The most elements in one answer: what is kept of a stream is of this order, and an answer stays below 1 MB.
const LIMIT_MAX: usize = 5_000;

/// What all of these take; each looks at what it needs.
#[derive(Debug, Deserialize)]
pub(crate) struct HistoryQuery {
    symbol: Option<String>,
    interval: Option<String>,
    depth: Option<String>,
    limit: Option<String>,
}

/// `GET /api/v1/bars?symbol=&interval=&limit=`: the newest bars, oldest first.
pub(crate) async fn bars(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Params(query): Params<HistoryQuery>,
) -> Response {
    let asked = || {
        let id = query.instrument(&shared, &caller)?;
        let interval = channel_of("interval", query.interval.as_deref().unwrap_or("1m"), "bars.")?;
        Ok::<_, Box<Response>>((id, interval, query.limit()?))
    };
    let (id, channel, limit) = match asked() {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    let Channel::Bars(interval) = channel else { return bad("interval is none") };
    if let Some(refusal) = caller.refuse(&[], one(channel)) {
        return refusal;
    }
    if !shared.config.served().contains(Channel::Bars(BarInterval::M1)) {
        return error(StatusCode::NOT_FOUND, ErrorCode::UnknownChannel, "no bars are made here (bars_history)", &[]);
    }
    elements(&shared, move |sequencer| sequencer.bars(id, interval, limit)).await
}

/// `GET /api/v1/book?symbol=&depth=`: the book as it is; nothing where none is known.
pub(crate) async fn book(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Params(query): Params<HistoryQuery>,
) -> Response {
    let asked = || {
        let id = query.instrument(&shared, &caller)?;
        Ok::<_, Box<Response>>((id, channel_of("depth", query.depth.as_deref().unwrap_or("10"), "book.")?))
    };
    let (id, channel) = match asked() {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    if let Some(refusal) = caller.refuse(&[], one(channel)) {
        return refusal;
    }
    elements(&shared, move |sequencer| sequencer.snapshot(&[id], one(channel))).await
}

/// `GET /api/v1/trades?symbol=&limit=`: the newest trades that are kept, oldest first.
pub(crate) async fn trades(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Params(query): Params<HistoryQuery>,
) -> Response {
    let asked = || Ok::<_, Box<Response>>((query.instrument(&shared, &caller)?, query.limit()?));
    let (id, limit) = match asked() {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    if let Some(refusal) = caller.refuse(&[], one(Channel::Trades)) {
        return refusal;
    }
    elements(&shared, move |sequencer| sequencer.recent(StreamKey::new(id, Channel::Trades), limit)).await
}

fn one(channel: Channel) -> ChannelSet {
    [channel].into_iter().collect()
}

impl HistoryQuery {
    fn instrument(&self, shared: &Shared, caller: &Caller) -> Result<InstrumentId, Box<Response>> {
        let Some(symbol) = self.symbol.as_deref().filter(|symbol| !symbol.is_empty()) else {
            return Err(Box::new(bad("symbol is missing: name one as ?symbol=A")));
        };
        if let Some(refusal) = caller.refuse(&[symbol], ChannelSet::EMPTY) {
            return Err(Box::new(refusal));
        }
        let known = shared.catalog().by_symbol(symbol).map(|Instrument { id, .. }| *id);
        known.ok_or_else(|| {
            let message = format!("unknown: {symbol}");
            Box::new(error(StatusCode::NOT_FOUND, ErrorCode::UnknownSymbol, &message, &[symbol]))
        })
    }

    fn limit(&self) -> Result<usize, Box<Response>> {
        let Some(text) = &self.limit else { return Ok(LIMIT) };
        text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
            Box::new(bad(&format!("limit is {text:?}, and a whole number from 1 to {LIMIT_MAX} is right")))
        })
    }
}

/// The channel whose name is `prefix` and the value of that key.
fn channel_of(key: &str, value: &str, prefix: &str) -> Result<Channel, Box<Response>> {
    Channel::from_str(&format!("{prefix}{value}")).map_err(|_| {
        let known: Vec<_> = Channel::ALL.iter().filter_map(|channel| channel.name().strip_prefix(prefix)).collect();
        let value: String = value.chars().take(64).collect();
        Box::new(bad(&format!("{key} is {value:?}; known are {}", known.join(", "))))
    })
}

fn bad(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, ErrorCode::BadCommand, message, &[])
}
