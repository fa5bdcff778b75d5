//! When a shard flushes: rounds, slices, rests and the interval.

#[path = "../benches/plant/mod.rs"]
mod plant;

use std::time::Duration;

use hub::{Now, SessionKey};
use plant::Plant;

/// Sessions with everything; every 250 of them are a lane.
fn everything(sessions: usize) -> Plant {
    let mut plant = Plant::new(10);
    let keys: Vec<SessionKey> = (0..sessions).map(|_| plant.open()).collect();
    for key in keys {
        plant.subscribe(key, &["*".to_owned()]);
    }
    plant.sink.frames = 0;
    plant
}

fn take_in(plant: &mut Plant, now: Now) {
    let batch = plant.batch(1);
    plant.shard.upstream(now, batch, &mut plant.sink);
}

fn at(start: Now, after: Duration) -> Now {
    Now { monotonic: start.monotonic + after, ..start }
}

/// Lets time pass until something is sent.
fn flush_when_due(plant: &mut Plant, mut now: Now) -> Now {
    let sent = plant.sink.frames;
    for _ in 0..10_000 {
        plant.shard.flush(now, &mut plant.sink);
        if plant.sink.frames > sent {
            return now;
        }
        now = at(now, Duration::from_micros(10));
    }
    panic!("nothing was sent within 100 ms");
}

#[test]
fn a_round_visits_every_lane_once_a_slice_at_a_time() {
    let mut plant = everything(1000);
    let now = plant.now();
    take_in(&mut plant, now);
    for (slice, frames) in [(1, 500), (2, 1000)] {
        plant.shard.flush(now, &mut plant.sink);
        assert_eq!(plant.sink.frames, frames, "after slice {slice}");
        assert_eq!(plant.shard.is_amid_round(), frames < 1000, "after slice {slice}");
    }
    plant.shard.flush(now, &mut plant.sink);
    assert_eq!(plant.sink.frames, 1000, "there is nothing left");
}

#[test]
fn what_comes_amid_a_round_goes_with_the_lanes_that_are_still_to_come() {
    let mut plant = everything(1000);
    let now = plant.now();
    take_in(&mut plant, now);
    plant.shard.flush(now, &mut plant.sink);
    take_in(&mut plant, now);
    plant.shard.flush(now, &mut plant.sink);
    assert_eq!(plant.sink.frames, 1000, "a frame for everyone in the first round");
    assert_eq!(plant.shard.stats().deliveries, 500 + 2 * 500);
    plant.shard.flush(now, &mut plant.sink);
    assert_eq!((plant.sink.frames, plant.shard.is_amid_round()), (1500, false), "one more for those who lack it");
    assert_eq!(plant.shard.stats().deliveries, 2000);
}

#[test]
fn after_a_pause_nobody_waits_and_under_load_rests_keep_to_the_duty() {
    let mut plant = everything(1);
    let mut now = plant.now();
    // The defaults: 70 % of the time, and 20 ms in advance. Each flush takes 1 ms of the clock's time.
    let (mut busy, mut rests) = (Duration::ZERO, 0);
    let start = now;
    for n in 0..1000 {
        take_in(&mut plant, now);
        let begun = now;
        now = flush_when_due(&mut plant, now);
        if now != begun {
            assert!(n > 40, "20 ms in advance last for 46 ms of flushes");
            rests += 1;
        }
        now = at(now, Duration::from_millis(1));
        busy += Duration::from_millis(1);
        plant.shard.flushed(now);
    }
    assert!(rests > 900, "all but the first flushes are followed by a rest: {rests}");
    let duty = busy.as_secs_f64() / now.monotonic.saturating_sub(start.monotonic).as_secs_f64();
    assert!((0.70..0.73).contains(&duty), "{duty}");
}

#[test]
fn no_rest_is_longer_than_the_longest() {
    let mut plant = everything(1);
    let now = plant.now();
    take_in(&mut plant, now);
    plant.shard.flush(now, &mut plant.sink);
    let over = at(now, Duration::from_secs(10));
    plant.shard.flushed(over);
    take_in(&mut plant, over);
    let flushed = flush_when_due(&mut plant, over);
    assert_eq!(flushed.monotonic, over.monotonic + Duration::from_millis(20));
}
