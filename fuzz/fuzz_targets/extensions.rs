//! Any offers: no panic, and an answer only within what the parameters may be.
//!
//! The first byte chooses the server's policy, every line of the rest is a line of the header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use websocket::deflate::{Policy, Takeover, negotiate};

fuzz_target!(|data: &[u8]| {
    let [setup, rest @ ..] = data else { return };
    let takeover = |never: bool| if never { Takeover::Never } else { Takeover::AsOffered };
    let policy = Policy {
        server: takeover(setup & 1 != 0),
        client: takeover(setup & 2 != 0),
        server_window_bits_max: 9 + (setup >> 2 & 7).min(6),
        client_window_bits_max: 8 + (setup >> 5),
    };
    let Some((params, answer)) = negotiate(rest.split(|&byte| byte == b'\n'), policy) else { return };
    assert!((9..=policy.server_window_bits_max).contains(&params.server_max_window_bits));
    assert!((8..=15).contains(&params.client_max_window_bits));
    assert!(params.server_no_context_takeover || policy.server == Takeover::AsOffered);
    assert!(params.client_no_context_takeover || policy.client == Takeover::AsOffered);
    // Offered back, the answer is acceptable as it stands.
    let (again, same) = negotiate([&answer], policy).expect("an answer is a well-formed offer");
    assert_eq!((again.server_max_window_bits, same.len()), (params.server_max_window_bits, answer.len()));
});
