//! Authentication and entitlements of sessions, with the shell played by the test.
//!
//! **Invariant:** nothing that a grant does not cover is ever sent, whatever order things come in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub::{
    Access, AuthAttempt, AuthRefusal, Compression, Disconnect, Entitlements, Expiry, Grant, Io, ModesAllowed, Now,
    OverKeyLimit, Reconsidered, Request, Sequencer, SequencerConfig, SessionKey, Shard, ShardConfig, SymbolSet,
    Written,
};
use market::{
    AssetClass, Channel, ChannelSet, Event, Instrument, InstrumentId, Price, Side, Size, Symbol, Tick, Timestamp, Trade,
};
use serde_json::{Value, json};
use wire::{Dialect, Encoding, Limits};

#[derive(Default)]
struct Shell {
    sent: BTreeMap<u32, Vec<Value>>,
    close_codes: Vec<u16>,
    requests: Vec<Request>,
    attempts: Vec<AuthAttempt>,
    gone: Vec<Disconnect>,
    held: BTreeMap<u32, usize>,
    subscriptions_max: Option<u32>,
}

impl Io for Shell {
    fn write(&mut self, session: SessionKey, bytes: &[u8]) -> Written {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (length, head) = match rest[1] {
                126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
                short => (usize::from(short), 2),
            };
            let payload = &rest[head..head + length];
            match rest[0] & 15 {
                1 => self.sent.entry(session.index).or_default().push(serde_json::from_slice(payload).unwrap()),
                8 => self.close_codes.push(u16::from_be_bytes([payload[0], payload[1]])),
                _ => {}
            }
            rest = &rest[head + length..];
        }
        Written::Bytes(bytes.len())
    }

    fn request(&mut self, request: Request) {
        self.requests.push(request);
    }

    fn authenticate(&mut self, attempt: AuthAttempt) {
        self.attempts.push(attempt);
    }

    fn hold_subscriptions(&mut self, session: SessionKey, count: usize) -> Result<(), OverKeyLimit> {
        match self.subscriptions_max {
            Some(max) if count > max as usize => Err(OverKeyLimit { max }),
            _ => {
                self.held.insert(session.index, count);
                Ok(())
            }
        }
    }

    fn disconnect(&mut self, _session: SessionKey, reason: Disconnect) {
        self.gone.push(reason);
    }
}

struct Plant {
    sequencer: Sequencer,
    shard: Shard,
    shell: Shell,
    instruments: Vec<Instrument>,
    time: Duration,
    price: i64,
}

fn instrument(id: u32, symbol: &str) -> Instrument {
    Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new(symbol).unwrap(),
        price_exponent: -2,
        size_exponent: 0,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Crypto,
        currency: "USD".into(),
        description: String::new(),
    }
}

impl Plant {
    fn new() -> Self {
        let limits = Limits { auth_timeout_ms: 1000, commands_per_s: 0, ping_interval_ms: 0, ..Limits::default() };
        let mut plant = Self {
            sequencer: Sequencer::new(SequencerConfig::default()),
            shard: Shard::new(ShardConfig { heartbeat_ms: 0, limits, ..ShardConfig::default() }),
            shell: Shell::default(),
            instruments: Vec::new(),
            time: Duration::from_secs(1),
            price: 100,
        };
        for symbol in ["BTC-USD", "ETH-USD", "BTC-EUR"] {
            plant.list(symbol);
        }
        plant
    }

    fn list(&mut self, symbol: &str) {
        self.instruments.push(instrument(self.instruments.len() as u32, symbol));
        let catalog = self.sequencer.add_instruments(&self.instruments);
        self.shard.upstream(self.now(), catalog, &mut self.shell);
    }

    fn now(&self) -> Now {
        Now { monotonic: self.time, wall: Timestamp(1_700_000_000_000_000_000) + self.time }
    }

    fn open(&mut self, access: Access) -> SessionKey {
        let key = self.shard.open(self.now(), Dialect::NativeJson, Compression::Off, access, &mut self.shell);
        assert_eq!(self.sent(key)[0]["type"], "welcome");
        key
    }

    fn granted(&mut self, entitlements: Entitlements) -> SessionKey {
        self.open(Access::Granted(grant(entitlements)))
    }

