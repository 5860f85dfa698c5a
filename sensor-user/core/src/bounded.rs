//! Tables that stay within their bounds.

use std::collections::HashMap;
use std::hash::Hash;

use crate::time::Timestamp;

/// Makes room for `key` in a table of at most `most`: when it is full, the least recently seen eighth goes, so that it is
/// not looked through again for as many insertions.
pub(crate) fn make_room<K: Copy + Ord + Hash, V>(
    map: &mut HashMap<K, V>,
    most: usize,
    key: &K,
    seen: impl Fn(&V) -> Timestamp,
) {
    if map.len() < most || map.contains_key(key) {
        return;
    }
    let mut ages: Vec<(Timestamp, K)> = map.iter().map(|(&key, value)| (seen(value), key)).collect();
    let (gone, oldest, _) = ages.select_nth_unstable(most / 8);
    gone.iter().chain([&*oldest]).for_each(|(_, key)| drop(map.remove(key)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_a_known_key_needs_no_room() {
        let full = || (0..16_u64).map(|n| (n, Timestamp::from_secs(n))).collect::<HashMap<_, _>>();
        let mut map = full();
        make_room(&mut map, 16, &5, |at| *at);
        assert_eq!(map.len(), 16);
        make_room(&mut map, 16, &99, |at| *at);
        assert_eq!(map.len(), 13);
        assert!(!map.contains_key(&2) && map.contains_key(&3));
        let mut one = HashMap::from([(1, Timestamp::EPOCH)]);
        make_room(&mut one, 1, &2, |at| *at);
        assert!(one.is_empty());
    }
}
