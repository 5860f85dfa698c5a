//! Many rows at a time: trees laid out as heaps, rows in columns of lanes.
//!
//! A heap needs no links: the children of node `h` are `2h` and `2h + 1`, so that a step is a comparison and an addition,
//! and eight levels fit in 256 slots, which need no bounds checks and stay in the first-level cache while a block of
//! rows walks through them. A leaf above the last level is repeated below: both ways lead to it. Rows are added up in the
//! order of the trees, as when they are scored alone, so the sums are the same bits.

use ndarray::ArrayView2;

use super::arena::Arena;

/// Levels that fit; sub-samples of up to 256 rows have no more.
const LEVELS: u32 = 8;
const SLOTS: usize = 1 << LEVELS;
/// Levels whose splits are all compared, see [`Heap::upper_levels`].
const UPPER: u32 = 3;
/// Rows that walk through a tree side by side: none waits for another's load.
const LANES: usize = 16;
/// Groups of lanes for each turn through the trees: their values and one tree fit in the first-level cache.
const GROUPS: usize = 4;
/// With fewer rows it is quicker to walk the trees as they are than to lay them out again.
const ROWS_MIN: usize = 256;

/// A tree as a heap: the root is slot 1, slot 0 is not used.
struct Heap {
    splits: [Split; SLOTS],
    /// `h(x)` by position on the last level.
    path_lengths: [f64; SLOTS],
}

#[derive(Clone, Copy)]
struct Split {
    /// [`key`] of the threshold.
    threshold: i32,
    feature: u32,
}

/// A whole number for each value, in the order in which values are compared; zeros are equal, NaN is above all. Whole
/// numbers leave the outcome of a comparison where an addition finds it.
fn key(value: f32) -> i32 {
    if value.is_nan() {
        return i32::MAX;
    }
    let bits = (value + 0.0).to_bits().cast_signed();
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// [`Arena::path_sum`] of each row; none if the forest or the batch does not suit.
pub(super) fn path_sums(arena: &Arena, rows: ArrayView2<'_, f32>) -> Option<Vec<f64>> {
    let depth = arena.depth();
    if !(UPPER..=LEVELS).contains(&depth) || rows.nrows() < ROWS_MIN {
        return None;
    }
    let heaps: Vec<Heap> = arena.roots().iter().map(|&root| Heap::new(arena, root, depth)).collect();
    let mut sums = vec![0.0; rows.nrows()];
    let mut groups = vec![[0_i32; LANES]; GROUPS * rows.ncols()];
    for (block, sums) in sums.chunks_mut(GROUPS * LANES).enumerate() {
        let first = block * GROUPS * LANES;
        for at in 0..sums.len() {
            let (group, lane) = (at / LANES, at % LANES);
            let columns = &mut groups[group * rows.ncols()..][..rows.ncols()];
            columns.iter_mut().zip(rows.row(first + at)).for_each(|(lanes, value)| lanes[lane] = key(*value));
        }
        for heap in &heaps {
            for (columns, sums) in groups.chunks_exact(rows.ncols()).zip(sums.chunks_mut(LANES)) {
                let path_lengths = heap.walk(columns, depth);
                sums.iter_mut().zip(path_lengths).for_each(|(sum, path_length)| *sum += path_length);
            }
        }
    }
    Some(sums)
}

impl Heap {
    fn new(arena: &Arena, root: u32, depth: u32) -> Self {
        let mut heap = Self { splits: [Split { threshold: 0, feature: 0 }; SLOTS], path_lengths: [0.0; SLOTS] };
        heap.place(arena, root, 1, 1 << depth);
        heap
    }

    fn place(&mut self, arena: &Arena, node: u32, slot: usize, last_level: usize) {
        if slot >= last_level {
            self.path_lengths[slot - last_level] = arena.expected_path(node);
            return;
        }
        let (left, right) = match arena.split(node) {
            Some((feature, threshold, right)) => {
                self.splits[slot] = Split { threshold: key(threshold), feature: u32::from(feature) };
                (node + 1, right)
            }
            None => (node, node),
        };
        self.place(arena, left, 2 * slot, last_level);
        self.place(arena, right, 2 * slot + 1, last_level);
    }

    /// `h(x)` of the rows in the lanes.
    #[inline(always)]
    fn walk(&self, columns: &[[i32; LANES]], depth: u32) -> [f64; LANES] {
        let mut slots = self.upper_levels(columns);
        for _ in UPPER..depth {
            for (lane, slot) in slots.iter_mut().enumerate() {
                let Split { threshold, feature } = self.splits[*slot % SLOTS];
                let goes_right = threshold < columns[feature as usize][lane];
                *slot = 2 * *slot + usize::from(goes_right);
            }
        }
        slots.map(|slot| self.path_lengths[(slot - (1 << depth)) % SLOTS])
    }
    /// The slots of the lanes after [`UPPER`] levels. All seven splits are compared in all lanes, which the processor does
    /// for several lanes at once; then the comparisons that were on the way choose.
    #[inline(always)]
    fn upper_levels(&self, columns: &[[i32; LANES]]) -> [usize; LANES] {
        let right = |slot: usize| {
            let Split { threshold, feature } = self.splits[slot];
            columns[feature as usize].map(|value| 0_u32.wrapping_sub(u32::from(threshold < value)))
        };
        let first = right(1);
        let second = choose(first, right(3), right(2));
        let third = choose(first, choose(second, right(7), right(6)), choose(second, right(5), right(4)));
        let slot = |lane: usize| (8 | first[lane] & 4 | second[lane] & 2 | third[lane] & 1) as usize;
        std::array::from_fn(slot)
    }
}

/// Lane by lane: `yes` where the mask is all ones, `no` where it is zero.
#[inline(always)]
fn choose(mask: [u32; LANES], yes: [u32; LANES], no: [u32; LANES]) -> [u32; LANES] {
    std::array::from_fn(|lane| (mask[lane] & yes[lane]) | (!mask[lane] & no[lane]))
}
