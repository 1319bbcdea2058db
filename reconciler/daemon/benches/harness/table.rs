//! The table that is printed.

use std::time::Duration;

/// The times of a row.
pub type Times = Vec<Duration>;

/// Prints the table's head.
pub fn head() {
    println!("{:<56} {:>9} {:>9} {:>9}", "", "p50 ms", "p99 ms", "min ms");
}

/// Prints a row.
pub fn row(name: &str, mut times: Times) {
    times.sort();
    let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1];
    println!(
        "{name:<56} {:>9.1} {:>9.1} {:>9.1}",
        ms(at(0.5)),
        ms(at(0.99)),
        ms(times[0])
    );
}

/// A time in milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
