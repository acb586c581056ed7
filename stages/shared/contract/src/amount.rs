//! Amounts as people say them, the same in every output.

/// A duration: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600.. => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn durations_read_well_at_every_size() {
        let said = [0.04, 9.4, 9.6, 59.4, 59.6, 185.0, 3599.6, 7800.0].map(seconds);
        let wanted =
            ["0.0 s", "9.4 s", "10 s", "59 s", "1 min 00 s", "3 min 05 s", "1 h 00 min", "2 h 10 min"];
        assert_eq!(said, wanted);
    }
}
