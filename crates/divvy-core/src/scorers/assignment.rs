//! Linear sum assignment: pairs rows with columns so that the summed score is greatest. The shortest augmenting path
//! method with potentials (Kuhn–Munkres in Jonker and Volgenant's form), for DROP's few spans: O(n³).

/// For each row its column, `None` for rows left over where there are fewer columns. `scores` is a full matrix of
/// finite numbers.
pub(super) fn assign(scores: &[Vec<f64>]) -> Vec<Option<usize>> {
    let rows = scores.len();
    let columns = scores.first().map_or(0, Vec::len);
    if rows <= columns {
        return assign_wide(rows, columns, |row, column| -scores[row][column]).into_iter().map(Some).collect();
    }
    let by_column = assign_wide(columns, rows, |column, row| -scores[row][column]);
    let mut by_row = vec![None; rows];
    for (column, row) in by_column.into_iter().enumerate() {
        by_row[row] = Some(column);
    }
    by_row
}

/// Cheapest column of each row, for at most as many rows as columns. Index 0 of every vector is a sentinel.
fn assign_wide(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let (mut row_potential, mut column_potential) = (vec![0.0; rows + 1], vec![0.0; columns + 1]);
    let mut row_of = vec![0; columns + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let mut previous = vec![0; columns + 1];
        let mut shortest = vec![f64::INFINITY; columns + 1];
        let mut done = vec![false; columns + 1];
        let mut column = 0;
        while row_of[column] != 0 {
            done[column] = true;
            let from = row_of[column];
            let (mut step, mut next) = (f64::INFINITY, 0);
            for candidate in (1..=columns).filter(|&candidate| !done[candidate]) {
                let reduced = cost(from - 1, candidate - 1) - row_potential[from] - column_potential[candidate];
                if reduced < shortest[candidate] {
                    shortest[candidate] = reduced;
                    previous[candidate] = column;
                }
                if shortest[candidate] < step {
                    step = shortest[candidate];
                    next = candidate;
                }
            }
            for other in 0..=columns {
                if done[other] {
                    row_potential[row_of[other]] += step;
                    column_potential[other] -= step;
                } else {
                    shortest[other] -= step;
                }
            }
            column = next;
        }
        while column != 0 {
            let before = previous[column];
            row_of[column] = row_of[before];
            column = before;
        }
    }
    let mut column_of = vec![0; rows];
    for column in (1..=columns).filter(|&column| row_of[column] != 0) {
        column_of[row_of[column] - 1] = column - 1;
    }
    column_of
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(scores: &[Vec<f64>], assignment: &[Option<usize>]) -> f64 {
        assignment.iter().enumerate().filter_map(|(row, column)| Some(scores[row][(*column)?])).sum()
    }

    /// Best total by trying everything.
    fn brute_force(scores: &[Vec<f64>], row: usize, free: &mut Vec<bool>) -> f64 {
        if row == scores.len() {
            return 0.0;
        }
        let may_skip = scores.len() - row > free.iter().filter(|free| **free).count();
        let mut best = if may_skip { brute_force(scores, row + 1, free) } else { f64::NEG_INFINITY };
        for column in 0..free.len() {
            if free[column] {
                free[column] = false;
                best = best.max(scores[row][column] + brute_force(scores, row + 1, free));
                free[column] = true;
            }
        }
        best
    }

    proptest! {
        #[test]
        fn it_is_optimal(scores in (1_usize..5, 1_usize..5).prop_flat_map(|(rows, columns)|
            prop::collection::vec(prop::collection::vec(0_u8..=10, columns), rows))
        ) {
            let scores: Vec<Vec<f64>> =
                scores.iter().map(|row| row.iter().map(|score| f64::from(*score) / 10.0).collect()).collect();
            let assignment = assign(&scores);
            let mut used: Vec<usize> = assignment.iter().flatten().copied().collect();
            used.sort_unstable();
            prop_assert_eq!(used.len(), scores.len().min(scores[0].len()));
            used.dedup();
            prop_assert_eq!(used.len(), scores.len().min(scores[0].len()));
            let best = brute_force(&scores, 0, &mut vec![true; scores[0].len()]);
            prop_assert!((total(&scores, &assignment) - best).abs() < 1e-9);
        }
    }
}
