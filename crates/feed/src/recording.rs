//! Replays recorded sessions.
//!
//! **Invariant:** what is replayed is what was recorded: every trade and quote once per pass, in the order of the files,
//! with values equal to the last digit. Anything that cannot be replayed so is reported with its file and its place.
//!
//! The files are read as a stream, so memory does not grow with their size, and twice: [`open_recordings`] surveys them
//! for instruments and exponents, then each pass reads them again.

mod books;
mod databento;
mod decimal;
mod file;
mod groups;
mod merge;
mod options;
mod pace;
mod record;
mod survey;
mod tardis;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::recording::State;
use market::{
    BookDepth, Channel, Event, Instrument, InstrumentId, Level, Numbered, Price, Quote, Size, Symbol, Tick, Timestamp,
    Trade,
};

use crate::{BookTroubles, ControlError, Feed, FeedError, Progress, ReplayCommand, ReplayStatus};
use books::{Books, Part};
use decimal::Decimal;
use merge::{Head, Merge, Popped};
pub use options::{InvalidOption, OnBadRecord, Rebase, Repeat, ReplayOptions, Speed};
pub(crate) use pace::{Gate, Pace};
use record::{Extent, Position, RawEvent, RawLevel, RawTick, RecordError};
use survey::{Sources, Survey};

/// How long a loop rests between the last tick of a pass and the first of the next. A recording of a single tick thus
/// repeats it once a second instead of as fast as it can.
pub(crate) const LOOP_REST: Duration = Duration::from_secs(1);

/// How many records are read for each tick that a poll may return. Records that give no tick (an unchanged quote, one that
/// is skipped) are cheap, but a poll has to come to its end even where there are millions of them.
const RECORDS_PER_TICK: usize = 4;

/// Opens recordings for replay: Databento DBN (`trades`, `tbbo`, `mbp-1`, `mbp-10`, `mbo`; plain or Zstandard) and Tardis
/// CSV (`trades`, `quotes`, `incremental_book_L2`; plain or gzip), in any mixture. All of them are read once to find their
/// instruments.
///
/// Books come from the files that tell the most about them: of an instrument that is in an `mbo` and in an `mbp-10` file,
/// the latter's book is left out. Where no file has an instrument's quotes, they are the best levels of its book.
///
/// # Errors
/// [`FeedError`] when there is no file, or one of them cannot be read, is no recording, or is broken at its beginning.
/// What is broken further on is reported by the replay when it comes to it.
pub fn open_recordings(paths: &[PathBuf], options: ReplayOptions) -> Result<RecordingFeed, FeedError> {
    let pace = Pace::new(options.speed).map_err(|error| FeedError::Options(error.to_string()))?;
    if paths.is_empty() {
        return Err(FeedError::Options("no recording is named".into()));
    }
    let mut survey = Survey::default();
    for path in paths {
        survey.add(path, file::open(path)?.as_mut())?;
    }
    let sources = survey.sources();
    let instruments = survey.into_instruments();
    let ids = instruments.iter().map(|instrument| (instrument.symbol.clone(), instrument.id)).collect();
    let pass = Pass::open(paths, &options)?;
    let (paths, bad_records, session) = (paths.to_vec(), 0, None);
    let (books_refused, report) = (0, None);
    Ok(RecordingFeed {
        paths,
        options,
        pace,
        instruments,
        sources,
        ids,
        pass,
        bad_records,
        books_refused,
        report,
        session,
        reached: None,
    })
}

/// Recordings being replayed; see [`open_recordings`].
pub struct RecordingFeed {
    paths: Vec<PathBuf>,
    options: ReplayOptions,
    pace: Pace,
    instruments: Vec<Instrument>,
    /// Of the instrument with that index
    sources: Vec<Sources>,
    ids: HashMap<Symbol, InstrumentId>,
    pass: Pass,
    /// Records skipped in the passes before
    bad_records: u64,
    /// Changes of books that made no sense, in all passes
    books_refused: u64,
    /// See [`Feed::take_report`]
    report: Option<String>,
    session: Option<Session>,
    /// The receive time of the last tick that has been replayed
    reached: Option<Timestamp>,
}

/// One pass through the files.
struct Pass {
    merge: Merge,
    /// Ids of the names of each file, as far as they have been looked up
    ids: Vec<Vec<InstrumentId>>,
    books: Books,
    receive: Option<Span>,
    time: Option<Span>,
    /// What the ticks leave behind that come before the beginning; none once that is reached
    skipped: Option<State>,
}

