//! Other ways to compute F(n), to compare with.

use ibig::UBig;

/// Computes F(n) by n additions and one conversion, as the program that this one replaces does.
pub(crate) fn by_additions(n: u64) -> String {
    let [mut current, mut next] = [UBig::from(0_u8), UBig::from(1_u8)];
    for _ in 0..n {
        current += &next;
        std::mem::swap(&mut current, &mut next);
    }
    current.to_string()
}

/// Computes F(n) with GMP's function and converts it.
#[cfg(feature = "gmp")]
pub(crate) fn by_gmp(n: u64) -> String {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    rug::Integer::from(rug::Integer::fibonacci(n)).to_string_radix(10)
}
