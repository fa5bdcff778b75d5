//! What a session sees: data, answers, bad input, and every way to close.

mod stage;

use market::Tick;
use serde_json::{Value, json};
use stage::{Client, Raw, Server, config, frame, instrument, quote, trade};
use tungstenite::Message;

fn subscribe(client: &mut Client, channels: &str, symbols: &str) -> Value {
    client.send(&format!(r#"{{"op":"subscribe","channels":{channels},"symbols":{symbols},"id":1}}"#));
    client.expect("subscribed")
}

/// Reads data until there are `count` elements.
fn elements(client: &mut Client, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(client.data());
    }
    assert_eq!(all.len(), count);
    all
}

#[test]
fn a_subscription_gives_the_state_and_then_what_happens() {
    let server = Server::start(config());
    server.play(vec![trade(0, 100), trade(0, 101), trade(1, 200)]);
    let mut client = server.json_client();
    let welcome = client.expect("welcome");
    assert_eq!(welcome["limits"]["message_bytes_max"], 65536);
    // No message announces that the ticks have been taken in, but the other side of the server shows it.
    while server.get("/api/v1/snapshot?symbols=BBB").json()["data"].as_array().unwrap().is_empty() {}
    let subscribed = subscribe(&mut client, r#"["trades"]"#, r#"["AAA"]"#);
    assert_eq!(subscribed["instruments"], json!([["AAA", 0, -2, 0]]));
    let snapshot = client.next();
    assert_eq!(snapshot["snapshot"], true, "{snapshot}");
    assert_eq!(snapshot["data"][0]["seq"], 2);
    assert_eq!(snapshot["data"][0]["price"], "1.01");
    server.play(vec![trade(1, 201), trade(0, 102), quote(0, 99), trade(0, 103)]);
    let live = elements(&mut client, 2);
    assert_eq!(live[0]["seq"], 3);
    assert_eq!(live[0]["price"], "1.02");
    assert_eq!(live[1]["seq"], 4);
}

#[test]
fn stars_cover_instruments_that_appear_later() {
    let server = Server::start(config());
    let mut client = server.json_client();
    client.expect("welcome");
    subscribe(&mut client, r#"["trades"]"#, r#"["*"]"#);
    server.step(stage::Step::Announce(instrument(2, "CCC")));
    server.play(vec![trade(2, 300)]);
    assert_eq!(client.expect("instruments")["instruments"][0]["symbol"], "CCC");
    assert_eq!(elements(&mut client, 1)[0]["symbol"], "CCC");
}

#[test]
fn frames_that_come_with_the_request_are_not_lost() {
    let server = Server::start(config());
    let command = br#"{"op":"ping","id":"early"}"#;
    // One whole frame, and the first half of another.
    let second = frame(1, br#"{"op":"ping","id":"late"}"#);
    let mut early = frame(1, command);
    early.extend(&second[..9]);
    let mut client = Raw::connect(server.address, &early);
    assert_eq!(client.next()["type"], "welcome");
    assert_eq!(client.next()["id"], "early");
    client.send(&second[9..]);
    assert_eq!(client.next()["id"], "late");
}

#[test]
fn frames_may_come_a_byte_at_a_time() {
    let server = Server::start(config());
    let mut client = Raw::connect(server.address, &[]);
    assert_eq!(client.next()["type"], "welcome");
    for byte in frame(1, br#"{"op":"subscriptions","id":7}"#) {
        client.send(&[byte]);
    }
    assert_eq!(client.next(), json!({"type": "subscriptions", "id": 7, "subscriptions": []}));
}

#[test]
fn many_commands_in_one_write_are_answered_in_order() {
    let server = Server::start(config());
    let mut client = Raw::connect(server.address, &[]);
    client.next();
    let commands: Vec<u8> =
        (0..40).flat_map(|id| frame(1, format!(r#"{{"op":"ping","id":{id}}}"#).as_bytes())).collect();
    client.send(&commands);
    for id in 0..40 {
        assert_eq!(client.next()["id"], id);
    }
}

#[test]
fn bad_input_gets_a_specific_error_and_the_session_lives() {
    let mut settings = config();
    settings.limits.commands_per_s = 0;
    let server = Server::start(settings);
    let mut client = server.json_client();
    client.expect("welcome");
    let mut check = |command: Message, code: &str| {
        client.0.send(command.clone()).unwrap();
        let error = client.expect("error");
        assert_eq!(error["code"], code, "{command:?}: {error}");
        client.send(r#"{"op":"ping","id":"alive"}"#);
        assert_eq!(client.expect("pong")["id"], "alive");
        error
    };
    let text = |text: &str| Message::text(text);
    let named = check(text(r#"{"op":"subscribe","channels":["trades"],"symbols":["NOPE"],"id":5}"#), "unknown_symbol");
    assert_eq!(named["id"], 5);
    assert_eq!(named["symbols"], json!(["NOPE"]));
    let named = check(text(r#"{"op":"subscribe","channels":["tardes"],"symbols":["AAA"]}"#), "unknown_channel");
    assert!(named["message"].as_str().unwrap().contains("tardes"), "{named}");
    check(text(r#"{"op":"subscribe","channels":"trades","symbols":["AAA"]}"#), "bad_command");
    check(text(r#"{"op":"subscribe","channels":["trades"],"symbols":[7]}"#), "bad_command");
    check(text(r#"{"op":"subscribe","channels":[],"symbols":["AAA"]}"#), "bad_command");
    check(text(r#"{"op":"subscribe","channels":["trades"],"symbols":[]}"#), "bad_command");
    check(text(r#"{"op":"subscribe"}"#), "bad_command");
    check(text(r#"{"op":"fly"}"#), "unknown_op");
    check(text("hello"), "bad_command");
    check(text(""), "bad_command");
    check(text("[1,2"), "bad_command");
    check(text(r#"{"op":"update","channels":["trades"],"symbols":["AAA"],"mode":"latest"}"#), "not_subscribed");
    check(Message::binary(vec![0xc1, 0xff, 0x00]), "bad_command");
    check(Message::binary(Vec::new()), "bad_command");
    check(Message::binary((0..=255).collect::<Vec<u8>>()), "bad_command");
    let metrics = loop {
        // Counters are written once a second.
        let metrics = server.get("/metrics").body;
        if metrics.contains("tickerplant_command_errors_total 15") {
            break metrics;
        }
    };
    assert!(metrics.contains("tickerplant_sessions_opened_total 1"), "{metrics}");
}

#[test]
fn more_pairs_than_allowed_are_refused_as_a_whole() {
    let mut settings = config();
    settings.limits.subscriptions_max = 1;
    let server = Server::start(settings);
    let mut client = server.json_client();
    client.expect("welcome");
    client.send(r#"{"op":"subscribe","channels":["trades"],"symbols":["AAA","BBB"],"id":1}"#);
    assert_eq!(client.expect("error")["code"], "too_many_subscriptions");
    client.send(r#"{"op":"subscriptions"}"#);
    assert_eq!(client.expect("subscriptions")["subscriptions"], json!([]));
}

#[test]
fn a_binary_command_is_message_pack_whatever_the_session_speaks() {
    let server = Server::start(config());
    let mut client = server.json_client();
    client.expect("welcome");
    let command = rmp_serde::to_vec(&json!({"op": "ping", "id": 9})).unwrap();
    client.0.send(Message::binary(command)).unwrap();
    assert_eq!(client.expect("pong")["id"], 9);
}

#[test]
fn pings_are_answered_with_their_payload() {
    let server = Server::start(config());
    let mut client = Raw::connect(server.address, &frame(9, b"are you there"));
    client.next();
    assert_eq!(client.frame(), (10, b"are you there".to_vec()));
}

#[test]
fn a_close_of_the_client_is_answered_and_the_connection_ends() {
    let server = Server::start(config());
    for (payload, want) in [(&b"\x03\xe8bye"[..], &b"\x03\xe8"[..]), (b"\x0f\xa0", b"\x0f\xa0"), (b"", b"")] {
        let mut client = Raw::connect(server.address, &[]);
        client.next();
        let mut bytes = frame(8, payload);
        // What comes behind a close is not looked at.
        bytes.extend(frame(1, b"garbage"));
        client.send(&bytes);
        assert_eq!(client.frame(), (8, want.to_vec()));
        assert!(client.at_end());
    }
}

#[test]
fn a_connection_that_just_ends_is_forgotten() {
    let server = Server::start(config());
    for _ in 0..5 {
        let mut client = Raw::connect(server.address, &[]);
        client.next();
    }
    loop {
        let metrics = server.get("/metrics").body;
        if metrics.contains("tickerplant_disconnects_total{reason=\"lost\"} 5") {
            break;
        }
    }
}

#[test]
fn broken_rules_close_with_the_right_code() {
    let server = Server::start(config());
    let check = |bytes: &[u8], want: u16| {
        let mut client = Raw::connect(server.address, &[]);
        client.next();
        client.send(bytes);
        assert_eq!(client.close_code(), want, "{bytes:?}");
        client.send(&frame(8, &want.to_be_bytes()));
        assert!(client.at_end());
    };
    check(&[0x81, 0x02, b'h', b'i'], 1002); // not masked
    check(&frame(3, b""), 1002); // no such opcode
    check(&frame(0x41, b"{}"), 1002); // RSV1 without an extension
    check(&frame(0, b"{}"), 1002); // continues nothing
    check(&[&[0x09][..], &frame(9, b"")[1..]].concat(), 1002); // a ping in fragments
    check(&frame(8, &[3]), 1002); // half a close code
    check(&frame(8, &999u16.to_be_bytes()), 1002); // a code that may not be sent
    check(&frame(1, &[0xff, 0xfe]), 1007); // not UTF-8
}

#[test]
fn a_message_that_is_too_big_is_named_and_closes() {
    let mut settings = config();
    settings.limits.message_bytes_max = 1000;
    let server = Server::start(settings);
    let mut client = Raw::connect(server.address, &[]);
    client.next();
    client.send(&frame(1, &vec![b' '; 1001]));
    let error = client.next();
    assert_eq!(error["code"], "message_too_big");
    assert!(error["message"].as_str().unwrap().contains("1000"), "{error}");
    assert_eq!(client.close_code(), 1009);
}

#[test]
fn a_close_reaches_a_client_that_goes_on_sending() {
    let mut settings = config();
    settings.limits.message_bytes_max = 1000;
    let server = Server::start(settings);
    let mut client = Raw::connect(server.address, &[]);
    client.next();
    // Had the server closed with these bytes unread, the reset would have overtaken the close frame.
    client.send(&frame(2, &vec![0; 300_000]));
    assert_eq!(client.close_code(), 1009);
    client.send(&frame(8, &1009u16.to_be_bytes()));
    assert!(client.at_end());
}

/// Everything of an unpaced feed, to clients that read and to one that reads late, without a hole.
#[test]
fn a_rushing_feed_that_waits_for_its_first_subscriber_is_delivered_whole() {
    const TICKS: usize = 20_000;
    let mut settings = config();
    settings.start_on_first_subscriber = true;
    settings.limits.outbox_bytes_max = 64 << 20;
    let ticks: Vec<Tick> = (0..TICKS as i64).map(|n| trade(0, 1000 + n)).collect();
    let server = Server::rushing(settings, ticks);
    let mut client = server.json_client();
    client.expect("welcome");
    subscribe(&mut client, r#"["trades"]"#, r#"["AAA"]"#);
    let all = elements(&mut client, TICKS);
    for (index, element) in all.iter().enumerate() {
        assert_eq!(element["seq"], index + 1);
        assert_eq!(element["trade_id"], 1000 + index);
    }
    assert_eq!(client.expect("notice")["code"], "feed_ended");
    let mut late = server.json_client();
    late.expect("welcome");
    assert_eq!(late.expect("notice")["code"], "feed_ended");
    subscribe(&mut late, r#"["trades"]"#, r#"["AAA"]"#);
    assert_eq!(elements(&mut late, 1)[0]["seq"], TICKS);
}

#[test]
fn a_client_that_reads_late_gets_what_its_outbox_held() {
    const TICKS: usize = 50_000;
    let mut settings = config();
    settings.limits.outbox_bytes_max = 64 << 20;
    let server = Server::start(settings);
    let mut client = server.json_client();
    client.expect("welcome");
    subscribe(&mut client, r#"["trades"]"#, r#"["AAA"]"#);
    let mut other = server.json_client();
    other.expect("welcome");
    subscribe(&mut other, r#"["trades"]"#, r#"["AAA"]"#);
    // About 8 MB, more than the kernel keeps for a connection.
    for chunk in 0..50 {
        server.play((0..TICKS as i64 / 50).map(|n| trade(0, chunk * 1000 + n)).collect());
    }
    // By then everything was offered to the client that has not read yet.
    assert_eq!(elements(&mut other, TICKS).last().unwrap()["seq"], TICKS);
    let all = elements(&mut client, TICKS);
    assert!(all.iter().enumerate().all(|(index, element)| element["seq"] == index + 1));
}
