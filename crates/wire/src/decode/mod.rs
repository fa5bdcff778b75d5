//! What a server sends, read by a client: data messages in both encodings, and control messages.
//!
//! **Invariant:** no bytes make this panic, recurse without bound, or allocate more than in proportion to their number.
//! What the protocol may add later (kinds, fields, keys, codes) is skipped and never taken for something else.
//!
//! | part | what it is |
//! | --- | --- |
//! | `outline` | MessagePack elements just far enough to check their numbers, without a copy |
//! | `packed` | MessagePack elements in full |
//! | `text` | JSON elements in full |
//! | `control` | control messages of both encodings |
//!
//! What is *not* here: what a client makes of it. Numbers, gaps and books are the SDK's (`client`).

mod control;
mod cursor;
mod outline;
mod packed;
mod text;

use market::{Channel, Event, InstrumentId, Timestamp};

pub use control::{ControlMessage, InstrumentDetails, InstrumentTerms, MalformedControl, decode_control};
pub use cursor::{Cursor, DataError};
pub use outline::{
    ElementHead, Head, What, array_length, begin, elements, oldest_time, type_of_map, unsigned_at, unsigned_of_array,
};
pub use packed::{decode_elements, is_packed_data};
pub use text::{TextDataError, decode_text_data, is_text_data};

use crate::GapReason;

/// One element of a data message.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// Of which instrument
    pub instrument: InstrumentId,
    /// Its number in its stream
    pub seq: u64,
    /// The exchange's time
    pub time: Timestamp,
    /// What it says
    pub content: Content,
}

/// What an element says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A value
    Event(Event),
    /// A declared loss
    Gap {
        /// Of which channel
        channel: Channel,
        /// The first one missing
        from_seq: u64,
        /// The last one missing
        to_seq: u64,
        /// Why; none when the server gives a reason that is not known here
        reason: Option<GapReason>,
    },
    /// A value that is not known here, of a channel that may be
    Unknown(Option<Channel>),
}
