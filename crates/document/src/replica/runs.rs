//! Where the elements of a text are, while one replica alone has edited it.
//!
//! yrs finds a position by walking the text from its start, which makes replaying a long history quadratic (13,000 edits a
//! second in a paper of 100,000 characters). Who made all elements knows their clocks, and can say by itself what an edit
//! stands beside: the update is written here, and yrs only applies it.

use crate::state_vector::write_number;

/// Runs of one chunk; a chunk that grows beyond it is halved. Chunks are searched one by one, and so are their runs.
const MAX_CHUNK_RUNS: usize = 256;

/// Elements beside each other with consecutive clocks.
#[derive(Debug, Clone, Copy)]
struct Run {
    clock: u64,
    len: u32,
    deleted: bool,
}

#[derive(Debug, Default)]
struct Chunk {
    runs: Vec<Run>,
    /// Units that are not deleted.
    len: u32,
}

/// All elements of a text in order, deleted ones too.
#[derive(Debug, Default)]
pub struct Runs {
    chunks: Vec<Chunk>,
    len: u32,
}

/// The elements that an insertion stands between, by clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbours {
    pub left: Option<u64>,
    pub right: Option<u64>,
}

impl Runs {
    /// Units of the text.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Inserts elements from `clock` on at a position within the text.
    pub fn insert(&mut self, at: u32, clock: u64, len: u32) -> Neighbours {
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::default());
        }
        let (chunk, run) = if at == 0 { (0, 0) } else { self.split_after(at) };
        let before = run.checked_sub(1).map(|run| self.chunks[chunk].runs[run]);
        let right = self.first_from(chunk, run);
        let runs = &mut self.chunks[chunk].runs;
        match run.checked_sub(1).map(|before| &mut runs[before]) {
            Some(before) if !before.deleted && before.clock + u64::from(before.len) == clock => before.len += len,
            _ => runs.insert(run, Run { clock, len, deleted: false }),
        }
        self.chunks[chunk].len += len;
        self.len += len;
        self.halve(chunk);
        Neighbours { left: before.map(|run| run.clock + u64::from(run.len) - 1), right }
    }

    /// Deletes units within the text, telling the clocks by range.
    pub fn delete(&mut self, at: u32, len: u32, mut tell: impl FnMut(u64, u64)) {
        let (mut chunk, mut run) = if at == 0 { (0, 0) } else { self.split_after(at) };
        let mut left = len;
        while left > 0 {
            if run == self.chunks[chunk].runs.len() {
                (chunk, run) = (chunk + 1, 0);
                continue;
            }
            if self.chunks[chunk].runs[run].deleted {
                run += 1;
                continue;
            }
            if self.chunks[chunk].runs[run].len > left {
                self.split(chunk, run, left);
            }
            let Chunk { runs, len } = &mut self.chunks[chunk];
            let deleted = &mut runs[run];
            deleted.deleted = true;
            tell(deleted.clock, deleted.clock + u64::from(deleted.len));
            left -= deleted.len;
            *len -= deleted.len;
            run += 1;
        }
        self.len -= len;
        self.halve(chunk);
    }

    /// The place behind the first `at` units, at least one: its left run ends there.
    fn split_after(&mut self, at: u32) -> (usize, usize) {
        let mut left = at;
        let mut chunk = 0;
        while self.chunks[chunk].len < left {
            left -= self.chunks[chunk].len;
            chunk += 1;
        }
        for run in 0.. {
            let Run { len, deleted, .. } = self.chunks[chunk].runs[run];
            match deleted {
                true => {}
                false if len < left => left -= len,
                false => {
                    if len > left {
                        self.split(chunk, run, left);
                    }
                    return (chunk, run + 1);
                }
            }
        }
        unreachable!("a chunk holds the units it counts");
    }

    fn split(&mut self, chunk: usize, run: usize, len: u32) {
        let runs = &mut self.chunks[chunk].runs;
        let rest = Run { clock: runs[run].clock + u64::from(len), len: runs[run].len - len, ..runs[run] };
        runs[run].len = len;
        runs.insert(run + 1, rest);
    }

    fn first_from(&self, chunk: usize, run: usize) -> Option<u64> {
        let here = self.chunks[chunk].runs.get(run);
        let later = || self.chunks[chunk + 1..].iter().find_map(|chunk| chunk.runs.first());
        here.or_else(later).map(|run| run.clock)
    }

    fn halve(&mut self, chunk: usize) {
        let runs = &mut self.chunks[chunk].runs;
        if runs.len() <= MAX_CHUNK_RUNS {
            return;
        }
        let runs = runs.split_off(runs.len() / 2);
        let len = runs.iter().filter(|run| !run.deleted).map(|run| run.len).sum();
        self.chunks[chunk].len -= len;
        self.chunks.insert(chunk + 1, Chunk { runs, len });
    }
}

/// Writes an update of one client whose elements are all in one root text.
pub struct Writer<'a> {
    client: u64,
    root: &'a str,
    first: u64,
    blocks: Vec<u8>,
    count: u64,
    deleted: Vec<(u64, u64)>,
}

impl<'a> Writer<'a> {
    /// `first` is the clock of the first element inserted.
    pub fn new(client: u64, root: &'a str, first: u64) -> Self {
        Self { client, root, first, blocks: Vec::new(), count: 0, deleted: Vec::new() }
    }

    pub fn insert(&mut self, between: Neighbours, text: &str) {
        const STRING: u8 = 4;
        let flag = |there: bool, flag: u8| if there { flag } else { 0 };
        let Neighbours { left, right } = between;
        self.blocks.push(STRING | flag(left.is_some(), 0x80) | flag(right.is_some(), 0x40));
        for clock in left.into_iter().chain(right) {
            write_number(&mut self.blocks, self.client);
            write_number(&mut self.blocks, clock);
        }
        if left.is_none() && right.is_none() {
            self.blocks.push(1);
            self.text(self.root);
        }
        self.text(text);
        self.count += 1;
    }

    pub fn delete(&mut self, from: u64, to: u64) {
        self.deleted.push((from, to));
    }

    pub fn finish(mut self) -> Vec<u8> {
        let mut update = Vec::with_capacity(self.blocks.len() + 24);
        if self.count == 0 {
            update.push(0);
        } else {
            update.push(1);
            write_number(&mut update, self.count);
            write_number(&mut update, self.client);
            write_number(&mut update, self.first);
            update.append(&mut self.blocks);
        }
        self.deleted.sort_unstable();
        self.deleted.dedup_by(|next, range| {
            let adjacent = range.1 == next.0;
            if adjacent {
                range.1 = next.1;
            }
            adjacent
        });
        if self.deleted.is_empty() {
            update.push(0);
            return update;
        }
        update.push(1);
        write_number(&mut update, self.client);
        write_number(&mut update, self.deleted.len() as u64);
        for (from, to) in self.deleted {
            write_number(&mut update, from);
            write_number(&mut update, to - from);
        }
        update
    }

    fn text(&mut self, text: &str) {
        write_number(&mut self.blocks, text.len() as u64);
        self.blocks.extend(text.as_bytes());
    }
}
