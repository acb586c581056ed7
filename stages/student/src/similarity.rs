//! How alike two token sequences are, and where they differ.

use std::collections::HashSet;

/// The runs of three tokens in a sequence; a shorter one is a run of its own, filled up with a token none has.
pub(crate) fn three_grams(tokens: &[u32]) -> HashSet<[u32; 3]> {
    if tokens.len() < 3 {
        let at = |place: usize| tokens.get(place).copied().unwrap_or(u32::MAX);
        return HashSet::from([[at(0), at(1), at(2)]]);
    }
    tokens.windows(3).map(|run| [run[0], run[1], run[2]]).collect()
}

/// The Jaccard index of two sets, 0 to 1.
pub(crate) fn jaccard(left: &HashSet<[u32; 3]>, right: &HashSet<[u32; 3]>) -> f64 {
    let shared = left.intersection(right).count();
    shared as f64 / (left.len() + right.len() - shared) as f64
}

/// The tokens of two sequences that the other one does not have in the same place of their alignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// By token of the left sequence.
    pub(crate) left: Vec<bool>,
    /// By token of the right sequence.
    pub(crate) right: Vec<bool>,
}

/// Aligns two sequences by Levenshtein distance, from where they begin to differ.
pub(crate) fn changed(left: &[u32], right: &[u32]) -> Changed {
    let start = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    let mut changed = Changed { left: vec![false; left.len()], right: vec![false; right.len()] };
    let (rows, columns) = (left.len() - start, right.len() - start);
    let equal = |row: usize, column: usize| left[start + row] == right[start + column];
    // Distances of what remains from (row, column) on.
    let mut distance = vec![vec![0u32; columns + 1]; rows + 1];
    for row in (0..=rows).rev() {
        for column in (0..=columns).rev() {
            distance[row][column] = match (rows - row, columns - column) {
                (0, left) | (left, 0) => left as u32,
                _ if equal(row, column) => distance[row + 1][column + 1],
                _ => {
                    let (right, down) = (distance[row][column + 1], distance[row + 1][column]);
                    1 + right.min(down).min(distance[row + 1][column + 1])
                }
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < rows || column < columns {
        let both = row < rows && column < columns;
        if both && equal(row, column) {
            (row, column) = (row + 1, column + 1);
            continue;
        }
        let here = distance[row][column];
        if both && here == 1 + distance[row + 1][column + 1] {
            changed.left[start + row] = true;
            changed.right[start + column] = true;
            (row, column) = (row + 1, column + 1);
        } else if row < rows && here == 1 + distance[row + 1][column] {
            changed.left[start + row] = true;
            row += 1;
        } else {
            changed.right[start + column] = true;
            column += 1;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(changed: &[bool]) -> Vec<usize> {
        (0..changed.len()).filter(|at| changed[*at]).collect()
    }

    #[test]
    fn alignments_worked_out_by_hand() {
        for (left, right, of_left, of_right) in [
            // kitten and sitting.
            (&[1, 2, 3, 3, 4, 5][..], &[6, 2, 3, 3, 2, 5, 7][..], &[0, 4][..], &[0, 4, 6][..]),
            (&[1, 2, 3], &[1, 2, 3], &[], &[]),
            (&[1, 2, 3], &[], &[0, 1, 2], &[]),
            (&[], &[4], &[], &[0]),
            (&[1, 2, 9, 3], &[1, 2, 3], &[2], &[]),
        ] {
            let found = changed(left, right);
            assert_eq!((places(&found.left), places(&found.right)), (of_left.to_vec(), of_right.to_vec()));
        }
    }

    #[test]
    fn likeness_worked_out_by_hand() {
        let (left, right) = (three_grams(&[1, 2, 3, 4]), three_grams(&[2, 3, 4, 5]));
        assert!((jaccard(&left, &right) - 1.0 / 3.0).abs() < 1e-12);
        assert!((jaccard(&left, &left) - 1.0).abs() < 1e-12);
        assert_eq!(jaccard(&three_grams(&[1]), &three_grams(&[2])), 0.0);
    }
}