/// The earliest and the latest of the times seen.
#[derive(Clone, Copy)]
struct Span {
    first: Timestamp,
    last: Timestamp,
}

/// How the times of the recording relate to those of the session.
pub(crate) struct Session {
    pub(crate) start: Timestamp,
    /// The receive time of the very first tick, once it is known
    pub(crate) origin: Option<Timestamp>,
    /// How far the current pass is behind the first one
    pub(crate) shift: Duration,
}

impl Pass {
    fn open(paths: &[PathBuf], options: &ReplayOptions) -> Result<Self, FeedError> {
        let readers = paths.iter().map(|path| file::open(path)).collect::<Result<Vec<_>, _>>()?;
        let ids = vec![Vec::new(); paths.len()];
        let merge = Merge::new(readers, options.on_bad_record);
        let skipped = options.from.map(|_| State::default());
        Ok(Self { merge, ids, books: Books::default(), receive: None, time: None, skipped })
    }

    /// How much later the next pass has to begin so that neither receive times nor exchange times go back.
    fn length(&self) -> Option<Duration> {
        let length = |span: Span| span.last.since(span.first);
        Some(length(self.receive?).max(length(self.time?)) + LOOP_REST)
    }
}

impl Span {
    fn extend(span: &mut Option<Self>, time: Timestamp) {
        let seen = span.get_or_insert(Self { first: time, last: time });
        seen.first = seen.first.min(time);
        seen.last = seen.last.max(time);
    }
}

impl Session {
    pub(crate) fn begin(start: Timestamp) -> Self {
        Self { start, origin: None, shift: Duration::ZERO }
    }

    /// The time of the recording from the very first tick to that one, in nanoseconds.
    pub(crate) fn elapsed_ns(&self, receive: Timestamp) -> u64 {
        let elapsed = receive.since(self.origin.unwrap_or(receive)) + self.shift;
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn time(&self, time: Timestamp, rebase: Rebase) -> Timestamp {
        let time = match (rebase, self.origin) {
            (Rebase::ToStart, Some(origin)) => {
                let shifted = i128::from(time.nanos()) - i128::from(origin.nanos()) + i128::from(self.start.nanos());
                Timestamp(u64::try_from(shifted.max(0)).unwrap_or(u64::MAX))
            }
            _ => time,
        };
        time + self.shift
    }
}

impl RecordingFeed {
    fn next_pass(&mut self, length: Duration) -> Result<(), FeedError> {
        let next = Pass::open(&self.paths, &self.options)?;
        self.bad_records += self.pass.merge.bad_records();
        self.pass = next;
        if let Some(session) = &mut self.session {
            session.shift = session.shift.saturating_add(length);
        }
        Ok(())
    }

    fn bad_record(&self, file: usize, position: Position, reason: String) -> FeedError {
        let path = self.paths[file].display().to_string();
        FeedError::BadRecord { path, position: position.to_string(), reason }
    }

    /// What a record that was left out means to the books of its file.
    fn doubt(&mut self, file: usize, error: RecordError, out: &mut Vec<Tick>) {
        let error = self.bad_record(file, error.position, error.reason);
        self.report.get_or_insert_with(|| format!("{error}; the record is left out"));
        let (session, rebase) = (&self.session, self.options.rebase);
        let at = |time| session.as_ref().map_or(time, |session| session.time(time, rebase));
        let ids = &self.pass.ids[file];
        self.pass.books.doubt(file, |name| ids.get(name).copied(), at, out);
    }

    /// The id of the instrument of a tick.
    fn instrument(&mut self, file: usize, name: usize) -> Result<InstrumentId, &'static str> {
        // The survey saw every name, unless somebody has written to the file since.
        const CHANGED: &str = "its instrument was not there when the file was opened";
        let known = &mut self.pass.ids[file];
        for name in self.pass.merge.names(file).iter().skip(known.len()) {
            known.push(*self.ids.get(&name.symbol).ok_or(CHANGED)?);
        }
        let id = known.get(name).copied().ok_or(CHANGED)?;
        if id.index() < self.instruments.len() { Ok(id) } else { Err(CHANGED) }
    }

    /// Appends what the tick comes to and subtracts how many ticks that is from `ticks_left`.
    fn emit_counted(
        &mut self,
        file: usize,
        raw: &RawTick,
        ticks_left: &mut usize,
        out: &mut Vec<Tick>,
    ) -> Result<(), String> {
        let before = out.len();
        let result = self.emit(file, raw, out);
        *ticks_left = ticks_left.saturating_sub(out.len() - before);
        result
    }

