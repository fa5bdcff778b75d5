//! The line format of server-sent events.
//!
//! **Invariant:** what comes in is bounded; lines of fields that are not known here are passed over.

use std::time::Duration;

/// As long as any server of ours asks for.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// The same bound as for messages of a WebSocket.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerEvent {
    /// A message
    pub data: Vec<u8>,
    /// Whoever goes on from it has seen everything up to here
    pub id: Option<String>,
    /// How long to wait before connecting again
    pub retry: Option<Duration>,
}

/// Bytes in, events out.
#[derive(Debug, Default)]
pub(crate) struct EventParser {
    /// Of no whole line yet
    rest: Vec<u8>,
    event: ServerEvent,
}

impl EventParser {
    /// The events that end within this chunk.
    ///
    /// # Errors
    /// One is too long.
    pub(crate) fn feed(&mut self, chunk: &[u8], events: &mut impl Extend<ServerEvent>) -> Result<(), String> {
        let mut begin = 0;
        while let Some(length) = chunk[begin..].iter().position(|byte| *byte == b'\n') {
            let part = &chunk[begin..begin + length];
            begin += length + 1;
            if self.rest.is_empty() {
                events.extend(self.line(part));
            } else {
                let mut line = std::mem::take(&mut self.rest);
                line.extend_from_slice(part);
                events.extend(self.line(&line));
            }
        }
        self.rest.extend_from_slice(&chunk[begin..]);
        if self.rest.len() + self.event.data.len() > EVENT_BYTES_MAX {
            return Err(format!("an event of more than {EVENT_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Option<ServerEvent> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.data.is_empty() || event.retry.is_some()).then_some(event);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push(b'\n');
                }
                self.event.data.extend_from_slice(value);
            }
            b"id" => self.event.id = Some(String::from_utf8_lossy(value).into_owned()),
            b"retry" => {
                let text = std::str::from_utf8(value).ok();
                let millis = text.and_then(|text| text.parse().ok()).map(Duration::from_millis);
                self.event.retry = millis.map(|retry| retry.min(RETRY_MAX)).or(self.event.retry);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_be_cut_anywhere() {
        let text = b"retry: 1384\r\n: ping\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n\r\nid: e-7\nevent: x\ndata:2\n\n";
        let first = ServerEvent { data: b"{\"a\":\n1}".to_vec(), id: None, retry: Some(Duration::from_millis(1384)) };
        let second = ServerEvent { data: b"2".to_vec(), id: Some("e-7".into()), retry: None };
        for size in 1..=text.len() {
            let (mut parser, mut events) = (EventParser::default(), Vec::new());
            for chunk in text.chunks(size) {
                parser.feed(chunk, &mut events).unwrap();
            }
            assert_eq!(events, [first.clone(), second.clone()], "chunks of {size}");
        }
        assert!(EventParser::default().feed(&vec![b'x'; EVENT_BYTES_MAX + 1], &mut Vec::new()).is_err());
    }
}
