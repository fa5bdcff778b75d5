//! What happens on a socket: events, reads, and what a session makes of them.
//!
//! **Invariant:** a socket that is never empty does not keep the others waiting: after a few full buffers it is their turn.

use std::cmp::Reverse;
use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use mio::Events;

use super::socket::write_out;
use super::{Action, LEAVING, Phase, Reading, Report, Swarm, Timer};
use crate::clock;
use crate::session::{Context, News};

/// How many full reads one socket may have before the others are looked at.
const READS_MAX: usize = 8;

impl Swarm {
    pub(super) fn turn(&mut self, events: &mut Events, wait: Duration) -> io::Result<()> {
        let wait = if self.unread.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for number in std::mem::take(&mut self.unread) {
            self.serve(number);
        }
        for event in events.iter() {
            match event.token().0 {
                number if number < LEAVING => self.serve(number),
                token => self.see_off(token),
            }
        }
        Ok(())
    }

    /// Reads what a leaving connection is still sent, until the server has closed it.
    fn see_off(&mut self, token: usize) {
        let Some(stream) = self.leaving.get_mut(&token) else { return };
        loop {
            match stream.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.leaving.remove(&token);
    }

    /// Writes what waits and reads what is there.
    pub(super) fn serve(&mut self, number: usize) {
        let Some(member) = self.members.get_mut(number) else { return };
        let Some((stream, session)) = &mut member.live else { return };
        if member.reading == Reading::Stalled {
            return;
        }
        let broken = |error: io::Error| format!("connection: {error}");
        let mut news = News::default();
        let mut end = write_out(stream, &mut member.out).err().map(broken);
        let mut reads = 0;
        while end.is_none() {
            let length = match stream.read(&mut self.buffer) {
                Ok(0) => {
                    end = Some("the server hung up without a close".to_owned());
                    break;
                }
                Ok(length) => length,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => break,
                    io::ErrorKind::Interrupted => continue,
                    _ => {
                        end = Some(broken(error));
                        break;
                    }
                },
            };
            let mut context = Context {
                plan: &self.plan,
                entropy: &mut self.entropy,
                tally: &mut self.tally,
                sampler: &mut self.sampler,
                symbols: &mut self.symbols,
                inflated: &mut self.inflated,
                out: &mut member.out,
                now_ns: clock::wall_ns(),
            };
            if let Err(over) = session.feed(&self.buffer[..length], &mut context) {
                end = Some(over.to_string());
            }
            news.add(session.news());
            reads += 1;
            // A read that does not fill the buffer has emptied the socket; the next arrival raises a new event.
            if stream.is_emptied_by(length, self.buffer.len()) {
                break;
            }
            if reads == READS_MAX {
                self.unread.push(number);
                break;
            }
        }
        // An answer to what was just read (the subscription, a pong, the echo of a close) goes out at once.
        if !member.out.is_empty() {
            end = end.or(write_out(stream, &mut member.out).err().map(broken));
        }
        self.note(number, news);
        if let Some(why) = end {
            self.end(number, why);
        }
    }

    fn note(&mut self, number: usize, news: News) {
        let member = &mut self.members[number];
        if let Some(after_ms) = news.reconnect_after_ms {
            member.reconnect_after_ms = Some(after_ms);
        }
        if news.changed
            && let Some(planned_ns) = member.change_planned_ns.take()
        {
            self.tally.latency_change.record(self.clock.elapsed_ns(), planned_ns);
        }
        if !news.up {
            return;
        }
        member.phase = Phase::Up;
        let now_ns = self.clock.elapsed_ns();
        self.tally.latency_connect.record(now_ns, member.planned_ns);
        self.rising -= 1;
        self.standing.waiting -= 1;
        self.standing.up += 1;
        if !member.ever_up {
            member.ever_up = true;
            self.standing.came_up += 1;
        }
        if let Some(lifetime) = self.plan.lifetime {
            let at = self.clock.instant_at(member.planned_ns) + lifetime;
            let generation = member.generation;
            self.timers.push(Reverse(Timer { at, member: number, generation, action: Action::Leave }));
        }
        if self.standing.up as usize == self.members.len() {
            self.news.push(Report::AllUp { at_ns: now_ns });
        }
    }

    /// The connection is over; schedules the next one, if there is to be one.
    pub(super) fn end(&mut self, number: usize, why: String) {
        let member = &mut self.members[number];
        member.live = None;
        if member.phase == Phase::Up {
            self.standing.up -= 1;
            self.standing.waiting += 1;
        } else {
            self.rising -= 1;
            self.tally.connects_failed += 1;
        }
        *self.tally.ends.entry(why).or_default() += 1;
        let asked = member.reconnect_after_ms.take().map(Duration::from_millis);
        let Some(reconnect) = self.plan.reconnect else {
            member.phase = Phase::Over;
            self.standing.waiting -= 1;
            self.standing.over += 1;
            return;
        };
        member.phase = Phase::Waiting;
        let wait = asked.unwrap_or(reconnect.delay) + reconnect.jitter.mul_f64(self.entropy.unit());
        let (at, generation) = (Instant::now() + wait, member.generation);
        self.timers.push(Reverse(Timer { at, member: number, generation, action: Action::Connect }));
    }
}

impl News {
    fn add(&mut self, more: Self) {
        self.up |= more.up;
        self.changed |= more.changed;
        self.reconnect_after_ms = more.reconnect_after_ms.or(self.reconnect_after_ms);
    }
}
