//! Merges several recordings by receive time.
//!
//! **Invariant:** the order within a file is kept, whatever its receive times say, and the merged receive times never go
//! back. A receive time that goes back within its file counts as the latest before it.
//!
//! Ticks of the same receive time come in the order in which the files were named.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use market::Timestamp;

use super::options::OnBadRecord;
use super::record::{BookKind, Extent, Name, RawTick, ReadRecords, RecordError, Step};

pub(super) struct Merge {
    files: Vec<MergedFile>,
    /// Files with a head, by its receive time and then by their order
    ready: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Files whose next tick has yet to be read
    unread: Vec<usize>,
    on_bad_record: OnBadRecord,
    bad_records: u64,
    /// Those that nobody has been told of
    skipped: Vec<(usize, RecordError)>,
}

struct MergedFile {
    reader: Box<dyn ReadRecords>,
    ticks: VecDeque<RawTick>,
    /// Why there are no more ticks after those
    error: Option<RecordError>,
    /// The latest receive time so far
    receive: Timestamp,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// A tick, or the error of a file, at that receive time; [`Merge::pop`] has it
    Ready(Timestamp),
    /// More records have to be read before it is known
    Unread,
    /// Nothing; all files are at their end
    End,
}

/// What was next.
#[derive(Debug)]
pub(super) enum Popped {
    /// A tick of the file with that index, with its receive time made monotonic
    Tick(usize, RawTick),
    /// The file with that index cannot go on
    Broken(usize, RecordError),
}

impl Merge {
    pub(super) fn new(readers: Vec<Box<dyn ReadRecords>>, on_bad_record: OnBadRecord) -> Self {
        let files: Vec<_> = readers
            .into_iter()
            .map(|reader| MergedFile { reader, ticks: VecDeque::new(), error: None, receive: Timestamp(0) })
            .collect();
        let unread = (0..files.len()).collect();
        Self {
            ready: BinaryHeap::with_capacity(files.len()),
            files,
            unread,
            on_bad_record,
            bad_records: 0,
            skipped: Vec::new(),
        }
    }

    /// Records skipped so far.
    pub(super) fn bad_records(&self) -> u64 {
        self.bad_records
    }

    /// Bad records that were left out since the last call, with the files that they are of. All ticks from before them have
    /// been taken. There are no more of them than records that [`Merge::head`] may read.
    pub(super) fn take_skipped(&mut self) -> Vec<(usize, RecordError)> {
        std::mem::take(&mut self.skipped)
    }

    /// Counts a record that turned out bad after it was read.
    pub(super) fn count_bad_record(&mut self) {
        self.bad_records += 1;
    }

    pub(super) fn names(&self, file: usize) -> &[Name] {
        self.files[file].reader.names()
    }

    pub(super) fn book_kind(&self, file: usize) -> Option<BookKind> {
        self.files[file].reader.book_kind()
    }

    /// Finds out what comes next, reading at most `records_left` records, which are subtracted from it.
    pub(super) fn head(&mut self, records_left: &mut usize) -> Head {
        while let Some(&index) = self.unread.last() {
            if *records_left == 0 {
                return Head::Unread;
            }
            *records_left -= 1;
            if self.read(index) == Read::Enough {
                self.unread.pop();
            }
        }
        self.ready.peek().map_or(Head::End, |Reverse((receive, _))| Head::Ready(*receive))
    }

    /// Reads one record of a file.
    fn read(&mut self, index: usize) -> Read {
        let file = &mut self.files[index];
        match file.reader.read(&mut file.ticks) {
            Ok(Step::Record) => {}
            Ok(Step::End) => return Read::Enough,
            Err(error) if error.extent == Extent::ThisRecord && self.on_bad_record == OnBadRecord::Skip => {
                self.bad_records += 1;
                self.skipped.push((index, error));
                return Read::More;
            }
            Err(error) => file.error = Some(error),
        }
        if let Some(tick) = file.ticks.front() {
            file.receive = file.receive.max(tick.receive);
        } else if file.error.is_none() {
            return Read::More;
        }
        self.ready.push(Reverse((file.receive, index)));
        Read::Enough
    }

    /// Takes what [`Merge::head`] found ready; none when it found nothing ready.
    pub(super) fn pop(&mut self) -> Option<Popped> {
        let Reverse((receive, index)) = self.ready.pop()?;
        let file = &mut self.files[index];
        let Some(mut tick) = file.ticks.pop_front() else {
            return file.error.take().map(|error| Popped::Broken(index, error));
        };
        tick.receive = receive;
        if file.ticks.is_empty() {
            self.unread.push(index);
        } else {
            // The second tick of a record was received with the first.
            self.ready.push(Reverse((receive, index)));
        }
        Some(Popped::Tick(index, tick))
    }
}

