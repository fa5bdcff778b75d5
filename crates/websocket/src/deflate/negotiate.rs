//! Which parameters of permessage-deflate a server agrees to (RFC 7692 section 7.1).
//!
//! **Invariant:** the answer names only what the client offered or what a server may impose unasked; an offer with an
//! unknown, repeated or ill-valued parameter is declined as a whole, and the next one is looked at.
//!
//! What is *not* here: the header's grammar (`extension`).

use std::fmt::Write as _;

use crate::extension::{self, Extension};

const NAME: &str = "permessage-deflate";
const WINDOW_BITS_MAX: u8 = 15;

/// What was agreed for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// The server's messages do not refer to earlier ones.
    pub server_no_context_takeover: bool,
    /// The client's messages do not refer to earlier ones.
    pub client_no_context_takeover: bool,
    /// The server's messages refer back at most two to this power of bytes: 9 to 15.
    pub server_max_window_bits: u8,
    /// The client's messages refer back at most two to this power of bytes: 8 to 15.
    pub client_max_window_bits: u8,
}

/// Whether messages of one side may refer to earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Takeover {
    /// They may, unless the offer says that they should not.
    AsOffered,
    /// They may not, which a server may say for either side without being asked (sections 7.1.1.1 and 7.1.1.2).
    Never,
}

/// What a server wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For the server's own messages.
    pub server: Takeover,
    /// For the client's: `Never` saves about 46 kB per connection, since one inflater then serves all.
    pub client: Takeover,
    /// The largest window for the server's messages, 9 to 15.
    pub server_window_bits_max: u8,
    /// The largest window for the client's messages, 8 to 15; it can only be asked of clients that offer it.
    pub client_window_bits_max: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            server: Takeover::AsOffered,
            client: Takeover::Never,
            server_window_bits_max: WINDOW_BITS_MAX,
            client_window_bits_max: WINDOW_BITS_MAX,
        }
    }
}

/// Settles on the first acceptable offer among the lines of `Sec-WebSocket-Extensions`, in the client's order; with the
/// value of the header that answers it.
///
/// `None` if nothing fits: the connection then goes on without compression, and without the header in the answer.
pub fn negotiate<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>, policy: Policy) -> Option<(Params, String)> {
    lines.into_iter().find_map(|line| {
        extension::parse(line.as_ref()).filter_map(|extension| Offer::parse(&extension)).find_map(|o| o.answer(policy))
    })
}

/// A well-formed offer.
#[derive(Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
}

impl Offer {
    fn parse(extension: &Extension) -> Option<Self> {
        if !extension.name.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut offer = Self::default();
        for (name, value) in &extension.params {
            let value = value.as_deref();
            match name.as_str() {
                "server_no_context_takeover" => set_flag(&mut offer.server_no_context_takeover, value)?,
                "client_no_context_takeover" => set_flag(&mut offer.client_no_context_takeover, value)?,
                "server_max_window_bits" => set_bits(&mut offer.server_max_window_bits, window_bits(value?)?)?,
                "client_max_window_bits" => {
                    let bits = value.map_or(Some(WINDOW_BITS_MAX), window_bits)?;
                    set_bits(&mut offer.client_max_window_bits, bits)?;
                }
                _ => return None,
            }
        }
        Some(offer)
    }

    fn answer(&self, policy: Policy) -> Option<(Params, String)> {
        // zlib deflates a raw stream with no window smaller than 512 bytes, so a promise of 256 could not be kept.
        let server_window = self.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX).min(policy.server_window_bits_max);
        if server_window < 9 {
            return None;
        }
        let client_window = self.client_max_window_bits.map(|bits| bits.min(policy.client_window_bits_max));
        let params = Params {
            server_no_context_takeover: self.server_no_context_takeover || policy.server == Takeover::Never,
            client_no_context_takeover: self.client_no_context_takeover || policy.client == Takeover::Never,
            server_max_window_bits: server_window,
            client_max_window_bits: client_window.unwrap_or(WINDOW_BITS_MAX),
        };
        let mut answer = NAME.to_owned();
        if params.server_no_context_takeover {
            answer.push_str("; server_no_context_takeover");
        }
        if params.client_no_context_takeover {
            answer.push_str("; client_no_context_takeover");
        }
        // What was asked for is confirmed even if it is the greatest; unasked, only a limit is worth its bytes.
        if self.server_max_window_bits.is_some() || server_window < WINDOW_BITS_MAX {
            let _ = write!(answer, "; server_max_window_bits={server_window}");
        }
        if let Some(bits) = client_window.filter(|&bits| bits < WINDOW_BITS_MAX) {
            let _ = write!(answer, "; client_max_window_bits={bits}");
        }
        Some((params, answer))
    }
}

