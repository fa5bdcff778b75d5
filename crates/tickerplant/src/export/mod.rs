//! `export`: a recording in a format that others read.
//!
//! **Invariant:** prices and sizes leave as exact as they are in the recording, or the export ends with an error that names
//! the element.

mod dbn;
mod text;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use market::{Instrument, Numbered};
use recording::{Item, ReadError};

use crate::exit::Failure;
use crate::inspect::{self, FileReader};

/// What to export.
#[derive(Debug, Clone, Args)]
pub(crate) struct Export {
    /// The recording
    pub(crate) file: PathBuf,
    /// The format
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// What to write: trades, quotes and so on for csv (trades when not given); trades, mbp-1 or tbbo for dbn
    #[arg(long, value_name = "SCHEMA", default_value = "trades")]
    pub(crate) schema: String,
    /// Where to write; standard output when not given
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// A format that others read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text with a header line; a channel a file
    Csv,
    /// Databento Binary Encoding
    Dbn,
}

/// Something that takes elements one by one.
trait Sink {
    fn element(&mut self, instrument: &Instrument, element: &Numbered) -> anyhow::Result<()>;
    fn finish(&mut self) -> anyhow::Result<()>;
}

/// Writes the recording to where it was asked for.
pub(crate) fn export(asked: &Export) -> Result<(), Failure> {
    let reader = inspect::open(&asked.file)?;
    let out: Box<dyn Write> = match &asked.out {
        Some(path) => Box::new(BufWriter::new(
            File::create(path).map_err(|error| Failure::Setting(format!("out: {}: {error}", path.display())))?,
        )),
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let mut sink: Box<dyn Sink> = match asked.format {
        Format::Csv => Box::new(text::Table::new(out, &asked.schema)?),
        Format::Dbn => Box::new(dbn::Records::new(out, &asked.schema, &reader)?),
    };
    write_all(reader, sink.as_mut())
}

fn write_all(mut reader: FileReader, sink: &mut dyn Sink) -> Result<(), Failure> {
    let instruments = reader.instruments().to_vec();
    let mut lost = 0u64;
    loop {
        match reader.read() {
            Ok(None) => break,
            Ok(Some(Item::Element(element))) => {
                if let Some(instrument) = instruments.get(element.tick.instrument.index()) {
                    sink.element(instrument, &element)?;
                }
            }
            Ok(Some(Item::Loss(loss))) => lost += loss.lost.iter().map(recording::Lost::count).sum::<u64>(),
            Ok(Some(Item::State(_))) => {}
            Err(error @ ReadError::Damaged { .. }) => {
                let _ = writeln!(io::stderr(), "warning: {error}; its elements are not in the export");
            }
            Err(error) => return Err(Failure::Other(error.into())),
        }
    }
    if lost > 0 {
        let _ = writeln!(io::stderr(), "warning: {lost} elements are missing in the recording");
    }
    sink.finish()?;
    Ok(())
}
