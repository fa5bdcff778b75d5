//! One compressor for many connections: whoever joins, leaves or misses something, everybody reads what was sent to them.

use flate2::{Decompress, FlushDecompress, Status};
use proptest::prelude::*;
use websocket::deflate::Compressor;

const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// A client's side: an inflater that keeps its window over everything deflated that it is sent.
struct Receiver {
    inflater: Decompress,
    step: Step,
}

/// Whether a receiver has been sent every message since the compressor was reset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    In,
    Out,
}

impl Receiver {
    fn new(window_bits: u8) -> Self {
        Self { inflater: Decompress::new_with_window_bits(false, window_bits), step: Step::Out }
    }

    fn inflate(&mut self, deflated: &[u8]) -> Vec<u8> {
        let input = [deflated, &TAIL].concat();
        let mut out = Vec::new();
        let mut rest = &input[..];
        while !rest.is_empty() {
            out.reserve(4096);
            let before = self.inflater.total_in();
            let status = self.inflater.decompress_vec(rest, &mut out, FlushDecompress::Sync).expect("a deflate stream");
            assert_ne!(status, Status::StreamEnd, "a message ends no stream");
            rest = &rest[(self.inflater.total_in() - before) as usize..];
        }
        out
    }
}

#[derive(Clone, Debug)]
enum Act {
    Join,
    Leave(prop::sample::Index),
    /// The receiver is sent nothing of the next message.
    Miss(prop::sample::Index),
    Reset,
    Send(Vec<u8>),
}

fn act() -> impl Strategy<Value = Act> {
    let market = "[A-D]{3}\",\"bid\":\"1[0-9]{2}\\.[0-9]{2}\",\"ask\":\"1[0-9]{2}\\.[0-9]{2}\"";
    let text = prop::collection::vec(market, 0..40).prop_map(|quotes| quotes.concat().into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..3000);
    prop_oneof![
        3 => Just(Act::Join),
        1 => any::<prop::sample::Index>().prop_map(Act::Leave),
        2 => any::<prop::sample::Index>().prop_map(Act::Miss),
        1 => Just(Act::Reset),
        8 => text.prop_map(Act::Send),
        1 => noise.prop_map(Act::Send),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Who is in step gets the shared bytes. Who is not gets, until the next reset, messages that stand for themselves, which
    /// end up in the same window; whether deflated or plain must make no difference to what follows.
    #[test]
    fn everybody_reads_what_was_sent(acts in prop::collection::vec(act(), 1..120), bits in 9_u8..=15, level in 1_u32..=6) {
        let mut shared = Compressor::new(level, bits);
        let mut alone = Compressor::new(level, bits);
        let mut receivers: Vec<Receiver> = Vec::new();
        let mut missing: Option<usize> = None;
        for (number, act) in acts.into_iter().enumerate() {
            match act {
                Act::Join => receivers.push(Receiver::new(bits)),
                Act::Leave(index) => {
                    if !receivers.is_empty() {
                        receivers.swap_remove(index.index(receivers.len()));
                        missing = None;
                    }
                }
                Act::Miss(index) => missing = (!receivers.is_empty()).then(|| index.index(receivers.len())),
                Act::Reset => {
                    shared.reset();
                    for receiver in &mut receivers {
                        receiver.step = Step::In;
                    }
                }
                Act::Send(message) => {
                    let mut for_those_in_step = Vec::new();
                    shared.compress(&message, &mut for_those_in_step);
                    let mut for_itself = Vec::new();
                    alone.reset();
                    alone.compress(&message, &mut for_itself);
                    for (index, receiver) in receivers.iter_mut().enumerate() {
                        if missing == Some(index) {
                            receiver.step = Step::Out;
                        } else if receiver.step == Step::In {
                            prop_assert_eq!(&receiver.inflate(&for_those_in_step), &message);
                        } else if (index + number) % 2 == 0 {
                            prop_assert_eq!(&receiver.inflate(&for_itself), &message);
                        }
                    }
                    missing = None;
                }
            }
        }
    }
}
