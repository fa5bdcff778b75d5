//! Logs on standard error: text or JSON, a filter that can be changed, and an end to repetition.
//!
//! **Invariant:** however often something happens, its place in the code writes at most [`LINES_MAX`] lines in a second from
//! level info up; how many were left out is said once a second. Levels debug and trace, and sessions that an operator looks
//! at, which have a bound of their own, are not cut: whoever asks for them wants them. No secret is in any line.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::settings::LogFormat;
use crate::traces::{self, Traces};

/// Lines of one place in the code in a second: enough to see what happens, too few to fill a disk.
const LINES_MAX: u32 = 10;
/// How often what was left out is told, and counting begins anew.
const WINDOW: Duration = Duration::from_secs(1);
/// What is bounded by itself.
const SESSION_TARGET: &str = "session";

/// A way to change the filter.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    traced: bool,
}

impl Logs {
    /// Begins to write, and to send traces to the collector if there is one. To be called once.
    pub(crate) fn begin(
        filter: EnvFilter,
        format: LogFormat,
        collector: Option<&str>,
    ) -> io::Result<(Self, Option<Traces>)> {
        let traced = collector.is_some();
        let (filter, handle) = reload::Layer::new(if traced { with_traces(filter) } else { filter });
        let (spans, traces) = collector.map(traces::collect).transpose().map_err(io::Error::other)?.unzip();
        let repetition = Repetition::default();
        let left_out = repetition.clone();
        let logs = tracing_subscriber::registry().with(filter).with(repetition).with(spans);
        let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
        // Not `init`, which would take in what libraries tell the crate `log` too: the one that reads WebSockets writes whole
        // messages there at level trace, and with them tokens.
        match format {
            LogFormat::Text => tracing::subscriber::set_global_default(logs.with(lines)),
            LogFormat::Json => tracing::subscriber::set_global_default(logs.with(lines.json())),
        }
        .map_err(io::Error::other)?;
        std::thread::Builder::new().name("logs".into()).spawn(move || {
            loop {
                std::thread::sleep(WINDOW);
                left_out.tell();
            }
        })?;
        Ok((Self { filter: handle, traced }, traces))
    }

    /// Goes by another filter from now on.
    pub(crate) fn set(&self, filter: EnvFilter) {
        // It fails only when there are no logs any more.
        let _ = self.filter.reload(if self.traced { with_traces(filter) } else { filter });
    }
}

/// Lets spans pass whatever is logged.
fn with_traces(filter: EnvFilter) -> EnvFilter {
    let target = gateway::traces::TARGET;
    filter.add_directive(format!("{target}=debug").parse().expect("a module and a level"))
}

/// Counts lines by their place in the code, of which there are as many as the program has.
#[derive(Debug, Clone, Default)]
struct Repetition(Arc<Mutex<HashMap<Identifier, Count>>>);

#[derive(Debug)]
struct Count {
    metadata: &'static Metadata<'static>,
    lines: u32,
}

impl Repetition {
    /// Whether another line of that place may be written.
    fn may_write(&self, metadata: &'static Metadata<'static>) -> bool {
        if *metadata.level() > Level::INFO || metadata.target() == SESSION_TARGET {
            return true;
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(metadata.callsite()).or_insert(Count { metadata, lines: 0 });
        count.lines = count.lines.saturating_add(1);
        count.lines <= LINES_MAX
    }

    /// What was left out since this was last asked: how many lines, and of which place.
    fn left_out(&self) -> Vec<Count> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let over = |count: Count| Some(Count { lines: count.lines.checked_sub(LINES_MAX)?, ..count });
        counts.into_values().filter_map(over).filter(|count| count.lines > 0).collect()
    }

    fn tell(&self) {
        for Count { metadata, lines } in self.left_out() {
            let place = format!("{}:{}", metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
            tracing::warn!(target: "logs", lines, %place, of = metadata.target(), "lines like others were left out");
        }
    }
}

/// A layer and not the filter of one: what a filter of a layer lets pass or not in `event_enabled` is not forgotten until the
/// next line (tracing-subscriber 0.3 asserts that it is).
impl<S: Subscriber> Layer<S> for Repetition {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        self.may_write(event.metadata())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_of_one_line_is_cut_and_the_others_are_not() {
        let (written, repetition) = (Written::default(), Repetition::default());
        let writer = written.clone();
        let lines = fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(repetition.clone()).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..500 {
                tracing::warn!("the same again");
                tracing::debug!("all of the details");
            }
            tracing::warn!("something else");
            repetition.tell();
            tracing::info!("after that");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let count = |words: &str| text.matches(words).count();
        assert_eq!(count("the same again"), LINES_MAX as usize);
        assert_eq!((count("all of the details"), count("something else"), count("after that")), (500, 1, 1));
        assert_eq!(count("lines=490"), 1, "{text}");
        assert_eq!(repetition.left_out().len(), 0);
    }
}
