//! From a shard to the body of an HTTP response: the second kind of socket.
//!
//! **Invariant:** as a socket, it takes what there is room for and says so; at most [`PIPE_BYTES_MAX`] wait in it. Each end
//! notices when the other is gone.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::{Bytes, HttpBody};
use hub::Written;
use hyper::body::Frame;

use crate::state::{OpenResponse, Responses};

/// What may wait for the thread that speaks HTTP: what a busy client gets within a few milliseconds. Whatever is beyond it
/// waits in the session's outbox, where it is counted and can be taken back.
const PIPE_BYTES_MAX: usize = 64 << 10;

/// The shard's end; dropping it ends the body.
#[derive(Debug)]
pub(crate) struct PipeWriter(Arc<Pipe>);

/// The response's end: a body. Dropping it tells the shard that the client is gone.
#[derive(Debug)]
pub(crate) struct PipeReader {
    pipe: Arc<Pipe>,
    _open: OpenResponse,
}

/// What has happened at the other end since the shard last looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReaderSide {
    /// It is gone.
    Gone,
    /// It takes bytes again after it had not.
    Unblocked,
    /// Nothing.
    Same,
}

#[derive(Debug, Default)]
struct Pipe(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    /// The response's task, when it waits for bytes.
    reader: Option<Waker>,
    /// The shard's, once it has taken the pipe over.
    writer: Option<Waker>,
    writing: Writing,
    writer_gone: bool,
    reader_gone: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Writing {
    #[default]
    Free,
    /// Bytes were refused.
    Blocked,
    /// There is room again, which the shard has still to be told.
    Unblocked,
}

/// Both ends of a new pipe.
pub(crate) fn pipe(responses: &Responses) -> (PipeWriter, PipeReader) {
    let pipe = Arc::new(Pipe::default());
    (PipeWriter(Arc::clone(&pipe)), PipeReader { pipe, _open: responses.open() })
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PipeWriter {
    /// Has the shard woken by `waker` from now on; at once, in case the reader has gone already.
    pub(super) fn set_waker(&self, waker: Waker) {
        waker.wake_by_ref();
        self.0.lock().writer = Some(waker);
    }

    /// Takes what there is room for.
    pub(super) fn write(&self, bytes: &[u8]) -> Written {
        let mut state = self.0.lock();
        if state.reader_gone {
            return Written::Broken;
        }
        let taken = PIPE_BYTES_MAX.saturating_sub(state.buffer.len()).min(bytes.len());
        state.buffer.extend_from_slice(&bytes[..taken]);
        if taken < bytes.len() {
            state.writing = Writing::Blocked;
        }
        if taken > 0
            && let Some(reader) = state.reader.take()
        {
            drop(state);
            reader.wake();
        }
        Written::Bytes(taken)
    }

    /// What has become of the reader.
    pub(super) fn reader_side(&self) -> ReaderSide {
        let mut state = self.0.lock();
        if state.reader_gone {
            return ReaderSide::Gone;
        }
        if state.writing == Writing::Unblocked {
            state.writing = Writing::Free;
            return ReaderSide::Unblocked;
        }
        ReaderSide::Same
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        let reader = {
            let mut state = self.0.lock();
            state.writer_gone = true;
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl PipeReader {
    /// Takes all that is there; none at the end.
    pub(crate) fn poll_bytes(&mut self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.pipe.lock();
        if state.buffer.is_empty() {
            if state.writer_gone {
                return Poll::Ready(None);
            }
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let bytes = std::mem::take(&mut state.buffer);
        if state.writing == Writing::Blocked {
            state.writing = Writing::Unblocked;
            if let Some(writer) = &state.writer {
                writer.wake_by_ref();
            }
        }
        Poll::Ready(Some(bytes.into()))
    }

    /// Whether nothing waits in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.pipe.lock().buffer.is_empty()
    }
}

impl HttpBody for PipeReader {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_bytes(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let writer = {
            let mut state = self.pipe.lock();
            state.reader_gone = true;
            state.writer.clone()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn wakes(counter: &Arc<Counter>) -> usize {
        counter.0.swap(0, Ordering::SeqCst)
    }

    #[test]
    fn a_full_pipe_blocks_until_it_is_read() {
        let (writer, mut reader) = pipe(&Responses::default());
        let (shard, response) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        writer.set_waker(Waker::from(Arc::clone(&shard)));
        assert_eq!(wakes(&shard), 1, "the shard looks once at what it has taken over");
        let waker = Waker::from(Arc::clone(&response));
        let context = Context::from_waker(&waker);
        assert_eq!(reader.poll_bytes(&context), Poll::Pending);
        assert_eq!(writer.write(b"ab"), Written::Bytes(2));
        assert_eq!(wakes(&response), 1);
        let much = vec![b'c'; PIPE_BYTES_MAX];
        assert_eq!(writer.write(&much), Written::Bytes(PIPE_BYTES_MAX - 2));
        assert_eq!(writer.write(b"d"), Written::Bytes(0));
        assert_eq!(writer.reader_side(), ReaderSide::Same);
        let Poll::Ready(Some(bytes)) = reader.poll_bytes(&context) else { panic!("nothing there") };
        assert_eq!((bytes.len(), wakes(&shard)), (PIPE_BYTES_MAX, 1));
        assert_eq!((writer.reader_side(), writer.reader_side()), (ReaderSide::Unblocked, ReaderSide::Same));
        assert_eq!(writer.write(b"d"), Written::Bytes(1));
        drop(writer);
        assert_eq!(reader.poll_bytes(&context), Poll::Ready(Some(Bytes::from_static(b"d"))));
        assert_eq!(reader.poll_bytes(&context), Poll::Ready(None));
    }

    #[test]
    fn each_end_notices_that_the_other_is_gone() {
        let (writer, reader) = pipe(&Responses::default());
        let shard = Arc::new(Counter::default());
        writer.set_waker(Waker::from(Arc::clone(&shard)));
        drop(reader);
        assert_eq!((wakes(&shard), writer.reader_side()), (2, ReaderSide::Gone));
        assert_eq!(writer.write(b"x"), Written::Broken);
        let (writer, mut reader) = pipe(&Responses::default());
        let response = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&response));
        assert_eq!(reader.poll_bytes(&Context::from_waker(&waker)), Poll::Pending);
        drop(writer);
        assert_eq!(wakes(&response), 1);
        assert_eq!(reader.poll_bytes(&Context::from_waker(&waker)), Poll::Ready(None));
    }
}
