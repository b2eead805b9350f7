//! Roots of unity, correctly rounded but for one case in millions.
//!
//! They are computed with twice the precision of an `f64` (106 bits) and rounded once, so that each component is
//! off by half a unit in its last place: the error of a root is below 0.71·2^-53. The platform's sine and
//! cosine are not used; their accuracy is not specified.

/// A number of twice the precision, as the sum of two `f64`, of which the second is much smaller.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Double {
    high: f64,
    low: f64,
}

/// A complex number of twice the precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Root {
    re: Double,
    im: Double,
}

/// π/4.
const QUARTER_PI: Double =
    Double { high: std::f64::consts::FRAC_PI_4, low: 3.061_616_997_868_383e-17 };

/// Terms of each Taylor series: for angles up to π/4 the next one is below 2^-110.
const TERMS: u32 = 14;

impl Double {
    const ZERO: Self = Self { high: 0.0, low: 0.0 };
    const ONE: Self = Self { high: 1.0, low: 0.0 };

    /// `high` + `low` exactly, rearranged (Knuth's two-sum).
    fn sum(high: f64, low: f64) -> Self {
        let sum = high + low;
        let part = sum - high;
        Self { high: sum, low: (high - (sum - part)) + (low - part) }
    }

    fn plus(self, other: Self) -> Self {
        let sum = Self::sum(self.high, other.high);
        Self::sum(sum.high, sum.low + (self.low + other.low))
    }

    fn minus(self, other: Self) -> Self {
        self.plus(Self { high: -other.high, low: -other.low })
    }

    /// a·b exactly (Dekker's product, which needs no fused operation).
    fn product(a: f64, b: f64) -> Self {
        let halves = |x: f64| {
            let scaled = 134_217_729.0 * x; // 2^27 + 1
            let high = scaled - (scaled - x);
            (high, x - high)
        };
        let ((a_high, a_low), (b_high, b_low)) = (halves(a), halves(b));
        let high = a * b;
        let rest = a_high * b_high - high;
        Self { high, low: ((rest + a_high * b_low) + a_low * b_high) + a_low * b_low }
    }

    fn times(self, other: Self) -> Self {
        let product = Self::product(self.high, other.high);
        let error = product.low + (self.high * other.low + self.low * other.high);
        Self::sum(product.high, error)
    }

    /// `self` divided by a small integer.
    fn divided_by(self, divisor: f64) -> Self {
        let quotient = self.high / divisor;
        let back = Self::product(quotient, divisor);
        let rest = ((self.high - back.high) - back.low) + self.low;
        Self::sum(quotient, rest / divisor)
    }
}

impl Root {
    pub(super) const ONE: Self = Self { re: Double::ONE, im: Double::ZERO };

    /// e^(2πi·`numerator`/`denominator`), for a denominator below 2^40.
    pub(super) fn new(numerator: u64, denominator: u64) -> Self {
        let eighths = 8 * (numerator % denominator);
        let (octant, rest) = (eighths / denominator, eighths % denominator);
        let small = if octant.is_multiple_of(2) { rest } else { denominator - rest };
        let Self { re: cos, im: sin } = Self::in_first_octant(small, denominator);
        let negative = |x: Double| Double { high: -x.high, low: -x.low };
        let (re, im) = match octant {
            0 => (cos, sin),
            1 => (sin, cos),
            2 => (negative(sin), cos),
            3 => (negative(cos), sin),
            4 => (negative(cos), negative(sin)),
            5 => (negative(sin), negative(cos)),
            6 => (sin, negative(cos)),
            _ => (cos, negative(sin)),
        };
        Self { re, im }
    }

    /// e^(i·π/4·`numerator`/`denominator`), for a fraction up to 1, by the series of sine and cosine.
    #[expect(clippy::cast_precision_loss, reason = "both numbers are below 2^43")]
    fn in_first_octant(numerator: u64, denominator: u64) -> Self {
        let fraction = Double { high: numerator as f64, low: 0.0 }.divided_by(denominator as f64);
        let angle = fraction.times(QUARTER_PI);
        let square = angle.times(angle);
        // From the last term to the first, as 1 − x²/(1·2)·(1 − x²/(3·4)·(…)).
        let series = |first: u32| {
            (0..TERMS).rev().fold(Double::ONE, |inner, term| {
                let divisor = f64::from((2 * term + first) * (2 * term + first + 1));
                Double::ONE.minus(square.times(inner).divided_by(divisor))
            })
        };
        Self { re: series(1), im: series(2).times(angle) }
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self {
            re: self.re.times(other.re).minus(self.im.times(other.im)),
            im: self.re.times(other.im).plus(self.im.times(other.re)),
        }
    }

    /// The powers 0 to `count` − 1.
    pub(super) fn powers(self, count: usize) -> Vec<Self> {
        let mut powers: Vec<Self> = Vec::with_capacity(count);
        for exponent in 0..count {
            let halves = (powers.get(exponent / 2), powers.get(exponent.div_ceil(2)));
            let power = match (exponent, halves) {
                (0, _) => Self::ONE,
                (1, _) => self,
                (_, (Some(low), Some(high))) => low.times(*high),
                (_, _) => powers.last().map_or(self, |last| last.times(self)),
            };
            powers.push(power);
        }
        powers
    }

    /// Real and imaginary part, rounded.
    pub(super) fn rounded(self) -> [f64; 2] {
        [self.re.high + self.re.low, self.im.high + self.im.low]
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
mod tests {
    use super::*;

    /// Compares with the platform's functions, which are nearly as accurate.
    #[track_caller]
    fn check(root: Root, numerator: u64, denominator: u64) {
        let angle = std::f64::consts::TAU * (numerator as f64 / denominator as f64);
        let [re, im] = root.rounded();
        let error = (re - angle.cos()).hypot(im - angle.sin());
        assert!(error < 3e-15, "{numerator}/{denominator}: off by {error}");
    }

    #[test]
    fn roots_equal_sine_and_cosine() {
        for denominator in [1, 3, 8, 32, 160, 1 << 20] {
            for numerator in 0..2 * denominator.min(200) {
                check(Root::new(numerator, denominator), numerator, denominator);
            }
        }
    }

    #[test]
    fn powers_have_twice_the_precision() {
        let denominator = 5 << 20;
        for (power, exponent) in Root::new(7, denominator).powers(5_000).into_iter().zip(0..) {
            check(power, 7 * exponent, denominator);
            let direct = Root::new(7 * exponent, denominator);
            for (a, b) in [(power.re, direct.re), (power.im, direct.im)] {
                let difference = a.minus(b);
                assert!((difference.high + difference.low).abs() < 1e-28, "{exponent}");
            }
        }
    }

    #[test]
    fn the_modulus_is_one() {
        for numerator in 0..1_000 {
            let Root { re, im } = Root::new(numerator, 1_000);
            let excess = re.times(re).plus(im.times(im)).minus(Double::ONE);
            assert!((excess.high + excess.low).abs() < 1e-30, "{numerator}");
        }
    }
}
