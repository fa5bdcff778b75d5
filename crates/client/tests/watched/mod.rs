//! A real gateway with a simulated market, and what a client is shown of it.
//!
//! **Invariant:** whatever a client is shown, its order and its books are checked as it comes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use feed::SimulatorFeed;
use gateway::{Gateway, GatewayError, Outcome, Stop};
use tickerplant_client::{Channel, Client, Connection, Event, GapCause, Origin};
use tokio::sync::mpsc::UnboundedSender;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: UnboundedSender<Stop>,
    thread: Option<JoinHandle<Result<Outcome, GatewayError>>>,
}

impl Server {
    pub(crate) fn start(rate: f64) -> Self {
        let scenario = simulator::Scenario::Busy;
        let config = simulator::Config { seed: 11, symbols: 6, rate, scenario };
        let feed = SimulatorFeed::new(config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let gateway = Gateway::bind(gateway::Config { shards: 1, seed: 3, ..gateway::Config::new(address) }).unwrap();
        let address = gateway.local_addr();
        let (stop, stopped) = tokio::sync::mpsc::unbounded_channel();
        let thread = Some(std::thread::spawn(move || gateway.run(Box::new(feed), stopped)));
        Self { address, stop, thread }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(Stop::Now);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What a client was shown: of each stream, its values by number, and what is missing.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) values: BTreeMap<(String, Channel), BTreeMap<u64, String>>,
    pub(crate) missing: BTreeMap<(String, Channel), Vec<(u64, u64)>>,
    pub(crate) last: BTreeMap<(String, Channel), u64>,
    pub(crate) losses: u64,
    pub(crate) resumed: u64,
}

impl Shown {
    pub(crate) fn take(&mut self, client: &Client, event: &Event) {
        let (symbol, channel, seq, origin, text) = match event {
            Event::Trade(u) => (u.symbol(), Channel::Trades, u.seq, u.origin, format!("{:?}", u.value)),
            Event::Quote(u) => (u.symbol(), Channel::Quotes, u.seq, u.origin, format!("{:?}", u.value)),
            Event::BookDelta(u) | Event::BookSnapshot(u) => {
                let depth = u.value.depth();
                // With each event the book is that of the event, and its checksum was compared.
                let state = client.book(u.symbol(), depth).expect("a book is there from its snapshot on");
                assert_eq!((state.seq, state.book.checksum()), (u.seq, u.value.checksum()));
                (u.symbol(), Channel::Book(depth), u.seq, u.origin, format!("{:?}", u.value))
            }
            Event::Gap(gap) => {
                assert!(matches!(gap.cause, GapCause::Declared(_) | GapCause::NotResumed), "{gap:?}");
                let stream = (gap.instrument.symbol.to_string(), gap.channel);
                let last = self.last.insert(stream.clone(), gap.to_seq);
                assert!(last.is_none_or(|last| gap.from_seq == last + 1), "{gap:?} after {last:?}");
                self.missing.entry(stream).or_default().push((gap.from_seq, gap.to_seq));
                return;
            }
            Event::Connection(Connection::Lost { .. }) => {
                self.losses += 1;
                return;
            }
            Event::Connection(Connection::Connected { epoch_changed, .. }) => return assert!(!epoch_changed),
            Event::Subscribed { recovered, .. } => {
                self.resumed += recovered.len() as u64;
                return;
            }
            Event::BookProblem(_) | Event::Refused { .. } | Event::Connection(_) => panic!("{event:?}"),
            _ => return,
        };
        let stream = (symbol.to_owned(), channel);
        let last = self.last.insert(stream.clone(), seq);
        if origin == Origin::Snapshot {
            return assert!(last.is_none_or(|last| seq == last), "{stream:?}: state {seq} after {last:?}");
        }
        assert!(last.is_none_or(|last| seq == last + 1), "{stream:?}: {seq} after {last:?}");
        self.values.entry(stream).or_default().insert(seq, text);
    }
}
