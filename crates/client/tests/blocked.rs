//! Where WebSockets are blocked: server-sent events of the real gateway, with the same events in the same order.
//!
//! **Invariant:** between client and gateway stands a guard that refuses upgrades as some proxies do, and cuts what it lets
//! pass whenever the test says so; it says nothing else in the gateway's name.

mod watched;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickerplant_client::{
    Backoff, BookDepth, Builder, Channel, Client, ConnectError, Connection, Event, Lost, Subscription, SymbolList,
    Transport, Transports,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use watched::{Server, Shown};

/// Low enough that what is missed in the pauses that a server asks for is still kept.
const RATE: f64 = 500.0;
const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// Only so that a broken client fails the test instead of hanging it.
const PATIENCE: Duration = Duration::from_mins(2);

struct Guard {
    address: SocketAddr,
    /// The heads of the requests
    heads: Arc<Mutex<Vec<String>>>,
    /// From now on upgrades pass, and nothing else does
    turned: Arc<AtomicBool>,
    cut: broadcast::Sender<()>,
}

impl Guard {
    async fn start(to: SocketAddr, refusal: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, turned) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (cut, _) = broadcast::channel(1);
        let (seen, turn, cuts) = (Arc::clone(&heads), Arc::clone(&turned), cut.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (seen, turn, mut cuts) = (Arc::clone(&seen), Arc::clone(&turn), cuts.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(client, to, &seen, refusal, &turn) => {}
                        _ = cuts.recv() => {}
                    }
                });
            }
        });
        Self { address, heads, turned, cut }
    }

    fn client(&self) -> Builder {
        let backoff =
            Backoff { first: Duration::from_millis(2), longest: Duration::from_millis(8), ..Backoff::default() };
        Client::builder(format!("ws://{}/ws", self.address)).reconnect(backoff)
    }

    fn requests(&self, path: &str) -> Vec<String> {
        let begin = format!("GET {path}");
        self.heads.lock().unwrap().iter().filter(|head| head.starts_with(&begin)).cloned().collect()
    }
}

async fn carry(mut client: TcpStream, to: SocketAddr, seen: &Mutex<Vec<String>>, refusal: &str, turned: &AtomicBool) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    // What there is of it, and then the end.
    if text.contains("upgrade: websocket") != turned.load(Ordering::SeqCst) {
        let _ = client.write_all(refusal.as_bytes()).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    if server.write_all(&head).await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

async fn patiently<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("the client goes on")
}

async fn until(client: &mut Client, shown: &mut Shown, done: impl Fn(&Client, &Shown) -> bool) {
    while !done(client, shown) {
        let event = client.next().await.unwrap();
        shown.take(client, &event);
    }
}

async fn symbols(client: &mut Client) -> Vec<String> {
    let asked = client.request_instruments(None).unwrap();
    loop {
        if let Event::Instruments { ticket, instruments } = client.next().await.unwrap() {
            assert_eq!(ticket, Some(asked));
            return instruments.iter().map(|one| one.terms.symbol.to_string()).collect();
        }
    }
}

#[tokio::test]
async fn a_client_falls_back_to_events_and_goes_on_from_the_last_one_without_a_hole() {
    let server = Server::start(RATE);
    for refusal in [FORBIDDEN, ""] {
        let guard = Guard::start(server.address, refusal).await;
        let mut client = guard.client().connect().await.unwrap();
        let channels = [Channel::Trades, Channel::Quotes, Channel::Book(BookDepth::Top10)];
        let ticket = client.subscribe(Subscription::to(channels, SymbolList::All)).unwrap();
        patiently(async {
            let Some(Event::Connection(Connection::Connected { transport, .. })) = client.next().await else {
                panic!()
            };
            assert_eq!(transport, Transport::EventStream);
            let Some(Event::Subscribed { ticket: answered, instruments, .. }) = client.next().await else { panic!() };
            assert_eq!((answered, instruments.len()), (Some(ticket), 6));
            let mut shown = Shown::default();
            for cuts in 1..=5 {
                let begun = client.counters().elements;
                until(&mut client, &mut shown, |client, _| client.counters().elements > begun + 300).await;
                guard.cut.send(()).unwrap();
                until(&mut client, &mut shown, |_, shown| shown.losses == cuts).await;
            }
            assert!(shown.missing.is_empty(), "{:?}", shown.missing);
            assert!(shown.values.len() >= 12, "{:?}", shown.values.keys());
        })
        .await;
        let again = guard.requests("/api/v1/stream").split_off(1);
        assert!(again.iter().all(|head| head.contains("last-event-id: ")), "{again:?}");
        assert_eq!(guard.requests("/ws").len(), 1, "the way that worked is tried first");
        let counters = client.counters();
        assert_eq!((counters.heartbeats_wrong, counters.unknown), (0, 0));
    }
}