    /// Sends a command; requests stay open.
    fn command(&mut self, key: SessionKey, command: &Value) {
        self.shard.message(self.now(), key, Encoding::Json, command.to_string().as_bytes(), &mut self.shell);
    }

    /// Answers what the shard has asked of the sequencer.
    fn serve(&mut self) {
        for request in std::mem::take(&mut self.shell.requests) {
            let reply = self.sequencer.serve(&request);
            self.shard.upstream(self.now(), reply, &mut self.shell);
        }
    }

    fn subscribe(&mut self, key: SessionKey, channels: &[&str], symbols: &[&str]) -> Vec<Value> {
        self.command(key, &json!({"op": "subscribe", "channels": channels, "symbols": symbols, "id": 1}));
        self.serve();
        self.sent(key)
    }

    /// A trade of each instrument; what the session is sent of it, by symbol.
    fn trade(&mut self, key: SessionKey) -> Vec<String> {
        self.price += 1;
        let event = Event::Trade(Trade { price: Price(self.price), size: Size(1), side: Side::Buy, trade_id: 1 });
        let tick = |i: &Instrument| Tick { instrument: i.id, time: Timestamp(1), event: event.clone() };
        let ticks: Vec<Tick> = self.instruments.iter().map(tick).collect();
        if let Some(batch) = self.sequencer.ingest(&ticks) {
            self.shard.upstream(self.now(), batch, &mut self.shell);
        }
        self.shard.flush(self.now(), &mut self.shell);
        self.sent(key).iter().flat_map(symbols).collect()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.time + time;
        while self.time < end {
            self.time += Duration::from_millis(50);
            self.shard.advance(self.now(), &mut self.shell);
        }
    }

    fn answer(&mut self, outcome: Result<Arc<Grant>, AuthRefusal>) {
        let attempt = self.shell.attempts.pop().expect("an attempt");
        self.shard.authenticated(self.now(), attempt.session, attempt.id, outcome, &mut self.shell);
    }

    fn sent(&mut self, key: SessionKey) -> Vec<Value> {
        self.shell.sent.remove(&key.index).unwrap_or_default()
    }
}

fn symbols(message: &Value) -> Vec<String> {
    let elements = message["data"].as_array().cloned().unwrap_or_default();
    elements.iter().map(|element| element["symbol"].as_str().unwrap().to_owned()).collect()
}

fn grant(entitlements: Entitlements) -> Arc<Grant> {
    Arc::new(Grant { name: "desk".into(), id: "1".into(), entitlements: Arc::new(entitlements), expires: None })
}

fn only(patterns: &[&str]) -> Entitlements {
    Entitlements { symbols: SymbolSet::new(patterns).unwrap(), ..Entitlements::ALL }
}

fn codes(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["code"].as_str()).collect()
}

#[test]
fn nothing_but_auth_and_ping_is_answered_before_authentication() {
    let mut plant = Plant::new();
    let key = plant.open(Access::Required);
    for op in ["instruments", "subscriptions", "unsubscribe"] {
        plant.command(key, &json!({"op": op, "id": op}));
        let sent = plant.sent(key);
        assert_eq!((codes(&sent), &sent[0]["id"]), (vec!["auth_required"], &json!(op)));
    }
    assert_eq!(codes(&plant.subscribe(key, &["trades"], &["*"])), ["auth_required"]);
    assert!(plant.shell.requests.is_empty());
    plant.command(key, &json!({"op": "ping"}));
    assert_eq!(plant.sent(key)[0]["type"], "pong");
    plant.command(key, &json!({"op": "auth", "token": "t"}));
    assert_eq!(plant.shell.attempts[0].token, "t");
    assert!(!format!("{:?}", plant.shell.attempts).contains("\"t\""));
    plant.answer(Ok(grant(Entitlements::ALL)));
    assert_eq!(plant.sent(key), [json!({"type": "authenticated"})]);
    assert_eq!(plant.subscribe(key, &["trades"], &["*"])[0]["type"], "subscribed");
    plant.pass(Duration::from_secs(3));
    assert!(plant.shell.gone.is_empty() && plant.shell.close_codes.is_empty(), "the time limit is over");
}

