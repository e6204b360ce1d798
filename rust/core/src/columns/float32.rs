//! Values as float32: rounding that stays finite, and integers of the same order.

/// Rounds to float32; values beyond its range become the largest finite float32, so that scores stay finite.
#[inline]
pub fn saturate(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX)
}

/// Maps floats to integers of the same order; -0.0 and 0.0 share one. NaN has no defined integer.
#[inline]
pub fn order(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    bits ^ ((bits.cast_signed() >> 31).cast_unsigned() | 1 << 31)
}

/// The integers of the lowest and the highest finite float; each is the bitwise complement of the other.
pub const FIRST: u32 = 0x0080_0000;
pub const LAST: u32 = 0xff7f_ffff;

/// The inverse of `order`.
#[inline]
pub fn from_order(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_floats_and_can_be_undone() {
        let values = [f32::MIN, -1.5, -f32::MIN_POSITIVE, 0.0, f32::MIN_POSITIVE, 1.0, f32::MAX];
        for pair in values.windows(2) {
            assert!(order(pair[0]) < order(pair[1]));
        }
        for value in values {
            assert_eq!(from_order(order(value)).to_bits(), value.to_bits());
        }
        assert_eq!(order(-0.0), order(0.0));
        assert_eq!([order(f32::MIN), order(f32::MAX), !order(f32::MIN)], [FIRST, LAST, LAST]);
        // The sign of a NaN sum is not specified: either end is accepted.
        assert!([f32::NAN, -f32::NAN].iter().all(|&nan| !(FIRST..=LAST).contains(&order(nan))));
    }
}