    /// Appends what the tick comes to, or says why it is a bad record.
    fn emit(&mut self, file: usize, raw: &RawTick, out: &mut Vec<Tick>) -> Result<(), String> {
        let id = self.instrument(file, raw.name)?;
        let instrument = &self.instruments[id.index()];
        let (session, rebase) = (&self.session, self.options.rebase);
        let skipping = self.pass.skipped.is_some();
        let at = |time| session.as_ref().filter(|_| !skipping).map_or(time, |session| session.time(time, rebase));
        let result = match raw.event {
            RawEvent::Trade { .. } | RawEvent::Quote { .. } => {
                let event = scale(instrument, &raw.event)?;
                out.push(Tick { instrument: id, time: at(raw.time), event });
                Ok(())
            }
            RawEvent::Book { change, end } => {
                let Some(kind) = self.pass.merge.book_kind(file) else { return Ok(()) };
                let sources = self.sources[id.index()];
                let part = Part { file, name: raw.name, instrument, sources, kind, change, end };
                if let Err(reason) = self.pass.books.apply(&part, raw.time, at, out) {
                    // The record is as it should be; it is the book that cannot be. That is no reason to stop the others.
                    self.books_refused += 1;
                    let error = self.bad_record(file, raw.position, reason);
                    let symbol = &self.instruments[id.index()].symbol;
                    let report =
                        || format!("{error}; nothing is known of the book of {symbol} until its next snapshot");
                    self.report.get_or_insert_with(report);
                }
                Ok(())
            }
        };
        if !skipping {
            Span::extend(&mut self.pass.receive, raw.receive);
            Span::extend(&mut self.pass.time, raw.time);
        }
        result
    }

    /// Takes a tick that comes before the beginning: only what it leaves behind counts.
    fn skip(&mut self) -> Result<(), FeedError> {
        let (mut ticks, mut ticks_left) = (Vec::new(), usize::MAX);
        self.take(&mut ticks_left, &mut ticks)?;
        if let Some(state) = &mut self.pass.skipped {
            for tick in ticks {
                state.apply(&Numbered { seq: 0, tick });
            }
        }
        Ok(())
    }

    /// The same as [`RecordingFeed::doubt`]; before the beginning it counts for what it leaves behind.
    fn doubt_now(&mut self, file: usize, error: RecordError, out: &mut Vec<Tick>) {
        let before = out.len();
        self.doubt(file, error, out);
        if let Some(state) = &mut self.pass.skipped {
            for tick in out.drain(before..) {
                state.apply(&Numbered { seq: 0, tick });
            }
        }
    }

    /// The state at the beginning, where something was skipped: books, quotes and statuses; trades are over.
    fn begin_behind_skipped(&mut self, out: &mut Vec<Tick>) {
        let Some(state) = self.pass.skipped.take() else { return };
        let (session, rebase) = (&self.session, self.options.rebase);
        let at = |time| session.as_ref().map_or(time, |session| session.time(time, rebase));
        out.extend(lasting(state.elements()).map(|tick| Tick { time: at(tick.time), ..tick }));
    }

    /// Takes the next tick and appends what it comes to.
    fn take(&mut self, ticks_left: &mut usize, out: &mut Vec<Tick>) -> Result<(), FeedError> {
        match self.pass.merge.pop() {
            Some(Popped::Tick(file, raw)) => match self.emit_counted(file, &raw, ticks_left, out) {
                Ok(()) => {}
                Err(reason) if self.options.on_bad_record == OnBadRecord::Skip => {
                    self.pass.merge.count_bad_record();
                    let error = RecordError { position: raw.position, reason, extent: Extent::ThisRecord };
                    self.doubt(file, error, out);
                }
                Err(reason) => return Err(self.bad_record(file, raw.position, reason)),
            },
            Some(Popped::Broken(file, error)) => return Err(self.bad_record(file, error.position, error.reason)),
            None => {}
        }
        Ok(())
    }
}

/// What of a state is still true later on.
pub(crate) fn lasting(state: Vec<Numbered>) -> impl Iterator<Item = Tick> {
    let lasts = |channel| matches!(channel, Channel::Quotes | Channel::Status | Channel::Book(BookDepth::Full));
    state.into_iter().map(|element| element.tick).filter(move |tick| lasts(tick.channel()))
}

