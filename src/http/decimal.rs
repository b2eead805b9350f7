//! Renders integers in decimal without `core::fmt`, because every response has some.

/// Appends `value` in decimal.
pub fn push(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20]; // u64::MAX has twenty
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// The number of decimal digits of `value`.
pub const fn length(value: u64) -> usize {
    match value.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// Fills `digits` with the last decimal digits of `value`, padded with zeros on the left.
pub fn fill(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_agrees_with_the_standard_library() {
        for value in [0, 1, 9, 10, 99, 100, 12_345, 1 << 53, (1 << 53) + 1, u64::MAX] {
            let mut out = b"n = ".to_vec();
            push(&mut out, value);
            assert_eq!(out, format!("n = {value}").into_bytes());
            assert_eq!(out.len(), "n = ".len() + length(value));
        }
    }

    #[test]
    fn fill_pads_with_zeros_and_truncates_on_the_left() {
        for (value, expected) in [(0, b"000"), (7, b"007"), (123, b"123"), (45_678, b"678")] {
            let mut digits = [b'?'; 3];
            fill(&mut digits, value);
            assert_eq!(digits, *expected);
        }
    }
}
