//! One statement for many rows, in few shapes: statement texts are prepared and kept.

/// Splits rows into runs whose sizes are powers of two, so that few statement texts serve every number of rows.
pub fn runs<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = (rows.len().checked_ilog2()?).min(ROWS_PER_STATEMENT_MAX.ilog2());
        let (run, rest) = rows.split_at(1 << size);
        rows = rest;
        Some(run)
    })
}

/// Splits rows into runs and fills the last up to a power of two by repeating a row, where a repeat does no harm:
/// fewer statements than [`runs`], which matters because each one is a trip to the connection's thread.
pub fn padded_runs<T: Copy>(rows: &[T]) -> impl Iterator<Item = Vec<T>> {
    rows.chunks(ROWS_PER_STATEMENT_MAX).map(|chunk| {
        let mut run = chunk.to_vec();
        run.resize(chunk.len().next_power_of_two(), chunk[0]);
        run
    })
}

/// Rows in one statement: 9 columns × 256 stay well below SQLite's 32,766 parameters.
pub const ROWS_PER_STATEMENT_MAX: usize = 256;

/// `one`, `times` over, with commas.
pub fn list(one: &str, times: usize) -> String {
    let mut list = String::with_capacity((one.len() + 1) * times);
    for at in 0..times {
        if at > 0 {
            list.push(',');
        }
        list.push_str(one);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_every_row_once_in_sizes_of_powers_of_two() {
        for count in [0, 1, 2, 3, 7, 255, 256, 257, 1000] {
            let rows: Vec<usize> = (0..count).collect();
            let whole: Vec<usize> = runs(&rows).flatten().copied().collect();
            assert_eq!(whole, rows);
            assert!(runs(&rows).all(|run| run.len().is_power_of_two() && run.len() <= ROWS_PER_STATEMENT_MAX));
            let mut padded: Vec<usize> = padded_runs(&rows).flatten().collect();
            padded.sort_unstable();
            padded.dedup();
            assert_eq!(padded, rows);
            assert!(padded_runs(&rows).all(|run| run.len().is_power_of_two()));
        }
    }
}
