//! Many rows at a time: every split of a tree is compared for a block of rows, sixteen rows an instruction.
//!
//! A walk from split to split waits for one load after the other and does nothing for a second row. Here the splits of a
//! tree are taken in order, each for all rows of the block: compare, and move on those rows that stand at this split and
//! are on the right of it. That does more comparisons than a walk, but a comparison costs a tenth of a step, because
//!
//! - values are ranks: how many of the thresholds of its column a value is above. A comparison with a threshold has the
//!   same outcome as one with its rank, and a rank is one octet where at most 255 thresholds are told apart. Trees are
//!   taken in [`Run`]s that keep to this; a forest of 100 trees is one run or a few.
//! - where a row stands is one octet too: the leftmost leaf it can still reach. A tree on 256 rows has no more leaves.
//! - a split whose leaves all have the same path length is left out, with a fifth of all splits.
//!
//! All of it is arithmetic on octets without a branch, which a compiler turns into vector instructions that every
//! processor of the architecture has. Rows are added up in the order of the trees, as when they are scored alone, so the
//! sums are the same bits.

use ndarray::{ArrayView2, Axis};

use super::arena::Arena;

/// Rows of a block: their ranks and positions stay in the first-level cache.
const BLOCK: usize = 128;
/// Values whose rank is looked up side by side: none waits for another's load.
const LANES: usize = 16;
/// Levels of a [`Scale`] whose thresholds are all compared, which takes less than going down them.
const UPPER: u32 = 4;
/// Values of an octet, and so thresholds of a column in a run, with room for the rank above all of them.
const RANKS: usize = 256;
/// With fewer rows it is quicker to walk the trees as they are than to lay them out again.
const ROWS_MIN: usize = 256;

/// [`Arena::path_sum`] of each row; none if the forest or the batch does not suit.
pub(super) fn path_sums(arena: &Arena, rows: ArrayView2<'_, f32>) -> Option<Vec<f64>> {
    if rows.nrows() < ROWS_MIN {
        return None;
    }
    let runs = Run::all(arena, rows.ncols())?;
    let mut sums = vec![0.0; rows.nrows().next_multiple_of(BLOCK)];
    let mut values = vec![[0.0; BLOCK]; rows.ncols()];
    let mut ranks = vec![[0; BLOCK]; rows.ncols()];
    for (sums, rows) in sums.as_chunks_mut::<BLOCK>().0.iter_mut().zip(rows.axis_chunks_iter(Axis(0), BLOCK)) {
        for (lane, row) in rows.rows().into_iter().enumerate() {
            values.iter_mut().zip(row).for_each(|(lanes, value)| lanes[lane] = *value);
        }
        for run in &runs {
            for ((scale, values), ranks) in run.scales.iter().zip(&values).zip(&mut ranks) {
                scale.ranks(values, ranks);
            }
            for tree in &run.trees {
                add_path_lengths(sums, &tree.leaves(&ranks), &tree.path_lengths);
            }
        }
    }
    sums.truncate(rows.nrows());
    Some(sums)
}

fn add_path_lengths(sums: &mut [f64; BLOCK], leaves: &[u8; BLOCK], path_lengths: &[f64; RANKS]) {
    sums.iter_mut().zip(leaves).for_each(|(sum, leaf)| *sum += path_lengths[usize::from(*leaf)]);
}

/// A whole number for each value, in the order in which values are compared; zeros are equal, NaN is above all.
fn key(value: f32) -> i32 {
    let bits = (value + 0.0).to_bits().cast_signed();
    if value.is_nan() { i32::MAX } else { bits ^ (bits >> 31 & i32::MAX) }
}

/// Trees that follow each other, with at most 255 thresholds in each column.
struct Run {
    /// One for each column.
    scales: Vec<Scale>,
    trees: Vec<Tree>,
}

impl Run {
    /// All trees of the forest; none if one of them has too many leaves.
    fn all(arena: &Arena, columns: usize) -> Option<Vec<Self>> {
        let mut runs = Vec::new();
        let mut trees: Vec<Tree> = Vec::new();
        let mut thresholds = Thresholds::new(columns);
        for &root in arena.roots() {
            let tree = Tree::new(arena, root)?;
            if !thresholds.take(&tree) {
                runs.push(Self::new(std::mem::take(&mut trees), &thresholds));
                thresholds = Thresholds::new(columns);
                thresholds.take(&tree).then_some(())?;
            }
            trees.push(tree);
        }
        runs.push(Self::new(trees, &thresholds));
        Some(runs)
    }

    fn new(mut trees: Vec<Tree>, thresholds: &Thresholds) -> Self {
        for split in trees.iter_mut().flat_map(|tree| &mut tree.splits) {
            split.rank = rank(thresholds.0[split.column].partition_point(|threshold| *threshold < split.threshold));
        }
        Self { scales: thresholds.0.iter().map(|sorted| Scale::new(sorted)).collect(), trees }
    }
}

/// The thresholds of each column, in order, each once.
struct Thresholds(Vec<Vec<i32>>);

impl Thresholds {
    fn new(columns: usize) -> Self {
        Self(vec![Vec::new(); columns])
    }

