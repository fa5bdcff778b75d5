//! The native protocol `ticker.v1` as bytes: commands in, elements and control messages out, in both of its dialects.
//!
//! **Invariant:** everything here is a pure function of its arguments. Nothing reads a clock, opens a socket or keeps
//! state, and no bytes of a peer can make it panic, recurse without bound or allocate more than in proportion to their
//! number.
//!
//! What is *not* here: WebSocket frames (`websocket`), who gets which element and when (`hub`), and the meaning of
//! symbols, which are passed on as the client wrote them.

mod ask;
mod command;
mod decimal;
pub mod decode;
mod dialect;
mod element;
mod json;
mod limits;
mod message;
mod pack;
mod unpack;
mod value;

pub use ask::encode_command;
pub use command::{
    Command, CommandError, CommandId, Envelope, ErrorCode, INTERVAL_MS_DEFAULT, Mode, Since, SlowPolicy, Subscribe,
    Symbols, parse_command,
};
pub use dialect::{Dialect, Encoding};
pub use element::{FrameKind, Gap, GapReason, begin_data, encode_element, encode_gap, end_data};
pub use limits::Limits;
pub use message::{NoticeCode, Recovered, ServerMessage, SubscriptionInfo, encode_message};