impl Feed for RecordingFeed {
    fn instruments(&self) -> &[Instrument] {
        &self.instruments
    }

    fn start(&mut self, now: Timestamp) {
        self.session = Some(Session::begin(now));
        self.pace.begin(now);
    }

    fn poll(&mut self, now: Timestamp, ticks_max: usize, out: &mut Vec<Tick>) -> Result<Progress, FeedError> {
        if self.session.is_none() {
            self.start(now);
        }
        let mut ticks_left = ticks_max.max(1);
        let mut records_left = ticks_left.saturating_mul(RECORDS_PER_TICK);
        while ticks_left > 0 {
            let head = self.pass.merge.head(&mut records_left);
            for (file, error) in self.pass.merge.take_skipped() {
                self.doubt_now(file, error, out);
            }
            let head = match head {
                Head::Ready(receive) if self.options.to.is_some_and(|to| receive > to) => Head::End,
                head => head,
            };
            let receive = match head {
                Head::Unread => return Ok(Progress::Ready),
                Head::Ready(receive) => receive,
                Head::End => match (self.options.repeat, self.pass.length()) {
                    (Repeat::Once, _) | (Repeat::Loop, None) => return Ok(Progress::Ended),
                    (Repeat::Loop, Some(length)) => {
                        self.next_pass(length)?;
                        continue;
                    }
                },
            };
            if self.pass.skipped.is_some() && self.options.from.is_some_and(|from| receive < from) {
                self.skip()?;
                continue;
            }
            let mut elapsed_ns = 0;
            if let Some(session) = &mut self.session {
                session.origin.get_or_insert(receive);
                elapsed_ns = session.elapsed_ns(receive);
                match self.pace.gate(now, elapsed_ns) {
                    Gate::Open => {}
                    Gate::At(until) => return Ok(Progress::Idle { until }),
                    Gate::Held => return Ok(Progress::Held),
                }
            }
            self.begin_behind_skipped(out);
            let before = out.len();
            self.take(&mut ticks_left, out)?;
            if out.len() > before {
                self.pace.passed(elapsed_ns);
                self.reached = Some(receive);
            }
        }
        Ok(Progress::Ready)
    }

    fn control(&mut self, now: Timestamp, command: ReplayCommand) -> Result<ReplayStatus, ControlError> {
        self.pace.control(now, command)?;
        Ok(ReplayStatus { paused: self.pace.is_paused(), speed: self.pace.speed(), time: self.reached })
    }

    fn bad_records(&self) -> u64 {
        self.bad_records + self.pass.merge.bad_records()
    }

    fn book_troubles(&self) -> BookTroubles {
        BookTroubles { refused: self.books_refused, stale: self.pass.books.stale() }
    }

    fn take_report(&mut self) -> Option<String> {
        self.report.take()
    }
}

/// The trade or quote with the instrument's exponents; books go by [`Books`].
fn scale(instrument: &Instrument, event: &RawEvent) -> Result<Event, String> {
    let price = |price| scaled("price", price, instrument.price_exponent).map(Price);
    let size = |size| scaled_size(size, instrument.size_exponent);
    let level = |level: Option<RawLevel>| -> Result<Option<Level>, String> {
        level.map(|level| Ok(Level { price: price(level.price)?, size: size(level.size)? })).transpose()
    };
    Ok(match *event {
        RawEvent::Trade { price: paid, size: amount, side, trade_id } => {
            Event::Trade(Trade { price: price(paid)?, size: size(amount)?, side, trade_id })
        }
        RawEvent::Quote { bid, ask } => Event::Quote(Quote { bid: level(bid)?, ask: level(ask)? }),
        RawEvent::Book { .. } => return Err("it is a change of a book".into()),
    })
}

fn scaled_size(size: Decimal, exponent: i8) -> Result<Size, String> {
    let size = scaled("size", size, exponent)?;
    u64::try_from(size).map(Size).map_err(|_| format!("the size {size} is negative"))
}

fn scaled(what: &str, value: Decimal, exponent: i8) -> Result<i64, String> {
    value.at(exponent.unsigned_abs()).ok_or_else(|| {
        let places = exponent.unsigned_abs();
        format!("the {what} does not fit into 64 bits with the {places} decimal places that other records need")
    })
}

impl std::fmt::Debug for RecordingFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths: Vec<&Path> = self.paths.iter().map(PathBuf::as_path).collect();
        f.debug_struct("RecordingFeed").field("paths", &paths).field("options", &self.options).finish_non_exhaustive()
    }
}