#[test]
fn who_does_not_authenticate_in_time_is_closed() {
    let mut plant = Plant::new();
    let key = plant.open(Access::Required);
    plant.pass(Duration::from_millis(950));
    assert!(plant.sent(key).is_empty());
    plant.pass(Duration::from_secs(1));
    assert_eq!(codes(&plant.sent(key)), ["auth_timeout"]);
    assert_eq!(plant.shell.close_codes, [4401]);
    plant.pass(Duration::from_secs(10));
    assert_eq!(plant.shell.gone, [Disconnect::AuthTimeout]);
}

#[test]
fn the_third_bad_token_closes() {
    let mut plant = Plant::new();
    let key = plant.open(Access::Required);
    for tried in 1..=3 {
        assert!(plant.shell.close_codes.is_empty());
        plant.command(key, &json!({"op": "auth", "token": "bad", "id": tried}));
        plant.answer(Err(AuthRefusal::Failed("no such key".into())));
        let sent = plant.sent(key);
        assert_eq!((codes(&sent), &sent[0]["id"]), (vec!["auth_failed"], &json!(tried)));
    }
    assert_eq!(plant.shell.close_codes, [4401]);
}

#[test]
fn limits_of_attempts_and_connections_are_told_before_they_close() {
    let mut plant = Plant::new();
    let key = plant.open(Access::Required);
    for _ in 0..3 {
        assert!(plant.shell.close_codes.is_empty());
        plant.command(key, &json!({"op": "auth", "token": "bad"}));
        plant.answer(Err(AuthRefusal::TooManyAttempts("auth_failures is 3".into())));
        let sent = plant.sent(key);
        assert_eq!(codes(&sent), ["rate_limited", "rate_limited"]);
        assert_eq!((&sent[0]["type"], &sent[1]["type"]), (&json!("notice"), &json!("error")));
    }
    let key = plant.open(Access::Required);
    plant.command(key, &json!({"op": "auth", "token": "good"}));
    plant.answer(Err(AuthRefusal::TooManyConnections("connections is 1".into())));
    assert_eq!(codes(&plant.sent(key)), ["rate_limited"]);
    assert_eq!(plant.shell.close_codes, [4429, 4409]);
}

#[test]
fn a_token_that_expires_is_announced_and_ends_the_session() {
    let mut plant = Plant::new();
    let until = |at: Duration| {
        let expires = Some(Expiry { wall: Timestamp(1_700_000_000_000_000_000) + at, at });
        Arc::new(Grant { expires, ..(*grant(Entitlements::ALL)).clone() })
    };
    let key = plant.open(Access::Granted(until(Duration::from_secs(100))));
    plant.pass(Duration::from_secs(35));
    assert!(plant.sent(key).is_empty());
    plant.pass(Duration::from_secs(10));
    assert_eq!(codes(&plant.sent(key)), ["token_expires"]);
    // Another token in time: the session goes on, and is told anew.
    plant.command(key, &json!({"op": "auth", "token": "next"}));
    plant.answer(Ok(until(Duration::from_secs(200))));
    assert_eq!(plant.sent(key)[0]["expires"], "2023-11-14T22:16:40.000000000Z");
    plant.pass(Duration::from_secs(90));
    assert!(plant.sent(key).is_empty() && plant.shell.close_codes.is_empty());
    plant.pass(Duration::from_secs(70));
    assert_eq!(codes(&plant.sent(key)), ["token_expires"]);
    assert_eq!((&plant.shell.close_codes[..], &plant.shell.gone[..]), (&[4401][..], &[Disconnect::TokenExpired][..]));
}

