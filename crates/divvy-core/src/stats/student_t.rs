//! Student's t: the normal quantile, wider where a spread is itself told from few rows.

use super::Z95;

/// Quantile of 0.975 at so many degrees of freedom; infinite for none. Exact for one and two, else the expansion of
/// Abramowitz & Stegun, 26.7.5, whose error is 0.004 at three and vanishes fast.
#[must_use]
pub fn quantile95(freedom: usize) -> f64 {
    match freedom {
        0 => f64::INFINITY,
        1 => (std::f64::consts::PI * 0.475).tan(),
        2 => 0.95 * (2.0 / (4.0 * 0.975 * 0.025_f64)).sqrt(),
        _ => expansion(freedom as f64),
    }
}

/// Two-sided p-value of `t` at so many degrees of freedom; 1 for none. Exact (Abramowitz & Stegun, 26.7.3 and 26.7.4).
#[must_use]
pub fn p_value(t: f64, freedom: usize) -> f64 {
    let angle = (t.abs() / (freedom as f64).sqrt()).atan();
    let (sine, squared) = (angle.sin(), angle.cos().powi(2));
    let odd = freedom % 2 == 1;
    // Terms of the series from cos θ or 1 on, each the last one times cos² θ and a fraction.
    let first = if odd { angle.cos() } else { 1.0 };
    let terms = (0..freedom.saturating_sub(1) / 2 + usize::from(!odd && freedom > 0)).scan(first, |term, at| {
        let now = *term;
        let at = at as f64;
        *term *= squared * if odd { (2.0 * at + 2.0) / (2.0 * at + 3.0) } else { (2.0 * at + 1.0) / (2.0 * at + 2.0) };
        Some(now)
    });
    let within = match freedom {
        0 => return 1.0,
        _ if odd => (angle + sine * terms.sum::<f64>()) / std::f64::consts::FRAC_PI_2,
        _ => sine * terms.sum::<f64>(),
    };
    (1.0 - within).clamp(0.0, 1.0)
}

/// t with P(|T| > t) = `level` at so many degrees of freedom, of a level between 0 and 1; infinite for none. By bisection of
/// [`p_value`].
#[must_use]
pub fn quantile(level: f64, freedom: usize) -> f64 {
    if freedom == 0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, 2.0);
    while p_value(high, freedom) > level {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if p_value(middle, freedom) > level { low = middle } else { high = middle }
    }
    high
}

fn expansion(v: f64) -> f64 {
    let x = Z95;
    let x2 = x * x;
    let terms = [
        x * (x2 + 1.0) / 4.0,
        x * ((5.0 * x2 + 16.0) * x2 + 3.0) / 96.0,
        x * (((3.0 * x2 + 19.0) * x2 + 17.0) * x2 - 15.0) / 384.0,
        x * ((((79.0 * x2 + 776.0) * x2 + 1482.0) * x2 - 1920.0) * x2 - 945.0) / 92_160.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| (sum + term) / v) + x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_its_quantile_the_p_value_is_what_it_should_be() {
        for freedom in [1, 2, 5, 6, 10, 19, 100] {
            assert!((p_value(-quantile95(freedom), freedom) - 0.05).abs() < 1e-3, "{freedom}");
            assert_eq!(p_value(0.0, freedom), 1.0);
        }
        // As tables print the quantiles of 0.995.
        for (freedom, t) in [(1, 63.656_741), (2, 9.924_843), (3, 5.840_909), (4, 4.604_095), (9, 3.249_836)] {
            assert!((p_value(t, freedom) - 0.01).abs() < 1e-7, "{freedom}: {}", p_value(t, freedom));
            assert!((quantile(0.01, freedom) - t).abs() < 1e-5, "{freedom}: {}", quantile(0.01, freedom));
        }
        assert!(quantile(0.01, 0).is_infinite());
        assert_eq!((p_value(3.0, 0), p_value(f64::INFINITY, 4)), (1.0, 0.0));
    }

    /// Quantiles as tables print them.
    #[test]
    fn as_tables() {
        for (freedom, quantile) in [
            (1, 12.706_204_736_432_1),
            (2, 4.302_652_729_696_14),
            (3, 3.182_446_305_284_26),
            (5, 2.570_581_835_636_2),
            (10, 2.228_138_851_964_94),
            (19, 2.093_024_054_408_26),
            (100, 1.983_971_518_523_3),
        ] {
            assert!(
                (quantile95(freedom) - quantile).abs() < 0.05 / (freedom * freedom) as f64,
                "{freedom}: {}",
                quantile95(freedom)
            );
        }
        assert!(quantile95(0).is_infinite());
    }
}
