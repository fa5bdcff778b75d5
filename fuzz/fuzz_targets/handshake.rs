//! Any headers: no panic, and what passes has an answer and lists of tokens.
//!
//! Every line is a header, name and value parted by a colon.
#![no_main]

use libfuzzer_sys::fuzz_target;
use websocket::{
    deflate::{Policy, negotiate},
    handshake::{HttpVersion, check, select_subprotocol},
    origin::OriginList,
};

fuzz_target!(|data: &[u8]| {
    let headers = data.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
    });
    match check("GET", HttpVersion::Http11, headers) {
        Ok(request) => {
            assert_eq!(request.accept.len(), 28);
            assert!(request.subprotocols.iter().all(|name| !name.is_empty() && name.is_ascii()));
            let _ = select_subprotocol(&request.subprotocols, &["ticker.v1.msgpack", "ticker.v1.json"]);
            let _ = negotiate(&request.extensions, Policy::default());
            if let Some(origin) = request.origin {
                // An origin that can be listed allows itself.
                if let Ok(list) = OriginList::parse([origin]) {
                    assert!(list.allows(origin) || origin.contains('*'));
                }
            }
        }
        Err(refusal) => {
            assert!(matches!(refusal.status, 400 | 405 | 426));
            assert!(!refusal.message.is_empty());
        }
    }
});