#[tokio::test]
async fn wishes_that_change_are_other_requests_and_each_is_answered() {
    let server = Server::start(RATE);
    let guard = Guard::start(server.address, FORBIDDEN).await;
    let mut client = guard.client().connect().await.unwrap();
    patiently(async {
        let symbols = symbols(&mut client).await;
        let wanted = Subscription::to([Channel::Trades], [symbols[0].as_str(), "NOPE"]);
        let first = client.subscribe(wanted).unwrap();
        let mut shown = Shown::default();
        let (mut refused, mut subscribed) = (false, false);
        while !(refused && subscribed) {
            match client.next().await.unwrap() {
                Event::Refused { ticket, symbols, .. } => {
                    assert_eq!((ticket, symbols), (Some(first), vec!["NOPE".to_owned()]));
                    refused = true;
                }
                Event::Subscribed { ticket, instruments, .. } => {
                    assert_eq!((ticket, instruments.len()), (Some(first), 1));
                    subscribed = true;
                }
                _ => {}
            }
        }
        until(&mut client, &mut shown, |_, shown| shown.last.len() == 1).await;
        let second = client.subscribe(Subscription::to([Channel::Quotes], [symbols[1].as_str()])).unwrap();
        loop {
            let event = client.next().await.unwrap();
            if let Event::Subscribed { ticket, instruments, .. } = &event {
                assert_eq!((*ticket, instruments[0].symbol.as_str()), (Some(second), symbols[1].as_str()));
                break;
            }
            shown.take(&client, &event);
        }
        // `Shown` refuses numbers that are neither shown nor named.
        let begun = client.counters().elements;
        until(&mut client, &mut shown, |client, _| client.counters().elements > begun + 200).await;
        let streams: Vec<_> = shown.values.keys().cloned().collect();
        let mut wanted = vec![(symbols[0].clone(), Channel::Trades), (symbols[1].clone(), Channel::Quotes)];
        wanted.sort();
        assert_eq!(streams, wanted);
        for (channels, left) in [(vec![Channel::Trades], true), (vec![], false)] {
            let gone = client.unsubscribe(channels, SymbolList::All).unwrap();
            loop {
                if let Event::Unsubscribed { ticket } = client.next().await.unwrap() {
                    assert_eq!(ticket, Some(gone));
                    break;
                }
            }
            if left {
                while !matches!(client.next().await, Some(Event::Quote(_))) {}
            }
        }
        client.subscribe(Subscription::to([Channel::Trades], [symbols[1].as_str()])).unwrap();
        while !matches!(client.next().await, Some(Event::Trade(_))) {}
    })
    .await;
}

#[tokio::test]
async fn when_websockets_pass_again_a_stream_that_fails_goes_back_to_them() {
    let server = Server::start(RATE);
    let guard = Guard::start(server.address, FORBIDDEN).await;
    let mut client = guard.client().connect().await.unwrap();
    client.subscribe(Subscription::to([Channel::Trades], SymbolList::All)).unwrap();
    patiently(async {
        while !matches!(client.next().await, Some(Event::Trade(_))) {}
        guard.turned.store(true, Ordering::SeqCst);
        guard.cut.send(()).unwrap();
        loop {
            if let Event::Connection(Connection::Connected { transport, .. }) = client.next().await.unwrap() {
                assert_eq!(transport, Transport::WebSocket);
                break;
            }
        }
        while !matches!(client.next().await, Some(Event::Trade(_))) {}
    })
    .await;
}

#[tokio::test]
async fn without_the_fallback_a_refusal_is_the_end_and_with_it_both_reasons_are_told() {
    let server = Server::start(RATE);
    let guard = Guard::start(server.address, FORBIDDEN).await;
    let only = guard.client().transports(Transports::Only(Transport::WebSocket)).connect().await;
    let Err(ConnectError::Failed { reason: Lost::Refused { status: 403, .. }, .. }) = only else { panic!("{only:?}") };
    assert_eq!(guard.requests("/").len(), guard.requests("/ws").len());
    let nowhere = Guard::start(SocketAddr::from(([127, 0, 0, 1], 9)), FORBIDDEN).await;
    let Err(ConnectError::Failed { reason, .. }) = nowhere.client().connect().await else { panic!() };
    assert!(
        matches!(&reason, Lost::Blocked { websocket, .. } if matches!(**websocket, Lost::Refused { status: 403, .. }))
    );
}

#[tokio::test]
async fn a_client_may_take_events_alone() {
    let server = Server::start(RATE);
    let only = Transports::Only(Transport::EventStream);
    let client = Client::builder(format!("ws://{}/ws", server.address)).transports(only);
    let mut client = client.connect().await.unwrap();
    assert_eq!(patiently(symbols(&mut client)).await.len(), 6);
    client.subscribe(Subscription::to([Channel::Quotes], SymbolList::All).latest_every_ms(20)).unwrap();
    patiently(async { while !matches!(client.next().await, Some(Event::Quote(_))) {} }).await;
}