#[derive(PartialEq, Eq)]
enum Read {
    /// The file has a head now, or is at its end
    Enough,
    /// It has none yet
    More,
}

#[cfg(test)]
mod tests {
    use super::super::decimal::Decimal;
    use super::super::record::{Position, RawEvent};
    use super::*;
    use market::Side;
    use proptest::prelude::*;

    /// Plays records from memory: each is a receive time and how many ticks it gives, or an error.
    struct Scripted {
        file: u64,
        records: std::vec::IntoIter<Result<(u64, usize), Extent>>,
        number: u64,
    }

    impl ReadRecords for Scripted {
        fn read(&mut self, out: &mut VecDeque<RawTick>) -> Result<Step, RecordError> {
            self.number += 1;
            let position = Position::Record(self.number);
            match self.records.next() {
                None => Ok(Step::End),
                Some(Err(extent)) => Err(RecordError { position, reason: "bad".into(), extent }),
                Some(Ok((receive, count))) => {
                    let price = Decimal::from_integer(1);
                    let event = RawEvent::Trade { price, size: price, side: Side::Buy, trade_id: self.number };
                    let (receive, time) = (Timestamp(receive), Timestamp(self.file));
                    out.extend((0..count).map(|_| RawTick { receive, time, name: 0, event, position }));
                    Ok(Step::Record)
                }
            }
        }

        fn names(&self) -> &[Name] {
            &[]
        }
    }

    fn merge(files: Vec<Vec<Result<(u64, usize), Extent>>>, on_bad_record: OnBadRecord) -> Merge {
        let readers = files.into_iter().zip(0..).map(|(records, file)| -> Box<dyn ReadRecords> {
            Box::new(Scripted { file, records: records.into_iter(), number: 0 })
        });
        Merge::new(readers.collect(), on_bad_record)
    }

    /// Receive time, file and record of a tick.
    type Came = (u64, usize, Position);

    /// All that comes, until the end or the first broken file.
    fn drain(merge: &mut Merge, records_each: usize) -> (Vec<Came>, Option<(usize, Position)>) {
        let mut out = Vec::new();
        loop {
            match merge.head(&mut records_each.clone()) {
                Head::Unread => {}
                Head::End => return (out, None),
                Head::Ready(receive) => match merge.pop() {
                    Some(Popped::Tick(file, tick)) => {
                        assert_eq!(tick.receive, receive);
                        out.push((receive.nanos(), file, tick.position));
                    }
                    Some(Popped::Broken(file, error)) => return (out, Some((file, error.position))),
                    None => panic!("nothing where something was ready"),
                },
            }
        }
    }

    #[test]
    fn an_error_comes_after_what_was_before_it() {
        let files = || {
            vec![
                vec![Ok((1, 1)), Ok((5, 2)), Err(Extent::ThisRecord), Ok((6, 1))],
                vec![Ok((2, 1)), Ok((3, 0)), Ok((4, 1)), Ok((7, 1))],
            ]
        };
        let (ticks, broken) = drain(&mut merge(files(), OnBadRecord::Stop), 1);
        assert_eq!(ticks.iter().map(|tick| tick.0).collect::<Vec<_>>(), [1, 2, 4, 5, 5]);
        assert_eq!(broken, Some((0, Position::Record(3))));

        let mut skipping = merge(files(), OnBadRecord::Skip);
        let (ticks, broken) = drain(&mut skipping, 1);
        assert_eq!(ticks.iter().map(|tick| tick.0).collect::<Vec<_>>(), [1, 2, 4, 5, 5, 6, 7]);
        assert_eq!((broken, skipping.bad_records()), (None, 1));
    }

    #[test]
    fn a_file_that_breaks_off_is_an_error_even_when_skipping() {
        let mut merge = merge(vec![vec![Ok((1, 1)), Err(Extent::RestOfFile)]], OnBadRecord::Skip);
        assert_eq!(drain(&mut merge, 1).1, Some((0, Position::Record(2))));
    }

    proptest! {
        #[test]
        fn merging_is_a_stable_sort_by_the_latest_receive_time(
            files in prop::collection::vec(prop::collection::vec((0u64..20, 0usize..3), 0..20), 0..5),
            records_each in 1usize..5,
        ) {
            let mut want = Vec::new();
            for (file, records) in files.iter().enumerate() {
                let mut latest = 0;
                for ((receive, count), number) in records.iter().zip(1..) {
                    if *count > 0 {
                        latest = latest.max(*receive);
                    }
                    want.extend((0..*count).map(|_| (latest, file, Position::Record(number))));
                }
            }
            want.sort_by_key(|tick| tick.0);
            let files = files.into_iter().map(|records| records.into_iter().map(Ok).collect()).collect();
            let got = drain(&mut merge(files, OnBadRecord::Stop), records_each);
            prop_assert_eq!(got, (want, None));
        }
    }
}
