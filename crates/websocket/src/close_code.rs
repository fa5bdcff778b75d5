//! Close codes (RFC 6455 section 7.4 and the IANA registry), as the bare numbers that go over the wire.
//!
//! **Invariant:** [`may_be_sent`] is true of exactly the codes that a peer may put into a Close frame.
//!
//! What is *not* here: which reason of an application leads to which code.

/// The purpose of the connection is fulfilled.
pub const NORMAL: u16 = 1000;
/// The endpoint goes away: a server shuts down, a browser leaves the page.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// The peer sent a kind of message that is not accepted.
pub const UNSUPPORTED: u16 = 1003;
/// The message's data does not fit its type: text that is not UTF-8, or a broken deflate stream.
pub const INVALID_DATA: u16 = 1007;
/// The peer broke the application's policy.
pub const POLICY: u16 = 1008;
/// The message is larger than is accepted.
pub const TOO_BIG: u16 = 1009;
/// The server met a condition it did not expect.
pub const INTERNAL: u16 = 1011;
/// The server restarts; the client may come back.
pub const RESTART: u16 = 1012;
/// The server is over its capacity; try again later.
pub const TRY_AGAIN_LATER: u16 = 1013;

/// Whether a Close frame may carry `code`.
///
/// 1004 is reserved, 1005, 1006 and 1015 only ever describe the absence of a Close frame, 1016 to 2999 are reserved for
/// future versions; 3000 to 3999 are registered by libraries and 4000 to 4999 free for applications.
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::may_be_sent;

    #[test]
    fn exactly_the_codes_of_the_registry_may_be_sent() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!may_be_sent(code), "{code}");
        }
    }
}