fn set_flag(flag: &mut bool, value: Option<&str>) -> Option<()> {
    if *flag || value.is_some() {
        return None;
    }
    *flag = true;
    Some(())
}

fn set_bits(slot: &mut Option<u8>, bits: u8) -> Option<()> {
    match slot.replace(bits) {
        Some(_) => None,
        None => Some(()),
    }
}

/// 8 to 15 in decimal, without leading zeros (sections 7.1.2.1 and 7.1.2.2).
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Policy = Policy {
        server: Takeover::AsOffered,
        client: Takeover::AsOffered,
        server_window_bits_max: 15,
        client_window_bits_max: 15,
    };

    fn check(policy: Policy, lines: &[&str], expected: Option<&str>) {
        let answer = negotiate(lines, policy).map(|(_, answer)| answer);
        assert_eq!(answer.as_deref(), expected, "{lines:?}");
    }

    #[test]
    fn every_parameter_is_answered_as_it_was_offered() {
        check(KEEP, &["permessage-deflate"], Some("permessage-deflate"));
        check(KEEP, &["Permessage-Deflate"], Some("permessage-deflate"));
        for params in [
            "server_no_context_takeover",
            "client_no_context_takeover",
            "server_max_window_bits=9",
            "server_max_window_bits=15",
            "client_max_window_bits=8",
        ] {
            let offer = format!("permessage-deflate; {params}");
            check(KEEP, &[&offer], Some(&offer));
        }
        check(
            KEEP,
            &["permessage-deflate;server_max_window_bits=\"12\""],
            Some("permessage-deflate; server_max_window_bits=12"),
        );
        check(KEEP, &["permessage-deflate; client_max_window_bits"], Some("permessage-deflate"));
        check(KEEP, &["permessage-deflate; client_max_window_bits=15"], Some("permessage-deflate"));
        check(
            KEEP,
            &[
                "permessage-deflate; client_max_window_bits=10; server_max_window_bits=11; client_no_context_takeover; server_no_context_takeover",
            ],
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11; client_max_window_bits=10",
            ),
        );
    }

    #[test]
    fn the_first_acceptable_offer_is_taken() {
        check(KEEP, &["x-webkit-deflate-frame, permessage-deflate"], Some("permessage-deflate"));
        check(
            KEEP,
            &["permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10"],
            Some("permessage-deflate; server_max_window_bits=10"),
        );
        check(KEEP, &["permessage-deflate; nonsense", "permessage-deflate"], Some("permessage-deflate"));
        check(
            KEEP,
            &["permessage-deflate; server_no_context_takeover, permessage-deflate"],
            Some("permessage-deflate; server_no_context_takeover"),
        );
    }

    #[test]
    fn offers_with_bad_parameters_are_declined() {
        for params in [
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits",
            "server_max_window_bits=",
            "server_max_window_bits=\"\"",
            "server_max_window_bits=8",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=+9",
            "server_max_window_bits=ten",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=08",
            "client_max_window_bits; client_max_window_bits=10",
            "unknown",
            "SERVER_NO_CONTEXT_TAKEOVER; x",
            "",
        ] {
            check(KEEP, &[&format!("permessage-deflate; {params}")], None);
        }
        check(KEEP, &[], None);
        check(KEEP, &["permessage-bzip2"], None);
    }

    #[test]
    fn a_server_imposes_only_what_it_may() {
        let frugal = Policy {
            server: Takeover::Never,
            client: Takeover::Never,
            server_window_bits_max: 12,
            client_window_bits_max: 11,
        };
        check(
            frugal,
            &["permessage-deflate"],
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
            ),
        );
        check(
            frugal,
            &["permessage-deflate; client_max_window_bits"],
            Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12; client_max_window_bits=11",
            ),
        );
        let (params, _) = negotiate(["permessage-deflate"], frugal).expect("the offer is plain");
        assert_eq!((params.server_max_window_bits, params.client_max_window_bits), (12, 15));
    }
}
