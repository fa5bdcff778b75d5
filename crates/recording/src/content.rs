//! The contents of all blocks but those of elements: the session, what was lost, and the index.
//!
//! **Invariant:** what is read is checked as if somebody had typed it: symbols, exponents, ids without a hole.

use market::{AssetClass, Instrument, InstrumentId, Price, Size, Symbol, Timestamp};

use crate::block::{BLOCK_HEADER_BYTES, BlockInfo};
use crate::bytes::{Input, put_text, put_unsigned, unzigzag, zigzag};
use crate::error::Broken;
use crate::layout;

/// What is true of a whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Names the run of numbers
    pub epoch: String,
    /// Which file of the session it is, counted from 1
    pub part: u32,
    /// The recorder's clock when the file was begun
    pub begun_at: Timestamp,
    /// What wrote it, such as `tickerplant 0.1.0`
    pub writer: String,
}

/// Why elements are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LossReason {
    /// The recorder did not keep up
    Slow = 1,
    /// They could not be written, as on a full disk
    Failed = 2,
    /// The source has them not, such as a recording that is played back
    Source = 3,
}

impl LossReason {
    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "the recorder did not keep up",
            Self::Failed => "the file could not be written",
            Self::Source => "the source did not have them",
        }
    }
}

/// Elements of one stream that are missing: those numbered `from_seq` to `to_seq`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Whose
    pub instrument: InstrumentId,
    /// Of which channel
    pub channel: market::Channel,
    /// The first one missing
    pub from_seq: u64,
    /// The last one missing
    pub to_seq: u64,
}

/// A hole in the recording; the state of all streams follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Why
    pub reason: LossReason,
    /// What
    pub lost: Vec<Lost>,
}

impl Lost {
    /// How many elements that are.
    pub fn count(&self) -> u64 {
        (self.to_seq - self.from_seq).saturating_add(1)
    }
}

const CLASSES: [AssetClass; 3] = [AssetClass::Crypto, AssetClass::Equity, AssetClass::Future];

/// Instruments in a block of a session: few enough that the longest descriptions stay below the bound of a content.
pub(crate) const INSTRUMENTS_PER_BLOCK: usize = 10_000;
/// More instruments than a large venue has; a file with more is not what it seems.
const INSTRUMENTS_MAX: usize = 200_000;
/// Longer texts of instruments are cut when they are written.
const TEXT_BYTES_MAX: usize = 1024;

pub(crate) fn put_session(session: &Session, instruments: &[Instrument], out: &mut Vec<u8>) {
    put_text(&session.epoch, out);
    put_unsigned(session.part.into(), out);
    put_unsigned(session.begun_at.0, out);
    put_text(&session.writer, out);
    put_unsigned(instruments.len() as u64, out);
    for instrument in instruments {
        put_unsigned(instrument.id.0.into(), out);
        put_text(instrument.symbol.as_str(), out);
        put_unsigned(zigzag(instrument.price_exponent.into()), out);
        put_unsigned(zigzag(instrument.size_exponent.into()), out);
        put_unsigned(zigzag(instrument.tick_size.0), out);
        put_unsigned(instrument.lot_size.0, out);
        out.push(CLASSES.iter().position(|class| *class == instrument.class).unwrap_or(0) as u8);
        put_text(cut(&instrument.currency), out);
        put_text(cut(&instrument.description), out);
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Reads a session and appends its instruments, which have to follow on those that are known.
pub(crate) fn session(content: &[u8], instruments: &mut Vec<Instrument>) -> Result<Session, Broken> {
    let mut input = Input(content);
    let epoch = input.text()?.to_owned();
    let part = input.small()?;
    let begun_at = Timestamp(input.unsigned()?);
    let writer = input.text()?.to_owned();
    let count = input.small::<usize>()?;
    for _ in 0..count {
        let id = InstrumentId(input.small()?);
        let symbol = Symbol::new(input.text()?).map_err(|_| Broken("an instrument's name is no symbol"))?;
        let mut exponent =
            || i8::try_from(unzigzag(input.unsigned()?)).map_err(|_| Broken("an exponent is out of range"));
        let (price_exponent, size_exponent) = (exponent()?, exponent()?);
        let tick_size = Price(unzigzag(input.unsigned()?));
        let lot_size = Size(input.unsigned()?);
        let class = CLASSES.get(usize::from(input.u8()?)).copied().ok_or(Broken("a class is unknown"))?;
        let (currency, description) = (input.text()?.to_owned(), input.text()?.to_owned());
        if id.index() < instruments.len() {
            // A later part of a session names all again.
            continue;
        }
        if id.index() >= INSTRUMENTS_MAX {
            return Err(Broken("it has more instruments than a recording can have"));
        }
        if id.index() > instruments.len() {
            return Err(Broken("the instruments are not numbered one after the other"));
        }
        instruments.push(Instrument {
            id,
            symbol,
            price_exponent,
            size_exponent,
            tick_size,
            lot_size,
            class,
            currency,
            description,
        });
    }
    if input.is_empty() { Ok(Session { epoch, part, begun_at, writer }) } else { Err(Broken("it is too long")) }
}

pub(crate) fn put_loss(loss: &Loss, out: &mut Vec<u8>) {
    out.push(loss.reason as u8);
    put_unsigned(loss.lost.len() as u64, out);
    for lost in &loss.lost {
        put_unsigned(lost.instrument.0.into(), out);
        out.push(layout::channel_code(lost.channel));
        put_unsigned(lost.from_seq, out);
        put_unsigned(lost.to_seq - lost.from_seq, out);
    }
}

/// Reads a loss of at most `streams` streams.
pub(crate) fn loss(content: &[u8], streams: usize) -> Result<Loss, Broken> {
    let mut input = Input(content);
    let reason = match input.u8()? {
        1 => LossReason::Slow,
        2 => LossReason::Failed,
        3 => LossReason::Source,
        _ => return Err(Broken("the reason of a loss is unknown")),
    };
    let count = input.small::<usize>()?;
    if count > streams {
        return Err(Broken("it has more streams than there are"));
    }
    let mut lost = Vec::new();
    for _ in 0..count {
        let instrument = InstrumentId(input.small()?);
        let channel = layout::channel(input.u8()?.into())?;
        let from_seq = input.unsigned()?;
        let to_seq = from_seq.checked_add(input.unsigned()?).ok_or(Broken("a number is out of range"))?;
        lost.push(Lost { instrument, channel, from_seq, to_seq });
    }
    if input.is_empty() { Ok(Loss { reason, lost }) } else { Err(Broken("it is too long")) }
}

/// The index is the headers of all blocks before it, each behind its offset.
pub(crate) fn put_index(blocks: &[BlockInfo], out: &mut Vec<u8>) {
    out.reserve(blocks.len() * (8 + BLOCK_HEADER_BYTES));
    for block in blocks {
        out.extend_from_slice(&block.offset.to_le_bytes());
        block.write(out);
    }
}

pub(crate) fn index(content: &[u8]) -> Result<Vec<BlockInfo>, Broken> {
    let entries = content.chunks(8 + BLOCK_HEADER_BYTES).map(|entry| {
        let mut input = Input(entry);
        let offset = input.u64()?;
        let header = input.0.try_into().map_err(|_| Broken("an entry is cut short"))?;
        BlockInfo::read(offset, header)
    });
    entries.collect()
}
