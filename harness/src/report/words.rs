//! Numbers as people read them.

/// Three digits and a unit.
pub(super) fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 999.5e6 => (value / 1e9, "G"),
        value if value >= 999.5e3 => (value / 1e6, "M"),
        value if value >= 9.995e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    match value {
        value if value >= 99.95 => format!("{value:.0}{unit}"),
        value if value >= 9.995 => format!("{value:.1}{unit}"),
        value => format!("{value:.2}{unit}"),
    }
}

/// A ratio, with as many digits as it is worth.
pub(super) fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 9.95 => format!("{ratio:.0}x"),
        ratio if ratio >= 0.0995 => format!("{ratio:.2}x"),
        ratio => format!("{ratio:.3}x"),
    }
}

/// A duration with its unit.
pub(super) fn nanoseconds(value: f64) -> String {
    match value {
        value if value < 9_999.5 => format!("{value:.0} ns"),
        value if value < 9.9995e6 => format!("{:.1} us", value / 1e3),
        value => format!("{:.1} ms", value / 1e6),
    }
}

/// Bytes, in the largest unit that leaves a whole number.
pub(super) fn bytes(value: u64) -> String {
    match value {
        value if value >= 1 << 20 && value % (1 << 20) == 0 => format!("{} MiB", value >> 20),
        value if value >= 1 << 10 && value % (1 << 10) == 0 => format!("{} KiB", value >> 10),
        value => format!("{value} B"),
    }
}

/// The size of a message: the frame by its name.
pub(super) fn size(value: usize) -> String {
    let value = value as u64;
    if value == crate::scenario::FRAME { "frame".into() } else { bytes(value) }
}

/// Memory, to three digits.
pub(super) fn memory(value: f64) -> String {
    match value {
        value if value >= 1_048_576.0 => format!("{:.1} MiB", value / 1_048_576.0),
        value => format!("{:.0} KiB", value / 1_024.0),
    }
}

/// With a comma every three digits.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One producer, or so many.
pub(super) fn producers(count: u32) -> String {
    if count == 1 { "1 producer".into() } else { format!("{count} producers") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(100), "100");
        assert_eq!([short(1.5), short(12_345.0), short(2.5e6)], ["1.50", "12.3k", "2.50M"]);
        assert_eq!([bytes(64), bytes(1 << 10), bytes(3 << 20)], ["64 B", "1 KiB", "3 MiB"]);
        assert_eq!([nanoseconds(9.0), nanoseconds(25_000.0)], ["9 ns", "25.0 us"]);
        assert_eq!([times(12.3), times(1.5), times(0.0123)], ["12x", "1.50x", "0.012x"]);
        assert_eq!([size(64), size(12_441_600)], ["64 B", "frame"]);
        assert_eq!([memory(2_048.0), memory(1_572_864.0)], ["2 KiB", "1.5 MiB"]);
    }

    #[test]
    fn rounding_up_does_not_leave_a_fourth_digit() {
        assert_eq!([short(999_700.0), short(99.97), short(9.997)], ["1.00M", "100", "10.0"]);
        assert_eq!([times(9.97), times(0.09996)], ["10x", "0.10x"]);
        assert_eq!(nanoseconds(9_999.7), "10.0 us");
    }
}
