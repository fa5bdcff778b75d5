//! `inspect`: what is in a recording.
//!
//! **Invariant:** a file that was cut short or damaged is described as far as it goes; that is no failure of this command.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use feed::FeedError;
use recording::{BlockKind, Item, ReadError, Reader, Tail};

use crate::exit::Failure;

/// What to inspect.
#[derive(Debug, Clone, Args)]
pub(crate) struct Inspect {
    /// The recording
    pub(crate) file: PathBuf,
    /// List every block
    #[arg(long)]
    pub(crate) blocks: bool,
}

pub(crate) type FileReader = Reader<BufReader<File>>;

/// Opens a recording of this program.
pub(crate) fn open(path: &Path) -> Result<FileReader, Failure> {
    let unreadable =
        |reason: String| Failure::FeedOpen(FeedError::Unreadable { path: path.display().to_string(), reason });
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    Reader::open(BufReader::new(file)).map_err(|error| unreadable(error.to_string()))
}

/// Prints what is in the recording.
pub(crate) fn inspect(asked: &Inspect) -> Result<(), Failure> {
    let mut reader = open(&asked.file)?;
    let text = describe(&mut reader, asked)?;
    // Nobody may be there to read it (`| head`); that is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn describe(reader: &mut FileReader, asked: &Inspect) -> Result<String, Failure> {
    let mut text = String::new();
    let session = reader.session().clone();
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "session      {}, part {}, begun {}", session.epoch, session.part, session.begun_at);
    let _ = writeln!(text, "written by   {}", session.writer);
    let tail = match reader.tail() {
        Tail::Closed => "closed, with an index".to_owned(),
        Tail::Open => "without an index: the recorder was ended, or still writes".to_owned(),
        Tail::Torn { offset, bytes } => {
            format!("torn: the block at byte {offset} broke off after {bytes} bytes and is lost")
        }
    };
    let _ = writeln!(text, "end          {tail}");
    if reader.damaged_bytes() > 0 {
        let _ = writeln!(text, "damage       {} bytes between blocks belong to none", reader.damaged_bytes());
    }
    let _ = writeln!(text, "instruments  {}", reader.instruments().len());
    match reader.time_range() {
        Some((first, last)) => {
            let _ = writeln!(text, "times        {first} to {last}");
        }
        None => text.push_str("times        none\n"),
    }
    let blocks = reader.blocks().to_vec();
    let (stored, content): (u64, u64) = blocks.iter().fold((0, 0), |(stored, content), block| {
        (stored + u64::from(block.stored_bytes), content + u64::from(block.content_bytes))
    });
    let of_kind = |kind| blocks.iter().filter(|block| block.kind == kind).count();
    let kinds = [BlockKind::Session, BlockKind::Elements, BlockKind::State, BlockKind::Loss];
    let kinds: Vec<String> = kinds.iter().map(|kind| format!("{} {}", of_kind(*kind), kind.name())).collect();
    let _ = writeln!(text, "blocks       {}: {}", blocks.len(), kinds.join(", "));
    let elements = reader.element_count();
    let each = if elements == 0 { 0.0 } else { stored as f64 / elements as f64 };
    let _ = writeln!(text, "elements     {elements} in {stored} bytes ({each:.2} each), {content} uncompressed");
    if asked.blocks {
        text.push_str("\n    offset  kind      elements     bytes  from                            to\n");
        for block in &blocks {
            let _ = writeln!(
                text,
                "{:>10}  {:<8} {:>9} {:>9}  {}  {}",
                block.offset,
                block.kind.name(),
                block.count,
                block.stored_bytes,
                block.first_time,
                block.last_time
            );
        }
    }
    contents(reader, &mut text)?;
    Ok(text)
}

/// What only reading everything tells: elements by channel, losses, damage.
fn contents(reader: &mut FileReader, text: &mut String) -> Result<(), Failure> {
    let mut channels: BTreeMap<usize, (&str, u64)> = BTreeMap::new();
    loop {
        match reader.read() {
            Ok(None) => break,
            Ok(Some(Item::Element(element))) => {
                let channel = element.tick.channel();
                channels.entry(channel.index()).or_insert((channel.name(), 0)).1 += 1;
            }
            Ok(Some(Item::State(_))) => {}
            Ok(Some(Item::Loss(loss))) => {
                let count: u64 = loss.lost.iter().map(recording::Lost::count).sum();
                let (reason, streams) = (loss.reason.name(), loss.lost.len());
                let _ = writeln!(text, "loss         {count} elements of {streams} streams: {reason}");
            }
            Err(error @ ReadError::Damaged { .. }) => {
                let _ = writeln!(text, "damage       {error}");
            }
            Err(error) => return Err(Failure::Other(error.into())),
        }
    }
    for (name, count) in channels.values() {
        let _ = writeln!(text, "  {name:<10} {count}");
    }
    Ok(())
}
