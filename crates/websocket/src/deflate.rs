//! permessage-deflate (RFC 7692): what is agreed, and what comes in.
//!
//! **Invariant:** parameters are only ever agreed as the RFC allows for the offer they answer, and inflating never makes
//! more output than its caller allows.
//!
//! What is *not* here: compression on the way out. Since one compressor may serve many connections, its place is beside
//! these two modules, with the rules of who shares one.

mod inflate;
mod negotiate;

pub use inflate::Inflater;
pub(crate) use inflate::{Decoder, InflateError};
pub use negotiate::{Params, Policy, Takeover, negotiate};
