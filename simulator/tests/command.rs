//! The command prints what the library makes.

use std::process::{Command, Output};

fn tickersim(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tickersim")).args(arguments.split(' ')).output().unwrap()
}

fn printed(arguments: &str) -> String {
    let output = tickersim(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn ticks_are_lines_of_json_and_csv() {
    let json = printed("ticks --seed 7 --ticks-max 15");
    assert_eq!(json.lines().count(), 15);
    assert_eq!(
        json.lines().next(),
        Some(
            r#"{"type":"quote","symbol":"BTC-USD","time":1795185000003904046,"bid":"98200.80","bid_size":"0.22334","ask":"98202.42","ask_size":"0.19044"}"#
        )
    );
    let csv = printed("ticks --seed 7 --ticks-max 15 --format csv");
    assert_eq!(csv.lines().count(), 16);
    assert_eq!(printed("ticks --scenario uniform --rate 500 --seconds 2").lines().count(), 1000);
}

#[test]
fn instruments_are_lines_of_json_and_csv() {
    let json = printed("instruments --symbols 3");
    assert_eq!(
        json.lines().last(),
        Some(
            r#"{"instrument_id":2,"symbol":"ESZ6","class":"future","currency":"USD","price_exponent":-2,"size_exponent":0,"tick_size":"0.25","lot_size":"1","description":"E-mini S&P 500 December 2026"}"#
        )
    );
    assert_eq!(printed("instruments --format csv").lines().count(), 1001);
}

#[test]
fn what_cannot_be_simulated_is_refused_with_the_reason() {
    for (arguments, reason) in [
        ("ticks --rate 0.5", "0.5 ticks per second cannot be simulated; 1 to 2000000 can"),
        ("ticks --symbols 10001", "10001 symbols cannot be simulated; 1 to 10000 can"),
        ("ticks --seconds=-1", "--seconds"),
        ("ticks --begin yesterday", "--begin"),
        (
            "ticks --scenario wild",
            "\"wild\" is not a scenario; known are market, uniform, calm, busy, open, flash-crash",
        ),
    ] {
        let output = tickersim(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(reason), "{arguments}: {error}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}