#[test]
fn a_star_stands_for_what_is_entitled_also_later() {
    let mut plant = Plant::new();
    let key = plant.granted(only(&["BTC-*"]));
    let all = plant.granted(Entitlements::ALL);
    plant.trade(key);
    let sent = plant.subscribe(key, &["trades"], &["*"]);
    assert_eq!(sent[0]["instruments"], json!([["BTC-USD", 0, -2, 0], ["BTC-EUR", 2, -2, 0]]));
    assert_eq!(symbols(&sent[1]), ["BTC-USD", "BTC-EUR"], "the snapshot");
    plant.subscribe(all, &["trades"], &["*"]);
    assert_eq!(plant.trade(key), ["BTC-USD", "BTC-EUR"]);
    assert_eq!(plant.sent(all).iter().flat_map(symbols).count(), 3);
    plant.list("BTC-GBP");
    plant.list("ETH-GBP");
    let announced = plant.sent(key);
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0]["instruments"][0]["symbol"], "BTC-GBP");
    assert_eq!(plant.trade(key), ["BTC-USD", "BTC-EUR", "BTC-GBP"]);
    assert_eq!(plant.shard.stats().lanes, 2);
    // The same entitlement of another key is the same lane.
    let other = plant.granted(only(&["BTC-*"]));
    plant.subscribe(other, &["trades"], &["*"]);
    assert_eq!(plant.shard.stats().lanes, 2);
}

#[test]
fn what_is_not_entitled_is_named_and_the_rest_subscribed() {
    let mut plant = Plant::new();
    let key = plant.granted(only(&["BTC-*"]));
    let sent = plant.subscribe(key, &["trades"], &["BTC-USD", "ETH-USD", "ETH-NONE", "BTC-NONE"]);
    assert_eq!(sent[0]["instruments"].as_array().unwrap().len(), 1);
    assert_eq!(codes(&sent), ["not_entitled", "unknown_symbol"]);
    assert_eq!(sent[1]["symbols"], json!(["ETH-USD", "ETH-NONE"]), "whether one exists is not told");
    assert!(sent[1]["message"].as_str().unwrap().contains("entitled are BTC-*"), "{}", sent[1]);
    assert_eq!(plant.trade(key), ["BTC-USD"]);
    let sent = plant.subscribe(key, &["trades"], &["ETH-USD"]);
    assert_eq!((sent.len(), codes(&sent)), (1, vec!["not_entitled"]));
    plant.command(key, &json!({"op": "instruments"}));
    assert_eq!(plant.sent(key)[0]["instruments"].as_array().unwrap().len(), 2);
}

#[test]
fn channels_and_modes_are_entitled_too() {
    let mut plant = Plant::new();
    let channels: ChannelSet = [Channel::Trades].into_iter().collect();
    let key = plant.granted(Entitlements {
        channels,
        modes: ModesAllowed::Latest,
        interval_ms_min: 250,
        ..Entitlements::ALL
    });
    let mut refused = |command: Value, says: &str| {
        plant.command(key, &command);
        plant.serve();
        let sent = plant.sent(key);
        assert_eq!((sent.len(), codes(&sent)), (1, vec!["not_entitled"]), "{command}");
        assert!(sent[0]["message"].as_str().unwrap().contains(says), "{}", sent[0]);
    };
    let subscribe = |channels: &[&str], mode, interval_ms| json!({"op": "subscribe", "channels": channels, "symbols": ["*"], "mode": mode, "interval_ms": interval_ms});
    refused(subscribe(&["trades", "quotes"], "latest", 250), "channels quotes; entitled are trades");
    refused(subscribe(&["trades"], "every", 0), "mode every");
    refused(subscribe(&["trades"], "latest", 100), "the least is 250");
    plant.command(key, &subscribe(&["trades"], "latest", 250));
    plant.serve();
    assert_eq!(plant.sent(key)[0]["type"], "subscribed");
    // An update cannot get round it.
    plant.command(key, &json!({"op": "update", "channels": ["trades"], "symbols": ["*"], "mode": "every"}));
    assert_eq!(codes(&plant.sent(key)), ["not_entitled"]);
}

#[test]
fn a_narrower_token_ends_what_it_does_not_cover() {
    let mut plant = Plant::new();
    let key = plant.granted(Entitlements::ALL);
    plant.subscribe(key, &["trades"], &["BTC-USD", "ETH-USD"]);
    plant.command(key, &json!({"op": "auth", "token": "narrower"}));
    plant.answer(Ok(grant(only(&["ETH-*"]))));
    let sent = plant.sent(key);
    assert_eq!((codes(&sent), &sent[0]["symbols"]), (vec!["not_entitled"], &json!(["BTC-USD"])));
    assert_eq!(plant.trade(key), ["ETH-USD"]);
    assert_eq!(plant.shell.held[&key.index], 1);
}

