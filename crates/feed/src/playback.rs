//! Plays back what this program has recorded (crate `recording`, `docs/recording.md`).
//!
//! **Invariant:** replayed once and with its own times, a recording gives the elements of the session that was recorded, with
//! their numbers, under its epoch, in its order. Where elements are missing the state behind the hole is handed over instead.
//!
//! Looped or rebased, times or numbers have to change; then it is a source like any other: trades, quotes, statuses and full
//! books come from the file, and everything else is derived from these anew.
//!
//! The pace and `from` and `to` go by the market's time: the latest time of all elements so far.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::recording::{Item, MAGIC, ReadError, Reader};
use market::{BookDepth, Channel, ChannelSet, Instrument, InstrumentId, Numbered, Tick, Timestamp};
use rustc_hash::FxHashMap;

use crate::recording::{Gate, LOOP_REST, Pace, Session, lasting};
use crate::{
    ControlError, Feed, FeedError, OnBadRecord, Progress, Rebase, Repeat, ReplayCommand, ReplayOptions, ReplayStatus,
    open_recordings,
};

/// What a recording's name ends with; only these files of a folder are taken.
const ENDING: &str = "tpr";

/// Opens recordings of any kind: those of this program, or those that [`open_recordings`] reads. A folder stands for the
/// recordings of this program in it, by name.
///
/// # Errors
/// [`FeedError`] when one of them cannot be read or both kinds are named.
pub fn open_replay(paths: &[PathBuf], options: ReplayOptions) -> Result<Box<dyn Feed>, FeedError> {
    let mut files = Vec::new();
    let mut ours = 0;
    for path in paths {
        if path.is_dir() {
            let found = folder(path)?;
            ours += found.len();
            files.extend(found);
        } else {
            ours += usize::from(is_ours(path));
            files.push(path.clone());
        }
    }
    match ours {
        0 => Ok(Box::new(open_recordings(&files, options)?)),
        _ if ours == files.len() => Ok(Box::new(PlaybackFeed::open(files, options)?)),
        _ => Err(FeedError::Options("a recording of this program cannot be merged with another feed".into())),
    }
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, FeedError> {
    let unreadable = |reason: String| FeedError::Unreadable { path: path.display().to_string(), reason };
    let entries = path.read_dir().map_err(|error| unreadable(error.to_string()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(error.to_string()))?.path();
        if entry.extension().is_some_and(|ending| ending == ENDING) {
            found.push(entry);
        }
    }
    found.sort();
    if found.is_empty() {
        Err(unreadable(format!("the folder has no file that ends with .{ENDING}")))
    } else {
        Ok(found)
    }
}

fn is_ours(path: &Path) -> bool {
    use std::io::Read as _;
    let mut begin = [0; MAGIC.len()];
    path.is_file() && File::open(path).is_ok_and(|mut file| file.read_exact(&mut begin).is_ok()) && begin == MAGIC
}

/// A recording of this program being replayed; see [`open_replay`].
pub struct PlaybackFeed {
    files: Vec<PathBuf>,
    options: ReplayOptions,
    numbering: Numbering,
    pace: Pace,
    instruments: Vec<Instrument>,
    channels: ChannelSet,
    epoch: String,
    /// The index of the file that is read, and its reader
    file: usize,
    reader: FileReader,
    next: Option<Numbered>,
    state: Vec<Numbered>,
    /// Elements are dropped until the next state, because some before them are damaged
    astray: Astray,
    seqs: FxHashMap<(InstrumentId, Channel), u64>,
    session: Option<Session>,
    /// The market's time of this pass, and when it began
    latest: Option<Timestamp>,
    first: Option<Timestamp>,
    bad_records: u64,
}

type FileReader = Reader<BufReader<File>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbering {
    /// As recorded
    Kept,
    /// By whoever takes the ticks
    Anew,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Astray {
    No,
    UntilState,
}

impl PlaybackFeed {
    fn open(files: Vec<PathBuf>, options: ReplayOptions) -> Result<Self, FeedError> {
        let pace = Pace::new(options.speed).map_err(|error| FeedError::Options(error.to_string()))?;
        let kept = options.repeat == Repeat::Once && options.rebase == Rebase::Keep;
        let numbering = if kept { Numbering::Kept } else { Numbering::Anew };
        let mut channels = ChannelSet::EMPTY;
        let mut readers = files.iter().map(|path| open(path).map(|reader| (path, reader)));
        let Some(first) = readers.next() else { return Err(FeedError::Options("no recording is named".into())) };
        let (_, reader) = first?;
        let epoch = reader.session().epoch.clone();
        let mut instruments = reader.instruments().to_vec();
        channels = channels.union(reader.channels());
        for part in readers {
            let (path, part) = part?;
            if part.session().epoch != epoch {
                let what = format!("{} is of another session than the first file", path.display());
                return Err(FeedError::Options(what));
            }
            channels = channels.union(part.channels());
            if part.instruments().len() > instruments.len() {
                instruments = part.instruments().to_vec();
            }
        }
        let mut this = Self {
            files,
            options,
            numbering,
            pace,
            instruments,
            channels,
            epoch,
            file: 0,
            reader,
            next: None,
            state: Vec::new(),
            astray: Astray::No,
            seqs: FxHashMap::default(),
            session: None,
            latest: None,
            first: None,
            bad_records: 0,
        };
        this.go_to_begin()?;
        Ok(this)
    }

    /// Goes to where the pass begins.
    fn go_to_begin(&mut self) -> Result<(), FeedError> {
        self.seqs.clear();
        (self.file, self.next, self.latest, self.first) = (0, None, None, None);
        self.astray = Astray::No;
        self.reader = open(&self.files[0])?;
        let Some(from) = self.options.from else { return self.look_ahead() };
        // The first file in which that time is reached; the last one if it never is.
        while self.file + 1 < self.files.len() && self.reader.time_range().is_none_or(|(_, last)| last < from) {
            self.file += 1;
            self.reader = open(&self.files[self.file])?;
        }
        let (state, next) = self.reader.seek(from).map_err(|error| refused(&self.files[self.file], &error))?;
        self.take_in(state.elements());
        self.next = next;
        match &self.next {
            Some(element) => self.seqs.insert((element.tick.instrument, element.tick.channel()), element.seq),
            None => return self.look_ahead(),
        };
        Ok(())
    }

    /// Takes in a state, where it is news.
    fn take_in(&mut self, state: Vec<Numbered>) {
        let key = |element: &Numbered| (element.tick.instrument, element.tick.channel());
        let known = |element: &Numbered| self.seqs.get(&key(element)) == Some(&element.seq);
        if self.astray == Astray::No && state.iter().all(known) {
            return;
        }
        self.astray = Astray::No;
        self.seqs.extend(state.iter().map(|element| (key(element), element.seq)));
        self.state = state;
    }

    /// Reads on to the next element, or to a state that is news.
    fn look_ahead(&mut self) -> Result<(), FeedError> {
        while self.next.is_none() && self.state.is_empty() {
            match self.reader.read() {
                Ok(Some(Item::Element(element))) => self.consider(element)?,
                Ok(Some(Item::Loss(_))) => {}
                Ok(Some(Item::State(state))) => self.take_in(state),
                Ok(None) => {
                    let Some(path) = self.files.get(self.file + 1) else { return Ok(()) };
                    self.reader = open(path)?;
                    self.file += 1;
                }
                Err(error) => self.damaged(refused(&self.files[self.file], &error))?,
            }
        }
        Ok(())
    }

    fn consider(&mut self, element: Numbered) -> Result<(), FeedError> {
        let channel = element.tick.channel();
        if self.astray == Astray::UntilState {
            return Ok(());
        }
        let last = self.seqs.entry((element.tick.instrument, channel)).or_insert(0);
        if element.seq != last.saturating_add(1) {
            let path = self.files[self.file].display().to_string();
            let symbol = &self.instruments[element.tick.instrument.index()].symbol;
            let reason = format!("it is the first behind number {last}, and nothing says what is missing");
            let position = format!("{symbol} {channel} number {}", element.seq);
            return self.damaged(FeedError::BadRecord { path, position, reason });
        }
        *last = element.seq;
        let primary = |channel| {
            !matches!(channel, Channel::Ticker | Channel::Bars(_) | Channel::Book(BookDepth::Top10 | BookDepth::Top50))
        };
        if self.numbering == Numbering::Kept || primary(channel) {
            self.next = Some(element);
        }
        Ok(())
    }

    /// Something cannot be read: the end, or one bad record and on with the next state.
    fn damaged(&mut self, error: FeedError) -> Result<(), FeedError> {
        if self.options.on_bad_record == OnBadRecord::Stop || !matches!(error, FeedError::BadRecord { .. }) {
            return Err(error);
        }
        self.bad_records += 1;
        self.astray = Astray::UntilState;
        self.reader.want_state();
        Ok(())
    }

    /// Hands over the next element, and the deeper views of the same change of a book with it.
    fn emit(&mut self, out: &mut Vec<Tick>) -> Result<(), FeedError> {
        let rebase = self.options.rebase;
        while let Some(element) = self.next.take() {
            let Tick { instrument, time, event } = element.tick;
            let channel = event.channel();
            self.latest = self.latest.max(Some(time));
            let at = self.session.as_ref().map_or(time, |session| session.time(time, rebase));
            out.push(Tick { instrument, time: at, event });
            self.look_ahead()?;
            let same_change = |next: &Numbered| {
                let (next, deeper) = (&next.tick, next.tick.channel());
                let books = matches!((channel, deeper), (Channel::Book(a), Channel::Book(b)) if a < b);
                books && next.instrument == instrument && next.time == time
            };
            if !self.next.as_ref().is_some_and(same_change) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Begins the next pass, if there is to be one.
    fn end_of_pass(&mut self) -> Result<Option<Progress>, FeedError> {
        let (Repeat::Loop, Some(first), Some(latest)) = (self.options.repeat, self.first, self.latest) else {
            return Ok(Some(Progress::Ended));
        };
        if let Some(session) = &mut self.session {
            let length: Duration = latest.since(first) + LOOP_REST;
            session.shift = session.shift.saturating_add(length);
        }
        self.go_to_begin()?;
        Ok(None)
    }
}

impl Feed for PlaybackFeed {
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
        let enough = out.len() + ticks_max.max(1);
        while out.len() < enough {
            self.look_ahead()?;
            if !self.state.is_empty() && self.numbering == Numbering::Kept {
                // It is asked for before the ticks behind it.
                return Ok(Progress::Ready);
            }
            let market = self.next.as_ref().map(|next| self.latest.max(Some(next.tick.time)).unwrap_or(next.tick.time));
            let Some(market) = market.filter(|market| self.options.to.is_none_or(|to| *market <= to)) else {
                if self.next.is_none() && !self.state.is_empty() {
                    self.state.clear();
                    continue;
                }
                match self.end_of_pass()? {
                    Some(progress) => return Ok(progress),
                    None => continue,
                }
            };
            let mut elapsed_ns = 0;
            self.first.get_or_insert(market);
            if let Some(session) = &mut self.session {
                session.origin.get_or_insert(market);
                elapsed_ns = session.elapsed_ns(market);
                match self.pace.gate(now, elapsed_ns) {
                    Gate::Open => {}
                    Gate::At(until) => return Ok(Progress::Idle { until }),
                    Gate::Held => return Ok(Progress::Held),
                }
                let (state, rebase) = (std::mem::take(&mut self.state), self.options.rebase);
                out.extend(lasting(state).map(|tick| Tick { time: session.time(tick.time, rebase), ..tick }));
            }
            self.emit(out)?;
            self.pace.passed(elapsed_ns);
        }
        Ok(Progress::Ready)
    }

    fn bad_records(&self) -> u64 {
        self.bad_records
    }

    fn epoch(&self) -> Option<&str> {
        (self.numbering == Numbering::Kept).then_some(&self.epoch)
    }

    fn brought(&self) -> ChannelSet {
        if self.numbering == Numbering::Kept { self.channels } else { ChannelSet::EMPTY }
    }

    fn take_state(&mut self) -> Vec<Numbered> {
        if self.numbering == Numbering::Kept { std::mem::take(&mut self.state) } else { Vec::new() }
    }

    fn control(&mut self, now: Timestamp, command: ReplayCommand) -> Result<ReplayStatus, ControlError> {
        self.pace.control(now, command)?;
        Ok(ReplayStatus { paused: self.pace.is_paused(), speed: self.pace.speed(), time: self.latest })
    }
}

fn open(path: &Path) -> Result<FileReader, FeedError> {
    let file = File::open(path)
        .map_err(|error| FeedError::Unreadable { path: path.display().to_string(), reason: error.to_string() })?;
    Reader::open(BufReader::new(file)).map_err(|error| refused(path, &error))
}

fn refused(path: &Path, error: &ReadError) -> FeedError {
    let path = path.display().to_string();
    match error {
        ReadError::Damaged { offset, reason } => {
            FeedError::BadRecord { path, position: format!("block at byte {offset}"), reason: (*reason).to_owned() }
        }
        ReadError::Io { .. } => FeedError::Unreadable { path, reason: error.to_string() },
        _ => FeedError::Unsupported { path, reason: error.to_string() },
    }
}

impl std::fmt::Debug for PlaybackFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlaybackFeed")
            .field("files", &self.files)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
