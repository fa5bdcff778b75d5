//! Any bytes as a command: no panic, errors that can be sent, and the same meaning in both encodings.
//!
//! The first byte chooses the encoding, the rest is the message's payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{Command, CommandError, Dialect, Encoding, Envelope, ServerMessage, encode_message, parse_command};

fuzz_target!(|data: &[u8]| {
    let [setup, payload @ ..] = data else { return };
    let encoding = if setup & 1 == 0 { Encoding::Json } else { Encoding::MessagePack };
    match parse_command(encoding, payload) {
        Err(error) => check_answer(&error, payload.len()),
        Ok(envelope) => {
            if encoding == Encoding::Json {
                check_translation(envelope, payload);
            }
        }
    }
});

/// An error says something, not much more than it was sent, and can be written.
fn check_answer(error: &CommandError, payload_len: usize) {
    assert!(!error.message.is_empty());
    assert!(error.message.len() <= 1024, "{} bytes", error.message.len());
    for dialect in Dialect::ALL {
        let mut answer = Vec::new();
        encode_message(dialect, &ServerMessage::Error(error), &mut answer);
        // Escapes can make six bytes of one.
        assert!(answer.len() <= 8 * 1024 + 8 * payload_len, "{} bytes in answer to {payload_len}", answer.len());
    }
}

/// What is a command in JSON is the same command in MessagePack.
fn check_translation(envelope: Envelope, payload: &[u8]) {
    // Other parsers have other opinions about what is not quite JSON; those are not compared.
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(payload) else { return };
    let packed = rmp_serde::to_vec(&value).expect("every JSON value has a form in MessagePack");
    let translated = parse_command(Encoding::MessagePack, &packed).expect("a command is one in either encoding");
    // A JSON value keeps one of two equal keys, so what stands twice in `seqs` is not compared.
    if positions(&envelope) == positions(&translated) {
        assert_eq!(in_order(envelope), in_order(translated));
    }
}

fn positions(envelope: &Envelope) -> usize {
    match &envelope.command {
        Command::Subscribe(subscribe) | Command::Update(subscribe) => {
            subscribe.since.as_ref().map_or(0, |since| since.seqs.len())
        }
        _ => 0,
    }
}

/// The order of a map's keys means nothing.
fn in_order(mut envelope: Envelope) -> Envelope {
    if let Command::Subscribe(subscribe) | Command::Update(subscribe) = &mut envelope.command
        && let Some(since) = &mut subscribe.since
    {
        since.seqs.sort_unstable_by(|a, b| (&a.0, a.1.index(), a.2).cmp(&(&b.0, b.1.index(), b.2)));
    }
    envelope
}