#[test]
fn a_star_follows_another_token_both_ways() {
    let mut plant = Plant::new();
    let key = plant.granted(only(&["BTC-*"]));
    plant.trade(key);
    plant.subscribe(key, &["trades"], &["*"]);
    let mut becomes = |entitlements: Entitlements, want: &[&str]| {
        let grant = grant(entitlements);
        let mut decide = |_: &Grant| Reconsidered::Changed(Arc::clone(&grant));
        plant.shard.reconsider(plant.now(), &mut decide, &mut plant.shell);
        plant.serve();
        let sent = plant.sent(key);
        let kinds: Vec<_> = sent.iter().map(|message| message["type"].as_str().unwrap_or("data")).collect();
        assert_eq!(kinds, ["instruments", "data"], "what the new ones are, and their state");
        assert_eq!(symbols(&sent[1]), want);
        assert_eq!(plant.trade(key), want);
    };
    becomes(Entitlements::ALL, &["BTC-USD", "ETH-USD", "BTC-EUR"]);
    becomes(only(&["*-EUR"]), &["BTC-EUR"]);
    becomes(only(&["BTC-*"]), &["BTC-USD", "BTC-EUR"]);
}

#[test]
fn a_subscribe_on_its_way_is_not_carried_into_a_narrower_grant() {
    let mut plant = Plant::new();
    let key = plant.granted(Entitlements::ALL);
    plant.trade(key);
    plant.command(key, &json!({"op": "subscribe", "channels": ["trades"], "symbols": ["*"], "id": 9}));
    plant.command(key, &json!({"op": "auth", "token": "narrower"}));
    plant.answer(Ok(grant(only(&["ETH-*"]))));
    plant.serve();
    let sent = plant.sent(key);
    assert_eq!(codes(&sent), ["not_entitled"]);
    assert_eq!(sent.last().unwrap()["id"], 9);
    assert!(plant.trade(key).is_empty());
}

#[test]
fn a_revoked_key_closes_its_sessions_and_no_other() {
    let mut plant = Plant::new();
    let key = plant.granted(Entitlements::ALL);
    let open = plant.open(Access::Open);
    let mut decide = |_: &Grant| Reconsidered::Revoked;
    plant.shard.reconsider(plant.now(), &mut decide, &mut plant.shell);
    let sent = plant.sent(key);
    assert_eq!(codes(&sent), ["token_expires"]);
    assert!(sent[0]["message"].as_str().unwrap().contains("revoked"));
    assert_eq!(plant.shell.close_codes, [4401]);
    assert!(plant.sent(open).is_empty());
}

#[test]
fn subscriptions_of_a_key_are_bounded_over_all_its_sessions() {
    let mut plant = Plant::new();
    plant.shell.subscriptions_max = Some(1);
    let key = plant.granted(Entitlements::ALL);
    let sent = plant.subscribe(key, &["trades"], &["BTC-USD", "ETH-USD"]);
    assert_eq!((sent.len(), codes(&sent)), (1, vec!["too_many_subscriptions"]));
    assert!(sent[0]["message"].as_str().unwrap().contains("subscriptions_per_key"));
    assert!(plant.trade(key).is_empty(), "nothing was applied");
    assert_eq!(plant.subscribe(key, &["trades"], &["BTC-USD"])[0]["type"], "subscribed");
    plant.command(key, &json!({"op": "unsubscribe"}));
    plant.serve();
    assert_eq!(plant.shell.held[&key.index], 0);
}

#[test]
fn a_key_may_have_a_rate_of_commands_of_its_own() {
    let mut plant = Plant::new();
    let key = plant.granted(Entitlements { commands_per_s: Some(1), commands_burst: Some(2), ..Entitlements::ALL });
    for _ in 0..2 {
        plant.command(key, &json!({"op": "ping"}));
        assert_eq!(plant.sent(key)[0]["type"], "pong");
    }
    plant.command(key, &json!({"op": "ping"}));
    assert_eq!(codes(&plant.sent(key)), ["rate_limited", "rate_limited"]);
}
