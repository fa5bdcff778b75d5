//! permessage-deflate (RFC 7692): what is agreed, what comes in, what goes out.
//!
//! **Invariant:** parameters are only ever agreed as the RFC allows for the offer they answer, and inflating never makes
//! more output than its caller allows.
//!
//! What is *not* here: who shares a compressor on the way out, which the caller decides by what each connection was sent.

mod compress;
mod inflate;
mod negotiate;

pub use compress::Compressor;
pub use inflate::Inflater;
pub(crate) use inflate::{Decoder, InflateError};
pub use negotiate::{Params, Policy, Takeover, negotiate};
