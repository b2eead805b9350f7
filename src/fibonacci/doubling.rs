//! The reference algorithm: fast doubling in ibig's binary numbers, then ibig's conversion to decimal.
//!
//! [`Calculator`](super::Calculator) uses it when a faster result fails verification, and the faster
//! algorithms are tested against it. It shares no code with them.

use ibig::UBig;

/// Computes F(n) in decimal digits.
pub fn digits(n: u64) -> Vec<u8> {
    fibonacci(n).to_string().into_bytes()
}

/// Computes F(n), by two squarings for each bit of n but the last, which takes one product or two squarings.
pub fn fibonacci(n: u64) -> UBig {
    let half = n / 2;
    let (current, next) = pair(half);
    if n.is_multiple_of(2) {
        // F(2k) = F(k)·(2·F(k+1) − F(k))
        &current * ((&next << 1) - &current)
    } else {
        // F(2k+1) = F(k)² + F(k+1)²
        &current * &current + &next * &next
    }
}

/// Computes F(k) and F(k+1).
fn pair(k: u64) -> (UBig, UBig) {
    let (mut current, mut next) = (UBig::from(0_u8), UBig::from(1_u8));
    for bit in (0..u64::BITS - k.leading_zeros()).rev() {
        let reached = k >> bit; // the pair's index after this step
        let (low, high) = (&current * &current, &next * &next);
        let odd = &low + &high;
        // Cassini's identity spares the third product: F(2j) = 2·F(j+1)² − 3·F(j)² − 2·(−1)ʲ.
        let positive = (high << 1) + if (reached / 2).is_multiple_of(2) { 0_u8 } else { 2 };
        let negative = low * 3_u8 + if (reached / 2).is_multiple_of(2) { 2_u8 } else { 0 };
        let even = positive - negative;
        (current, next) =
            if reached.is_multiple_of(2) { (even, odd) } else { (odd.clone(), even + odd) };
    }
    (current, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_equal_the_sum_of_their_predecessors() {
        let (mut current, mut next) = (UBig::from(0_u8), UBig::from(1_u8));
        for n in 0..2_000 {
            assert_eq!(fibonacci(n), current, "F({n})");
            current += &next;
            std::mem::swap(&mut current, &mut next);
        }
    }
}
