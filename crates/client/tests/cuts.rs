//! A client whose connection is cut hundreds of times ends with exactly what an uncut one was sent, or says what is missing.
//!
//! **Invariant:** the real gateway, real sockets, a real simulated market with books; a relay between them cuts after bytes
//! that a seed draws, in the middle of frames and of hand-shakes.

mod watched;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tickerplant_client::{Backoff, BookDepth, Channel, Client, Subscription, SymbolList, Transport, Transports};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use watched::{Server, Shown};

/// How often the connection is cut.
const CUTS: u64 = 300;
/// Only so that a broken client fails the test instead of hanging it.
const PATIENCE: Duration = Duration::from_mins(2);

/// Relays connections and cuts them, until `calm`.
struct Relay {
    address: SocketAddr,
    cuts: Arc<AtomicU64>,
    calm: Arc<AtomicBool>,
}

impl Relay {
    async fn start(to: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, calm) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, calmed) = (Arc::clone(&cuts), Arc::clone(&calm));
        tokio::spawn(async move {
            let mut lots = seed;
            while let Ok((client, _)) = listener.accept().await {
                lots = lots.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // From within the hand-shake to some hundred frames.
                let bytes = 1 << (6 + (lots >> 33) % 10);
                let bytes = bytes + (lots >> 40) as usize % bytes;
                let server = TcpStream::connect(to).await.unwrap();
                relay(client, server, bytes, &calmed).await;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, cuts, calm }
    }
}

/// Carries bytes both ways; ends, and with it both connections, after so many from the server.
async fn relay(mut client: TcpStream, mut server: TcpStream, bytes: usize, calm: &AtomicBool) {
    let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
    let mut left = bytes;
    loop {
        // A read that is dropped has taken nothing.
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(count @ 1..) if server.write_all(&up[..count]).await.is_ok() => {}
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(count @ 1..) => {
                    let cut = !calm.load(Ordering::SeqCst) && count >= left;
                    let count = if cut { left } else { count };
                    if client.write_all(&down[..count]).await.is_err() || cut {
                        return;
                    }
                    left = left.saturating_sub(count).max(1);
                }
                _ => return,
            },
        }
    }
}

#[tokio::test]
async fn a_client_that_is_cut_hundreds_of_times_misses_nothing_that_it_does_not_name() {
    let server = Server::start(4000.0);
    let relay = Relay::start(server.address, 77).await;
    let backoff = Backoff { first: Duration::from_millis(2), longest: Duration::from_millis(8), ..Backoff::default() };
    let mut straight = Client::connect(format!("ws://{}/ws", server.address)).await.unwrap();
    let mut cut = loop {
        // The first connections may be cut within their hand-shake, which is the caller's to bear.
        let client = Client::builder(format!("ws://{}/ws", relay.address)).reconnect(backoff);
        // Hand-shakes that are cut look blocked, and it is WebSockets that are looked at here.
        let client = client.transports(Transports::Only(Transport::WebSocket)).connect().await;
        if let Ok(client) = client {
            break client;
        }
    };
    let channels = [Channel::Trades, Channel::Quotes, Channel::Book(BookDepth::Top10)];
    for client in [&straight, &cut] {
        client.subscribe(Subscription::to(channels, SymbolList::All)).unwrap();
    }
    let (mut whole, mut torn) = (Shown::default(), Shown::default());
    let done = async {
        // Until it was cut often enough; then until it has seen what the other has seen by then.
        while relay.cuts.load(Ordering::SeqCst) < CUTS {
            tokio::select! {
                event = straight.next() => whole.take(&straight, &event.unwrap()),
                event = cut.next() => torn.take(&cut, &event.unwrap()),
            }
        }
        relay.calm.store(true, Ordering::SeqCst);
        let target = whole.last.clone();
        while target.iter().any(|(stream, seq)| torn.last.get(stream).is_none_or(|last| last < seq)) {
            let event = cut.next().await.unwrap();
            torn.take(&cut, &event);
        }
        target
    };
    let target = tokio::time::timeout(PATIENCE, done).await.expect("the client goes on");
    let (mut compared, mut missing) = (0, 0);
    for ((stream, values), last) in whole.values.iter().zip(target.values()) {
        assert!(target.contains_key(stream));
        let mine = &torn.values[stream];
        let gaps = torn.missing.get(stream).map_or(&[][..], Vec::as_slice);
        // The cut client may have begun later, with a snapshot.
        let first = *mine.keys().next().unwrap();
        for (seq, value) in values.range(first..=*last) {
            if let Some(shown) = mine.get(seq) {
                assert_eq!(shown, value, "{stream:?} {seq}");
            } else {
                assert!(gaps.iter().any(|(from, to)| (from..=to).contains(&seq)), "{stream:?}: {seq} is just gone");
                missing += 1;
            }
            compared += 1;
        }
    }
    let (losses, resumed) = (torn.losses, torn.resumed);
    println!(
        "{losses} connections lost, {resumed} streams resumed, {compared} elements compared, {missing} named missing"
    );
    assert!(losses >= CUTS / 2 && resumed > 100 && compared > 1000, "{losses} {resumed} {compared}");
    assert_eq!(cut.counters().heartbeats_wrong, 0);
}
