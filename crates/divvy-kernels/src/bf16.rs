//! bf16 as raw `u16`: the upper half of an f32. Rounding is to nearest, ties to even; a NaN stays a NaN.

/// Rounds to bf16.
#[inline(always)]
pub(crate) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return ((bits >> 16) | 0x40) as u16;
    }
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Widens to f32, exactly.
#[inline(always)]
pub(crate) fn widen(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even() {
        let ulp = 2f32.powi(-7);
        assert_eq!(widen(round(1.0 + ulp * 0.5)), 1.0);
        assert_eq!(widen(round(1.0 + ulp * 1.5)), 1.0 + ulp * 2.0);
        assert_eq!(widen(round(1.0 + ulp * 0.51)), 1.0 + ulp);
        assert_eq!(widen(round(-3.0)), -3.0);
    }

    #[test]
    fn keeps_infinities_and_nans() {
        assert_eq!(widen(round(f32::INFINITY)), f32::INFINITY);
        assert_eq!(widen(round(f32::MAX)), f32::INFINITY);
        assert!(widen(round(f32::NAN)).is_nan());
        assert!(widen(round(f32::from_bits(0x7f80_0001))).is_nan());
    }
}
