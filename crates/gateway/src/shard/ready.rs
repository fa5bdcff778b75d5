//! Which sockets have something to do, without a task for each.
//!
//! **Invariant:** a token is in the list at most once for each time it was taken out, so the list is bounded by the number
//! of sockets; a wake-up costs one push.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use tokio::sync::Notify;

/// Names a socket of the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// The session at that index
    Session(u32),
    /// The socket in its last moments of that number
    Lingering(u32),
}

/// The sockets that were woken since they were last looked at.
#[derive(Debug)]
pub(super) struct ReadyList {
    tokens: Mutex<Vec<Token>>,
    /// Wakes the shard's task.
    signal: Arc<Notify>,
}

/// Wakes one socket: what its waker points to. The reactor holds one reference for each direction it watches.
#[derive(Debug)]
pub(super) struct SocketWaker {
    token: Token,
    listed: AtomicBool,
    list: Arc<ReadyList>,
}

impl ReadyList {
    pub(super) fn new(signal: Arc<Notify>) -> Self {
        Self { tokens: Mutex::default(), signal }
    }

    /// Moves all tokens into `into`, which must be empty.
    pub(super) fn take(&self, into: &mut Vec<Token>) {
        debug_assert!(into.is_empty());
        std::mem::swap(into, &mut self.tokens.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Puts back tokens that were taken but not looked at, before those that have come since.
    pub(super) fn put_back(&self, tokens: &mut Vec<Token>) {
        let mut list = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.append(&mut list);
        std::mem::swap(tokens, &mut list);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl SocketWaker {
    pub(super) fn new(token: Token, list: &Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self { token, listed: AtomicBool::new(false), list: Arc::clone(list) })
    }

    /// To be called when the token was taken from the list and before the socket is looked at.
    pub(super) fn unlisted(&self) {
        self.listed.store(false, Ordering::Release);
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for SocketWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut tokens = self.list.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.push(self.token);
        if tokens.len() == 1 {
            self.list.signal.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_listed_once_until_it_is_looked_at() {
        let list = Arc::new(ReadyList::new(Arc::default()));
        let [a, b] = [1, 2].map(|index| SocketWaker::new(Token::Session(index), &list));
        a.waker().wake();
        b.waker().wake();
        a.waker().wake();
        let mut taken = Vec::new();
        list.take(&mut taken);
        assert_eq!(taken, [Token::Session(1), Token::Session(2)]);
        a.unlisted();
        a.waker().wake();
        taken.remove(0);
        list.put_back(&mut taken);
        assert!(taken.is_empty());
        list.take(&mut taken);
        assert_eq!(taken, [Token::Session(2), Token::Session(1)]);
        assert!(list.is_empty());
    }
}