    /// Adds those of `tree`. Says no when a column is full; those added until then do no harm.
    fn take(&mut self, tree: &Tree) -> bool {
        tree.splits.iter().all(|split| {
            let sorted = &mut self.0[split.column];
            match sorted.binary_search(&split.threshold) {
                Ok(_) => true,
                Err(at) => {
                    let room = sorted.len() < RANKS - 1;
                    if room {
                        sorted.insert(at, split.threshold);
                    }
                    room
                }
            }
        })
    }
}

/// The thresholds of a column as a heap: the root is slot 1, the children of slot `s` are `2s` and `2s + 1`. A search needs
/// no links and no branch, and ends at the number of thresholds that are below the value.
struct Scale {
    slots: [i32; RANKS],
    levels: u32,
}

impl Scale {
    fn new(sorted: &[i32]) -> Self {
        let levels = (sorted.len() + 1).next_power_of_two().ilog2().max(UPPER);
        let mut slots = [i32::MAX; RANKS];
        fill(&mut slots[..1 << levels], 1, &mut sorted.iter());
        Self { slots, levels }
    }

    /// The [`rank`] of each value.
    fn ranks(&self, values: &[f32; BLOCK], ranks: &mut [i8; BLOCK]) {
        let (values, _) = values.as_chunks::<LANES>();
        let (ranks, _) = ranks.as_chunks_mut::<LANES>();
        for (values, ranks) in values.iter().zip(ranks) {
            let mut keys = [0; LANES];
            keys.iter_mut().zip(values).for_each(|(key, value)| *key = self::key(*value));
            let mut slots = [1 << UPPER; LANES];
            for threshold in &self.slots[1..1 << UPPER] {
                slots.iter_mut().zip(&keys).for_each(|(slot, key)| *slot += u32::from(threshold < key));
            }
            for _ in UPPER..self.levels {
                for (slot, key) in slots.iter_mut().zip(&keys) {
                    *slot = 2 * *slot + u32::from(self.slots[*slot as usize % RANKS] < *key);
                }
            }
            ranks.iter_mut().zip(slots).for_each(|(value, slot)| *value = rank(slot as usize - (1 << self.levels)));
        }
    }
}

/// In-order: slots left over after the last threshold stay above every value.
fn fill<'a>(slots: &mut [i32], slot: usize, sorted: &mut impl Iterator<Item = &'a i32>) {
    if slot < slots.len() {
        fill(slots, 2 * slot, sorted);
        if let Some(threshold) = sorted.next() {
            slots[slot] = *threshold;
        }
        fill(slots, 2 * slot + 1, sorted);
    }
}

/// The number of thresholds below a value, less 128: vector instructions compare signed octets.
#[expect(clippy::cast_possible_truncation, reason = "a run has at most 255 thresholds in a column")]
fn rank(below: usize) -> i8 {
    (below as u8 ^ 0x80).cast_signed()
}

/// The splits of a tree in pre-order, and its leaves from left to right.
struct Tree {
    splits: Vec<Split>,
    path_lengths: [f64; RANKS],
    leaves: usize,
}

struct Split {
    /// [`key`] of the threshold.
    threshold: i32,
    column: usize,
    /// Of the threshold in the run; a value on the right of it has a higher one.
    rank: i8,
    /// The leftmost leaf below.
    first: u8,
    /// Leaves on the left.
    left: u8,
}

impl Tree {
    fn new(arena: &Arena, root: u32) -> Option<Self> {
        let mut tree = Self { splits: Vec::new(), path_lengths: [0.0; RANKS], leaves: 0 };
        tree.place(arena, root)?;
        Some(tree)
    }

    fn place(&mut self, arena: &Arena, node: u32) -> Option<()> {
        let Some((feature, threshold, right)) = arena.split(node) else {
            *self.path_lengths.get_mut(self.leaves)? = arena.expected_path(node);
            self.leaves += 1;
            return Some(());
        };
        let (at, first) = (self.splits.len(), self.leaves);
        let column = usize::from(feature);
        self.splits.push(Split {
            threshold: key(threshold),
            column,
            rank: 0,
            first: u8::try_from(first).ok()?,
            left: 0,
        });
        self.place(arena, node + 1)?;
        self.splits[at].left = u8::try_from(self.leaves - first).ok()?;
        self.place(arena, right)?;
        let below = &self.path_lengths[first..self.leaves];
        if below.iter().all(|path_length| *path_length == below[0]) {
            self.splits.truncate(at);
            self.leaves = first + 1;
        }
        Some(())
    }

    /// The leaf of each row of a block, by the ranks of its values.
    fn leaves(&self, ranks: &[[i8; BLOCK]]) -> [u8; BLOCK] {
        let mask = |yes: bool| 0_u8.wrapping_sub(u8::from(yes));
        let mut leaves = [0; BLOCK];
        for &Split { column, rank, first, left, .. } in &self.splits {
            for (leaf, value) in leaves.iter_mut().zip(&ranks[column]) {
                *leaf += mask(*leaf == first) & mask(*value > rank) & left;
            }
        }
        leaves
    }
}
